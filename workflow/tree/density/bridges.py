"""Edges that join the connected components of a graph by their nearest nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from workflow.tree.density._kernels import boxes_of, shortest_edges

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.tree.density._kernels import Boxes


def bridge_edges(
    position: NDArray[np.float64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    known: NDArray[np.int64] | None = None,
    boxes: Callable[[], Boxes] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return edges that make a graph connected.

    Parameters
    ----------
    position : float64 array of shape (n_nodes, n_components) [unit of the scores]
        Where the nodes are.
    row, col : int64 arrays of shape (n_edges,)
        Edges of the graph.
    known : int64 array of shape (n_known, 2), optional
        Bridges of a graph with the same nodes and more edges: they are bridges
        of this one too, for what was not connected there is not here.
    boxes : callable, optional
        Returns `boxes_of` the positions, where they are known; called only if
        the graph is not connected.

    Returns
    -------
    row : int64 array of shape (n_bridges,)
        Lower ends of further edges; none where the graph is connected.
    col : int64 array of shape (n_bridges,)
        Higher ends.

    Notes
    -----
    Boruvka's rounds: every group of components but the largest looks for its
    shortest edge to another, so the bridges are those of the Euclidean minimum
    spanning tree of the components.  Boxes around halves of the nodes keep all but a
    few nodes near the borders from being compared; where nothing can be kept
    apart a round costs (nodes outside the largest group) x n_nodes distances.
    There are at most log2(components) rounds.  Of equal lengths the one
    with the lower, then the higher end counts first: the same bridges everywhere.
    """
    n_nodes = len(position)
    found = np.empty((0, 2), np.int64) if known is None else known
    n_groups, group = _components(
        n_nodes, np.concatenate([row, found[:, 0]]), np.concatenate([col, found[:, 1]])
    )
    if n_groups > 1:
        tree = boxes_of(position) if boxes is None else boxes()
    while n_groups > 1:
        idle = int(np.bincount(group).argmax())
        ends = shortest_edges(tree, group, idle)[np.arange(n_groups) != idle]
        found = np.unique(np.concatenate([found, ends]), axis=0)
        n_groups, joined = _components(n_groups, group[ends[:, 0]], group[ends[:, 1]])
        group = joined[group]
    return found[:, 0].copy(), found[:, 1].copy()


def _components(
    n_nodes: int, row: NDArray[np.integer[Any]], col: NDArray[np.integer[Any]]
) -> tuple[int, NDArray[np.int32]]:
    """Return how many connected components a graph has, and the component of each node."""
    matrix = sparse.coo_array((np.ones(len(row), np.int8), (row, col)), shape=(n_nodes, n_nodes))
    n_components, component = csgraph.connected_components(matrix, directed=False)
    return n_components, component.astype(np.int32)
