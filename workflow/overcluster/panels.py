"""Centroids in panels of neighbours: the layout in which most of them are ruled out early."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster._search_kernels import (
    NO_CENTROID,
    Panels,
    Queries,
    find_nearest,
    frozen,
)
from workflow.overcluster._tiles import N_STAGES, PANEL_CENTROIDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Rows searched at a time; their scaled copies are some 10 MiB at 50 features.
MAX_QUERIES = 2**14
#: Steps of the power iteration that finds where to divide centroids.
POWER_STEPS = 6
#: Norms that bound a scalar product are stored larger by this share.
NORM_MARGIN = 1e-6


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
    first = -(-n_features // 4)
    stops = np.array([first, -(-n_features // 2), n_features], dtype=np.int64)
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
    center_factors = np.stack(
        [
            _panel_factors(centers[start : start + PANEL_CENTROIDS], stops, 0.0)
            for start in range(0, len(groups), PANEL_CENTROIDS)
        ]
    )
    return Panels(
        factors,
        ids,
        np.nextafter(low.astype(np.float32), np.float32(-np.inf)),
        np.nextafter(high.astype(np.float32), np.float32(np.inf)),
        center_factors,
        stops,
    )


def search_panels(
    panels: Panels,
    centroids: NDArray[Any],
    rows: NDArray[Any],
    centered: NDArray[np.float64],
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
    centered : float64 array of shape (n_samples, n_features)
        The rows, shifted and scaled as the centroids were before they were
        laid out.
    scales : tuple of float
        Square of the scale, and the relative error used for the layout.
    answer : tuple of int64 and float64 arrays of shape (n_samples, k)
        Room for the answer; `k` is at most the number of centroids.
    """
    if rows.dtype != centroids.dtype:
        # Doubling the precision changes no value, and two kinds of code are enough.
        rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
    nearest, sq_distance = answer
    nearest[:] = np.iinfo(np.int64).max
    sq_distance[:] = np.inf
    n_rows, n_features = rows.shape
    scaled = np.empty((n_rows, N_STAGES - 1 + n_features), dtype=np.float32)
    scaled[:, N_STAGES - 1 :] = centered
    for stage, stop in enumerate(panels.stops[:-1]):
        tail = centered[:, stop:]
        scaled[:, stage] = np.sqrt(np.einsum("ij,ij->i", tail, tail)) * (1 + NORM_MARGIN)
    queries = Queries(
        frozen(rows),
        scaled,
        np.einsum("ij,ij->i", centered, centered),
        np.full(n_rows, np.inf, dtype=np.float32),
        np.full(n_rows, np.inf, dtype=np.float32),
        nearest,
        sq_distance,
        scales[0],
        scales[1],
    )
    find_nearest(queries, frozen(centroids), Panels(*(frozen(array) for array in panels)))


def panels_to_arrays(panels: Panels) -> dict[str, NDArray[Any]]:
    """Return the panels as arrays with names of their own."""
    return {f"panel_{name}": array for name, array in panels._asdict().items()}


def panels_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Panels | None:
    """Return the panels among arrays, if they are there."""
    if "panel_factors" not in arrays:
        return None
    return Panels(*(arrays[f"panel_{name}"] for name in Panels._fields))


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
