"""How strongly points of a map attract each other: from lists of neighbours, or from flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from workflow.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray


def neighbor_affinities(index: NDArray[np.integer[Any]]) -> Graph:
    """Return the affinities of points with lists of neighbours, all of a list alike.

    Parameters
    ----------
    index : int array of shape (n_points, n_neighbors)
        Neighbours of each point; -1 where fewer, and a point itself, count for nothing.

    Returns
    -------
    Graph
        Affinities, float32, each edge in the rows of both ends; their sum is about 1.

    Notes
    -----
    Weights that fall with the distance give nearly the same map as equal ones [1]_, which hang on no
    rounding.

    References
    ----------
    .. [1] J. N. Boehm, P. Berens and D. Kobak, "Attraction-repulsion spectrum in neighbor embeddings",
       JMLR 23(95), 2022.
    """
    rows = np.arange(len(index))[:, None]
    is_edge = (index >= 0) & (index != rows)
    return _symmetric(rows.repeat(index.shape[1], 1)[is_edge], index[is_edge], None, len(index))


def flow_affinities(graph: Graph) -> Graph:
    """Return the affinities of centroids: each one's flows as shares.

    Parameters
    ----------
    graph : Graph
        The graph of the centroids [images].

    Returns
    -------
    Graph
        As `neighbor_affinities` returns them.
    """
    rows = graph.rows()
    is_edge = (graph.weights > 0) & (graph.indices != rows)
    return _symmetric(rows[is_edge], graph.indices[is_edge], graph.weights[is_edge], graph.n_nodes)


def isolated(affinities: Graph) -> NDArray[np.intp]:
    """Return the points that nothing attracts.

    Parameters
    ----------
    affinities : Graph
        Affinities.

    Returns
    -------
    intp array of shape (n_isolated,)
        Their numbers, rising.
    """
    return np.flatnonzero(np.diff(affinities.indptr) == 0)


def _symmetric(
    rows: NDArray[Any], columns: NDArray[Any], flow: NDArray[Any] | None, n: int
) -> Graph:
    """Return shares of what leaves each row, averaged over both ends, of a total of 1."""
    flow = np.ones(len(rows)) if flow is None else flow.astype(np.float64)
    total = np.bincount(rows, flow, minlength=n)
    half = sparse.csr_array((flow / (2.0 * n * total[rows]), (rows, columns)), shape=(n, n))
    both = sparse.csr_array(half + half.T)
    both.sort_indices()
    return Graph(
        both.indptr.astype(np.int64),
        both.indices.astype(np.int32),
        both.data.astype(np.float32),
    )
