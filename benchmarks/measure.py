"""Two ways of one job, timed in turn, and the table that tells of them."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_info

from workflow.commands.forecast import processor_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Packages whose versions belong beside a time.
PACKAGES = ("numpy", "numba", "scipy", "scikit-learn", "hdbscan", "dask", "dask-ml", "zarr")
#: Load for each core above which times are not to be trusted.
BUSY = 0.3


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Attributes
    ----------
    problem : str
        What was to be done, with its sizes.
    ours_s, peer_s : float
        Median seconds of both.
    peer : str
        Whom it is compared with.
    agreement : str
        How the two answers agree.
    figures : dict of str to float
        The agreement in numbers, for tests.
    wanted : float or None
        How many times faster it is meant to be; None where it is only told.
    """

    problem: str
    ours_s: float
    peer: str
    peer_s: float
    agreement: str
    figures: dict[str, float]
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
    """Return the results as a Markdown table that reads as plain text too."""
    head = ("problem", "ours [s]", "peer", "peer [s]", "times faster", "wanted", "agreement")
    rows = [
        (
            r.problem,
            f"{r.ours_s:.3g}",
            r.peer,
            f"{r.peer_s:.3g}",
            f"{r.ratio:.2f}",
            "" if r.wanted is None else f"{r.wanted:g}",
            r.agreement,
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def machine() -> str:
    """Return one paragraph on the machine, the libraries and who else was busy on it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    blas = sorted(
        {
            f"{i['internal_api']} {i['version']}"
            for i in threadpool_info()
            if i["user_api"] == "blas"
        }
    )
    return (
        f"{processor_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}, {libraries}; BLAS {', '.join(blas) or 'unknown'}."
    )


def warn_if_busy() -> None:
    """Say so when something else computes on the machine."""
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        print(
            f"the machine is busy (load {load:.1f}): times will be too long, ratios uncertain",
            file=sys.stderr,
        )
