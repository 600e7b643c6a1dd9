"""Rows at length 1: distances between them follow from the cosine of their angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import NonFiniteError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that are converted together.
TILE_ROWS = 512


def unit_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Divide rows by their lengths.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Rows as uint8, uint16, float16, float32 or float64; there may be none.

    Returns
    -------
    float32 array of shape (n_rows, n_features)
        Rows of Euclidean length 1; rows of zeros, which have no direction, as
        they are.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite; names the first, with its row counted
        from the first of `rows`.

    Notes
    -----
    The squared distance of two rows of the result is 2 - 2 cos of the angle
    between them.  Lengths are taken in float64, of a row divided by its
    largest value, so no square overflows or vanishes; a row has the same bits
    whatever comes with it.  Memory beside the result is O(512 * n_features).

    Examples
    --------
    >>> unit_rows(np.array([[3, 4], [0, 0]], np.uint8)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    found = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), TILE_ROWS):
        part = rows[start : start + TILE_ROWS].astype(np.float64)
        largest = np.abs(part).max(axis=1, initial=0.0)
        if not np.isfinite(largest).all():
            raise _first_non_finite(part, start)
        part /= _or_one(largest)[:, None]
        length = np.sqrt(np.einsum("ij,ij->i", part, part))
        part /= _or_one(length)[:, None]
        found[start : start + TILE_ROWS] = part
    return found


def _or_one(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return lengths, with 1 for 0."""
    return np.where(lengths > 0, lengths, 1.0)


def _first_non_finite(rows: NDArray[np.float64], first_row: int) -> NonFiniteError:
    """Return the error for the first value that is NaN or infinite."""
    row, feature = map(int, np.argwhere(~np.isfinite(rows))[0])
    return NonFiniteError(first_row + row, feature, float(rows[row, feature]))


__all__ = ["TILE_ROWS", "unit_rows"]
