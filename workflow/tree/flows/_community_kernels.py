"""Moves of nodes between communities: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

compiled = compiler(__file__, "../../graph.py")


@compiled
def weight_inside(graph: Graph, community: NDArray[np.int64]) -> float:
    """Return the weight of the entries whose two ends are in one community; exact."""
    inside = 0.0
    for node in range(len(community)):
        own = community[node]
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            if community[graph.indices[entry]] == own:
                inside += graph.weights[entry]
    return inside


@compiled
def renumbered(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return names, none as high as there are names, replaced by numbers from 0, in their order."""
    number = np.zeros(len(names), np.int64)
    for name in names:
        number[name] = 1
    n_names = 0
    for name in range(len(names)):
        if number[name]:
            number[name] = n_names
            n_names += 1
    result = np.empty(len(names), np.int64)
    for i in range(len(names)):
        result[i] = number[names[i]]
    return result


@compiled
def move_nodes(
    graph: Graph,
    strength: NDArray[np.float64],
    community: NDArray[np.int64],
    scale: float,
) -> int:
    """Move nodes to the community that raises modularity most until none moves.

    Parameters
    ----------
    graph : Graph
        Entries on the diagonal are passed over.
    strength : float64 array of shape (n_nodes,)
        Total weight at each node, that inside it too.
    community : int64 array of shape (n_nodes,)
        Numbers below n_nodes, changed in place.
    scale : float
        Resolution over the total strength.

    Returns
    -------
    int
        How often a node was moved.
    """
    n = strength.size
    held = np.zeros(n, np.float64)
    size = np.zeros(n, np.int64)
    for node in range(n):
        held[community[node]] += strength[node]
        size[community[node]] += 1
    empty, n_empty = np.empty(n, np.int64), 0
    for number in range(n - 1, -1, -1):
        if size[number] == 0:
            empty[n_empty] = number
            n_empty += 1
    flow, touched = np.zeros(n, np.float64), np.empty(n, np.int64)
    queue, waiting = np.arange(n), np.ones(n, np.bool_)
    head, n_queued, n_moved = 0, n, 0
    while n_queued:
        node = queue[head]
        head = (head + 1) % n
        n_queued -= 1
        waiting[node] = False
        own, mine, n_touched, inside = community[node], strength[node], 0, 0.0
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            number = community[graph.indices[entry]]
            # Most neighbours are in the node's own community, so these take the short way.
            if number == own:
                if graph.indices[entry] != node:
                    inside += graph.weights[entry]
                continue
            if flow[number] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            flow[number] += graph.weights[entry]
        best, gain = own, inside - scale * mine * (held[own] - mine)
        # A move must gain more than rounding could feign, or nodes would move for ever.
        margin = 1e-12 * (abs(gain) + mine)
        for t in range(n_touched):
            number = touched[t]
            other = flow[number] - scale * mine * held[number]
            if other > gain + margin or (best != own and other == gain and number < best):
                best, gain = number, other
        if gain < -margin and size[own] > 1:
            best = empty[n_empty - 1]
        for t in range(n_touched):
            flow[touched[t]] = 0.0
        if best == own:
            continue
        n_moved += 1
        if size[best] == 0:
            n_empty -= 1
        community[node] = best
        held[own] -= mine
        held[best] += mine
        size[own] -= 1
        size[best] += 1
        if size[own] == 0:
            empty[n_empty] = own
            n_empty += 1
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other_node = graph.indices[entry]
            if not waiting[other_node] and community[other_node] != best:
                waiting[other_node] = True
                queue[(head + n_queued) % n] = other_node
                n_queued += 1
    return n_moved


@compiled
def refine(
    graph: Graph,
    strength: NDArray[np.float64],
    community: NDArray[np.int64],
    scale: float,
) -> NDArray[np.int64]:
    """Split each community into connected parts, each of the nodes that gain by being together.

    Parameters
    ----------
    graph : Graph
        As for `move_nodes`.
    strength, community : arrays of shape (n_nodes,)
        As for `move_nodes`; nothing is changed.
    scale : float
        As for `move_nodes`.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Part of each node, named by one of its nodes.
    """
    n = strength.size
    whole = np.zeros(n, np.float64)
    for node in range(n):
        whole[community[node]] += strength[node]
    part, held = np.arange(n), strength.copy()
    # Weight from a part to the rest of its community.
    outward = np.zeros(n, np.float64)
    for node in range(n):
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other = graph.indices[entry]
            if other != node and community[other] == community[node]:
                outward[node] += graph.weights[entry]
    alone = np.ones(n, np.bool_)
    flow, touched = np.zeros(n, np.float64), np.empty(n, np.int64)
    for node in range(n):
        mine, rest = strength[node], whole[community[node]]
        if not alone[node] or outward[node] < scale * mine * (rest - mine):
            continue
        n_touched = 0
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other = graph.indices[entry]
            if other == node or community[other] != community[node]:
                continue
            number = part[other]
            if flow[number] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            flow[number] += graph.weights[entry]
        best, gain = -1, 0.0
        for t in range(n_touched):
            number = touched[t]
            if outward[number] < scale * held[number] * (rest - held[number]):
                continue
            more = flow[number] - scale * mine * held[number]
            if more > gain or (best >= 0 and more == gain and number < best):
                best, gain = number, more
        if best >= 0:
            outward[best] += outward[node] - 2 * flow[best]
            held[best] += mine
            held[node] = 0.0
            part[node] = best
            alone[node] = alone[best] = False
        for t in range(n_touched):
            flow[touched[t]] = 0.0
    return part
