"""The next split of a cluster in a tree, against every cut of it; nodes of any partition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import sparse

from workflow.graph import Graph
from workflow.tree import build_tree
from workflow.tree.condensed_tree import prominences
from workflow.tree.splitting import (
    Split,
    clusters_below,
    halves,
    next_split,
    tree_of_partition,
)


@pytest.fixture(scope="module", params=["contrast", "density", "hdbscan"])
def tree(blobs, request):
    cells, _ = blobs
    return build_tree(
        cells.centroids,
        cells.population,
        cells.graph,
        dimension=8.0,
        method=request.param,
        mean_distance=cells.mean_distance,
    )


def parts_of(tree, split, members):
    """Return the clusters of a cut that hold centroids of a set."""
    label = clusters_below(tree, split)[members]
    return np.unique(label[label >= 0])


def sizes_tried(tree, members):
    """Return the least sizes of clusters that a split may have: that of the tree, and halves down to a tenth."""
    sizes = [tree.min_cluster_size]
    while sizes[-1] // 2 >= max(1, 0.1 * tree.population[members].sum()):
        sizes.append(sizes[-1] // 2)
    return sizes


def finest(tree, size):
    """Return the lowest prominence of a split with parts of a size."""
    rank = prominences(tree.linkage, size)
    return float(rank[np.isfinite(rank)].min())


def test_next_split__is_the_most_prominent_that_parts_the_cluster(tree):
    n_parted = 0
    for members in [np.isin(tree.label, [0, c]) for c in range(min(tree.n_clusters, 4))]:
        split, sizes = next_split(tree, members), sizes_tried(tree, members)
        if split is None:
            splits = [Split(size, finest(tree, size)) for size in sizes]
            assert all(len(parts_of(tree, one, members)) < 2 for one in splits)
            continue
        n_parted += 1
        assert split.min_cluster_size in sizes
        assert len(parts_of(tree, split, members)) > 1
        rank = prominences(tree.linkage, split.min_cluster_size)
        more = np.unique(rank[np.isfinite(rank) & (rank > split.min_prominence)])
        assert all(
            len(parts_of(tree, split._replace(min_prominence=float(p)), members)) < 2 for p in more
        )
        larger = [size for size in sizes if size > split.min_cluster_size]
        splits = [Split(size, finest(tree, size)) for size in larger]
        assert all(len(parts_of(tree, one, members)) < 2 for one in splits)
    assert n_parted >= 3


def random_graph(rng, sizes, inside, across):
    """Return flows among groups of centroids: many within each, few between; and the group of each."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    same = group[:, None] == group
    flow = np.triu(rng.poisson(np.where(same, inside, across)), 1)
    both = sparse.csr_array(flow + flow.T)
    return Graph(both.indptr, both.indices, both.data), group


def test_halves__are_the_two_groups_of_planted_flows():
    rng = np.random.default_rng(0)
    for _ in range(20):
        graph, group = random_graph(rng, [30, 14, 20], 40.0, 1.0)
        members = group != 2
        population = rng.integers(50, 200, len(group))
        part = halves(graph, population, members)
        assert not part[~members].any()
        found = part[members].astype(int)
        assert (found == group[members]).all() or (found == 1 - group[members]).all()


def test_halves__have_nearly_the_smallest_conductance_of_all_pairs_of_parts():
    rng = np.random.default_rng(1)
    subsets = np.array(list(itertools.product([False, True], repeat=11)))
    everyone = np.ones(11, bool)
    for _ in range(20):
        graph, _ = random_graph(rng, [6, 5], 20.0, 6.0)
        population = rng.integers(20, 200, 11)
        flow = graph.to_sparse().toarray()
        weight = flow.sum(axis=1) + population

        def conductance(part, flow=flow, weight=weight):
            volumes = weight[part].sum(), weight[~part].sum()
            return flow[part][:, ~part].sum() / min(volumes)

        share = subsets @ population / population.sum()
        allowed = subsets[(share >= 0.1) & (share <= 0.9)]
        best = min(conductance(part) for part in allowed)
        part = halves(graph, population, everyone)
        assert 0.1 <= population[part].sum() / population.sum() <= 0.9
        assert conductance(part) <= 1.2 * best


def test_halves__of_parts_without_ties_and_of_one_centroid():
    empty = Graph(np.zeros(5, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
    members = np.array([True, True, True, False])
    part = halves(empty, np.array([5, 5, 5, 5]), members)
    assert 0 < part.sum() < 3
    assert halves(empty, np.array([5, 5, 5, 5]), np.arange(4) == 2) is None
    assert halves(empty, np.array([500, 5, 5, 5]), np.arange(4) < 2) is None


def test_next_split__of_clusters_put_together_parts_them_first(tree):
    two = np.isin(tree.label, [0, 1])
    label = clusters_below(tree, next_split(tree, two))
    parts = [set(label[(tree.label == c) & (label >= 0)].tolist()) for c in (0, 1)]
    assert parts[0].isdisjoint(parts[1])


def test_next_split__of_one_centroid_is_none(tree):
    assert next_split(tree, np.arange(len(tree.label)) == 7) is None


def leaves_below(condensed):
    """Return the leaves of each node."""
    children = {}
    for parent, child in zip(condensed.parent.tolist(), condensed.child.tolist(), strict=True):
        children.setdefault(parent, []).append(child)

    def leaves(node):
        return {node} if node < condensed.n_leaves else set().union(*map(leaves, children[node]))

    return {node: leaves(node) for node in children}


def assert_shows(tree, shown, label):
    """Hold the nodes of a partition against the cluster of each centroid."""
    below, n_leaves = leaves_below(shown.condensed), shown.condensed.n_leaves
    size = tree.linkage.leaf_size
    of_leaf = np.full(n_leaves, -1)
    np.maximum.at(of_leaf, tree.node, label)
    assert below[n_leaves] == set(range(n_leaves))
    assert set(shown.cluster.tolist()) == set(label[label >= 0].tolist())
    parent = dict(zip(shown.condensed.child.tolist(), shown.condensed.parent.tolist(), strict=True))
    cluster = dict(zip(shown.selected.tolist(), shown.cluster.tolist(), strict=True))

    def share(node, one):
        leaves = np.array([leaf for leaf in below[node] if of_leaf[leaf] >= 0])
        return size[leaves[of_leaf[leaves] == one]].sum() / size[leaves].sum()

    for node, one in cluster.items():
        assert share(node, one) >= 0.9
        assert node == n_leaves or share(parent[node], one) < 0.9
    # Nothing is shown below the nodes where clusters begin.
    ends = set(below) - {parent[node] for node in below if node != n_leaves}
    assert ends <= set(cluster)


def test_tree_of_partition__of_the_clusters_that_the_tree_has(tree):
    assert_shows(tree, tree_of_partition(tree, [], tree.label), tree.label)


def test_tree_of_partition__of_clusters_merged_and_split(tree):
    split = next_split(tree, tree.label == 0)
    below = clusters_below(tree, split)
    label = np.where(tree.label == 0, np.where(below >= 0, 100 + below, -1), tree.label)
    label[np.isin(label, [1, 2])] = 1
    assert_shows(tree, tree_of_partition(tree, [split], label), label)


def test_tree_of_partition__of_one_cluster_is_its_root(tree):
    shown = tree_of_partition(tree, [], np.zeros_like(tree.label))
    assert len(shown.selected) == shown.condensed.n_nodes == 1
