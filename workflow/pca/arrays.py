"""Moments of whole NumPy and Dask arrays, block by block."""

from __future__ import annotations

import math
from contextlib import contextmanager
from functools import reduce
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from workflow.chunks import choose_block_rows, row_ranges
from workflow.errors import ImagesError, NonFiniteError
from workflow.pca.moments import (
    DEFAULT_RANK,
    block_moments,
    choose_kind,
    feature_shift,
    merge_moments,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from workflow.pca.states import MomentState

#: States that one task merges: a chain would wait for every block, all at once hold all of them.
FAN_IN = 8


def as_array(X: ArrayLike | da.Array) -> Any:
    """Return a NumPy array, or a Dask array whose blocks hold whole rows.

    Parameters
    ----------
    X : array_like or Dask array of shape (n_samples, ...)
        Rows or images.

    Returns
    -------
    NumPy or Dask array of the same shape
        Dask blocks are joined along all dimensions but the first, lazily.

    Raises
    ------
    ImagesError
        If it has fewer than 2 dimensions, or an unknown size that is not
        the number of samples.
    """
    array = X if isinstance(X, da.Array) else np.asarray(X)
    if array.ndim < 2 or any(math.isnan(size) for size in array.shape[1:]):
        msg = f"`X` must have the sample as its first dimension and known features after it; got shape {array.shape}. Use `X.reshape(len(X), -1)`."
        raise ImagesError(msg)
    if isinstance(array, da.Array) and max(array.numblocks[1:]) > 1:
        return array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    return array


def flat(rows: NDArray[Any]) -> NDArray[Any]:
    """Return images as rows of shape (n_samples, n_features), a view where that can be."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:]))


def flat_blocks(X: da.Array) -> da.Array:
    """Return images in blocks of whole ones as rows, lazily; their number may be unknown."""
    if X.ndim == 2:
        return X
    chunks = (X.chunks[0], (math.prod(X.shape[1:]),))
    rows: da.Array = da.map_blocks(
        flat,
        X,
        dtype=X.dtype,
        chunks=chunks,
        drop_axis=list(range(2, X.ndim)),
        meta=np.empty((0, 0), X.dtype),
    )
    return rows


def first_rows(X: da.Array) -> list[int | None]:
    """Return the number of the first row of each block; None where sizes are unknown."""
    sizes = X.chunks[0]
    if any(math.isnan(size) for size in sizes):
        return [None] * len(sizes)
    return [int(start) for start in np.cumsum((0, *sizes[:-1]))]


@contextmanager
def rows_counted_from(first_row: int | None) -> Iterator[None]:
    """Let errors count rows from the start of all blocks."""
    try:
        yield
    except NonFiniteError as err:
        if first_row is None:
            err.add_note("Rows are counted from the start of their block: the sizes are unknown.")
            raise
        raise err.moved(first_row) from None


def _numbered_moments(
    rows: NDArray[Any], first_row: int | None, kind: str, shift: NDArray[Any], rank: int
) -> MomentState:
    """Take the moments of a block."""
    with rows_counted_from(first_row):
        return block_moments(flat(rows), kind=kind, shift=shift, rank=rank)


def array_moments(X: NDArray[Any], *, shift: NDArray[Any] | None, rank: int) -> MomentState:
    """Take the moments of an array in memory, block by block.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
        Rows or images.
    shift : int64 array of shape (n_features,) or None
        Shift of moments that these will be merged into; that of the first
        block otherwise.
    rank : int
        Maximum number of directions of wide rows.

    Returns
    -------
    IntegerMoments, FloatMoments or LowRankMoments
        Merged eight at a time, in the order of the blocks.

    Raises
    ------
    NonFiniteError
        If a value is NaN or infinite.
    ImagesError
        If the dtype is not that of images, or sums overflow.
    """
    X = flat(X)
    kind = choose_kind(X.dtype, X.shape[1])
    blocks = row_ranges(len(X), choose_block_rows(X.shape[1])) or row_ranges(1, 1)
    if shift is None:
        shift = feature_shift(X[: blocks[0].stop])
    states = [_numbered_moments(X[a:b], a, kind, shift, rank) for a, b in blocks]
    while len(states) > 1:
        states = [_merge_all(states[i : i + FAN_IN]) for i in range(0, len(states), FAN_IN)]
    return states[0]


def _merge_all(states: Sequence[MomentState]) -> MomentState:
    """Merge moments from left to right."""
    return reduce(merge_moments, states)


def delayed_moments(
    X: da.Array, *, shift: NDArray[np.int64] | None = None, rank: int = DEFAULT_RANK
) -> Delayed:
    """Describe the moments of a Dask array; nothing is computed.

    Parameters
    ----------
    X : Dask array of shape (n_samples, ...)
        Rows or images, in blocks along samples (others are joined); the
        number of samples may be unknown.
    shift : int64 array of shape (n_features,), optional
        Shift of moments that these will be merged into; that of the first
        block otherwise.
    rank : int
        Maximum number of directions of wide rows.

    Returns
    -------
    Delayed
        Computes to IntegerMoments, FloatMoments or LowRankMoments.

    Raises
    ------
    ImagesError
        If the dtype or the shape is not that of images.

    Notes
    -----
    One task a block, fused with what makes the block, then a tree that merges
    eight states at a time, in the order of the blocks.
    """
    X = as_array(X)
    kind = choose_kind(X.dtype, math.prod(X.shape[1:]))
    shift_later = (
        delayed(_shift_of_images)(X.blocks[0].to_delayed().item())
        if shift is None
        else delayed(shift)
    )
    states = da.map_blocks(
        _boxed_moments,
        X,
        first_rows(X),
        kind,
        shift_later,
        rank,
        dtype=object,
        chunks=((1,) * X.numblocks[0],),
        drop_axis=list(range(1, X.ndim)),
        meta=np.empty(0, object),
    )
    later = [delayed(_unboxed)(box) for box in states.to_delayed().ravel()]
    merge = delayed(_merge_all)
    while len(later) > 1:
        later = [merge(later[i : i + FAN_IN]) for i in range(0, len(later), FAN_IN)]
    root: Delayed = later[0]
    return root


def _shift_of_images(images: NDArray[Any]) -> NDArray[Any]:
    """Choose the shift from a block of images."""
    return feature_shift(flat(images))


def _boxed_moments(
    rows: NDArray[Any],
    starts: list[int | None],
    kind: str,
    shift: NDArray[Any],
    rank: int,
    block_id: tuple[int, ...] = (0,),
) -> NDArray[Any]:
    """Take the moments of a block, as the only element of an array, which Dask can fuse."""
    box = np.empty(1, object)
    box[0] = _numbered_moments(rows, starts[block_id[0]], kind, shift, rank)
    return box


def _unboxed(box: NDArray[Any]) -> MomentState:
    """Return the only element."""
    state: MomentState = box[0]
    return state
