"""What workers do: one class per pass, each instance a task function of a few hundred bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow import schema
from workflow.centroid_graph import PairCounts, count_pairs, merge_pair_counts
from workflow.errors import NonFiniteError, StoreError
from workflow.labels import CentroidLabels, RowLabels, label_rows
from workflow.overcluster import CellSums, NearestCentroids, cell_sums, draw_rows, merge_cell_sums
from workflow.pca import (
    MomentState,
    about_zero,
    block_moments,
    feature_shift,
    merge_moments,
    moments_to_arrays,
)
from workflow.pipeline.counts import count_labels, sum_counts
from workflow.projection import project
from workflow.rng import generator
from workflow.runstore import zarr_io
from workflow.runstore.files import read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.mapper import Rows
    from workflow.pipeline.executor import StoredArrays
    from workflow.pipeline.partitions import Partition

#: Nearest centroids kept for each image.
N_NEAREST = 3
#: Rows that the shift of integer moments is chosen by, which only decides how fast they are summed.
SHIFT_ROWS = 1_024


def get_ready() -> None:
    """Do nothing: a worker that has called this has imported what its tasks need."""


def part_path(folder: Path, index: int) -> Path:
    """Return where the task of a partition leaves its arrays."""
    return folder / f"part-{index:06d}.npz"


class LeftPart(NamedTuple):
    """The arrays that the task of a partition left: of which, and the checksum of their file."""

    partition: int
    file_crc: int

    def read(self, folder: Path) -> dict[str, NDArray[Any]]:
        """Read them from the folder where they were left."""
        return read_arrays(part_path(folder, self.partition), self.file_crc)


def left_parts(reports: Mapping[int, Mapping[str, Any]]) -> list[LeftPart]:
    """Return what tasks left according to their reports, in the order of the partitions."""
    return sorted(LeftPart(index, report["file_crc"]) for index, report in reports.items())


def read_ahead(stored: Rows, blocks: Iterable[RowRange]) -> Iterator[tuple[RowRange, NDArray[Any]]]:
    """Yield each range with its rows, read while the one before it is worked on."""
    waiting: tuple[RowRange, Future[NDArray[Any]]] | None = None
    with ThreadPoolExecutor(max_workers=1) as reader:
        for rows in blocks:
            following = rows, reader.submit(stored.read, *rows)
            if waiting is not None:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting is not None:
            yield waiting[0], waiting[1].result()


@dataclass(frozen=True, slots=True)
class MomentsTask:
    """Moments of a partition, and a checksum of each of its blocks."""

    images: Rows
    kind: str
    rank: int
    folder: Path

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Read each block once; leave the merged state in the folder."""
        state: MomentState | None = None
        shift: NDArray[Any] | None = None
        checksums, n_bytes = [], 0
        for rows, block in read_ahead(self.images, partition.blocks):
            checksums.append(zarr_io.crc(block))
            n_bytes += block.nbytes
            if shift is None and self.kind == "integer":
                shift = feature_shift(block[:SHIFT_ROWS])
            try:
                part = block_moments(block, kind=self.kind, shift=shift, rank=self.rank)
            except NonFiniteError as err:
                raise err.moved(rows.start) from None
            state = part if state is None else merge_moments(state, part)
        assert state is not None
        path = part_path(self.folder, partition.index)
        return {
            "crc": checksums,
            # Exact about any shift, so each task has its own; about zero they merge.
            "file_crc": write_arrays(path, moments_to_arrays(about_zero(state))),
            "bytes_read": n_bytes,
            "bytes_written": path.stat().st_size,
        }


class ProjectionItem(NamedTuple):
    """A partition, the checksums its blocks had, and how many pictures to keep of each."""

    partition: Partition
    checksums: list[int | None]
    n_kept: list[int]

    @property
    def n_rows(self) -> int:
        """Rows of the partition."""
        return self.partition.n_rows


@dataclass(frozen=True, slots=True)
class Basis:
    """Mean and components that rows are projected with, where they are stored."""

    stored: StoredArrays
    whiten: bool

    def project(self, block: NDArray[Any], first_row: int, dtype: str) -> NDArray[Any]:
        """Return the scores of a block that begins at `first_row`."""
        arrays = self.stored.load()
        try:
            return project(
                block,
                arrays["mean"],
                arrays["components"],
                whiten_scale=arrays["variance"] if self.whiten else None,
                dtype=np.dtype(dtype),
            )
        except NonFiniteError as err:
            raise err.moved(first_row) from None


@dataclass(frozen=True, slots=True)
class ProjectionTask:
    """Scores of a partition, written; a few of its pictures, kept."""

    images: Rows
    basis: Basis
    dtype: str
    scores: Path
    kept_folder: Path

    def __call__(self, item: ProjectionItem) -> dict[str, Any]:
        """Read each block once, hold it against its checksum, write its scores."""
        kept, kept_rows, checksums = [], [], []
        bytes_read = bytes_written = 0
        blocks = read_ahead(self.images, item.partition.blocks)
        with zarr_io.RowsWriter(self.scores, "scores", item.partition.start) as writer:
            for (rows, block), expected, n_kept in zip(
                blocks, item.checksums, item.n_kept, strict=True
            ):
                require_unaltered(block, rows, expected)
                scores = self.basis.project(block, rows.start, self.dtype)
                writer.append(scores)
                checksums.append(zarr_io.crc(scores))
                # Drawn from the rows alone: another seed must not make the pictures stale.
                drawn = draw_rows(len(block), n_kept, generator(0, "projection/kept", rows.start))
                kept.append(block[drawn])
                kept_rows.append(drawn + rows.start)
                bytes_read += block.nbytes
                bytes_written += scores.nbytes
        path = part_path(self.kept_folder, item.partition.index)
        arrays = {"images": np.concatenate(kept), "row": np.concatenate(kept_rows)}
        return {
            "crc": checksums,
            "file_crc": write_arrays(path, arrays),
            "bytes_read": bytes_read,
            "bytes_written": bytes_written + path.stat().st_size,
        }


def require_unaltered(block: NDArray[Any], rows: RowRange, expected: int | None) -> None:
    """Refuse a block that is not what it was when it was first read."""
    if expected is not None and zarr_io.crc(block) != expected:
        msg = f"images must stay as they were when the run began; images {rows.start} to {rows.stop - 1} have changed. Restore them, or start a run in a new folder."
        raise StoreError(msg)


class SampleItem(NamedTuple):
    """A partition and how many rows to draw from each of its blocks."""

    partition: Partition
    n_drawn: list[int]

    @property
    def n_rows(self) -> int:
        """Rows of the partition."""
        return self.partition.n_rows


@dataclass(frozen=True, slots=True)
class DrawTask:
    """Rows drawn from the scores of a partition, left in the order of the blocks."""

    scores: Rows
    seed: int
    folder: Path

    def __call__(self, item: SampleItem) -> dict[str, Any]:
        """Draw from each block with the generator that belongs to it."""
        drawn, n_bytes = [], 0
        for rows, n_drawn in zip(item.partition.blocks, item.n_drawn, strict=True):
            block = self.scores.read(*rows)
            picked = draw_rows(
                len(block), n_drawn, generator(self.seed, "overcluster/sample", rows.start)
            )
            drawn.append(block[picked].astype(np.float32, copy=False))
            n_bytes += block.nbytes
        path = part_path(self.folder, item.partition.index)
        checksum = write_arrays(path, {"rows": np.concatenate(drawn)})
        return {
            "file_crc": checksum,
            "bytes_read": n_bytes,
            "bytes_written": path.stat().st_size,
        }


class ShuffleItem(NamedTuple):
    """A piece of the shuffled sample."""

    start: int
    stop: int

    @property
    def n_rows(self) -> int:
        """Rows of the piece."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class ShuffleTask:
    """A piece of the sample in its shuffled order, gathered from all that was drawn."""

    folder: Path
    offsets: tuple[int, ...]
    seed: int
    sample: Path

    def __call__(self, item: ShuffleItem) -> dict[str, Any]:
        """Gather the rows whose shuffled position lies in the piece."""
        n_sample = self.offsets[-1]
        order = generator(self.seed, "overcluster/shuffle").permutation(n_sample)
        wanted = order[item.start : item.stop]
        source = np.searchsorted(self.offsets, wanted, side="right") - 1
        piece: NDArray[np.float32] | None = None
        n_bytes = 0
        for index in np.unique(source):
            rows = read_arrays(part_path(self.folder, int(index)))["rows"]
            n_bytes += rows.nbytes
            if piece is None:
                piece = np.empty((len(wanted), rows.shape[1]), np.float32)
            here = source == index
            piece[here] = rows[wanted[here] - self.offsets[index]]
        assert piece is not None
        zarr_io.write_rows(self.sample, "sample", item.start, piece)
        return {
            "crc": [zarr_io.crc(piece)],
            "bytes_read": n_bytes,
            "bytes_written": piece.nbytes,
        }


@lru_cache(maxsize=2)
def search(stored: StoredArrays) -> NearestCentroids:
    """Return the search over stored centroids, built once per process."""
    return NearestCentroids.build(stored.load()["centroids"])


@dataclass(frozen=True, slots=True)
class AssignTask:
    """Nearest centroids of every row of a partition, written; the sums that follow from them, left."""

    scores: Rows
    centroids: StoredArrays
    nearest: Path
    folder: Path

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Search once, accumulate everything that rides along."""
        index = search(self.centroids)
        n_centroids = len(self.centroids.load()["centroids"])
        cells: CellSums | None = None
        pairs: list[PairCounts] = []
        checksums, bytes_read, bytes_written = [], 0, 0
        names = ("nearest", "sq_distance")
        with zarr_io.rows_writers(self.nearest, names, partition.start) as writers:
            for rows, read in read_ahead(self.scores, partition.blocks):
                block = read.astype(np.float32, copy=False)
                nearest, sq_distance = index.query(block, k=N_NEAREST)
                writers["nearest"].append(nearest)
                writers["sq_distance"].append(sq_distance)
                checksums.append([zarr_io.crc(nearest), zarr_io.crc(sq_distance)])
                block_cells = cell_sums(block, rows.start, nearest, sq_distance, n_centroids)
                cells = block_cells if cells is None else merge_cell_sums(cells, block_cells)
                pairs.append(count_pairs(nearest, n_centroids))
                bytes_read += block.nbytes
                bytes_written += nearest.nbytes + sq_distance.nbytes
        assert cells is not None
        arrays = {f"cells_{name}": array for name, array in cells.to_arrays().items()}
        merged = merge_pair_counts(*pairs).to_arrays()
        arrays |= {f"pairs_{name}": array for name, array in merged.items()}
        path = part_path(self.folder, partition.index)
        return {
            "crc": checksums,
            "file_crc": write_arrays(path, arrays),
            "bytes_read": bytes_read,
            "bytes_written": bytes_written + path.stat().st_size,
        }


@lru_cache(maxsize=2)
def stored_labels(stored: StoredArrays) -> CentroidLabels:
    """Return the labels of the centroids, read once per process."""
    return CentroidLabels(**stored.load())


class FoundBlock(NamedTuple):
    """The nearest centroids of a block, and what it took to find them."""

    rows: RowRange
    nearest: NDArray[np.int32]
    sq_distance: NDArray[np.float32]
    bytes_read: int


@dataclass(frozen=True, slots=True)
class Labelling:
    """How images get their labels, and where those are written."""

    centroid_labels: StoredArrays
    noise: Literal["keep", "resolve"]
    max_outlier_score: float | None
    target: Path
    paths: Path | None

    def label(self, block: FoundBlock) -> dict[str, NDArray[Any]]:
        """Return the labels of a block, by the names they are stored under."""
        labels: RowLabels = label_rows(
            block.nearest,
            block.sq_distance,
            stored_labels(self.centroid_labels),
            noise=self.noise,
            max_outlier_score=self.max_outlier_score,
        )
        return {name: getattr(labels, name) for name in schema.LABELS}

    def write(self, blocks: Iterable[FoundBlock], partition: Partition) -> dict[str, Any]:
        """Label the blocks of a partition, write them, copy the file names along; return the report."""
        checksums, counts, bytes_read, bytes_written = [], [], 0, 0
        names = [*schema.LABELS, *([] if self.paths is None else ["path"])]
        with zarr_io.rows_writers(self.target, names, partition.start) as writers:
            for block in blocks:
                arrays = self.label(block)
                for name, array in arrays.items():
                    writers[name].append(array)
                if self.paths is not None:
                    writers["path"].append(zarr_io.read_rows(self.paths, "path", *block.rows))
                checksums.append([zarr_io.crc(array) for array in arrays.values()])
                counts.append(count_labels(arrays["label"]))
                bytes_read += block.bytes_read
                bytes_written += sum(array.nbytes for array in arrays.values())
        return {
            "crc": checksums,
            **sum_counts(counts).report(),
            "bytes_read": bytes_read,
            "bytes_written": bytes_written,
        }


@dataclass(frozen=True, slots=True)
class LabelsTask:
    """Labels of the rows of a partition, from the nearest centroids that were stored."""

    nearest: Path
    labelling: Labelling

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Carry the labels of centroids to rows."""
        return self.labelling.write(map(self._read, partition.blocks), partition)

    def _read(self, rows: RowRange) -> FoundBlock:
        """Return what was found of a block."""
        nearest = zarr_io.read_rows(self.nearest, "nearest", *rows)
        sq_distance = zarr_io.read_rows(self.nearest, "sq_distance", *rows)
        return FoundBlock(rows, nearest, sq_distance, nearest.nbytes + sq_distance.nbytes)


@dataclass(frozen=True, slots=True)
class PredictTask:
    """Labels of new images: the projection, the search and the labelling of a run, in one go."""

    images: Rows
    basis: Basis
    dtype: str
    centroids: StoredArrays
    labelling: Labelling

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Read each block once and write its labels."""
        return self.labelling.write(self._found(partition), partition)

    def _found(self, partition: Partition) -> Iterator[FoundBlock]:
        """Yield what is found of each block."""
        index = search(self.centroids)
        for rows, block in read_ahead(self.images, partition.blocks):
            # Rounded as the run's scores were stored, so that equal images get equal labels.
            scores = self.basis.project(block, rows.start, self.dtype)
            scores = scores.astype(np.float32, copy=False)
            yield FoundBlock(rows, *index.query(scores, k=N_NEAREST), block.nbytes)
