"""A line every minute in a log: how far the step is, and how many workers there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from workflow.engine.progress import Progress

log = logging.getLogger(__name__)

#: Time between two lines, and between two counts of the workers [s].
LINE_INTERVAL_S, COUNT_INTERVAL_S = 60.0, 5.0


class Heartbeat:
    """Counts workers that come and go; one that does both between two counts is missed.

    Parameters
    ----------
    client : distributed.Client
        Whose workers are counted.
    progress : Progress
        Is given the counts; its text is part of each line.

    Attributes
    ----------
    workers : set of str
        Addresses of those that the scheduler has.
    n_lost : int
        Workers that the scheduler removed.
    """

    def __init__(self, client: Client, progress: Progress) -> None:
        self.client, self.progress = client, progress
        self.workers: set[str] = set()
        self.n_lost = 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    def count(self) -> None:
        """Count the workers that are there, and those that are gone."""
        # The scheduler's own list.  `Client.scheduler_info` may have none: the client renews it
        # every few seconds without the workers.
        present = set(self.client.nthreads())
        self.n_lost += len(self.workers - present)
        self.workers = present
        self.progress.saw(len(present), self.n_lost)

    def text(self) -> str:
        """Return one line about now.

        Returns
        -------
        str
            Such as ``after 12 min: projection: 2,580 of 6,000 images (43 %), 12 a second, 285 s left;
            16 workers, 2 lost``.
        """
        minutes = (time.monotonic() - self.started) / 60
        noun = "worker" if len(self.workers) == 1 else "workers"
        return (
            f"after {minutes:,.0f} min: {self.progress.text()}; "
            f"{len(self.workers)} {noun}, {self.n_lost} lost"
        )

    def run(self) -> None:
        """Count, and write lines where progress goes to a log, until stopped."""
        last_line = time.monotonic()
        while not self._stop.wait(COUNT_INTERVAL_S):
            try:
                self.count()
            except OSError:
                # The scheduler is busy, or gone: then the main thread says so.
                continue
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the client is being closed
                return
            if self.progress.is_log and time.monotonic() - last_line >= LINE_INTERVAL_S:
                last_line = time.monotonic()
                counted = {"n_workers": len(self.workers), "n_lost": self.n_lost}
                log.info("%s", self.text(), extra={"step": self.progress.step, **counted})

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()


@contextlib.contextmanager
def heartbeat(client: Client, progress: Progress) -> Iterator[None]:
    """Count workers in a thread while inside.

    Parameters
    ----------
    client : distributed.Client
        Whose workers are counted.
    progress : Progress
        Nothing is counted where it does not show workers.
    """
    if not progress.counts_workers:
        yield
        return
    beats = Heartbeat(client, progress)
    beats.count()
    thread = threading.Thread(target=beats.run, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beats.stop()
        thread.join()
