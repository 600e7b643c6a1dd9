"""Mean, scatter and largest directions of rows in float64; input is checked by the callers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.errors import NonFiniteError, SpreadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Rows of a product.  Measured at 768 features: 4,096 rows are 1.7 times as fast as 1,024.
MAX_PRODUCT_ROWS, MIN_PRODUCT_ROWS = 4096, 256
#: Rows that were converted to floating point stay below this, wide rows apart.
PRODUCT_BYTES = 32 * 2**20
#: Rows that are added to a low-rank factor, or projected, at a time.
FACTOR_ROWS = 256


class Factor(NamedTuple):
    """Singular values (n_known,), falling, and directions (n_known, n_features), float64."""

    singular_values: NDArray[np.float64]
    components: NDArray[np.float64]


def rows_per_product(n_features: int, itemsize: int) -> int:
    """Return the rows of one product: a power of two that depends on the row's bytes alone."""
    fitting = max(1, PRODUCT_BYTES // (n_features * itemsize))
    return min(max(1 << (fitting.bit_length() - 1), MIN_PRODUCT_ROWS), MAX_PRODUCT_ROWS)


def shifted_parts(rows: NDArray[Any], shift: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield rows less `shift`, of its type, as many as a product takes; the next overwrite them."""
    n_samples, n_features = rows.shape
    size = rows_per_product(n_features, shift.dtype.itemsize)
    buffer = np.empty((min(size, n_samples), n_features), shift.dtype)
    for start in range(0, n_samples, size):
        some = rows[start : start + size]
        yield np.subtract(some, shift, out=buffer[: len(some)], dtype=shift.dtype)


def float_mean(rows: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean of at least one row, in float64; refuse NaN and infinity.

    Sums are of differences from the first row: equal rows have exactly that
    row as their mean, and a large common value costs no digits.
    """
    total = np.zeros(rows.shape[1])
    pivot = rows[0].astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in shifted_parts(rows, pivot):
            sums = part.sum(axis=0)
            # NaN and infinity survive any sum, so many rows are cleared by one.
            if not np.isfinite(sums).all():
                refuse_non_finite(rows)
            total += sums
        mean: NDArray[np.float64] = pivot + total / len(rows)
    require_finite_sums(mean, rows)
    return mean


def refuse_non_finite(rows: NDArray[Any]) -> None:
    """Raise for the first value that is not finite, or else for the largest."""
    size = rows_per_product(rows.shape[1], 8)
    for begin in range(0, len(rows), size):
        finite = np.isfinite(rows[begin : begin + size])
        bad_rows = ~finite.all(axis=1)
        if bad_rows.any():
            row = int(bad_rows.argmax())
            feature = int(finite[row].argmin())
            raise NonFiniteError(begin + row, feature, float(rows[begin + row, feature]))
    row, feature = map(int, np.unravel_index(np.abs(rows).argmax(), rows.shape))
    required = "values whose squares stay in the range of float64"
    raise NonFiniteError(row, feature, float(rows[row, feature]), required)


def require_finite_sums(sums: NDArray[np.float64], rows: NDArray[Any] | None = None) -> None:
    """Refuse sums that left the range of float64; name the value where the rows are at hand."""
    if np.isfinite(sums).all():
        return
    if rows is not None:
        refuse_non_finite(rows)
    msg = "images must hold values whose sums of squares stay in the range of float64; got finite values that are too large. Scale the images, for instance to 0 to 1."
    raise SpreadError(msg)


def float_sums(rows: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and scatter of at least one row, in two passes over the block.

    The second pass also sums the deviations, which ought to be zero, and takes
    out what they are: the corrected two-pass algorithm.
    """
    n_samples, n_features = rows.shape
    mean = float_mean(rows)
    drift = np.zeros(n_features)
    scatter = np.zeros((n_features, n_features))
    with np.errstate(over="ignore", invalid="ignore"):
        for part in shifted_parts(rows, mean):
            drift += part.sum(axis=0)
            scatter += part.T @ part
        scatter -= np.outer(drift, drift / n_samples)
    require_finite_sums(scatter, rows)
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
        require_finite_sums(np.array([total_scatter]), rows)
        factor = compress([scaled(factor), centred], rank)
    return mean, factor, total_scatter


def scaled(factor: Factor) -> NDArray[np.float64]:
    """Return rows of shape (n_known, n_features) whose scatter is the factor's."""
    return factor.singular_values[:, None] * factor.components


def compress(rows: list[NDArray[np.float64]], rank: int) -> Factor:
    """Return the `rank` largest singular values and directions of stacked rows.

    By the Gram matrix of the rows, which is small beside the rows themselves;
    its squares lose what is below about 1e-8 of the largest singular value,
    where nothing is left but noise.
    """
    stack = np.concatenate(rows)
    if not len(stack):
        return Factor(np.empty(0), stack)
    values, vectors = np.linalg.eigh(stack @ stack.T)
    values, vectors = values[::-1][:rank], vectors[:, ::-1][:, :rank]
    is_large = values > len(stack) * np.finfo(np.float64).eps * values[0]
    directions = vectors[:, is_large].T @ stack
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
    # A product's bits change with its shape: the last rows are filled up with zeros.
    part = np.zeros((FACTOR_ROWS, n_features))
    for start in range(0, n_samples, FACTOR_ROWS):
        some = rows[start : start + FACTOR_ROWS]
        np.subtract(some, mean, out=part[: len(some)], dtype=np.float64)
        part[len(some) :] = 0.0
        product[start : start + FACTOR_ROWS] = (part @ basis)[: len(some)]
    return product
