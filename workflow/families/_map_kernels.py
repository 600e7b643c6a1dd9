"""Moves of nodes between modules that shorten the map equation: inner loops."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

compiled = compiler(__file__, "../graph.py")

#: A move must shorten the code by this share of the node's flow: more than rounding could feign on
#: any processor, or nodes would move for ever and answers would hang on the last bit.
MARGIN = 1e-9
#: Module over node: up to so much a difference of two x log x is exact by far more than that.
MOST_SHARE = 1e4
#: Share of all exits up to which three terms of a series are exact to the last bit.
SMALL_SHARE = 1e-5


@compiled
def _plogp(x: float) -> float:
    """Return x log x, 0 at 0."""
    return x * math.log(x) if x > 0 else 0.0


@compiled
def _rise(x: float, more: float) -> float:
    """Return how much x log x rises when x does by `more`, exact where that is little of x."""
    if x <= 0 or x + more <= 0:
        return _plogp(x + more) - _plogp(x)
    return more * math.log(x + more) + x * math.log1p(more / x)


@compiled
def _rise_of_all(x: float, log_x: float, more: float) -> float:
    """Return what `_rise` does where the logarithm is known."""
    share = more / x if x > 0 else 1.0
    if abs(share) > SMALL_SHARE:
        return _rise(x, more)
    return more * (log_x + 1 + share / 2 - share * share / 6)


@compiled
def _sum(values: NDArray[np.float64]) -> float:
    """Return the sum, added up in order; NumPy's takes long to compile."""
    total = 0.0
    for value in values:
        total += value
    return total


@compiled
def exits_of(
    graph: Graph, strength: NDArray[np.float64], module: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weight that leaves each module, of as many modules as there are nodes."""
    exits = np.zeros(len(module))
    for node in range(len(module)):
        exits[module[node]] += strength[node]
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            if module[graph.indices[entry]] == module[node]:
                exits[module[node]] -= graph.weights[entry]
    return exits


@compiled
def code_length(
    exits: NDArray[np.float64], held: NDArray[np.float64], of_nodes: float, log_copies: float
) -> float:
    """Return the map equation [nats], times the total weight; `of_nodes` is that of the nodes alone."""
    # With flows as shares of the total weight the terms in its logarithm cancel but for one.
    all_exits = _sum(exits)
    length = _plogp(all_exits) + all_exits * log_copies - of_nodes
    for number in range(len(held)):
        length += _plogp(exits[number] + held[number]) - 2 * _plogp(exits[number])
    return length


@compiled
def move_nodes(
    graph: Graph,
    strength: NDArray[np.float64],
    module: NDArray[np.int64],
    within: NDArray[np.int64],
    log_copies: float,
) -> int:
    """Move nodes to the module that shortens the map equation most until none moves.

    Parameters
    ----------
    graph : Graph
        Weights are whole numbers in float64; entries on the diagonal are passed over.
    strength : float64 array of shape (n_nodes,)
        Total weight at each node, that inside it and that to nodes of no row too.
    module : int64 array of shape (n_nodes,)
        Numbers below n_nodes, changed in place.
    within : int64 array of shape (n_nodes,)
        Nodes only move to modules of nodes with the same number here.
    log_copies : float
        Logarithm of how many times the exits of this graph those of the whole are.

    Returns
    -------
    int
        How often a node was moved.
    """
    n = strength.size
    held, exits = np.zeros(n), exits_of(graph, strength, module)
    size = np.zeros(n, np.int64)
    for node in range(n):
        held[module[node]] += strength[node]
        size[module[node]] += 1
    # Their x log x is asked for far more often than it changes.
    of_exits, of_both = np.empty(n), np.empty(n)
    for number in range(n):
        of_exits[number] = _plogp(exits[number])
        of_both[number] = _plogp(exits[number] + held[number])
    all_exits = _sum(exits)
    log_all = math.log(all_exits) if all_exits > 0 else 0.0
    flow, touched = np.zeros(n), np.empty(n, np.int64)
    queue, waiting = np.arange(n), np.ones(n, np.bool_)
    head, n_queued, n_moved = 0, n, 0
    while n_queued:
        node = queue[head]
        head = (head + 1) % n
        n_queued -= 1
        waiting[node] = False
        own, mine, n_touched, inside, leaving = module[node], strength[node], 0, 0.0, strength[node]
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other, weight = graph.indices[entry], graph.weights[entry]
            if other == node:
                leaving -= weight
                continue
            number = module[other]
            if number == own:
                inside += weight
                continue
            if within[other] != within[node]:
                continue
            if flow[number] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            flow[number] += weight
        # What the code of the node's own module loses without it.
        old_exit, new_exit = exits[own], exits[own] - leaving + 2 * inside
        gone = _plogp(new_exit + held[own] - mine) - of_both[own]
        gone -= 2 * (_plogp(new_exit) - of_exits[own])
        best, change, best_exit = own, -MARGIN * mine, 0.0
        for t in range(n_touched):
            number = touched[t]
            there, then = exits[number], exits[number] + leaving - 2 * flow[number]
            both, more = there + held[number], then - there + mine
            if both <= MOST_SHARE * mine:
                other_change = gone + _plogp(both + more) - of_both[number]
            else:
                other_change = gone + _rise(both, more)
            other_change -= 2 * (_plogp(then) - of_exits[number])
            more = new_exit - old_exit + then - there
            other_change += _rise_of_all(all_exits, log_all, more) + more * log_copies
            if other_change < change - MARGIN * mine or (
                best != own and abs(other_change - change) <= MARGIN * mine and number < best
            ):
                best, change, best_exit = number, other_change, then
        for t in range(n_touched):
            flow[touched[t]] = 0.0
        if best == own:
            continue
        n_moved += 1
        all_exits += new_exit - old_exit + best_exit - exits[best]
        exits[own], exits[best] = new_exit, best_exit
        held[own] -= mine
        held[best] += mine
        log_all = math.log(all_exits) if all_exits > 0 else 0.0
        for number in (own, best):
            of_exits[number] = _plogp(exits[number])
            of_both[number] = _plogp(exits[number] + held[number])
        module[node] = best
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            neighbor = graph.indices[entry]
            if not waiting[neighbor] and neighbor != node and module[neighbor] != best:
                waiting[neighbor] = True
                queue[(head + n_queued) % n] = neighbor
                n_queued += 1
    return n_moved
