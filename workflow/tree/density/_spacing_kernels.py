"""Mean lengths of the shortest edges: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


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
        own = np.sort(lengths[start[node] : start[node + 1]])[:n_nearest]
        for value in own:
            mean[node] += value
        mean[node] /= max(1, len(own))
    return mean
