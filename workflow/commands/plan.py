"""plan: what a run would take, before anything starts; what cannot fit is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes

from workflow import steps
from workflow.commands.base import open_given
from workflow.engine.plan import (
    Sizes,
    TaskPlan,
    check_memory,
    check_settings,
    plan_tasks,
    worker_memory,
)
from workflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.config import Config

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


def plan(images: str, config: Config, out: Path | None = None) -> tuple[str, dict[str, Any]]:
    """Plan a run on images that are not read yet."""
    given = open_given(images, config)
    known: Any = given.source
    sizes = Sizes.of(steps.STEPS, known, config)
    check_settings(steps.STEPS, sizes)
    limit = worker_memory(config.compute)
    check_memory(steps.STEPS, known, config, limit)
    tasks = plan_tasks(steps.STEPS, sizes)
    folder = nearest_folder(out or Path())
    check_disk(tasks, folder)
    return "", {}
