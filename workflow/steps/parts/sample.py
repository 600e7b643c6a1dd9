"""The sample that centroids are fitted on: drawn from every block while its scores are at hand, then shuffled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.partitions import part_path, partitions
from workflow.overcluster import draw_rows, sample_counts, sample_size
from workflow.rng import generator
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.manifest import digest
from workflow.steps.base import read_ahead
from workflow.steps.projection import raw_scores, rows_as_read, stored_scores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows
    from workflow.runstore import RunStore

#: Rows of a shard of the stored sample, and of the largest task that searches it.
SAMPLE_SHARD_ROWS = 65_536
#: Folder of what was drawn, in that of the step, and what a task of `projection` says of it.
DRAWN = "drawn"


class Plan(NamedTuple):
    """How many rows each block gives, and where they go.

    Attributes
    ----------
    n_drawn : dict of int to int
        First row of a block -> rows drawn of it.
    offsets : int64 array of shape (n_partitions + 1,)
        Rows drawn of the partitions before.
    place : int64 array of shape (n_rows,)
        Row of the shuffled sample that each row becomes, in the order of the blocks.
    """

    n_drawn: dict[int, int]
    offsets: NDArray[np.int64]
    place: NDArray[np.int64]


@lru_cache(maxsize=2)
def _plan(n_samples: int, block_rows: int, n_rows: int, seed: int) -> Plan:
    """Share the sample out; once per process."""
    blocks = row_ranges(n_samples, block_rows)
    counts = sample_counts([rows.n_rows for rows in blocks], n_rows).tolist()
    n_drawn = {rows.start: count for rows, count in zip(blocks, counts, strict=True)}
    of_parts = [
        sum(n_drawn[rows.start] for rows in part.blocks)
        for part in partitions(n_samples, block_rows)
    ]
    place = np.empty(n_rows, np.int64)
    place[generator(seed, "overcluster/shuffle").permutation(n_rows)] = np.arange(n_rows)
    return Plan(n_drawn, np.cumsum([0, *of_parts]), place)


@dataclass(frozen=True, slots=True)
class Drawing:
    """Rows drawn from every block in proportion; a task leaves its own, apart for each shard that they go to.

    Whoever has the scores of a block at hand can draw from it: implements `workflow.engine.step.Rider`.
    """

    n_samples: int
    block_rows: int
    n_rows: int
    seed: int
    folder: Path

    @property
    def key(self) -> str:
        """What the rows depend on beside the scores."""
        return digest({name: value for name, value in asdict(self).items() if name != "folder"})

    @property
    def plan(self) -> Plan:
        """How many rows each block gives, and where they go."""
        return _plan(self.n_samples, self.block_rows, self.n_rows, self.seed)

    @property
    def shards(self) -> Sequence[RowRange]:
        """Shards of the shuffled sample."""
        return row_ranges(self.n_rows, SAMPLE_SHARD_ROWS)

    def take(self, rows: RowRange, scores: NDArray[Any]) -> NDArray[Any]:
        """Draw from a block, with the generator that belongs to it."""
        rng = generator(self.seed, "overcluster/sample", rows.start)
        return scores[draw_rows(len(scores), self.plan.n_drawn[rows.start], rng)]

    def leave(self, partition: Partition, taken: Sequence[NDArray[Any]]) -> dict[str, Any]:
        """Write what was drawn of a partition, in the order of the blocks."""
        rows, plan = np.concatenate(taken), self.plan
        shard = plan.place[slice(*plan.offsets[partition.index : partition.index + 2])]
        shard = shard // SAMPLE_SHARD_ROWS
        self.folder.mkdir(parents=True, exist_ok=True)
        path = part_path(self.folder, partition.index)
        write_arrays(path, {_name(i): rows[shard == i] for i in np.unique(shard).tolist()})
        return {DRAWN: self.key, "bytes_written": path.stat().st_size}

    def gather(self, shard: RowRange) -> NDArray[Any]:
        """Read the rows of a shard from all that was left, in their shuffled order."""
        plan, name = self.plan, _name(shard.start // SAMPLE_SHARD_ROWS)
        drawn = np.flatnonzero((plan.place >= shard.start) & (plan.place < shard.stop))
        source = np.searchsorted(plan.offsets, drawn, side="right") - 1
        gathered: NDArray[Any] | None = None
        for index in np.unique(source).tolist():
            rows = read_arrays(part_path(self.folder, index), names=[name])[name]
            if gathered is None:
                gathered = np.empty((shard.n_rows, rows.shape[1]), rows.dtype)
            gathered[plan.place[drawn[source == index]] - shard.start] = rows
        assert gathered is not None
        return gathered

    def was_left(self, store: RunStore) -> bool:
        """Return whether `projection` has drawn all of it, and it is still there."""
        reports, key = store.noted("projection", "blocks"), self.key
        indices = range(len(self.plan.offsets) - 1)
        return all(
            reports.get(index, {}).get(DRAWN) == key and part_path(self.folder, index).is_file()
            for index in indices
        )


def _name(shard: int) -> str:
    """Return the name of the rows that go to a shard, in the file of a partition."""
    return f"shard-{shard:06d}"


def drawing_of(context: Context, n_centroids: int) -> Drawing:
    """Return how the sample of a run is drawn."""
    return Drawing(
        context.n_samples,
        context.block_rows,
        sample_size(context.n_samples, n_centroids),
        context.config.seed,
        layout.step_folder(context.store.path, "overcluster") / DRAWN,
    )


@dataclass(frozen=True, slots=True)
class DrawTask:
    """Rows drawn from the stored scores of a partition, where `projection` drew others or none."""

    scores: Rows
    drawing: Drawing

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Draw from each block."""
        taken, n_bytes = [], 0
        for rows, block in read_ahead(self.scores, partition.blocks):
            taken.append(self.drawing.take(rows, block))
            n_bytes += block.nbytes
        return self.drawing.leave(partition, taken) | {"bytes_read": n_bytes}


@dataclass(frozen=True, slots=True)
class ShuffleTask:
    """A shard of the sample in its shuffled order, gathered from all that was drawn."""

    drawing: Drawing
    scores: Rows
    sample: Path

    def __call__(self, shard: RowRange) -> dict[str, Any]:
        """Gather the rows whose place in the sample lies in the shard."""
        drawn = self.drawing.gather(shard)
        rows = rows_as_read(self.scores, drawn)
        zarr_io.write_rows(self.sample, "sample", shard.start, rows)
        return {
            "crc": [zarr_io.crc(rows)],
            "bytes_read": drawn.nbytes,
            "bytes_written": rows.nbytes,
        }


def draw_sample(context: Context, n_centroids: int) -> zarr_io.StoredRows:
    """Return the stored sample, drawn from every block in proportion and shuffled."""
    store, step, drawing = context.store, "overcluster", drawing_of(context, n_centroids)
    target, scores = layout.sample(store.path), stored_scores(store)
    shuffled = store.journal(step, "sample", needs=(target,))
    if len(shuffled.entries) < len(drawing.shards):
        if not drawing.was_left(store):
            task = DrawTask(raw_scores(store), drawing)
            drawn_before = store.journal(step, DRAWN, needs=(drawing.folder,))
            context.run_partitions(step, task, drawn_before, name="overcluster: sample")
        if not shuffled.entries:
            discard(target)
            zarr_io.create_rows_array(
                target,
                "sample",
                n_rows=drawing.n_rows,
                tail_shape=(scores.n_features,),
                dtype="float32",
                shard_rows=SAMPLE_SHARD_ROWS,
                dims=("row", "component"),
                compressor=None,
            )
        shuffle = ShuffleTask(drawing, scores, target)
        items = dict(enumerate(drawing.shards))
        context.run_partitions(step, shuffle, shuffled, items=items, name="overcluster: shuffle")
    discard(drawing.folder)
    return stored_sample(store)


def stored_sample(store: RunStore) -> zarr_io.StoredRows:
    """Return the rows that the centroids are fitted on, readable from any worker."""
    return zarr_io.StoredRows.open(layout.sample(store.path), "sample")
