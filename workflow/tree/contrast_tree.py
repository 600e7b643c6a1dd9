"""The joins of the contrast rule as a linkage, and the ladder of its thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.contrast import UNTESTED, Contrast, History, Piece
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.flow_graph import joins_to_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.flow_dendrogram import Merges
    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.spanning_tree import Linkage

#: Thresholds of the ladder; the default is one of them.
LADDER = (0.5, 0.6, 0.7, 0.75, DEFAULT_RATIO, 0.85, 0.9, 0.95, 1.0)
#: Larger graphs get a shorter ladder: each rung is a run of the rule.
_LONG_LADDER_NODES, _SHORT_LADDER = 4_096, (0.7, DEFAULT_RATIO, 0.9)


def contrast_linkage(
    nodes: Nodes, kept: Kept, merges: Merges, min_cluster_size: int
) -> tuple[Linkage, NDArray[np.float64]]:
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
    linkage : Linkage
        Heights are one over the ratio of the test, scores minus its log:
        splits with a score of at least ``-log(0.8)`` are the rule's clusters.
        Nodes set aside as noise are joined last.
    ladder : float64 array of shape (n_rungs, 2)
        Threshold and number of clusters at it.

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
    linkage = joins_to_linkage(nodes, kept.level, kept.nodes, history.joins, UNTESTED)
    return linkage, np.array(ladder)


def _join_all(rule: Contrast, pieces: list[Piece], history: History) -> None:
    """Join the clusters that the rule left, the highest ratio first, those without flow last."""
    left = rule.settle(pieces, -1.0, history)
    left.sort(key=lambda p: (-p.images, int(p.members.min())))
    tree = left[0].tree
    for piece in left[1:]:
        tree = history.add(tree, piece.tree, 0.0)
