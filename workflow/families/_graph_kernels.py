"""The graph of the images from their nearest neighbours: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.graph import Graph

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "../graph.py")

#: Weight of an edge of length zero that both ends have.  Weights are whole numbers, so that their sums
#: are exact in any order, and no answer hangs on the last bit of a distance.
FULL = 1 << 20


@compiled
def edge_weight(distance: float, scale: float, other_scale: float) -> float:
    """Return the weight of an edge, from 0 to `FULL` / 2 for each end that has it."""
    if distance == 0:
        return FULL // 2
    both = scale * other_scale
    return np.rint(FULL / 2 * np.exp(-distance * distance / both)) if both > 0 else 0.0


@compiled
def edge_weights(
    index: NDArray[np.integer],
    distance: NDArray[np.float32],
    own_scale: NDArray[np.floating],
    scale: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Return the weights that lists of neighbours give to their edges, 0 where one is missing.

    `scale` is that of all images, `own_scale` that of those whose lists these are.
    """
    weight = np.zeros(index.shape, np.float32)
    for i in range(index.shape[0]):
        for rank in range(index.shape[1]):
            j = index[i, rank]
            if j >= 0:
                scales = np.float64(own_scale[i]), np.float64(scale[j])
                weight[i, rank] = edge_weight(distance[i, rank], *scales)
    return weight


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
def places_of(image: NDArray[np.integer], index: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return where numbers stand among rising ones, -1 where they do not."""
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
        for rank in range(index.shape[1]):
            number = index[i, rank]
            if number < 0 or number > last:
                continue
            at, stop = begin[number >> shift], begin[(number >> shift) + 1]
            while at < stop and image[at] < number:
                at += 1
            if at < stop and image[at] == number:
                place[i, rank] = at
    return place


@compiled
def symmetric_graph(index: NDArray[np.int32], weight: NDArray[np.float32]) -> Graph:
    """Return the graph of lists of neighbours, symmetric by the mean; columns rise in each row."""
    n, k = index.shape
    indptr = np.zeros(n + 1, np.int64)
    for i in range(n):
        for rank in range(k):
            j = index[i, rank]
            if j >= 0 and j != i:
                indptr[i + 1] += 1
                indptr[j + 1] += 1
    indptr = np.cumsum(indptr)
    # First, per node, the lists that it stands in, then its own; handed out in the order of
    # the nodes, all of them rise.
    free = indptr[:-1].copy()
    ends, weights = np.empty(indptr[n], np.int32), np.empty(indptr[n])
    risen_ends, risen_weights = np.empty(indptr[n], np.int32), np.empty(indptr[n])
    for i in range(n):
        for rank in range(k):
            j = index[i, rank]
            if j >= 0 and j != i:
                ends[free[j]] = i
                weights[free[j]] = weight[i, rank]
                free[j] += 1
    for i in range(n):
        for rank in range(k):
            j = index[i, rank]
            if j >= 0 and j != i:
                ends[free[i]] = j
                weights[free[i]] = weight[i, rank]
                free[i] += 1
    for i in range(n):
        free[i] = indptr[i]
    for i in range(n):
        for place in range(indptr[i], indptr[i + 1]):
            j = ends[place]
            risen_ends[free[j]], risen_weights[free[j]] = i, weights[place]
            free[j] += 1
    # An edge that both ends have stands twice in a row: add up.  Edges without weight are left out.
    start, n_kept = np.zeros(n + 1, np.int64), 0
    for i in range(n):
        first = n_kept
        for place in range(indptr[i], indptr[i + 1]):
            if risen_weights[place] <= 0:
                continue
            if n_kept > first and ends[n_kept - 1] == risen_ends[place]:
                weights[n_kept - 1] += risen_weights[place]
            else:
                ends[n_kept], weights[n_kept] = risen_ends[place], risen_weights[place]
                n_kept += 1
        start[i + 1] = n_kept
    return Graph(start, ends[:n_kept].copy(), weights[:n_kept].copy(), None)


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
