"""The graph of the images: each with its nearest neighbours, near ones heavier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.families._graph_kernels import add_weights, symmetric_graph

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from workflow.graph import Graph

__all__ = ["N_NEIGHBORS", "add_weights", "edge_weights", "local_scales", "neighbor_graph"]

#: Neighbours of an image that the graph is made of: what the table of smooth clouds was made with.
N_NEIGHBORS = 15
#: The neighbour whose distance is the scale of an image.
SCALE_RANK = 7
#: Weight of an edge of length zero that both ends have.  Weights are whole numbers, so that their sums
#: are exact in any order, and no answer hangs on the last bit of a distance.
FULL = 1 << 20
#: Rows whose weights are made at a time: so many stay in the cache.
ROWS_AT_ONCE = 4096


def local_scales(distance: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the distance of each image to its seventh neighbour, or the last that it has.

    Parameters
    ----------
    distance : float array of shape (n_samples, n_neighbors) [score]
        Distances to the nearest neighbours, rising; infinite where missing.

    Returns
    -------
    float64 array of shape (n_samples,) [score]
        0 where an image has no neighbour.
    """
    known = np.isfinite(distance[:, :SCALE_RANK])
    last = np.maximum(known.sum(axis=1) - 1, 0)
    scale = distance[np.arange(len(distance)), last].astype(np.float64)
    return np.where(known.any(axis=1), scale, 0.0)


def edge_weights(
    index: NDArray[np.integer[Any]],
    distance: NDArray[np.float32],
    own_scale: NDArray[np.floating[Any]],
    scale: NDArray[np.floating[Any]],
) -> NDArray[np.float32]:
    """Return the weights that lists of neighbours give to their edges.

    Parameters
    ----------
    index : int array of shape (n_rows, n_neighbors)
        Neighbours of some images; -1 where missing.
    distance : float32 array of shape (n_rows, n_neighbors) [score]
        Their distances.
    own_scale : float array of shape (n_rows,) [score]
        Scales of these images.
    scale : float array of shape (n_samples,) [score]
        Scales of all images.

    Returns
    -------
    float32 array of shape (n_rows, n_neighbors)
        Whole numbers from 0 to `FULL` / 2; 0 where a neighbour is missing.
    """
    found = np.empty(index.shape, np.float32)
    for start in range(0, len(index), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        apart, both = distance[rows], np.take(scale, index[rows], mode="clip").astype(np.float64)
        both *= own_scale[rows, None]
        weight = np.zeros(both.shape)
        np.divide(apart * apart, both, out=weight, where=both > 0)
        np.exp(np.negative(weight, out=weight), out=weight)
        np.rint(np.multiply(weight, FULL / 2, out=weight), out=weight)
        weight[both <= 0] = 0
        weight[apart == 0] = FULL // 2
        weight[index[rows] < 0] = 0
        found[rows] = weight
    return found


def neighbor_graph(index: NDArray[np.int32], distance: NDArray[np.float32]) -> Graph:
    """Make the graph of the nearest neighbours.

    Parameters
    ----------
    index : int32 array of shape (n_samples, n_neighbors)
        Nearest neighbours of each image, nearest first, not itself; -1 where
        missing.  At most the first 15 are used.
    distance : float32 array of shape (n_samples, n_neighbors) [score]
        Their distances.

    Returns
    -------
    Graph
        Symmetric, weights whole numbers in float64, columns rise in each row.

    Notes
    -----
    Weights are ``exp(-d_ij**2 / (s_i s_j))`` with the scales of
    `local_scales` [1]_, and half of that where only one of the two names the
    other.  They are rounded to whole numbers: sums are exact in any order, and
    no community hangs on the last bit of a distance.

    References
    ----------
    .. [1] L. Zelnik-Manor and P. Perona, "Self-tuning spectral clustering",
       NIPS 17, 2004.
    """
    used, scale = np.ascontiguousarray(index[:, :N_NEIGHBORS], np.int32), local_scales(distance)
    apart = np.ascontiguousarray(distance[:, :N_NEIGHBORS], np.float32)
    return symmetric_graph(used, edge_weights(used, apart, scale, scale))
