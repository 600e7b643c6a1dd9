"""Search by one product with all centroids: for few of them, and where float32 would blur them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np

from workflow.numerics import padded_columns, smallest_columns
from workflow.overcluster.search._distances import pair_sq_distances
from workflow.overcluster.search.base import answer_in_batches, relative_roundoff, require_finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.overcluster.search.base import CenteredCentroids

#: Bounds held at a time (rows times centroids): 16 MiB of float32.
MAX_BOUNDS = 2**22
#: Minimum and maximum number of rows of a batch.
MIN_BATCH_ROWS, MAX_BATCH_ROWS = 64, 2048
#: Rows farther out than this many times the spread of the centroids are compared with every one.
FAR = 1e15


class _Nearest(NamedTuple):
    """Centroids by rising distance, ties to the lower index, and their squared distances."""

    centroid: NDArray[np.intp]
    sq_distance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ProductSearch:
    """Lower bounds of all distances by one product; implements `Search`.

    Attributes
    ----------
    centroids : float32 or float64 array of shape (n_centroids, n_features)
        The centroids [score].
    shift : float64 array of shape (n_features,)
        Mean of the centroids, taken off before products [score].
    scale : float64 array of shape ()
        Power of two by which the spread of the centroids becomes about 1.
    factors : float32 or float64 array of shape (n_features + 2, n_columns)
        Right-hand side of the product; padded.

    Notes
    -----
    The k + 1 smallest bounds of a row are candidates, which are compared
    directly; where the k-th distance is not below every bound left over, all
    centroids whose bound is not above it are compared as well.
    Cost: 2 rows x centroids x features operations.
    """

    name: ClassVar[str] = "products"
    centroids: NDArray[Any]
    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    factors: NDArray[Any]

    @classmethod
    def build(cls, centered: CenteredCentroids) -> Self:
        """Prepare a search; see `Search.build`."""
        factors = _bound_factors(centered.scaled, centered.dtype)
        return cls(centered.centroids, centered.shift, np.array(centered.scale), factors)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name; see `Search.to_arrays`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Return the search whose attributes these are; see `Search.from_arrays`."""
        return cls(*(arrays[field.name] for field in fields(cls)))

    def query(self, rows: NDArray[Any], k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k nearest centroids of each row; see `Search.query`."""
        fitting = MAX_BOUNDS // int(self.factors.shape[1])
        batch_rows = min(max(fitting, MIN_BATCH_ROWS), MAX_BATCH_ROWS)
        return answer_in_batches(self._answer, rows, k, len(self.centroids), batch_rows)

    def _answer(self, rows: NDArray[Any], k: int) -> _Nearest:
        """Answer a batch of rows."""
        n_centroids = len(self.centroids)
        centered = rows - self.shift
        sq_norm = np.einsum("ij,ij->i", centered, centered)
        require_finite(rows, sq_norm)
        centered *= self.scale
        sq_norm *= self.scale**2
        bounds = self._lower_bounds(centered, sq_norm)
        n_candidates = min(k + 1, n_centroids)
        candidates, lowest = smallest_columns(bounds, n_candidates)
        every_row = np.repeat(np.arange(rows.shape[0]), n_candidates)
        exact = pair_sq_distances(rows, self.centroids, every_row, candidates.ravel())
        found = _sorted(candidates, exact.reshape(candidates.shape), k)
        if n_candidates < n_centroids:
            far = sq_norm > FAR**2
            reach = self._reach(found.sq_distance[:, -1], sq_norm)
            doubtful = np.flatnonzero(~(lowest[:, -1] > reach) | far)
            reach[far] = np.inf
            if doubtful.size:
                possible = ~(bounds[doubtful, :n_centroids] > reach[doubtful, None])
                self._compare_all(rows, doubtful, possible, found)
        return found

    def _lower_bounds(
        self, centered: NDArray[np.float64], sq_norm: NDArray[np.float64]
    ) -> NDArray[Any]:
        """Return lower bounds of (squared distance - squared norm) / 2."""
        n_rows, n_features = centered.shape
        left = np.empty((n_rows, n_features + 2), dtype=self.factors.dtype)
        left[:, :n_features] = np.clip(centered, -FAR, FAR)
        left[:, n_features] = np.minimum(np.sqrt(sq_norm), FAR)
        left[:, n_features + 1] = 1.0
        return np.asarray(left @ self.factors)

    def _reach(
        self, sq_distance: NDArray[np.float64], sq_norm: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the bound above which a centroid is farther than ``sq_distance`` for certain."""
        scaled = sq_distance * self.scale**2
        slack = (self.centroids.shape[1] + 8) * np.finfo(np.float64).eps
        return np.asarray((scaled - sq_norm) / 2 + slack * (scaled + sq_norm))

    def _compare_all(
        self,
        rows: NDArray[Any],
        doubtful: NDArray[np.intp],
        possible: NDArray[np.bool_],
        found: _Nearest,
    ) -> None:
        """Overwrite what was found for doubtful rows, comparing all that is possible."""
        row, centroid = np.nonzero(possible)
        exact = pair_sq_distances(rows, self.centroids, doubtful[row], centroid)
        order = np.lexsort((centroid, exact, row))
        starts = np.searchsorted(row, np.arange(doubtful.size))
        chosen = order[starts[:, None] + np.arange(found.centroid.shape[1])]
        found.centroid[doubtful] = centroid[chosen]
        found.sq_distance[doubtful] = exact[chosen]


def _sorted(candidates: NDArray[np.intp], sq_distance: NDArray[np.float64], k: int) -> _Nearest:
    """Return the k nearest of the candidates of each row."""
    order = np.lexsort((candidates, sq_distance), axis=1)[:, :k]
    return _Nearest(
        np.take_along_axis(candidates, order, axis=1),
        np.take_along_axis(sq_distance, order, axis=1),
    )


def _bound_factors(scaled: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Lay out the right-hand side so that the product with (x, |x|, 1) is a lower bound."""
    n_centroids, n_features = scaled.shape
    n_columns = padded_columns(n_centroids)
    roundoff = relative_roundoff(n_features, dtype)
    sq_norm = np.einsum("ij,ij->i", scaled, scaled)
    factors = np.zeros((n_features + 2, n_columns), dtype=dtype)
    factors[:n_features, :n_centroids] = -scaled.T
    factors[n_features, :n_centroids] = -2 * roundoff * np.sqrt(sq_norm)
    # The small number covers products that underflow.
    factors[n_features + 1, :n_centroids] = sq_norm / 2 * (1 - 2 * roundoff) - 1e-34
    factors[n_features + 1, n_centroids:] = 1e30
    return factors
