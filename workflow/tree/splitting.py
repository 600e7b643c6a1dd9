"""The next split of a cluster in a stored tree or beside it, and the tree of clusters that were merged and split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import diags_array
from scipy.sparse.csgraph import breadth_first_order

from workflow.tree._tree_kernels import subtree_sums
from workflow.tree.condensed_tree import CondensedTree, condense, prominences
from workflow.tree.layers import Cut, Leaves, label_cut

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from workflow.graph import Graph
    from workflow.tree.cluster_tree import ClusterTree

#: Share of the images of a node that are of its cluster: a large one goes on where a small one was split off.
NEARLY_ALL = 0.9
#: Share of the images of a cluster that each of its two parts has at least where the tree does not part it.
SMALLEST_PART = 0.1
#: Steps of the power iteration for a vector that only has to order the centroids.
N_STEPS = 1000


class Split(NamedTuple):
    """A cut of a tree, named by the split that it goes down to.

    Attributes
    ----------
    min_cluster_size : int [images]
        Fewest images of a cluster.
    min_prominence : float
        Smallest prominence of a split.
    """

    min_cluster_size: int
    min_prominence: float


def next_split(tree: ClusterTree, members: NDArray[np.bool_]) -> Split | None:
    """Return the most prominent split of a tree that parts a set of centroids.

    Parameters
    ----------
    tree : ClusterTree
        A tree; its least size of a cluster is tried first, then half of it, and so on down to a tenth of the set.
    members : bool array of shape (n_centroids,)
        The centroids of the set.

    Returns
    -------
    Split or None
        None where no such cut of the tree parts them.

    Notes
    -----
    A dozen cuts of the tree for each size.
    """
    linkage, size = tree.linkage, tree.min_cluster_size
    inside = np.zeros(linkage.n_leaves, np.int64)
    inside[tree.node[members]] = 1
    left, right = linkage.left.astype(np.int64), linkage.right.astype(np.int64)
    n_inside = subtree_sums(inside, left, right)
    on_both_sides = (n_inside[left] > 0) & (n_inside[right] > 0)
    least = SMALLEST_PART * int(tree.population[members].sum())
    while size >= 1:
        rank = prominences(linkage, size)[on_both_sides]
        falling = np.unique(rank[np.isfinite(rank)])[::-1].tolist()
        splits = [Split(size, prominence) for prominence in falling]
        if splits and _is_parted(tree, splits[-1], members):
            # The lower the prominence, the more splits: those that part the set come last.
            low, high = 0, len(splits) - 1
            while low < high:
                middle = (low + high) // 2
                if _is_parted(tree, splits[middle], members):
                    high = middle
                else:
                    low = middle + 1
            return splits[high]
        size //= 2
        # A density tree goes on to peel a handful of images off a group without a border in it.
        if size < least:
            return None
    return None


def halves(
    graph: Graph, population: NDArray[np.int64], members: NDArray[np.bool_]
) -> NDArray[np.bool_] | None:
    """Divide a set of centroids in two where the fewest images lie between, for their size.

    Parameters
    ----------
    graph : Graph
        Images between two centroids.
    population : int64 array of shape (n_centroids,) [images]
        Images of each.
    members : bool array of shape (n_centroids,)
        The set.

    Returns
    -------
    bool array of shape (n_centroids,) or None
        One part; the other one is the rest of the set. Each has a tenth of the images or more; None
        where no order of the centroids can be cut so.

    Notes
    -----
    The order is that of the second eigenvector of the normalized graph, found by power iteration
    from the distance to one centroid in steps; the cut is that of smallest conductance [1]_.

    References
    ----------
    .. [1] J. Shi and J. Malik, "Normalized cuts and image segmentation", 2000.
    """
    where = np.flatnonzero(members)
    images = population[where].astype(np.float64)
    # The images of the centroids keep those without ties in.
    flow = graph.to_sparse()[where][:, where].astype(np.float64) + diags_array(images)
    weight = flow.sum(axis=1)
    root = np.sqrt(weight)
    scaled = diags_array(1 / root) @ flow @ diags_array(1 / root)
    steps = breadth_first_order(flow, int(np.argmax(images)))[0]
    vector = np.zeros(len(where))
    # What cannot be reached lies apart from the rest.
    vector[steps] = 1 + np.arange(len(steps))
    for _ in range(N_STEPS):
        # Half of the step, so that no part swings.
        vector = (vector + scaled @ vector) / 2
        vector -= root * (np.sum(vector * root) / np.sum(weight))
        length = np.sqrt(np.sum(vector * vector))
        if length == 0:
            return None
        vector /= length
    order = np.argsort(vector / root, kind="stable")
    rank = np.argsort(order)
    ends = flow.tocoo()
    one, other = rank[ends.row], rank[ends.col]
    crosses = one < other
    # A tie is cut by all cuts from its first end to its last.
    between = np.bincount(one[crosses], ends.data[crosses], len(where))
    between -= np.bincount(other[crosses], ends.data[crosses], len(where))
    cut, before = np.cumsum(between)[:-1], np.cumsum(images[order])[:-1]
    volume = np.cumsum(weight[order])
    smaller = np.minimum(volume[:-1], volume[-1] - volume[:-1])
    allowed = np.minimum(before, images.sum() - before) >= SMALLEST_PART * images.sum()
    if not allowed.any():
        return None
    conductance = np.where(allowed, cut / np.maximum(smaller, 1e-300), np.inf)
    part = np.zeros(len(members), np.bool_)
    part[where[order[: int(np.argmin(conductance)) + 1]]] = True
    return part


def _is_parted(tree: ClusterTree, split: Split, members: NDArray[np.bool_]) -> bool:
    """Whether two clusters of a cut or more have centroids of a set."""
    label = clusters_below(tree, split)[members]
    return len(np.unique(label[label >= 0])) > 1


def clusters_below(tree: ClusterTree, split: Split) -> NDArray[np.int32]:
    """Return the cluster of each centroid where a tree is cut down to a split.

    Parameters
    ----------
    tree : ClusterTree
        The tree.
    split : Split
        How far down.

    Returns
    -------
    int32 array of shape (n_centroids,)
        Labels, -1 for noise.
    """
    leaves = Leaves(tree.linkage, tree.node, tree.population)
    return label_cut(leaves, Cut(*split, "leaf"))[1].label[tree.node]


class ShownTree(NamedTuple):
    """A condensed tree down to the clusters of a partition.

    Attributes
    ----------
    condensed : CondensedTree
        The tree.
    selected : int64 array of shape (n_selected,)
        Its nodes that hold nearly nothing but one cluster, where the node above does not;
        a cluster may have several, as one that was put together has, or none.
    cluster : int64 array of shape (n_selected,)
        The cluster of each.
    """

    condensed: CondensedTree
    selected: NDArray[np.int64]
    cluster: NDArray[np.int64]


def tree_of_partition(
    tree: ClusterTree, splits: Iterable[Split], label: NDArray[np.integer[Any]]
) -> ShownTree:
    """Return a tree as it shows a partition that was made of its clusters by hand.

    Parameters
    ----------
    tree : ClusterTree
        The tree.
    splits : iterable of Split
        Splits below its clusters that were made.
    label : int array of shape (n_centroids,)
        Cluster of each centroid in the partition, -1 for noise, which may be anywhere.

    Returns
    -------
    ShownTree
        The nodes where its clusters begin, and the tree above them.
    """
    made = [Split(tree.min_cluster_size, tree.min_prominence), *splits]
    condensed = condense(
        tree.linkage,
        min(split.min_cluster_size for split in made),
        min(split.min_prominence for split in made),
    )
    of_leaf = np.full(condensed.n_leaves, -1, np.int64)
    # Centroids at one place share a leaf, and a label but for noise.
    np.maximum.at(of_leaf, tree.node, label)
    return _down_to(condensed, _clusters_of_nodes(condensed, of_leaf))


def _clusters_of_nodes(condensed: CondensedTree, label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cluster that nearly all images of each node are of, noise left out; -1 where there is none."""
    n_leaves, parents = condensed.n_leaves, condensed.node_parents().tolist()
    images: list[Counter[int]] = [Counter() for _ in parents]
    for leaf in np.flatnonzero(label >= 0).tolist():
        size = int(condensed.child_size[leaf])
        images[condensed.parent[leaf] - n_leaves][int(label[leaf])] += size
    cluster = np.full(len(parents), -1)
    # Parts come after what they are part of.
    for node in range(len(parents) - 1, -1, -1):
        here = images[node]
        if here:
            first, n_first = max(here.items(), key=lambda item: (item[1], -item[0]))
            if n_first >= NEARLY_ALL * here.total():
                cluster[node] = first
        if node:
            # The smaller one is added to the larger.
            less, more = sorted((here, images[parents[node]]), key=len)
            more.update(less)
            images[parents[node]], images[node] = more, Counter()
    return cluster


def _down_to(condensed: CondensedTree, cluster: NDArray[np.int64]) -> ShownTree:
    """Return a tree down to the nodes whose cluster is another one than that above."""
    n_leaves, n_nodes, parents = condensed.n_leaves, condensed.n_nodes, condensed.node_parents()
    above = np.append(cluster, -1)[parents]
    is_shown = (cluster >= 0) & (cluster != above)
    is_kept = is_shown.copy()
    for node in range(n_nodes - 1, 0, -1):
        is_kept[parents[node]] |= is_kept[node]
    is_kept[0] = True
    inside = np.arange(n_nodes)
    for node in range(1, n_nodes):
        inside[node] = node if is_kept[node] else inside[parents[node]]
    number = np.cumsum(is_kept) - 1 + n_leaves
    rows = np.append(np.ones(n_leaves, bool), is_kept[1:])
    child = condensed.child[rows].astype(np.int64)
    child[n_leaves:] = number[child[n_leaves:] - n_leaves]
    kept = CondensedTree(
        parent=number[inside[condensed.parent[rows] - n_leaves]].astype(np.int32),
        child=child.astype(np.int32),
        lambda_val=condensed.lambda_val[rows],
        child_size=condensed.child_size[rows],
        n_leaves=n_leaves,
    )
    return ShownTree(kept, number[is_shown], cluster[is_shown])
