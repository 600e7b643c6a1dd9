"""The graph of the flows without its sparse nodes, and joins on it as a linkage over all nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.numerics import weighted_median
from workflow.tree._graph_kernels import symmetric_graph
from workflow.tree._tree_kernels import lowest_so_far, subtree_sums
from workflow.tree.linkage import Linkage
from workflow.tree.nodes import edge_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph
    from workflow.tree.nodes import Nodes

#: Nodes sparser than the median image by more than this log density are set aside.
SPARSE_BELOW_MEDIAN = float(np.log(8.0))
#: Nothing is set aside where it would be a smaller share of the images.
MIN_SPARSE_SHARE = 0.005
#: Values of joins are kept above this, so that heights stay finite.
MIN_VALUE = 1e-3
#: Equal values are put this far apart, relatively: any number of clusters can be had.
_STEP = 1e-12


class FlowGraph(NamedTuple):
    """The graph of the flows among the nodes that are not set aside.

    Attributes
    ----------
    nodes : int64 array of shape (n_dense,)
        Which of all nodes the nodes of the graph are.
    level : float64 array of shape (n_nodes,)
        Log density of every node, set aside or not.
    is_sparse : bool array of shape (n_nodes,)
        Nodes set aside.
    graph : Graph
        Flows over the nearest three, whole numbers in float64 [images].
    """

    nodes: NDArray[np.int64]
    level: NDArray[np.float64]
    is_sparse: NDArray[np.bool_]
    graph: Graph


def make_flow_graph(
    nodes: Nodes, length: NDArray[np.float64] | None = None, *, set_aside: bool = True
) -> FlowGraph:
    """Return the graph of the flows over the nearest three, its nodes renumbered in order; without its sparse nodes where `set_aside`."""
    used = nodes.weights > 0
    row, col, weight = nodes.row[used], nodes.col[used], nodes.weights[used]
    distance = edge_distances(nodes.position, row, col) if length is None else length[used]
    level = node_levels(nodes.population, row, col, weight, distance)
    is_sparse = np.zeros(nodes.n_nodes, bool)
    if set_aside:
        is_sparse = sparse_nodes(level, nodes.population)
    dense = np.flatnonzero(~is_sparse)
    number = np.full(nodes.n_nodes, -1)
    number[dense] = np.arange(len(dense))
    inside = ~is_sparse[row] & ~is_sparse[col]
    graph = symmetric_graph(len(dense), number[row[inside]], number[col[inside]], weight[inside])
    return FlowGraph(dense, level, is_sparse, graph)


def node_levels(
    population: NDArray[np.int64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the log density of each node, with exponent 2 in any dimension.

    Parameters
    ----------
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.
    row, col : int64 arrays of shape (n_edges,)
        Edges, each given once.
    weight : int64 array of shape (n_edges,) [images]
        Flows.
    distance : float64 array of shape (n_edges,) [unit of the scores]
        Lengths of the edges.

    Returns
    -------
    float64 array of shape (n_nodes,)
        ``log(population) - 2 log(s)`` with s the mean distance along the
        flow.  The true dimension as exponent would raise the noise of s to it.
    """
    n_nodes = len(population)
    ends = np.concatenate([row, col])
    flow = np.bincount(ends, np.tile(weight, 2), minlength=n_nodes)
    spread = np.bincount(ends, np.tile(weight * distance, 2), minlength=n_nodes)
    has_flow = flow > 0
    if not has_flow.any():
        return np.log(population.astype(np.float64))
    mean = spread / np.maximum(flow, 1)
    mean[~has_flow] = mean[has_flow].max()
    result: NDArray[np.float64] = np.log(population) - 2 * np.log(mean)
    return result


def sparse_nodes(level: NDArray[np.float64], population: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which nodes are much sparser than the median image; none at all where they would hold less than half a percent of the images."""
    is_sparse = level < weighted_median(level, population) - SPARSE_BELOW_MEDIAN
    if population[is_sparse].sum() < MIN_SPARSE_SHARE * population.sum():
        is_sparse[:] = False
    return is_sparse


def joins_to_linkage(
    nodes: Nodes,
    flows: FlowGraph,
    ends: NDArray[np.int64],
    value: NDArray[np.float64],
    largest: float,
) -> Linkage:
    """Return joins of the nodes of a graph, then of those set aside, as a linkage over all nodes.

    Parameters
    ----------
    nodes : Nodes
        All nodes.
    flows : FlowGraph
        Which of them were joined, and the log densities of all: how deep each
        lies in its cluster.
    ends : int64 array of shape (n_joins, 2)
        The two sides of each join; join i makes node ``n_dense + i``.
    value : float64 array of shape (n_joins,)
        Small where the two sides are apart.
    largest : float
        Values at or above are no splits.

    Returns
    -------
    Linkage
        Heights are one over the lowest value so far, scores minus its log.
        Nodes set aside are joined last, each marked as noise.
    """
    n_nodes, n_dense = nodes.n_nodes, len(flows.nodes)
    noise = np.flatnonzero(flows.is_sparse)
    # A join is never below one inside it: the lowest value so far counts.
    merged = lowest_so_far(n_dense, ends, np.maximum(value, MIN_VALUE), largest)
    order = np.argsort(-merged, kind="stable")
    name = np.concatenate([flows.nodes, np.empty(len(ends), np.int64)])
    name[n_dense + order] = n_nodes + np.arange(len(ends))
    # Heights that rise strictly leave no ties, in an order that children precede.
    merged[order] *= 1.0 - _STEP * np.arange(len(ends))
    tested = (value < largest)[order]
    left, right = np.sort(name[ends[order]], axis=1).T
    # Each node set aside is the right side of a join above everything.
    first_noise = n_nodes + len(ends)
    top = first_noise - 1 if len(ends) else int(flows.nodes[0])
    tops = [top, *range(first_noise, first_noise + len(noise) - 1)][: len(noise)]
    height = np.concatenate([1.0 / merged[order], np.full(len(noise), 2.0 / MIN_VALUE)])
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
        np.exp(0.5 * (flows.level.min() - flows.level)) / largest,
        np.concatenate([score, np.full(len(noise), np.inf)]),
    )
