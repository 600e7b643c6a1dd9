"""Sums and lowest values by group, where a group is the rows of a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import compiler, frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


def sum_by_group(rows: NDArray[Any], group: NDArray[np.intp], n_groups: int) -> NDArray[np.float64]:
    """Add up the rows of each group in float64, in row order."""
    total = np.zeros((n_groups, rows.shape[1]), dtype=np.float64)
    add_by_group(frozen(rows), frozen(group), total)
    return total


def lowest_of_groups(
    values: NDArray[np.float64], group: NDArray[np.intp], n_groups: int, n_lowest: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Find the lowest values of each group.

    Parameters
    ----------
    values : float64 array of shape (n_rows,)
        Those that are infinite or not a number are left out.
    group : intp array of shape (n_rows,)
        The group of each.
    n_groups, n_lowest : int
        Groups, and values wanted of each.

    Returns
    -------
    position : int64 array of shape (n_groups, n_lowest)
        Where they are, ascending by value, ties by position; -1 where a group
        has fewer.
    lowest : float64 array of shape (n_groups, n_lowest)
        What they are; infinite where there is none.
    """
    position = np.full((n_groups, n_lowest), -1, dtype=np.int64)
    lowest = np.full((n_groups, n_lowest), np.inf)
    find_lowest(frozen(values), frozen(group), position, lowest)
    return position, lowest


@compiled
def add_by_group(rows: NDArray[Any], group: NDArray[np.intp], total: NDArray[np.float64]) -> None:
    """Add each row to the total of its group, in row order; C-contiguous rows."""
    for row in range(rows.shape[0]):
        at = group[row]
        for feature in range(rows.shape[1]):
            total[at, feature] += rows[row, feature]


@compiled
def find_lowest(
    values: NDArray[np.float64],
    group: NDArray[np.intp],
    position: NDArray[np.int64],
    lowest: NDArray[np.float64],
) -> None:
    """Keep the rows with the lowest values of each group, ties in row order.

    ``position`` and ``lowest``, of shape (n_groups, n_lowest), start out as -1
    and infinity: an infinite value, or one that is not a number, is not kept.
    """
    last = position.shape[1] - 1
    for row in range(values.size):
        at, value = group[row], values[row]
        if not value < lowest[at, last]:
            continue
        place = last
        while place > 0 and value < lowest[at, place - 1]:
            position[at, place] = position[at, place - 1]
            lowest[at, place] = lowest[at, place - 1]
            place -= 1
        position[at, place] = row
        lowest[at, place] = value
