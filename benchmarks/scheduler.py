"""Measure how work spreads: ``python -m benchmarks.scheduler [--scale tiny|small|full] [--output PAGE]``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import warn_if_busy
from benchmarks.scheduler_page import Measured, page
from benchmarks.scheduler_rates import rates
from benchmarks.scheduler_run import Plan, many_workers, timed_step
from benchmarks.scheduler_sizes import fit_returns, step_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.scheduler_run import Timing

#: Where the page is kept; its plot goes to ``img/`` beside it.
PAGE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes
    ----------
    main : Plan
        The step that the figures at the top are about.
    seconds : tuple of float
        Times of a block that it is done with, too [s].
    workers : tuple of int
        Numbers of workers, each with as many blocks for each, and `workers_block_s` a block.
    workers_block_s : float
        That time [s].
    block_rows, n_blocks, n_centroids : int
        Rows of a block, blocks of each of two tasks, and centroids, for what a block takes.
    """

    main: Plan
    seconds: tuple[float, ...]
    workers: tuple[int, ...]
    workers_block_s: float
    block_rows: int
    n_blocks: int
    n_centroids: int

    @property
    def by_time(self) -> list[Plan]:
        """Steps that differ in the time a block takes."""
        return [Plan(self.main.n_workers, self.main.n_blocks, s) for s in self.seconds]

    @property
    def by_workers(self) -> list[Plan]:
        """Steps that differ in workers."""
        for_each = self.main.n_blocks // self.main.n_workers
        return [Plan(n, n * for_each, self.workers_block_s) for n in self.workers]


SCALES = {
    "tiny": Scale(Plan(8, 256, 0.01), (0.001,), (4,), 0.01, 256, 1, 100),
    "small": Scale(Plan(50, 2_000, 0.1), (0.02,), (10, 25), 0.02, 4_096, 2, 2_000),
    "full": Scale(Plan(200, 20_000, 1.0), (0.05, 0.2), (25, 50, 100), 0.2, 16_384, 4, 16_384),
}


def timings(plans: Iterable[Plan]) -> dict[Plan, Timing]:
    """Run steps one after the other, each on workers of its own; say what came."""
    found: dict[Plan, Timing] = {}
    for plan in sorted(set(plans), key=lambda plan: (plan.n_workers, plan.block_s)):
        with many_workers(plan.n_workers) as client:
            timing = found[plan] = timed_step(client, plan)
        _say(
            f"{plan.n_workers} workers, {plan.n_blocks:,} blocks of {plan.block_s:g} s: "
            f"{timing.wall_s:.1f} s, {timing.overhead:.1%} over the bound"
        )
    return found


def measure(scale: Scale) -> Measured:
    """Measure all that the page tells."""
    found = timings([scale.main, *scale.by_time, *scale.by_workers])
    # The main step also belongs to the others where it has what they have in common.
    by_workers = scale.by_workers
    by_workers += [
        p for p in found if p.n_workers == scale.main.n_workers and p.block_s == scale.workers_block_s
    ]  # fmt: skip
    _say("a block of each pass on one core ...")
    measured = rates(scale.block_rows, scale.n_blocks, scale.n_centroids)
    _say("sizes ...")
    return Measured(
        main=found[scale.main],
        by_time=[found[plan] for plan in [*scale.by_time, scale.main]],
        by_workers=[found[plan] for plan in dict.fromkeys(by_workers)],
        rates=measured,
        weights=step_weights(scale.main.n_blocks, scale.n_centroids),
        returns=fit_returns(scale.n_centroids),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scheduler", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--output", type=Path, default=PAGE, help="page to write")
    asked = parser.parse_args(arguments)
    warn_if_busy()
    measured = measure(SCALES[asked.scale])
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(page(measured, asked.scale, asked.output), encoding="utf-8")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
