"""What is noted of each image while its pixels are at hand: a hash, and of pictures statistics."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.pca import ImageStatistics, image_statistics
from workflow.row_hashes import row_hashes
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.base import is_picture, read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows

#: Bytes of the hash of an image, and of its brightness, contrast and sharpness.
HASH_BYTES, STATISTICS_BYTES = 16, 12
#: The array of the statistics.
STATISTICS = "statistics"


@dataclass(frozen=True, slots=True)
class Note:
    """What is noted of each image while it is read: arrays of a Zarr group, with a row for each.

    Attributes
    ----------
    group : Path
        The group.
    names : tuple of str
        The arrays.
    checksums : str
        What reports call the checksums of the blocks.
    take : callable
        Returns the arrays of the rows of a block; picklable.
    dtype : str
        Type of the arrays.
    tail : tuple of (str, int)
        Names and lengths of their dimensions after the first.
    """

    group: Path
    names: tuple[str, ...]
    checksums: str
    take: Callable[[NDArray[Any]], Sequence[NDArray[Any]]]
    dtype: str
    tail: tuple[tuple[str, int], ...] = ()

    @contextlib.contextmanager
    def opened(self, start: int) -> Iterator[NoteWriter]:
        """Open a writer of the rows from `start` on, the first of a shard."""
        with zarr_io.rows_writers(self.group, self.names, start) as writers:
            yield NoteWriter(self, writers)

    def create(self, partitions: Sequence[Partition]) -> None:
        """Make the empty arrays."""
        discard(self.group)
        for name in self.names:
            zarr_io.create_rows_array(
                self.group,
                name,
                n_rows=partitions[-1].blocks[-1].stop,
                tail_shape=tuple(length for _, length in self.tail),
                dtype=self.dtype,
                shard_rows=partitions[0].n_rows,
                block_rows=partitions[0].blocks[0].n_rows,
                dims=("sample", *(name for name, _ in self.tail)),
                compressor=None,
            )


def notes_of(run: Path, image_shape: Sequence[int]) -> tuple[Note, ...]:
    """Return what a run notes of images of a shape: hashes, and of pictures statistics."""
    halves = ("half", 2)
    hashes = Note(layout.hashes(run), ("hash",), "hash_crc", _hashes, "uint64", (halves,))
    if not is_picture(image_shape):
        return (hashes,)
    columns = ("statistic", len(ImageStatistics._fields))
    take = partial(_statistics, image_shape=tuple(image_shape))
    place = layout.statistics(run)
    return hashes, Note(place, (STATISTICS,), "statistics_crc", take, "float32", (columns,))


def _statistics(block: NDArray[Any], image_shape: Sequence[int]) -> Sequence[NDArray[np.float32]]:
    """Return the statistics of each image, as the only array of a note: a file each would take more time than they."""
    return (np.column_stack(image_statistics(block, image_shape)),)


def _hashes(block: NDArray[Any]) -> Sequence[NDArray[np.uint64]]:
    """Return the hash of each row, as the only array of a note."""
    return (row_hashes(block),)


@dataclass(slots=True)
class NoteWriter:
    """Writes what is noted of consecutive blocks, and keeps their checksums and how many bytes they are."""

    note: Note
    writers: Mapping[str, zarr_io.RowsWriter]
    checksums: list[list[int]] = field(default_factory=list)
    n_bytes: int = 0

    def append(self, block: NDArray[Any]) -> None:
        """Note the rows of a block."""
        arrays = self.note.take(block)
        for name, array in zip(self.note.names, arrays, strict=True):
            self.writers[name].append(array)
            self.n_bytes += array.nbytes
        self.checksums.append([zarr_io.crc(array) for array in arrays])


@dataclass(frozen=True, slots=True)
class NoteTask:
    """Notes the images of a partition, of a run that lacks it."""

    images: Rows
    note: Note

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Read each block once; return the report."""
        with self.note.opened(partition.start) as writer:
            for _, block in read_ahead(self.images, partition.blocks):
                writer.append(block)
        return {self.note.checksums: writer.checksums, "bytes_written": writer.n_bytes}
