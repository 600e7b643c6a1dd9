"""Communities of the graph of the flows: the partition of largest modularity."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from scipy import sparse

from workflow.rng import generator
from workflow.tree._community_kernels import move_nodes, refine

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Orders in which nodes are visited; the best of the partitions found is taken.
N_STARTS = 4
#: Times that a partition is improved from where it stands, at most.
MAX_ITERATIONS = 10


class Graph(NamedTuple):
    """A weighted graph of nodes that may stand for several.

    Attributes
    ----------
    indptr, indices : int64 arrays
        Symmetric CSR structure.
    weight : float64 array of shape (n_entries,)
        Whole numbers.
    strength : float64 array of shape (n_nodes,)
        Total weight at each node, counted twice for what lies inside it.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weight: NDArray[np.float64]
    strength: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: sparse.csr_array, strength: NDArray[np.float64]) -> Self:
        """Return the graph of a symmetric matrix."""
        matrix.sort_indices()
        indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        return cls(indptr, indices, matrix.data.astype(np.float64), strength)

    def matrix(self) -> sparse.csr_array:
        """Return the weights as a matrix."""
        n_nodes = len(self.strength)
        return sparse.csr_array((self.weight, self.indices, self.indptr), shape=(n_nodes, n_nodes))

    def permuted(self, order: NDArray[np.int64]) -> Self:
        """Return the graph whose node i is node ``order[i]`` of this one."""
        return self.of(self.matrix()[order][:, order].tocsr(), self.strength[order])

    def contracted(self, piece: NDArray[np.int64]) -> Self:
        """Return the graph whose nodes are pieces, numbered from 0."""
        n_pieces = int(piece.max()) + 1
        where = (np.arange(len(piece)), piece)
        belongs = sparse.csr_array((np.ones(len(piece)), where), shape=(len(piece), n_pieces))
        strength = np.bincount(piece, self.strength, minlength=n_pieces).astype(np.float64)
        return self.of((belongs.T @ self.matrix() @ belongs).tocsr(), strength)


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
    row = np.repeat(np.arange(len(community)), np.diff(graph.indptr))
    inside = graph.weight[community[row] == community[graph.indices]].sum() / total
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
        Edges, each given once.
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
    by_strength = np.lexsort((*position.T[::-1], -graph.strength))
    best, highest = np.arange(n_nodes), -np.inf
    for start in range(n_starts):
        order = by_strength
        if start:
            order = by_strength[generator(0, "tree/communities", start).permutation(n_nodes)]
        found = np.empty(n_nodes, np.int64)
        found[order], reached = _optimize(graph.permuted(order), resolution)
        if reached > highest:
            best, highest = found, reached
    return best


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
        Edges, each given once.
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
    ends = (np.concatenate([row, col]), np.concatenate([col, row]))
    matrix = sparse.coo_array((np.tile(weight, 2), ends), shape=(n_nodes, n_nodes)).tocsr()
    strength = np.bincount(ends[0], np.tile(weight, 2), minlength=n_nodes).astype(np.float64)
    return Graph.of(matrix, strength)


def _optimize(graph: Graph, resolution: float) -> tuple[NDArray[np.int64], float]:
    """Improve a partition, from single nodes, until nothing is gained."""
    best = np.arange(len(graph.strength))
    highest = modularity(graph, best, resolution)
    for _ in range(MAX_ITERATIONS):
        found = _improve(graph, best, resolution)
        reached = modularity(graph, found, resolution)
        if reached <= highest:
            break
        best, highest = found, reached
    return best, highest


def _improve(graph: Graph, community: NDArray[np.int64], resolution: float) -> NDArray[np.int64]:
    """Move nodes, then the pieces of communities, then pieces of pieces."""
    scale = resolution / graph.strength.sum()
    member = np.arange(len(community))
    community = _renumbered(community)
    while True:
        move_nodes(*graph, community, scale)
        community = _renumbered(community)
        n_communities = int(community.max()) + 1
        if n_communities == len(community):
            return community[member]
        piece = _renumbered(refine(*graph, community, scale))
        if piece.max() + 1 == len(piece):
            piece = community
        above = np.empty(int(piece.max()) + 1, np.int64)
        above[piece] = community
        graph, community, member = graph.contracted(piece), above, piece[member]


def _renumbered(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return names replaced by numbers from 0, in their order."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
