"""Clusters of a graph while they grow, and the test of the flow between two: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.tree.contrast.constants import (
    CAUTION,
    DENSITY_EXPONENT,
    EXTRA_VARIANCE,
    MAIN_SHARE,
    NODE_VARIATION,
    PRIOR_CONCENTRATION,
    PRIOR_FLOWS,
    SINGLE_REFERENCE_LIMIT,
    UNTESTED,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

compiled = compiler(__file__, "constants.py", "../../graph.py")


class Flows(NamedTuple):
    """The graph of the flows with what the test needs of each node.

    Nodes are in the order of the leaves of a dendrogram: clusters lie together
    in memory.  `name` is what they are called outside.
    """

    graph: Graph
    level: NDArray[np.float64]
    population: NDArray[np.int64]
    position: NDArray[np.float64]
    name: NDArray[np.int64]


class Clusters(NamedTuple):
    """Disjoint sets of nodes; a cluster is named inside by one of its nodes.

    `tree` is the node of a cluster in the history of joins, -1 once it is part
    of another; `held` and `flow` are the sums of concentration times flow and
    of flow over the joins that made it; `core` is NaN until it is needed.
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

    Where the arrays are full, only their number is recorded.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    ratio: NDArray[np.float64]
    made: NDArray[np.int64]


class Crossing(NamedTuple):
    """What flows between two clusters: how much, how concentrated, and the error of that.

    `share` is that of the flow among all that leaves the cluster of fewer nodes.
    """

    flow: float
    concentration: float
    error: float
    share: float


class Test(NamedTuple):
    """Test of a join: its ratio, and flow and concentration of the crossing."""

    ratio: float
    flow: float
    concentration: float


class _Side(NamedTuple):
    """One side of a crossing: mean chance, its variance and the mean level."""

    mean: float
    variance: float
    level: float


def single_clusters(flows: Flows) -> tuple[Clusters, Joins]:
    """Return every node as a cluster of its own, and an empty history."""
    n = len(flows.population)
    clusters = Clusters(
        np.arange(n),
        np.full(n, -1),
        np.arange(n),
        np.arange(n),
        np.ones(n, np.int64),
        flows.population.copy(),
        flows.name.copy(),
        np.zeros(n),
        np.zeros(n),
        np.full(n, np.nan),
        np.zeros(n),
        np.zeros(n),
        np.empty(n, np.int64),
        np.empty(n, np.int64),
    )
    made = np.zeros(1, np.int64)
    return clusters, Joins(np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n), made)


@compiled
def unite_clusters(clusters: Clusters, joins: Joins, a: int, b: int, ratio: float) -> int:
    """Make one cluster of two and record the join; return which of the two it goes on as."""
    if joins.made[0] < len(joins.left):
        joins.left[joins.made[0]], joins.right[joins.made[0]] = clusters.tree[a], clusters.tree[b]
        joins.ratio[joins.made[0]] = ratio
    into, gone = (a, b) if clusters.n_members[a] >= clusters.n_members[b] else (b, a)
    node = clusters.head[gone]
    while node >= 0:
        clusters.owner[node] = into
        node = clusters.following[node]
    clusters.following[clusters.tail[into]] = clusters.head[gone]
    clusters.tail[into] = clusters.tail[gone]
    clusters.n_members[into] += clusters.n_members[gone]
    clusters.images[into] += clusters.images[gone]
    clusters.tree[into] = len(clusters.owner) + joins.made[0]
    clusters.tree[gone] = -1
    clusters.core[into] = np.nan
    joins.made[0] += 1
    return into


@compiled
def join_untested(clusters: Clusters, joins: Joins, a: int, b: int) -> int:
    """Unite two clusters without a test."""
    held, flow = clusters.held[a] + clusters.held[b], clusters.flow[a] + clusters.flow[b]
    into = unite_clusters(clusters, joins, a, b, UNTESTED)
    clusters.held[into], clusters.flow[into] = held, flow
    return into


@compiled
def join_tested(clusters: Clusters, joins: Joins, a: int, b: int, test: Test) -> int:
    """Unite two clusters after a test: older joins count half."""
    held = test.concentration * test.flow + (clusters.held[a] + clusters.held[b]) / 2
    flow = test.flow + (clusters.flow[a] + clusters.flow[b]) / 2
    into = unite_clusters(clusters, joins, a, b, test.ratio)
    clusters.held[into], clusters.flow[into] = held, flow
    return into


@compiled
def core_level(flows: Flows, clusters: Clusters, cluster: int) -> float:
    """Return the log density of the median image of a cluster."""
    if np.isnan(clusters.core[cluster]):
        members = clusters.chosen[: clusters.n_members[cluster]]
        node = clusters.head[cluster]
        for i in range(len(members)):
            members[i] = node
            node = clusters.following[node]
        clusters.core[cluster] = _median(flows, members, clusters.images[cluster])
    return float(clusters.core[cluster])


@compiled
def _median(flows: Flows, members: NDArray[np.int64], images: int) -> float:
    """Return the lower weighted median of the levels of members, which are put in another order.

    Selection by halves: the part that cannot hold it is dropped, its images counted.
    """
    low, high, below = 0, len(members) - 1, 0
    while low < high:
        pivot = flows.level[members[(low + high) // 2]]
        i, j = low, high
        while i <= j:
            while flows.level[members[i]] < pivot:
                i += 1
            while flows.level[members[j]] > pivot:
                j -= 1
            if i <= j:
                members[i], members[j] = members[j], members[i]
                i += 1
                j -= 1
        # Up to j none is above the pivot, from i on none below; between them are its equals.
        lower, equal = below, 0
        for k in range(low, j + 1):
            lower += flows.population[members[k]]
        for k in range(j + 1, i):
            equal += flows.population[members[k]]
        if 2 * lower >= images:
            high = j
        elif 2 * (lower + equal) >= images:
            return float(pivot)
        else:
            low, below = i, lower + equal
    return float(flows.level[members[low]])


@compiled
def flows_to(flows: Flows, clusters: Clusters, cluster: int) -> int:
    """Find the flow from a cluster to every other; `touched` lists those with any."""
    # Returns how many; their flows stay in between until clear_flows.
    n_touched = 0
    node = clusters.head[cluster]
    while node >= 0:
        for entry in range(flows.graph.indptr[node], flows.graph.indptr[node + 1]):
            other = clusters.owner[flows.graph.indices[entry]]
            if other != cluster:
                if clusters.between[other] == 0:
                    clusters.touched[n_touched] = other
                    n_touched += 1
                clusters.between[other] += flows.graph.weights[entry]
        node = clusters.following[node]
    return n_touched


@compiled
def clear_flows(clusters: Clusters, n_touched: int) -> None:
    """Clear the flows found by `flows_to`."""
    for i in range(n_touched):
        clusters.between[clusters.touched[i]] = 0.0


@compiled
def _flow_inside(flows: Flows, clusters: Clusters, node: int) -> float:
    """Return the flow from a node to its own cluster."""
    own = clusters.owner[node]
    total = 0.0
    for entry in range(flows.graph.indptr[node], flows.graph.indptr[node + 1]):
        if clusters.owner[flows.graph.indices[entry]] == own:
            total += flows.graph.weights[entry]
    return total


@compiled
def _side(flows: Flows, clusters: Clusters, border: NDArray[np.int64], flow: float) -> _Side:
    """Return one side of a crossing from the nodes at its border."""
    mean, level = 0.0, 0.0
    both = np.empty(len(border))
    for i in range(len(border)):
        node = border[i]
        out = clusters.out[node]
        both[i] = out * (out - 1) / max(out + _flow_inside(flows, clusters, node) - 1, 1.0)
        mean += both[i]
        level += out * flows.level[node]
    mean /= flow
    variance = 0.0
    for i in range(len(border)):
        out = clusters.out[border[i]]
        variance += (both[i] - mean * out) ** 2 + (NODE_VARIATION * mean * out) ** 2
    return _Side(mean, variance / flow**2, level / flow)


@compiled
def crossing_of(flows: Flows, clusters: Clusters, a: int, b: int) -> Crossing:
    """Return the crossing between two clusters that touch."""
    core = min(core_level(flows, clusters, a), core_level(flows, clusters, b))
    near, far = (a, b) if clusters.n_members[a] <= clusters.n_members[b] else (b, a)
    # Nodes of the one side from the front, those of the other from the back.
    n_near, n_far, flow, outward = 0, 0, 0.0, 0.0
    border = clusters.chosen
    node = clusters.head[near]
    while node >= 0:
        for entry in range(flows.graph.indptr[node], flows.graph.indptr[node + 1]):
            other = flows.graph.indices[entry]
            if clusters.owner[other] != near:
                outward += flows.graph.weights[entry]
            if clusters.owner[other] == far:
                if clusters.out[other] == 0:
                    n_far += 1
                    border[len(border) - n_far] = other
                clusters.out[other] += flows.graph.weights[entry]
                clusters.out[node] += flows.graph.weights[entry]
        if clusters.out[node] > 0:
            border[n_near] = node
            n_near += 1
            flow += clusters.out[node]
        node = clusters.following[node]
    chance, floored, error, level = 1.0, 1.0, 0.0, 0.0
    for nodes in (border[:n_near], border[len(border) - n_far :]):
        side = _side(flows, clusters, nodes, flow)
        floor = max(side.mean, 0.5 / flow)
        chance *= side.mean
        floored *= floor
        error += (side.variance + EXTRA_VARIANCE / flow) / floor**2
        level += side.level / 2
        for node in nodes:
            clusters.out[node] = 0.0
    drop = np.exp(DENSITY_EXPONENT * min(0.0, level - core))
    return Crossing(
        flow, np.sqrt(chance) * drop, np.sqrt(floored) / 2 * np.sqrt(error) * drop, flow / outward
    )


@compiled
def reference(clusters: Clusters, cluster: int) -> float:
    """Return the concentration that joins inside had, -1 where none was tested."""
    if clusters.flow[cluster] <= 0:
        return -1.0
    held = clusters.held[cluster] + PRIOR_FLOWS * PRIOR_CONCENTRATION
    return float(held / (clusters.flow[cluster] + PRIOR_FLOWS))


@compiled
def test_join(flows: Flows, clusters: Clusters, a: int, b: int, n_images: int) -> Test:
    """Test the join of two clusters that touch, of so many images in all."""
    crossing = crossing_of(flows, clusters, a, b)
    first, second = reference(clusters, a), reference(clusters, b)
    if first < 0 and second < 0:
        return Test(UNTESTED, crossing.flow, crossing.concentration)
    if first < 0 or second < 0:
        inside = min(max(first, second), SINGLE_REFERENCE_LIMIT)
    else:
        inside = np.sqrt(first * second)
    # More clusters of this size could have been split off by chance: the test is stricter.
    caution = CAUTION * np.sqrt(2 * np.log(n_images / min(clusters.images[a], clusters.images[b])))
    # Little is known of a crossing of few images. That speaks for a join where it is the main one.
    doubt = caution * crossing.error * min(1.0, (crossing.share / MAIN_SHARE) ** 2)
    ratio = (crossing.concentration + doubt) / inside
    return Test(ratio, crossing.flow, crossing.concentration)


@compiled
def test_pairs(
    flows: Flows, clusters: Clusters, n_images: int, pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the ratio of the test of pairs of clusters that touch."""
    ratio = np.empty(len(pairs))
    for i in range(len(pairs)):
        ratio[i] = test_join(flows, clusters, pairs[i, 0], pairs[i, 1], n_images).ratio
    return ratio
