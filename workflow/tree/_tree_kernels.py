"""Binary trees over leaves: inner loops over their merges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


@compiled
def find_root(root: NDArray[np.int32], node: int) -> int:
    """Return the root of a node, shortening the way to it."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@compiled
def subtree_sums(
    leaf: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sum of a whole number over the leaves of every node, leaves first."""
    n_leaves = len(leaf)
    total = np.empty(n_leaves + len(left), np.int64)
    for i in range(n_leaves):
        total[i] = leaf[i]
    for merge in range(len(left)):
        total[n_leaves + merge] = total[left[merge]] + total[right[merge]]
    return total


@compiled
def parents(n_leaves: int, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the merge that each node is a side of, as a node; -1 without one."""
    parent = np.full(n_leaves + len(left), -1)
    for merge in range(len(left)):
        parent[left[merge]] = parent[right[merge]] = n_leaves + merge
    return parent


@compiled
def meet(parent: NDArray[np.int64], a: int, b: int) -> int:
    """Return the lowest node above both, or themselves; -1 where there is none."""
    # A parent always has the larger number, so the smaller of the two climbs.
    while a != b and a >= 0 and b >= 0:
        if a < b:
            a = parent[a]
        else:
            b = parent[b]
    return min(a, b)


@compiled
def meeting_nodes(
    parent: NDArray[np.int64], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return `meet` of each pair."""
    node = np.empty(len(a), np.int64)
    for i in range(len(a)):
        node[i] = meet(parent, a[i], b[i])
    return node


@compiled
def leaf_places(
    n_leaves: int, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the place of each leaf in an order in which every node's leaves are together."""
    size = subtree_sums(np.ones(n_leaves, np.int64), left, right)
    place = np.full(len(size), -1)
    free = 0
    for node in range(len(size) - 1, -1, -1):
        if place[node] < 0:  # a root
            place[node] = free
            free += size[node]
        if node >= n_leaves:
            a, b = left[node - n_leaves], right[node - n_leaves]
            place[a], place[b] = place[node], place[node] + size[a]
    return place[:n_leaves]


@compiled
def linked(
    n_leaves: int, row: NDArray[np.int64], col: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the merges along the edges of a forest, in their order, the lower node left."""
    n_merges = len(row)
    root = np.arange(n_leaves + n_merges).astype(np.int32)
    left, right = np.empty(n_merges, np.int64), np.empty(n_merges, np.int64)
    for merge in range(n_merges):
        a, b = find_root(root, row[merge]), find_root(root, col[merge])
        left[merge], right[merge] = min(a, b), max(a, b)
        root[a] = root[b] = n_leaves + merge
    return left, right


@compiled
def joining_edges(
    n_nodes: int, row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which edges, taken in order, join two components."""
    root, joins = np.arange(n_nodes).astype(np.int32), np.zeros(len(row), np.bool_)
    for e in range(len(row)):
        a, b = find_root(root, row[e]), find_root(root, col[e])
        if a != b:
            joins[e] = True
            root[max(a, b)] = min(a, b)
    return joins


@compiled
def lowest_so_far(
    n_leaves: int, ends: NDArray[np.int64], value: NDArray[np.float64], largest: float
) -> NDArray[np.float64]:
    """Return the lowest value of each join and of those inside it."""
    lowest = np.full(n_leaves + len(ends), largest)
    for join in range(len(ends)):
        inside = min(lowest[ends[join, 0]], lowest[ends[join, 1]])
        lowest[n_leaves + join] = min(value[join], inside)
    return lowest[n_leaves:]
