"""Lengths and medians that several rooms of the mathematics take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Edges whose differences are formed at once: they stay in a core's cache.
EDGE_BLOCK = 512


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
