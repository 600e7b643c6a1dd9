"""Method `modularity`: the dendrogram of the flows, cut where modularity is largest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree._tree_kernels import parents, subtree_sums
from workflow.tree.flows.dendrogram import Merges
from workflow.tree.flows.graph import joins_to_linkage
from workflow.tree.layers import Cut
from workflow.tree.method import Method
from workflow.tree.modularity._pruning_kernels import flows_inside, weakest_links

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph
    from workflow.tree.linkage import Linkage
    from workflow.tree.problem import Problem

#: Minimum centroids of average size that a cluster has where nothing can be tested: small sets have
#: small clusters.
CENTROIDS_PER_CLUSTER_UNTESTED = 1
#: Splits that only open at a larger resolution are never made.
_FINEST = 1e3
#: How far merges within communities are kept from those above, relatively.
_MARGIN = 1e-6


class Modularity(Method):
    """The cut of largest modularity of the dendrogram of the flows; needs no test."""

    name = "modularity"
    title = "modularity"
    joins_by = "flow"
    reads = "flows"
    noise = "centroids much sparser than the median image, where there are enough images to tell"

    def build(self, problem: Problem) -> Linkage:
        """Return the dendrogram of the flows with the resolution at which each merge opens.

        Parameters
        ----------
        problem : Problem
            Checked input.

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
        flows, resolution = problem.flows, problem.resolution
        merges = join_components(flows.graph.n_nodes, problem.merges)
        critical = critical_resolutions(flows.graph, merges)
        # A cut of the dendrogram may open a community, or not open all, where moves of nodes made
        # both better than any cut can be: the communities count.
        critical = np.where(
            _is_inside(merges, problem.community),
            np.maximum(critical, resolution * (1 + _MARGIN)),
            np.minimum(critical, resolution * (1 - _MARGIN)),
        )
        ends = np.stack([merges.left, merges.right], axis=1)
        return joins_to_linkage(problem.nodes, flows, ends, critical, _FINEST)

    def cut(self, problem: Problem) -> Cut:
        """Return the cut at the resolution of the communities."""
        size = problem.min_size()
        if not problem.testable:
            size = problem.min_size(CENTROIDS_PER_CLUSTER_UNTESTED)
        return Cut(size, -math.log(problem.resolution), "leaf")


def _is_inside(merges: Merges, community: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which merges have all their nodes in one community."""
    owner = community.tolist()
    for a, b in zip(merges.left.tolist(), merges.right.tolist(), strict=True):
        owner.append(owner[a] if owner[a] == owner[b] else -1)
    return np.array(owner[len(community) :]) >= 0


def join_components(n_nodes: int, merges: Merges) -> Merges:
    """Join the trees of a forest above everything, by their lowest node."""
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


def critical_resolutions(graph: Graph, merges: Merges) -> NDArray[np.float64]:
    """Return the resolution above which the best cut of a dendrogram opens each merge, (n_nodes - 1,), not falling from a merge to one inside it."""
    degree = graph.weight_sums()
    total = max(1.0, degree.sum() / 2)
    parent = parents(graph.n_nodes, merges.left, merges.right)
    held = flows_inside(parent, graph) / total
    below = subtree_sums(degree.astype(np.int64), merges.left, merges.right)
    return weakest_links(parent, merges.left, merges.right, held, np.square(below / (2 * total)))
