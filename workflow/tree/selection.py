"""Clusters chosen from the condensed tree, their labels, memberships and nested layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree._condensing_kernels import most_stable, nearest_chosen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from workflow.tree.condensed_tree import CondensedTree

#: Label of centroids that belong to no cluster.
NOISE_LABEL = -1


class Labelling(NamedTuple):
    """Labels that a set of chosen clusters gives to leaves.

    Attributes
    ----------
    selected : int32 array of shape (n_clusters,)
        The chosen clusters of the condensed tree, in the order of labels.
    label : int32 array of shape (n_leaves,)
        Label of each leaf, -1 for noise.
    membership : float32 array of shape (n_leaves,)
        How deep in its cluster each leaf lies, in [0, 1]; 0 for noise.
    persistence : float64 array of shape (n_clusters,)
        Share of each cluster's images times lambda that lies above its birth,
        in [0, 1].
    """

    selected: NDArray[np.int32]
    label: NDArray[np.int32]
    membership: NDArray[np.float32]
    persistence: NDArray[np.float64]


def select_excess_of_mass(tree: CondensedTree) -> list[int]:
    """Return the clusters whose total stability is largest, none inside another.

    Parameters
    ----------
    tree : CondensedTree
        Condensed tree.

    Returns
    -------
    list of int
        Clusters counted from 0 for the root, rising.  The root is chosen only
        where nothing splits.
    """
    if tree.n_nodes == 1:
        return [0]
    return [int(n) for n in np.flatnonzero(most_stable(tree.node_parents(), tree.stabilities()))]


def select_leaves(tree: CondensedTree) -> list[int]:
    """Return the clusters without clusters inside, counted from 0 for the root, rising."""
    has_children = np.zeros(tree.n_nodes + 1, bool)
    has_children[tree.node_parents()] = True  # the last entry serves the root's -1
    return [int(n) for n in np.flatnonzero(~has_children[:-1])]


def label_leaves(
    tree: CondensedTree, chosen: Iterable[int], first_centroid: NDArray[np.int64]
) -> Labelling:
    """Label leaves by chosen clusters, by falling images, then by lowest centroid; below a chosen root nothing is noise."""
    order = np.unique(np.fromiter(chosen, np.int64))
    is_chosen = np.zeros(tree.n_nodes, bool)
    is_chosen[order] = True
    inside = nearest_chosen(tree.node_parents(), is_chosen)
    leaves = slice(0, tree.n_leaves)
    cluster = inside[tree.parent[leaves] - tree.n_leaves]
    lambda_val, images = tree.lambda_val[leaves], tree.child_size[leaves]
    member = cluster >= 0
    size = np.bincount(cluster[member], images[member], minlength=tree.n_nodes)
    lowest = np.full(tree.n_nodes, np.iinfo(np.int64).max)
    np.minimum.at(lowest, cluster[member], first_centroid[member])
    order = order[np.lexsort((lowest[order], -size[order]))]
    number = np.full(tree.n_nodes + 1, NOISE_LABEL, np.int32)  # the last entry serves -1
    number[order] = np.arange(len(order))
    deepest = np.zeros(tree.n_nodes)
    owner = tree.parent - tree.n_leaves
    np.maximum.at(deepest, owner, tree.lambda_val)
    membership = np.zeros(tree.n_leaves, np.float32)
    limit = deepest[cluster[member]]
    membership[member] = np.minimum(lambda_val[member], limit) / limit
    return Labelling(
        order.astype(np.int32) + tree.n_leaves,
        number[cluster],
        membership,
        _persistence(tree, order, cluster),
    )


def _persistence(
    tree: CondensedTree, order: NDArray[np.int64], cluster: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return one minus birth over the mean lambda at which images leave, per chosen cluster."""
    leaves = slice(0, tree.n_leaves)
    member = cluster >= 0
    images = tree.child_size[leaves][member]
    mass = np.bincount(
        cluster[member], images * tree.lambda_val[leaves][member], minlength=tree.n_nodes
    )
    size = np.bincount(cluster[member], images, minlength=tree.n_nodes)
    mean = mass[order] / size[order]
    return np.clip(1.0 - tree.births()[order] / mean, 0.0, 1.0)
