"""Rows of our arrays, read where they lie; any rows as a lazy Dask array."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.runstore.zarr_read import open_array, read_rows

if TYPE_CHECKING:
    import dask.array as da
    from numpy.typing import NDArray

    from workflow.mapper import Rows

__all__ = ["StoredRows", "rows_as_dask"]


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one of our arrays, read where they lie; implements `workflow.mapper.Rows`.

    Attributes
    ----------
    path : Path
        Group.
    name : str
        Name of the array.
    shape : tuple of int
        (n_samples, ...).
    dtype : numpy.dtype
        Type of the values in native byte order.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path | str, name: str) -> StoredRows:
        """Open an array of a group.

        Parameters
        ----------
        path, name : path-like, str
            Group and array.

        Returns
        -------
        StoredRows
            Its rows.

        Raises
        ------
        StoreError
            If there is no such array.
        """
        array = open_array(Path(path) / name).array
        return cls(Path(path), name, tuple(array.shape), np.dtype(array.dtype).newbyteorder("="))

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def n_features(self) -> int:
        """Numbers in a row."""
        return math.prod(self.shape[1:])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows.

        Parameters
        ----------
        start, stop : int
            Rows, not negative.

        Returns
        -------
        ndarray of shape (stop - start, n_features)
            In `dtype`, C-contiguous.

        Raises
        ------
        StoreError
            As of `read_block`.
        """
        return read_rows(self.path, self.name, start, stop).reshape(stop - start, self.n_features)


class _Sliceable:
    """Shape, dtype and slices of rows, which is all that Dask needs."""

    ndim = 2

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self.shape = rows.n_samples, rows.n_features
        self.dtype = rows.dtype

    def __getitem__(self, index: tuple[Any, Any]) -> NDArray[Any]:
        """Read the rows of a slice; columns and steps are taken from what was read."""
        rows, columns = index
        if not isinstance(rows, slice):
            row = operator.index(rows)
            part: NDArray[Any] = self.rows.read(row, row + 1)[0, columns]
            return part
        span = range(*rows.indices(self.shape[0]))
        if not span:
            return np.empty((0, self.shape[1]), self.dtype)[:, columns]
        first, last = min(span[0], span[-1]), max(span[0], span[-1])
        block = self.rows.read(first, last + 1)
        return block[:: span.step][:, columns] if span.step != 1 else block[:, columns]


def rows_as_dask(rows: Rows, block_rows: int) -> da.Array:
    """Return stored rows as a lazy Dask array.

    Parameters
    ----------
    rows : Rows
        Rows that pickle small, such as `StoredRows` or an `ImageStore`.
    block_rows : int
        Rows of a block.

    Returns
    -------
    dask.array.Array of shape (n_samples, n_features)
        Blocks along the rows only; its graph holds the place, no values.
    """
    import dask.array as da

    array: da.Array = da.from_array(
        _Sliceable(rows),
        chunks=(block_rows, rows.n_features),
        name=False,
        asarray=False,
        fancy=False,
        inline_array=True,
        meta=np.empty((0, 0), rows.dtype),
    )
    return array
