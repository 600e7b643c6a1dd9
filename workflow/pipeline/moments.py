"""The pass over the pixels that sums their moments; for a run and for an update."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from workflow.pca import (
    DEFAULT_RANK,
    MomentState,
    about_zero,
    choose_kind,
    feature_shift,
    merge_moments,
    moments_from_arrays,
)
from workflow.pipeline.executor import ordered
from workflow.pipeline.tasks import MomentsTask, part_path
from workflow.runstore.files import read_arrays
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.pipeline.executor import Executor, Partition
    from workflow.runstore import RunStore
    from workflow.runstore.files import Journal
    from workflow.runstore.zarr_io import ImageStore


def moments_pass(
    executor: Executor,
    images: ImageStore,
    partitions: Sequence[Partition],
    *,
    folder: Path,
    journal: Journal,
    max_full_features: int,
) -> tuple[MomentState, dict[int, dict[str, Any]]]:
    """Sum the moments of all images and take a checksum of each block.

    Parameters
    ----------
    executor : Executor
        Runs the tasks.
    images : ImageStore
        The images.
    partitions : sequence of Partition
        All of them.
    folder : Path
        Where tasks leave the moments of their partition.
    journal : Journal
        Where finished partitions are noted.
    max_full_features : int
        Most features for which the full second moments are kept.

    Returns
    -------
    state : MomentState
        Moments of all images, merged in the order of the partitions; of
        integers about zero, so that they merge with any others.
    reports : dict of int to dict
        What each task reported.
    """
    if not journal.entries:
        discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = choose_kind(images.dtype, images.n_features, max_full_features=max_full_features)
    # A task of its own: the client may not see the images.
    shift = executor.map(functools.partial(first_shift, images), [partitions[0].blocks[0]])[0]
    # Only exact integers are summed about a shift; for wide images it would weigh a megabyte.
    task = MomentsTask(images, kind, shift if kind == "integer" else None, DEFAULT_RANK, folder)
    items = {partition.index: partition for partition in partitions}
    reports = executor.run("pca", task, items, journal=journal, n_rows=lambda p: p.n_rows)
    return merged_moments(folder, reports), reports


def first_shift(images: ImageStore, rows: RowRange) -> NDArray[Any]:
    """Return the shift that belongs to the first block."""
    return feature_shift(images.read(*rows))


def merged_moments(folder: Path, reports: Mapping[int, Mapping[str, Any]]) -> MomentState:
    """Merge what the tasks left, one at a time, in the order of the partitions."""
    states = (
        moments_from_arrays(read_arrays(part_path(folder, report["index"]), report["file_crc"]))
        for report in ordered(reports)
    )
    return about_zero(functools.reduce(merge_moments, states))


def update_states(store: RunStore) -> list[MomentState]:
    """Return the moments that updates have added to a run, in their order."""
    folder = store.folder("pca")
    return [
        moments_from_arrays(read_arrays(folder / update["file"], update["file_crc"]))
        for update in store.manifest.updates
    ]
