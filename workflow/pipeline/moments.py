"""The pass over the pixels that sums their moments; for a run and for an update."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from workflow.pca import (
    DEFAULT_RANK,
    MomentState,
    about_zero,
    choose_kind,
    merge_moments,
    moments_from_arrays,
)
from workflow.pipeline.tasks import LeftPart, MomentsTask, left_parts
from workflow.runstore.files import read_arrays
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workflow.mapper import Mapper
    from workflow.pipeline.executor import Executor
    from workflow.pipeline.partitions import Partition
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
) -> tuple[MomentState, Mapping[int, dict[str, Any]]]:
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
    reports : mapping of int to dict
        What each task reported.
    """
    if not journal.entries:
        discard(folder)
    folder.mkdir(parents=True, exist_ok=True)
    kind = choose_kind(images.dtype, images.n_features, max_full_features=max_full_features)
    task = MomentsTask(images, kind, DEFAULT_RANK, folder)
    items = {partition.index: partition for partition in partitions}
    reports = executor.run("pca", task, items, journal=journal, n_rows=lambda p: p.n_rows)
    return merged_moments(executor, folder, reports), reports


def merged_moments(
    mapper: Mapper, folder: Path, reports: Mapping[int, Mapping[str, Any]]
) -> MomentState:
    """Merge what the tasks left, always the same neighbours; one state comes back."""
    merged: MomentState = mapper.reduce(
        partial(_left_moments, folder), left_parts(reports), merge_moments
    )
    return merged


def _left_moments(folder: Path, part: LeftPart) -> MomentState:
    """Read the moments of a partition; about zero already, unless version 0.1.0 left them."""
    return about_zero(moments_from_arrays(part.read(folder)))


def update_states(store: RunStore) -> list[MomentState]:
    """Return the moments that updates have added to a run, in their order."""
    folder = store.folder("pca")
    return [
        moments_from_arrays(read_arrays(folder / update["file"], update["file_crc"]))
        for update in store.manifest.updates
    ]
