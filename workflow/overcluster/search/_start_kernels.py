"""Centroids in panels, and where a search starts: the panel whose centre is about the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.overcluster.search._tiles import (
    NO_CENTROID,
    PANEL_CENTROIDS,
    TILE_ROWS,
    Tile,
    tile_scores,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


class Panels(NamedTuple):
    """Centroids in panels, as the compiled search takes them.

    Attributes
    ----------
    factors : float32 array of shape (n_panels, 2 + 1 + n_features, 32)
        For each stage but the last the negative norm of the features behind
        it; half the squared norm less rounding; the negative features.
    ids : int32 array of shape (n_panels, 32)
        Which centroids; -1 where there is none.
    low, high : float32 arrays of shape (n_panels, n_first + 1)
        Box around the centroids of a panel: the features of the first stage,
        and the norm of the features behind it.
    centers : float32 array of shape (n_panels_of_centers, 2 + 1 + n_features, 32)
        The centres of the panels, laid out as `factors`.
    groups : float32 array of shape (n_panels_of_groups, 2 + 1 + n_features, 32)
        The mean of each panel of centres, laid out as `factors`.
    stops : int64 array of shape (3,)
        Features that each stage has behind it.
    """

    factors: NDArray[np.float32]
    ids: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    centers: NDArray[np.float32]
    groups: NDArray[np.float32]
    stops: NDArray[np.int64]


@compiled
def start_panels(scaled: NDArray[np.float32], panels: Panels) -> NDArray[np.int64]:
    """Return for each row the panel with the nearest centre, of those in the nearest group."""
    order, group = np.arange(scaled.shape[0]), np.zeros(scaled.shape[0], dtype=np.int64)
    n_groups = panels.centers.shape[0]
    if n_groups > 1:
        n_all = panels.groups.shape[0]
        group = _nearest_centers(scaled, panels.groups, panels.stops, order, group, n_all)
        order = sorted_by(group, n_groups)
    # Not a plain 1, of which numba would compile code of its own.
    return _nearest_centers(scaled, panels.centers, panels.stops, order, group, np.int64(1))


@compiled
def _nearest_centers(
    scaled: NDArray[np.float32],
    centers: NDArray[np.float32],
    stops: NDArray[np.int64],
    order: NDArray[np.int64],
    first: NDArray[np.int64],
    n_panels: int | np.int64,
) -> NDArray[np.int64]:
    """Return the nearest centre of each row, in so many panels of centres from its first on."""
    lowest = np.full(order.size, NO_CENTROID, dtype=np.float32)
    nearest = np.zeros(order.size, dtype=np.int64)
    scores = np.empty((TILE_ROWS, PANEL_CENTROIDS), dtype=np.float32)
    start = 0
    while start < order.size:
        stop = tile_stop(order, first, start)
        first_panel = first[order[start]]
        for panel in range(first_panel, first_panel + n_panels):
            tile = Tile(start, stop, panel)
            near_rows = tile_scores(scaled, centers, lowest, scores, order, tile, stops)
            for i in range(stop - start):
                if not near_rows >> i & 1:
                    continue
                row = order[start + i]
                for lane in range(PANEL_CENTROIDS):
                    if scores[i, lane] < lowest[row]:
                        lowest[row] = scores[i, lane]
                        nearest[row] = panel * PANEL_CENTROIDS + lane
        start = stop
    return nearest


@compiled
def tile_stop(order: NDArray[np.int64], panel: NDArray[np.int64], start: int) -> int:
    """Return where a tile ends: after four rows, or before a row of another panel."""
    stop = start + 1
    last = min(start + TILE_ROWS, order.size)
    while stop < last and panel[order[stop]] == panel[order[start]]:
        stop += 1
    return stop


@compiled
def sorted_by(panel: NDArray[np.int64], n_panels: int) -> NDArray[np.int64]:
    """Return the rows by rising panel: neighbours then need the same ones."""
    starts = np.zeros(n_panels + 1, dtype=np.int64)
    for row in range(panel.size):
        starts[panel[row] + 1] += 1
    starts = np.cumsum(starts)
    order = np.empty(panel.size, dtype=np.int64)
    for row in range(panel.size):
        order[starts[panel[row]]] = row
        starts[panel[row]] += 1
    return order
