"""Compiled loops of the neighbours: splits of rows, leaves, and the search of leaf against leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.neighbors._tiles import LEAF_ROWS, TILE_ROWS, tile_sq_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that a leaf has about; no leaf has more than LEAF_ROWS.
USUAL_ROWS = 24
#: Features whose bounds rule a leaf out row by row; those of most variance come first.
BOX_FEATURES = 16
#: That equal rows stay in one part, as `split_rows` takes it.
IS_DISTINCT = True
#: Place of the lowest bit of a word of 32, by the product with a de Bruijn sequence.
_DE_BRUIJN = np.uint32(0x077CB531)
_BIT_PLACE = np.zeros(32, np.int64)
_BIT_PLACE[[(0x077CB531 << bit & 0xFFFFFFFF) >> 27 for bit in range(32)]] = np.arange(32)

compiled = compiler(__file__)


class Splits(NamedTuple):
    """A tree of splits by one feature each, and the parts that it leads to.

    Attributes
    ----------
    feature : int64 array of shape (n_splits,)
        Feature that decides.
    threshold : float32 array of shape (n_splits,)
        Rows up to it go to the first branch, others to the second.
    branch : int64 array of shape (n_splits, 2)
        The split that follows; ``-1 - part`` where none does.
    order : int64 array of shape (n_rows,)
        The rows, part by part.
    start : int64 array of shape (n_parts + 1,)
        Where each part begins in `order`, and the end.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    branch: NDArray[np.int64]
    order: NDArray[np.int64]
    start: NDArray[np.int64]


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
def split_rows(rows: NDArray[np.float32], n_parts: int, is_distinct: bool) -> Splits:  # noqa: FBT001
    """Split rows into parts of nearly equal size, each time by the feature that varies most.

    With `is_distinct`, rows of equal values there stay together: parts differ
    more in size, and are fewer where rows are equal in all features.
    """
    n_rows, n_features = rows.shape
    feature = np.full(n_parts, -1)
    threshold = np.zeros(n_parts, np.float32)
    branch = np.zeros((n_parts, 2), np.int64)
    order = np.arange(n_rows)
    start = np.zeros(n_parts + 1, np.int64)
    stack = np.empty((n_parts + 1, 5), np.int64)
    stack[0] = (0, n_rows, n_parts, -1, 0)
    n_waiting, n_splits, n_found = 1, 0, 0
    total = np.empty(n_features)
    squares = np.empty(n_features)
    while n_waiting:
        n_waiting -= 1
        first, stop, parts, parent, side = stack[n_waiting]
        cut = 0
        if parts > 1 and stop - first > 1:
            middle = rows[order[(first + stop) // 2]]
            total[:] = 0
            squares[:] = 0
            for i in range(first, stop):
                for j in range(n_features):
                    value = np.float64(rows[order[i], j]) - np.float64(middle[j])
                    total[j] += value
                    squares[j] += value * value
            spread = squares - total * total / (stop - first)
            widest = np.argmax(spread)
            values = np.empty(stop - first, np.float32)
            for i in range(first, stop):
                values[i - first] = rows[order[i], widest]
            by_value = np.argsort(values, kind="mergesort")
            values = values[by_value]
            cut = max(1, (stop - first) * (parts // 2) // parts)
            if is_distinct:
                cut = _distinct_cut(values, cut)
        if cut == 0:
            start[n_found] = first
            if parent >= 0:
                branch[parent, side] = -1 - n_found
            n_found += 1
            continue
        order[first:stop] = order[first:stop][by_value]
        feature[n_splits], threshold[n_splits] = widest, values[cut - 1]
        if parent >= 0:
            branch[parent, side] = n_splits
        stack[n_waiting] = (first + cut, stop, parts - parts // 2, n_splits, 1)
        stack[n_waiting + 1] = (first, first + cut, parts // 2, n_splits, 0)
        n_waiting += 2
        n_splits += 1
    start[n_found] = n_rows
    return Splits(
        feature[:n_splits],
        threshold[:n_splits],
        branch[:n_splits],
        order,
        start[: n_found + 1].copy(),
    )


@compiled
def _distinct_cut(values: NDArray[np.float32], cut: int) -> int:
    """Return the cut nearest to a wanted one that has different values on its sides; 0 for none."""
    for away in range(values.size):
        for place in (cut - away, cut + away):
            if 0 < place < values.size and values[place - 1] < values[place]:
                return place
    return 0


@compiled
def route_rows(
    rows: NDArray[np.float32],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float32],
    branch: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Return the part that each row comes to."""
    part = np.zeros(rows.shape[0], np.int32)
    if feature.size == 0:
        return part
    for row in range(rows.shape[0]):
        at = 0
        while at >= 0:
            at = branch[at, 1 if rows[row, feature[at]] > threshold[at] else 0]
        part[row] = -1 - at
    return part


@compiled
def leaf_order(rows: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows in the order of compact leaves of up to 32, and where each leaf begins.

    Splits give about as many centres as leaves are wanted; rows go to the
    nearest one, twice, as in k-means.  What is too large is split again.
    """
    n_rows = rows.shape[0]
    if n_rows <= LEAF_ROWS:
        return np.arange(n_rows), np.array([0, n_rows])
    splits = split_rows(rows, -(-n_rows // USUAL_ROWS), not IS_DISTINCT)
    order, start = splits.order, splits.start
    for _ in range(2):
        centers = leaf_centers(rows, order, start)
        label = _nearest_center(rows, centers)
        order, start = _sorted_by(label, centers.shape[0])
    n_leaves = 0
    found = np.empty(start.size + 2 * n_rows // LEAF_ROWS + 1, np.int64)
    for leaf in range(start.size - 1):
        first, stop = start[leaf], start[leaf + 1]
        if first == stop:
            continue
        n_parts = -(-(stop - first) // LEAF_ROWS)
        if n_parts == 1:
            found[n_leaves] = first
            n_leaves += 1
            continue
        # Parts of a split are equal to one row, so each fits.
        members = order[first:stop]
        parts = split_rows(rows[members], n_parts, not IS_DISTINCT)
        order[first:stop] = members[parts.order]
        for part in range(n_parts):
            found[n_leaves] = first + parts.start[part]
            order[found[n_leaves] : first + parts.start[part + 1]].sort()
            n_leaves += 1
    found[n_leaves] = n_rows
    return order, found[: n_leaves + 1].copy()


@compiled
def leaf_centers(
    rows: NDArray[np.float32], order: NDArray[np.int64], start: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the mean of the rows of each leaf, zeros where it has none."""
    n_features = rows.shape[1]
    centers = np.zeros((start.size - 1, n_features), np.float32)
    total = np.empty(n_features)
    for leaf in range(start.size - 1):
        total[:] = 0
        for i in range(start[leaf], start[leaf + 1]):
            for j in range(n_features):
                total[j] += rows[order[i], j]
        for j in range(n_features):
            centers[leaf, j] = total[j] / max(1, start[leaf + 1] - start[leaf])
    return centers


@compiled
def _nearest_center(rows: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the nearest of some centres for each row, ties to the first."""
    label = np.empty(rows.shape[0], np.int64)
    columns = np.ascontiguousarray(centers.T)
    sums = np.empty(centers.shape[0], np.float32)
    for row in range(rows.shape[0]):
        _sums_to(rows[row], columns, sums)
        label[row] = np.argmin(sums)
    return label


@compiled
def _sums_to(
    row: NDArray[np.float32], columns: NDArray[np.float32], sums: NDArray[np.float32]
) -> None:
    """Write the squared distances from a row to all columns."""
    sums[:] = 0
    for j in range(row.size):
        value, column = row[j], columns[j]
        for i in range(sums.size):
            gap = value - column[i]
            sums[i] += gap * gap


@compiled
def _sorted_by(
    group: NDArray[np.int64], n_groups: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the stable order by group, and where each group begins in it."""
    start = np.zeros(n_groups + 1, np.int64)
    for i in range(group.size):
        start[group[i] + 1] += 1
    start = np.cumsum(start)
    place = start[:-1].copy()
    order = np.empty(group.size, np.int64)
    for i in range(group.size):
        order[place[group[i]]] = i
        place[group[i]] += 1
    return order, start


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


@compiled
def nearest_columns(
    points: NDArray[np.float32],
    columns: NDArray[np.float32],
    block_start: NDArray[np.int64],
    blocks: NDArray[np.int64],
    n_nearest: int,
) -> NDArray[np.int64]:
    """Return the columns nearest to each point among those of some blocks, nearest first.

    Parameters
    ----------
    points : float32 array of shape (n_points, n_features)
        Points.
    columns : float32 array of shape (n_features, n_columns)
        Other points, side by side.
    block_start : int64 array of shape (n_blocks + 1,)
        Where each block of columns begins, and the end.
    blocks : int64 array of shape (n_points, n)
        The blocks that each point is compared with, no block twice; -1 for none.
    n_nearest : int
        Columns wanted.

    Returns
    -------
    int64 array of shape (n_points, n_nearest)
        Columns by rising (distance, place among those of the blocks); -1 where there are fewer.
    """
    found = np.full((points.shape[0], n_nearest), -1)
    sums = np.empty(columns.shape[1], np.float32)
    number = np.empty(columns.shape[1], np.int64)
    for point in range(points.shape[0]):
        n_seen = 0
        for block in blocks[point]:
            if block < 0:
                continue
            first, stop = block_start[block], block_start[block + 1]
            _sums_to(points[point], columns[:, first:stop], sums[n_seen : n_seen + stop - first])
            for column in range(first, stop):
                number[n_seen] = column
                n_seen += 1
        here = sums[:n_seen]
        if n_seen > n_nearest:
            bound = np.partition(here, n_nearest - 1)[n_nearest - 1]
            # Those below the bound, then as many of those at it as there is room for.
            n_equal = n_nearest - np.sum(here < bound)
            n_kept = 0
            for i in range(n_seen):
                is_equal = here[i] == bound
                if here[i] < bound or (is_equal and n_equal > 0):
                    n_equal -= is_equal
                    here[n_kept], number[n_kept] = here[i], number[i]
                    n_kept += 1
            n_seen = n_kept
        order = np.argsort(here[:n_seen], kind="mergesort")
        for i in range(n_seen):
            found[point, i] = number[order[i]]
    return found
