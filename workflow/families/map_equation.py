"""Communities of a graph by the map equation: the partition in which a random walk is told shortest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.families._map_kernels import code_length as _code_length
from workflow.families._map_kernels import exits_of, move_nodes
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
    return _length(graph, strength, module) / float(strength.sum()) / float(np.log(2))


def _length(graph: Graph, strength: NDArray[np.float64], module: NDArray[np.int64]) -> float:
    """Return the code length [nats] times the total weight."""
    held = np.bincount(module, strength, minlength=len(strength)).astype(np.float64)
    used = strength[strength > 0]
    of_nodes = float((used * np.log(used)).sum())
    return float(_code_length(exits_of(graph, module), held, of_nodes))


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
    n_nodes = graph.n_nodes
    module = np.arange(n_nodes)
    if not len(graph.indices):
        return module
    strength = graph.weight_sums()
    shortest = _length(graph, strength, module)
    best = module
    for _ in range(MAX_ITERATIONS):
        module = _contract_and_move(graph, strength, _moved(graph, strength, best))
        module = _parts_moved(graph, strength, module)
        reached = _length(graph, strength, module)
        if reached >= shortest:
            break
        gain, best, shortest = shortest - reached, module, reached
        if gain < LEAST_GAIN * abs(shortest):
            break
    return _in_order(best)


def _moved(
    graph: Graph,
    strength: NDArray[np.float64],
    module: NDArray[np.int64],
    within: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return the modules, numbered from 0, after nodes have moved."""
    moved = module.copy()
    move_nodes(graph, strength, moved, np.zeros_like(moved) if within is None else within)
    return renumbered(moved)


def _contract_and_move(
    graph: Graph, strength: NDArray[np.float64], module: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Move modules into modules until none moves."""
    member = module
    while True:
        n_modules = int(module.max()) + 1
        strength = np.bincount(module, strength).astype(np.float64)
        graph = contracted(graph, module, n_modules)
        module = _moved(graph, strength, np.arange(n_modules))
        if int(module.max()) + 1 == n_modules:
            return member
        member = module[member]


def _parts_moved(
    graph: Graph, strength: NDArray[np.float64], module: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Split each module anew, and move its parts to the modules that suit them."""
    part = _moved(graph, strength, np.arange(len(module)), module)
    n_parts = int(part.max()) + 1
    above = np.empty(n_parts, np.int64)
    above[part] = module
    of_parts = np.bincount(part, strength).astype(np.float64)
    parts = contracted(graph, part, n_parts)
    moved = _moved(parts, of_parts, above)
    return _contract_and_move(graph, strength, moved[part])


def _in_order(module: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return modules with numbers in the order of their first nodes."""
    _, first, number = np.unique(module, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[number]
