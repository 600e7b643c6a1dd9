"""The graph of the centroids, and every other graph, as one record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Graph(NamedTuple):
    """A symmetric weighted graph in compressed sparse rows; compiled loops take it as it is.

    Attributes
    ----------
    indptr : int64 array of shape (n_nodes + 1,)
        Where the neighbours of each node start in `indices`.
    indices : int32 array of shape (n_entries,)
        Neighbours; every edge is there twice, once in the row of each end.
    weights : array of shape (n_entries,)
        Weights.  In the centroid graph, int64 [images]: the flow of an edge,
        which is the images that have both ends among their nearest three
        centroids.
    weights_two : int64 array of shape (n_entries,), optional [images]
        Centroid graph only: the images whose nearest two centroids are the
        ends; 0 where only the third centroid made the edge.
    """

    indptr: NDArray[Any]
    indices: NDArray[Any]
    weights: NDArray[Any]
    weights_two: NDArray[Any] | None = None

    @property
    def n_nodes(self) -> int:
        """Number of nodes."""
        return len(self.indptr) - 1

    def rows(self) -> NDArray[np.int64]:
        """Return the node whose row each entry stands in.

        Returns
        -------
        int64 array of shape (n_entries,)
            With `indices`, both ends of every entry.
        """
        return np.repeat(np.arange(self.n_nodes), np.diff(self.indptr))

    def to_sparse(self) -> sparse.csr_array:
        """Return the graph as a sparse array of SciPy, on the same memory."""
        shape = (self.n_nodes, self.n_nodes)
        return sparse.csr_array((self.weights, self.indices, self.indptr), shape=shape)

    def weight_sums(self) -> NDArray[np.float64]:
        """Return the total weight in the row of each node.

        Returns
        -------
        float64 array of shape (n_nodes,)
            Exact where weights are whole numbers.
        """
        passed = np.concatenate([[0.0], np.cumsum(self.weights, dtype=np.float64)])
        return np.diff(passed[self.indptr])

    def inside(self, group: NDArray[np.integer[Any]]) -> Graph:
        """Return the graph with only the edges inside groups of nodes.

        Parameters
        ----------
        group : int array of shape (n_nodes,)
            Group of each node.

        Returns
        -------
        Graph
            On the same nodes.
        """
        is_inside = group[self.rows()] == group[self.indices]
        passed = np.concatenate([[0], np.cumsum(is_inside)])
        return Graph(passed[self.indptr], self.indices[is_inside], self.weights[is_inside])
