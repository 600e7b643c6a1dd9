"""Reads one shard and holds what it reads against the checksums."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.zstd import decompress  # type: ignore[import-untyped]

from workflow.runstore.shard_format import CRC_BYTES, LEFT_OUT, bytes_of, crc_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from zarr.codecs import ZstdCodec


class ShardReader:
    """A shard that is read, with its index.

    Parameters
    ----------
    path : Path
        Its file.
    n_chunks : int
        Chunks that it has.

    Attributes
    ----------
    size : int
        Bytes of the file.
    places : list of [int, int]
        Offset and bytes of each chunk.

    Raises
    ------
    EOFError
        If the file is empty.
    OSError, ValueError
        If there is none, or its index is not as it was written.
    """

    __slots__ = ("_file", "_stamp", "path", "places", "size")

    def __init__(self, path: Path, n_chunks: int) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY)
        found = os.fstat(self._file)
        self._stamp, self.size = _stamp(found), found.st_size
        self.places = self._read_places(n_chunks)

    def __del__(self) -> None:
        # Whichever thread reads last closes it; there is none where it could not be opened.
        with contextlib.suppress(AttributeError):
            os.close(self._file)

    def is_at(self, path: Path) -> bool:
        """Return whether this is the file that a path names, unchanged."""
        return path == self.path and _stamp(path.stat()) == self._stamp

    def read_chunk(self, number: int, chunk: NDArray[Any], zstd: ZstdCodec | None) -> bool:
        """Fill a chunk from its bytes; return False where it was left out."""
        offset, n_bytes = self.places[number]
        if offset == n_bytes == LEFT_OUT:
            return False
        plain = bytes_of(chunk)
        n_stored = n_bytes - CRC_BYTES
        # Before so much memory is taken: an index may be anything whose checksum fits.
        if not 0 < n_stored <= self.size - offset:
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
        if self.size == 0:
            raise EOFError
        start = self.size - index.nbytes - CRC_BYTES
        if start < 0:
            msg = f"{self.size} bytes are too few"
            raise ValueError(msg)
        self._read_checked(start, bytes_of(index), "index")
        places: list[list[int]] = index.tolist()
        return places

    def _read_checked(self, offset: int, target: NDArray[np.uint8], what: str) -> None:
        """Fill bytes from the file, and hold them against the checksum that follows them."""
        crc, n_read = bytearray(CRC_BYTES), 0
        # One read gives less than asked past 2 GiB.
        while n_read < len(target) + CRC_BYTES:
            n_new = os.preadv(
                self._file,
                [target[n_read:].data, memoryview(crc)[max(0, n_read - len(target)) :]],
                offset + n_read,
            )
            if n_new == 0:
                break
            n_read += n_new
        if n_read < len(target) + CRC_BYTES or crc != crc_bytes(target):
            msg = f"the checksum of its {what} differs"
            raise ValueError(msg)


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is written."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
