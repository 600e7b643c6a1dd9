"""The scaling page: what the scheduler costs, what travels, and what a very large run would take."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
from dask.utils import format_bytes

from benchmarks.measure import machine
from benchmarks.quality_page import markdown
from benchmarks.scheduler_plots import draw_scaling
from benchmarks.scheduler_run import BLOCK_ROWS, makespan
from benchmarks.scheduler_sizes import IMAGE_SHAPE, LIMIT_BYTES, N_COMPONENTS, held_by_caller
from workflow.config import Config
from workflow.pipeline.partitions import partitions
from workflow.pipeline.plan import plan_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.scheduler_rates import Rates
    from benchmarks.scheduler_run import Timing
    from benchmarks.scheduler_sizes import Returned, Weight
    from workflow.pipeline.plan import RunPlan, TaskPlan

#: The run that the last section is about.
N_IMAGES, N_WORKERS, N_CENTROIDS = 10**9, 200, 16_384
#: What file systems give to all workers together [bytes/s].
BANDWIDTHS = (1e9, 1e10)
#: Cost of scheduler and client that is meant to be met, as a share of the ideal time.
WANTED = 0.05
#: Features of an image, and the name of the plot.
WIDE, PLOT = int(np.prod(IMAGE_SHAPE)), "img/scaling.png"


@dataclass(frozen=True)
class Measured:
    """All that was measured.

    Attributes
    ----------
    main : Timing
        The step that the figures at the top are about.
    by_time, by_workers : list of Timing
        Steps that differ in the time a block takes, and in workers.
    rates : Rates
        What a block of each pass takes on one core.
    weights : list of Weight
        What tasks weigh.
    returns : list of Returned
        What the tasks of the fit send back.
    """

    main: Timing
    by_time: list[Timing]
    by_workers: list[Timing]
    rates: Rates
    weights: list[Weight]
    returns: list[Returned]

    @property
    def timings(self) -> list[Timing]:
        """Every step once, the main one first."""
        every = {t.plan: t for t in [*self.by_time, *self.by_workers] if t is not self.main}
        return [self.main, *sorted(every.values(), key=_order)]

    @property
    def task_s(self) -> float:
        """How long a task keeps scheduler and client busy when nothing else is to be waited for [s]."""
        fastest = min(self.by_time, key=lambda t: t.plan.block_s)
        return fastest.wall_s / fastest.n_tasks


def _order(timing: Timing) -> tuple[int, float]:
    return -timing.plan.n_workers, -timing.plan.block_s


def page(measured: Measured, scale: str, place: Path) -> str:
    """Return the page, and draw its plot beside it.

    Parameters
    ----------
    measured : Measured
        What was measured.
    scale : str
        At which scale.
    place : Path
        Where the page will lie.

    Returns
    -------
    str
        Markdown.
    """
    draw_scaling(measured.by_time, measured.by_workers, place.parent / PLOT)
    parts = (
        _head(scale),
        _cost(measured),
        _travels(measured),
        _returns(measured),
        _large_run(measured),
    )
    return "\n\n".join(parts) + "\n"


def _head(scale: str) -> str:
    return f"""# Scaling

What does it cost to spread a run over many machines, and what would 10^9 images take? Made by
`python -m benchmarks.scheduler --scale {scale}`, which replaces this page and its plot.

{machine()}"""


def _cost(measured: Measured) -> str:
    main = measured.main
    verdict = "below" if main.overhead < WANTED else "above"
    rows = [
        (
            f"{t.plan.n_workers}",
            f"{t.plan.n_blocks:,}",
            f"{t.n_tasks:,}",
            f"{t.plan.block_s:g}",
            f"{t.plan.ideal_s:.4g}",
            f"{t.plan.bound_s:.4g}",
            f"{t.wall_s:.4g}",
            f"{t.tail:.1%}",
            f"{t.overhead:.1%}",
            f"{t.cpu_s:.3g}",
            f"{t.n_tasks / t.wall_s:.3g}",
        )
        for t in measured.timings
    ]
    head = ("workers", "blocks", "tasks", "s a block", "ideal [s]", "bound [s]", "took [s]")
    table = markdown((*head, "lost: uneven", "lost: scheduler", "CPU [s]", "tasks/s"), rows)
    return f"""## What the scheduler costs

A pass over the images, as a run does it: the same partitions, executor and journal, and Dask's real scheduler, but tasks
that only wait for each of their blocks and then report what a real one would. Scheduler, client and all workers, with
one thread each, share one process and talk by TCP, so what a cluster does on as many machines is done by one core
here; the latency of a network, and of a file system that is far away, is not in the figures.

At {main.plan.block_s:g} s a block, {main.plan.n_blocks:,} blocks on {main.plan.n_workers} workers took {main.wall_s:.1f} s, {main.over_ideal:.1%} more than the ideal {main.plan.ideal_s:g} s.
Of that, {main.tail:.1%} is lost because {main.n_tasks:,} partitions do not share out evenly, and **{main.overhead:.1%} is the cost of
scheduler and client**, {verdict} the {WANTED:.0%} that is meant to be met.

{table}

* ideal: blocks times seconds a block, divided by workers. bound: what whole partitions take when whoever is free gets
  the next at once; what lies between the two is lost to "uneven", what lies above to "scheduler".
* CPU: of all threads of the process. In the first line the thread in which scheduler, client and workers talk had
  {main.loop_cpu_s:.3g} s of it, the one that waits for results and writes the journal {main.client_cpu_s:.3g} s.
* What had finished meanwhile was noted together: {main.n_writes:,} writes of the journal kept the lines of {main.n_tasks:,} tasks, in {main.journal_s:.3g} s
  of waiting for the disk.
* A task costs about {1e3 * measured.task_s:.2g} ms in the step with the shortest blocks, waiting included, so some {1 / measured.task_s:,.0f} tasks a second are what
  one such process is known to pass on.

![Time lost against seconds a block and against workers]({PLOT})"""


def _travels(measured: Measured) -> str:
    every = [*measured.weights, *(r.weight for r in measured.returns)]
    largest = max(every, key=lambda w: w.largest)
    over = [w.name for w in every if w.largest >= LIMIT_BYTES]
    verdict = (
        f"the largest object is one of `{largest.name.split(': ')[-1]}`, {format_bytes(largest.largest)}, below 1 MiB"
        if not over
        else f"not below 1 MiB: {', '.join(over)}"
    )
    rows = [
        (
            w.name,
            f"{w.n_tasks:,}",
            f"{w.function_bytes:,}",
            f"{w.item_bytes:,}",
            f"{w.all_bytes:,}",
        )
        for w in every
    ]
    table = markdown(("pass: task", "tasks", "function", "largest item", "all as one graph"), rows)
    main = measured.main
    return f"""## What travels to the workers

Pixels, scores and centroids are read where they lie; tasks carry places and ranges of rows. Pickled bytes, for
{main.plan.n_blocks:,} blocks and {measured.rates.n_centroids:,} centroids, under a long path: {verdict}.

{table}

While the first line of the table above ran, {main.wire.n_messages:,} messages with {format_bytes(main.wire.n_bytes)} were sent by all; the largest
({main.wire.content}) had {format_bytes(main.wire.largest)}: all tasks at once, some {main.wire.largest / main.n_tasks:,.0f} bytes each. It grows with the number of tasks. The
journal took {format_bytes(main.journal_bytes)}."""


def _returns(measured: Measured) -> str:
    k, n_blocks = measured.rates.n_centroids, measured.main.plan.n_blocks
    limit = max(k * N_COMPONENTS, WIDE * (WIDE + 2))
    rows = [
        (
            held.step,
            held.what,
            held.way,
            f"{held.at_once:,}",
            f"{held.at_once / limit:.2g}",
            format_bytes(held.in_all * held.itemsize),
            "yes" if held.at_once <= limit else "**no**",
        )
        for held in held_by_caller(n_blocks, k)
    ]
    head = ("step", "what", "by", "numbers at once", "times the limit", "bytes in all", "within")
    returned = ", ".join(
        f"`{r.weight.name}` {r.n_numbers:,} numbers, {format_bytes(r.n_bytes)}"
        for r in measured.returns
    )
    return f"""## What comes back

The process that the user started gets reports of a few hundred bytes for each task, and what is listed here: as
"results" over the network, as "files" that tasks have left and it reads, as "rows" of what the run stores. What is
held at once is meant to be no more than K' x d numbers or D x D with two sums, whichever is more, here {limit:,}
(K' {k:,}, d {N_COMPONENTS}, D {WIDE}).

{markdown(head, rows)}

The results of the tasks of the fit were made and weighed, all tasks of a kind together: {returned}. Where the first batch and the centroids
make no more than 2^30 pairs, up to some 5,700 centroids, one task reads that batch, 32 rows a centroid and at least 65,536,
and chooses the first centroids; else they are chosen of candidates, which stay in files of the run folder, as do the
distances of rows to them."""


def _pass_rows(measured: Measured, plan: RunPlan) -> list[tuple[str, ...]]:
    """Return a line for each pass over all images, and the fit."""
    rates = measured.rates
    sizes = [len(p.blocks) for p in partitions(plan.n_samples, plan.block_rows)]
    spans = makespan(sizes, N_WORKERS)
    rows = []
    for task in plan.tasks:
        if task.name not in rates.block_s:
            continue
        # Of blocks with fewer rows, what as many would take.
        block_s = rates.block_s[task.name] * plan.block_rows / rates.rows
        block_bytes = (task.bytes_read + task.bytes_written) / plan.n_blocks
        moved = task.bytes_read + task.bytes_written
        costs = {"compute": spans * block_s, "schedule": task.n_tasks * measured.task_s}
        limits = [
            max(limits_at, key=limits_at.__getitem__)
            for limits_at in ({**costs, "disk": moved / speed} for speed in BANDWIDTHS)
        ]
        # Each thread merges two runs of tasks; what those leave meets two by two.
        n_merges = -(-task.n_tasks // N_WORKERS) + (2 * N_WORKERS - 1).bit_length()
        merging = n_merges * rates.merge_s.get(task.name, 0.0)
        rows.append(
            (
                task.name,
                f"{1e3 * block_s:.3g}",
                f"{spans * block_s:.3g}",
                f"{task.n_tasks * measured.task_s:.3g}",
                f"{merging:.3g}",
                format_bytes(task.bytes_read),
                format_bytes(task.bytes_written),
                *(
                    f"{max(*costs.values(), moved / speed) + merging:,.0f} ({limit})"
                    for speed, limit in zip(BANDWIDTHS, limits, strict=True)
                ),
                f"{BANDWIDTHS[-1] * block_s / block_bytes:,.0f}",
            )
        )
    return rows


def _totals(rows: Sequence[tuple[str, ...]]) -> list[float]:
    """Return the sums of the columns of times for each bandwidth."""
    return [
        sum(float(row[7 + i].split()[0].replace(",", "")) for row in rows)
        for i in range(len(BANDWIDTHS))
    ]


def _n_limited(rows: Sequence[tuple[str, ...]], bandwidth: int) -> int:
    """Return how many passes wait for the file system most."""
    return sum("(disk)" in row[7 + bandwidth] for row in rows)


def _large_run(measured: Measured) -> str:
    rates, config = measured.rates, Config()
    images = SimpleNamespace(
        n_samples=N_IMAGES, n_features=WIDE, dtype=np.dtype(np.uint8), stored_rows=BLOCK_ROWS
    )
    plan = plan_run(images, config, None)
    rows = _pass_rows(measured, plan)
    tasks: dict[str, TaskPlan] = {task.name: task for task in plan.tasks}
    n_tasks = tasks["pca"].n_tasks
    slow, fast = _totals(rows)
    rounds = config.overcluster.max_rounds
    n_sample_blocks = measured.returns[0].weight.n_tasks
    head = ("pass", "ms a block", "compute [s]", "schedule [s]", "merge [s]", "reads", "writes")
    times = tuple(f"at {speed / 1e9:g} GB/s [s]" for speed in BANDWIDTHS)
    table = markdown((*head, *times, f"workers fed by {BANDWIDTHS[-1] / 1e9:g} GB/s"), rows)
    worst = max(plan.tasks, key=lambda task: task.memory_bytes)
    return f"""## What 10^9 images on {N_WORKERS} workers would take

Computed, not run: {N_IMAGES:,} images of {" x ".join(map(str, IMAGE_SHAPE))} uint8, {format_bytes(N_IMAGES * WIDE)} when decoded; {N_COMPONENTS} components, {N_CENTROIDS:,}
centroids. They are {plan.n_blocks:,} blocks of {plan.block_rows:,} images in {n_tasks:,} partitions. What a block takes was measured on one core with
the tasks of a run, on demo images ({rates.rows:,} rows a block, {rates.n_centroids:,} centroids), reading, checksums and writing
included, from a disk whose pages were in memory. Bytes are those that `plan` tells, before compression.

{table}

* compute: {N_WORKERS} workers with one thread each, if the file system gives and takes whatever they ask for. schedule: the
  tasks at the rate at which one process passed them on above. Both go on at the same time, so the longer one counts.
  merge: at the end the workers read what the tasks have left and add it up two by two.
* The last columns: the longest of compute, schedule and disk, the bytes through a file system of that speed (named in
  brackets), and the merge. **All
  passes over the images: {_duration(fast)} at {BANDWIDTHS[1] / 1e9:g} GB/s, {_duration(slow)} at {BANDWIDTHS[0] / 1e9:g} GB/s.** The workers that a file system feeds: more of them
  wait for it.
* To that come, whatever the number of images: the fit on a sample of 64 rows a centroid, {rates.sample_block_s:.2g} s a round and {rounds} rounds
  at most, {_duration(rounds * rates.sample_block_s)}, on {n_sample_blocks} workers at most, for the sample has {n_sample_blocks} blocks, whose sums the workers merge; the centroids, {format_bytes(measured.returns[0].n_bytes)}, come
  back in each round; and the tree, {_duration(rates.tree_s)}, on the client alone. The report reads the labels of all images on the client: {format_bytes(12 * N_IMAGES)}.

What to plan for:

* **Ask for the bandwidth of the file system first**: at {BANDWIDTHS[0] / 1e9:g} GB/s it is the limit of {_n_limited(rows, 0)} of {len(rows)} passes, at {BANDWIDTHS[1] / 1e9:g} GB/s of {_n_limited(rows, 1)}. The pixels are read twice, {format_bytes(tasks["pca"].bytes_read)} each time; the scores,
  {format_bytes(tasks["overcluster: assign"].bytes_read)}, are written once and read twice. What counts is what it gives to all workers together; take no more workers
  than it feeds. Images stored compressed are read in fewer bytes.
* **Room for {format_bytes(plan.bytes_written)}** beside the images: scores, nearest centroids, labels, and what tasks leave until their step
  is complete. {n_tasks:,} partitions make several thousand files of each kind.
* **Memory**: {format_bytes(worst.memory_bytes)} for each worker with one thread ({worst.name}). The client holds what the table above lists.
* **Partitions have 16 blocks**, {16 * plan.block_rows:,} images, so {N_WORKERS} workers are busy only from {16 * plan.block_rows * N_WORKERS / 1e6:,.0f} million images on. With {n_tasks:,} partitions the
  last round of them leaves workers idle for {makespan([1.0] * n_tasks, N_WORKERS) / (n_tasks / N_WORKERS) - 1:.0%} of the time; a number of workers that divides it well loses less.
* **A stop costs little**: the same command goes on after the last partition that was noted."""


def _duration(seconds: float) -> str:
    """Return a time for a person."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
