"""Distances and sums by group on NumPy arrays; no Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster._cell_kernels import add_by_group, find_lowest
from workflow.overcluster._search_kernels import frozen, pair_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
