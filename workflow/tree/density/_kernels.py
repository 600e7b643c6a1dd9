"""Nearest nodes of different groups by a tree of boxes, and mean lengths of short edges: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)

#: Maximum of nodes in a box that is not split further: those that one comparison takes at once.
_WIDTH = 16
#: Axes that are added up before a comparison may be given up.
_STEP = 10


class Boxes(NamedTuple):
    """Boxes around nodes, the first around all, each split in halves along its longest edge.

    The halves of box i are ``below[i]`` and the next one, or -1; a box that is not split has
    the nodes ``node[leaf[i]]``, -1 where there are fewer, and their positions ``point[leaf[i]]``,
    axis by axis, infinite where there are fewer.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    below: NDArray[np.int64]
    leaf: NDArray[np.int64]
    node: NDArray[np.int64]
    point: NDArray[np.float64]


class Edges(NamedTuple):
    """Shortest edge out of each group so far: squared length, lower and higher end."""

    sq_length: NDArray[np.float64]
    ends: NDArray[np.int64]


def boxes_of(position: NDArray[np.float64]) -> Boxes:
    """Return a tree of boxes around nodes."""
    levels: list[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]] = []
    leaves: list[NDArray[np.int64]] = []
    member, size = np.arange(len(position)), np.array([len(position)])
    while len(size):  # boxes of one depth at a time
        here, first = position[member], np.cumsum(size) - size
        low, high = np.minimum.reduceat(here, first), np.maximum.reduceat(here, first)
        is_split = size > _WIDTH
        levels.append((low, high, is_split))
        box = np.repeat(np.arange(len(size)), size)
        whole = np.flatnonzero(~is_split)
        leaves += [member[first[leaf] : first[leaf] + size[leaf]] for leaf in whole]
        inner = is_split[box]
        along = here[np.arange(len(box)), np.argmax(high - low, axis=1)[box]]
        member = member[inner][np.lexsort((along[inner], box[inner]))]
        left = size[is_split] // 2
        size = np.stack([left, size[is_split] - left], axis=1).ravel()
    low, high, is_split = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    below = np.where(is_split, 2 * np.cumsum(is_split) - 1, -1)
    node = np.full((len(leaves), _WIDTH), -1)
    for leaf, members in enumerate(leaves):
        node[leaf, : len(members)] = members
    point = np.where(node[:, :, None] >= 0, position[node], np.inf).transpose(0, 2, 1).copy()
    return Boxes(low, high, below, np.where(is_split, -1, np.cumsum(~is_split) - 1), node, point)


@compiled
def _only_groups(boxes: Boxes, group: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the group that all nodes of each box are in, -1 where they are in several."""
    only = np.empty(len(boxes.below), np.int64)
    for box in range(len(only) - 1, -1, -1):
        half = boxes.below[box]
        if half >= 0:
            only[box] = only[half] if only[half] == only[half + 1] else -1
        else:
            members = boxes.node[boxes.leaf[box]]
            only[box] = group[members[0]]
            for node in members:
                if node >= 0 and group[node] != only[box]:
                    only[box] = -1
    return only


@compiled
def _sq_gap(boxes: Boxes, a: int, b: int, bound: float) -> float:
    """Return the squared distance of two boxes, or something larger than `bound`.

    Rounded as the distances of nodes are, axis by axis: never above that of nodes inside.
    """
    total = 0.0
    for k in range(boxes.low.shape[1]):
        gap = max(boxes.low[a, k] - boxes.high[b, k], boxes.low[b, k] - boxes.high[a, k])
        if gap > 0.0:
            total += gap * gap
            if total > bound:
                break
    return total


@compiled
def _offer(edges: Edges, group: int, total: float, a: int, b: int) -> None:
    """Keep an edge if it is shorter than the group's, of equals the one with the lower ends."""
    low, high = min(a, b), max(a, b)
    if total == edges.sq_length[group] and (
        edges.ends[group, 0] < low or (edges.ends[group, 0] == low and edges.ends[group, 1] <= high)
    ):
        return
    edges.sq_length[group], edges.ends[group, 0], edges.ends[group, 1] = total, low, high


@compiled
def _compare(
    boxes: Boxes,
    pair: tuple[int, int],
    group: NDArray[np.int32],
    idle: int,
    edges: Edges,
    total: NDArray[np.float64],
) -> None:
    """Offer the edges between two boxes that are not split."""
    others, points = boxes.node[pair[1]], boxes.point[pair[1]]
    n_axes = points.shape[0]
    for i in range(_WIDTH):
        node = boxes.node[pair[0], i]
        if node < 0 or group[node] == idle:
            continue
        own, bound = group[node], edges.sq_length[group[node]]
        for j in range(_WIDTH):
            total[j] = 0.0
        for start in range(0, n_axes, _STEP):
            for k in range(start, min(start + _STEP, n_axes)):
                here = boxes.point[pair[0], k, i]
                for j in range(_WIDTH):
                    gap = points[k, j] - here
                    total[j] += gap * gap
            nearest = np.inf
            for j in range(_WIDTH):
                nearest = min(nearest, total[j])
            if nearest > bound:
                break
        if nearest > bound:
            continue
        for j in range(_WIDTH):
            if others[j] >= 0 and group[others[j]] != own:
                if total[j] <= edges.sq_length[own]:
                    _offer(edges, own, total[j], node, others[j])
                if total[j] <= edges.sq_length[group[others[j]]]:
                    _offer(edges, group[others[j]], total[j], node, others[j])


@compiled
def _largest_bound(
    boxes: Boxes, box: int, group: NDArray[np.int32], idle: int, edges: Edges
) -> float:
    """Return the longest of the edges that the groups in a box have so far, -1 for none."""
    bound = -1.0
    for node in boxes.node[boxes.leaf[box]]:
        if node >= 0 and group[node] != idle:
            bound = max(bound, edges.sq_length[group[node]])
    return bound


@compiled
def shortest_edges(boxes: Boxes, group: NDArray[np.int32], idle: int) -> NDArray[np.int64]:
    """Return the ends, the lower first, of the shortest edge out of each group but the idle one."""
    # Of equal lengths the one with the lower, then the higher end counts first.
    n_groups, n_nodes = 0, len(group)
    for number in group:
        n_groups = max(n_groups, number + 1)
    edges = Edges(np.full(n_groups, np.inf), np.full((n_groups, 2), n_nodes))
    only = _only_groups(boxes, group)
    total, waiting = np.empty(_WIDTH), np.empty(len(boxes.below) + 2, np.int64)
    gaps = np.empty(len(waiting))
    # Boxes with several groups come first: their edges leave little to be searched.
    for is_mixed in (True, False):
        for box in range(len(only)):
            if boxes.below[box] >= 0 or (only[box] < 0) != is_mixed or only[box] == idle:
                continue
            if is_mixed:
                _compare(boxes, (boxes.leaf[box], boxes.leaf[box]), group, idle, edges, total)
            bound = _largest_bound(boxes, box, group, idle, edges)
            waiting[0], gaps[0], n_waiting = 0, 0.0, 1
            while n_waiting:
                n_waiting -= 1
                other = waiting[n_waiting]
                if gaps[n_waiting] > bound or other == box:
                    continue
                if boxes.below[other] < 0:
                    pair = (boxes.leaf[box], boxes.leaf[other])
                    _compare(boxes, pair, group, idle, edges, total)
                    bound = _largest_bound(boxes, box, group, idle, edges)
                    continue
                near, far = boxes.below[other], boxes.below[other] + 1
                near_gap = _sq_gap(boxes, box, near, bound)
                far_gap = _sq_gap(boxes, box, far, bound)
                if near_gap > far_gap:
                    near, far, near_gap, far_gap = far, near, far_gap, near_gap
                for half, gap in ((far, far_gap), (near, near_gap)):
                    if gap <= bound and (is_mixed or only[half] != only[box]):
                        waiting[n_waiting], gaps[n_waiting] = half, gap
                        n_waiting += 1
    return edges.ends


@compiled
def mean_of_nearest(
    n_nodes: int,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    length: NDArray[np.float64],
    n_nearest: int,
) -> NDArray[np.float64]:
    """Return the mean length of the shortest edges of each node, at most so many; 0 without any."""
    start = np.zeros(n_nodes + 1, np.int64)
    for e in range(len(row)):
        start[row[e] + 1] += 1
        start[col[e] + 1] += 1
    start = np.cumsum(start)
    free = start[:-1].copy()
    lengths = np.empty(2 * len(row))
    for e in range(len(row)):
        for node in (row[e], col[e]):
            lengths[free[node]] = length[e]
            free[node] += 1
    mean = np.zeros(n_nodes)
    for node in range(n_nodes):
        own = lengths[start[node] : start[node + 1]]
        for i in range(1, len(own)):
            value, place = own[i], i
            while place > 0 and own[place - 1] > value:
                own[place] = own[place - 1]
                place -= 1
            own[place] = value
        n_used = min(len(own), n_nearest)
        for i in range(n_used):
            mean[node] += own[i]
        mean[node] /= max(1, n_used)
    return mean
