"""Inner products of row blocks, NumPy only; input is checked by the callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.errors import ImagesError, NonFiniteError
from workflow.pca._byte_kernels import byte_sums, has_byte_products

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of a panel.  Measured at 768 features: 4,096 rows are 1.7 times as fast as 1,024.
MAX_PANEL_ROWS, MIN_PANEL_ROWS = 4096, 256
#: A panel that was converted to floating point stays below this, wide rows apart.
PANEL_BYTES = 32 * 2**20
#: Rows that are added to a low-rank factor, or projected, at a time.
FACTOR_ROWS = 256
#: Sums of integers below these are exact in floating point whatever their order.
EXACT_LIMIT = {np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}
INT64_LIMIT = 2**63


class Factor(NamedTuple):
    """Singular values (n_known,), falling, and directions (n_known, n_features), float64."""

    singular_values: NDArray[np.float64]
    components: NDArray[np.float64]


def panel_rows(n_features: int, itemsize: int) -> int:
    """Return the rows of a panel: a power of two that depends on the row's bytes alone."""
    fitting = max(1, PANEL_BYTES // (n_features * itemsize))
    return min(max(1 << (fitting.bit_length() - 1), MIN_PANEL_ROWS), MAX_PANEL_ROWS)


def require_below_int64(bound: int, n_samples: int) -> None:
    """Refuse a sum of squares that int64 cannot hold."""
    if bound >= INT64_LIMIT:
        msg = f"sums of squared pixel values must stay below 2**63; got up to {bound} from {n_samples} images. Convert the images to uint8 or float32."
        raise ImagesError(msg)


def integer_sums(
    rows: NDArray[Any], shift: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum shifted rows and their outer products, exactly.

    Bytes are multiplied as bytes where the processor can; what that gives are
    the same integers, and four times as fast.
    """
    n_samples = len(rows)
    largest = max(int(shift.max()), int(np.iinfo(rows.dtype).max) - int(shift.min()))
    require_below_int64(n_samples * largest**2, n_samples)
    if rows.dtype == np.uint8 and has_byte_products():
        return byte_sums(rows, shift)
    return panel_sums(rows, shift, largest)


def panel_sums(
    rows: NDArray[Any], shift: NDArray[np.int64], largest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum shifted rows, none above `largest` in size, and their outer products, by BLAS.

    Panels are multiplied in float32 where every shifted value is below 256 in
    size, else in float64.  Sums of integers are exact in either, in any order,
    as long as they stay below 2**24 or 2**53; see `_add_exact`.
    """
    n_samples, n_features = rows.shape
    dtype = np.dtype(np.float32 if largest <= 255 else np.float64)
    size = panel_rows(n_features, dtype.itemsize)
    offset = shift.astype(dtype)
    total = np.zeros(n_features, np.int64)
    second = np.zeros((n_features, n_features), np.int64)
    buffer = np.empty((min(size, n_samples), n_features), dtype)
    for start in range(0, n_samples, size):
        piece = rows[start : start + size]
        panel = buffer[: len(piece)]
        np.subtract(piece, offset, out=panel, dtype=dtype)
        # Below 4,096 * 255 in float32 and 4,096 * 65,535 in float64: exact.
        total += (np.ones(len(panel), dtype) @ panel).astype(np.int64)
        _add_exact(panel, EXACT_LIMIT[dtype], second)
    return total, second


def _add_exact(panel: NDArray[Any], limit: int, second: NDArray[np.int64]) -> None:
    """Add the outer products of the rows of a panel of whole numbers to `second`.

    No entry of the product, nor any part of its sum, exceeds the largest sum
    of squares (Cauchy and Schwarz).  If that is strictly below `limit`, all of
    it is exact; equality is not enough, for a float32 sum stops growing at
    2**24.  The sums of squares themselves never round to below the limit, for
    their terms are positive and rounding is monotone.  A panel that fails is
    halved; the callers see to it that a single row passes.
    """
    squares = np.einsum("ij,ij->j", panel, panel)
    if squares.max(initial=0) < limit:
        second += (panel.T @ panel).astype(np.int64)
        return
    half = len(panel) // 2
    _add_exact(panel[:half], limit, second)
    _add_exact(panel[half:], limit, second)


def float_mean(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of at least one row, in float64; refuse NaN and infinity.

    Sums are of differences from the first row: equal rows have exactly that
    row as their mean, and a large common value costs no digits.
    """
    n_samples, n_features = rows.shape
    size = panel_rows(n_features, 8)
    total = np.zeros(n_features)
    buffer = np.empty((min(size, n_samples), n_features))
    pivot = rows[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n_samples, size):
            piece = rows[start : start + size]
            panel = buffer[: len(piece)]
            np.subtract(piece, pivot, out=panel, dtype=np.float64)
            sums = panel.sum(axis=0)
            # NaN and infinity survive any sum, so whole panels are cleared by one row.
            if not np.isfinite(sums).all():
                _refuse_non_finite(rows, start)
            total += sums
        mean: NDArray[np.float64] = pivot + total / n_samples
    require_finite_sums(mean)
    return mean


def _refuse_non_finite(rows: NDArray[Any], start: int) -> None:
    """Raise for the first value from row `start` on that is not finite, or for sums too large."""
    # The pivot may be at fault, and then every panel fails: searched from the top.
    first = 0 if not np.isfinite(rows[0]).all() else start
    size = panel_rows(rows.shape[1], 8)
    for begin in range(first, len(rows), size):
        finite = np.isfinite(rows[begin : begin + size])
        bad_rows = ~finite.all(axis=1)
        if bad_rows.any():
            row = int(bad_rows.argmax())
            feature = int(finite[row].argmin())
            raise NonFiniteError(begin + row, feature, float(rows[begin + row, feature]))
    require_finite_sums(np.array([np.inf]))


def require_finite_sums(sums: NDArray[np.float64]) -> None:
    """Refuse sums that left the range of float64."""
    if not np.isfinite(sums).all():
        msg = "images must hold values whose sums of squares stay in the range of float64; got finite values that are too large. Scale the images, for instance to 0 to 1."
        raise ImagesError(msg)


def float_sums(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and scatter of at least one row, in two passes over the block.

    The second pass also sums the deviations, which ought to be zero, and takes
    out what they are: the corrected two-pass algorithm.
    """
    n_samples, n_features = rows.shape
    mean = float_mean(rows)
    size = panel_rows(n_features, 8)
    drift = np.zeros(n_features)
    scatter = np.zeros((n_features, n_features))
    buffer = np.empty((min(size, n_samples), n_features))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, n_samples, size):
            piece = rows[start : start + size]
            panel = buffer[: len(piece)]
            np.subtract(piece, mean, out=panel, dtype=np.float64)
            drift += panel.sum(axis=0)
            scatter += panel.T @ panel
        scatter -= np.outer(drift, drift / n_samples)
    require_finite_sums(scatter)
    return mean + drift / n_samples, scatter


def low_rank_sums(rows: NDArray[Any], rank: int) -> tuple[NDArray[np.float64], Factor, float]:
    """Return mean, factor of the centred rows and sum of all squares, of at least one row."""
    n_samples, n_features = rows.shape
    mean = float_mean(rows)
    factor = Factor(np.empty(0), np.empty((0, n_features)))
    total_scatter = 0.0
    for start in range(0, n_samples, FACTOR_ROWS):
        with np.errstate(over="ignore", invalid="ignore"):
            centred = np.subtract(rows[start : start + FACTOR_ROWS], mean, dtype=np.float64)
            total_scatter += float(np.einsum("ij,ij->", centred, centred))
        require_finite_sums(np.array([total_scatter]))
        factor = compress([scaled(factor), centred], rank)
    return mean, factor, total_scatter


def scaled(factor: Factor) -> NDArray[np.float64]:
    """Return rows of shape (n_known, n_features) whose scatter is the factor's."""
    return factor.singular_values[:, None] * factor.components


def compress(pieces: list[NDArray[np.float64]], rank: int) -> Factor:
    """Return the `rank` largest singular values and directions of stacked rows.

    By the Gram matrix of the rows, which is small beside the rows themselves;
    its squares lose what is below about 1e-8 of the largest singular value,
    where nothing is left but noise.
    """
    stack = np.concatenate(pieces)
    if not len(stack):
        return Factor(np.empty(0), stack)
    values, vectors = np.linalg.eigh(stack @ stack.T)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    kept = values > len(stack) * np.finfo(np.float64).eps * values[0]
    directions = vectors[:, kept].T @ stack
    # The lengths are measured, not taken as roots, so that directions have length one.
    singular_values = np.sqrt(np.einsum("ij,ij->i", directions, directions))
    order = np.argsort(-singular_values, kind="stable")
    singular_values = singular_values[order]
    return Factor(singular_values, directions[order] / singular_values[:, None])


def centred_product(
    rows: NDArray[Any], mean: NDArray[np.float64], basis: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return ``(rows - mean) @ basis`` in float64, each row alike whatever comes with it."""
    n_samples, n_features = rows.shape
    product = np.empty((n_samples, basis.shape[1]))
    # A product's bits change with its shape: the last panel is filled up with zeros.
    panel = np.zeros((FACTOR_ROWS, n_features))
    for start in range(0, n_samples, FACTOR_ROWS):
        piece = rows[start : start + FACTOR_ROWS]
        np.subtract(piece, mean, out=panel[: len(piece)], dtype=np.float64)
        panel[len(piece) :] = 0.0
        product[start : start + FACTOR_ROWS] = (panel @ basis)[: len(piece)]
    return product
