"""Shards of whole rows, moved between disk and arrays without a copy: the bytes that zarr would write and read.

A shard is its chunks, one after the other, then an index: offset and bytes of each chunk, all ones
for one left out.  A crc32c follows each chunk and the index.  Zarr itself copies every byte several
times and must hold a whole shard to write one (decision 0010).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numcodecs.zstd import compress, decompress  # type: ignore[import-untyped]
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "DamagedShardError",
    "ShardLayout",
    "ShardWriter",
    "shard_path",
    "sync_file",
]

#: Bytes of a checksum.
CRC_BYTES = 4
#: Offset and bytes that the index holds for a chunk of nothing but fill values, which was left out.
LEFT_OUT = 2**64 - 1
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
class _Cursor:
    """Where the last read of this process ended, and the file that goes on there."""

    stop: int = -1
    shard: _ShardReader | None = None


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
    """

    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    shard_rows: int
    chunk_rows: int
    zstd: ZstdCodec | None
    fill_value: Any
    metadata: Any
    _cursor: _Cursor = field(default_factory=_Cursor, compare=False)

    @classmethod
    def of(cls, folder: Path, array: Any) -> ShardLayout | None:
        """Return the layout of an array.

        Parameters
        ----------
        folder : Path
            Folder of the array.
        array : zarr.Array
            Its handle.

        Returns
        -------
        ShardLayout or None
            None where the files are laid out in another way: cut along other
            dimensions, without a crc32c, or with other codecs.
        """
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
        """Read rows.

        Parameters
        ----------
        start, stop : int
            Rows, which the array must have.

        Returns
        -------
        ndarray of shape (stop - start, ...)
            In `dtype`, C-contiguous.

        Raises
        ------
        DamagedShardError
            If a file that holds some of them is missing, or other than it was written.
        """
        block = _empty((stop - start, *self.shape[1:]), self.dtype)
        goes_on, self._cursor.stop = start == self._cursor.stop, stop
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
            self._cursor.shard = shard if in_order and not is_done else None
        return block

    def _opened(self, index: int) -> _ShardReader:
        """Return a shard, that of the last read if it is still the one."""
        path, last = self.file(index), self._cursor.shard
        if last is not None and last.is_at(path):
            return last
        return _ShardReader(path, self.chunks_per_shard)

    def _read(self, shard: _ShardReader, start: int, rows: NDArray[Any]) -> None:
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


class _ShardReader:
    """A shard that is read, with its index; what it reads is held against the checksums."""

    __slots__ = ("_file", "_path", "_places", "_size", "_stamp")

    def __init__(self, path: Path, n_chunks: int) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        found = os.fstat(self._file)
        self._stamp, self._size = _stamp(found), found.st_size
        self._places = self._read_places(n_chunks)

    def __del__(self) -> None:
        # Whichever thread reads last closes it; there is none where it could not be opened.
        with contextlib.suppress(AttributeError):
            os.close(self._file)

    def is_at(self, path: Path) -> bool:
        """Return whether this is the file that a path names, unchanged."""
        return path == self._path and _stamp(path.stat()) == self._stamp

    def read_chunk(self, number: int, chunk: NDArray[Any], zstd: ZstdCodec | None) -> bool:
        """Fill an array with a chunk; return False where the chunk was left out."""
        offset, n_bytes = self._places[number]
        if offset == n_bytes == LEFT_OUT:
            return False
        plain = _bytes_of(chunk)
        n_stored = n_bytes - CRC_BYTES
        # Before so much memory is taken: an index may be anything whose checksum fits.
        if not 0 < n_stored <= self._size - offset:
            msg = f"its index gives a chunk {n_bytes} bytes from {offset} on"
            raise ValueError(msg)
        stored = plain if zstd is None else np.empty(n_stored, np.uint8)
        if len(stored) != n_stored:
            msg = f"a chunk has {n_stored} bytes, not {len(stored)}"
            raise ValueError(msg)
        self._read_checked(offset, stored, "chunk")
        if zstd is not None:
            unpacked = np.frombuffer(decompress(stored), np.uint8)
            if len(unpacked) != len(plain):
                msg = f"a chunk unpacks to {len(unpacked)} bytes, not {len(plain)}"
                raise ValueError(msg)
            plain[:] = unpacked
        return True

    def _read_places(self, n_chunks: int) -> list[list[int]]:
        """Return offset and bytes of each chunk, as the index has them."""
        index = np.empty((n_chunks, 2), "<u8")
        if self._size == 0:
            raise EOFError
        start = self._size - index.nbytes - CRC_BYTES
        if start < 0:
            msg = f"{self._size} bytes are too few"
            raise ValueError(msg)
        self._read_checked(start, _bytes_of(index), "index")
        places: list[list[int]] = index.tolist()
        return places

    def _read_checked(self, offset: int, target: NDArray[np.uint8], what: str) -> None:
        """Fill bytes from the file, and hold them against the checksum that follows them."""
        crc, n_read = bytearray(CRC_BYTES), 0
        # One read gives less than requested past 2 GiB.
        while n_read < len(target) + CRC_BYTES:
            n_new = os.preadv(
                self._file,
                [target[n_read:].data, memoryview(crc)[max(0, n_read - len(target)) :]],
                offset + n_read,
            )
            if n_new == 0:
                break
            n_read += n_new
        if n_read < len(target) + CRC_BYTES or crc != _crc_bytes(target):
            msg = f"the checksum of its {what} differs"
            raise ValueError(msg)


class ShardWriter:
    """A shard that is written chunk by chunk, under another name until it is whole.

    Parameters
    ----------
    layout : ShardLayout
        Of the array.
    index : int
        Which shard.
    sync : bool
        Wait until the disk has it.

    Attributes
    ----------
    n_missing : int
        Rows that it still lacks.

    Raises
    ------
    OSError
        If the disk refuses.
    """

    def __init__(self, layout: ShardLayout, index: int, *, sync: bool) -> None:
        self._layout, self._sync = layout, sync
        self.n_missing = min(layout.shard_rows, layout.shape[0] - index * layout.shard_rows)
        self._places = np.full((layout.chunks_per_shard, 2), LEFT_OUT, "<u8")
        self._number = self._offset = 0
        self._rest = np.empty((0, *layout.shape[1:]), layout.dtype)
        self._path = layout.file(index)
        self._temporary = self._path.with_name(f"{self._path.name}.{uuid.uuid4().hex}.partial")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb")

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows; with the last the file has its name.

        Parameters
        ----------
        rows : ndarray of shape (n, ...)
            At most `n_missing` rows, C-contiguous and in the array's type.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        self.n_missing -= len(rows)
        if len(self._rest):
            rows = np.concatenate([self._rest, rows])
        chunk_rows = self._layout.chunk_rows
        n_whole = len(rows) - len(rows) % chunk_rows
        for first in range(0, n_whole, chunk_rows):
            self._write_chunk(rows[first : first + chunk_rows])
        self._rest = rows[n_whole:].copy()
        if self.n_missing == 0:
            self._finish()

    def abandon(self) -> None:
        """Remove what there is of it."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        """Write the last rows and the index; give the file its name."""
        layout = self._layout
        if len(self._rest):
            shape = layout.chunk_rows, *layout.shape[1:]
            chunk = np.full(shape, layout.fill_value, layout.dtype)
            chunk[: len(self._rest)] = self._rest
            self._write_chunk(chunk)
        self._write_checked(_bytes_of(self._places))
        self._file.close()
        self._temporary.replace(self._path)
        if self._sync:
            # Once it has its name, so that the disk has that too.
            sync_file(self._path)

    def _write_chunk(self, rows: NDArray[Any]) -> None:
        """Write a chunk: the rows as they lie in memory, if they are stored so."""
        chunk, zstd = _bytes_of(rows), self._layout.zstd
        if zstd is not None:
            chunk = np.frombuffer(compress(chunk, zstd.level, zstd.checksum), np.uint8)
        self._write_checked(chunk)
        self._places[self._number] = self._offset, len(chunk) + CRC_BYTES
        self._number += 1
        self._offset += len(chunk) + CRC_BYTES

    def _write_checked(self, content: NDArray[np.uint8]) -> None:
        """Write bytes and their checksum."""
        self._file.write(content.data)
        self._file.write(_crc_bytes(content))


def shard_path(folder: Path, metadata: Any, index: int) -> Path:
    """Return the file of a shard of an array that is cut along its rows only."""
    key = metadata.encode_chunk_key((index, *([0] * (len(metadata.shape) - 1))))
    return folder / str(key)


def sync_file(path: Path) -> None:
    """Wait until the disk has a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a C-contiguous array where they lie."""
    return array.reshape(-1).view(np.uint8)


def _crc_bytes(content: NDArray[np.uint8]) -> bytes:
    """Return the crc32c of bytes as Zarr stores it."""
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array to fill, on huge pages where it comes near their size: half the time to fill it."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if not HUGE_BYTES // 2 < n_bytes < HUGE_BYTES:
        return np.empty(shape, dtype)
    return np.empty(HUGE_BYTES, np.uint8)[:n_bytes].view(dtype).reshape(shape)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_checked(codecs: Any, byteorder: str) -> bool:
    """Return whether values are stored as they are, in a byte order, with a crc32c behind them."""
    if [type(codec) for codec in codecs] != [BytesCodec, Crc32cCodec]:
        return False
    endian = codecs[0].endian
    return endian is None or _word(endian) == byteorder


def _word(choice: Any) -> str:
    """Return the option of a codec as a word; older versions of zarr keep it in an enumeration."""
    return str(getattr(choice, "value", choice))
