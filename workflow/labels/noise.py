"""Noise resolved: each noise centroid gets the cluster that the graph leads to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist

from workflow.numerics import edge_lengths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Label of what belongs to no cluster.
NOISE_LABEL = -1
#: Centroids compared with all labelled ones at a time: 256 x 16,384 float64 are 32 MiB.
BATCH_ROWS = 256


def resolve_noise(
    label: NDArray[np.integer[Any]], graph: Graph, centroids: NDArray[Any]
) -> NDArray[np.int32]:
    """Give every noise centroid the label of the first cluster it meets along the graph.

    Parameters
    ----------
    label : int array of shape (n_centroids,)
        Cluster of each centroid, negative for noise.
    graph : Graph
        Edges between centroids.  The one with the largest weight is followed
        first; a weight that is not positive means no edge.
    centroids : float array of shape (n_centroids, n_features)
        Centroids [score].

    Returns
    -------
    int32 array of shape (n_centroids,)
        Resolved labels; -1 only where no centroid has a label.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Notes
    -----
    Edges are taken strongest first (ties: shorter, then lower indices).  An
    edge between two noise components joins them; one between a noise
    component and a labelled centroid gives it that label: a minimum spanning
    forest rooted at the labelled centroids.  A component that no edge leads
    out of takes the label of the labelled centroid nearest to any of its
    members, as if bridged there.  For the order of a tree of lengths pass
    1 / length.  Cost: sorting the edges at noise.

    Examples
    --------
    >>> from workflow.graph import Graph
    >>> graph = Graph(np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1]), np.array([1, 1, 5, 5]))
    >>> centroids = np.array([[0.0], [1.0], [9.0]])
    >>> resolve_noise(np.array([0, -1, 1]), graph, centroids)
    array([0, 1, 1], dtype=int32)
    """
    label = np.asarray(label)
    target = noise_targets(label, graph, centroids)
    return np.where(target >= 0, label[target], NOISE_LABEL).astype(np.int32)


def noise_targets(
    label: NDArray[np.integer[Any]], graph: Graph, centroids: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the labelled centroid that each one resolves to; -1 where none has a label."""
    n = label.size
    centroids = np.asarray(centroids, dtype=np.float64)
    indptr, indices, weights = (np.asarray(part) for part in graph[:3])
    if (
        centroids.ndim != 2
        or centroids.shape[0] != n
        or indptr.shape != (n + 1,)
        or indices.shape != weights.shape
    ):
        msg = (
            "`label`, `centroids` and the graph must be of the same centroids; got shapes "
            f"{label.shape}, {centroids.shape}, indptr {indptr.shape}, indices {indices.shape}, "
            f"weights {weights.shape}. Take them from one run."
        )
        raise ValueError(msg)
    is_labelled = label >= 0
    target = np.where(is_labelled, np.arange(n), -1)
    if is_labelled.all() or not is_labelled.any():
        return target
    start = np.repeat(np.arange(n), np.diff(indptr))
    used = (start < indices) & (weights > 0) & ~(is_labelled[start] & is_labelled[indices])
    start, end, strength = start[used], indices[used].astype(np.intp), weights[used]
    length = edge_lengths(centroids, start, end)
    order = np.lexsort((end, start, length, -strength.astype(np.float64)))
    _follow_edges(target, start[order], end[order])
    lost = np.flatnonzero(target < 0)
    if lost.size:
        shape = (n, n)
        edges = sparse.coo_array((np.ones(start.size), (start, end)), shape=shape)
        component = csgraph.connected_components(edges, directed=False)[1]
        target[lost] = _nearest_labelled(centroids, np.flatnonzero(is_labelled), lost, component)
    return target


def _follow_edges(
    target: NDArray[np.int64], start: NDArray[np.intp], end: NDArray[np.intp]
) -> None:
    """Fill in targets along the forest that sorted edges make, rooted at known targets."""
    n = target.size
    known = np.flatnonzero(target >= 0)
    # A node more, tied to every known target before any other edge, turns the forest into a tree.
    # Ranks instead of strengths: no two edges are equal, so the tree is unique.
    rank = np.concatenate([np.full(known.size, 0.5), np.arange(1.0, start.size + 1)])
    rows = np.concatenate([np.full(known.size, n), start])
    columns = np.concatenate([known, end])
    ends = (rows.astype(np.int32), columns.astype(np.int32))  # SciPy before 1.17.1 takes only these
    edges = sparse.csr_array((rank, ends), shape=(n + 1, n + 1))
    tree = csgraph.minimum_spanning_tree(edges)
    order, predecessor = csgraph.breadth_first_order(tree, n, directed=False)
    for node in order[1:]:
        if target[node] < 0:
            target[node] = target[predecessor[node]]


def _nearest_labelled(
    centroids: NDArray[np.float64],
    labelled: NDArray[np.intp],
    lost: NDArray[np.intp],
    component: NDArray[np.int32],
) -> NDArray[np.intp]:
    """Return, for lost centroids, the labelled one nearest to any member of their component."""
    nearest = np.empty(lost.size, dtype=np.intp)
    sq_distance = np.empty(lost.size)
    for first in range(0, lost.size, BATCH_ROWS):
        batch = slice(first, first + BATCH_ROWS)
        found = cdist(centroids[lost[batch]], centroids[labelled], "sqeuclidean")
        column = found.argmin(axis=1)
        nearest[batch] = labelled[column]
        sq_distance[batch] = found[np.arange(column.size), column]
    order = np.lexsort((lost, sq_distance, component[lost]))
    _, first_of, inverse = np.unique(component[lost[order]], return_index=True, return_inverse=True)
    result = np.empty_like(nearest)
    result[order] = nearest[order][first_of][inverse]
    return result
