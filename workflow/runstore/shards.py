"""Shards of whole rows: the bytes that zarr would write and read, moved between disk and arrays without a copy.

A shard is its chunks, one after the other, then an index: offset and bytes of
each chunk, all ones for one left out.  A crc32c follows each chunk and the
index.  Zarr itself copies every byte several times on its way.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from numcodecs.zstd import decompress  # type: ignore[import-untyped]
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path

    from numpy.typing import NDArray

#: Bytes of a checksum.
CRC_BYTES = 4
#: Bytes of the next file that are asked for at once, and those of a file of several blocks.
ANNOUNCED_BYTES = BEGINNING_BYTES = 1 << 21
#: What the index holds for a chunk that was left out because it has nothing but fill values.
LEFT_OUT = 2**64 - 1


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
    """Where the last read of this process ended."""

    stop: int = -1


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
        block = np.empty((stop - start, *self.shape[1:]), self.dtype)
        goes_on, self.cursor.stop = start == self.cursor.stop, stop
        for index in range(start // self.shard_rows, -(-stop // self.shard_rows)):
            first = index * self.shard_rows
            low, high = max(start, first), min(stop, first + self.shard_rows)
            try:
                with self.file(index).open("rb") as file:
                    places = self._places(file)
                    if high == first + self.shard_rows and (low == first or goes_on):
                        self._announce(index + 1, high - low)
                    self._read(file, places, low - first, block[low - start : high - start])
            except (FileNotFoundError, NotADirectoryError):
                raise DamagedShardError(index, "no file", left_out=-1) from None
            except EOFError:
                raise DamagedShardError(index, "no bytes", left_out=0) from None
            except (OSError, ValueError, RuntimeError) as err:
                raise DamagedShardError(index, str(err)) from None
        return block

    def _announce(self, index: int, n_rows: int) -> None:
        """Let the system fetch the next file while the end of another one is read.

        Within a file it does so by itself, and better: of a large file only
        the beginning is asked for.
        """
        if index * self.shard_rows >= self.shape[0] or not hasattr(os, "posix_fadvise"):
            return
        with contextlib.suppress(OSError), self.file(index).open("rb") as file:
            size = os.fstat(file.fileno()).st_size if n_rows == self.shard_rows else BEGINNING_BYTES
            # Of one request the system fetches no more than it reads ahead by itself.
            for offset in range(0, size, ANNOUNCED_BYTES):
                os.posix_fadvise(file.fileno(), offset, ANNOUNCED_BYTES, os.POSIX_FADV_WILLNEED)

    def _read(
        self, file: BufferedReader, places: list[list[int]], start: int, rows: NDArray[Any]
    ) -> None:
        """Fill rows from those of a file that begin at its row `start`."""
        for number in range(start // self.chunk_rows, -(-(start + len(rows)) // self.chunk_rows)):
            first = number * self.chunk_rows
            low, high = max(start, first), min(start + len(rows), first + self.chunk_rows)
            wanted = rows[low - start : high - start]
            offset, n_bytes = places[number]
            if offset == n_bytes == LEFT_OUT:
                wanted[...] = self.fill_value
            elif len(wanted) == self.chunk_rows:
                self._read_chunk(file, offset, n_bytes, wanted)
            else:
                whole = np.empty((self.chunk_rows, *self.shape[1:]), self.dtype)
                self._read_chunk(file, offset, n_bytes, whole)
                wanted[...] = whole[low - first : high - first]

    def _places(self, file: BufferedReader) -> list[list[int]]:
        """Return offset and bytes of each chunk of a file, as its index has them."""
        n_bytes = 16 * self.chunks_per_shard
        size = os.fstat(file.fileno()).st_size
        end = size - n_bytes - CRC_BYTES
        if size == 0:
            raise EOFError
        if end < 0:
            msg = f"{size} bytes are too few"
            raise ValueError(msg)
        index = np.empty((self.chunks_per_shard, 2), "<u8")
        _read_checked(file, end, bytes_of(index), "index")
        places: list[list[int]] = index.tolist()
        return places

    def _read_chunk(
        self, file: BufferedReader, offset: int, n_bytes: int, chunk: NDArray[Any]
    ) -> None:
        """Fill a chunk from its bytes."""
        plain = bytes_of(chunk)
        n_stored = n_bytes - CRC_BYTES
        # Before so much memory is taken: an index may be anything whose checksum fits.
        if not 0 < n_stored <= os.fstat(file.fileno()).st_size - offset:
            msg = f"its index gives a chunk {n_bytes} bytes from {offset} on"
            raise ValueError(msg)
        stored = plain if self.zstd is None else np.empty(n_stored, np.uint8)
        if len(stored) != n_stored:
            msg = f"a chunk has {n_stored} bytes, not {len(stored)}"
            raise ValueError(msg)
        _read_checked(file, offset, stored, "chunk")
        if self.zstd is not None:
            unpacked = np.frombuffer(decompress(stored), np.uint8)
            if len(unpacked) != len(plain):
                msg = f"a chunk unpacks to {len(unpacked)} bytes, not {len(plain)}"
                raise ValueError(msg)
            plain[:] = unpacked


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


def bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes of a C-contiguous array where they lie."""
    return array.reshape(-1).view(np.uint8)


def crc_bytes(content: NDArray[np.uint8]) -> bytes:
    """Return the crc32c of bytes as Zarr stores it."""
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def _read_checked(file: BufferedReader, offset: int, target: NDArray[np.uint8], what: str) -> None:
    """Fill bytes from a file, and hold them against the checksum that follows them."""
    file.seek(offset)
    # A buffered file reads on where one read gives less than asked, as past 2 GiB.
    n_read = file.readinto(target.data)
    if n_read != len(target) or file.read(CRC_BYTES) != crc_bytes(target):
        msg = f"the checksum of its {what} differs"
        raise ValueError(msg)
