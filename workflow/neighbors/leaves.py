"""Rows split into parts, compact leaves of up to 32 of them, and leaf compared with leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import frozen
from workflow.neighbors._leaf_kernels import Splits, add_means, split_rows
from workflow.neighbors._search_kernels import (
    Leaves,
    Lists,
    find_near,
    lay_out,
    narrow_lists,
    search_lists,
)
from workflow.neighbors._tiles import LEAF_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that a leaf has about; no leaf has more than LEAF_ROWS.
USUAL_ROWS = 24
#: Features whose bounds rule a leaf out; those of most variance come first.
BOX_FEATURES = 16
#: Rounds of k-means that make leaves compact.
N_ROUNDS = 2
#: Stands for no neighbour while one is looked for: behind all others.
NOTHING = np.iinfo(np.int64).max
#: Bits of all rows of a leaf.
ALL_ROWS = np.uint32(0xFFFFFFFF)


def split(rows: NDArray[np.float32], n_parts: int, *, is_distinct: bool = False) -> Splits:
    """Split rows into parts of nearly equal size, each time by the feature that varies most.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows.
    n_parts : int
        Parts wanted.
    is_distinct : bool
        Whether equal rows stay together; parts then differ more, and may be fewer.

    Returns
    -------
    Splits
        The splits, and the rows part by part.
    """
    splits = Splits(
        np.empty(n_parts, np.int64),
        np.empty(n_parts, np.float32),
        np.empty((n_parts, 2), np.int64),
        np.arange(len(rows)),
        np.empty(n_parts + 1, np.int64),
    )
    n_splits, n_found = split_rows(frozen(rows), n_parts, is_distinct, splits)
    feature, threshold, branch, order, start = splits
    return Splits(
        feature[:n_splits], threshold[:n_splits], branch[:n_splits], order, start[: n_found + 1]
    )


def means(
    rows: NDArray[np.float32], order: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean of the rows of each leaf, and how far they lie from it.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows.
    order : int64 array of shape (n_rows,)
        The rows, leaf by leaf.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end; no leaf is empty.

    Returns
    -------
    means : float32 array of shape (n_leaves, n_features)
        Summed in float64, in the order given.
    spread : float32 array of shape (n_leaves,)
        Mean squared distance from the mean.
    """
    found = np.empty((len(start) - 1, rows.shape[1]), np.float32)
    spread = np.empty(len(found), np.float32)
    add_means(frozen(rows), order, start, found, spread)
    return found, spread


def laid_out(
    rows: NDArray[np.float32], number: NDArray[np.int64], start: NDArray[np.int64]
) -> Leaves:
    """Return leaves as the search reads them.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows, leaf by leaf.
    number : int64 array of shape (n_rows,)
        Number of each.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end; none is empty, none larger than 32.

    Returns
    -------
    Leaves
        With panels and bounds.
    """
    n_leaves, n_features = len(start) - 1, rows.shape[1]
    panels = np.zeros((n_leaves, n_features, LEAF_ROWS), np.float32)
    low, high = (np.empty((n_leaves, n_features), np.float32) for _ in range(2))
    leaves = Leaves(frozen(rows), frozen(number), frozen(start), panels, low, high)
    lay_out(leaves)
    return leaves


def even_starts(n_rows: int) -> NDArray[np.int64]:
    """Return where parts of up to 32 consecutive rows begin, of about equal sizes, and the end.

    Parameters
    ----------
    n_rows : int
        Rows, at least one.

    Returns
    -------
    int64 array
        Rising from 0 to `n_rows`.
    """
    n_parts = -(-n_rows // LEAF_ROWS)
    return np.arange(n_parts + 1) * n_rows // n_parts


def ranges(
    start: NDArray[np.integer[Any]], part: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what lies in some ranges, one after the other.

    Parameters
    ----------
    start : int array of shape (n + 1,)
        Where each range begins, and the end of the last.
    part : int array of shape (n_part,)
        The ranges wanted.

    Returns
    -------
    place : int64 array
        Places of all that they hold.
    new_start : int64 array of shape (n_part + 1,)
        Where each range begins in `place`, and the end.
    """
    first = start[part].astype(np.int64)
    size = start[part + 1] - first
    new_start = np.concatenate([[0], np.cumsum(size)])
    return np.repeat(first - new_start[:-1], size) + np.arange(new_start[-1]), new_start


def compact_leaves(rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put rows into compact leaves of up to 32.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        At least one row.

    Returns
    -------
    order : int64 array of shape (n_rows,)
        The rows, leaf by leaf.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end.

    Notes
    -----
    Splits give about as many parts as leaves are wanted; rows go to the
    nearest mean of a part, twice, as in k-means.  What is too large is split
    again.
    """
    n_rows = len(rows)
    if n_rows <= LEAF_ROWS:
        return np.arange(n_rows), np.array([0, n_rows])
    parts = split(rows, -(-n_rows // USUAL_ROWS))
    order, start = parts.order, parts.start
    points = laid_out(rows[order], order, start)
    for _ in range(N_ROUNDS):
        centers, _ = means(rows, order, start)
        panels = laid_out(centers, np.arange(len(centers)), even_starts(len(centers)))
        label = np.empty(n_rows, np.int64)
        label[parts.order] = _nearest_of_all(points, panels)
        order = np.argsort(label, kind="stable")
        size = np.bincount(label)
        start = np.concatenate([[0], np.cumsum(size[size > 0])])
    starts = [np.zeros(1, np.int64)]
    for first, stop in zip(start[:-1].tolist(), start[1:].tolist(), strict=True):
        if stop - first <= LEAF_ROWS:
            starts.append(np.array([stop]))
            continue
        members = order[first:stop]
        again = split(rows[members], -(-(stop - first) // LEAF_ROWS))
        order[first:stop] = members[again.order]
        starts.append(first + again.start[1:])
    return order, np.concatenate(starts)


def nothing_found(n_rows: int, n_found: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the state of a search that has found nothing.

    Parameters
    ----------
    n_rows, n_found : int
        Rows, and neighbours wanted of each.

    Returns
    -------
    tuple of arrays
        Numbers of the nearest and their squared distances, both of shape (n_rows, n_found).
    """
    return np.full((n_rows, n_found), NOTHING), np.full((n_rows, n_found), np.inf, np.float32)


def all_lists(n_leaves: int, numbers: NDArray[np.int64]) -> Lists:
    """Return lists of the same leaves for all rows of all leaves.

    Parameters
    ----------
    n_leaves : int
        Leaves that have a list.
    numbers : int64 array of shape (n,) or (n_leaves, n)
        What is on it.

    Returns
    -------
    Lists
        The lists.
    """
    size = numbers.shape[-1]
    number = np.broadcast_to(numbers, (n_leaves, size)).flatten()
    return Lists(np.arange(n_leaves + 1) * size, number, np.full(len(number), ALL_ROWS))


def _nearest_of_all(points: Leaves, others: Leaves) -> NDArray[np.int64]:
    """Return the number of the nearest of others to each point."""
    n, n_others = len(points.start) - 1, len(others.start) - 1
    # From about the same place on, so that limits are low soon.
    away = np.abs(np.arange(n_others) - (np.arange(n) * n_others // n)[:, None])
    lists = all_lists(n, np.argsort(away, axis=1, kind="stable"))
    nearest, sq_distance = nothing_found(len(points.rows), 1)
    search_lists(points, others, lists, 0, nearest, sq_distance)
    return nearest[:, 0]


def narrowed(
    points: Leaves, others: Leaves, spread: NDArray[np.float32], lists: Lists, n_wanted: int
) -> Lists:
    """Return the nearest rows of others to each point, among the leaves on its lists.

    Parameters
    ----------
    points : Leaves
        The points.
    others : Leaves
        What they are compared with: means of rows.
    spread : float32 array of shape (n_others,)
        Mean squared distance of the rows from each of them.
    lists : Lists
        Leaves of `others` for those of `points`.
    n_wanted : int
        How many rows each point wants, about.

    Returns
    -------
    Lists
        Numbers of rows of `others`.
    """
    most = LEAF_ROWS * len(lists.number)
    new = Lists(
        np.zeros(len(lists.start), np.int64), np.empty(most, np.int64), np.empty(most, np.uint32)
    )
    narrow_lists(points, others, frozen(spread), lists, n_wanted, new)
    n_new = new.start[-1]
    return Lists(new.start, new.number[:n_new].copy(), new.rows[:n_new].copy())


def limits(leaves: Leaves, sq_distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the squared distance beyond which a leaf has nothing to find.

    Parameters
    ----------
    leaves : Leaves
        The leaves.
    sq_distance : float32 array of shape (n_rows, n_found)
        What was found for their rows.

    Returns
    -------
    float32 array of shape (n_leaves,)
        The largest of its rows.
    """
    largest: NDArray[np.float32] = np.maximum.reduceat(sq_distance[:, -1], leaves.start[:-1])
    return largest


def visit_near(
    home: Leaves,
    other: Leaves,
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
    *,
    is_home: bool = False,
) -> None:
    """Compare leaves with all others that their bounds do not rule out; keeps the nearest.

    Parameters
    ----------
    home, other : Leaves
        Whose neighbours are looked for, and among which.
    nearest, sq_distance : arrays of shape (n_rows, n_found)
        What was found, changed in place.
    is_home : bool
        Whether nothing was found so far: near leaves then come first.
    """
    limit = limits(home, sq_distance)
    near = np.empty((len(limit), len(other.start) - 1), np.bool_)
    box = slice(min(BOX_FEATURES, home.rows.shape[1]))
    other_low, other_high = (
        np.ascontiguousarray(bound[:, box].T) for bound in (other.low, other.high)
    )
    low, high = (np.ascontiguousarray(bound[:, box]) for bound in (home.low, home.high))
    find_near(low, high, limit, other_low, other_high, near)
    leaf, lists = map(np.ascontiguousarray, np.nonzero(near))
    start = np.concatenate([[0], np.cumsum(near.sum(axis=1))])
    if is_home:
        # The order decides how soon limits fall, not what is found.
        middle = (home.low + home.high) / 2
        squares = np.einsum("ij,ij->i", middle, middle)
        away = (squares - 2 * (middle @ middle.T))[leaf, lists]
        lists = lists[np.lexsort((away, leaf))]
    every = np.full(len(lists), ALL_ROWS)
    search_lists(home, other, Lists(start, lists, every), box.stop, nearest, sq_distance)
