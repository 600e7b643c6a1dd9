"""Lengths, ranks, medians and smallest entries, which several steps use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Edges whose differences are formed at once: they stay in a core's cache.
EDGE_BLOCK = 512
#: Columns are first reduced to one minimum per group of this many, where there are enough.
GROUP_SIZE = 16
#: Fewer columns than this are searched one by one.
MIN_GROUPED_COLUMNS = 256


def edge_lengths(
    position: NDArray[np.floating[Any]],
    start: NDArray[np.integer[Any]],
    end: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Return the Euclidean length of each edge.

    Parameters
    ----------
    position : float array of shape (n_nodes, n_features)
        Where the nodes are [score].
    start, end : int arrays of shape (n_edges,)
        Ends of the edges.

    Returns
    -------
    float64 array of shape (n_edges,)
        From differences in float64, not from a product: close nodes keep their
        digits [score].

    Examples
    --------
    >>> edge_lengths(np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([0]), np.array([1])).tolist()
    [5.0]
    """
    position = np.asarray(position, dtype=np.float64)
    length = np.empty(len(start))
    for first in range(0, len(start), EDGE_BLOCK):
        part = slice(first, first + EDGE_BLOCK)
        difference = position[start[part]] - position[end[part]]
        length[part] = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    return length


def ranks(order: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
    """Return the place of each number in an order; indexed by -1 it gives -1.

    Parameters
    ----------
    order : int array of shape (n,)
        The numbers 0 to n - 1, in some order.

    Returns
    -------
    int32 array of shape (n + 1,)
        The inverse permutation, then -1: labels with noise can be renumbered by it.

    Examples
    --------
    >>> ranks(np.array([2, 0, 1]))[np.array([2, 1, -1])].tolist()
    [0, 2, -1]
    """
    rank = np.full(len(order) + 1, -1, np.int32)
    rank[order] = np.arange(len(order))
    return rank


def ranks_in_groups(group: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return how many of its group stand before each of some items, which are sorted by group.

    Parameters
    ----------
    group : int array of shape (n,)
        Group of each, not falling.

    Returns
    -------
    int64 array of shape (n,)
        0 for the first of each group.

    Examples
    --------
    >>> ranks_in_groups(np.array([3, 3, 7, 7, 7]))
    array([0, 1, 0, 1, 2])
    """
    found: NDArray[np.int64] = np.arange(len(group)) - np.searchsorted(group, group)
    return found


def weighted_median(values: NDArray[Any], weights: NDArray[np.integer[Any]]) -> float:
    """Return the smallest value with at least half of the weight up to it.

    Parameters
    ----------
    values : array of shape (n,)
        Values.
    weights : int array of shape (n,)
        Positive weights.

    Returns
    -------
    float
        Lower weighted median; 0 of no value.

    Examples
    --------
    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1, 1, 5]))
    2.0
    """
    if not values.size:
        return 0.0
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order], dtype=np.int64)
    return float(values[order[np.searchsorted(2 * passed, passed[-1])]])


def padded_columns(n_columns: int) -> int:
    """Return how many columns `smallest_columns` wants where there are so many.

    Parameters
    ----------
    n_columns : int
        Columns that there are.

    Returns
    -------
    int
        As many or more; those added are to hold what is never among the smallest.

    Examples
    --------
    >>> padded_columns(20), padded_columns(1_000)
    (20, 1008)
    """
    if n_columns < MIN_GROUPED_COLUMNS:
        return n_columns
    return -(-n_columns // GROUP_SIZE) * GROUP_SIZE


def smallest_columns(
    values: NDArray[Any], n_smallest: int
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return columns and values of the smallest entries of each row, ascending.

    Parameters
    ----------
    values : float array of shape (n_rows, n_columns)
        Left as it came.  `n_columns` is what `padded_columns` returns.
    n_smallest : int
        Entries wanted, at most `n_columns`.

    Returns
    -------
    columns : intp array of shape (n_rows, n_smallest)
        Where they are; among equal entries any may be chosen.
    found : float array of shape (n_rows, n_smallest)
        What they are.
    """
    n_rows, n_columns = values.shape
    if n_columns < MIN_GROUPED_COLUMNS or n_smallest > n_columns // GROUP_SIZE:
        return _masked_argmins(values.copy(), n_smallest)
    # One pass over the wide array finds the minimum of every group; the n smallest entries lie
    # in the n groups with the smallest minima.  Groups take columns g, g + G, g + 2 G, ... so
    # that the pass runs along contiguous memory.
    n_groups = n_columns // GROUP_SIZE
    folded = values.reshape(n_rows, GROUP_SIZE, n_groups)
    groups, _ = _masked_argmins(folded.min(axis=1), n_smallest)
    columns = groups[:, :, None] + n_groups * np.arange(GROUP_SIZE)
    columns = columns.reshape(n_rows, -1)
    inside, found = _masked_argmins(np.take_along_axis(values, columns, axis=1), n_smallest)
    return np.take_along_axis(columns, inside, axis=1), found


def _masked_argmins(values: NDArray[Any], n_smallest: int) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Find the smallest entry of each row, hide it, and again; overwrites ``values``."""
    n_rows = values.shape[0]
    every_row = np.arange(n_rows)
    columns = np.empty((n_rows, n_smallest), dtype=np.intp)
    found = np.empty((n_rows, n_smallest), dtype=values.dtype)
    for rank in range(n_smallest):
        column = values.argmin(axis=1)
        columns[:, rank] = column
        found[:, rank] = values[every_row, column]
        values[every_row, column] = np.inf
    return columns, found


def stacked(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the rows of both.

    Parameters
    ----------
    left, right : arrays of shape (n_rows, ...)
        Rows; they may differ in number.

    Returns
    -------
    array of shape (n_left + n_right, ...)
        Those of the first one first.
    """
    return np.concatenate([left, right])
