"""Condensing a linkage and choosing clusters from it: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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


class Splits(NamedTuple):
    """The merges of a linkage, seen from above: where clusters split and who leaves them.

    Per merge: its sides, its lambda, whether both sides are clusters, and
    whether either side leaves the cluster.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    lambda_val: NDArray[np.float64]
    is_split: NDArray[np.bool_]
    left_leaves: NDArray[np.bool_]
    right_leaves: NDArray[np.bool_]


class Members(NamedTuple):
    """Leaves and clusters of a condensed tree.

    Per leaf: the cluster that it is in, and the lambda at which it leaves, 0 for
    never.  Per cluster but the root: its parent, its images, and the lambda of
    its birth.
    """

    owner: NDArray[np.int32]
    left_at: NDArray[np.float64]
    parent: NDArray[np.int64]
    images: NDArray[np.int64]
    birth: NDArray[np.float64]


@compiled
def leave_clusters(splits: Splits, size: NDArray[np.int64]) -> Members:
    """Return which cluster each leaf is in and where it leaves; `size` is that of every node."""
    n_leaves = len(splits.left) + 1
    owner = np.full(len(size), n_leaves).astype(np.int32)
    left_at = np.zeros(len(size))
    parent, images = np.empty(len(size), np.int64), np.empty(len(size), np.int64)
    birth, n_clusters = np.empty(len(size)), 0
    for merge in range(n_leaves - 2, -1, -1):
        node, a, b = n_leaves + merge, splits.left[merge], splits.right[merge]
        owner[a] = owner[b] = owner[node]
        if left_at[node] > 0:
            left_at[a] = left_at[b] = left_at[node]
        elif splits.is_split[merge]:
            for side in (a, b):
                parent[n_clusters], images[n_clusters] = owner[node], size[side]
                birth[n_clusters] = splits.lambda_val[merge]
                n_clusters += 1
                owner[side] = n_leaves + n_clusters
        else:
            left_at[a] = splits.lambda_val[merge] if splits.left_leaves[merge] else 0.0
            left_at[b] = splits.lambda_val[merge] if splits.right_leaves[merge] else 0.0
    return Members(
        owner[:n_leaves],
        left_at[:n_leaves],
        parent[:n_clusters],
        images[:n_clusters],
        birth[:n_clusters],
    )


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
