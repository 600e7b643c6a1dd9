"""Graphs made of edges, of a part of their nodes, or of groups of nodes: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "../graph.py")


class _Transposed(NamedTuple):
    """CSR structure of a transposed matrix, and which entry of the other each one was."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    entry: NDArray[np.int64]


@compiled
def symmetric_graph(
    n_nodes: int, row: NDArray[np.int64], col: NDArray[np.int64], weight: NDArray[np.int64]
) -> Graph:
    """Return the graph of edges given once, ``row < col``, in lexicographic order."""
    # The columns of a row come out in order: first come the edges in which it is the higher end.
    indptr = np.zeros(n_nodes + 1, np.int64)
    for e in range(len(row)):
        indptr[row[e] + 1] += 1
        indptr[col[e] + 1] += 1
    indptr = np.cumsum(indptr)
    free = indptr[:-1].copy()
    indices, weights = np.empty(2 * len(row), np.int32), np.empty(2 * len(row))
    for e in range(len(row)):
        for a, b in ((row[e], col[e]), (col[e], row[e])):
            indices[free[a]], weights[free[a]] = b, weight[e]
            free[a] += 1
    return Graph(indptr, indices, weights, None)


@compiled
def in_leaf_order(graph: Graph, order: NDArray[np.int64], place: NDArray[np.int64]) -> Graph:
    """Return a graph with its nodes in another order; `place` is where each node comes."""
    indptr, free = np.zeros(len(graph.indptr), np.int64), 0
    indices, weights = np.empty(len(graph.indices), np.int32), np.empty(len(graph.indices))
    for i in range(len(order)):
        for entry in range(graph.indptr[order[i]], graph.indptr[order[i] + 1]):
            indices[free], weights[free] = place[graph.indices[entry]], graph.weights[entry]
            free += 1
        indptr[i + 1] = free
    return Graph(indptr, indices, weights, None)


@compiled
def _transposed(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], n_columns: int
) -> _Transposed:
    """Return the transposed CSR structure; the columns of its rows rise."""
    start = np.zeros(n_columns + 1, np.int64)
    for entry in range(len(indices)):
        start[indices[entry] + 1] += 1
    start = np.cumsum(start)
    free = start[:-1].copy()
    rows, where = np.empty(len(indices), np.int64), np.empty(len(indices), np.int64)
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            place = free[indices[entry]]
            rows[place], where[place] = row, entry
            free[indices[entry]] += 1
    return _Transposed(start, rows, where)


@compiled
def permuted(graph: Graph, order: NDArray[np.int64]) -> Graph:
    """Return the graph whose node i is node ``order[i]``, the columns of a row rising."""
    n = len(order)
    place, indptr = np.empty(n, np.int32), np.zeros(n + 1, np.int64)
    for i in range(n):
        place[order[i]] = i
        indptr[i + 1] = indptr[i] + graph.indptr[order[i] + 1] - graph.indptr[order[i]]
    free = indptr[:-1].copy()
    indices, weights = np.empty(len(graph.indices), np.int32), np.empty(len(graph.indices))
    # Row i of a symmetric graph is its column i too: rows that come in order leave columns in order.
    for i in range(n):
        for entry in range(graph.indptr[order[i]], graph.indptr[order[i] + 1]):
            other = place[graph.indices[entry]]
            indices[free[other]], weights[free[other]] = i, graph.weights[entry]
            free[other] += 1
    return Graph(indptr, indices, weights, None)


@compiled
def contracted(graph: Graph, group: NDArray[np.int64], n_groups: int) -> Graph:
    """Return the graph of groups of nodes, the weight inside a group on the diagonal."""
    members = _transposed(np.arange(len(group) + 1), group, n_groups)
    ends, sums = np.empty(len(graph.indices), np.int64), np.empty(len(graph.indices))
    row_start, found = np.zeros(n_groups + 1, np.int64), np.full(n_groups, -1)
    n_found = 0
    for number in range(n_groups):
        row_start[number] = n_found
        for i in range(members.indptr[number], members.indptr[number + 1]):
            node = members.indices[i]
            for entry in range(graph.indptr[node], graph.indptr[node + 1]):
                other = group[graph.indices[entry]]
                if found[other] < row_start[number]:
                    found[other] = n_found
                    ends[n_found], sums[n_found] = other, graph.weights[entry]
                    n_found += 1
                else:
                    sums[found[other]] += graph.weights[entry]
    row_start[n_groups] = n_found
    # Its own transpose, but with the columns of each row in order.
    other_way = _transposed(row_start, ends[:n_found], n_groups)
    return Graph(other_way.indptr, other_way.indices.astype(np.int32), sums[other_way.entry], None)
