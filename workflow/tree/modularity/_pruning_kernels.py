"""Weakest-link pruning of a dendrogram: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.tree._tree_kernels import meet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

compiled = compiler(__file__, "../_tree_kernels.py", "../../graph.py")


@compiled
def flows_inside(parent: NDArray[np.int64], graph: Graph) -> NDArray[np.float64]:
    """Return, per node of one tree, the weight of the edges inside it."""
    inside = np.zeros(len(parent))
    for a in range(len(graph.indptr) - 1):
        for entry in range(graph.indptr[a], graph.indptr[a + 1]):
            b = graph.indices[entry]
            if a < b:
                inside[meet(parent, a, b)] += graph.weights[entry]
    for node in range(len(parent) - 1):
        inside[parent[node]] += inside[node]
    return inside


@compiled
def _place(best: NDArray[np.int64], gain: NDArray[np.float64], merge: int) -> None:
    """Play again the matches of a knock-out tournament that a merge is part of.

    The largest gain wins, of equals the lowest merge; -1 stands for none.
    """
    place = (len(best) // 2 + merge) // 2
    while place > 0:
        a, b = best[2 * place], best[2 * place + 1]
        if b < 0 or (a >= 0 and gain[a] >= gain[b]):
            best[place] = a
        else:
            best[place] = b
        place //= 2


@compiled
def _tournament(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the winners of all matches; the first is at 1, merges from the middle on."""
    half = 1
    while half < len(gain):
        half *= 2
    best = np.full(2 * half, -1)
    for merge in range(len(gain)):
        best[half + merge] = merge
    for place in range(half - 1, 0, -1):
        a, b = best[2 * place], best[2 * place + 1]
        best[place] = a if b < 0 or gain[a] >= gain[b] else b
    return best


@compiled
def _gain(held: float, chance: float) -> float:
    """Return the gain per chance of closing a merge."""
    return held / chance if chance > 0 else 0.0


@compiled
def weakest_links(
    parent: NDArray[np.int64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    held: NDArray[np.float64],
    chance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the resolution at which each merge opens; not falling from a merge to one inside it."""
    # held and chance are, per node, the share of the flow inside it and the one expected by
    # chance. The merge with the largest gain is closed, with all inside it, and what it has more
    # than its parts is added to everything above it, until nothing is open.
    n_merges = len(left)
    n_nodes = len(parent) - n_merges
    held_below, chance_below = np.zeros(len(parent)), np.zeros(len(parent))
    for node in range(n_nodes):
        chance_below[node] = chance[node]
    critical, gain = np.full(n_merges, np.nan), np.empty(n_merges)
    inside = np.empty(n_merges + 1, np.int64)
    for merge in range(n_merges):
        node = n_nodes + merge
        held_below[node] = held_below[left[merge]] + held_below[right[merge]]
        chance_below[node] = chance_below[left[merge]] + chance_below[right[merge]]
        gain[merge] = _gain(held[node] - held_below[node], chance[node] - chance_below[node])
    best = _tournament(gain)
    while n_merges and best[1] >= 0:
        node, value = n_nodes + best[1], gain[best[1]]
        inside[0], n_inside = node, 1
        while n_inside:
            n_inside -= 1
            merge = inside[n_inside] - n_nodes
            critical[merge] = value
            best[len(best) // 2 + merge] = -1
            _place(best, gain, merge)
            for side in (left[merge], right[merge]):
                if side >= n_nodes and np.isnan(critical[side - n_nodes]):
                    inside[n_inside] = side
                    n_inside += 1
        more_held, more_chance = held[node] - held_below[node], chance[node] - chance_below[node]
        held_below[node], chance_below[node] = held[node], chance[node]
        above = parent[node]
        while above >= 0:
            held_below[above] += more_held
            chance_below[above] += more_chance
            gain[above - n_nodes] = _gain(
                held[above] - held_below[above], chance[above] - chance_below[above]
            )
            _place(best, gain, above - n_nodes)
            above = parent[above]
    for merge in range(n_merges - 1, -1, -1):  # rounding must not put a child below its parent
        above = parent[n_nodes + merge]
        if above >= 0:
            critical[merge] = max(critical[merge], critical[above - n_nodes])
    return critical
