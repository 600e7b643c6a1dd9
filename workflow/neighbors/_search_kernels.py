"""Compiled loops of the search, leaf against leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.neighbors._tiles import LEAF_ROWS, TILE_ROWS, tile_sq_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Values at least that a rank is estimated from, and how often their range is halved.
RANKED, HALVINGS = 512, 16
#: Of the variance within a leaf: the wider it is, the nearer its nearest rows.
SPREAD_SHARE = np.float32(0.3)
#: Place of the lowest bit of a word of 32, by the product with a de Bruijn sequence.
_DE_BRUIJN = np.uint32(0x077CB531)
_BIT_PLACE = np.zeros(32, np.int64)
_BIT_PLACE[[(0x077CB531 << bit & 0xFFFFFFFF) >> 27 for bit in range(32)]] = np.arange(32)

compiled = compiler(__file__)


class Lists(NamedTuple):
    """What each leaf is compared with.

    Attributes
    ----------
    start : int64 array of shape (n_leaves + 1,)
        Where the list of each leaf begins, and the end.
    number : int64 array of shape (n,)
        Leaves on the lists.
    rows : uint32 array of shape (n,)
        A bit for each row of the leaf that is compared with it.
    """

    start: NDArray[np.int64]
    number: NDArray[np.int64]
    rows: NDArray[np.uint32]


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
def lay_out(leaves: Leaves) -> None:
    """Fill ``panels``, which begin as zeros, ``low`` and ``high`` from the rows."""
    rows, start = leaves.rows, leaves.start
    panels, low, high = leaves.panels, leaves.low, leaves.high
    n_features = rows.shape[1]
    for leaf in range(start.size - 1):
        first = start[leaf]
        for j in range(n_features):
            low[leaf, j] = high[leaf, j] = rows[first, j]
        for i in range(first, start[leaf + 1]):
            for j in range(n_features):
                value = rows[i, j]
                panels[leaf, j, i - first] = value
                low[leaf, j] = min(low[leaf, j], value)
                high[leaf, j] = max(high[leaf, j], value)


@compiled
def margin(n_features: int) -> np.float32:
    """Return the factor that makes a gap of boxes no larger than any distance in them, rounded."""
    return np.float32(1 - 2.5e-7 * (n_features + 1))


@compiled
def find_near(
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    limit: NDArray[np.float32],
    other_low: NDArray[np.float32],
    other_high: NDArray[np.float32],
    near: NDArray[np.bool_],
) -> None:
    """Write which of some boxes the limit of each of some others does not rule out.

    The other boxes have a line for each feature, so that one is compared with
    many boxes at once.
    """
    n_features, n_other = other_low.shape
    factor, zero = margin(n_features), np.float32(0)
    gap = np.empty(n_other, np.float32)
    for box in range(limit.size):
        for i in range(n_other):
            gap[i] = zero
        for j in range(n_features):
            bottom, top = low[box, j], high[box, j]
            for i in range(n_other):
                away = max(bottom - other_high[j, i], other_low[j, i] - top, zero)
                gap[i] += away * away
        for i in range(n_other):
            near[box, i] = gap[i] * factor <= limit[box]


@compiled
def _lowest_place(bits: np.uint32) -> int:
    """Return the place of the lowest bit of a word that is not zero."""
    lowest = bits & (~bits + np.uint32(1))
    place: int = _BIT_PLACE[np.uint32(lowest * _DE_BRUIJN) >> np.uint32(27)]
    return place


@compiled
def search_lists(
    home: Leaves,
    other: Leaves,
    lists: Lists,
    n_box: int,
    nearest: NDArray[np.int64],
    sq_distance: NDArray[np.float32],
) -> None:
    """Compare the rows of each leaf with those of the leaves on its list; keeps the nearest.

    Bounds of the first ``n_box`` features rule a leaf out for a row.
    """
    gap = np.empty(LEAF_ROWS, np.float32)
    chosen = np.empty(LEAF_ROWS, np.int64)
    columns = np.zeros((n_box, LEAF_ROWS), np.float32)
    found = np.empty((TILE_ROWS, LEAF_ROWS), np.float32)
    near = np.empty(TILE_ROWS, np.uint32)
    zero, factor, k_last = np.float32(0), margin(n_box), sq_distance.shape[1] - 1
    for leaf in range(home.start.size - 1):
        first = home.start[leaf]
        size = home.start[leaf + 1] - first
        for i in range(size):
            for j in range(n_box):
                columns[j, i] = home.rows[first + i, j]
        for listed in range(lists.start[leaf], lists.start[leaf + 1]):
            candidate, rows = lists.number[listed], lists.rows[listed]
            if n_box:
                for i in range(LEAF_ROWS):
                    gap[i] = zero
                for j in range(n_box):
                    bottom, top = other.low[candidate, j], other.high[candidate, j]
                    for i in range(LEAF_ROWS):
                        away = max(bottom - columns[j, i], columns[j, i] - top, zero)
                        gap[i] += away * away
            n_chosen = 0
            while rows:
                i = _lowest_place(rows)
                rows &= rows - np.uint32(1)
                chosen[n_chosen] = first + i
                n_chosen += i < size and (
                    n_box == 0 or gap[i] * factor <= sq_distance[first + i, k_last]
                )
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
                    sq_distance[at[0], k_last],
                    sq_distance[at[1], k_last],
                    sq_distance[at[2], k_last],
                    sq_distance[at[3], k_last],
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
def narrow_lists(
    home: Leaves,
    other: Leaves,
    spread: NDArray[np.float32],
    lists: Lists,
    n_wanted: int,
    new: Lists,
) -> None:
    """Write lists of the rows of others that are nearest to each row, among the leaves on its list.

    From the square of a distance a share of ``spread`` is taken off.  Others that
    most rows of a leaf want come first: what they hold rules much of the rest out.
    """
    n_others, most = other.start.size - 1, 0
    # Places without a row are infinitely far.
    off = np.full((n_others, LEAF_ROWS), np.float32(-np.inf))
    for number in range(n_others):
        begin = other.start[number]
        for i in range(begin, other.start[number + 1]):
            off[number, i - begin] = SPREAD_SHARE * spread[i]
    for leaf in range(home.start.size - 1):
        most = max(most, lists.start[leaf + 1] - lists.start[leaf])
    sq_distance = np.empty((LEAF_ROWS, most * LEAF_ROWS), np.float32)
    listed_at = np.empty((LEAF_ROWS, most), np.int64)
    scratch = np.empty(most * LEAF_ROWS, np.float32)
    marks, n_marks = np.empty((2, most, LEAF_ROWS), np.uint32)
    n_filled = np.empty(LEAF_ROWS, np.int64)
    chosen = np.empty(LEAF_ROWS, np.int64)
    found = np.empty((TILE_ROWS, LEAF_ROWS), np.float32)
    near = np.empty(TILE_ROWS, np.uint32)
    infinite, n_new = np.float32(np.inf), 0
    limits = (infinite, infinite, infinite, infinite)
    for leaf in range(home.start.size - 1):
        first, begin = home.start[leaf], lists.start[leaf]
        size, n_listed = home.start[leaf + 1] - first, lists.start[leaf + 1] - begin
        for i in range(size):
            n_filled[i] = 0
        for listed in range(n_listed):
            candidate, rows = lists.number[begin + listed], lists.rows[begin + listed]
            n_chosen = 0
            while rows:
                i = _lowest_place(rows)
                rows &= rows - np.uint32(1)
                chosen[n_chosen] = first + i
                n_chosen += i < size
            for tile in range(0, n_chosen, TILE_ROWS):
                last = n_chosen - 1
                at = (
                    chosen[tile],
                    chosen[min(tile + 1, last)],
                    chosen[min(tile + 2, last)],
                    chosen[min(tile + 3, last)],
                )
                tile_sq_distances(home.rows, other.panels, at, candidate, limits, found, near)
                for i in range(min(TILE_ROWS, n_chosen - tile)):
                    row = chosen[tile + i] - first
                    slot = n_filled[row]
                    listed_at[row, slot] = listed
                    for place in range(LEAF_ROWS):
                        value = found[i, place] - off[candidate, place]
                        sq_distance[row, slot * LEAF_ROWS + place] = value
                    n_filled[row] += 1
            for place in range(LEAF_ROWS):
                marks[listed, place] = n_marks[listed, place] = 0
        for row in range(size):
            bit, values = np.uint32(1) << np.uint32(row), sq_distance[row]
            limit = _about_rank(values, n_filled[row] * LEAF_ROWS, n_wanted, scratch)
            for slot in range(n_filled[row]):
                first_place, listed = slot * LEAF_ROWS, listed_at[row, slot]
                for place in range(LEAF_ROWS):
                    is_near = np.uint32(values[first_place + place] <= limit)
                    marks[listed, place] |= bit * is_near
                    n_marks[listed, place] += is_near
        for is_wanted_by_most in (True, False):
            for listed in range(n_listed):
                candidate = lists.number[begin + listed]
                for place in range(LEAF_ROWS):
                    n_rows = n_marks[listed, place]
                    if n_rows and (2 * n_rows > size) == is_wanted_by_most:
                        new.number[n_new] = other.number[other.start[candidate] + place]
                        new.rows[n_new] = marks[listed, place]
                        n_new += 1
        new.start[leaf + 1] = n_new


@compiled
def _about_rank(
    values: NDArray[np.float32], n_values: int, rank: int, scratch: NDArray[np.float32]
) -> np.float32:
    """Return about the value of a rank: that of some hundreds of the values, by halving."""
    step = max(1, n_values // RANKED)
    n, low, high = n_values // step, values[0], values[0]
    for i in range(n):
        scratch[i] = values[i * step]
        low = min(low, scratch[i])
        if scratch[i] < np.inf:
            high = max(high, scratch[i])
    for _ in range(HALVINGS):
        middle, n_below = (low + high) / np.float32(2), 0
        for i in range(n):
            n_below += scratch[i] <= middle
        if n_below * step < rank:
            low = middle
        else:
            high = middle
    return np.float32(high)


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
        place = _lowest_place(bits)
        bits &= bits - np.uint32(1)
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
