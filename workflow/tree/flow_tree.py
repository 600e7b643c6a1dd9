"""Where a test has no power: the dendrogram of the flows, cut by modularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.tree._kernels import flows_inside, parents, subtree_sums
from workflow.tree._links import weakest_links
from workflow.tree.flow_dendrogram import Merges, node_strengths
from workflow.tree.flow_graph import joins_to_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.spanning_tree import Linkage

#: Resolution of the communities where nothing can be tested.  1 is the modularity of Newman and
#: Girvan; on small sets of labelled images 1 to 2 came nearest to the labels.
UNTESTED_RESOLUTION = 1.5
#: Resolution of the communities where a test has found structure.
RESOLUTION = 1.0
#: Splits that only open at a larger resolution are never made.
_FINEST = 1e3
#: How far merges within communities are kept from those above, relatively.
_MARGIN = 1e-6


def modularity_linkage(
    nodes: Nodes,
    kept: Kept,
    merges: Merges,
    community: NDArray[np.int64],
    resolution: float,
) -> Linkage:
    """Return the dendrogram of the flows with the resolution at which each merge opens.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    kept : Kept
        The nodes that are not set aside.
    merges : Merges
        Dendrogram of the kept nodes, communities last.
    community : int64 array of shape (n_kept,)
        Communities of the kept nodes.
    resolution : float
        Resolution they were found at.

    Returns
    -------
    Linkage
        Heights are one over the critical resolution, scores minus its log:
        splits with a score of at least ``-log(r)`` are the cut of the
        dendrogram with the largest modularity at resolution r.  At that of the
        communities these are the cut.  Nodes set aside as noise are joined last.

    Notes
    -----
    Modularity adds up over clusters, so its best cut of a dendrogram is exact,
    and cuts at growing resolution are nested: they are found all at once by
    the weakest-link pruning of [1]_.  O(n_nodes x depth of the dendrogram).

    References
    ----------
    .. [1] L. Breiman, J. Friedman, R. Olshen and C. Stone, "Classification and
       Regression Trees", chapter 3, 1984.
    """
    n_kept = len(kept.nodes)
    merges = join_pieces(n_kept, merges)
    critical = critical_resolutions(n_kept, merges, kept.row, kept.col, kept.weight)
    # A cut of the dendrogram may open a community, or not open all, where moves of nodes made both
    # better than any cut can be: the communities count.
    critical = np.where(
        _is_inside(merges, community),
        np.maximum(critical, resolution * (1 + _MARGIN)),
        np.minimum(critical, resolution * (1 - _MARGIN)),
    )
    ends = np.stack([merges.left, merges.right], axis=1)
    return joins_to_linkage(nodes, kept.level, kept.nodes, (ends, critical), _FINEST)


def _is_inside(merges: Merges, community: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which merges have all their nodes in one community."""
    owner = community.tolist()
    for a, b in zip(merges.left.tolist(), merges.right.tolist(), strict=True):
        owner.append(owner[a] if owner[a] == owner[b] else -1)
    return np.array(owner[len(community) :]) >= 0


def join_pieces(n_nodes: int, merges: Merges) -> Merges:
    """Join the trees of a forest above everything, by their lowest node.

    Parameters
    ----------
    n_nodes : int
        Number of leaves.
    merges : Merges
        A forest.

    Returns
    -------
    Merges
        One tree.
    """
    n_merges = len(merges.left)
    is_root = np.ones(n_nodes + n_merges, bool)
    is_root[merges.left] = is_root[merges.right] = False
    roots = np.flatnonzero(is_root)
    first = n_nodes + n_merges
    tops = np.concatenate([roots[:1], np.arange(first, first + len(roots) - 2)])[: len(roots) - 1]
    return Merges(
        np.concatenate([merges.left, tops]).astype(np.int64),
        np.concatenate([merges.right, roots[1:]]).astype(np.int64),
        np.append(merges.distance, np.full(len(tops), np.inf)),
    )


def critical_resolutions(
    n_nodes: int,
    merges: Merges,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the resolution above which the best cut of a dendrogram opens each merge.

    Parameters
    ----------
    n_nodes : int
        Number of leaves.
    merges : Merges
        One tree.
    row, col : int64 arrays of shape (n_edges,)
        Edges, each given once.
    weight : int64 array of shape (n_edges,)
        Their weights.

    Returns
    -------
    float64 array of shape (n_nodes - 1,)
        Not falling from a merge to one inside it.
    """
    parent = parents(n_nodes, merges.left, merges.right)
    total = max(1, int(weight.sum()))
    degree = node_strengths(n_nodes, row, col, weight)
    held = flows_inside(parent, row, col, weight) / total
    chance = np.square(subtree_sums(degree, merges.left, merges.right) / (2 * total))
    return weakest_links(parent, merges.left, merges.right, held, chance)
