"""Scores of rows on the principal components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ImagesError, NonFiniteError
from workflow.row_products import column_panels, row_products

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

#: Rows that are converted together: they stay in a core's cache.
TILE_ROWS = 512
#: Scores lie within these: float16 holds them, float32 the sum of the squares of their differences.
MAX_SCORE = {"float16": 65504.0, "float32": 1e17}
_ROW_TYPES = ("uint8", "uint16", "float16", "float32", "float64")


def project(
    rows: NDArray[Any],
    mean: NDArray[np.float64],
    components: NDArray[np.float64],
    *,
    whiten_scale: NDArray[np.float64] | None = None,
    dtype: DTypeLike = np.float32,
) -> NDArray[Any]:
    """Project rows on principal components.

    Parameters
    ----------
    rows : ndarray of shape (n_rows, n_features)
        Rows as uint8, uint16, float16, float32 or float64; there may be none.
    mean : float64 array of shape (n_features,)
        Subtracted from every row [input unit].
    components : float64 array of shape (n_components, n_features)
        Directions of length one.
    whiten_scale : float64 array of shape (n_components,), optional
        Variance along each component; scores are divided by its square root,
        and are 0 where it is 0 [input unit squared].
    dtype : {float32, float16}
        Type of the scores.

    Returns
    -------
    ndarray of shape (n_rows, n_components)
        Scores [input unit, or none where whitened].

    Raises
    ------
    NonFiniteError
        If a value of the rows is NaN or infinite, or a score is out of the
        range of `dtype`, for float32 that of its square; names the first, with
        its row counted from the first of `rows`.
    ImagesError
        If the rows are of another dtype.
    ValueError
        If the shapes do not fit together, or `dtype` is another one.

    Notes
    -----
    A row has the same scores, to the last bit, wherever it stands and whatever
    comes with it, on every processor; see `workflow.row_products`.  Integers are centred at the rounded mean, which
    is exact in float32, and the rest of the mean is taken from the scores;
    floating-point rows are centred in float64.  Only products over 256 features
    are rounded as float32, so neither a large mean nor many features cost
    digits.  Memory beside the result is
    O(512 * n_features).

    Examples
    --------
    >>> rows = np.array([[1, 7], [3, 7]], np.uint8)
    >>> project(rows, np.array([2.0, 7.0]), np.array([[1.0, 0.0]])).tolist()
    [[-1.0], [1.0]]
    """
    dtype = np.dtype(dtype)
    _check(rows, mean, components, whiten_scale, dtype)
    scale = np.ones(len(components)) if whiten_scale is None else _inverse_root(whiten_scale)
    # float64 until here, so that the scale rounds no more than the components themselves.
    basis = np.ascontiguousarray((components * scale[:, None]).T)
    return _project(rows, mean, basis, dtype)


def _check(
    rows: NDArray[Any],
    mean: NDArray[Any],
    components: NDArray[Any],
    whiten_scale: NDArray[Any] | None,
    dtype: np.dtype[Any],
) -> None:
    """Refuse shapes and types that do not fit together."""
    if rows.dtype.name not in _ROW_TYPES:
        msg = f"images must be one of {', '.join(_ROW_TYPES)}; got {rows.dtype}. Convert them with `astype`."
        raise ImagesError(msg)
    shapes = (rows.ndim, mean.ndim, components.ndim)
    if shapes != (2, 1, 2) or not rows.shape[1] == len(mean) == components.shape[1]:
        msg = f"`rows`, `mean` and `components` must have the same n_features; got shapes {rows.shape}, {mean.shape} and {components.shape}. Are the images those of the run?"
        raise ValueError(msg)
    if whiten_scale is not None and whiten_scale.shape != components.shape[:1]:
        msg = f"`whiten_scale` must have one variance for each of {len(components)} components; got shape {whiten_scale.shape}. Pass their explained_variance."
        raise ValueError(msg)
    if dtype.name not in ("float32", "float16"):
        msg = f"`dtype` must be float32 or float16; got {dtype}. Convert the scores afterwards."
        raise ValueError(msg)


def _inverse_root(variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one over the square root, and 0 for 0."""
    scale = np.zeros(len(variance))
    varies = variance > 0.0
    scale[varies] = 1.0 / np.sqrt(variance[varies])
    return scale


def _project(
    rows: NDArray[Any],
    mean: NDArray[np.float64],
    basis: NDArray[np.float64],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Project checked rows, some at a time; `basis` has shape (n_features, n_components)."""
    n_rows, n_components = len(rows), basis.shape[1]
    centre: NDArray[Any] = mean
    work: np.dtype[Any] = np.dtype(np.float64)
    if rows.dtype.kind == "u":
        # Whole numbers below 2**24: the difference is exact in float32.
        work = np.dtype(np.float32)
        centre = np.rint(mean).astype(work)
    # Summed one by one: a BLAS product may round otherwise with another number of threads.
    offset = np.einsum("i,ij->j", mean - centre, basis)
    panels = column_panels(basis)
    limit = MAX_SCORE[dtype.name]
    scores = np.empty((n_rows, n_components), dtype)
    tile = np.empty((TILE_ROWS, len(mean)), np.float32)
    products = np.empty((TILE_ROWS, n_components))
    for start in range(0, n_rows, TILE_ROWS):
        part = rows[start : start + TILE_ROWS]
        exact = products[: len(part)]
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(part, centre, out=tile[: len(part)], dtype=work, casting="same_kind")
            row_products(tile[: len(part)], panels, exact)
            exact -= offset
            found = exact.astype(dtype)
        # NaN is not within any limit.
        if not (exact.max(initial=0.0) <= limit and exact.min(initial=0.0) >= -limit):
            _refuse(rows, start, exact, mean, dtype)
        scores[start : start + len(part)] = found
    return scores


def _refuse(
    rows: NDArray[Any],
    start: int,
    exact: NDArray[np.float64],
    mean: NDArray[np.float64],
    dtype: np.dtype[Any],
) -> None:
    """Raise for the first value that is not finite, or else for the first score out of range."""
    some = rows[start : start + TILE_ROWS]
    finite = np.isfinite(some)
    bad_rows = ~finite.all(axis=1)
    if bad_rows.any():
        row = int(bad_rows.argmax())
        feature = int(finite[row].argmin())
        raise NonFiniteError(start + row, feature, float(some[row, feature]))
    limit = MAX_SCORE[dtype.name]
    row = int((~(np.abs(exact) <= limit)).any(axis=1).argmax())
    feature = int(np.abs(some[row] - mean).argmax())
    required = f"values whose scores stay within {limit:.6g} for {dtype.name}"
    raise NonFiniteError(start + row, feature, float(some[row, feature]), required)


__all__ = ["TILE_ROWS", "project"]
