"""plan: what a run would take, before anything starts; what cannot fit is refused."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from workflow import steps
from workflow.commands.base import open_given
from workflow.commands.planning.forecast import fitting_run, note_run
from workflow.commands.planning.pilot import pilot_size, run_pilot
from workflow.engine.plan import (
    PROCESS_BYTES,
    Sizes,
    TaskPlan,
    check_memory,
    check_settings,
    plan_tasks,
    worker_count,
    worker_memory,
)
from workflow.engine.waiting import TOLD
from workflow.errors import StoreError
from workflow.formatting import format_count
from workflow.ingest import remarks
from workflow.runstore.kept import here
from workflow.steps.projection import n_previews
from workflow.threads import n_processors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.commands.planning.forecast import NotedRun
    from workflow.config import Config
    from workflow.ingest.images import ImagesInput

#: What the leading process takes for talking to workers [bytes].
CLIENT_BYTES = 64 * 2**20
#: What lowers the bytes on the disk, by the step that writes the most.
DISK_ADVICE = {
    "ingest": "Copy the images to a Zarr store elsewhere with `overcluster ingest`",
    "projection": "Set projection.dtype=float16 or lower pca.n_components",
    "pca": "Lower pca.max_full_features",
    "overcluster": "Lower overcluster.n_centroids",
}


def check_disk(tasks: Sequence[TaskPlan], folder: Path) -> int:
    """Refuse a run for which the disk has no room; return what is free there [bytes].

    Parameters
    ----------
    tasks : sequence of TaskPlan
        What would be written.
    folder : Path
        A folder on the disk of the run.

    Raises
    ------
    StoreError
        Naming the largest part and what to change.
    """
    free = shutil.disk_usage(folder).free
    needed = sum(task.bytes_written for task in tasks)
    if needed <= free:
        return free
    largest = max(tasks, key=lambda task: task.bytes_written)
    advice = DISK_ADVICE.get(largest.name.partition(":")[0], "Make room")
    msg = f"a run must fit the disk; it writes up to {format_bytes(needed)} ({largest.name} {format_bytes(largest.bytes_written)}) and {folder} has {format_bytes(free)} free. {advice}, or give another --out."
    raise StoreError(msg)


def nearest_folder(out: Path) -> Path:
    """Return the folder that a run folder would be made in, or itself."""
    place = out.expanduser().absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def plan(
    images: str,
    config: Config,
    out: Path | None = None,
    *,
    with_pilot: bool = True,
    since_start: float = 0.0,
) -> tuple[str, dict[str, Any]]:
    """Plan a run on images that are not read yet.

    Parameters
    ----------
    images : str
        The images.
    config : Config
        The settings.
    out : Path, optional
        The run folder; by default one made here.
    with_pilot : bool
        Whether few of the images may be run where no earlier run tells the seconds.
    since_start : float
        What the program has taken so far; a run takes it, too [s].

    Returns
    -------
    text : str
        For a person.
    content : dict
        The same, JSON-able.

    Raises
    ------
    MemoryBudgetError
        If a task cannot fit a worker.
    StoreError
        If the disk has no room for the run.
    ComputeError
        If a pilot fails.
    """
    given = open_given(images, config)
    known: Any = given.source
    sizes = Sizes.of(steps.STEPS, known, config)
    check_settings(steps.STEPS, sizes)
    limit = worker_memory(config.compute)
    check_memory(steps.STEPS, known, config, limit)
    tasks = plan_tasks(steps.STEPS, sizes)
    folder = nearest_folder(here(out) if out is not None else Path())
    free = check_disk(tasks, folder)
    run, source = _earlier_run(images, given, sizes, folder, with_pilot=with_pilot)
    costs = forecast_steps(sizes, tasks, run, since_start)
    seconds = None if run is None else sum(cost["seconds"] for cost in costs)
    content = {
        "n_samples": sizes.n_samples,
        "n_features": sizes.n_features,
        "dtype": sizes.dtype.name,
        "block_rows": sizes.block_rows,
        "n_blocks": -(-sizes.n_samples // sizes.block_rows),
        "n_partitions": sizes.n_partitions,
        "n_components": sizes.dims["component"],
        "n_centroids": sizes.dims["centroid"],
        "worker_bytes": limit,
        "tasks": [_task_content(task) for task in tasks],
        "bytes_written": sum(task.bytes_written for task in tasks),
        "bytes_free": free,
        "fits": True,
        "rounds_expected": run.rounds if run else None,
        "n_kept": n_previews(sizes.n_samples, sizes.image_bytes),
        "n_workers": min(worker_count(config.compute), n_processors()),
        "source": source,
        "waited": run.waited if run else None,
        "remarks": remarks(given.source),
        "steps": costs,
        "seconds": seconds,
        "peak_bytes": costs[-1]["peak_bytes"],
    }
    is_local = config.compute.launcher == "local"
    lines = [*_head(content, sizes, is_local=is_local), "", *_passes(tasks), "", *_steps(content)]
    return "\n".join(lines), content


def _earlier_run(
    images: str, given: ImagesInput, sizes: Sizes, folder: Path, *, with_pilot: bool
) -> tuple[NotedRun | None, str]:
    """Return the run whose seconds are scaled, made now where there is none, and what it is."""
    run = fitting_run(sizes, given.digest, pilot_size(given) if with_pilot else 0)
    when = "on this machine"
    if run is None and with_pilot:
        began = time.monotonic()
        run = run_pilot(images, given, sizes.config, folder)
        note_run(run)
        when = f"just now, {time.monotonic() - began:.0f} s"
    if run is None:
        return None, "not known: --no-pilot"
    what = f"a run of {run.n_samples:,} images"
    if run.images == given.digest:
        what = f"a run of these {run.n_samples:,} images"
    if run.is_pilot:
        what = f"a pilot of {run.n_samples:,} of these images"
    return run, f"from {what} {when}"


def forecast_steps(
    sizes: Sizes, tasks: Sequence[TaskPlan], run: NotedRun | None, since_start: float = 0.0
) -> list[dict[str, Any]]:
    """Return seconds, memory and bytes of each step.

    Parameters
    ----------
    sizes : Sizes
        Sizes of the run to come.
    tasks : sequence of TaskPlan
        Its passes.
    run : NotedRun or None
        The run that is scaled; without one there are no seconds.
    since_start : float
        What the program takes until it begins [s].

    Returns
    -------
    list of dict
        ``name``, ``seconds`` (or None), ``peak_bytes``, ``bytes_read`` and ``bytes_written`` of
        ``start``, the program and its workers, and of each step that has something to do.

    Notes
    -----
    Memory only rises: ``peak_bytes`` is the most that a process has held up to the end of a step.
    """
    seconds = run.seconds(sizes) if run else {}
    worker = run.worker_bytes if run else PROCESS_BYTES
    leading = CLIENT_BYTES + (run.leader_bytes if run else PROCESS_BYTES)
    peak = leading
    first = seconds["start"] + since_start if run else None
    costs = [_cost("start", first, peak, [])]
    for step in steps.STEPS:
        if not step.growth(sizes):
            continue
        passes = [task for task in tasks if task.name.partition(":")[0] == step.name]
        # Parts are bounds; the process itself was measured.
        holds = [worker + sum(task.parts.values()) for task in passes]
        peak = max(peak, leading + step.client_bytes(sizes), *holds, 0)
        costs.append(_cost(step.name, seconds.get(step.name), peak, passes))
    return costs


def _cost(
    name: str, seconds: float | None, peak: int, passes: Sequence[TaskPlan]
) -> dict[str, Any]:
    """Return the content about a step."""
    return {
        "name": name,
        "seconds": seconds,
        "peak_bytes": peak,
        "bytes_read": sum(task.bytes_read for task in passes),
        "bytes_written": sum(task.bytes_written for task in passes),
    }


def _task_content(task: TaskPlan) -> dict[str, Any]:
    """Return the content about a pass."""
    return {
        "name": task.name,
        "n_tasks": task.n_tasks,
        "bytes_read": task.bytes_read,
        "bytes_written": task.bytes_written,
        "memory_bytes": task.memory_bytes,
        "parts": {"process": PROCESS_BYTES, **task.parts},
    }


def _head(content: dict[str, Any], sizes: Sizes, *, is_local: bool) -> list[str]:
    """Return the lines about shapes and the machine."""
    limit, waited = content["worker_bytes"], content["waited"]
    source = content["source"]
    if waited is not None:
        what = "what is read" if waited >= TOLD else "the processor"
        source += f"; {what} was the limit: tasks waited {waited:.0%} of their time for rows"
    workers = f"{content['n_workers']} on this machine"
    if not is_local:
        workers = "those elsewhere are not asked; seconds are those of one on this machine"
    return [
        f"images      {sizes.n_samples:,} of {sizes.n_features} features, {sizes.dtype}, {format_bytes(sizes.n_samples * sizes.image_bytes)}",
        f"blocks      {content['n_blocks']:,} of {sizes.block_rows:,} images at most, in {format_count(sizes.n_partitions, 'task')} for each pass",
        f"components  {content['n_components']} at most; centroids {content['n_centroids']:,}",
        f"workers     {workers}; {format_bytes(limit) + ' each' if limit else 'no limit of memory'}",
        f"disk        {format_bytes(content['bytes_written'])} needed at most, {format_bytes(content['bytes_free'])} free",
        f"seconds     {source}",
        *(f"remark      {remark}" for remark in content["remarks"]),
    ]


def _passes(tasks: Sequence[TaskPlan]) -> list[str]:
    """Return the table of passes."""
    head = f"{'pass':22} {'tasks':>7} {'read':>12} {'written':>12} {'memory/task':>12}"
    rows = [
        f"{t.name:22} {t.n_tasks:7,} {format_bytes(t.bytes_read):>12} {format_bytes(t.bytes_written):>12} {format_bytes(t.memory_bytes):>12}"
        for t in tasks
    ]
    return [head, *rows]


def _steps(content: dict[str, Any]) -> list[str]:
    """Return the table of steps."""
    total = {**content, "name": "total"}
    return [
        f"{'step':22} {'seconds':>11} {'largest process':>15}",
        *(
            f"{cost['name']:22} {_shown(cost['seconds']):>11} {format_bytes(cost['peak_bytes']):>14}"
            for cost in (*content["steps"], total)
        ),
    ]


def _shown(seconds: float | None) -> str:
    """Return seconds for a person."""
    return "-" if seconds is None else f"{seconds:,.1f} s"
