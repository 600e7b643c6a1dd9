"""Search in panels of neighbours, most of which a bound rules out: for many centroids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from workflow.compiling import frozen
from workflow.overcluster.search._panel_kernels import (
    NORM_MARGIN,
    Queries,
    find_nearest,
    scale_rows,
)
from workflow.overcluster.search._start_kernels import Panels
from workflow.overcluster.search._tiles import N_STAGES, NO_CENTROID, PANEL_CENTROIDS
from workflow.overcluster.search.base import answer_in_batches, relative_roundoff, require_finite
from workflow.overcluster.search.products import ProductSearch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.overcluster.search.base import CenteredCentroids

#: Rows searched at a time; their scaled copies are some 10 MiB at 50 features.
BATCH_ROWS = 2**14
#: Rows farther out than this many times the spread of the centroids gain nothing from bounds in
#: panels: rounding blurs them.
FAR = 1e4
#: Steps of the power iteration that finds where to divide centroids.
POWER_STEPS = 6
#: Stands for no centroid yet: behind every centroid where distances are equal.
_NO_ID = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class PanelSearch:
    """Bounds of distances to panels of 32 neighbouring centroids; implements `Search`.

    Attributes
    ----------
    products : ProductSearch
        The search among the same centroids that answers rows far out.
    panels : Panels
        The centroids in panels.

    Notes
    -----
    A row is first compared with the panel whose centre is about the nearest;
    the k-th distance found so far then rules out panels by the box around
    them, and the rest in tiles of four rows and a panel: after a quarter, a
    half and all of the features, with the norms of the features left over
    bounding their product (Cauchy and Schwarz), a tile is given up when no
    lower bound in it is near enough.  Bounds have their worst rounding error
    taken off (`relative_roundoff`).  What is left is compared directly.  This
    pays where variance falls along the features, as in scores of principal
    components; where nothing can be ruled out all features are multiplied,
    and scores still never leave the registers.
    """

    name: ClassVar[str] = "panels"
    products: ProductSearch
    panels: Panels

    @property
    def centroids(self) -> NDArray[Any]:
        """The centroids, of shape (n_centroids, n_features) [score]."""
        return self.products.centroids

    @classmethod
    def build(cls, centered: CenteredCentroids) -> Self:
        """Prepare a search; see `Search.build`."""
        return cls(ProductSearch.build(centered), lay_out_panels(centered.scaled))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the panels and those of the products; see `Search.to_arrays`."""
        panels = {f"panel_{name}": array for name, array in self.panels._asdict().items()}
        return {**self.products.to_arrays(), **panels}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the search whose arrays these are; see `Search.from_arrays`."""
        panels = Panels(*(frozen(arrays[f"panel_{name}"]) for name in Panels._fields))
        return cls(ProductSearch.from_arrays(arrays), panels)

    def query(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k nearest centroids of each row; see `Search.query`."""
        return answer_in_batches(self._answer, rows, k, len(self.centroids), BATCH_ROWS)

    def _answer(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Answer a batch of rows."""
        centroids, scale = self.centroids, float(self.products.scale)
        if rows.dtype != centroids.dtype:
            # Doubling the precision changes no value, and two kinds of code are enough.
            rows, centroids = rows.astype(np.float64), centroids.astype(np.float64)
        queries = make_queries(rows, self.products.shift, scale, k)
        require_finite(rows, queries.sq_norm / scale**2)
        far = np.flatnonzero(queries.sq_norm > FAR**2)
        if far.size:
            near = np.flatnonzero(queries.sq_norm <= FAR**2)
            queries = make_queries(rows[near], self.products.shift, scale, k)
        find_nearest(queries, frozen(centroids), self.panels)
        if not far.size:
            return queries.nearest, queries.sq_distance
        nearest, sq_distance = np.empty((len(rows), k), np.int64), np.empty((len(rows), k))
        nearest[near], sq_distance[near] = queries.nearest, queries.sq_distance
        nearest[far], sq_distance[far] = self.products.query(rows[far], k)
        return nearest, sq_distance


def make_queries(rows: NDArray[Any], shift: NDArray[np.float64], scale: float, k: int) -> Queries:
    """Put together what the compiled search takes, nothing found and no limit set; `shift` and `scale` are those of the centroids."""
    n_samples, n_features = rows.shape
    rows = frozen(rows)
    scaled, sq_norm = scale_rows(rows, frozen(shift), scale, frozen(_feature_stops(n_features)))
    return Queries(
        rows,
        scaled,
        sq_norm,
        limit=np.full(n_samples, np.inf, dtype=np.float32),
        box_limit=np.full(n_samples, np.inf, dtype=np.float32),
        nearest=np.full((n_samples, k), _NO_ID),
        sq_distance=np.full((n_samples, k), np.inf),
        sq_scale=scale**2,
        roundoff=relative_roundoff(n_features, np.float32),
    )


def _feature_stops(n_features: int) -> NDArray[np.int64]:
    """Return how many features each stage of a search has behind it."""
    return np.array([-(-n_features // 4), -(-n_features // 2), n_features], dtype=np.int64)


def lay_out_panels(scaled: NDArray[np.float64]) -> Panels:
    """Lay centroids out in panels of neighbours.

    Parameters
    ----------
    scaled : float64 array of shape (n_centroids, n_features)
        Centroids with their mean taken off, scaled to a spread of about 1.

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
    stops = _feature_stops(scaled.shape[1])
    roundoff = relative_roundoff(scaled.shape[1], np.float32)
    first = int(stops[0])
    groups = _halves(scaled)
    factors = np.stack([_panel_factors(scaled[g], stops, roundoff) for g in groups])
    ids = np.full((len(groups), PANEL_CENTROIDS), -1, dtype=np.int32)
    low = np.empty((len(groups), first + 1))
    high = np.empty_like(low)
    tails = np.sqrt(np.square(scaled[:, first:]).sum(axis=1))
    boxed = np.column_stack([scaled[:, :first], tails])
    for panel, group in enumerate(groups):
        ids[panel, : group.size] = group
        low[panel], high[panel] = boxed[group].min(axis=0), boxed[group].max(axis=0)
    centers = np.stack([scaled[g].mean(axis=0) for g in groups])
    means = np.stack([some.mean(axis=0) for some in _in_order(centers)])
    panels = Panels(
        factors,
        ids,
        np.nextafter(low.astype(np.float32), np.float32(-np.inf)),
        np.nextafter(high.astype(np.float32), np.float32(np.inf)),
        _factors_in_order(centers, stops),
        _factors_in_order(means, stops),
        stops,
    )
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
    starts = range(0, len(centers), PANEL_CENTROIDS)
    return [centers[start : start + PANEL_CENTROIDS] for start in starts]


def _halves(scaled: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Divide centroids into halves again and again, until each part fits a panel."""
    parts, waiting = [], [np.arange(scaled.shape[0])]
    while waiting:
        part = waiting.pop()
        if part.size <= PANEL_CENTROIDS:
            parts.append(part)
            continue
        position = _along_spread(scaled[part])
        n_panels = -(-part.size // PANEL_CENTROIDS)
        middle = n_panels // 2 * PANEL_CENTROIDS
        order = np.argsort(position, kind="stable")
        waiting.append(part[order[middle:]])
        waiting.append(part[order[:middle]])
    return parts


def _along_spread(members: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the positions of members along about the direction of their greatest spread."""
    members = members - members.mean(axis=0)
    scatter = members.T @ members
    direction = scatter[:, np.diag(scatter).argmax()]
    for _ in range(POWER_STEPS):
        largest = np.abs(direction).max()
        if not largest > 0:
            break
        direction = scatter @ (direction / largest)
    return np.asarray(members @ direction)
