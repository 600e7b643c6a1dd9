"""The graph of the images from their nearest neighbours: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "../graph.py")

compiled = compiler(__file__, "../graph.py")

#: Weight of an edge of length zero that both ends have.  Weights are whole numbers, so that their sums
#: are exact in any order, and no answer hangs on the last bit of a distance.
FULL = 1 << 20


@compiled
def add_weights(
    index: NDArray[np.integer],
    weight: NDArray[np.float32],
    start: int,
    first: int,
    strength: NDArray[np.float64],
) -> None:
    """Add the weights of lists, of images from `start`, to both ends where they are from `first` on."""
    stop = first + len(strength)
    for i in range(index.shape[0]):
        own = start + i
        for rank in range(index.shape[1]):
            j = index[i, rank]
            if j < 0 or j == own:
                continue
            if first <= own < stop:
                strength[own - first] += weight[i, rank]
            if first <= j < stop:
                strength[j - first] += weight[i, rank]


@compiled
def places_of(
    image: NDArray[np.integer], rank: NDArray[np.int32], index: NDArray[np.integer]
) -> NDArray[np.int32]:
    """Return the rank of numbers among rising ones, -1 where they are not there."""
    place = np.full(index.shape, -1, np.int32)
    last = image[-1] if len(image) else -1
    # Where numbers with the same leading bits begin: about one of them, then a short way to go.
    shift = 0
    while last >> shift > len(image):
        shift += 1
    begin = np.zeros((last >> shift) + 2, np.int64)
    for number in image:
        begin[(number >> shift) + 1] += 1
    begin = np.cumsum(begin)
    for i in range(index.shape[0]):
        for column in range(index.shape[1]):
            number = index[i, column]
            if number < 0 or number > last:
                continue
            at, stop = begin[number >> shift], begin[(number >> shift) + 1]
            while at < stop and image[at] < number:
                at += 1
            if at < stop and image[at] == number:
                place[i, column] = rank[at]
    return place


@compiled
def symmetric_graph(index: NDArray[np.int32], weight: NDArray[np.float32]) -> Graph:
    """Return the graph of lists of neighbours, symmetric by the mean; columns rise in each row."""
    n, k = index.shape
    # Per node, the nodes whose lists it stands in: they rise.
    start = np.zeros(n + 1, np.int64)
    for i in range(n):
        for rank in range(k):
            j = index[i, rank]
            if j >= 0 and j != i and weight[i, rank] > 0:
                start[j + 1] += 1
    start = np.cumsum(start)
    free = start[:-1].copy()
    namer, given = np.empty(start[n], np.int32), np.empty(start[n], np.float32)
    for i in range(n):
        for rank in range(k):
            j = index[i, rank]
            if j >= 0 and j != i and weight[i, rank] > 0:
                namer[free[j]] = i
                given[free[j]] = weight[i, rank]
                free[j] += 1
    # Its own list, sorted, is merged with them.  What both ends name is added up.
    indptr, n_entries = np.zeros(n + 1, np.int64), 0
    ends, weights = np.empty(2 * start[n], np.int32), np.empty(2 * start[n])
    named, giving = np.empty(k, np.int32), np.empty(k)
    for i in range(n):
        n_named = 0
        for rank in range(k):
            j = index[i, rank]
            if j < 0 or j == i or weight[i, rank] <= 0:
                continue
            place = n_named
            while place > 0 and named[place - 1] > j:
                named[place], giving[place] = named[place - 1], giving[place - 1]
                place -= 1
            named[place], giving[place] = j, weight[i, rank]
            n_named += 1
        one, other, first = start[i], 0, n_entries
        while one < start[i + 1] or other < n_named:
            if other == n_named or (one < start[i + 1] and namer[one] <= named[other]):
                end, more = namer[one], np.float64(given[one])
                one += 1
            else:
                end, more = named[other], giving[other]
                other += 1
            if n_entries > first and ends[n_entries - 1] == end:
                weights[n_entries - 1] += more
            else:
                ends[n_entries], weights[n_entries] = end, more
                n_entries += 1
        indptr[i + 1] = n_entries
    return Graph(indptr, ends[:n_entries].copy(), weights[:n_entries].copy(), None)


@compiled
def weight_inside(graph: Graph, community: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the weight of each node's edges to its own community."""
    inside = np.zeros(len(community))
    for node in range(len(community)):
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            if community[graph.indices[entry]] == community[node]:
                inside[node] += graph.weights[entry]
    return inside


@compiled
def edges_out(
    graph: Graph, community: NDArray[np.int64], order: NDArray[np.int64], start: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the edges that leave each community, and how many ordered pairs of them lead to the same one.

    `order` has the nodes by community, `start` where each community begins in it.
    """
    n_communities = len(start) - 1
    count, met = np.zeros(n_communities, np.int64), np.empty(n_communities, np.int64)
    n_edges, n_pairs = np.zeros(n_communities, np.int64), np.zeros(n_communities)
    for own in range(n_communities):
        n_met = 0
        for node in order[start[own] : start[own + 1]]:
            for edge in range(graph.indptr[node], graph.indptr[node + 1]):
                other = community[graph.indices[edge]]
                if other != own:
                    if count[other] == 0:
                        met[n_met] = other
                        n_met += 1
                    count[other] += 1
        for other in met[:n_met]:
            n_edges[own] += count[other]
            n_pairs[own] += count[other] * np.float64(count[other] - 1)
            count[other] = 0
    return n_edges, n_pairs
