"""Write rows of arrays of our own, in whole shards, as tasks have them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workflow.errors import StoreError
from workflow.runstore.shards import ShardWriter, shard_path, sync_file
from workflow.runstore.zarr_read import open_array
from workflow.runstore.zarr_write import open_writable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["RowsWriter", "rows_writers", "shard_file", "write_rows"]


def write_rows(
    path: Path | str, name: str, start: int, block: NDArray[Any], *, sync: bool = False
) -> None:
    """Write whole shards of an array.

    Parameters
    ----------
    path, name : path-like, str
        Group and array.
    start : int
        First row; where a shard begins.
    block : ndarray of shape (n, ...)
        Rows up to the end of a shard or of the array, in the array's type.
    sync : bool
        Wait until the disk has them.

    Raises
    ------
    ValueError
        If the rows are not whole shards, or of another shape or type: two
        tasks would write one file, and one of them would lose its rows.
    StoreError
        If there is no such array, or the disk refuses.
    """
    with RowsWriter(path, name, start, sync=sync) as writer:
        writer.append(block)


@contextlib.contextmanager
def rows_writers(
    path: Path | str, names: Iterable[str], start: int
) -> Iterator[dict[str, RowsWriter]]:
    """Open a `RowsWriter` for each of some arrays of a group.

    Parameters
    ----------
    path : path-like
        Group.
    names : iterable of str
        Arrays.
    start : int
        First row; where a shard of each begins.

    Yields
    ------
    dict of str to RowsWriter
        The writer of each array.

    Raises
    ------
    ValueError, StoreError
        As of `RowsWriter`.
    """
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(RowsWriter(path, name, start)) for name in names}


class RowsWriter:
    """Writes consecutive rows of an array while inside, block by block, in whole shards.

    A shard has its name once all its rows have come; one that is not whole at
    the end is removed.

    Parameters
    ----------
    path, name : path-like, str
        Group and array.
    start : int
        First row; where a shard begins.
    sync : bool
        Wait for the disk whenever a shard is whole.

    Attributes
    ----------
    next_row : int
        The row that comes next.

    Raises
    ------
    ValueError
        If the rows do not begin or end where a shard does, or are of another
        shape or type.
    StoreError
        If there is no such array, or the disk refuses.
    """

    def __init__(self, path: Path | str, name: str, start: int, *, sync: bool = False) -> None:
        self.folder = Path(path) / name
        self._array, self._layout, _ = open_array(self.folder)
        self._shard_rows = (self._array.shards or self._array.chunks)[0]
        self.next_row, self._sync = start, sync
        self._shard: ShardWriter | None = None
        self._waiting: list[NDArray[Any]] = []
        if start % self._shard_rows:
            raise self._not_whole(start, start)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        unfinished = self._shard is not None or bool(self._waiting)
        if self._shard is not None:
            self._shard.abandon()
        if unfinished and kind is None:
            raise self._not_whole(self.next_row - self.next_row % self._shard_rows, self.next_row)

    def append(self, block: NDArray[Any]) -> None:
        """Write the next rows.

        Parameters
        ----------
        block : ndarray of shape (n, ...)
            The rows, in the array's type.

        Raises
        ------
        ValueError
            If the rows are of another shape or type, or past the array's end.
        StoreError
            If the disk refuses.
        """
        self._check(block)
        first, stop = self.next_row, self.next_row + len(block)
        rows = np.ascontiguousarray(block) if self._layout is not None else block
        try:
            while self.next_row < stop:
                end = min(stop, self.next_row - self.next_row % self._shard_rows + self._shard_rows)
                self._append_to_shard(rows[self.next_row - first : end - first], end)
                self.next_row = end
        except OSError as err:
            msg = f"{self.folder} must take rows {first} to {stop - 1}; the disk refused ({err.strerror or err}). Make room or give another place, then run the same command again."
            raise StoreError(msg) from err

    def _append_to_shard(self, rows: NDArray[Any], end: int) -> None:
        """Write rows of one shard, which end before row `end`."""
        if self._layout is None:
            # Zarr writes a shard in one go.
            self._waiting.append(rows)
            if end % self._shard_rows == 0 or end == self._array.shape[0]:
                whole = np.concatenate(self._waiting)
                _write_by_zarr(self.folder, end - len(whole), whole, sync=self._sync)
                self._waiting = []
            return
        if self._shard is None:
            index = self.next_row // self._shard_rows
            self._shard = ShardWriter(self._layout, index, sync=self._sync)
        self._shard.append(rows)
        if self._shard.n_missing == 0:
            self._shard = None

    def _check(self, block: NDArray[Any]) -> None:
        """Refuse rows that are not the array's."""
        array, text = self._array, self._array.dtype.kind in "OT"
        if block.shape[1:] != array.shape[1:] or (not text and block.dtype != array.dtype):
            msg = f"rows of {self.folder} must have shape {array.shape[1:]} and type {array.dtype}; got {block.shape[1:]} and {block.dtype}."
            raise ValueError(msg)
        if self.next_row + len(block) > array.shape[0]:
            raise self._not_whole(self.next_row, self.next_row + len(block))

    def _not_whole(self, start: int, stop: int) -> ValueError:
        """Return the error for rows that are not whole shards."""
        msg = f"rows must be whole shards of {self._shard_rows} rows of {self._array.shape[0]}; got rows {start} to {stop}."
        return ValueError(msg)


def _write_by_zarr(folder: Path, start: int, rows: NDArray[Any], *, sync: bool) -> None:
    """Write whole shards of a layout that only zarr knows, such as text."""
    array = open_writable(folder)
    stop, shard_rows = start + len(rows), (array.shards or array.chunks)[0]
    files = [_shard_file(folder, first) for first in range(start, stop, shard_rows)]
    for file in files:
        # Zarr reads a shard that is there before it writes one: a damaged one could never be redone.
        file.unlink(missing_ok=True)
    array[start:stop] = rows.astype(array.dtype) if array.dtype.kind in "OT" else rows
    if sync:
        for file in files:
            sync_file(file)


def shard_file(path: Path | str, name: str, start: int) -> Path:
    """Return the file that holds a row.

    Parameters
    ----------
    path, name : path-like, str
        Group and array.
    start : int
        The row.

    Returns
    -------
    Path
        The file of its shard, whether it is there or not.

    Raises
    ------
    StoreError
        If there is no such array.
    """
    return _shard_file(Path(path) / name, start)


def _shard_file(folder: Path, start: int) -> Path:
    """Return the file of the shard of an array that holds row `start`."""
    array = open_array(folder).array
    return shard_path(folder, array.metadata, start // (array.shards or array.chunks)[0])
