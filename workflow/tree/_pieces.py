"""Pieces of a graph while they grow, and the test of the flow between two: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.tree.crossing import (
    CAUTION,
    DENSITY_EXPONENT,
    EXTRA_VARIANCE,
    NODE_VARIATION,
    PRIOR_CONCENTRATION,
    PRIOR_FLOWS,
    SINGLE_REFERENCE_LIMIT,
    UNTESTED,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


class Graph(NamedTuple):
    """Symmetric CSR graph of flows, with what the test needs of each node.

    Nodes are in the order of the leaves of a dendrogram: pieces lie together in
    memory.  `name` is what they are called outside.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weight: NDArray[np.float64]
    level: NDArray[np.float64]
    population: NDArray[np.int64]
    position: NDArray[np.float64]
    name: NDArray[np.int64]


class Pieces(NamedTuple):
    """Disjoint sets of nodes; a piece is named inside by one of its nodes.

    `tree` is the node of a piece in the history of joins, -1 once it is part
    of another; `held` and `flow` are the sums of concentration times flow and
    of flow over the joins that made it; `core` is NaN until it is asked for.
    The last four are scratch.
    """

    owner: NDArray[np.int64]
    following: NDArray[np.int64]
    head: NDArray[np.int64]
    tail: NDArray[np.int64]
    n_members: NDArray[np.int64]
    images: NDArray[np.int64]
    tree: NDArray[np.int64]
    held: NDArray[np.float64]
    flow: NDArray[np.float64]
    core: NDArray[np.float64]
    between: NDArray[np.float64]
    out: NDArray[np.float64]
    chosen: NDArray[np.int64]
    touched: NDArray[np.int64]


class Joins(NamedTuple):
    """Joins in the order they were made: sides, ratio of the test, and how many.

    Without room for them only their number is kept.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    ratio: NDArray[np.float64]
    made: NDArray[np.int64]


@compiled
def single_pieces(graph: Graph) -> tuple[Pieces, Joins]:
    """Return every node as a piece of its own, and an empty history."""
    n = len(graph.population)
    pieces = Pieces(
        np.arange(n),
        np.full(n, -1),
        np.arange(n),
        np.arange(n),
        np.ones(n, np.int64),
        graph.population.copy(),
        graph.name.copy(),
        np.zeros(n),
        np.zeros(n),
        np.full(n, np.nan),
        np.zeros(n),
        np.zeros(n),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    made = np.zeros(1, np.int64)
    return pieces, Joins(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n), made)


@compiled
def unite_pieces(pieces: Pieces, joins: Joins, a: int, b: int, ratio: float) -> int:
    """Make one piece of two and record the join; return which of the two it goes on as."""
    if joins.made[0] < len(joins.left):
        joins.left[joins.made[0]], joins.right[joins.made[0]] = pieces.tree[a], pieces.tree[b]
        joins.ratio[joins.made[0]] = ratio
    into, gone = (a, b) if pieces.n_members[a] >= pieces.n_members[b] else (b, a)
    node = pieces.head[gone]
    while node >= 0:
        pieces.owner[node] = into
        node = pieces.following[node]
    pieces.following[pieces.tail[into]] = pieces.head[gone]
    pieces.tail[into] = pieces.tail[gone]
    pieces.n_members[into] += pieces.n_members[gone]
    pieces.images[into] += pieces.images[gone]
    pieces.tree[into] = len(pieces.owner) + joins.made[0]
    pieces.tree[gone] = -1
    pieces.core[into] = np.nan
    joins.made[0] += 1
    return into


@compiled
def join_untested(pieces: Pieces, joins: Joins, a: int, b: int) -> int:
    """Unite two pieces without a test."""
    held, flow = pieces.held[a] + pieces.held[b], pieces.flow[a] + pieces.flow[b]
    into = unite_pieces(pieces, joins, a, b, UNTESTED)
    pieces.held[into], pieces.flow[into] = held, flow
    return into


@compiled
def join_tested(
    pieces: Pieces, joins: Joins, a: int, b: int, test: tuple[float, float, float]
) -> int:
    """Unite two pieces after a test: older joins count half."""
    ratio, flow, concentration = test
    held = concentration * flow + (pieces.held[a] + pieces.held[b]) / 2
    flow += (pieces.flow[a] + pieces.flow[b]) / 2
    into = unite_pieces(pieces, joins, a, b, ratio)
    pieces.held[into], pieces.flow[into] = held, flow
    return into


@compiled
def core_level(graph: Graph, pieces: Pieces, piece: int) -> float:
    """Return the log density of the median image of a piece."""
    if np.isnan(pieces.core[piece]):
        members = pieces.chosen[: pieces.n_members[piece]]
        node = pieces.head[piece]
        for i in range(len(members)):
            members[i] = node
            node = pieces.following[node]
        pieces.core[piece] = _median(graph, members, pieces.images[piece])
    return float(pieces.core[piece])


@compiled
def _median(graph: Graph, members: NDArray[np.int64], images: int) -> float:
    """Return the lower weighted median of the levels of members, which are put in another order.

    Selection by halves: the part that cannot hold it is dropped, its images counted.
    """
    low, high, below = 0, len(members) - 1, 0
    while low < high:
        pivot = graph.level[members[(low + high) // 2]]
        i, j = low, high
        while i <= j:
            while graph.level[members[i]] < pivot:
                i += 1
            while graph.level[members[j]] > pivot:
                j -= 1
            if i <= j:
                members[i], members[j] = members[j], members[i]
                i += 1
                j -= 1
        # Up to j none is above the pivot, from i on none below; between them are its equals.
        lower, equal = below, 0
        for k in range(low, j + 1):
            lower += graph.population[members[k]]
        for k in range(j + 1, i):
            equal += graph.population[members[k]]
        if 2 * lower >= images:
            high = j
        elif 2 * (lower + equal) >= images:
            return float(pivot)
        else:
            low, below = i, lower + equal
    return float(graph.level[members[low]])


@compiled
def flows_to(graph: Graph, pieces: Pieces, piece: int) -> int:
    """Find the flow from a piece to every other; `touched` lists those with any."""
    # Returns how many; their flows stay in between until forget.
    n_touched = 0
    node = pieces.head[piece]
    while node >= 0:
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other = pieces.owner[graph.indices[entry]]
            if other != piece:
                if pieces.between[other] == 0:
                    pieces.touched[n_touched] = other
                    n_touched += 1
                pieces.between[other] += graph.weight[entry]
        node = pieces.following[node]
    return n_touched


@compiled
def forget(pieces: Pieces, n_touched: int) -> None:
    """Clear the flows found by `flows_to`."""
    for i in range(n_touched):
        pieces.between[pieces.touched[i]] = 0.0


@compiled
def _staying(graph: Graph, pieces: Pieces, node: int) -> float:
    """Return the flow from a node to its own piece."""
    own = pieces.owner[node]
    total = 0.0
    for entry in range(graph.indptr[node], graph.indptr[node + 1]):
        if pieces.owner[graph.indices[entry]] == own:
            total += graph.weight[entry]
    return total


@compiled
def _side(
    graph: Graph, pieces: Pieces, border: NDArray[np.int64], flow: float
) -> tuple[float, float, float]:
    """Return mean chance, its variance and the mean level of one side of a crossing."""
    mean, level = 0.0, 0.0
    both = np.empty(len(border))
    for i in range(len(border)):
        node = border[i]
        out = pieces.out[node]
        both[i] = out * (out - 1) / max(out + _staying(graph, pieces, node) - 1, 1.0)
        mean += both[i]
        level += out * graph.level[node]
    mean /= flow
    variance = 0.0
    for i in range(len(border)):
        out = pieces.out[border[i]]
        variance += (both[i] - mean * out) ** 2 + (NODE_VARIATION * mean * out) ** 2
    return mean, variance / flow**2, level / flow


@compiled
def crossing_of(graph: Graph, pieces: Pieces, a: int, b: int) -> tuple[float, float, float]:
    """Return flow, concentration and its standard error between two pieces that touch."""
    core = min(core_level(graph, pieces, a), core_level(graph, pieces, b))
    near, far = (a, b) if pieces.n_members[a] <= pieces.n_members[b] else (b, a)
    # Nodes of the one side from the front, those of the other from the back.
    n_near, n_far, flow = 0, 0, 0.0
    border = pieces.chosen
    node = pieces.head[near]
    while node >= 0:
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other = graph.indices[entry]
            if pieces.owner[other] == far:
                if pieces.out[other] == 0:
                    n_far += 1
                    border[len(border) - n_far] = other
                pieces.out[other] += graph.weight[entry]
                pieces.out[node] += graph.weight[entry]
        if pieces.out[node] > 0:
            border[n_near] = node
            n_near += 1
            flow += pieces.out[node]
        node = pieces.following[node]
    chance, floored, error, level = 1.0, 1.0, 0.0, 0.0
    for nodes in (border[:n_near], border[len(border) - n_far :]):
        mean, variance, height = _side(graph, pieces, nodes, flow)
        floor = max(mean, 0.5 / flow)
        chance *= mean
        floored *= floor
        error += (variance + EXTRA_VARIANCE / flow) / floor**2
        level += height / 2
        for node in nodes:
            pieces.out[node] = 0.0
    drop = np.exp(DENSITY_EXPONENT * min(0.0, level - core))
    return flow, np.sqrt(chance) * drop, np.sqrt(floored) / 2 * np.sqrt(error) * drop


@compiled
def reference(pieces: Pieces, piece: int) -> float:
    """Return the concentration that joins inside had, -1 where none was tested."""
    if pieces.flow[piece] <= 0:
        return -1.0
    held = pieces.held[piece] + PRIOR_FLOWS * PRIOR_CONCENTRATION
    return float(held / (pieces.flow[piece] + PRIOR_FLOWS))


@compiled
def test_of(graph: Graph, pieces: Pieces, a: int, b: int, total: int) -> tuple[float, float, float]:
    """Return ratio, flow and concentration of the crossing between two pieces that touch."""
    flow, concentration, error = crossing_of(graph, pieces, a, b)
    first, second = reference(pieces, a), reference(pieces, b)
    if first < 0 and second < 0:
        return UNTESTED, flow, concentration
    if first < 0 or second < 0:
        inside = min(max(first, second), SINGLE_REFERENCE_LIMIT)
    else:
        inside = np.sqrt(first * second)
    # More pieces of this size could have been split off by chance: ask for more.
    caution = CAUTION * np.sqrt(2 * np.log(total / min(pieces.images[a], pieces.images[b])))
    return (concentration + caution * error) / inside, flow, concentration


@compiled
def test_all(
    graph: Graph, pieces: Pieces, total: int, pairs: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ratio of the test and the flow of pairs of pieces that touch."""
    ratio, flow = np.empty(len(pairs)), np.empty(len(pairs))
    for i in range(len(pairs)):
        ratio[i], flow[i], _ = test_of(graph, pieces, pairs[i, 0], pairs[i, 1], total)
    return ratio, flow
