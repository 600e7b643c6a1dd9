"""The next split of a cluster in a tree, against every cut of it; nodes of any partition."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.tree import build_tree
from workflow.tree.condensed_tree import prominences
from workflow.tree.splitting import (
    Split,
    clusters_below,
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


def test_next_split__is_the_most_prominent_that_parts_the_cluster(tree):
    for cluster in range(min(tree.n_clusters, 4)):
        members = tree.label == cluster
        split = next_split(tree, members)
        assert split is not None
        assert len(parts_of(tree, split, members)) > 1
        rank = prominences(tree.linkage, split.min_cluster_size)
        more = np.unique(rank[np.isfinite(rank) & (rank > split.min_prominence)])
        assert all(
            len(parts_of(tree, split._replace(min_prominence=float(p)), members)) < 2 for p in more
        )
        size = tree.min_cluster_size
        while size > split.min_cluster_size:
            rank = prominences(tree.linkage, size)
            least = float(rank[np.isfinite(rank)].min())
            assert len(parts_of(tree, Split(size, least), members)) < 2
            size //= 2


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
