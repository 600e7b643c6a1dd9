"""Compiled loops over rows and the cell each belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.compiling import compiler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

compiled = compiler(__file__)


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
