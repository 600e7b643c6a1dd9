"""What `plan` says: seconds, memory and bytes of each step on this machine, and whether it fits."""

from __future__ import annotations

import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from workflow.errors import StoreError
from workflow.ingest.base import PreparedSource, ScatteredSource
from workflow.pipeline.calibration import calibrated
from workflow.pipeline.durations import CLIENT_BYTES, Machine, leader_bytes, pass_seconds
from workflow.pipeline.images import open_input
from workflow.pipeline.plan import (
    PROCESS_BYTES,
    check_memory,
    check_settings,
    plan_run,
    worker_memory,
)
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from workflow.config import Config
    from workflow.pipeline.calibration import Calibration
    from workflow.pipeline.images import ImagesInput
    from workflow.pipeline.plan import RunPlan

#: Bytes of images that are read to see how fast they come.
PROBE_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class StepForecast:
    """What one step is expected to cost.

    Attributes
    ----------
    name : str
        The step; ``start`` is the program and its workers.
    seconds : float
        How long it takes [s].
    peak_bytes : int
        The largest process up to its end [bytes].
    bytes_read, bytes_written : int
        By all tasks of the step [bytes].
    """

    name: str
    seconds: float
    peak_bytes: int
    bytes_read: int
    bytes_written: int


def forecast_steps(plan: RunPlan, machine: Machine) -> list[StepForecast]:
    """Predict seconds, memory and bytes of each step.

    Parameters
    ----------
    plan : RunPlan
        The passes.
    machine : Machine
        Where they would run.

    Returns
    -------
    list of StepForecast
        In the order of the run.

    Notes
    -----
    Memory only rises: a process is asked for the most it ever held.
    """
    rates = machine.rates
    leading = rates.leader_bytes + CLIENT_BYTES
    beside = leader_bytes(plan.sizes)
    peak, steps = leading, []
    seconds_of: dict[str, float] = {}
    for name, seconds in pass_seconds(plan.sizes, machine).items():
        step = name.partition(":")[0]
        seconds_of[step] = seconds_of.get(step, 0.0) + seconds
    for name, seconds in seconds_of.items():
        passes = [task for task in plan.tasks if task.name.partition(":")[0] == name]
        # Parts are bounds; the process itself was measured.
        holds = [rates.worker_bytes + task.memory_bytes - PROCESS_BYTES for task in passes]
        peak = max(peak, leading + beside.get(name, 0), *holds, 0)
        read, written = sum(t.bytes_read for t in passes), sum(t.bytes_written for t in passes)
        steps.append(StepForecast(name, seconds, peak, read, written))
    return steps


def check_disk(plan: RunPlan, folder: Path) -> int:
    """Refuse a run for which the disk has no room; return what is free there [bytes].

    Parameters
    ----------
    plan : RunPlan
        What would be written.
    folder : Path
        A folder on the disk of the run.

    Raises
    ------
    StoreError
        Naming the largest part and what to change.
    """
    free = shutil.disk_usage(folder).free
    needed = plan.bytes_written
    if needed <= free:
        return free
    largest = max(plan.tasks, key=lambda task: task.bytes_written)
    advice = {
        "ingest": "Copy the images to a Zarr store elsewhere with `overcluster ingest`",
        "projection": "Set projection.dtype=float16 or lower pca.n_components",
        "pca": "Lower pca.max_full_features",
        "overcluster": "Lower overcluster.n_centroids",
    }.get(largest.name.partition(":")[0], "Make room")
    msg = f"a run must fit the disk; it writes up to {format_bytes(needed)} ({largest.name} {format_bytes(largest.bytes_written)}) and {folder} has {format_bytes(free)} free. {advice}, or give another --out."
    raise StoreError(msg)


def image_byte_seconds(given: ImagesInput, otherwise: float) -> float:
    """Return the seconds to read a byte of these images, decompressed, by one process.

    Parameters
    ----------
    given : ImagesInput
        The images.
    otherwise : float
        What is said of images that cannot be read by ranges yet [s/byte].
    """
    known: Any = given.store or given.source
    if isinstance(known, PreparedSource | ScatteredSource):
        return otherwise
    n_rows = max(1, min(known.n_samples, PROBE_BYTES // (given.n_bytes // known.n_samples or 1)))
    # From the middle: what was just written or looked at is more often at an end.
    start = (known.n_samples - n_rows) // 2
    known.read(start, start + 1)
    started = time.perf_counter()
    block = known.read(start, start + n_rows)
    zarr_io.crc(block)
    return (time.perf_counter() - started) / max(1, int(block.nbytes))


def nearest_folder(out: Path) -> Path:
    """Return the folder that a run folder would be made in, or itself."""
    place = out.expanduser().absolute()
    return next(folder for folder in (place, *place.parents) if folder.is_dir())


def plan_images(
    images: str, config: Config, out: Path | None = None, *, calibrate: bool = False
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
    calibrate : bool, default False
        Measure this machine anew.

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
    """
    given = open_input(images, config.ingest)
    known: Any = given.store or given.source
    check_settings(given.n_samples, given.n_features, config)
    limit = worker_memory(config.compute)
    plan = plan_run(known, config, limit)
    check_memory(known, config, limit)
    folder = nearest_folder(out or Path())
    free = check_disk(plan, folder)
    measured = calibrated(config.compute, folder, anew=calibrate)
    seconds = image_byte_seconds(given, measured.rates.unpack_byte)
    machine = Machine(measured.rates, measured.n_workers, seconds)
    steps = forecast_steps(plan, machine)
    total = sum(step.seconds for step in steps)
    known_here = config.compute.launcher == "local"
    lines = [*_head(plan, measured, free, known_here), "", *_passes(plan), "", *_steps(steps)]
    told = asdict(plan)
    sizes = told.pop("sizes")
    content = {
        **told,
        "bytes_written": plan.bytes_written,
        "bytes_free": free,
        "fits": True,
        "rounds_expected": plan.sizes.n_rounds,
        "n_kept": sizes["n_kept"],
        "n_workers": measured.n_workers,
        "steps": [asdict(step) for step in steps],
        "seconds": total,
        "peak_bytes": steps[-1].peak_bytes,
        "calibration": str(measured.path),
    }
    return "\n".join(lines), content


def _head(plan: RunPlan, measured: Calibration, free: int, known_here: bool) -> list[str]:  # noqa: FBT001 - one caller
    """Return the lines about shapes and the machine."""
    limit, images = plan.worker_bytes, plan.n_samples * plan.sizes.image_bytes
    workers = f"{measured.n_workers} on this machine"
    if not known_here:
        workers = "those elsewhere are not asked; seconds are those of one on this machine"
    when = "measured now" if measured.is_new else "measured before; --calibrate measures anew"
    return [
        f"images      {plan.n_samples:,} of {plan.n_features} features, {plan.dtype}, {format_bytes(images)}",
        f"blocks      {plan.n_blocks:,} of {plan.block_rows:,} rows, in {plan.n_partitions:,} partitions",
        f"components  {plan.n_components} at most; centroids {plan.n_centroids:,}",
        f"workers     {workers}; {format_bytes(limit) + ' each' if limit else 'no limit of memory'}",
        f"disk        {format_bytes(plan.bytes_written)} needed at most, {format_bytes(free)} free",
        f"speed       {measured.path} ({when})",
    ]


def _passes(plan: RunPlan) -> list[str]:
    """Return the table of passes."""
    head = f"{'pass':22} {'tasks':>7} {'read':>12} {'written':>12} {'memory/task':>12}"
    return [
        head,
        *(
            f"{t.name:22} {t.n_tasks:7,} {format_bytes(t.bytes_read):>12} {format_bytes(t.bytes_written):>12} {format_bytes(t.memory_bytes):>12}"
            for t in plan.tasks
        ),
    ]


def _steps(steps: list[StepForecast]) -> list[str]:
    """Return the table of steps."""
    rows = [
        f"{step.name:22} {step.seconds:9,.1f} s {format_bytes(step.peak_bytes):>14}"
        for step in steps
    ]
    total = f"{'total':22} {sum(s.seconds for s in steps):9,.1f} s {format_bytes(steps[-1].peak_bytes):>14}"
    return [f"{'step':22} {'seconds':>11} {'largest process':>15}", *rows, total]
