"""Where a test has no power: the dendrogram of the flows, cut by modularity."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.flow_dendrogram import Merges
from workflow.tree.flow_graph import joins_to_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.spanning_tree import Linkage

#: Resolution of the cut where nothing can be tested.  1 is the modularity of Newman and Girvan;
#: on small sets of labelled images 2 to 3 came nearer to the labels.
UNTESTED_RESOLUTION = 2.0
#: Resolution of the cut where a test has found structure.
RESOLUTION = 1.0
#: Splits that only open at a larger resolution are never made.
_FINEST = 1e3


def modularity_linkage(nodes: Nodes, kept: Kept, merges: Merges) -> Linkage:
    """Return the dendrogram of the flows with the resolution at which each merge opens.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    kept : Kept
        The nodes that are not set aside.
    merges : Merges
        Dendrogram of the kept nodes.

    Returns
    -------
    Linkage
        Heights are one over the critical resolution, scores minus its log:
        splits with a score of at least ``-log(r)`` are the cut of the
        dendrogram with the largest modularity at resolution r.  Nodes set
        aside as noise are joined last.

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
    sides = zip(merges.left.tolist(), merges.right.tolist(), critical.tolist(), strict=True)
    return joins_to_linkage(nodes, kept.level, kept.nodes, list(sides), _FINEST)


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
    left, right = merges.left.tolist(), merges.right.tolist()
    roots = sorted(set(range(n_nodes + len(left))) - set(left) - set(right))
    top = roots[0]
    for root in roots[1:]:
        left.append(top)
        right.append(root)
        top = n_nodes + len(left) - 1
    distance = np.full(len(left), np.inf)
    distance[: len(merges.distance)] = merges.distance
    return Merges(np.array(left, np.int64), np.array(right, np.int64), distance)


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
    n_merges = len(merges.left)
    left, right = merges.left.tolist(), merges.right.tolist()
    parent = [-1] * (n_nodes + n_merges)
    for merge, (a, b) in enumerate(zip(left, right, strict=True)):
        parent[a] = parent[b] = n_nodes + merge
    held, chance = _gains(n_nodes, merges, parent, (row, col, weight))
    held_below, chance_below = [0.0] * len(parent), [0.0] * len(parent)
    chance_below[:n_nodes] = chance[:n_nodes]
    for node in range(n_nodes, n_nodes + n_merges):
        for side in (left[node - n_nodes], right[node - n_nodes]):
            held_below[node] += held_below[side]
            chance_below[node] += chance_below[side]

    def gain(node: int) -> float:
        excess = chance[node] - chance_below[node]
        return (held[node] - held_below[node]) / excess if excess > 0 else 0.0

    critical = np.full(n_merges, np.nan)
    heap = [(-gain(node), node) for node in range(n_nodes, n_nodes + n_merges)]
    heapq.heapify(heap)
    while heap:
        value, node = heapq.heappop(heap)
        if not np.isnan(critical[node - n_nodes]) or -value != gain(node):
            continue  # closed with an ancestor, or pushed again with another gain
        inside = [node]
        while inside:
            closed = inside.pop()
            critical[closed - n_nodes] = -value
            sides = (left[closed - n_nodes], right[closed - n_nodes])
            inside += [s for s in sides if s >= n_nodes and np.isnan(critical[s - n_nodes])]
        more_held, more_chance = held[node] - held_below[node], chance[node] - chance_below[node]
        held_below[node], chance_below[node] = held[node], chance[node]
        above = parent[node]
        while above >= 0:
            held_below[above] += more_held
            chance_below[above] += more_chance
            heapq.heappush(heap, (-gain(above), above))
            above = parent[above]
    for merge in range(n_merges - 1, -1, -1):  # rounding must not put a child below its parent
        above = parent[n_nodes + merge]
        if above >= 0:
            critical[merge] = max(critical[merge], critical[above - n_nodes])
    return critical


def _gains(
    n_nodes: int,
    merges: Merges,
    parent: list[int],
    edges: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
) -> tuple[list[float], list[float]]:
    """Return, per node, the share of the flow inside it and the share expected by chance."""
    row, col, weight = edges
    total = max(1, int(weight.sum()))
    inside = [0] * len(parent)
    degree = np.bincount(np.concatenate([row, col]), np.tile(weight, 2), minlength=n_nodes)
    degrees = [*degree.tolist(), *([0.0] * len(merges.left))]
    for a, b, flow in zip(row.tolist(), col.tolist(), weight.tolist(), strict=True):
        # A parent always has the larger number, so the smaller of the two climbs.
        while a != b:
            if a < b:
                a = parent[a]  # noqa: PLW2901 - climbing is the point
            else:
                b = parent[b]  # noqa: PLW2901 - climbing is the point
        inside[a] += flow
    for node, (a, b) in enumerate(
        zip(merges.left.tolist(), merges.right.tolist(), strict=True), n_nodes
    ):
        inside[node] += inside[a] + inside[b]
        degrees[node] = degrees[a] + degrees[b]
    held = [w / total for w in inside]
    return held, [(d / (2 * total)) ** 2 for d in degrees]
