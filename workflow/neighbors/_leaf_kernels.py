"""Compiled loops that put rows into regions and leaves, and find the leaves that are near."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.neighbors._tiles import LEAF_ROWS

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that a leaf has about; no leaf has more than LEAF_ROWS.
USUAL_ROWS = 24
#: That equal rows stay in one part, as `split_rows` takes it.
IS_DISTINCT = True

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
