"""Nearest neighbours of the rows of a bucket, bucket by bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.neighbors._search_kernels import (
    leaf_limits,
    near_leaves,
    near_regions,
    search_leaves,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.neighbors._search_kernels import Leaves
    from workflow.neighbors.buckets import Bucket

#: Number of a neighbour that is not there.
NO_NEIGHBOR = -1
#: Rows whose copies are put in their places together.
ROWS_AT_ONCE = 4096


class Boxes(NamedTuple):
    """Bounds of the rows of each bucket.

    Attributes
    ----------
    low, high : float32 arrays of shape (n_buckets, n_features)
        Smallest and largest values of scaled rows; infinite and reversed for an empty bucket.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]


def box_of(bucket: Bucket) -> Boxes:
    """Return the bounds of one bucket.

    Parameters
    ----------
    bucket : Bucket
        The bucket.

    Returns
    -------
    Boxes
        Of shape (1, n_features).
    """
    leaves = bucket.leaves()
    low, high = leaves.low.min(axis=0, initial=np.inf), leaves.high.max(axis=0, initial=-np.inf)
    return Boxes(low[None], high[None])


class Found(NamedTuple):
    """Nearest images of the different rows of a bucket, themselves among them.

    Attributes
    ----------
    number : int64 array of shape (n_rows, n_found)
        Numbers of the images by rising (distance, number); -1 where there are fewer.
    distance : float32 array of shape (n_rows, n_found)
        Distances; infinite where there is none [score].
    """

    number: NDArray[np.int64]
    distance: NDArray[np.float32]


def search_bucket(
    home: int, boxes: Boxes, load: Callable[[int], Bucket], k: int, scale: float
) -> Found:
    """Find the nearest images of all rows of a bucket, exactly.

    Parameters
    ----------
    home : int
        The bucket.
    boxes : Boxes
        Bounds of all buckets.
    load : callable
        Returns a bucket of that number.
    k : int
        Neighbours wanted, the image itself not counted.
    scale : float
        What rows were multiplied by.

    Returns
    -------
    Found
        ``k + 1`` images for each row.

    Notes
    -----
    Buckets come in the order of the gap between their bounds; those whose
    bounds are beyond what every leaf has found are not loaded.  Memory: two
    buckets.
    """
    bucket = load(home)
    leaves = bucket.leaves()
    nearest, sq_distance = nothing_found(len(leaves.rows), k + 1)
    copies = [copies_of(bucket)]
    gap = np.maximum(boxes.low[home] - boxes.high, boxes.low - boxes.high[home]).clip(0)
    order = np.argsort(np.einsum("ij,ij->i", gap, gap), kind="stable")
    waiting = [home, *(int(other) for other in order if other != home)]
    _visit(leaves, leaves, nearest, sq_distance, is_home=True)
    for number in waiting[1:]:
        limit = leaf_limits(leaves.start, sq_distance)
        low, high = boxes.low[number : number + 1], boxes.high[number : number + 1]
        if near_regions(leaves.low, leaves.high, limit, low, high)[0]:
            other = load(number)
            copies.append(copies_of(other))
            _visit(leaves, other.leaves(), nearest, sq_distance)
    return expanded(nearest, sq_distance, copies, scale)


def _visit(
    home: Leaves,
    other: Leaves,
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
    *,
    is_home: bool = False,
) -> None:
    """Compare the rows of a bucket with those of another, leaf by leaf."""
    limit = leaf_limits(home.start, sq_distance)
    lists = near_leaves(home, limit, other, is_home)
    search_leaves(home, other, *lists, nearest, sq_distance)


def nothing_found(n_rows: int, n_found: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the state of a search that has found nothing."""
    nearest = np.full((n_rows, n_found), np.iinfo(np.int64).max)
    return nearest, np.full((n_rows, n_found), np.inf, np.float32)


def copies_of(
    bucket: Bucket, leaves: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the copies of rows of a bucket, where there are some.

    Parameters
    ----------
    bucket : Bucket
        The bucket.
    leaves : int array, optional
        Leaves that are asked for; all by default.

    Returns
    -------
    lowest : int64 array of shape (n,)
        Lowest number of a row that has copies.
    copies : int64 array of shape (n,)
        The row itself or a copy of it.
    """
    size = np.diff(bucket.copy_start)
    if leaves is not None:
        is_wanted = np.zeros(len(bucket.start) - 1, np.bool_)
        is_wanted[leaves] = True
        size = np.where(np.repeat(is_wanted, np.diff(bucket.start)), size, 1)
    if (size == 1).all():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    size, is_wanted = np.diff(bucket.copy_start), size > 1
    is_several = np.repeat(is_wanted, size)
    lowest = np.repeat(bucket.copies[bucket.copy_start[:-1]], size)
    return lowest[is_several], bucket.copies[is_several]


def expanded(
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
    copies: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    scale: float,
) -> Found:
    """Return images in place of different rows, and distances in place of squares."""
    distance = np.sqrt(sq_distance) * np.float32(1 / scale)
    index = np.where(np.isfinite(sq_distance), nearest, NO_NEIGHBOR)
    lowest = np.concatenate([one for one, _ in copies])
    if len(lowest):
        order = np.argsort(lowest, kind="stable")
        lowest, every = lowest[order], np.concatenate([both for _, both in copies])[order]
        has_copies = np.flatnonzero(np.isin(index, lowest).any(axis=1))
        for part in np.split(has_copies, range(ROWS_AT_ONCE, len(has_copies), ROWS_AT_ONCE)):
            index[part], distance[part] = _with_copies(index[part], distance[part], lowest, every)
    # Squares that differ may have equal roots.
    order = np.lexsort((index, distance), axis=1)
    return Found(np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1))


def _with_copies(
    index: NDArray[np.int64],
    distance: NDArray[np.float32],
    lowest: NDArray[np.int64],
    every: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest images of some rows, copies of what they have found among them.

    `lowest` is sorted; `every` holds the copies beside the lowest number of each.
    """
    n_rows, n_found = index.shape
    first = np.searchsorted(lowest, index.ravel())
    size = np.maximum(np.searchsorted(lowest, index.ravel(), side="right") - first, 1)
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    place = np.minimum(np.repeat(first, size) + within, len(every) - 1)
    number = np.repeat(index.ravel(), size)
    number = np.where(lowest[place] == number, every[place], number)
    row = np.repeat(np.arange(n_rows), size.reshape(n_rows, n_found).sum(axis=1))
    apart = np.repeat(distance.ravel(), size)
    order = np.lexsort((number, apart, row))
    start = np.searchsorted(row, np.arange(n_rows))
    chosen = order[start[:, None] + np.arange(n_found)]
    return number[chosen], apart[chosen]


def without_self(found: Found, number: NDArray[np.int64]) -> tuple[Any, Any]:
    """Return neighbours of images, the images themselves left out.

    Parameters
    ----------
    found : Found
        Row for row, what was found for the row that each image is equal to.
    number : int64 array of shape (n_rows,)
        Numbers of the images.

    Returns
    -------
    index : int64 array of shape (n_rows, n_found - 1)
        Numbers of the neighbours; -1 where there are fewer.
    distance : float32 array of shape (n_rows, n_found - 1)
        Their distances; infinite where there are fewer [score].
    """
    is_self = found.number == number[:, None]
    # One of many copies is not among the first of them: the last one is left out.
    is_self[~is_self.any(axis=1), -1] = True
    shape = len(number), found.number.shape[1] - 1
    return found.number[~is_self].reshape(shape), found.distance[~is_self].reshape(shape)
