"""Mappers that thread, die and count, and the bytes of a folder."""

import threading
from concurrent.futures import ThreadPoolExecutor

from workflow.mapper import SerialMapper


class ThreadMapper(SerialMapper):
    """Maps with threads, the last item first."""

    def map(self, function, items):
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(function, item) for item in reversed(items)]
            return [future.result() for future in reversed(futures)]


class KilledError(Exception):
    """Stands for a killed process."""


class KilledMapper(SerialMapper):
    """Dies after a number of tasks, and counts them."""

    def __init__(self, n_tasks=10**9):
        self.n_tasks = n_tasks
        self.n_done = 0
        self.lock = threading.Lock()

    def map(self, function, items):
        results = []
        for item in items:
            if self.n_done >= self.n_tasks:
                raise KilledError
            results.append(function(item))
            self.n_done += 1
        return results


def files_of(folder):
    """Return the bytes of every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
