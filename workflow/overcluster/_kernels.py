"""Distances, smallest columns and sums by group on NumPy arrays; no Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster._cell_kernels import add_by_group, find_lowest
from workflow.overcluster._search_kernels import frozen, pair_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Columns are first reduced to one minimum per group of this many, where there are enough.
GROUP_SIZE = 16
#: Fewer columns than this are searched one by one.
MIN_GROUPED_COLUMNS = 256


def pair_sq_distances(
    rows: NDArray[Any],
    centroids: NDArray[Any],
    row_index: NDArray[np.intp],
    centroid_index: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return squared distances of listed pairs by direct difference in float64.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        Rows [score].
    centroids : float array of shape (n_centroids, n_features)
        Centroids [score].
    row_index, centroid_index : intp arrays of shape (n_pairs,)
        The pairs.

    Returns
    -------
    float64 array of shape (n_pairs,)
        Squared distances [score squared].  A pair's bits depend on its two
        vectors alone: every sum runs over one contiguous row of features, in
        the same order whatever else is in the call.
    """
    if rows.dtype != centroids.dtype:
        rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    index = (frozen(places.astype(np.intp, copy=False)) for places in (row_index, centroid_index))
    return pair_distances(frozen(rows), frozen(centroids), *index)


def smallest_columns(
    values: NDArray[Any], n_smallest: int
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return columns and values of the smallest entries of each row, ascending.

    Parameters
    ----------
    values : float array of shape (n_rows, n_columns)
        Left as it came.  `n_columns` is a multiple of ``GROUP_SIZE`` where it
        is ``MIN_GROUPED_COLUMNS`` or more.
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


def sort_pairs(
    centroid_index: NDArray[np.intp], sq_distance: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Sort each row of candidates by distance, ties by the lower index."""
    by_index = np.argsort(centroid_index, axis=1, kind="stable")
    centroid_index = np.take_along_axis(centroid_index, by_index, axis=1)
    sq_distance = np.take_along_axis(sq_distance, by_index, axis=1)
    by_distance = np.argsort(sq_distance, axis=1, kind="stable")
    return (
        np.take_along_axis(centroid_index, by_distance, axis=1),
        np.take_along_axis(sq_distance, by_distance, axis=1),
    )


def sum_by_group(rows: NDArray[Any], group: NDArray[np.intp], n_groups: int) -> NDArray[np.float64]:
    """Add up the rows of each group in float64, in row order."""
    total = np.zeros((n_groups, rows.shape[1]), dtype=np.float64)
    add_by_group(frozen(rows), frozen(group), total)
    return total


def lowest_of_groups(
    values: NDArray[np.float64], group: NDArray[np.intp], n_groups: int, n_lowest: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the lowest values of each group.

    Parameters
    ----------
    values : float64 array of shape (n_rows,)
        Those that are infinite or not a number are left out.
    group : intp array of shape (n_rows,)
        The group of each.
    n_groups, n_lowest : int
        Groups, and values wanted of each.

    Returns
    -------
    position : int64 array of shape (n_groups, n_lowest)
        Where they are, ascending by value, ties by position; -1 where a group
        has fewer.
    lowest : float64 array of shape (n_groups, n_lowest)
        What they are; infinite where there is none.
    """
    position = np.full((n_groups, n_lowest), -1, dtype=np.int64)
    lowest = np.full((n_groups, n_lowest), np.inf)
    find_lowest(frozen(values), frozen(group), position, lowest)
    return position, lowest
