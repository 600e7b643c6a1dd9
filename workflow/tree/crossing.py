"""How thin the flow between two clusters is, against the flows that hold each together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The constants of the test.  Without theory: chosen together on labelled and structureless
#: sets; 0.8 to 0.95 serve for a threshold, the others matter less.
DEFAULT_RATIO = 0.85
PRIOR_FLOWS, PRIOR_CONCENTRATION = 30.0, 0.22
SINGLE_REFERENCE_LIMIT = 0.3
CAUTION = 0.5
DENSITY_EXPONENT = 0.5
EXTRA_VARIANCE = 0.02
#: How much the concentration differs from cell to cell, relatively: a border of one or two cells,
#: as along a curve, says little however many images cross it.
NODE_VARIATION = 2.0
#: Ratio of joins that were not tested.
UNTESTED = 10.0


class Flows(NamedTuple):
    """A graph of flows with what the test needs of each node.

    Attributes
    ----------
    indptr : int64 array of shape (n_nodes + 1,)
        Symmetric CSR structure.
    indices : int32 array of shape (n_entries,)
        Its columns, rising in each row.
    weight : float64 array of shape (n_entries,)
        Flows, whole numbers.
    level : float64 array of shape (n_nodes,)
        Log density of each node.
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weight: NDArray[np.float64]
    level: NDArray[np.float64]
    population: NDArray[np.int64]


def node_levels(
    population: NDArray[np.int64],
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    weight: NDArray[np.int64],
    distance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the log density of each node, with exponent 2 in any dimension.

    Parameters
    ----------
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.
    row, col : int64 arrays of shape (n_edges,)
        Edges.
    weight : int64 array of shape (n_edges,)
        Flows.
    distance : float64 array of shape (n_edges,) [unit of the scores]
        Lengths of the edges.

    Returns
    -------
    float64 array of shape (n_nodes,)
        ``log(population) - 2 log(s)`` with s the mean distance along the
        flow.  The true dimension as exponent would raise the noise of s to it.
    """
    n_nodes = len(population)
    ends = np.concatenate([row, col])
    flow = np.bincount(ends, np.tile(weight, 2), minlength=n_nodes)
    spread = np.bincount(ends, np.tile(weight * distance, 2), minlength=n_nodes)
    has_flow = flow > 0
    if not has_flow.any():
        return np.log(population.astype(np.float64))
    mean = spread / np.maximum(flow, 1)
    mean[~has_flow] = mean[has_flow].max()
    result: NDArray[np.float64] = np.log(population) - 2 * np.log(mean)
    return result
