"""The joins of the contrast rule as a linkage, the ladder of its thresholds, and its borders."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree._kernels import leaf_places, linked, meeting_nodes, parents
from workflow.tree._pieces import join_untested, test_all
from workflow.tree.contrast import Contrast
from workflow.tree.crossing import DEFAULT_RATIO, UNTESTED
from workflow.tree.flow_graph import joins_to_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.flow_dendrogram import Merges
    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.spanning_tree import Linkage

#: Thresholds of the ladder; the default is one of them.
LADDER = (0.5, 0.6, 0.7, 0.75, 0.8, DEFAULT_RATIO, 0.9, 0.95, 1.0)


class Borders(NamedTuple):
    """Pairs of clusters that touch.

    Attributes
    ----------
    pair : int32 array of shape (n_pairs, 2)
        The two clusters, the lower first; rows in lexicographic order.
    flow : float64 array of shape (n_pairs,)
        Weight of the edges between them.
    ratio : float64 array of shape (n_pairs,)
        Ratio of the test of their join: small where the border is thin,
        `workflow.tree.crossing.UNTESTED` where neither has a reference.
    """

    pair: NDArray[np.int32]
    flow: NDArray[np.float64]
    ratio: NDArray[np.float64]


def contrast_linkage(nodes: Nodes, kept: Kept, merges: Merges, min_cluster_size: int) -> Linkage:
    """Run the contrast rule and return its joins as a tree.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    kept : Kept
        The nodes that are not set aside.
    merges : Merges
        Dendrogram of the kept nodes.
    min_cluster_size : int [images]
        Smaller pieces are joined without a test.

    Returns
    -------
    Linkage
        Heights are one over the ratio of the test, scores minus its log:
        splits with a score of at least ``-log(DEFAULT_RATIO)`` are the rule's
        clusters.  Nodes set aside as noise are joined last.

    Notes
    -----
    Each image flows among its nearest centroids.  Bottom-up along the
    dendrogram of the flows (`nested_merges`) a join of two pieces is refused
    where the crossing between them is less concentrated on their border cells
    than the crossings of the joins inside each were.  After the rule has
    stopped the clusters are joined on, the highest ratio first, so that fewer
    clusters can be had later.
    """
    rule = Contrast(kept.flows, nodes.position[kept.nodes], merges, min_cluster_size)
    found = rule.run(DEFAULT_RATIO, join_on=True)
    return joins_to_linkage(nodes, kept.level, kept.nodes, (found.ends, found.ratio), UNTESTED)


def contrast_ladder(
    nodes: Nodes, kept: Kept, merges: Merges, min_cluster_size: int
) -> NDArray[np.float64]:
    """Return how many clusters the contrast rule finds at each of a ladder of thresholds.

    Parameters
    ----------
    nodes, kept, merges : Nodes, Kept, Merges
        As for `contrast_linkage`.
    min_cluster_size : int
        As for `contrast_linkage`.

    Returns
    -------
    float64 array of shape (n_rungs, 2)
        Threshold and number of clusters at it; a plateau is a number to trust.
    """
    rule = Contrast(kept.flows, nodes.position[kept.nodes], merges, min_cluster_size)
    thresholds = np.array(LADDER)
    return np.stack([thresholds, rule.count(thresholds).astype(np.float64)], axis=1)


def cluster_borders(
    kept: Kept,
    position: NDArray[np.float64],
    merges: Merges,
    label: NDArray[np.int32],
    min_images: int,
) -> Borders:
    """Return how the contrast test sees the borders of given clusters.

    Parameters
    ----------
    kept : Kept
        The nodes that are not set aside, and their graph.
    position : float64 array of shape (n_nodes, n_components) [unit of the scores]
        Where all nodes are.
    merges : Merges
        Dendrogram of the kept nodes.
    label : int32 array of shape (n_kept,)
        Cluster of each kept node, from 0; nodes below 0 are left out.
    min_images : int [images]
        Smaller pieces are joined without a test.

    Returns
    -------
    Borders
        Every pair of clusters with a flow between them.

    Notes
    -----
    What holds a cluster together is taken from the rule at a threshold below
    everything, along the dendrogram restricted to the nodes of the cluster: all
    joins inside are accepted, fragments come without a test.  Costs about one
    run of the rule.
    """
    rule = Contrast(kept.flows, position[kept.nodes], merges, min_images)
    left, right = _inside_clusters(merges, label)
    owner, pieces, joins = rule.join(left, right, -1.0, join_on=False)
    inside = np.flatnonzero(label >= 0)
    piece = np.full(int(label.max(initial=-1)) + 1, -1)
    # Parts of a cluster that nothing connects are one piece without a test.
    for cluster, part in np.unique(np.stack([label[inside], owner[inside]]), axis=1).T.tolist():
        apart = piece[cluster] >= 0
        piece[cluster] = join_untested(pieces, joins, piece[cluster], part) if apart else part
    a, b = label[kept.row], label[kept.col]
    crosses = (a >= 0) & (b >= 0) & (a != b)
    ends = np.sort(np.stack([a[crosses], b[crosses]], axis=1), axis=1)
    pair = np.unique(ends.astype(np.int32), axis=0)
    ratio, flow = test_all(rule.graph, pieces, rule.total, piece[pair])
    return Borders(pair, flow, ratio)


def _inside_clusters(
    merges: Merges, label: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both sides of the merges of a dendrogram restricted to each of the clusters."""
    parent = parents(len(label), merges.left, merges.right)
    place = leaf_places(len(label), merges.left, merges.right)
    order = np.lexsort((place, label))
    a, b = order[:-1], order[1:]
    same = (label[a] == label[b]) & (label[a] >= 0)
    a, b = a[same], b[same]
    # Of neighbours in the order of leaves no two pairs of a cluster meet in the same merge, and
    # these are all the merges that have nodes of the cluster on both sides.
    node = meeting_nodes(parent, a, b)
    by_merge = np.argsort(node, kind="stable")
    by_merge = by_merge[node[by_merge] >= 0]
    return linked(len(label), a[by_merge], b[by_merge])
