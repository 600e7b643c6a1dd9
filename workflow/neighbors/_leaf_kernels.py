"""Compiled loops that split rows into regions and leaves.

Plain loops where NumPy has a function: sorting or indexing by arrays in compiled code takes seconds
to compile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
def split_rows(
    rows: NDArray[np.float32],
    n_parts: int,
    is_distinct: bool,  # noqa: FBT001
    splits: Splits,
) -> tuple[int, int]:
    """Split rows into parts of nearly equal size, each time by the feature that varies most.

    With `is_distinct`, rows of equal values there stay together: parts differ
    more in size, and are fewer where rows are equal in all features.  Fills
    `splits`, whose `order` begins as 0, 1, ...; returns how many splits and
    parts there are.
    """
    feature, threshold, branch, order, start = splits
    stack = np.empty((n_parts + 1, 5), np.int64)
    _push(stack, 0, 0, order.size, n_parts, -1, 0)
    n_waiting, n_splits, n_found = 1, 0, 0
    later = np.empty(order.size, np.int64)
    values = np.empty(order.size, np.float32)
    while n_waiting:
        n_waiting -= 1
        first, stop, parts = stack[n_waiting, 0], stack[n_waiting, 1], stack[n_waiting, 2]
        parent, side = stack[n_waiting, 3], stack[n_waiting, 4]
        size, cut = stop - first, 0
        if parts > 1 and size > 1:
            widest = _widest(rows, order, first, stop)
            cut = max(1, size * (parts // 2) // parts)
            for i in range(size):
                values[i] = rows[order[first + i], widest]
            bound = _value_of_rank(values, size, cut - 1)
            below, up_to = 0, 0
            for i in range(size):
                below += values[i] < bound
                up_to += values[i] <= bound
            if is_distinct:
                if below > 0 and (up_to == size or cut - below <= up_to - cut):
                    cut = below
                else:
                    cut = up_to if up_to < size else 0
        if cut == 0:
            start[n_found] = first
            if parent >= 0:
                branch[parent, side] = -1 - n_found
            n_found += 1
            continue
        # Those at the bound that there is room for stay on the first side.
        room, n_first, n_later, last = cut - below, 0, 0, np.float32(-np.inf)
        for i in range(first, stop):
            row = order[i]
            value = rows[row, widest]
            if value < bound or (value == bound and room > 0):
                room -= value == bound
                last = max(last, value)
                order[first + n_first] = row
                n_first += 1
            else:
                later[n_later] = row
                n_later += 1
        for i in range(n_later):
            order[first + cut + i] = later[i]
        feature[n_splits], threshold[n_splits] = widest, last
        if parent >= 0:
            branch[parent, side] = n_splits
        # The first side comes next.
        _push(stack, n_waiting, first + cut, stop, parts - parts // 2, n_splits, 1)
        _push(stack, n_waiting + 1, first, first + cut, parts // 2, n_splits, 0)
        n_waiting += 2
        n_splits += 1
    start[n_found] = order.size
    return n_splits, n_found


@compiled
def _push(
    stack: NDArray[np.int64], at: int, first: int, stop: int, parts: int, parent: int, side: int
) -> None:
    """Write a part that is to be split: which rows, into how many, and whose branch it is."""
    stack[at, 0], stack[at, 1], stack[at, 2], stack[at, 3] = first, stop, parts, parent
    stack[at, 4] = side


@compiled
def _widest(rows: NDArray[np.float32], order: NDArray[np.int64], first: int, stop: int) -> int:
    """Return the feature that varies most over some rows."""
    n_features = rows.shape[1]
    middle = order[(first + stop) // 2]
    total, squares = np.zeros(n_features), np.zeros(n_features)
    for i in range(first, stop):
        row = order[i]
        for j in range(n_features):
            value = np.float64(rows[row, j]) - np.float64(rows[middle, j])
            total[j] += value
            squares[j] += value * value
    widest, largest = 0, -1.0
    for j in range(n_features):
        spread = squares[j] - total[j] * total[j] / (stop - first)
        if spread > largest:
            widest, largest = j, spread
    return widest


@compiled
def _value_of_rank(values: NDArray[np.float32], size: int, rank: int) -> np.float32:
    """Return the value of a rank among the first ones of an array, which come into another order."""
    low, high = 0, size - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return np.float32(values[rank])


@compiled
def route_rows(
    rows: NDArray[np.float32],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float32],
    branch: NDArray[np.int64],
    part: NDArray[np.int32],
) -> None:
    """Write the part that each row comes to; at least one split."""
    for row in range(part.size):
        at = 0
        while at >= 0:
            at = branch[at, 1 if rows[row, feature[at]] > threshold[at] else 0]
        part[row] = -1 - at


@compiled
def add_means(
    rows: NDArray[np.float32],
    order: NDArray[np.int64],
    start: NDArray[np.int64],
    means: NDArray[np.float32],
    spread: NDArray[np.float32],
) -> None:
    """Write mean and variance, over all features, of the rows of each leaf, none of which is empty."""
    n_features = rows.shape[1]
    total = np.empty(n_features)
    for leaf in range(start.size - 1):
        for j in range(n_features):
            total[j] = 0
        for i in range(start[leaf], start[leaf + 1]):
            row = order[i]
            for j in range(n_features):
                total[j] += rows[row, j]
        size, squares = start[leaf + 1] - start[leaf], 0.0
        for j in range(n_features):
            means[leaf, j] = total[j] / size
        for i in range(start[leaf], start[leaf + 1]):
            row = order[i]
            for j in range(n_features):
                gap = np.float64(rows[row, j]) - means[leaf, j]
                squares += gap * gap
        spread[leaf] = squares / size
