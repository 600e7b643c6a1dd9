"""Graphs as edges given once and as both directions: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


@compiled
def symmetric_csr(
    n_nodes: int, row: NDArray[np.int64], col: NDArray[np.int64], weight: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return indptr, indices and weights of edges given once, ``row < col``, in lexicographic order."""
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
    return indptr, indices, weights


@compiled
def renumbered_csr(
    csr: tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]],
    order: NDArray[np.int64],
    place: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return a graph with its nodes in another order; `place` is where each node comes."""
    indptr, indices, weight = csr
    start, free = np.zeros(len(indptr), np.int64), 0
    new_indices, new_weight = np.empty(len(indices), np.int32), np.empty(len(indices))
    for i in range(len(order)):
        for entry in range(indptr[order[i]], indptr[order[i] + 1]):
            new_indices[free], new_weight[free] = place[indices[entry]], weight[entry]
            free += 1
        start[i + 1] = free
    return start, new_indices, new_weight


@compiled
def transposed(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], n_columns: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return indptr and indices of the transposed matrix, and where each entry was."""
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
    return start, rows, where


@compiled
def is_symmetric(
    indptr: NDArray[np.int64], indices: NDArray[np.int64], weight: NDArray[np.int64]
) -> bool:
    """Return whether a square CSR matrix equals its transpose; entries of one place add up."""
    start, rows, where = transposed(indptr, indices, len(indptr) - 1)
    excess = np.zeros(len(indptr) - 1, np.int64)
    for node in range(len(excess)):
        for entry in range(indptr[node], indptr[node + 1]):
            excess[indices[entry]] += weight[entry]
        for entry in range(start[node], start[node + 1]):
            excess[rows[entry]] -= weight[where[entry]]
        for entry in range(indptr[node], indptr[node + 1]):
            if excess[indices[entry]] != 0:
                return False
        for entry in range(start[node], start[node + 1]):
            if excess[rows[entry]] != 0:
                return False
    return True


@compiled
def upper_edges(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int64],
    first_weight: NDArray[np.int64],
    second_weight: NDArray[np.int64],
    node: NDArray[np.int32],
    n_nodes: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the edges ``row < col`` between nodes and both weights, in lexicographic order."""
    # node is that of each row of the symmetric CSR matrices, whose entries of one edge add up;
    # edges without weight are left out.
    # Rows of one node together, then columns by rows, then rows by columns: both in order.
    start, member, _ = transposed(np.arange(len(node) + 1), node.astype(np.int64), n_nodes)
    ends, count = np.empty(len(indices), np.int64), np.zeros(n_nodes + 1, np.int64)
    sums = np.empty((len(indices), 2), np.int64)
    found, n_found = np.full(n_nodes, -1), 0
    for a in range(n_nodes):
        begin = n_found
        for i in range(start[a], start[a + 1]):
            for entry in range(indptr[member[i]], indptr[member[i] + 1]):
                b = node[indices[entry]]
                if b <= a or first_weight[entry] + second_weight[entry] == 0:
                    continue
                if found[b] < begin:
                    found[b], ends[n_found] = n_found, b
                    sums[n_found, 0] = sums[n_found, 1] = 0
                    n_found += 1
                sums[found[b], 0] += first_weight[entry]
                sums[found[b], 1] += second_weight[entry]
        count[a + 1] = n_found
    column_start, rows, where = transposed(count, ends[:n_found], n_nodes)
    row, col = np.empty(n_found, np.int64), np.empty(n_found, np.int64)
    first, second = np.empty(n_found, np.int64), np.empty(n_found, np.int64)
    for b in range(n_nodes):
        for entry in range(column_start[b], column_start[b + 1]):
            place = count[rows[entry]]
            row[place], col[place] = rows[entry], b
            first[place], second[place] = sums[where[entry], 0], sums[where[entry], 1]
            count[rows[entry]] += 1
    return row, col, first, second
