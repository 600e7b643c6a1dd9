"""Compiled loops of the search: bounds in small tiles, exact distances of what they leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import compiler
from workflow.overcluster.search._start_kernels import Panels, sorted_by, start_panels, tile_stop
from workflow.overcluster.search._tiles import (
    N_STAGES,
    NO_CENTROID,
    PANEL_CENTROIDS,
    TILE_ROWS,
    Tile,
    sq_distance_of,
    tile_scores,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Norms that bound a scalar product are stored larger by this share.
NORM_MARGIN = 1e-6
#: A bit for each row of a tile.
EVERY_ROW = np.int64(2**TILE_ROWS - 1)
#: Rows whose boxes are looked at together.
BATCH_ROWS = 128

compiled = compiler(__file__)


class Queries(NamedTuple):
    """Rows, and what is known of their nearest centroids so far.

    Attributes
    ----------
    rows : float array of shape (n_samples, n_features)
        As they came.
    scaled : float32 array of shape (n_samples, 2 + n_features)
        Norms of the features behind the first stages; the features.
    sq_norm : float64 array of shape (n_samples,)
        Squared norms of the scaled rows.
    limit, box_limit : float32 arrays of shape (n_samples,)
        Score, and squared distance of a box, above which a centroid is too far.
    nearest : int64 array of shape (n_samples, k)
        Nearest centroids found so far.
    sq_distance : float64 array of shape (n_samples, k)
        Their squared distances.
    sq_scale, roundoff : float
        Square of the scale; relative error of a score.
    """

    rows: NDArray[Any]
    scaled: NDArray[np.float32]
    sq_norm: NDArray[np.float64]
    limit: NDArray[np.float32]
    box_limit: NDArray[np.float32]
    nearest: NDArray[np.int64]
    sq_distance: NDArray[np.float64]
    sq_scale: float
    roundoff: float


@compiled
def scale_rows(
    rows: NDArray[Any], shift: NDArray[np.float64], scale: float, stops: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return ``scaled`` and ``sq_norm`` of `Queries` for rows as they came."""
    n_rows, n_features = rows.shape
    scaled = np.empty((n_rows, N_STAGES - 1 + n_features), dtype=np.float32)
    sq_norm = np.empty(n_rows)
    for row in range(n_rows):
        sq_tail = 0.0
        stop = n_features
        for stage in range(N_STAGES - 2, -2, -1):
            start = stops[stage] if stage >= 0 else 0
            for feature in range(start, stop):
                value = (rows[row, feature] - shift[feature]) * scale
                scaled[row, N_STAGES - 1 + feature] = value
                sq_tail += value * value
            if stage >= 0:
                scaled[row, stage] = np.sqrt(sq_tail) * (1 + NORM_MARGIN)
            stop = start
        sq_norm[row] = sq_tail
    return scaled, sq_norm


@compiled
def find_nearest(queries: Queries, centroids: NDArray[Any], panels: Panels) -> None:
    """Find the nearest centroids of all queries; writes ``nearest`` and ``sq_distance``."""
    start_panel = start_panels(queries.scaled, panels)
    order = sorted_by(start_panel, panels.ids.shape[0])
    _search_start_panels(queries, centroids, panels, start_panel, order)
    for start in range(0, order.size, BATCH_ROWS):
        batch = order[start : start + BATCH_ROWS]
        _search_others(queries, centroids, panels, start_panel, batch)


@compiled
def find_nearer(queries: Queries, centroids: NDArray[Any], panels: Panels) -> None:
    """Lower ``nearest`` and ``sq_distance`` of all queries where one of these centroids is nearer."""
    n_rows = queries.scaled.shape[0]
    for row in range(n_rows):
        _lower_limits(queries, row)
    order = np.arange(n_rows)
    nowhere = np.full(n_rows, -1, dtype=np.int64)
    for start in range(0, n_rows, BATCH_ROWS):
        _search_others(queries, centroids, panels, nowhere, order[start : start + BATCH_ROWS])


@compiled
def _search_start_panels(
    queries: Queries,
    centroids: NDArray[Any],
    panels: Panels,
    start_panel: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Compare each row with the centroids of its start panel, which gives its first limits."""
    scores = np.empty((TILE_ROWS, PANEL_CENTROIDS), dtype=np.float32)
    start = 0
    while start < order.size:
        stop = tile_stop(order, start_panel, start)
        tile = Tile(start, stop, start_panel[order[start]])
        if tile_scores(
            queries.scaled, panels.factors, queries.limit, scores, order, tile, panels.stops
        ):
            _compare_lowest(queries, centroids, panels.ids, order, tile, scores)
            _compare_near(queries, centroids, panels.ids, order, tile, scores, EVERY_ROW)
        start = stop


@compiled
def _search_others(
    queries: Queries,
    centroids: NDArray[Any],
    panels: Panels,
    start_panel: NDArray[np.int64],
    order: NDArray[np.int64],
) -> None:
    """Compare a batch of rows with every panel whose box is near enough, but the start panel."""
    scores = np.empty((TILE_ROWS, PANEL_CENTROIDS), dtype=np.float32)
    near = np.empty(order.size + 1, dtype=np.int64)
    sq_gap = np.empty(order.size, dtype=np.float32)
    columns = _columns(queries.scaled, order, panels.low.shape[1])
    box_limit = queries.box_limit[order]
    is_stale = False
    for panel in _near_panels(columns, box_limit.max(), panels):
        if is_stale:
            box_limit = queries.box_limit[order]
            is_stale = False
        _sq_gaps(columns, panels.low[panel], panels.high[panel], sq_gap)
        # Rows are in the order of their start panels, which are behind them.  NaN is within no limit,
        # while infinity would be within that of a row that lacks neighbours.
        if start_panel[order[0]] <= panel <= start_panel[order[-1]]:
            for i in range(order.size):
                if start_panel[order[i]] == panel:
                    sq_gap[i] = np.nan
        n_near = 0
        for i in range(order.size):
            near[n_near] = order[i]
            n_near += sq_gap[i] <= box_limit[i]
        for start in range(0, n_near, TILE_ROWS):
            tile = Tile(start, min(start + TILE_ROWS, n_near), panel)
            near_rows = tile_scores(
                queries.scaled, panels.factors, queries.limit, scores, near, tile, panels.stops
            )
            if near_rows:
                is_stale |= _compare_near(
                    queries, centroids, panels.ids, near, tile, scores, near_rows
                )


@compiled
def _near_panels(
    columns: NDArray[np.float32], limit: np.float32, panels: Panels
) -> NDArray[np.int64]:
    """Return the panels whose box is near enough to the box around some rows.

    Rounded as in `_sq_gaps`, where no step makes a larger gap a smaller one: a
    panel that is left out here is too far from every row there.
    """
    n_columns, n_panels = columns.shape[0], panels.low.shape[0]
    zero = np.float32(0)
    bottom = np.empty(n_columns, dtype=np.float32)
    top = np.empty(n_columns, dtype=np.float32)
    for feature in range(n_columns):
        bottom[feature], top[feature] = columns[feature].min(), columns[feature].max()
    near = np.empty(n_panels, dtype=np.int64)
    n_near = 0
    for panel in range(n_panels):
        sq_gap = zero
        for feature in range(n_columns):
            below = panels.low[panel, feature] - top[feature]
            above = bottom[feature] - panels.high[panel, feature]
            gap = max(below, above, zero)
            sq_gap += gap * gap
        if sq_gap <= limit:
            near[n_near] = panel
            n_near += 1
    return near[:n_near]


@compiled
def _columns(
    scaled: NDArray[np.float32], order: NDArray[np.int64], n_columns: int
) -> NDArray[np.float32]:
    """Return the columns of some rows that boxes bound."""
    columns = np.empty((n_columns, order.size), dtype=np.float32)
    for i in range(order.size):
        columns[n_columns - 1, i] = scaled[order[i], 0]
        for feature in range(n_columns - 1):
            columns[feature, i] = scaled[order[i], N_STAGES - 1 + feature]
    return columns


@compiled
def _sq_gaps(
    columns: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    sq_gap: NDArray[np.float32],
) -> None:
    """Write the squared distance from each row to a box."""
    zero = np.float32(0)
    sq_gap[:] = zero
    for feature in range(columns.shape[0]):
        bottom, top = low[feature], high[feature]
        for i in range(sq_gap.size):
            value = columns[feature, i]
            below, above = bottom - value, value - top
            gap = max(below, above, zero)
            sq_gap[i] += gap * gap


@compiled
def _compare_lowest(
    queries: Queries,
    centroids: NDArray[Any],
    ids: NDArray[np.int32],
    rows: NDArray[np.int64],
    tile: Tile,
    scores: NDArray[np.float32],
) -> None:
    """Compare rows of a tile exactly with the lowest scores, as many as are wanted; take them out.

    So the limits are nearly what they will be, and few others need a comparison.
    """
    for i in range(tile.stop - tile.start):
        row = rows[tile.start + i]
        for _ in range(queries.nearest.shape[1]):
            lowest = np.argmin(scores[i])
            if scores[i, lowest] >= NO_CENTROID:
                break
            scores[i, lowest] = NO_CENTROID
            _compare(queries, centroids, row, ids[tile.panel, lowest])
        _lower_limits(queries, row)


@compiled
def _compare_near(
    queries: Queries,
    centroids: NDArray[Any],
    ids: NDArray[np.int32],
    rows: NDArray[np.int64],
    tile: Tile,
    scores: NDArray[np.float32],
    near_rows: int | np.int64,
) -> bool:
    """Compare near rows of a tile exactly with what their scores leave; return whether any came nearer."""
    is_nearer = False
    for i in range(tile.stop - tile.start):
        if not near_rows >> i & 1:
            continue
        row = rows[tile.start + i]
        limit = queries.limit[row]
        for lane in range(PANEL_CENTROIDS):
            score = scores[i, lane]
            is_near = score <= limit and score < NO_CENTROID
            if is_near and _compare(queries, centroids, row, ids[tile.panel, lane]):
                limit = _lower_limits(queries, row)
                is_nearer = True
    return is_nearer


@compiled
def _compare(queries: Queries, centroids: NDArray[Any], row: int, centroid: int) -> bool:
    """Put a centroid in its place among the nearest of a row; return whether it is one."""
    nearest, sq_distances = queries.nearest, queries.sq_distance
    sq_distance = sq_distance_of(queries.rows, row, centroids, centroid)
    last = nearest.shape[1] - 1
    if sq_distance > sq_distances[row, last] or (
        sq_distance == sq_distances[row, last] and centroid > nearest[row, last]
    ):
        return False
    place = last
    while place > 0 and (
        sq_distance < sq_distances[row, place - 1]
        or (sq_distance == sq_distances[row, place - 1] and centroid < nearest[row, place - 1])
    ):
        nearest[row, place] = nearest[row, place - 1]
        sq_distances[row, place] = sq_distances[row, place - 1]
        place -= 1
    nearest[row, place] = centroid
    sq_distances[row, place] = sq_distance
    return True


@compiled
def _lower_limits(queries: Queries, row: int) -> np.float32:
    """Set the limits of a row from the farthest of its nearest, errors of rounding added."""
    sq_norm = queries.sq_norm[row]
    scaled = queries.sq_distance[row, -1] * queries.sq_scale
    slack = queries.roundoff * sq_norm + 3e-7 * (scaled + sq_norm) + 1e-30
    limit = np.float32((scaled - sq_norm) / 2 + slack)
    queries.limit[row] = limit
    # Scaled features are off by 1e-7 of the row at most, stored norms by 1e-6.
    gap = np.sqrt(scaled) + 4e-6 * np.sqrt(sq_norm)
    queries.box_limit[row] = np.float32(gap * gap * 1.00002 + 1e-30)
    return limit
