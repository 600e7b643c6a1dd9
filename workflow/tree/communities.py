"""Communities of the graph of the flows: the partition of largest modularity."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from workflow.rng import generator
from workflow.threads import in_threads
from workflow.tree._community_kernels import (
    contracted_csr,
    move_nodes,
    permuted_csr,
    refine,
    renumbered,
    weight_inside,
)
from workflow.tree._edges import symmetric_csr
from workflow.tree.flow_dendrogram import node_strengths
from workflow.tree.nodes import lexicographic_order

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

#: Orders in which nodes are visited; the best of the partitions found is taken.
N_STARTS = 4
#: Times that a partition is improved from where it stands, at most.
MAX_ITERATIONS = 10


class Graph(NamedTuple):
    """A weighted graph of nodes that may stand for several.

    Attributes
    ----------
    indptr : int64 array of shape (n_nodes + 1,)
        Symmetric CSR structure.
    indices : int32 array of shape (n_entries,)
        Its columns, rising in each row.
    weight : float64 array of shape (n_entries,)
        Whole numbers: their sums are exact in any order.
    strength : float64 array of shape (n_nodes,)
        Total weight at each node, counted twice for what lies inside it.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weight: NDArray[np.float64]
    strength: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: sparse.csr_array, strength: NDArray[np.float64]) -> Self:
        """Return the graph of a symmetric matrix."""
        matrix.sort_indices()
        indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return cls(indptr, indices, matrix.data.astype(np.float64), strength)

    def permuted(self, order: NDArray[np.int64]) -> Self:
        """Return the graph whose node i is node ``order[i]`` of this one."""
        csr = permuted_csr(self.indptr, self.indices, self.weight, order)
        return type(self)(*csr, self.strength[order])

    def contracted(self, piece: NDArray[np.int64]) -> Self:
        """Return the graph whose nodes are pieces, numbered from 0."""
        n_pieces = int(piece.max()) + 1
        csr = contracted_csr(self.indptr, self.indices, self.weight, piece, n_pieces)
        strength = np.bincount(piece, self.strength, minlength=n_pieces).astype(np.float64)
        return type(self)(*csr, strength)


def modularity(graph: Graph, community: NDArray[np.int64], resolution: float) -> float:
    """Return the share of weight inside communities beyond that of chance.

    Parameters
    ----------
    graph : Graph
        The graph, nothing on its diagonal.
    community : int64 array of shape (n_nodes,)
        Community of each node.
    resolution : float
        Weight of chance; 1 is the modularity of Newman and Girvan.

    Returns
    -------
    float
        At most 1.
    """
    total = graph.strength.sum()
    inside = weight_inside(graph.indptr, graph.indices, graph.weight, community) / total
    held = np.bincount(community, graph.strength) / total
    return float(inside - resolution * np.square(held).sum())


def find_communities(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    position: NDArray[np.float64],
    *,
    resolution: float = 1.0,
    n_starts: int = N_STARTS,
) -> NDArray[np.int64]:
    """Return a partition of a graph whose modularity no move of a node or community raises.

    Parameters
    ----------
    row, col : int64 arrays of shape (n_edges,)
        Edges with ``row < col``, in lexicographic order.
    weight : int64 array of shape (n_edges,)
        Their weights, positive.
    position : float64 array of shape (n_nodes, n_components)
        Where the nodes are: makes the visits independent of their numbers.
    resolution : float
        Weight of chance.
    n_starts : int
        Orders of visit to try.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Community of each node, from 0; each is connected.

    Notes
    -----
    Local moves, refinement and contraction as in [1]_, with the best move
    always taken instead of a random one, so that the result is the same
    everywhere.  Nodes are visited by falling strength, then in shuffled
    orders; the partition of largest modularity is returned.  The best cut of
    a greedy dendrogram misses it by more than what tells two partitions
    apart: digits came out as 10 to 15 communities there, as 10 or 11 here.

    References
    ----------
    .. [1] V. A. Traag, L. Waltman and N. J. van Eck, "From Louvain to Leiden:
       guaranteeing well-connected communities", Scientific Reports 9, 2019.
    """
    n_nodes = len(position)
    if not len(weight):
        return np.arange(n_nodes)
    graph = _graph(n_nodes, row, col, weight)
    by_value = lexicographic_order(position)
    by_strength = by_value[np.argsort(-graph.strength[by_value], kind="stable")]

    def optimized(start: int) -> tuple[float, NDArray[np.int64]]:
        order = by_strength
        if start:
            order = by_strength[generator(0, "tree/communities", start).permutation(n_nodes)]
        found = np.empty(n_nodes, np.int64)
        found[order], reached = _optimize(graph.permuted(order), resolution)
        return reached, found

    # The first of those that reach most.
    return max(in_threads(optimized, range(n_starts)), key=itemgetter(0))[1]


def improved_communities(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    start: NDArray[np.int64],
    *,
    resolution: float = 1.0,
) -> NDArray[np.int64]:
    """Return a partition of a graph, improved from one that is nearly right.

    Parameters
    ----------
    row, col : int64 arrays of shape (n_edges,)
        Edges with ``row < col``, in lexicographic order.
    weight : int64 array of shape (n_edges,)
        Their weights, positive.
    start : int64 array of shape (n_nodes,)
        The partition to start from.
    resolution : float
        Weight of chance.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Community of each node, from 0.
    """
    if not len(weight):
        return np.arange(len(start))
    return _improve(_graph(len(start), row, col, weight), start, resolution)


def _graph(
    n_nodes: int, row: NDArray[np.int64], col: NDArray[np.int64], weight: NDArray[np.int64]
) -> Graph:
    """Return the graph of edges that are given once."""
    strength = node_strengths(n_nodes, row, col, weight).astype(np.float64)
    return Graph(*symmetric_csr(n_nodes, row, col, weight), strength)


def _optimize(graph: Graph, resolution: float) -> tuple[NDArray[np.int64], float]:
    """Improve a partition, from single nodes, until nothing is gained."""
    best = np.arange(len(graph.strength))
    highest = modularity(graph, best, resolution)
    before = None
    for _ in range(MAX_ITERATIONS):
        moved = _moved(graph, best, resolution)
        if before is not None and np.array_equal(moved, before):
            break  # all that follows would be as it was
        before = moved
        found = _contract_and_move(graph, moved, resolution)
        reached = modularity(graph, found, resolution)
        if reached <= highest:
            break
        best, highest = found, reached
    return best, highest


def _improve(graph: Graph, community: NDArray[np.int64], resolution: float) -> NDArray[np.int64]:
    """Move nodes, then the pieces of communities, then pieces of pieces."""
    return _contract_and_move(graph, _moved(graph, community, resolution), resolution)


def _moved(graph: Graph, community: NDArray[np.int64], resolution: float) -> NDArray[np.int64]:
    """Return the communities, numbered in order, after nodes have moved."""
    moved = np.unique(community, return_inverse=True)[1].astype(np.int64)
    move_nodes(*graph, moved, resolution / graph.strength.sum())
    return renumbered(moved)


def _contract_and_move(
    graph: Graph, community: NDArray[np.int64], resolution: float
) -> NDArray[np.int64]:
    """Move the pieces of communities, then pieces of pieces."""
    scale = resolution / graph.strength.sum()
    member = np.arange(len(community))
    while community.max() + 1 < len(community):
        piece = renumbered(refine(*graph, community, scale))
        if piece.max() + 1 == len(piece):
            piece = community
        above = np.empty(int(piece.max()) + 1, np.int64)
        above[piece] = community
        graph, community, member = graph.contracted(piece), above, piece[member]
        move_nodes(*graph, community, scale)
        community = renumbered(community)
    return community[member]
