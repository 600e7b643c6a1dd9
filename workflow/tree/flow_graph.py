"""The graph of the flows without its sparse nodes, and joins on it as a linkage over all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.numerics import weighted_median
from workflow.tree._edges import symmetric_csr
from workflow.tree._kernels import lowest_so_far, subtree_sums
from workflow.tree.core_distances import edge_distances
from workflow.tree.crossing import Flows, node_levels
from workflow.tree.spanning_tree import Linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.nodes import Nodes

#: Nodes sparser than the median image by more than this log density are set aside.
PEEL = float(np.log(8.0))
#: Nothing is set aside where it would be a smaller share of the images.
LEAST_PEEL = 0.005
#: Ratios are kept above this, so that heights stay finite.
SMALLEST = 1e-3
#: Equal values are put this far apart, relatively: any number of clusters can be had.
_STEP = 1e-12


class Kept(NamedTuple):
    """The nodes that are not set aside, and their graph.

    Attributes
    ----------
    nodes : int64 array of shape (n_kept,)
        Which nodes.
    level : float64 array of shape (n_nodes,)
        Log density of every node, kept or not.
    is_sparse : bool array of shape (n_nodes,)
        Nodes set aside.
    flows : Flows
        Their graph.
    row, col, weight : int64 arrays of shape (n_edges,)
        The same graph as edges given once.
    """

    nodes: NDArray[np.int64]
    level: NDArray[np.float64]
    is_sparse: NDArray[np.bool_]
    flows: Flows
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    weight: NDArray[np.int64]


def sparse_nodes(level: NDArray[np.float64], population: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which nodes are much sparser than the median image.

    Parameters
    ----------
    level : float64 array of shape (n_nodes,)
        Log densities.
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.

    Returns
    -------
    bool array of shape (n_nodes,)
        None at all where they would hold less than half a percent.
    """
    is_sparse = level < weighted_median(level, population) - PEEL
    if population[is_sparse].sum() < LEAST_PEEL * population.sum():
        is_sparse[:] = False
    return is_sparse


def keep_nodes(
    nodes: Nodes, length: NDArray[np.float64] | None = None, *, peel: bool = True
) -> Kept:
    """Return the graph of the flows over the nearest three without its sparse nodes.

    Parameters
    ----------
    nodes : Nodes
        All nodes.
    length : float64 array of shape (n_edges,), optional [unit of the scores]
        Lengths of all edges, if they are known.
    peel : bool
        Whether to set sparse nodes aside at all.

    Returns
    -------
    Kept
        The other nodes, renumbered in order.
    """
    used = nodes.triples > 0
    row, col, weight = nodes.row[used], nodes.col[used], nodes.triples[used]
    distance = edge_distances(nodes.position, row, col) if length is None else length[used]
    level = node_levels(nodes.population, row, col, weight, distance)
    is_sparse = np.zeros(nodes.n_nodes, bool)
    if peel:
        is_sparse = sparse_nodes(level, nodes.population)
    kept = np.flatnonzero(~is_sparse)
    number = np.full(nodes.n_nodes, -1)
    number[kept] = np.arange(len(kept))
    inside = ~is_sparse[row] & ~is_sparse[col]
    row, col, weight = number[row[inside]], number[col[inside]], weight[inside]
    indptr, indices, flow = symmetric_csr(len(kept), row, col, weight)
    flows = Flows(
        indptr=indptr,
        indices=indices,
        weight=flow,
        level=level[kept],
        population=nodes.population[kept],
    )
    return Kept(kept, level, is_sparse, flows, row, col, weight)


def joins_to_linkage(
    nodes: Nodes,
    level: NDArray[np.float64],
    kept: NDArray[np.int64],
    joins: tuple[NDArray[np.int64], NDArray[np.float64]],
    largest: float,
) -> Linkage:
    """Return joins of the kept nodes, then of those set aside, as a linkage over all nodes.

    Parameters
    ----------
    nodes : Nodes
        All nodes.
    level : float64 array of shape (n_nodes,)
        Their log densities: how deep each lies in its cluster.
    kept : int64 array of shape (n_kept,)
        Nodes that are not set aside.
    joins : tuple of int64 array of shape (n_joins, 2) and float64 array of shape (n_joins,)
        Two sides, leaves counted among the kept, and a value that is small
        where the two are apart.
    largest : float
        Values at or above are no splits.

    Returns
    -------
    Linkage
        Heights are one over the lowest value so far, scores minus its log.
        Nodes set aside are joined last, each marked as noise.
    """
    n_nodes, n_kept = nodes.n_nodes, len(kept)
    ends, value = joins
    noise = np.setdiff1d(np.arange(n_nodes), kept)
    # A join is never below one inside it: the lowest ratio so far counts.
    merged = lowest_so_far(n_kept, ends, np.maximum(value, SMALLEST), largest)
    order = np.argsort(-merged, kind="stable")
    name = np.concatenate([kept, np.empty(len(ends), np.int64)])
    name[n_kept + order] = n_nodes + np.arange(len(ends))
    # Heights that rise strictly leave no ties, in an order that children precede.
    merged[order] *= 1.0 - _STEP * np.arange(len(ends))
    tested = (value < largest)[order]
    left, right = np.sort(name[ends[order]], axis=1).T
    # Each node set aside is the right side of a join above everything.
    first_noise = n_nodes + len(ends)
    top = first_noise - 1 if len(ends) else int(kept[0])
    tops = [top, *range(first_noise, first_noise + len(noise) - 1)][: len(noise)]
    height = np.concatenate([1.0 / merged[order], np.full(len(noise), 2.0 / SMALLEST)])
    score = np.where(tested, -np.log(merged[order]), -np.inf)
    left = np.concatenate([left, np.array(tops, np.int64)])
    right = np.concatenate([right, noise])
    size = subtree_sums(nodes.population, left, right)
    return Linkage(
        left.astype(np.int32),
        right.astype(np.int32),
        height,
        size[n_nodes:],
        nodes.population,
        np.exp(0.5 * (level.min() - level)) / largest,
        np.concatenate([score, np.full(len(noise), np.inf)]),
    )
