"""Nearest-neighbour chain of the agglomeration by flow: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.tree._tree_kernels import find_root

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

compiled = compiler(__file__, "../_tree_kernels.py", "../../graph.py")


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
    flow: NDArray[np.float64]
    root: NDArray[np.int32]
    name: NDArray[np.int64]
    degree: NDArray[np.float64]
    seen: NDArray[np.int64]
    entry: NDArray[np.int64]


@compiled
def _neighbour_lists(graph: Graph, strength: NDArray[np.float64]) -> _Lists:
    """Return the list of each node's edges."""
    n_nodes, n_entries = len(strength), len(graph.indices)
    following = np.arange(1, n_entries + 1)
    head, tail = np.full(n_nodes, -1), np.full(n_nodes, -1)
    for node in range(n_nodes):
        if graph.indptr[node] < graph.indptr[node + 1]:
            head[node], tail[node] = graph.indptr[node], graph.indptr[node + 1] - 1
            following[tail[node]] = -1
    return _Lists(
        head,
        tail,
        following,
        graph.indices.copy(),
        graph.weights.copy(),
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
        other = find_root(lists.root, int(lists.target[entry]))
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
    graph: Graph, strength: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return both sides and the distance of each merge, in the order of the chain.

    Sides are of shape (n_merges, 2), merge i makes node ``n_nodes + i``; the
    distance lacks the factor one over the total weight.  `strength` is the
    weight at each node, that of edges outside the graph too.
    """
    n_nodes = len(strength)
    lists = _neighbour_lists(graph, strength)
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
            if nearest < 0:  # the component is whole
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
