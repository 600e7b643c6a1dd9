"""Compiled loops of near-duplicates: what hangs together, and groups of bounded diameter."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)

#: Pairs of images of two groups that are compared one by one; of more, bounds must be enough.
MAX_PAIRS = 1 << 17


@compiled
def find_root(parent: NDArray[np.integer], node: int) -> int:
    """Return the root of a node; `parent` holds minus the size at roots."""
    while parent[node] >= 0:
        above = parent[node]
        if parent[above] >= 0:
            parent[node] = parent[above]
        node = above
    return node


@compiled
def roots_of(parent: NDArray[np.integer], nodes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the root of each of some nodes, -1 for one that is alone."""
    found = np.empty(len(nodes), np.int64)
    for place, node in enumerate(nodes):
        root = find_root(parent, node)
        found[place] = root if parent[root] < -1 else -1
    return found


@compiled
def link(parent: NDArray[np.integer], one: int, other: int) -> None:
    """Join the sets of two nodes."""
    a, b = find_root(parent, one), find_root(parent, other)
    if a == b:
        return
    if parent[a] > parent[b] or (parent[a] == parent[b] and b < a):
        a, b = b, a
    parent[a] += parent[b]
    parent[b] = a


@compiled
def link_near(
    parent: NDArray[np.integer],
    first_row: int,
    index: NDArray[np.integer],
    distance: NDArray[np.float32],
    radius: float,
) -> None:
    """Join each of consecutive rows with those of its neighbours that lie within the radius."""
    for row in range(len(index)):
        for rank in range(index.shape[1]):
            if index[row, rank] < 0 or not distance[row, rank] <= radius:
                break
            link(parent, first_row + row, index[row, rank])


@compiled
def cut_roots(parent: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """Return numbers that cut the sets of several nodes, by their roots, into parts of about so many nodes."""
    cuts = np.empty(len(parent) // most + 2, np.int64)
    cuts[0], n_cuts, total = 0, 1, 0
    for node in range(len(parent)):
        if parent[node] < -1:
            if total >= most:
                cuts[n_cuts], n_cuts, total = node, n_cuts + 1, 0
            total -= parent[node]
    return cuts[:n_cuts]


@compiled
def apart(rows: NDArray[np.float32], one: int, other: int) -> float:
    """Return the distance of two rows."""
    total = 0.0
    for j in range(rows.shape[1]):
        difference = np.float64(rows[one, j]) - np.float64(rows[other, j])
        total += difference * difference
    return math.sqrt(total)


@compiled
def widest(
    rows: NDArray[np.float32], after: NDArray[np.int64], a: int, b: int, most: float
) -> float:
    """Return the largest distance between rows of two groups; the first that is above `most`."""
    largest, i = 0.0, a
    while True:
        j = b
        while True:
            largest = max(largest, apart(rows, i, j))
            j = after[j]
            if largest > most or j == b:
                break
        i = after[i]
        if largest > most or i == a:
            return largest


@compiled
def group_linked(
    rows: NDArray[np.float32], one: NDArray[np.int64], other: NDArray[np.int64], most: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Join rows along links in the order given, as long as no group becomes wider than `most`.

    Returns the first row of the group of each row, and at that row the diameter of the group.
    """
    n = len(rows)
    parent = np.full(n, -1, np.int64)
    after = np.arange(n)
    reach, diameter = np.zeros(n), np.zeros(n)
    for entry in range(len(one)):
        a, b = find_root(parent, one[entry]), find_root(parent, other[entry])
        if a == b:
            continue
        if parent[a] > parent[b] or (parent[a] == parent[b] and b < a):
            a, b = b, a
        between = apart(rows, a, b)
        if between > most:
            continue
        if parent[a] * parent[b] <= MAX_PAIRS:
            width = max(diameter[a], diameter[b], widest(rows, after, a, b, most))
        else:
            width = max(diameter[a], diameter[b], reach[a] + between + reach[b])
        if width > most:
            continue
        node = b
        while True:
            reach[a] = max(reach[a], apart(rows, a, node))
            node = after[node]
            if node == b:
                break
        after[a], after[b] = after[b], after[a]
        diameter[a] = width
        parent[a] += parent[b]
        parent[b] = a
    first = np.full(n, n)
    for node in range(n):
        root = find_root(parent, node)
        first[root] = min(first[root], node)
    group, width_of = np.empty(n, np.int64), np.zeros(n)
    for node in range(n):
        root = find_root(parent, node)
        group[node] = first[root]
        width_of[group[node]] = diameter[root]
    return group, width_of
