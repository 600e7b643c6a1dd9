"""How long tasks wait for what they read: a disk, a network, an object store."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Share of the time from which on it is told.
TOLD = 0.2

_here = threading.local()


class Waits(NamedTuple):
    """How long tasks have waited.

    Attributes
    ----------
    reading_s : float
        Time in which a task had nothing to work on, and its process did not compute either [s].
    total_s : float
        Time that the tasks took [s].
    """

    reading_s: float = 0.0
    total_s: float = 0.0

    def plus(self, other: Waits) -> Waits:
        """Return the waits of both."""
        return Waits(self.reading_s + other.reading_s, self.total_s + other.total_s)

    @property
    def words(self) -> str:
        """What there is to say; empty where the processor was the limit."""
        share = self.reading_s / self.total_s if self.total_s else 0.0
        return f"{share:.0%} of the time waiting for what is read" if share >= TOLD else ""

    def counters(self) -> dict[str, int]:
        """Return them as counters of a step [ms]."""
        return {"waited_ms": round(1000 * self.reading_s), "tasks_ms": round(1000 * self.total_s)}


@contextmanager
def waiting_for_rows() -> Iterator[None]:
    """Count the time inside as waiting, less what the process computes meanwhile: rows are decoded, too."""
    started, computed = time.monotonic(), time.process_time()
    yield
    waited = (time.monotonic() - started) - (time.process_time() - computed)
    _here.reading_s = waited_s() + max(0.0, waited)


def waited_s() -> float:
    """Return how long this thread has waited, in all [s]."""
    found: float = getattr(_here, "reading_s", 0.0)
    return found
