"""The page on scaling: what the scheduler costs, what is sent, and what a very large run would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from dask.utils import format_bytes
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.internals import STEPS, Sizes, TaskPlan, config_class, partitions, plan_tasks
from benchmarks.machine import Machine
from benchmarks.pages import BLUE, ORANGE, markdown, new_figure, save, tidy
from benchmarks.scaling.messages import (
    IMAGE_SHAPE,
    LIMIT_BYTES,
    N_COMPONENTS,
    Returned,
    TaskSize,
    held_by_client,
)
from benchmarks.scaling.rates import Rates
from benchmarks.scaling.scheduler import BLOCK_ROWS, Timing, makespan

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
    """All that was measured."""

    machine: Machine
    #: The step that the figures at the top are about; steps that differ in the time of a block, and in workers.
    main: Timing
    by_time: list[Timing]
    by_workers: list[Timing]
    rates: Rates
    #: Of the tasks of all passes, and what those of the fit send back.
    sizes: list[TaskSize]
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
    """Return the page as Markdown, and draw its plot beside the place where the page will lie."""
    draw_scaling(measured.by_time, measured.by_workers, place.parent / PLOT)
    parts = (_cost(measured), _sent(measured), _returns(measured), _large_run(measured))
    head = f"""# Scaling

What does it cost to spread a run over many machines, and what would 10^9 images take? Made by
`python -m benchmarks.scaling --scale {scale}` (`make scaling`), which replaces this page and its plot.

{measured.machine.table}"""
    return "\n\n".join((head, *parts)) + "\n"


def draw_scaling(by_time: Sequence[Timing], by_workers: Sequence[Timing], place: Path) -> None:
    """Draw what scheduler and client cost, and what partitions that share out unevenly cost."""
    figure = new_figure()
    left, right = figure.subplots(1, 2)
    for axes, timings, axis, label in (
        (left, by_time, "block_s", "seconds a block"),
        (right, by_workers, "n_workers", "workers"),
    ):
        ordered = sorted(timings, key=lambda t: getattr(t.plan, axis))
        places = [getattr(t.plan, axis) for t in ordered]
        for name, share, style, colour in (
            ("scheduler and client", "overhead", "o-", BLUE),
            ("partitions that share out unevenly", "tail", "s--", ORANGE),
        ):
            lost = [100 * getattr(t, share) for t in ordered]
            axes.plot(places, lost, style, color=colour, linewidth=1.6, markersize=5, label=name)
        # Near zero a logarithm would blow up the noise of the clock.
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(bottom=min(0, *(100 * t.overhead for t in ordered)))
        axes.set(xscale="log", xlabel=label, ylabel="lost, % of the ideal time")
        axes.set_xticks(places)
        for formatted in (axes.xaxis, axes.yaxis):
            formatted.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            formatted.set_minor_formatter(NullFormatter())
        tidy(axes)
    left.set_title(f"{by_time[0].plan.n_workers} workers", fontsize=10)
    right.set_title(f"{by_workers[0].plan.block_s:g} s a block", fontsize=10)
    left.legend(frameon=False, loc="best")
    save(figure, place)


def _cost(measured: Measured) -> str:
    main = measured.main
    verdict = "below" if main.overhead < WANTED else "above"
    columns = {
        "workers": lambda t: t.plan.n_workers,
        "blocks": lambda t: f"{t.plan.n_blocks:,}",
        "tasks": lambda t: f"{t.n_tasks:,}",
        "s a block": lambda t: f"{t.plan.block_s:g}",
        "ideal [s]": lambda t: f"{t.plan.ideal_s:.4g}",
        "bound [s]": lambda t: f"{t.plan.bound_s:.4g}",
        "took [s]": lambda t: f"{t.wall_s:.4g}",
        "lost: uneven": lambda t: f"{t.tail:.1%}",
        "lost: scheduler": lambda t: f"{t.overhead:.1%}",
        "CPU [s]": lambda t: f"{t.cpu_s:.3g}",
        "tasks/s": lambda t: f"{t.n_tasks / t.wall_s:.3g}",
    }
    rows = [[str(show(timing)) for show in columns.values()] for timing in measured.timings]
    table = markdown(tuple(columns), rows)
    return f"""## What the scheduler costs

A pass over the images, as a run does it: the same partitions, executor and journal, and Dask's real scheduler, but tasks
that only wait for each of their blocks and then report what a real one would. Scheduler, client and all workers, with
one thread each, share one process and talk by TCP, so what a cluster does on as many machines is done by one core
here; the latency of a network, and of a file system that is far away, is not in the figures.

At {main.plan.block_s:g} s a block, {main.plan.n_blocks:,} blocks on {main.plan.n_workers} workers took {main.wall_s:.1f} s, {main.over_ideal:.1%} more than the ideal {main.plan.ideal_s:g} s.
Of that, {main.tail:.1%} is lost because {main.n_tasks:,} partitions do not share out evenly, and **{main.overhead:.1%} is the cost of
scheduler and client**, {verdict} the {WANTED:.0%} that is meant to be met.

{table}

* ideal: blocks times seconds a block, divided by workers. bound: what whole partitions take when a free worker gets
  the next at once; time between the two is lost to "uneven", time above to "scheduler".
* CPU: of all threads of the process. In the first line the thread in which scheduler, client and workers talk had
  {main.loop_cpu_s:.3g} s of it, the one that waits for results and writes the journal {main.client_cpu_s:.3g} s.
* Tasks that finished meanwhile are noted together: {main.n_writes:,} writes of the journal hold the lines of {main.n_tasks:,} tasks and took
  {main.journal_s:.3g} s of waiting for the disk.
* A task costs about {1e3 * measured.task_s:.2g} ms in the step with the shortest blocks, waiting included, so one such process passes on some
  {1 / measured.task_s:,.0f} tasks a second.

![Time lost against seconds a block and against workers]({PLOT})"""


def _sent(measured: Measured) -> str:
    every = [*measured.sizes, *(r.size for r in measured.returns)]
    largest = max(every, key=lambda size: size.largest)
    over = [size.name for size in every if size.largest >= LIMIT_BYTES]
    verdict = (
        f"the largest object is one of `{largest.name.split(': ')[-1]}`, {format_bytes(largest.largest)}, below 1 MiB"
        if not over
        else f"not below 1 MiB: {', '.join(over)}"
    )
    rows = [
        (s.name, *(f"{n:,}" for n in (s.n_tasks, s.function_bytes, s.item_bytes, s.all_bytes)))
        for s in every
    ]
    table = markdown(("pass: task", "tasks", "function", "largest item", "all as one graph"), rows)
    main = measured.main
    return f"""## What is sent to the workers

Pixels, scores and centroids are read where they lie; tasks hold paths and ranges of rows. Pickled bytes, for
{main.plan.n_blocks:,} blocks and {measured.rates.n_centroids:,} centroids, under a long path: {verdict}.

{table}

While the first line of the table above ran, {main.wire.n_messages:,} messages with {format_bytes(main.wire.n_bytes)} were sent in all; the largest
({main.wire.content}) had {format_bytes(main.wire.largest)}: all tasks at once, some {main.wire.largest / main.n_tasks:,.0f} bytes each. It grows with the number of tasks. The
journal took {format_bytes(main.journal_bytes)}."""


def _returns(measured: Measured) -> str:
    k, n_blocks = measured.rates.n_centroids, measured.main.plan.n_blocks
    limit = max(k * N_COMPONENTS, WIDE * (WIDE + 2))
    rows = [
        (
            held.step, held.what, held.way, f"{held.at_once:,}", f"{held.at_once / limit:.2g}",
            format_bytes(held.in_all * held.itemsize), "yes" if held.at_once <= limit else "**no**",
        )
        for held in held_by_client(n_blocks, k)
    ]  # fmt: skip
    head = ("step", "what", "by", "numbers at once", "times the limit", "bytes in all", "within")
    returned = ", ".join(
        f"`{r.size.name}` {r.n_numbers:,} numbers, {format_bytes(r.n_bytes)}"
        for r in measured.returns
    )
    return f"""## What comes back

The client, the process that the user started, gets reports of a few hundred bytes for each task, and what is listed here: as
"results" over the network, as "files" that tasks have left and it reads, as "rows" of what the run stores. What is
held at once is meant to be no more than K' x d numbers or D x D with two sums, whichever is more, here {limit:,}
(K' {k:,}, d {N_COMPONENTS}, D {WIDE}).

{markdown(head, rows)}

The results of the tasks of the fit were computed and pickled, all tasks of a kind together: {returned}. Where the first batch and the centroids
make no more than 2^30 pairs, up to some 5,700 centroids, one task reads that batch, 32 rows a centroid and at least 65,536,
and chooses the first centroids; else they are chosen of candidates, which stay in files of the run folder, as do the
distances of rows to them."""


@dataclass(frozen=True)
class _Pass:
    """What one pass over all images would take."""

    cells: tuple[str, ...]
    #: At each bandwidth: seconds, and what limits the pass.
    seconds: list[float]
    limits: list[str]

    @property
    def row(self) -> tuple[str, ...]:
        times = [f"{s:,.0f} ({limit})" for s, limit in zip(self.seconds, self.limits, strict=True)]
        return (*self.cells[:-1], *times, self.cells[-1])


def _passes(measured: Measured, sizes: Sizes, tasks: list[TaskPlan]) -> list[_Pass]:
    """Work out the passes of a plan on `N_WORKERS` workers."""
    rates = measured.rates
    n_blocks = [len(p.blocks) for p in partitions(sizes.n_samples, sizes.block_rows)]
    spans = makespan(n_blocks, N_WORKERS)
    passes = []
    for task in (task for task in tasks if task.name in rates.block_s):
        # Of blocks with fewer rows, what as many would take.
        block_s = rates.block_s[task.name] * sizes.block_rows / rates.rows
        moved = task.bytes_read + task.bytes_written
        costs = {"compute": spans * block_s, "schedule": task.n_tasks * measured.task_s}
        by_speed = [{**costs, "disk": moved / speed} for speed in BANDWIDTHS]
        # Each thread merges two runs of tasks; what those leave meets two by two.
        n_merges = -(-task.n_tasks // N_WORKERS) + (2 * N_WORKERS - 1).bit_length()
        merging = n_merges * rates.merge_s.get(task.name, 0.0)
        cells = (
            task.name, f"{1e3 * block_s:.3g}", *(f"{s:.3g}" for s in (*costs.values(), merging)),
            format_bytes(task.bytes_read), format_bytes(task.bytes_written),
            f"{BANDWIDTHS[-1] * block_s * sum(n_blocks) / moved:,.0f}",
        )  # fmt: skip
        seconds = [max(of.values()) + merging for of in by_speed]
        passes.append(_Pass(cells, seconds, [max(of, key=of.__getitem__) for of in by_speed]))
    return passes


def _large_run(measured: Measured) -> str:
    rates, config = measured.rates, config_class()()
    images = SimpleNamespace(
        n_samples=N_IMAGES, n_features=WIDE, dtype=np.dtype(np.uint8), stored_rows=BLOCK_ROWS
    )
    sizes = Sizes.of(STEPS, images, config)
    n_blocks = -(-N_IMAGES // sizes.block_rows)
    planned = plan_tasks(STEPS, sizes)
    passes = _passes(measured, sizes, planned)
    tasks = {task.name: task for task in planned}
    n_tasks = tasks["pca"].n_tasks
    slow, fast = (sum(p.seconds[i] for p in passes) for i in (0, 1))
    n_slow, n_fast = (sum(p.limits[i] == "disk" for p in passes) for i in (0, 1))
    max_iter = config.overcluster.max_iter
    n_fit_tasks = measured.returns[0].size.n_tasks
    head = ("pass", "ms a block", "compute [s]", "schedule [s]", "merge [s]", "reads", "writes")
    times = tuple(f"at {speed / 1e9:g} GB/s [s]" for speed in BANDWIDTHS)
    table = markdown(
        (*head, *times, f"workers fed by {BANDWIDTHS[-1] / 1e9:g} GB/s"), [p.row for p in passes]
    )
    worst = max(planned, key=lambda task: task.memory_bytes)
    return f"""## What 10^9 images on {N_WORKERS} workers would take

Computed, not run: {N_IMAGES:,} images of {" x ".join(map(str, IMAGE_SHAPE))} uint8, {format_bytes(N_IMAGES * WIDE)} when decoded; {N_COMPONENTS} components, {N_CENTROIDS:,}
centroids. They are {n_blocks:,} blocks of {sizes.block_rows:,} images in {n_tasks:,} partitions. What a block takes was measured on one core with
the tasks of a run, on demo images ({rates.rows:,} rows a block, {rates.n_centroids:,} centroids), reading, checksums and writing
included, from a disk whose pages were in memory. Bytes are those that `plan` prints, before compression.

{table}

* compute: {N_WORKERS} workers with one thread each, if the file system is no limit. schedule: the
  tasks at the rate at which one process passed them on above. Both go on at the same time, so the longer one counts.
  merge: at the end the workers read the files of the tasks and add them up two by two.
* The last columns: the longest of compute, schedule and disk, the bytes through a file system of that speed (named in
  brackets), and the merge. **All
  passes over the images: {_duration(fast)} at {BANDWIDTHS[1] / 1e9:g} GB/s, {_duration(slow)} at {BANDWIDTHS[0] / 1e9:g} GB/s.** The workers that a file system feeds: more of them
  wait for it.
* To that come, whatever the number of images: the fit on a sample of 64 rows a centroid, {rates.fit_task_s:.2g} s an iteration and {max_iter} iterations
  at most, {_duration(max_iter * rates.fit_task_s)}, on {n_fit_tasks} workers at most, for the sample is {n_fit_tasks} tasks, whose sums the workers merge; the centroids, {format_bytes(measured.returns[0].n_bytes)}, come
  back in each iteration; and the tree, {_duration(rates.tree_s)}, on the client alone. The report reads the labels of all images on the client: {format_bytes(12 * N_IMAGES)}.

What to plan for:

* **Ask for the bandwidth of the file system first**: at {BANDWIDTHS[0] / 1e9:g} GB/s it is the limit of {n_slow} of {len(passes)} passes, at {BANDWIDTHS[1] / 1e9:g} GB/s of {n_fast}. The pixels are read twice, {format_bytes(tasks["pca"].bytes_read)} each time; the scores,
  {format_bytes(tasks["overcluster: assign"].bytes_read)}, are written once and read once. What counts is what it gives to all workers together; take no more workers
  than it feeds. Images stored compressed are read in fewer bytes.
* **Room for {format_bytes(sum(task.bytes_written for task in planned))}** beside the images: scores, nearest centroids, labels, and the files of tasks until their step
  is complete. {n_tasks:,} partitions make several thousand files of each kind.
* **Memory**: {format_bytes(worst.memory_bytes)} for each worker with one thread ({worst.name}). The client holds what the table above lists.
* **Partitions have 16 blocks**, {16 * sizes.block_rows:,} images, so {N_WORKERS} workers are busy only from {16 * sizes.block_rows * N_WORKERS / 1e6:,.0f} million images on. With {n_tasks:,} partitions the
  last round of them leaves workers idle for {makespan([1.0] * n_tasks, N_WORKERS) / (n_tasks / N_WORKERS) - 1:.0%} of the time; a number of workers that divides it well loses less.
* **A stop costs little**: the same command goes on after the last partition that was noted."""


def _duration(seconds: float) -> str:
    """Return a time for a person."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
