"""Centroids in panels of neighbours: the layout in which most of them are ruled out early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster._home_kernels import Panels
from workflow.overcluster._search_kernels import (
    NORM_MARGIN,
    Queries,
    find_nearer,
    find_nearest,
    frozen,
    scale_rows,
)
from workflow.overcluster._tiles import N_STAGES, NO_CENTROID, PANEL_CENTROIDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Rows searched at a time; their scaled copies are some 10 MiB at 50 features.
MAX_QUERIES = 2**14
#: Stands for no centroid yet: behind every centroid where distances are equal.
_NO_ID = np.iinfo(np.int64).max
#: Steps of the power iteration that finds where to divide centroids.
POWER_STEPS = 6


def lay_out_panels(centered: NDArray[np.float64], roundoff: float) -> Panels:
    """Lay centroids out in panels of neighbours.

    Parameters
    ----------
    centered : float64 array of shape (n_centroids, n_features)
        Centroids with their mean taken off, scaled to a spread of about 1.
    roundoff : float
        Bound of the relative error of a float32 product of this depth.

    Returns
    -------
    Panels
        Panels of 32 centroids, halves of halves along the direction of
        greatest spread; the last may have fewer.

    Notes
    -----
    The order of centroids changes the time of a search and never its answer.
    Cost: about centroids x features**2 x log2(panels) operations.
    """
    n_features = centered.shape[1]
    stops = feature_stops(n_features)
    first = int(stops[0])
    groups = _halves(centered)
    factors = np.stack([_panel_factors(centered[g], stops, roundoff) for g in groups])
    ids = np.full((len(groups), PANEL_CENTROIDS), -1, dtype=np.int32)
    low = np.empty((len(groups), first + 1))
    high = np.empty_like(low)
    tails = np.sqrt(np.square(centered[:, first:]).sum(axis=1))
    boxed = np.column_stack([centered[:, :first], tails])
    for panel, group in enumerate(groups):
        ids[panel, : group.size] = group
        low[panel], high[panel] = boxed[group].min(axis=0), boxed[group].max(axis=0)
    centers = np.stack([centered[g].mean(axis=0) for g in groups])
    means = np.stack([some.mean(axis=0) for some in _in_order(centers)])
    return Panels(
        factors,
        ids,
        np.nextafter(low.astype(np.float32), np.float32(-np.inf)),
        np.nextafter(high.astype(np.float32), np.float32(np.inf)),
        _factors_in_order(centers, stops),
        _factors_in_order(means, stops),
        stops,
    )


def feature_stops(n_features: int) -> NDArray[np.int64]:
    """Return how many features each stage of a search has behind it."""
    return np.array([-(-n_features // 4), -(-n_features // 2), n_features], dtype=np.int64)


def search_panels(
    panels: Panels,
    centroids: NDArray[Any],
    rows: NDArray[Any],
    scaled: tuple[NDArray[np.float32], NDArray[np.float64]],
    scales: tuple[float, float],
    answer: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> None:
    """Write the nearest centroids of rows, and their squared distances, to ``answer``.

    Parameters
    ----------
    panels : Panels
        The layout of `centroids`.
    centroids : float array of shape (n_centroids, n_features)
        The centroids, C-contiguous [score].
    rows : float array of shape (n_samples, n_features)
        The rows, C-contiguous [score].
    scaled : tuple of float32 and float64 array
        What `scale_rows` gives for them, with the shift and scale that the
        centroids had when they were laid out.
    scales : tuple of float
        Square of the scale, and the relative error used for the layout.
    answer : tuple of int64 and float64 arrays of shape (n_samples, k)
        Room for the answer; `k` is at most the number of centroids.
    """
    if rows.dtype != centroids.dtype:
        # Doubling the precision changes no value, and two kinds of code are enough.
        rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    nearest, sq_distance = answer
    nearest[:] = _NO_ID
    sq_distance[:] = np.inf
    queries = _queries(rows, scaled, scales, answer)
    find_nearest(queries, frozen(centroids), _frozen_panels(panels))


class RunningNearest:
    """Squared distance of each row to the nearest of some of the rows, which become more.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        Finite rows, float32 or float64 [score].

    Attributes
    ----------
    sq_distance : float64 array of shape (n_samples,)
        Squared distances by direct difference; infinite while there is none
        to be near to [score squared].

    Notes
    -----
    The distance found so far rules out most of what is added, as in
    `NearestCentroids`.  Memory: a float32 copy of the rows and 40 bytes a row.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        rows = np.ascontiguousarray(rows)
        self._shift = rows.mean(axis=0, dtype=np.float64)
        low, high = rows.min(axis=0), rows.max(axis=0)
        spread = float(np.maximum(high - self._shift, self._shift - low).max())
        self._scale = 2.0 ** -np.frexp(spread)[1] if spread > 0 else 1.0
        self._roundoff = roundoff(rows.shape[1], np.float32)
        stops = feature_stops(rows.shape[1])
        scaled = scale_rows(frozen(rows), frozen(self._shift), self._scale, frozen(stops))
        self._queries = _queries(
            rows,
            scaled,
            (self._scale**2, self._roundoff),
            (np.full((len(rows), 1), _NO_ID), np.full((len(rows), 1), np.inf)),
        )

    @property
    def sq_distance(self) -> NDArray[np.float64]:
        """Squared distances so far, shape (n_samples,) [score squared]."""
        return self._queries.sq_distance[:, 0]

    def add(self, index: NDArray[np.integer[Any]]) -> None:
        """Let rows be near to the rows of this index, too."""
        chosen = np.ascontiguousarray(self._queries.rows[index])
        panels = lay_out_panels((chosen - self._shift) * self._scale, self._roundoff)
        find_nearer(self._queries, frozen(chosen), _frozen_panels(panels))


def roundoff(n_features: int, dtype: Any) -> float:
    """Bound the relative error of a product of this depth, with its rounded inputs."""
    return float(1.25 * (n_features + 8) * np.finfo(dtype).eps / 2)


def panels_to_arrays(panels: Panels) -> dict[str, NDArray[Any]]:
    """Return the panels as arrays with names of their own."""
    return {f"panel_{name}": array for name, array in panels._asdict().items()}


def panels_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Panels | None:
    """Return the panels among arrays, if they are there."""
    if "panel_factors" not in arrays:
        return None
    return Panels(*(arrays[f"panel_{name}"] for name in Panels._fields))


def _queries(
    rows: NDArray[Any],
    scaled: tuple[NDArray[np.float32], NDArray[np.float64]],
    scales: tuple[float, float],
    answer: tuple[NDArray[np.int64], NDArray[np.float64]],
) -> Queries:
    """Put together what the compiled search takes, no limit set."""
    limits = np.full((2, len(rows)), np.inf, dtype=np.float32)
    return Queries(frozen(rows), *scaled, limits[0], limits[1], *answer, *scales)


def _frozen_panels(panels: Panels) -> Panels:
    """Return the panels as arrays that cannot be written to."""
    return Panels(*(frozen(array) for array in panels))


def _panel_factors(
    members: NDArray[np.float64], stops: NDArray[np.int64], roundoff: float
) -> NDArray[np.float32]:
    """Lay out one panel, so that a sum of products is a lower bound at each stage."""
    n_members, n_features = members.shape
    factors = np.zeros((N_STAGES + n_features, PANEL_CENTROIDS))
    for stage, stop in enumerate(stops[:-1]):
        tail = np.sqrt(np.square(members[:, stop:]).sum(axis=1))
        factors[stage, :n_members] = -tail * (1 + NORM_MARGIN)
    sq_norm = np.square(members).sum(axis=1)
    # The error of a score is below roundoff * (|x|**2 + |c|**2); the row's part is in its limit.
    # The small number covers products that underflow.
    factors[N_STAGES - 1, :n_members] = sq_norm / 2 - roundoff * sq_norm - 1e-34
    factors[N_STAGES - 1, n_members:] = NO_CENTROID
    factors[N_STAGES:, :n_members] = -members.T
    return factors.astype(np.float32)


def _factors_in_order(
    centers: NDArray[np.float64], stops: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Lay out centres in panels as they come, whose scores need not be bounds."""
    return np.stack([_panel_factors(some, stops, 0.0) for some in _in_order(centers)])


def _in_order(centers: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Cut centres into panels as they come."""
    places = range(0, len(centers), PANEL_CENTROIDS)
    return [centers[start : start + PANEL_CENTROIDS] for start in places]


def _halves(centered: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Divide centroids into halves again and again, until each part fits a panel."""
    parts, waiting = [], [np.arange(centered.shape[0])]
    while waiting:
        part = waiting.pop()
        if part.size <= PANEL_CENTROIDS:
            parts.append(part)
            continue
        place = _along_spread(centered[part])
        n_panels = -(-part.size // PANEL_CENTROIDS)
        middle = n_panels // 2 * PANEL_CENTROIDS
        order = np.argsort(place, kind="stable")
        waiting.append(part[order[middle:]])
        waiting.append(part[order[:middle]])
    return parts


def _along_spread(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the places of members along about the direction of their greatest spread."""
    members = members - members.mean(axis=0)
    scatter = members.T @ members
    direction = scatter[:, np.diag(scatter).argmax()]
    for _ in range(POWER_STEPS):
        largest = np.abs(direction).max()
        if not largest > 0:
            break
        direction = scatter @ (direction / largest)
    return np.asarray(members @ direction)
