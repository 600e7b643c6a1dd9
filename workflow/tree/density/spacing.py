"""Core lengths and mutual reachability: the spacing of images, not of centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.density._kernels import mean_of_nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.nodes import Nodes


def image_spacing(
    distance: NDArray[np.float64],
    population_a: NDArray[np.int64],
    population_b: NDArray[np.int64],
    dimension: float,
) -> NDArray[np.float64]:
    """Return the lengths of edges on the scale of the spacing of images.

    Parameters
    ----------
    distance : float64 array of shape (n_edges,) [unit of the scores]
        Euclidean distance between the two centroids of each edge.
    population_a, population_b : int64 arrays of shape (n_edges,) [images]
        Images of either end.
    dimension : float
        Intrinsic dimension of the images.

    Returns
    -------
    float64 array of shape (n_edges,) [unit of the scores]
        ``distance * (population_a * population_b) ** (-1 / (2 * dimension))``:
        a cell of n images in d dimensions holds them ``n ** (1 / d)`` times
        closer together than it is wide.
    """
    log_images = np.log(population_a.astype(np.float64)) + np.log(population_b.astype(np.float64))
    return distance * np.exp(-log_images / (2.0 * dimension))


def core_lengths(
    nodes: Nodes, distance: NDArray[np.float64], dimension: float, min_samples: int
) -> NDArray[np.float64]:
    """Return the core length of each node, on the scale of the edges.

    Parameters
    ----------
    nodes : Nodes
        Nodes and their edges.
    distance : float64 array of shape (n_edges,) [unit of the scores]
        Euclidean distance along each edge of `nodes`.
    dimension : float
        Intrinsic dimension of the images.
    min_samples : int
        Neighbours in the graph, nearest first, over which the distance is
        averaged; 0 averages over all of them.

    Returns
    -------
    float64 array of shape (n_nodes,) [unit of the scores]
        ``s * population ** (-1 / dimension)`` with s the mean distance to the
        neighbours; 0 for a node without any.

    Notes
    -----
    O(n_edges log n_edges).  With `min_samples` 1 and equal populations the
    core is no longer than any edge of the node, so it changes no tree.
    """
    n_nearest = min_samples or 2 * len(distance) + 1
    mean = mean_of_nearest(nodes.n_nodes, nodes.row, nodes.col, distance, n_nearest)
    return mean * np.exp(-np.log(nodes.population.astype(np.float64)) / dimension)


def mutual_reachability(
    length: NDArray[np.float64],
    core: NDArray[np.float64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the largest of an edge's length and the core lengths of its ends, (n_edges,) [unit of the scores]."""
    return np.maximum(length, np.maximum(core[row], core[col]))
