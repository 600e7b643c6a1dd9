"""Graphs made of edges, of a part of their nodes, or of groups of nodes: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "../graph.py")


class Edges(NamedTuple):
    """Edges given once, ``row < col``, in lexicographic order, with both weights."""

    row: NDArray[np.int64]
    col: NDArray[np.int64]
    weights_two: NDArray[np.int64]
    weights: NDArray[np.int64]


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
def transposed(
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
def is_symmetric(graph: Graph, weights_two: NDArray[np.int64]) -> bool:
    """Return whether both weights equal their transposes; entries of one place add up."""
    n_nodes = len(graph.indptr) - 1
    other = transposed(graph.indptr, graph.indices, n_nodes)
    excess = np.zeros((n_nodes, 2), np.int64)
    for node in range(n_nodes):
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            excess[graph.indices[entry], 0] += graph.weights[entry]
            excess[graph.indices[entry], 1] += weights_two[entry]
        for entry in range(other.indptr[node], other.indptr[node + 1]):
            excess[other.indices[entry], 0] -= graph.weights[other.entry[entry]]
            excess[other.indices[entry], 1] -= weights_two[other.entry[entry]]
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            if excess[graph.indices[entry], 0] != 0 or excess[graph.indices[entry], 1] != 0:
                return False
        for entry in range(other.indptr[node], other.indptr[node + 1]):
            if excess[other.indices[entry], 0] != 0 or excess[other.indices[entry], 1] != 0:
                return False
    return True


@compiled
def edges_between_nodes(
    graph: Graph, weights_two: NDArray[np.int64], node: NDArray[np.int32], n_nodes: int
) -> Edges:
    """Return the edges between nodes; `node` is that of each centroid, and edges of one pair add up."""
    # Edges without weight are left out.
    # Rows of one node together, then columns by rows, then rows by columns: both in order.
    members = transposed(np.arange(len(node) + 1), node.astype(np.int64), n_nodes)
    ends, count = np.empty(len(graph.indices), np.int64), np.zeros(n_nodes + 1, np.int64)
    sums = np.empty((len(graph.indices), 2), np.int64)
    found, n_found = np.full(n_nodes, -1), 0
    for a in range(n_nodes):
        begin = n_found
        for i in range(members.indptr[a], members.indptr[a + 1]):
            centroid = members.indices[i]
            for entry in range(graph.indptr[centroid], graph.indptr[centroid + 1]):
                b = node[graph.indices[entry]]
                if b <= a or weights_two[entry] + graph.weights[entry] == 0:
                    continue
                if found[b] < begin:
                    found[b], ends[n_found] = n_found, b
                    sums[n_found, 0] = sums[n_found, 1] = 0
                    n_found += 1
                sums[found[b], 0] += weights_two[entry]
                sums[found[b], 1] += graph.weights[entry]
        count[a + 1] = n_found
    columns = transposed(count, ends[:n_found], n_nodes)
    edges = Edges(
        np.empty(n_found, np.int64),
        np.empty(n_found, np.int64),
        np.empty(n_found, np.int64),
        np.empty(n_found, np.int64),
    )
    for b in range(n_nodes):
        for entry in range(columns.indptr[b], columns.indptr[b + 1]):
            place, where = count[columns.indices[entry]], columns.entry[entry]
            edges.row[place], edges.col[place] = columns.indices[entry], b
            edges.weights_two[place], edges.weights[place] = sums[where, 0], sums[where, 1]
            count[columns.indices[entry]] += 1
    return edges


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
    members = transposed(np.arange(len(group) + 1), group, n_groups)
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
    other_way = transposed(row_start, ends[:n_found], n_groups)
    return Graph(other_way.indptr, other_way.indices.astype(np.int32), sums[other_way.entry], None)
