"""Two ways of one computation, timed in turn, and their table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.pages import markdown


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    #: What was to be done, with its sizes; median seconds of both; the peer that it is compared with.
    problem: str
    ours_s: float
    peer: str
    peer_s: float
    #: How the two answers agree, in words and, for tests, in numbers.
    agreement: str
    figures: dict[str, float]
    #: How many times faster it is meant to be; None where there is no such aim.
    wanted: float | None = None

    @property
    def ratio(self) -> float:
        """How many times faster than the peer."""
        return self.peer_s / self.ours_s


def alternate(
    ours: Callable[[], Any], peer: Callable[[], Any], repeats: int
) -> tuple[float, Any, float, Any]:
    """Run both in turn, so that what slows the machine slows both; return medians and answers."""
    ours_s, peer_s = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        our_answer = ours()
        ours_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        peer_answer = peer()
        peer_s.append(time.perf_counter() - started)
    return statistics.median(ours_s), our_answer, statistics.median(peer_s), peer_answer


def table(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table."""
    head = ("problem", "ours [s]", "peer", "peer [s]", "times faster", "wanted", "agreement")
    return markdown(
        head,
        [
            (
                r.problem, f"{r.ours_s:.3g}", r.peer, f"{r.peer_s:.3g}", f"{r.ratio:.2f}",
                "-" if r.wanted is None else f"{r.wanted:g}", r.agreement,
            )
            for r in results
        ],
    )  # fmt: skip
