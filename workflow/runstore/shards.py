"""Shards of whole rows: the bytes that zarr would write and read, moved between disk and arrays without a copy.

Zarr itself copies every byte several times on its way.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

from workflow.runstore.shard_reader import ShardReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Bytes of an array from which on NumPy asks for huge pages.
HUGE_BYTES = 1 << 22


class DamagedShardError(ValueError):
    """A shard that is not as it was written.

    Parameters
    ----------
    index : int
        Its position along the rows.
    what : str
        What is wrong with its file.
    left_out : int or None
        -1 where there is no file, 0 where it is empty: Zarr means fill values by either.
    """

    def __init__(self, index: int, what: str, left_out: int | None = None) -> None:
        super().__init__(what)
        self.index = index
        self.left_out = left_out


@dataclass(slots=True)
class Cursor:
    """Where the last read of this process ended, and the file that goes on there."""

    stop: int = -1
    shard: ShardReader | None = None


def shard_path(folder: Path, metadata: Any, index: int) -> Path:
    """Return the file of a shard of an array that is cut along its rows only."""
    key = metadata.encode_chunk_key((index, *([0] * (len(metadata.shape) - 1))))
    return folder / str(key)


@dataclass(frozen=True, slots=True)
class ShardLayout:
    """Where the rows of an array are in its files.

    Attributes
    ----------
    folder : Path
        Folder of the array.
    shape : tuple of int
        Shape of the array.
    dtype : numpy.dtype
        Type of its values, in the byte order of this machine.
    shard_rows, chunk_rows : int
        Rows of a file, and of a chunk in it.
    zstd : ZstdCodec or None
        How chunks are compressed.
    fill_value : number
        Value of chunks that were left out, and of the rest of the last one.
    metadata : object
        Zarr's metadata, which names the files.
    cursor : Cursor
        What tells whether rows are read one after the other.
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shard_rows: int
    chunk_rows: int
    zstd: ZstdCodec | None
    fill_value: Any
    metadata: Any
    cursor: Cursor = field(default_factory=Cursor, compare=False)

    @classmethod
    def of(cls, folder: Path, array: Any) -> ShardLayout | None:
        """Return the layout of a Zarr array; None where its files are laid out in another way."""
        metadata = array.metadata
        if array.metadata.zarr_format != 3 or array.shards is None or 0 in array.shape:
            return None
        (sharding, *others), shape = metadata.codecs, tuple(array.shape)
        if (
            others
            or not isinstance(sharding, ShardingCodec)
            or metadata.storage_transformers
            or array.dtype.kind not in "buifc"
            or not array.dtype.isnative
            or not array.shards[1:] == array.chunks[1:] == shape[1:]
            or _word(sharding.index_location) != "end"
            or not _is_checked(sharding.index_codecs, "little")
        ):
            return None
        zstd = next((c for c in sharding.codecs if isinstance(c, ZstdCodec)), None)
        plain = [codec for codec in sharding.codecs if codec is not zstd]
        order = [type(codec) for codec in sharding.codecs]
        if not _is_checked(plain, sys.byteorder) or order[-1] is not Crc32cCodec:
            return None
        return cls(
            folder,
            shape,
            np.dtype(array.dtype),
            array.shards[0],
            array.chunks[0],
            zstd,
            array.fill_value,
            metadata,
        )

    @property
    def chunks_per_shard(self) -> int:
        """Chunks of a file."""
        return self.shard_rows // self.chunk_rows

    def file(self, index: int) -> Path:
        """Return the file of a shard."""
        return shard_path(self.folder, self.metadata, index)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, which the array must have, of shape (stop - start, ...).

        Raises
        ------
        DamagedShardError
            If a file that holds some of them is missing, or other than it was written.
        """
        block = _room((stop - start, *self.shape[1:]), self.dtype)
        goes_on, self.cursor.stop = start == self.cursor.stop, stop
        for index in range(start // self.shard_rows, -(-stop // self.shard_rows)):
            first = index * self.shard_rows
            low, high = max(start, first), min(stop, first + self.shard_rows)
            in_order = goes_on or low == first
            try:
                shard = self._opened(index)
                self._read(shard, low - first, block[low - start : high - start])
            except (FileNotFoundError, NotADirectoryError):
                raise DamagedShardError(index, "no file", left_out=-1) from None
            except EOFError:
                raise DamagedShardError(index, "no bytes", left_out=0) from None
            except (OSError, ValueError, RuntimeError) as err:
                raise DamagedShardError(index, str(err)) from None
            # Kept where rows are read in order: a file opened anew is not read ahead at once. Not
            # to the end of the process: a file that is open cannot be removed everywhere.
            is_done = high == min(first + self.shard_rows, self.shape[0])
            self.cursor.shard = shard if in_order and not is_done else None
        return block

    def _opened(self, index: int) -> ShardReader:
        """Return a shard, that of the last read if it is still the one."""
        path, last = self.file(index), self.cursor.shard
        if last is not None and last.is_at(path):
            return last
        return ShardReader(path, self.chunks_per_shard)

    def _read(self, shard: ShardReader, start: int, rows: NDArray[Any]) -> None:
        """Fill rows from those of a shard that begin at its row `start`."""
        for number in range(start // self.chunk_rows, -(-(start + len(rows)) // self.chunk_rows)):
            first = number * self.chunk_rows
            low, high = max(start, first), min(start + len(rows), first + self.chunk_rows)
            wanted = rows[low - start : high - start]
            is_whole = len(wanted) == self.chunk_rows
            chunk = wanted if is_whole else np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
            if not shard.read_chunk(number, chunk, self.zstd):
                wanted[...] = self.fill_value
            elif not is_whole:
                wanted[...] = chunk[low - first : high - first]


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array to fill, on huge pages where it comes near their size: half the time to fill it."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if not HUGE_BYTES // 2 < n_bytes < HUGE_BYTES:
        return np.empty(shape, dtype)
    return np.empty(HUGE_BYTES, np.uint8)[:n_bytes].view(dtype).reshape(shape)


def sync_file(path: Path) -> None:
    """Wait until the disk has a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _is_checked(codecs: Any, byteorder: str) -> bool:
    """Return whether values are stored as they are, in a byte order, with a crc32c behind them."""
    if [type(codec) for codec in codecs] != [BytesCodec, Crc32cCodec]:
        return False
    endian = codecs[0].endian
    return endian is None or _word(endian) == byteorder


def _word(choice: Any) -> str:
    """Return what a codec was told: a word, which older versions of zarr keep in an enumeration."""
    return str(getattr(choice, "value", choice))
