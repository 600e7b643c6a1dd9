"""Compiled loops of the search, leaf against leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.neighbors._tiles import LEAF_ROWS, TILE_ROWS, tile_sq_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Features whose bounds rule a leaf out row by row; those of most variance come first.
BOX_FEATURES = 16
#: Place of the lowest bit of a word of 32, by the product with a de Bruijn sequence.
_DE_BRUIJN = np.uint32(0x077CB531)
_BIT_PLACE = np.zeros(32, np.int64)
_BIT_PLACE[[(0x077CB531 << bit & 0xFFFFFFFF) >> 27 for bit in range(32)]] = np.arange(32)

compiled = compiler(__file__)


class Leaves(NamedTuple):
    """Leaves of up to 32 rows, as the search reads them.

    Attributes
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows, leaf by leaf.
    number : int64 array of shape (n_rows,)
        Number of each row in the whole data.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end.
    panels : float32 array of shape (n_leaves, n_features, 32)
        The rows of each leaf side by side.
    low, high : float32 arrays of shape (n_leaves, n_features)
        Bounds of each leaf.
    """

    rows: NDArray[np.float32]
    number: NDArray[np.int64]
    start: NDArray[np.int64]
    panels: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@compiled
def lay_out(
    rows: NDArray[Any], start: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return ``panels``, ``low`` and ``high`` of `Leaves`."""
    n_leaves, n_features = start.size - 1, rows.shape[1]
    panels = np.zeros((n_leaves, n_features, LEAF_ROWS), np.float32)
    low = np.empty((n_leaves, n_features), np.float32)
    high = np.empty((n_leaves, n_features), np.float32)
    for leaf in range(n_leaves):
        first, stop = start[leaf], start[leaf + 1]
        low[leaf] = rows[first]
        high[leaf] = rows[first]
        for i in range(first, stop):
            for j in range(n_features):
                value = rows[i, j]
                panels[leaf, j, i - first] = value
                low[leaf, j] = min(low[leaf, j], value)
                high[leaf, j] = max(high[leaf, j], value)
    return panels, low, high


@compiled
def margin(n_features: int) -> np.float32:
    """Return the factor that makes a gap of boxes no larger than any distance in them, rounded."""
    return np.float32(1 - 2.5e-7 * (n_features + 1))


@compiled
def box_gap(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    other_low: NDArray[np.float32],
    other_high: NDArray[np.float32],
    limit: np.float32,
) -> np.float32:
    """Return a lower bound of the squared distances of two boxes, not all of it once above a limit."""
    zero = np.float32(0)
    total = zero
    factor = margin(low.size)
    for first in range(0, low.size, 8):
        for j in range(first, min(first + 8, low.size)):
            gap = max(low[j] - other_high[j], other_low[j] - high[j], zero)
            total += gap * gap
        if total * factor > limit:
            break
    return total * factor


@compiled
def near_regions(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    limit: NDArray[np.float32],
    other_low: NDArray[np.float32],
    other_high: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Return which of the other boxes come within the limit of one of these boxes."""
    near = np.zeros(other_low.shape[0], np.bool_)
    for other in range(near.size):
        for box in range(limit.size):
            bound = limit[box]
            if box_gap(low[box], high[box], other_low[other], other_high[other], bound) <= bound:
                near[other] = True
                break
    return near


@compiled
def near_leaves(
    home: Leaves,
    limit: NDArray[np.float32],
    other: Leaves,
    nearest_first: bool,  # noqa: FBT001
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return, for each leaf of one set, those of another that its limit does not rule out.

    Returns where the list of each leaf begins, and the lists.
    """
    n_home, n_other = home.start.size - 1, other.start.size - 1
    start = np.zeros(n_home + 1, np.int64)
    lists = np.empty(max(1024, 4 * n_other), np.int32)
    n_listed = 0
    n_box = min(BOX_FEATURES, home.rows.shape[1])
    factor, zero = margin(n_box), np.float32(0)
    # Side by side, so that one feature is compared with many leaves at once.
    low = np.ascontiguousarray(other.low[:, :n_box].T)
    high = np.ascontiguousarray(other.high[:, :n_box].T)
    gap = np.empty(n_other, np.float32)
    for leaf in range(n_home):
        bound = limit[leaf]
        if n_listed + n_other > lists.size:
            longer = np.empty(2 * lists.size, np.int32)
            longer[:n_listed] = lists[:n_listed]
            lists = longer
        first = n_listed
        gap[:] = zero
        for j in range(n_box):
            bottom, top = home.low[leaf, j], home.high[leaf, j]
            lows, highs = low[j], high[j]
            for i in range(n_other):
                away = max(bottom - highs[i], lows[i] - top, zero)
                gap[i] += away * away
        for i in range(n_other):
            lists[n_listed] = i
            n_listed += gap[i] * factor <= bound
        if nearest_first:
            middle = (home.low[leaf] + home.high[leaf]) / 2
            away = np.zeros(n_listed - first, np.float32)
            for i in range(away.size):
                candidate = lists[first + i]
                for j in range(middle.size):
                    between = middle[j] - (other.low[candidate, j] + other.high[candidate, j]) / 2
                    away[i] += between * between
            lists[first:n_listed] = lists[first:n_listed][np.argsort(away, kind="mergesort")]
        start[leaf + 1] = n_listed
    return start, lists[:n_listed]


@compiled
def leaf_limits(start: NDArray[np.int64], sq_distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the largest limit of the rows of each leaf."""
    limit = np.zeros(start.size - 1, np.float32)
    for leaf in range(limit.size):
        for row in range(start[leaf], start[leaf + 1]):
            limit[leaf] = max(limit[leaf], sq_distance[row, -1])
    return limit


@compiled
def search_leaves(
    home: Leaves,
    other: Leaves,
    list_start: NDArray[np.int64],
    lists: NDArray[np.int32],
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
) -> None:
    """Compare the rows of each leaf with those of the leaves on its list; keeps the nearest."""
    n_box = min(BOX_FEATURES, home.rows.shape[1])
    gap = np.empty(LEAF_ROWS, np.float32)
    chosen = np.empty(LEAF_ROWS, np.int64)
    columns = np.empty((n_box, LEAF_ROWS), np.float32)
    found = np.empty((TILE_ROWS, LEAF_ROWS), np.float32)
    near = np.empty(TILE_ROWS, np.uint32)
    zero, factor = np.float32(0), margin(n_box)
    for leaf in range(home.start.size - 1):
        first, stop = home.start[leaf], home.start[leaf + 1]
        size = stop - first
        for j in range(n_box):
            for i in range(size):
                columns[j, i] = home.rows[first + i, j]
        for listed in range(list_start[leaf], list_start[leaf + 1]):
            candidate = lists[listed]
            low, high = other.low[candidate], other.high[candidate]
            gap[:] = zero
            for j in range(n_box):
                bottom, top = low[j], high[j]
                for i in range(LEAF_ROWS):
                    value = columns[j, i]
                    away = max(bottom - value, value - top, zero)
                    gap[i] += away * away
            n_chosen = 0
            for i in range(size):
                chosen[n_chosen] = first + i
                n_chosen += gap[i] * factor <= sq_distance[first + i, -1]
            begin = other.start[candidate]
            n_places = other.start[candidate + 1] - begin
            is_place = np.uint32((np.uint64(1) << np.uint64(n_places)) - np.uint64(1))
            for tile in range(0, n_chosen, TILE_ROWS):
                last = n_chosen - 1
                at = (
                    chosen[tile],
                    chosen[min(tile + 1, last)],
                    chosen[min(tile + 2, last)],
                    chosen[min(tile + 3, last)],
                )
                limits = (
                    sq_distance[at[0], -1],
                    sq_distance[at[1], -1],
                    sq_distance[at[2], -1],
                    sq_distance[at[3], -1],
                )
                if tile_sq_distances(home.rows, other.panels, at, candidate, limits, found, near):
                    for i in range(min(TILE_ROWS, n_chosen - tile)):
                        bits = near[i] & is_place
                        if bits:
                            row = chosen[tile + i]
                            _keep(
                                bits, found[i], begin, other.number, nearest[row], sq_distance[row]
                            )


@compiled
def _keep(
    bits: np.uint32,
    found: NDArray[np.float32],
    begin: int,
    number: NDArray[np.int64],
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
) -> None:
    """Put the places that are near among the nearest of a row, by distance, then by number."""
    last = nearest.size - 1
    while bits:
        lowest = bits & (~bits + np.uint32(1))
        bits ^= lowest
        place = _BIT_PLACE[np.uint32(lowest * _DE_BRUIJN) >> np.uint32(27)]
        value, candidate = found[place], number[begin + place]
        if value > sq_distance[last] or (value == sq_distance[last] and candidate > nearest[last]):
            continue
        at = last
        while at > 0 and (
            value < sq_distance[at - 1]
            or (value == sq_distance[at - 1] and candidate < nearest[at - 1])
        ):
            sq_distance[at] = sq_distance[at - 1]
            nearest[at] = nearest[at - 1]
            at -= 1
        sq_distance[at] = value
        nearest[at] = candidate
