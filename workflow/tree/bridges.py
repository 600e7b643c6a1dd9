"""Edges that join the connected pieces of a graph by their nearest nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from threadpoolctl import threadpool_limits

from workflow.tree.core_distances import edge_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows and columns of one product; 256 x 8,192 distances are 16 MiB.
_ROWS, _COLUMNS = 256, 8192


def bridge_edges(
    position: NDArray[np.float64], row: NDArray[np.int64], col: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return edges that make a graph connected.

    Parameters
    ----------
    position : float64 array of shape (n_nodes, n_components) [unit of the scores]
        Where the nodes are.
    row, col : int64 arrays of shape (n_edges,)
        Edges of the graph.

    Returns
    -------
    row : int64 array of shape (n_bridges,)
        Lower ends of further edges; none where the graph is connected.
    col : int64 array of shape (n_bridges,)
        Higher ends.

    Notes
    -----
    Boruvka's rounds: every piece but the largest looks for its nearest node
    outside of itself, so the bridges are those of the Euclidean minimum
    spanning tree of the pieces.  A round costs (nodes outside the largest
    piece) x n_nodes distances, in panels of 16 MiB; there are at most
    log2(pieces) rounds.  Ties go to the lowest index, products run on one
    BLAS thread: the same bridges everywhere.
    """
    n_nodes = len(position)
    found: list[tuple[int, int]] = []
    while True:
        ends = np.array(found, np.int64).reshape(-1, 2)
        tail, head = np.concatenate([row, ends[:, 0]]), np.concatenate([col, ends[:, 1]])
        matrix = sparse.coo_array((np.ones(len(tail)), (tail, head)), shape=(n_nodes, n_nodes))
        n_pieces, piece = csgraph.connected_components(matrix, directed=False)
        if n_pieces == 1:
            break
        found.extend(_nearest_outside(position, piece))
    ends = np.array(found, np.int64).reshape(-1, 2)
    return ends[:, 0], ends[:, 1]


def _nearest_outside(
    position: NDArray[np.float64], piece: NDArray[np.int32]
) -> list[tuple[int, int]]:
    """Return, for every piece but the largest, the edge to its nearest node outside."""
    seeking = np.flatnonzero(piece != np.bincount(piece).argmax())
    target = _nearest_of_other_piece(position, piece, seeking)
    distance = edge_distances(position, seeking, target)
    low, high = np.minimum(seeking, target), np.maximum(seeking, target)
    order = np.lexsort((high, low, distance, piece[seeking]))
    _, first = np.unique(piece[seeking][order], return_index=True)
    chosen = order[first]
    return sorted({(int(low[i]), int(high[i])) for i in chosen})


def _nearest_of_other_piece(
    position: NDArray[np.float64], piece: NDArray[np.int32], seeking: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the nearest node of another piece for each node of `seeking`."""
    # Distances about the middle: the product form loses digits far from the origin.
    centred = position - position.mean(axis=0)
    sq_norm = np.einsum("ij,ij->i", centred, centred)
    target = np.empty(len(seeking), np.int64)
    with threadpool_limits(limits=1, user_api="blas"):
        for start in range(0, len(seeking), _ROWS):
            rows = seeking[start : start + _ROWS]
            panel = np.zeros((_ROWS, centred.shape[1]))
            panel[: len(rows)] = centred[rows]
            best = np.full(len(rows), np.inf)
            where = np.zeros(len(rows), np.int64)
            for left in range(0, len(centred), _COLUMNS):
                block = slice(left, left + _COLUMNS)
                sq = sq_norm[block] - 2.0 * (panel @ centred[block].T)[: len(rows)]
                sq[piece[rows][:, None] == piece[block]] = np.inf
                nearest = sq.argmin(axis=1)
                value = sq[np.arange(len(rows)), nearest]
                closer = value < best
                best[closer], where[closer] = value[closer], left + nearest[closer]
            target[start : start + _ROWS] = where
    return target
