"""The joins of the contrast rule as a linkage, and the ladder of its thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from workflow.tree.contrast import UNTESTED, Contrast, History, Piece
from workflow.tree.core_distances import edge_distances
from workflow.tree.crossing import DEFAULT_RATIO, Flows, node_levels, weighted_median
from workflow.tree.flow_dendrogram import flow_merges
from workflow.tree.spanning_tree import Linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.nodes import Nodes

#: Nodes sparser than the median image by more than this log density are set aside.
PEEL = float(np.log(8.0))
#: Nothing is set aside where it would be a smaller share of the images.
LEAST_PEEL = 0.005
#: Ratios are kept above this, so that heights stay finite.
_SMALLEST = 1e-3
#: Thresholds of the ladder; the default is one of them.
LADDER = (0.5, 0.6, 0.7, 0.75, DEFAULT_RATIO, 0.85, 0.9, 0.95, 1.0)
#: Larger graphs get a shorter ladder: each rung is a run of the rule.
_LONG_LADDER_NODES, _SHORT_LADDER = 4_096, (0.7, DEFAULT_RATIO, 0.9)


class Kept(NamedTuple):
    """The nodes that are not set aside, and their graph.

    Attributes
    ----------
    nodes : int64 array of shape (n_kept,)
        Which nodes.
    flows : Flows
        Their graph.
    row, col, weight : int64 arrays of shape (n_edges,)
        The same graph as edges given once.
    """

    nodes: NDArray[np.int64]
    flows: Flows
    row: NDArray[np.int64]
    col: NDArray[np.int64]
    weight: NDArray[np.int64]


def contrast_linkage(
    nodes: Nodes, min_cluster_size: int
) -> tuple[Linkage, NDArray[np.float64], NDArray[np.bool_]]:
    """Run the contrast rule and return its joins as a tree.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids and their graph; the flows over the nearest three
        are used.
    min_cluster_size : int [images]
        Smaller pieces are joined without a test.

    Returns
    -------
    linkage : Linkage
        Heights are one over the ratio of the test, scores minus its log:
        splits with a score of at least ``-log(0.8)`` are the rule's clusters.
        Nodes set aside as noise are joined last.
    ladder : float64 array of shape (n_rungs, 2)
        Threshold and number of clusters at it.
    is_sparse : bool array of shape (n_nodes,)
        Nodes set aside.

    Notes
    -----
    Each image flows among its nearest centroids.  Bottom-up along the
    dendrogram of the flows (`flow_merges`) a join of two pieces is refused
    where the crossing between them is less concentrated on their border cells
    than the crossings of the joins inside each were.  After the rule has
    stopped the clusters are joined on, the highest ratio first, so that fewer
    clusters can be had later.  A second or two for 16,384 nodes, plus half a
    second for each further rung.
    """
    distance = edge_distances(nodes.position, nodes.row, nodes.col)
    used = nodes.triples > 0
    row, col, weight = nodes.row[used], nodes.col[used], nodes.triples[used]
    level = node_levels(nodes.population, row, col, weight, distance[used])
    is_sparse = sparse_nodes(level, nodes.population)
    kept = keep_nodes(nodes, level, (row, col, weight), is_sparse)
    merges = flow_merges(len(kept.nodes), kept.row, kept.col, kept.weight)
    rule = Contrast(kept.flows, nodes.position[kept.nodes], min_cluster_size)
    rungs = LADDER if nodes.n_nodes <= _LONG_LADDER_NODES else _SHORT_LADDER
    ladder = []
    history, pieces = History(len(kept.nodes)), list[Piece]()
    for rho in rungs:
        attempt = History(len(kept.nodes))
        found = rule.run(merges, rho, attempt)
        ladder.append((rho, float(len(found))))
        if rho == DEFAULT_RATIO:
            history, pieces = attempt, found
    _join_all(rule, pieces, history)
    linkage = _to_linkage(nodes, kept.nodes, history.joins, level)
    return linkage, np.array(ladder), is_sparse


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
    nodes: Nodes,
    level: NDArray[np.float64],
    edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    is_sparse: NDArray[np.bool_],
) -> Kept:
    """Return the graph of the nodes that are not set aside.

    Parameters
    ----------
    nodes : Nodes
        All nodes.
    level : float64 array of shape (n_nodes,)
        Log densities.
    edges : tuple of (row, col, weight)
        Edges with a flow.
    is_sparse : bool array of shape (n_nodes,)
        Nodes to set aside.

    Returns
    -------
    Kept
        The other nodes, renumbered in order.
    """
    kept = np.flatnonzero(~is_sparse)
    number = np.full(nodes.n_nodes, -1)
    number[kept] = np.arange(len(kept))
    row, col, weight = edges
    inside = ~is_sparse[row] & ~is_sparse[col]
    row, col, weight = number[row[inside]], number[col[inside]], weight[inside]
    ends = (np.concatenate([row, col]), np.concatenate([col, row]))
    matrix = sparse.coo_array((np.tile(weight, 2), ends), shape=(len(kept), len(kept))).tocsr()
    matrix.sort_indices()
    flows = Flows(
        indptr=matrix.indptr.astype(np.int64),
        indices=matrix.indices.astype(np.int64),
        weight=matrix.data.astype(np.float64),
        level=level[kept],
        population=nodes.population[kept],
        side=np.zeros(len(kept), np.int8),
    )
    return Kept(kept, flows, row, col, weight)


def _join_all(rule: Contrast, pieces: list[Piece], history: History) -> None:
    """Join the clusters that the rule left, the highest ratio first, those without flow last."""
    left = rule.settle(pieces, -1.0, history)
    left.sort(key=lambda p: (-p.images, int(p.members.min())))
    tree = left[0].tree
    for piece in left[1:]:
        tree = history.add(tree, piece.tree, 0.0)


def _to_linkage(
    nodes: Nodes,
    kept: NDArray[np.int64],
    joins: list[tuple[int, int, float]],
    level: NDArray[np.float64],
) -> Linkage:
    """Return joins of the kept nodes, then of those set aside, as a linkage over all nodes."""
    n_nodes, n_kept = nodes.n_nodes, len(kept)
    noise = np.setdiff1d(np.arange(n_nodes), kept)
    # A join is never below one inside it: the lowest ratio so far counts.
    ratio = [UNTESTED] * n_kept
    for a, b, value in joins:
        ratio.append(min(max(value, _SMALLEST), ratio[a], ratio[b]))
    merged = np.array(ratio[n_kept:], np.float64)
    order = np.argsort(-merged, kind="stable")
    name = np.concatenate([kept, np.empty(len(joins), np.int64)])
    name[n_kept + order] = n_nodes + np.arange(len(joins))
    tested = np.array([value < UNTESTED for *_, value in joins], bool)[order]
    ends = np.array([(a, b) for a, b, _ in joins], np.int64).reshape(-1, 2)[order]
    left, right = np.sort(name[ends], axis=1).T
    # Each node set aside is the right side of a join above everything.
    first_noise = n_nodes + len(joins)
    tops = [int(name[-1])] if len(name) == n_kept + len(joins) and len(noise) else []
    tops += list(range(first_noise, first_noise + len(noise) - 1))
    height = np.concatenate([1.0 / merged[order], np.full(len(noise), 2.0 / _SMALLEST)])
    score = np.where(tested, -np.log(merged[order]), -np.inf)
    left = np.concatenate([left, np.array(tops, np.int64)])
    right = np.concatenate([right, noise])
    size = [*nodes.population.tolist(), *([0] * len(height))]
    for node, (a, b) in enumerate(zip(left.tolist(), right.tolist(), strict=True), n_nodes):
        size[node] = size[a] + size[b]
    return Linkage(
        left.astype(np.int32),
        right.astype(np.int32),
        height,
        np.array(size[n_nodes:], np.int64),
        nodes.population,
        np.exp(0.5 * (level.min() - level)) / UNTESTED,
        np.concatenate([score, np.full(len(noise), np.inf)]),
    )
