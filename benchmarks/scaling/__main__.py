"""Write docs/scaling.md: ``python -m benchmarks.scaling [--scale tiny|small|full] [--output PAGE]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import measure_machine
from benchmarks.pages import DOCS, progress, warn_if_busy
from benchmarks.scaling.messages import fit_returns, step_sizes
from benchmarks.scaling.page import Measured, page
from benchmarks.scaling.rates import rates
from benchmarks.scaling.scheduler import Plan, Timing, many_workers, timed_step

PAGE = DOCS / "scaling.md"


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    #: The step that the figures at the top are about; other times of a block that it is done with [s].
    main: Plan
    seconds: tuple[float, ...]
    #: Numbers of workers, each with as many blocks for each, and their time of a block [s].
    workers: tuple[int, ...]
    workers_block_s: float
    #: Rows of a block, blocks of each of two tasks, and centroids, for what a block takes.
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
    """Run steps one after the other, each on workers of its own."""
    found: dict[Plan, Timing] = {}
    for plan in sorted(set(plans), key=lambda plan: (plan.n_workers, plan.block_s)):
        with many_workers(plan.n_workers) as client:
            timing = found[plan] = timed_step(client, plan)
        progress(
            f"{plan.n_workers} workers, {plan.n_blocks:,} blocks of {plan.block_s:g} s: "
            f"{timing.wall_s:.1f} s, {timing.overhead:.1%} over the bound"
        )
    return found


def measure(name: str) -> Measured:
    """Measure all figures of the page, at the scale of this name."""
    scale = SCALES[name]
    machine = measure_machine(Path(tempfile.gettempdir()), is_rough=name == "tiny")
    found = timings([scale.main, *scale.by_time, *scale.by_workers])
    # The main step also belongs to the others where it has what they have in common.
    alike = [
        plan
        for plan in found
        if plan.n_workers == scale.main.n_workers and plan.block_s == scale.workers_block_s
    ]
    progress("a block of each pass on one core ...")
    measured = rates(scale.block_rows, scale.n_blocks, scale.n_centroids)
    progress("sizes ...")
    return Measured(
        machine=machine,
        main=found[scale.main],
        by_time=[found[plan] for plan in [*scale.by_time, scale.main]],
        by_workers=[found[plan] for plan in dict.fromkeys([*scale.by_workers, *alike])],
        rates=measured,
        sizes=step_sizes(scale.main.n_blocks, scale.n_centroids),
        returns=fit_returns(scale.n_centroids),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--output", type=Path, default=PAGE, help="page to write")
    given = parser.parse_args(arguments)
    warn_if_busy()
    measured = measure(given.scale)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(page(measured, given.scale, given.output), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
