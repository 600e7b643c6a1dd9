"""Nearest neighbours of the rows of a bucket, bucket by bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.neighbors._search_kernels import margin
from workflow.neighbors.leaves import limits, nothing_found, ranges, visit_near

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
    order = np.argsort(_gap(boxes.low[home], boxes.high[home], boxes), kind="stable")
    visit_near(leaves, leaves, nearest, sq_distance, is_home=True)
    for number in order[order != home].tolist():
        box = Boxes(boxes.low[number], boxes.high[number])
        if (_gap(*box, leaves) <= limits(leaves, sq_distance)).any():
            other = load(number)
            copies.append(copies_of(other))
            visit_near(leaves, other.leaves(), nearest, sq_distance)
    return expanded(nearest, sq_distance, copies, scale)


def _gap(
    low: NDArray[np.float32], high: NDArray[np.float32], boxes: Boxes | Leaves
) -> NDArray[np.float64]:
    """Return a lower bound of the squared distances between a box and some others, as rounded."""
    gap = np.maximum(low - boxes.high, boxes.low - high).clip(0).astype(np.float64)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", gap, gap) * margin(len(low))
    return found


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
    several = np.flatnonzero(np.diff(bucket.copy_start) > 1)
    if leaves is not None and len(several):
        leaf = np.searchsorted(bucket.start, several, side="right") - 1
        several = several[np.isin(leaf, leaves)]
    place, start = ranges(bucket.copy_start, several)
    copies = bucket.copies[place].astype(np.int64)
    return np.repeat(copies[start[:-1]], np.diff(start)), copies


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
    is_tied = (distance[:, 1:] == distance[:, :-1]) & (index[:, 1:] < index[:, :-1])
    tied = np.flatnonzero(is_tied.any(axis=1))
    order = np.lexsort((index[tied], distance[tied]), axis=1)
    for array in (index, distance):
        array[tied] = np.take_along_axis(array[tied], order, 1)
    return Found(index, distance)


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
