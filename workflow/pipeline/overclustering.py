"""The passes of the overcluster step: draw a sample, fit on it, assign every row."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.centroid_graph import PairCounts, merge_pair_counts
from workflow.chunks import row_ranges
from workflow.overcluster import (
    CellSums,
    FittedCentroids,
    RoundState,
    fit_centroids,
    merge_cell_sums,
    sample_counts,
    sample_size,
)
from workflow.pipeline.model import with_dims
from workflow.pipeline.partitions import partition_rows
from workflow.pipeline.tasks import (
    N_NEAREST,
    AssignTask,
    DrawTask,
    LeftPart,
    SampleItem,
    ShuffleItem,
    ShuffleTask,
    left_parts,
)
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import read_arrays, write_arrays
from workflow.runstore.store import discard, stage_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.mapper import Rows
    from workflow.pipeline.context import Context
    from workflow.pipeline.executor import StoredArrays
    from workflow.runstore import RunStore
    from workflow.runstore.store import StagedArrays

STEP = "overcluster"
#: File of the counts of pairs, in the folder of the step.
PAIRS = "pairs.npz"
#: Rows of a piece of the stored sample.
SAMPLE_PIECE_ROWS = 65_536


def n_rows(item: Any) -> int:
    """Return the rows of a task's item."""
    rows: int = item.n_rows
    return rows


def draw_sample(context: Context, n_centroids: int) -> Rows:
    """Return the stored sample, drawn from every block in proportion and shuffled."""
    store, seed = context.store, context.config.seed
    sizes = context.block_sizes
    counts = sample_counts(sizes, sample_size(context.n_samples, n_centroids))
    parts, target = store.folder(STEP) / "drawn", layout.sample(store.path)
    pieces = row_ranges(int(counts.sum()), SAMPLE_PIECE_ROWS)
    shuffled = store.journal(STEP, "sample", needs=(target,))
    if len(shuffled.entries) < len(pieces):
        drawn_before = store.journal(STEP, "drawn", needs=(parts,))
        parts.mkdir(exist_ok=True)
        scores = context.scores
        items = {
            partition.index: SampleItem(partition, n_drawn)
            for partition, n_drawn in zip(
                context.partitions, context.split(counts.tolist()), strict=True
            )
        }
        drawn = context.executor.run(
            "overcluster: sample",
            DrawTask(scores, seed, parts),
            items,
            journal=drawn_before,
            n_rows=n_rows,
        )
        context.count(STEP, drawn)
        if not shuffled.entries:
            discard(target)
            zarr_io.create_rows_array(
                target,
                "sample",
                n_rows=int(counts.sum()),
                tail_shape=(scores.n_features,),
                dtype="float32",
                shard_rows=SAMPLE_PIECE_ROWS,
                dims=("row", "component"),
                compressor=None,
            )
        offsets = np.cumsum([0] + [sum(item.n_drawn) for item in items.values()])
        gathered = context.executor.run(
            "overcluster: shuffle",
            ShuffleTask(parts, tuple(offsets.tolist()), seed, target),
            {index: ShuffleItem(*piece) for index, piece in enumerate(pieces)},
            journal=shuffled,
            n_rows=n_rows,
        )
        context.count(STEP, gathered)
    discard(parts)
    return zarr_io.StoredRows.open(target, "sample")


def fit(context: Context, sample: Rows, n_centroids: int) -> FittedCentroids:
    """Fit centroids on the sample, going on from the last round that was noted."""
    store = context.store
    place = store.folder(STEP) / "round.npz"
    noted = store.journal(STEP, "rounds")
    resume = None
    if noted.entries and place.is_file():
        resume = RoundState.from_arrays(read_arrays(place))
    # A journal of other settings is void, and so is the state it stands for.
    n_noted = len(noted.entries)

    def note(state: RoundState) -> None:
        nonlocal n_noted
        write_arrays(place, state.to_arrays())
        noted.append(n_noted, {"round": n_noted})
        n_noted += 1

    with context.executor.progress.bar(
        "overcluster: rounds, at most", context.config.overcluster.max_rounds, "rounds"
    ) as bar:

        def on_round(state: RoundState) -> None:
            note(state)
            bar.advance(1)

        return fit_centroids(
            sample,
            n_centroids,
            seed=context.config.seed,
            mapper=context.executor,
            max_rounds=context.config.overcluster.max_rounds,
            on_round=on_round,
            resume=resume,
        )


class Sums(NamedTuple):
    """What the last merge of the pass over all rows makes of its sums, all but this left on disk.

    Attributes
    ----------
    is_occupied : bool array of shape (n_centroids,)
        Which centroids have a row; unless all have, nothing is left.
    staged : StagedArrays or None
        Arrays of the model: the centroids and what is known of their cells.
    pairs_crc : int
        Checksum of the file with the counts of pairs of nearest centroids.
    inertia : float
        Sum of squared distances to the nearest centroids [score squared].
    """

    is_occupied: NDArray[np.bool_]
    staged: StagedArrays | None = None
    pairs_crc: int = 0
    inertia: float = math.nan


class Assignment(NamedTuple):
    """The last pass over all rows: what came of its sums, and the name of its journal."""

    sums: Sums
    part: str


def pairs_file(store: RunStore) -> Path:
    """Return where the counts of pairs of nearest centroids lie."""
    return store.folder(STEP) / PAIRS


def assign(context: Context, centroids: NDArray[np.float32], place: Path) -> Assignment:
    """Find the nearest three centroids of every row, store them, and sum what rides along.

    A centroid that turns out to have no row is dropped and the pass repeated:
    the second and third nearest of others may have been that one.
    """
    for attempt in range(len(centroids)):
        part = f"assign-{attempt}"
        sums = _assign_once(context, centroids, part, place)
        if sums.is_occupied.all():
            return Assignment(sums, part)
        centroids = centroids[sums.is_occupied]
    msg = "some centroid must have a row"
    raise AssertionError(msg)


def _assign_once(context: Context, centroids: NDArray[np.float32], part: str, place: Path) -> Sums:
    """Do one pass over all rows."""
    store = context.store
    target, parts = layout.nearest(store.path), store.folder(STEP) / "parts" / part
    journal = store.journal(STEP, part, needs=(target, parts))
    if not journal.entries:
        discard(target)
        discard(parts)
        parts.mkdir(parents=True)
        for name, dtype in (("nearest", "int32"), ("sq_distance", "float32")):
            zarr_io.create_rows_array(
                target,
                name,
                n_rows=context.n_samples,
                tail_shape=(N_NEAREST,),
                dtype=dtype,
                shard_rows=partition_rows(context.n_samples, context.block_rows),
                block_rows=context.block_rows,
                dims=("sample", "rank"),
                compressor=None,
            )
    shared = context.executor.share({"centroids": centroids})
    task = AssignTask(context.scores, shared, target, parts)
    items = {partition.index: partition for partition in context.partitions}
    reports = context.executor.run(
        "overcluster: assign", task, items, journal=journal, n_rows=n_rows
    )
    context.count(STEP, reports)
    sums: Sums = context.executor.reduce(
        partial(_left_sums, parts),
        left_parts(reports),
        _merged,
        partial(_leave_sums, shared, pairs_file(store), place),
    )
    return sums


def _left_sums(folder: Path, part: LeftPart) -> tuple[CellSums, PairCounts]:
    """Read the sums of a partition."""
    arrays = part.read(folder)
    return (
        CellSums.from_arrays(_prefixed(arrays, "cells_")),
        PairCounts.from_arrays(_prefixed(arrays, "pairs_")),
    )


def _merged(
    left: tuple[CellSums, PairCounts], right: tuple[CellSums, PairCounts]
) -> tuple[CellSums, PairCounts]:
    """Merge the sums of neighbours."""
    return merge_cell_sums(left[0], right[0]), merge_pair_counts(left[1], right[1])


def _leave_sums(
    centroids: StoredArrays, pairs: Path, place: Path, sums: tuple[CellSums, PairCounts]
) -> Sums:
    """Leave what was merged: arrays of the model at a place, and the pairs in their file."""
    cells = sums[0]
    is_occupied = cells.population > 0
    if not is_occupied.all():
        return Sums(is_occupied)
    arrays = {
        **centroids.load(),
        "population": cells.population,
        "centroid_mean": cells.mean,
        "rms_radius": cells.rms_radius,
        "mean_distance": cells.distance / cells.population,
        "max_distance": cells.max_distance,
        "exemplar": cells.exemplar,
    }
    staged = stage_arrays(place, with_dims(arrays))
    return Sums(is_occupied, staged, write_arrays(pairs, sums[1].to_arrays()), cells.inertia)


def _prefixed(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names start with a prefix, without it."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
