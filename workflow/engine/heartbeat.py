"""A line every minute where nobody watches: how far the step is, and how many workers there are."""

from __future__ import annotations

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

#: Time between two lines, and between two looks at the workers [s].
BEAT_S, LOOK_S = 60.0, 5.0


class Heartbeat:
    """Counts workers that come and go; one that does both between two looks is missed.

    Parameters
    ----------
    client : distributed.Client
        Whose workers are counted.
    progress : Progress
        What it says is repeated.
    """

    def __init__(self, client: Client, progress: Progress) -> None:
        self.client, self.progress = client, progress
        self.alive: set[str] = set()
        self.n_lost = 0
        self.started = time.monotonic()
        self._stop = threading.Event()

    def look(self) -> None:
        """Count the workers that are there, and those that are there no more."""
        there = set(self.client.scheduler_info(n_workers=-1)["workers"])
        self.n_lost += len(self.alive - there)
        self.alive = there
        self.progress.saw(len(there), self.n_lost)

    def text(self) -> str:
        """Return one line about now.

        Examples
        --------
        ``after 12 min: projection: 43 %, 12,000 images/s, 95 s left; 16 workers, 2 lost``.
        """
        minutes = (time.monotonic() - self.started) / 60
        noun = "worker" if len(self.alive) == 1 else "workers"
        return (
            f"after {minutes:,.0f} min: {self.progress.text()}; "
            f"{len(self.alive)} {noun}, {self.n_lost} lost"
        )

    def beat(self) -> None:
        """Look and tell until stopped or the scheduler is gone."""
        told = time.monotonic()
        while not self._stop.wait(LOOK_S):
            try:
                self.look()
            except (OSError, RuntimeError, TypeError, ValueError):
                # Whoever waits for a result learns it, too, and says so.
                return
            if self.progress.is_log and time.monotonic() - told >= BEAT_S:
                told = time.monotonic()
                log.info("%s", self.text())

    def stop(self) -> None:
        """End it."""
        self._stop.set()


@contextlib.contextmanager
def heartbeat(client: Client, progress: Progress) -> Iterator[None]:
    """Count workers while inside; where progress goes to a log, tell a line every minute."""
    if not progress.counts_workers:
        yield
        return
    beats = Heartbeat(client, progress)
    beats.look()
    thread = threading.Thread(target=beats.beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        beats.stop()
        thread.join()
