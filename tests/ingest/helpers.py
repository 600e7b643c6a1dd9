"""Runners that thread, die and count, and the bytes of a folder."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from workflow.mapper import SerialRunner, run_missing


class ThreadRunner(SerialRunner):
    """Runs with threads, the last item first."""

    def map(self, function, items):
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(function, item) for item in reversed(items)]
            return [future.result() for future in reversed(futures)]

    def run(self, name, function, items, *, journal, n_rows):
        def compute_items(missing, note):
            note(dict(zip(missing, self.map(function, list(missing.values())), strict=True)))

        return run_missing(compute_items, items, journal, n_rows, self.bar(name, 0))


class KilledError(Exception):
    """Stands for a killed process."""


class KilledRunner(SerialRunner):
    """Dies after a number of tasks; counts them, and the rows that it shows as done."""

    def __init__(self, n_tasks=10**9):
        self.n_tasks = n_tasks
        self.n_done = 0
        self.n_shown = 0

    def map(self, function, items):
        results = []
        for item in items:
            if self.n_done >= self.n_tasks:
                raise KilledError
            results.append(function(item))
            self.n_done += 1
        return results

    def bar(self, name, total):
        return nullcontext(self)

    def advance(self, n):
        self.n_shown += n

    resume = advance


def files_of(folder):
    """Return the bytes of every file below a folder."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
