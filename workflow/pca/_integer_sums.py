"""Sums and outer products of rows of integers, exactly: by BLAS, or by an instruction for small numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ImagesError
from workflow.pca import _byte_products
from workflow.pca._float_sums import shifted_parts

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

#: Sums of integers below these are exact in floating point whatever their order.
EXACT_LIMIT = {np.dtype(np.float32): 2**24, np.dtype(np.float64): 2**53}
INT64_LIMIT = 2**63


def product_kernel(dtype: DTypeLike) -> str:
    """Return what multiplies rows of a type on this processor.

    Parameters
    ----------
    dtype : dtype
        Type of the rows.

    Returns
    -------
    str
        Type of the factors and the instructions, such as "bytes, AVX-512 VNNI", or
        "BLAS".  The sums of integers are the same with each.
    """
    is_bytes = np.dtype(dtype) == np.uint8
    instruction = _byte_products.INSTRUCTION
    return instruction.words if is_bytes and instruction is not None else "BLAS"


def require_below_int64(bound: int, n_samples: int) -> None:
    """Refuse a sum of squares that int64 cannot hold."""
    if bound >= INT64_LIMIT:
        msg = f"sums of squared pixel values must stay below 2**63; got up to {bound} from {n_samples} images. Convert the images to uint8 or float32."
        raise ImagesError(msg)


def integer_sums(
    rows: NDArray[Any], shift: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum shifted rows and their outer products, exactly.

    Bytes are multiplied as bytes, or as numbers of 16 bits, where the processor can; what that gives are
    the same integers, and faster.
    """
    n_samples = len(rows)
    largest = max(int(shift.max()), int(np.iinfo(rows.dtype).max) - int(shift.min()))
    require_below_int64(n_samples * largest**2, n_samples)
    if rows.dtype == np.uint8 and _byte_products.INSTRUCTION is not None:
        return _byte_products.byte_sums(rows, shift)
    return product_sums(rows, shift, largest)


def product_sums(
    rows: NDArray[Any], shift: NDArray[np.int64], largest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum shifted rows, none above `largest` in size, and their outer products, by BLAS.

    Rows are multiplied in float32 where every shifted value is below 256 in
    size, else in float64.  Sums of integers are exact in either, in any order,
    as long as they stay below 2**24 or 2**53; see `_add_exact`.
    """
    n_features = rows.shape[1]
    dtype = np.dtype(np.float32 if largest <= 255 else np.float64)
    total = np.zeros(n_features, np.int64)
    second = np.zeros((n_features, n_features), np.int64)
    for part in shifted_parts(rows, shift.astype(dtype)):
        # Below 4,096 * 255 in float32 and 4,096 * 65,535 in float64: exact.
        total += (np.ones(len(part), dtype) @ part).astype(np.int64)
        _add_exact(part, EXACT_LIMIT[dtype], second)
    return total, second


def _add_exact(part: NDArray[Any], limit: int, second: NDArray[np.int64]) -> None:
    """Add the outer products of rows of whole numbers to `second`.

    No entry of the product, nor any part of its sum, exceeds the largest sum
    of squares (Cauchy and Schwarz).  If that is strictly below `limit`, all of
    it is exact; equality is not enough, for a float32 sum stops growing at
    2**24.  The sums of squares themselves never round to below the limit, for
    their terms are positive and rounding is monotone.  Rows that fail are
    halved; the callers see to it that a single row passes.
    """
    squares = np.einsum("ij,ij->j", part, part)
    if squares.max(initial=0) < limit:
        second += (part.T @ part).astype(np.int64)
        return
    half = len(part) // 2
    _add_exact(part[:half], limit, second)
    _add_exact(part[half:], limit, second)
