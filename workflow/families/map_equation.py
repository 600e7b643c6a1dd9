"""Communities of a graph by the map equation: the partition in which a random walk is told shortest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.families._map_kernels import code_length as _code_length
from workflow.families._map_kernels import exits_of, in_order, move_nodes
from workflow.tree._graph_kernels import contracted
from workflow.tree.flows._community_kernels import renumbered

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Times that a partition is improved from where it stands, at most, and the least share of the code's
#: length that makes a further time worth while.
MAX_ITERATIONS, LEAST_GAIN = 10, 1e-4


def code_length(graph: Graph, module: NDArray[np.int64]) -> float:
    """Return the length of the two-level code of a random walk.

    Parameters
    ----------
    graph : Graph
        Symmetric, weights at least 0, nothing on the diagonal.
    module : int64 array of shape (n_nodes,)
        Module of each node, from 0.

    Returns
    -------
    float
        The map equation of [1]_ [bits per step].

    References
    ----------
    .. [1] M. Rosvall and C. T. Bergstrom, "Maps of random walks on complex
       networks reveal community structure", PNAS 105(4), 1118-1123, 2008.
    """
    strength = graph.weight_sums()
    if not strength.sum():
        return 0.0
    walk = _Walk(graph, strength, 0.0)
    return walk.length(module) / float(strength.sum()) / float(np.log(2))


class Surroundings(NamedTuple):
    """What is around a part of a graph, for which its modules are to be those of the whole.

    Attributes
    ----------
    strength : float64 array of shape (n_nodes,)
        Total weight at each node, that of edges to nodes outside the part too.
    module : int64 array of shape (n_nodes,)
        The partition to start from: numbers below n_nodes.
    share : float
        Weight that leaves these modules over that which leaves all modules of the whole.
    """

    strength: NDArray[np.float64]
    module: NDArray[np.int64]
    share: float


def map_communities(graph: Graph) -> NDArray[np.int64]:
    """Return a partition of a graph that no move of a node, module or part of one shortens.

    Parameters
    ----------
    graph : Graph
        Weights are whole numbers in float64: their sums are exact in any order.
        Nothing on the diagonal.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Module of each node, numbered from 0 in the order of their first nodes.
    """
    best = np.arange(graph.n_nodes)
    if not len(graph.indices):
        return best
    walk = _Walk(graph, graph.weight_sums(), 0.0)
    shortest = walk.length(best)
    for _ in range(MAX_ITERATIONS):
        module = _parts_moved(walk, _contract_and_move(walk, _moved(walk, best)))
        reached = walk.length(module)
        if reached >= shortest:
            break
        gain, best, shortest = shortest - reached, module, reached
        if gain < LEAST_GAIN * abs(shortest):
            break
    return in_order(best)


def quick_communities(graph: Graph) -> NDArray[np.int64]:
    """Return the partition that two rounds of moves make: a code longer by some .5 %, in a tenth to a half of the time.

    Parameters
    ----------
    graph : Graph
        As for `map_communities`.

    Returns
    -------
    int64 array of shape (n_nodes,)
        As of `map_communities`.
    """
    strength, alone = graph.weight_sums(), np.arange(graph.n_nodes)
    first = moved_communities(graph, Surroundings(strength, alone, 1.0), is_first=True)
    return in_order(moved_communities(graph, Surroundings(strength, first, 1.0)))


def moved_communities(
    graph: Graph, around: Surroundings, *, is_first: bool = False
) -> NDArray[np.int64]:
    """Return what moves of nodes, then of modules, make of a partition of a part of a graph.

    Parameters
    ----------
    graph : Graph
        As for `map_communities`.
    around : Surroundings
        What is around it, and the partition.
    is_first : bool
        Whether another round follows: then each node is asked once only.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Module of each node, numbered from 0.

    Notes
    -----
    The sum of all exits is the only term of the map equation that hangs on all
    modules.  In a part it is taken to change as that of the whole does, as if
    the whole was so many copies of the part.
    """
    if not len(graph.indices):
        return renumbered(around.module)
    walk = _Walk(graph, around.strength, -math.log(around.share))
    return _contract_and_move(walk, _moved(walk, around.module, is_once=is_first))


class _Walk(NamedTuple):
    """A random walk: on which graph, the weight at each node, and the logarithm of the copies."""

    graph: Graph
    strength: NDArray[np.float64]
    log_copies: float

    def length(self, module: NDArray[np.int64]) -> float:
        """Return the code length [nats] times the total weight."""
        held = np.bincount(module, self.strength, minlength=len(module)).astype(np.float64)
        used = self.strength[self.strength > 0]
        of_nodes = float((used * np.log(used)).sum())
        exits = exits_of(self.graph, self.strength, module)
        return float(_code_length(exits, held, of_nodes, self.log_copies))

    def between(self, module: NDArray[np.int64]) -> _Walk:
        """Return the walk from module to module."""
        n_modules = int(module.max()) + 1
        strength = np.bincount(module, self.strength).astype(np.float64)
        return _Walk(contracted(self.graph, module, n_modules), strength, self.log_copies)


def _moved(
    walk: _Walk,
    module: NDArray[np.int64],
    within: NDArray[np.int64] | None = None,
    *,
    is_once: bool = False,
) -> NDArray[np.int64]:
    """Return the modules, numbered from 0, after nodes have moved."""
    moved = module.copy()
    within = np.zeros_like(moved) if within is None else within
    move_nodes(walk.graph, walk.strength, moved, within, walk.log_copies, is_once)
    return renumbered(moved)


def _contract_and_move(walk: _Walk, module: NDArray[np.int64]) -> NDArray[np.int64]:
    """Move modules into modules until none moves."""
    member = module
    while True:
        walk = walk.between(module)
        n_modules = len(walk.strength)
        module = _moved(walk, np.arange(n_modules))
        if int(module.max()) + 1 == n_modules:
            return member
        member = module[member]


def _parts_moved(walk: _Walk, module: NDArray[np.int64]) -> NDArray[np.int64]:
    """Split each module anew, and move its parts to the modules that suit them."""
    part = _moved(walk, np.arange(len(module)), module)
    above = np.empty(int(part.max()) + 1, np.int64)
    above[part] = module
    moved = _moved(walk.between(part), above)
    return _contract_and_move(walk, moved[part])
