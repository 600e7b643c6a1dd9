"""Stored rows as a lazy Dask array."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.mapper import Rows


class _Sliceable:
    """What Dask needs to see of rows: shape, dtype and slices."""

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
        Rows that pickle small, such as an `ImageStore`.
    block_rows : int
        Rows of a block.

    Returns
    -------
    dask.array.Array of shape (n_samples, n_features)
        Blocks along the rows only; its graph holds the place, no values.
    """
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
