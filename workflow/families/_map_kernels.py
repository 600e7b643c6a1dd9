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
#: What is known of a module: weight from the node at hand, weight that leaves it, weight of its nodes, and
#: x log x of the exits and of both, which are asked for far more often than they change.
FLOW, EXITS, HELD, OF_EXITS, OF_BOTH = range(5)


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
def in_order(module: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return modules numbered from 0 in the order of their first nodes; numbers are below n_nodes before, too."""
    number, n_modules = np.full(len(module), -1), 0
    result = np.empty(len(module), np.int64)
    for node in range(len(module)):
        if number[module[node]] < 0:
            number[module[node]] = n_modules
            n_modules += 1
        result[node] = number[module[node]]
    return result


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
def _note_logarithms(known: NDArray[np.float64], number: int) -> None:
    """Note x log x of what is known of a module."""
    known[number, OF_EXITS] = _plogp(known[number, EXITS])
    known[number, OF_BOTH] = _plogp(known[number, EXITS] + known[number, HELD])


@compiled
def move_nodes(
    graph: Graph,
    strength: NDArray[np.float64],
    module: NDArray[np.int64],
    within: NDArray[np.int64],
    log_copies: float,
    is_once: bool,  # noqa: FBT001 - kernels take no keywords
) -> int:
    """Move nodes to the module that shortens the map equation most, once or until none moves.

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
    is_once : bool
        Whether each node is asked once, in order, and not again after its neighbours moved.

    Returns
    -------
    int
        How often a node was moved.
    """
    n = strength.size
    # What is known of a module stands in one row, which is one line of the cache.
    known, exits = np.zeros((n, 8)), exits_of(graph, strength, module)
    of_node, is_free = np.empty(n, np.int32), True
    for node in range(n):
        of_node[node] = module[node]
        known[module[node], HELD] += strength[node]
        is_free &= within[node] == within[0]
    for number in range(n):
        known[number, EXITS] = exits[number]
        _note_logarithms(known, number)
    all_exits = _sum(exits)
    log_all = math.log(all_exits) if all_exits > 0 else 0.0
    touched, queue, waiting = np.empty(n, np.int32), np.arange(n), np.ones(n, np.bool_)
    head, n_queued, n_moved = 0, n, 0
    while n_queued:
        node = queue[head]
        head = head + 1 if head + 1 < n else 0
        n_queued -= 1
        waiting[node] = False
        own, mine, n_touched, inside = of_node[node], strength[node], 0, 0.0
        leaving, room = mine, within[node]
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            other, weight = graph.indices[entry], graph.weights[entry]
            if other == node:
                leaving -= weight
                continue
            number = of_node[other]
            if number == own:
                inside += weight
                continue
            if not is_free and within[other] != room:
                continue
            if known[number, FLOW] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            known[number, FLOW] += weight
        # What the code of the node's own module loses without it.
        old_exit = known[own, EXITS]
        new_exit = old_exit - leaving + 2 * inside
        gone = _plogp(new_exit + known[own, HELD] - mine) - known[own, OF_BOTH]
        gone -= 2 * (_plogp(new_exit) - known[own, OF_EXITS])
        best, change, best_exit = own, -MARGIN * mine, 0.0
        for t in range(n_touched):
            number = touched[t]
            there = known[number, EXITS]
            then = there + leaving - 2 * known[number, FLOW]
            known[number, FLOW] = 0.0
            both, more = there + known[number, HELD], then - there + mine
            if both <= MOST_SHARE * mine:
                other_change = gone + _plogp(both + more) - known[number, OF_BOTH]
            else:
                other_change = gone + _rise(both, more)
            other_change -= 2 * (_plogp(then) - known[number, OF_EXITS])
            more = new_exit - old_exit + then - there
            other_change += _rise_of_all(all_exits, log_all, more) + more * log_copies
            if other_change < change - MARGIN * mine or (
                best != own and abs(other_change - change) <= MARGIN * mine and number < best
            ):
                best, change, best_exit = number, other_change, then
        if best == own:
            continue
        n_moved += 1
        all_exits += new_exit - old_exit + best_exit - known[best, EXITS]
        log_all = math.log(all_exits) if all_exits > 0 else 0.0
        known[own, EXITS], known[best, EXITS] = new_exit, best_exit
        known[own, HELD] -= mine
        known[best, HELD] += mine
        _note_logarithms(known, own)
        _note_logarithms(known, best)
        of_node[node] = best
        if is_once:
            continue
        for entry in range(graph.indptr[node], graph.indptr[node + 1]):
            neighbor = graph.indices[entry]
            if not waiting[neighbor] and neighbor != node and of_node[neighbor] != best:
                waiting[neighbor] = True
                last = head + n_queued
                queue[last if last < n else last - n] = neighbor
                n_queued += 1
    for node in range(n):
        module[node] = of_node[node]
    return n_moved
