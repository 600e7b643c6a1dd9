"""Exact squared distances of listed pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import compiler, frozen
from workflow.overcluster.search._tiles import sq_distance_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


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
        vectors alone: see `_tiles.plain_sq_distance_of`.
    """
    if rows.dtype != centroids.dtype:
        rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    index = (frozen(places.astype(np.intp, copy=False)) for places in (row_index, centroid_index))
    return sq_distances_at(frozen(rows), frozen(centroids), *index)


@compiled
def sq_distances_at(
    rows: NDArray[Any],
    centroids: NDArray[Any],
    row_index: NDArray[np.intp],
    centroid_index: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return squared distances of listed pairs of rows of one type."""
    out = np.empty(row_index.size, dtype=np.float64)
    for i in range(row_index.size):
        out[i] = sq_distance_of(rows, row_index[i], centroids, centroid_index[i])
    return out
