"""Moves of nodes between communities, and graphs of communities: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler
from workflow.tree._edges import transposed

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__, "crossing.py")


@compiled
def permuted_csr(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weight: NDArray[np.float64],
    order: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return a symmetric graph whose node i is node ``order[i]``, the columns of a row rising."""
    n = len(order)
    place, start = np.empty(n, np.int32), np.zeros(n + 1, np.int64)
    for i in range(n):
        place[order[i]] = i
        start[i + 1] = start[i] + indptr[order[i] + 1] - indptr[order[i]]
    free = start[:-1].copy()
    new_indices, new_weight = np.empty(len(indices), np.int32), np.empty(len(indices))
    # Row i of a symmetric graph is its column i too: rows that come in order leave columns in order.
    for i in range(n):
        for entry in range(indptr[order[i]], indptr[order[i] + 1]):
            other = place[indices[entry]]
            new_indices[free[other]], new_weight[free[other]] = i, weight[entry]
            free[other] += 1
    return start, new_indices, new_weight


@compiled
def contracted_csr(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weight: NDArray[np.float64],
    piece: NDArray[np.int64],
    n_pieces: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
    """Return the symmetric graph of pieces, what lies inside a piece on the diagonal."""
    first, member, _ = transposed(np.arange(len(piece) + 1), piece, n_pieces)
    ends, sums = np.empty(len(indices), np.int64), np.empty(len(indices))
    row_start, found = np.zeros(n_pieces + 1, np.int64), np.full(n_pieces, -1)
    n_found = 0
    for number in range(n_pieces):
        row_start[number] = n_found
        for i in range(first[number], first[number + 1]):
            node = member[i]
            for entry in range(indptr[node], indptr[node + 1]):
                other = piece[indices[entry]]
                if found[other] < row_start[number]:
                    found[other] = n_found
                    ends[n_found], sums[n_found] = other, weight[entry]
                    n_found += 1
                else:
                    sums[found[other]] += weight[entry]
    row_start[n_pieces] = n_found
    # Its own transpose, but with the columns of each row in order.
    start, columns, where = transposed(row_start, ends[:n_found], n_pieces)
    return start, columns.astype(np.int32), sums[where]


@compiled
def weight_inside(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weight: NDArray[np.float64],
    community: NDArray[np.int64],
) -> float:
    """Return the weight of the entries whose two ends are in one community; exact."""
    inside = 0.0
    for node in range(len(community)):
        own = community[node]
        for entry in range(indptr[node], indptr[node + 1]):
            if community[indices[entry]] == own:
                inside += weight[entry]
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
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weight: NDArray[np.float64],
    strength: NDArray[np.float64],
    community: NDArray[np.int64],
    scale: float,
) -> int:
    """Move nodes to the community that raises modularity most until none moves.

    Parameters
    ----------
    indptr, indices, weight : arrays
        Symmetric CSR; entries on the diagonal are passed over.
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
        for entry in range(indptr[node], indptr[node + 1]):
            number = community[indices[entry]]
            # Most neighbours are in the node's own community, so these take the short way.
            if number == own:
                if indices[entry] != node:
                    inside += weight[entry]
                continue
            if flow[number] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            flow[number] += weight[entry]
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
        for entry in range(indptr[node], indptr[node + 1]):
            other_node = indices[entry]
            if not waiting[other_node] and community[other_node] != best:
                waiting[other_node] = True
                queue[(head + n_queued) % n] = other_node
                n_queued += 1
    return n_moved


@compiled
def refine(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    weight: NDArray[np.float64],
    strength: NDArray[np.float64],
    community: NDArray[np.int64],
    scale: float,
) -> NDArray[np.int64]:
    """Split each community into connected pieces, each the home of the nodes that gain by it.

    Parameters
    ----------
    indptr, indices, weight : arrays
        Graph, as for `move_nodes`.
    strength, community : arrays of shape (n_nodes,)
        As for `move_nodes`; nothing is changed.
    scale : float
        As for `move_nodes`.

    Returns
    -------
    int64 array of shape (n_nodes,)
        Piece of each node, named by one of its nodes.
    """
    n = strength.size
    whole = np.zeros(n, np.float64)
    for node in range(n):
        whole[community[node]] += strength[node]
    piece, held = np.arange(n), strength.copy()
    # Weight from a piece to the rest of its community.
    outward = np.zeros(n, np.float64)
    for node in range(n):
        for entry in range(indptr[node], indptr[node + 1]):
            other = indices[entry]
            if other != node and community[other] == community[node]:
                outward[node] += weight[entry]
    alone = np.ones(n, np.bool_)
    flow, touched = np.zeros(n, np.float64), np.empty(n, np.int64)
    for node in range(n):
        mine, rest = strength[node], whole[community[node]]
        if not alone[node] or outward[node] < scale * mine * (rest - mine):
            continue
        n_touched = 0
        for entry in range(indptr[node], indptr[node + 1]):
            other = indices[entry]
            if other == node or community[other] != community[node]:
                continue
            number = piece[other]
            if flow[number] == 0.0:
                touched[n_touched] = number
                n_touched += 1
            flow[number] += weight[entry]
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
            piece[node] = best
            alone[node] = alone[best] = False
        for t in range(n_touched):
            flow[touched[t]] = 0.0
    return piece
