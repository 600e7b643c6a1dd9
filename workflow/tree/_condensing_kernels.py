"""Condensing a linkage and choosing clusters from it: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


@compiled
def highest_means(
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    size: NDArray[np.int64],
    value: NDArray[np.float64],
    min_size: int,
) -> NDArray[np.float64]:
    """Return, per node, the largest mean of a subtree of at least so many images within it."""
    # size is that of every node, value what each image of a leaf counts.
    n_leaves = len(value)
    total, peak = np.empty(len(size)), np.full(len(size), -np.inf)
    for leaf in range(n_leaves):
        total[leaf] = value[leaf] * size[leaf]
        if size[leaf] >= min_size:
            peak[leaf] = value[leaf]
    for merge in range(len(left)):
        node, a, b = n_leaves + merge, left[merge], right[merge]
        total[node] = total[a] + total[b]
        peak[node] = max(peak[a], peak[b])
        if size[node] >= min_size:
            peak[node] = max(peak[node], total[node] / size[node])
    return peak


@compiled
def leave_clusters(
    sides: tuple[NDArray[np.int32], NDArray[np.int32]],
    height: NDArray[np.float64],
    size: NDArray[np.int64],
    splits: NDArray[np.bool_],
    leaves: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the cluster that each leaf is in and the lambda at which it falls out, 0 for never."""
    # Then, per cluster but the root: its parent and images, and its birth. Per merge: height is
    # lambda, splits tells whether both sides are clusters, and leaves, of either side, whether it
    # leaves the cluster.
    (left, right), (left_leaves, right_leaves) = sides, leaves
    n_leaves = len(left) + 1
    owner = np.full(len(size), n_leaves).astype(np.int32)
    fallen = np.zeros(len(size))
    clusters, births = np.empty((len(size), 2), np.int64), np.empty(len(size))
    n_clusters = 0
    for merge in range(n_leaves - 2, -1, -1):
        node, a, b = n_leaves + merge, left[merge], right[merge]
        owner[a] = owner[b] = owner[node]
        if fallen[node] > 0:
            fallen[a] = fallen[b] = fallen[node]
        elif splits[merge]:
            for side in (a, b):
                clusters[n_clusters, 0], clusters[n_clusters, 1] = owner[node], size[side]
                births[n_clusters] = height[merge]
                n_clusters += 1
                owner[side] = n_leaves + n_clusters
        else:
            fallen[a] = height[merge] if left_leaves[merge] else 0.0
            fallen[b] = height[merge] if right_leaves[merge] else 0.0
    return owner[:n_leaves], fallen[:n_leaves], clusters[:n_clusters], births[:n_clusters]


@compiled
def most_stable(parent: NDArray[np.int64], own: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which clusters are chosen: their stability is not below that of all chosen inside."""
    # The root, node 0, never is.
    n = len(parent)
    below, has_children, chosen = np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
    for node in range(n - 1, 0, -1):
        # A tie goes to the larger cluster, as in the hdbscan library.
        chosen[node] = not has_children[node] or own[node] >= below[node]
        below[parent[node]] += own[node] if chosen[node] else below[node]
        has_children[parent[node]] = True
    inside = np.zeros(n, np.bool_)
    for node in range(1, n):
        inside[node] = inside[parent[node]] or chosen[parent[node]]
    return chosen & ~inside


@compiled
def nearest_chosen(parent: NDArray[np.int64], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lowest chosen cluster that each cluster is in or is, -1 for none."""
    inside = np.full(len(parent), -1)
    for node in range(len(parent)):
        if chosen[node]:
            inside[node] = node
        elif node:
            inside[node] = inside[parent[node]]
    return inside
