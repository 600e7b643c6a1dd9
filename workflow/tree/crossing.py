"""How thin the flow between two clusters is, against the flows that hold each together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The constants of the test.  Without theory: chosen together on labelled and structureless
#: sets; 0.75 to 0.9 serve for a threshold, the others matter less.
DEFAULT_RATIO = 0.8
PRIOR_FLOWS, PRIOR_CONCENTRATION = 30.0, 0.22
SINGLE_REFERENCE_LIMIT = 0.3
CAUTION = 0.5
DENSITY_EXPONENT = 0.5
EXTRA_VARIANCE = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Flows:
    """A graph of flows with what the test needs of each node.

    Attributes
    ----------
    indptr, indices : int64 arrays
        Symmetric CSR structure.
    weight : float64 array of shape (n_entries,)
        Flows, whole numbers.
    level : float64 array of shape (n_nodes,)
        Log density of each node.
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.
    side : int8 array of shape (n_nodes,)
        Scratch, all 0 between calls.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int64]
    weight: NDArray[np.float64]
    level: NDArray[np.float64]
    population: NDArray[np.int64]
    side: NDArray[np.int8]

    def entries(self, members: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for the edges of some nodes, the index into `members` and into the entries."""
        start, stop = self.indptr[members], self.indptr[members + 1]
        degree = stop - start
        which = np.repeat(np.arange(len(members)), degree)
        offset = np.repeat(start - np.concatenate([[0], np.cumsum(degree)[:-1]]), degree)
        return which, np.arange(len(which)) + offset


class Crossing(NamedTuple):
    """Flow between two clusters.

    Attributes
    ----------
    flow : float
        Total weight of the edges between them.
    concentration : float
        Chance that another image of the cell of a crossing image crosses too,
        lowered where the border is sparser than both cores.
    error : float
        Standard error of `concentration`.
    """

    flow: float
    concentration: float
    error: float


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


def weighted_median(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    """Return the value below which half of the weight lies.

    Parameters
    ----------
    values : float64 array of shape (n,)
        Values, at least one.
    weights : int64 array of shape (n,)
        Positive weights.

    Returns
    -------
    float
        Lower weighted median.
    """
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(2 * passed, passed[-1])]])


def crossing(
    flows: Flows,
    members_a: NDArray[np.int64],
    members_b: NDArray[np.int64],
    core: float,
) -> Crossing:
    """Measure the flow between two disjoint clusters.

    Parameters
    ----------
    flows : Flows
        The graph.
    members_a, members_b : int64 arrays
        Nodes of either cluster.
    core : float
        Log density at the core of the sparser of the two.

    Returns
    -------
    Crossing
        All zero where nothing crosses.

    Notes
    -----
    A node with F crossing and g staying images adds ``F (F - 1) / (F + g - 1)``
    of F: the unbiased chance that a second image crosses as well.  O(edges of
    the two clusters).
    """
    flows.side[members_a], flows.side[members_b] = 1, 2
    sides = []
    for members, own, far in ((members_a, 1, 2), (members_b, 2, 1)):
        which, entry = flows.entries(members)
        target = flows.side[flows.indices[entry]]
        weight = flows.weight[entry]
        out = np.bincount(which, weight * (target == far), minlength=len(members))
        kept = np.bincount(which, weight * (target == own), minlength=len(members))
        sides.append((out, kept, flows.level[members]))
    flows.side[members_a] = flows.side[members_b] = 0
    flow = float(sides[0][0].sum())
    if flow == 0:
        return Crossing(0.0, 0.0, 0.0)
    chance, error, border = 1.0, 0.0, 0.0
    floored = 1.0
    for out, kept, level in sides:
        both = out * (out - 1) / np.maximum(out + kept - 1, 1)
        mean = float(both.sum()) / flow
        variance = float(np.square(both - mean * out).sum()) / flow**2
        floor = max(mean, 0.5 / flow)
        chance *= mean
        floored *= floor
        error += (variance + EXTRA_VARIANCE / flow) / floor**2
        border += float((out * level).sum()) / flow / 2
    drop = np.exp(DENSITY_EXPONENT * min(0.0, border - core))
    return Crossing(
        flow,
        float(np.sqrt(chance) * drop),
        float(np.sqrt(floored) / 2 * np.sqrt(error) * drop),
    )
