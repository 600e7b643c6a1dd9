"""Inner loops over merges and edges."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


class _Lists(NamedTuple):
    """Neighbours of every cluster as a linked list of entries, and the clusters themselves.

    A cluster is named inside by one of its nodes.  An entry points to a node of
    the neighbour; entries to the same neighbour are put together when the list
    is next walked, so a join costs nothing but linking two lists.
    """

    head: NDArray[np.int64]
    tail: NDArray[np.int64]
    following: NDArray[np.int64]
    target: NDArray[np.int32]
    flow: NDArray[np.int64]
    root: NDArray[np.int32]
    name: NDArray[np.int64]
    degree: NDArray[np.int64]
    seen: NDArray[np.int64]
    entry: NDArray[np.int64]


@compiled
def _find(root: NDArray[np.int32], node: int) -> int:
    """Return the cluster of a node, shortening the way to it."""
    while root[node] != node:
        root[node] = root[root[node]]
        node = root[node]
    return node


@compiled
def _neighbour_lists(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    strength: NDArray[np.int64],
) -> _Lists:
    """Return the list of each node's edges."""
    n_nodes, n_edges = len(strength), len(row)
    start = np.zeros(n_nodes + 1, np.int64)
    for e in range(n_edges):
        for node in (row[e], col[e]):
            start[node + 1] += 1
    start = np.cumsum(start)
    target, flow = np.empty(2 * n_edges, np.int32), np.empty(2 * n_edges, np.int64)
    following = np.arange(1, 2 * n_edges + 1)
    free = start[:-1].copy()
    for e in range(n_edges):
        for a, b in ((row[e], col[e]), (col[e], row[e])):
            target[free[a]], flow[free[a]] = b, weight[e]
            free[a] += 1
    head, tail = np.full(n_nodes, -1), np.full(n_nodes, -1)
    for node in range(n_nodes):
        if start[node] < start[node + 1]:
            head[node], tail[node] = start[node], start[node + 1] - 1
            following[tail[node]] = -1
    return _Lists(
        head,
        tail,
        following,
        target,
        flow,
        np.arange(n_nodes).astype(np.int32),
        np.arange(n_nodes),
        strength.copy(),
        np.full(n_nodes, -1),
        np.empty(n_nodes, np.int64),
    )


@compiled
def _nearest(lists: _Lists, cluster: int, walk: int) -> tuple[int, float]:
    """Return the neighbour with the largest flow over degree, -1 without any, and that ratio."""
    last, entry = -1, lists.head[cluster]
    while entry >= 0:
        further = lists.following[entry]
        other = _find(lists.root, int(lists.target[entry]))
        if other == cluster or lists.seen[other] == walk:
            if other != cluster:
                lists.flow[lists.entry[other]] += lists.flow[entry]
            if last >= 0:
                lists.following[last] = further
            else:
                lists.head[cluster] = further
        else:
            lists.seen[other], lists.entry[other] = walk, entry
            lists.target[entry] = other
            last = entry
        entry = further
    lists.tail[cluster] = last
    nearest, closeness = -1, -1.0
    entry = lists.head[cluster]
    while entry >= 0:
        other = int(lists.target[entry])
        value = lists.flow[entry] / lists.degree[other]
        if value > closeness or (value == closeness and lists.name[other] < lists.name[nearest]):
            nearest, closeness = other, value
        entry = lists.following[entry]
    return nearest, closeness


@compiled
def _link(lists: _Lists, a: int, b: int, name: int) -> None:
    """Make cluster b part of a, which gets another name."""
    if lists.head[a] < 0:
        lists.head[a] = lists.head[b]
    elif lists.head[b] >= 0:
        lists.following[lists.tail[a]] = lists.head[b]
    if lists.head[b] >= 0:
        lists.tail[a] = lists.tail[b]
    lists.root[b] = a
    lists.name[a] = name
    lists.degree[a] += lists.degree[b]


@compiled
def chain_merges(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    strength: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return both sides and the distance of each merge, in the order of the chain.

    Sides are of shape (n_merges, 2), merge i makes node ``n_nodes + i``; the
    distance lacks the factor one over the total weight.  `strength` is the
    weight at each node, that of edges which are not given too.
    """
    n_nodes = len(strength)
    lists = _neighbour_lists(row, col, weight, strength)
    ends, distance = np.empty((max(n_nodes - 1, 0), 2), np.int64), np.empty(max(n_nodes - 1, 0))
    chain = np.empty(n_nodes + 2, np.int64)
    n_found, walk = 0, 0
    for start in range(n_nodes):
        length = 0
        if lists.name[start] == start and lists.root[start] == start:
            chain[0], length = start, 1
        while length:
            length -= 1
            last = chain[length]
            nearest, closeness = _nearest(lists, last, walk)
            walk += 1
            if nearest < 0:  # the piece is whole
                continue
            if length == 0 or chain[length - 1] != nearest:
                chain[length], chain[length + 1] = last, nearest
                length += 2
                continue
            length -= 1
            ends[n_found, 0], ends[n_found, 1] = lists.name[last], lists.name[nearest]
            distance[n_found] = lists.degree[last] / closeness
            _link(lists, last, nearest, n_nodes + n_found)
            n_found += 1
            if length == 0:
                chain[0], length = last, 1
    return ends[:n_found], distance[:n_found]


@compiled
def raised(
    n_nodes: int, ends: NDArray[np.int64], height: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the height of each merge, not below those inside it."""
    result = np.zeros(n_nodes + len(ends))
    for merge in range(len(ends)):
        below = max(result[ends[merge, 0]], result[ends[merge, 1]])
        result[n_nodes + merge] = max(height[merge], below)
    return result[n_nodes:]


@compiled
def subtree_sums(
    leaf: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the sum of a whole number over the leaves of every node, leaves first."""
    n_leaves = len(leaf)
    total = np.empty(n_leaves + len(left), np.int64)
    total[:n_leaves] = leaf
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
def flows_inside(
    parent: NDArray[np.int64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Return, per node of one tree, the weight of the edges inside it."""
    inside = np.zeros(len(parent), np.int64)
    for e in range(len(row)):
        inside[meet(parent, row[e], col[e])] += weight[e]
    for node in range(len(parent) - 1):
        inside[parent[node]] += inside[node]
    return inside


@compiled
def linked(
    n_leaves: int, row: NDArray[np.int64], col: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the merges along the edges of a forest, in their order, the lower node left."""
    n_merges = len(row)
    root = np.arange(n_leaves + n_merges).astype(np.int32)
    left, right = np.empty(n_merges, np.int64), np.empty(n_merges, np.int64)
    for merge in range(n_merges):
        a, b = _find(root, row[merge]), _find(root, col[merge])
        left[merge], right[merge] = min(a, b), max(a, b)
        root[a] = root[b] = n_leaves + merge
    return left, right


@compiled
def joining_edges(
    n_nodes: int, row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which edges, taken in order, join two pieces."""
    root, joins = np.arange(n_nodes).astype(np.int32), np.zeros(len(row), np.bool_)
    for e in range(len(row)):
        a, b = _find(root, row[e]), _find(root, col[e])
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


@compiled
def mean_of_nearest(
    n_nodes: int,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    length: NDArray[np.float64],
    most: int,
) -> NDArray[np.float64]:
    """Return the mean length of the shortest edges of each node, at most so many; 0 without any."""
    start = np.zeros(n_nodes + 1, np.int64)
    for e in range(len(row)):
        start[row[e] + 1] += 1
        start[col[e] + 1] += 1
    start = np.cumsum(start)
    free = start[:-1].copy()
    lengths = np.empty(2 * len(row))
    for e in range(len(row)):
        for node in (row[e], col[e]):
            lengths[free[node]] = length[e]
            free[node] += 1
    mean = np.zeros(n_nodes)
    for node in range(n_nodes):
        own = np.sort(lengths[start[node] : start[node + 1]])[:most]
        for value in own:
            mean[node] += value
        mean[node] /= max(1, len(own))
    return mean
