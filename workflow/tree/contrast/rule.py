"""The contrast rule: clusters are joined bottom-up while crossings are as thick as those inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree._graph_kernels import in_leaf_order
from workflow.tree._tree_kernels import leaf_places, linked, meeting_nodes, parents, subtree_sums
from workflow.tree.contrast._cluster_kernels import (
    Flows,
    join_untested,
    single_clusters,
    test_pairs,
)
from workflow.tree.contrast._rule_kernels import Limits, empty_tests, run_rule, single_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.contrast._cluster_kernels import Clusters, Joins
    from workflow.tree.flows.dendrogram import Merges
    from workflow.tree.flows.graph import FlowGraph
    from workflow.tree.nodes import Nodes


class FoundClusters(NamedTuple):
    """What the rule found.

    Attributes
    ----------
    label : int32 array of shape (n_dense,)
        Cluster of each node: 0 has the most images, then the lowest node.
    n_clusters : int
        Number of clusters.
    ends : int64 array of shape (n_joins, 2)
        Sides of the joins in the order they were made; join i makes node
        ``n_dense + i``.
    ratio : float64 array of shape (n_joins,)
        Ratio of the test of each join, `workflow.tree.contrast.constants.UNTESTED`
        without one.
    """

    label: NDArray[np.int32]
    n_clusters: int
    ends: NDArray[np.int64]
    ratio: NDArray[np.float64]


class Borders(NamedTuple):
    """Pairs of clusters that touch.

    Attributes
    ----------
    pair : int32 array of shape (n_pairs, 2)
        The two clusters, the lower first; rows in lexicographic order.
    ratio : float64 array of shape (n_pairs,)
        Ratio of the test of their join: small where the border is thin,
        `workflow.tree.contrast.constants.UNTESTED` where neither has a reference.
    """

    pair: NDArray[np.int32]
    ratio: NDArray[np.float64]


class ContrastRule:
    """The rule on one graph: joins clusters bottom-up along a dendrogram.

    Parameters
    ----------
    nodes : Nodes
        All nodes; positions decide only where nothing flows.
    flows : FlowGraph
        The graph of those that are not set aside.
    merges : Merges
        Dendrogram of the nodes of the graph.
    min_images : int [images]
        Smaller clusters are joined without a test.

    Notes
    -----
    Where two groups of clusters meet at a merge, each pair that touches is
    tested, and the pair with the highest ratio is joined while that is at
    least the threshold.  A group smaller than `min_images` is one cluster; it
    is given to the cluster with the largest flow without a test.  A test costs
    the edges of the smaller cluster and those of the border of the larger one.
    """

    def __init__(self, nodes: Nodes, flows: FlowGraph, merges: Merges, min_images: int) -> None:
        self._place = leaf_places(len(flows.nodes), merges.left, merges.right)
        order = np.argsort(self._place)
        dense = flows.nodes[order]
        self._flows = Flows(
            in_leaf_order(flows.graph, order, self._place),
            flows.level[dense],
            nodes.population[dense],
            nodes.position[dense],
            order,
        )
        self._graph = flows.graph
        self._population = nodes.population[flows.nodes]
        self._merges = merges
        n_images = int(self._population.sum())
        # Room for tests: each pair of clusters has an edge of the graph for itself.
        n_clusters = min(len(order), n_images // max(1, min_images))
        n_tests = min(len(flows.graph.indices) // 2, n_clusters * (n_clusters - 1) // 2) + 1
        self._limits = Limits(min_images, n_images, n_tests)

    def run(self, threshold: float, *, join_on: bool = False) -> FoundClusters:
        """Return the clusters at a threshold; with `join_on` also further joins, the highest ratio first, without flow last (0)."""
        left, right = _rooted(self._merges, self._population)
        owner, clusters, joins = self._join(left, right, threshold, join_on=join_on)
        label = numbered(owner, self._population)
        n_made = int(joins.made[0])
        ends = np.stack([joins.left[:n_made], joins.right[:n_made]], axis=1)
        ratio = joins.ratio[:n_made]
        if join_on:
            more = _without_flow(self._flows, clusters, n_made)
            ends, ratio = np.concatenate([ends, more]), np.append(ratio, np.zeros(len(more)))
        return FoundClusters(label, int(label.max()) + 1, ends, ratio)

    def borders(self, label: NDArray[np.int32]) -> Borders:
        """Return how the test sees the borders of given clusters.

        Parameters
        ----------
        label : int32 array of shape (n_dense,)
            Cluster of each node of the graph, from 0; nodes below 0 are left out.

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
        left, right = _inside_clusters(self._merges, label)
        owner, clusters, joins = self._join(left, right, -1.0, join_on=False)
        inside = np.flatnonzero(label >= 0)
        joined = np.full(int(label.max(initial=-1)) + 1, -1)
        # Parts of a cluster that nothing connects are joined without a test.
        for number, part in np.unique(np.stack([label[inside], owner[inside]]), axis=1).T.tolist():
            apart = joined[number] >= 0
            joined[number] = join_untested(clusters, joins, joined[number], part) if apart else part
        a, b = label[self._graph.rows()], label[self._graph.indices]
        crosses = (a >= 0) & (a < b)
        n_labels = len(joined)
        pair = np.unique(a[crosses].astype(np.int64) * n_labels + b[crosses])
        pair = np.stack(np.divmod(pair, max(1, n_labels)), axis=1)
        ratio = test_pairs(self._flows, clusters, self._limits.n_images, joined[pair])
        return Borders(pair.astype(np.int32), ratio)

    def _join(
        self, left: NDArray[np.int64], right: NDArray[np.int64], threshold: float, *, join_on: bool
    ) -> tuple[NDArray[np.int64], Clusters, Joins]:
        """Return the cluster of each node, all clusters and all joins along the merges of a forest."""
        clusters, joins = single_clusters(self._flows)
        owner = run_rule(
            self._flows,
            clusters,
            joins,
            single_groups(self._flows, len(left)),
            empty_tests(self._limits.n_tests),
            (self._renamed(left), self._renamed(right)),
            self._limits,
            threshold,
            join_on,
        )
        return owner[self._place], clusters, joins

    def _renamed(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return nodes of the dendrogram with its leaves named by their places."""
        n_leaves = len(self._place)
        return np.where(nodes < n_leaves, self._place[np.minimum(nodes, n_leaves - 1)], nodes)


def numbered(owner: NDArray[np.int64], population: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return labels from 0 (int32) by falling images, then by the lowest node; `owner` is any name of the cluster of each node."""
    _, first, name = np.unique(owner, return_index=True, return_inverse=True)
    images = np.zeros(len(first), np.int64)
    np.add.at(images, name, population)
    number = np.empty(len(first), np.int32)
    number[np.lexsort((first, -images))] = np.arange(len(first))
    return number[name]


def _rooted(
    merges: Merges, population: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both sides of merges, the trees of a forest joined last, the largest first."""
    left, right = merges.left, merges.right
    images = subtree_sums(population, left, right)
    is_root = np.ones(len(images), bool)
    is_root[left] = is_root[right] = False
    roots = np.flatnonzero(is_root)
    roots = roots[np.argsort(-images[roots], kind="stable")]
    tops = np.concatenate([roots[:1], np.arange(len(images), len(images) + len(roots) - 2)])
    return (
        np.concatenate([left, tops[: len(roots) - 1]]).astype(np.int64),
        np.concatenate([right, roots[1:]]).astype(np.int64),
    )


def _without_flow(flows: Flows, clusters: Clusters, n_made: int) -> NDArray[np.int64]:
    """Return joins of the clusters that are left, the largest first, then by the lowest node."""
    n_nodes = len(clusters.owner)
    lowest = np.full(n_nodes, n_nodes)
    np.minimum.at(lowest, clusters.owner, flows.name)
    left = np.flatnonzero(clusters.tree >= 0)
    tree = clusters.tree[left[np.lexsort((lowest[left], -clusters.images[left]))]]
    first = n_nodes + n_made
    tops = np.concatenate([tree[:1], np.arange(first, first + len(tree) - 2)])
    return np.stack([tops[: len(tree) - 1], tree[1:]], axis=1).astype(np.int64)


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
