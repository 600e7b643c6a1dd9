"""A shard that is being written: chunk by chunk, as its rows come."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
from numcodecs.zstd import compress  # type: ignore[import-untyped]

from workflow.runstore.shard_format import CRC_BYTES, LEFT_OUT, bytes_of, crc_bytes
from workflow.runstore.shards import sync_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.runstore.shards import ShardLayout


class ShardWriter:
    """The file of a shard, under another name until it is whole.

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
    """

    def __init__(self, layout: ShardLayout, index: int, *, sync: bool) -> None:
        self.layout, self.sync = layout, sync
        self.n_missing = min(layout.shard_rows, layout.shape[0] - index * layout.shard_rows)
        self._places = np.full((layout.chunks_per_shard, 2), LEFT_OUT, "<u8")
        self._number = self._offset = 0
        self._rest = np.empty((0, *layout.shape[1:]), layout.dtype)
        self.path = layout.file(index)
        self._temporary = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex}.partial")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._temporary.open("wb")

    def append(self, rows: NDArray[Any]) -> None:
        """Write the next rows, of which there are at most `n_missing`; with the last the file has its name."""
        self.n_missing -= len(rows)
        if len(self._rest):
            rows = np.concatenate([self._rest, rows])
        chunk_rows = self.layout.chunk_rows
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
        if len(self._rest):
            chunk = np.full(
                (self.layout.chunk_rows, *self.layout.shape[1:]),
                self.layout.fill_value,
                self.layout.dtype,
            )
            chunk[: len(self._rest)] = self._rest
            self._write_chunk(chunk)
        self._write_checked(bytes_of(self._places))
        self._file.close()
        self._temporary.replace(self.path)
        if self.sync:
            # Once it has its name, so that the disk has that too.
            sync_file(self.path)

    def _write_chunk(self, rows: NDArray[Any]) -> None:
        """Write a chunk: the rows as they lie in memory, if they are stored so."""
        chunk, zstd = bytes_of(rows), self.layout.zstd
        if zstd is not None:
            chunk = np.frombuffer(compress(chunk, zstd.level, zstd.checksum), np.uint8)
        self._write_checked(chunk)
        self._places[self._number] = self._offset, len(chunk) + CRC_BYTES
        self._number += 1
        self._offset += len(chunk) + CRC_BYTES

    def _write_checked(self, content: NDArray[np.uint8]) -> None:
        """Write bytes and their checksum."""
        self._file.write(content.data)
        self._file.write(crc_bytes(content))
