"""Nearest centroids of every row: an exact search behind one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.numerics import padded_columns, smallest_columns
from workflow.overcluster._kernels import (
    pair_sq_distances,
    sort_pairs,
)
from workflow.overcluster._search_kernels import frozen, scale_rows
from workflow.overcluster.panels import (
    MAX_QUERIES,
    lay_out_panels,
    panels_from_arrays,
    panels_to_arrays,
    roundoff,
    search_panels,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from workflow.overcluster._home_kernels import Panels

    _Search = Callable[..., tuple[NDArray[Any], NDArray[np.float64]]]

#: Scores of a panel held at a time (rows times centroids): 16 MiB of float32.
PANEL_SCORES = 2**22
#: Fewest and most rows of a panel.
MIN_PANEL_ROWS, MAX_PANEL_ROWS = 64, 2048
#: Centroids looked at to choose the precision of the products, and how many of them at a time.
PRECISION_SAMPLE, PROBES = 256, 8
#: Share of the squared spacing of centroids that rounding may blur before float64 is taken.
BLUR = 0.02
#: Rows farther out than this many times the spread of the centroids are compared with every one.
FAR = 1e15
#: Rows farther out than this gain nothing from bounds in panels: rounding blurs them.
FAR_FROM_PANELS = 1e4
#: Fewer centroids than this, or more of them wanted, are not searched in panels.
MIN_PANEL_SEARCH, MAX_PANEL_WANTED = 256, 8


@dataclass(frozen=True, slots=True)
class NearestCentroids:
    """Exact search for the nearest centroids of rows.

    Make one with :meth:`build`, or from the arrays of another with
    :meth:`from_arrays`, which costs nothing: build once, share the arrays,
    and let every task load them.

    Attributes
    ----------
    centroids : float32 or float64 array of shape (n_centroids, n_features)
        The centroids [score].
    shift : float64 array of shape (n_features,)
        Mean of the centroids, taken off before products [score].
    scale : float
        Power of two by which the spread of the centroids becomes about 1.
    factors : float32 or float64 array of shape (n_features + 2, n_columns)
        Right-hand side of the product that gives lower bounds; padded.
    panels : Panels or None
        The centroids in panels of 32 neighbours, where the products are
        float32 and there are enough centroids.

    See Also
    --------
    workflow.overcluster.cell_sums : Statistics of the cells found here.

    Notes
    -----
    The answer is the one that comparing every row with every centroid in
    float64 by direct difference would give, ties to the lower index, to the
    last bit: it depends neither on the number of rows in a call, nor on the
    number of BLAS threads, nor on the processor.

    Centroids lie in panels of 32 neighbours.  A row is first compared with the
    panel whose centre is nearest; the k-th distance found so far then rules
    out panels by the box around them, and the rest in tiles of four rows and
    a panel: after a quarter, a half and all of the features, with the norms
    of the features left over bounding their product (Cauchy and Schwarz), a
    tile is given up when no lower bound in it is near enough.  Bounds have
    their worst rounding error taken off (``n u |x| |c|`` with unit roundoff
    ``u``; [1]_, section 3.1).  What is left is compared directly.  This pays
    where variance falls along the features, as in scores of principal
    components; where nothing can be ruled out all features are multiplied,
    and scores still never leave the registers.

    Few centroids, more than eight wanted, and rows very far out are searched
    with one product for all centroids: the k + 1 smallest bounds of a row are
    candidates; where the k-th distance is not below every bound left over,
    all centroids whose bound is not above it are compared as well.  So is
    everything where float32 could blur the spacing of more than one in twenty
    centroids, judged from up to 256 of them: then products are float64.
    All this changes the time and never the answer.

    Cost: at most 2 rows x centroids x features operations; a seventh of them
    to a third on scores of images, at 16,384 centroids and 50 features.
    Memory: below 30 MiB at 50 features, whatever the number of rows.

    References
    ----------
    .. [1] N. J. Higham, "Accuracy and Stability of Numerical Algorithms",
       2nd edition, SIAM, 2002.

    Examples
    --------
    >>> search = NearestCentroids.build(np.array([[0.0], [1.0], [5.0]]))
    >>> nearest, sq_distance = search.query(np.array([[4.0]]), k=2)
    >>> nearest.tolist(), sq_distance.tolist()
    ([[2, 1]], [[1.0, 9.0]])
    """

    centroids: NDArray[Any]
    shift: NDArray[np.float64]
    scale: float
    factors: NDArray[Any]
    panels: Panels | None

    @classmethod
    def build(cls, centroids: NDArray[Any]) -> NearestCentroids:
        """Prepare a search.

        Parameters
        ----------
        centroids : float array of shape (n_centroids, n_features)
            At least one centroid, all finite; float64 stays float64, other
            types become float32.

        Returns
        -------
        NearestCentroids
            The search.

        Raises
        ------
        ValueError
            If there is no centroid, or one is not finite.
        """
        centroids = np.ascontiguousarray(as_float_rows(centroids))
        if centroids.ndim != 2 or 0 in centroids.shape or not np.isfinite(centroids).all():
            msg = (
                "`centroids` must be finite and of shape (n_centroids, n_features), both at least "
                f"1; got shape {centroids.shape}. Fit centroids to finite rows first."
            )
            raise ValueError(msg)
        shift = centroids.mean(axis=0, dtype=np.float64)
        centered = centroids - shift
        spread = float(np.abs(centered).max())
        scale = 2.0 ** -np.frexp(spread)[1] if spread > 0 else 1.0
        centered *= scale
        dtype = _product_dtype(centered)
        panels = None
        if dtype == np.float32 and len(centroids) >= MIN_PANEL_SEARCH:
            panels = lay_out_panels(centered, roundoff(centered.shape[1], dtype))
        return cls(centroids, shift, scale, _bound_factors(centered, dtype), panels)

    @property
    def n_centroids(self) -> int:
        """Number of centroids."""
        return int(self.centroids.shape[0])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, to share with tasks."""
        return {
            "centroids": self.centroids,
            "shift": self.shift,
            "scale": np.array([self.scale]),
            "factors": self.factors,
            **({} if self.panels is None else panels_to_arrays(self.panels)),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NearestCentroids:
        """Return the search whose arrays these are."""
        return cls(
            arrays["centroids"],
            arrays["shift"],
            float(arrays["scale"][0]),
            arrays["factors"],
            panels_from_arrays(arrays),
        )

    def query(
        self, rows: NDArray[Any], k: int = 3
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Find the k nearest centroids of each row.

        Parameters
        ----------
        rows : float array of shape (n_samples, n_features)
            Finite rows [score].
        k : int, default 3
            How many centroids to find.

        Returns
        -------
        nearest : int32 array of shape (n_samples, k)
            Centroids by rising distance, ties by the lower index; -1 where
            there are fewer than `k` centroids.
        sq_distance : float32 array of shape (n_samples, k)
            Squared distances [score squared]; infinite where there is none.

        Raises
        ------
        ValueError
            If the rows have another number of features or are not finite.
        """
        rows = as_float_rows(rows)
        if rows.ndim != 2 or rows.shape[1] != self.centroids.shape[1] or k < 1:
            msg = (
                f"`rows` must be of shape (n_samples, {self.centroids.shape[1]}) and `k` at least "
                f"1; got shape {rows.shape} and k={k}. Project the rows as the centroids were."
            )
            raise ValueError(msg)
        nearest = np.full((rows.shape[0], k), -1, dtype=np.int32)
        sq_distance = np.full((rows.shape[0], k), np.inf, dtype=np.float32)
        n_found = min(k, self.n_centroids)
        search: _Search = self._query_product
        step = self._panel_rows()
        if self.panels is not None and k <= MAX_PANEL_WANTED:
            search, step = self._query_panels, MAX_QUERIES
        for start in range(0, rows.shape[0], step):
            found = search(np.ascontiguousarray(rows[start : start + step]), n_found)
            nearest[start : start + step, :n_found] = found[0]
            sq_distance[start : start + step, :n_found] = found[1]
        return nearest, sq_distance

    def _panel_rows(self) -> int:
        """Return how many rows are multiplied with all centroids at a time."""
        n_columns = int(self.factors.shape[1])
        return min(max(PANEL_SCORES // n_columns, MIN_PANEL_ROWS), MAX_PANEL_ROWS)

    def _query_panels(
        self, rows: NDArray[Any], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Answer some rows by panels of centroids, and rows far out by products."""
        assert self.panels is not None
        answer = np.empty((rows.shape[0], k), np.int64), np.empty((rows.shape[0], k))
        scaled, sq_norm = scale_rows(
            frozen(rows), frozen(self.shift), self.scale, frozen(self.panels.stops)
        )
        _require_finite(rows, sq_norm / self.scale**2)
        far = sq_norm > FAR_FROM_PANELS**2
        scales = self.scale**2, roundoff(rows.shape[1], np.float32)
        if not far.any():
            search_panels(self.panels, self.centroids, rows, (scaled, sq_norm), scales, answer)
            return answer
        near = np.flatnonzero(~far)
        found = answer[0][near], answer[1][near]
        near_scaled = scaled[near], sq_norm[near]
        search_panels(self.panels, self.centroids, rows[near], near_scaled, scales, found)
        answer[0][near], answer[1][near] = found
        step, away = self._panel_rows(), np.flatnonzero(far)
        for start in range(0, away.size, step):
            part = away[start : start + step]
            answer[0][part], answer[1][part] = self._query_product(rows[part], k)
        return answer

    def _query_product(
        self, rows: NDArray[Any], k: int
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Answer some rows by one product with all centroids."""
        centered = rows - self.shift
        sq_norm = np.einsum("ij,ij->i", centered, centered)
        _require_finite(rows, sq_norm)
        centered *= self.scale
        sq_norm *= self.scale**2
        bounds = self._lower_bounds(centered, sq_norm)
        n_candidates = min(k + 1, self.n_centroids)
        candidates, lowest = smallest_columns(bounds, n_candidates)
        every_row = np.repeat(np.arange(rows.shape[0]), n_candidates)
        exact = pair_sq_distances(rows, self.centroids, every_row, candidates.ravel())
        candidates, exact = sort_pairs(candidates, exact.reshape(candidates.shape))
        candidates, exact = candidates[:, :k], exact[:, :k]
        if n_candidates < self.n_centroids:
            far = sq_norm > FAR**2
            reach = self._reach(exact[:, -1], sq_norm)
            doubtful = np.flatnonzero(~(lowest[:, -1] > reach) | far)
            reach[far] = np.inf
            if doubtful.size:
                self._compare_all(rows, doubtful, (bounds[doubtful], reach), (candidates, exact))
        return candidates, exact

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
        panel: NDArray[Any],
        doubtful: NDArray[np.intp],
        limits: tuple[NDArray[Any], NDArray[np.float64]],
        answer: tuple[NDArray[np.intp], NDArray[np.float64]],
    ) -> None:
        """Overwrite the answer of doubtful rows, comparing all centroids not ruled out."""
        bounds, reach = limits
        k = answer[0].shape[1]
        possible = ~(bounds[:, : self.n_centroids] > reach[doubtful, None])
        row, centroid = np.nonzero(possible)
        exact = pair_sq_distances(panel, self.centroids, doubtful[row], centroid)
        order = np.lexsort((centroid, exact, row))
        starts = np.searchsorted(row, np.arange(doubtful.size))
        chosen = order[starts[:, None] + np.arange(k)]
        answer[0][doubtful] = centroid[chosen]
        answer[1][doubtful] = exact[chosen]


def as_float_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows as float64 where they are, as float32 otherwise."""
    rows = np.asarray(rows)
    return rows if rows.dtype in (np.float32, np.float64) else rows.astype(np.float32)


def _require_finite(rows: NDArray[Any], sq_norm: NDArray[np.float64]) -> None:
    """Refuse rows that are not finite, or whose squared norm is not."""
    bad = np.flatnonzero(~np.isfinite(sq_norm))
    if bad.size:
        msg = (
            "`rows` must hold finite values whose squares can be added; "
            f"got {rows[bad[0]].tolist()[:4]}... Repair or drop that row."
        )
        raise ValueError(msg)


def _product_dtype(centered: NDArray[np.float64]) -> np.dtype[Any]:
    """Choose the precision of products from the scaled centroids alone."""
    n_centroids, n_features = centered.shape
    step = -(-n_centroids // PRECISION_SAMPLE)
    norms = np.einsum("ij,ij->i", centered, centered)
    probes = np.arange(0, n_centroids, step)
    nearest = np.empty(len(probes))
    # A few at a time: their distances then stay in the cache.
    for start in range(0, len(probes), PROBES):
        some = probes[start : start + PROBES]
        sums = norms + norms[some, None]
        spacing = centered[some] @ centered.T
        spacing *= -2
        spacing += sums
        sums *= 1e-12
        # Coincident centroids say nothing about spacing, nor does a centroid about itself.
        spacing[spacing <= sums] = np.inf
        nearest[start : start + PROBES] = spacing.min(axis=1)
    blurred = 4 * roundoff(n_features, np.float32) * norms[probes]
    is_blurred = blurred > BLUR * nearest
    return np.dtype(np.float64 if is_blurred.mean() > 0.05 else np.float32)


def _bound_factors(centered: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Lay out the right-hand side so that the product with (x, |x|, 1) is a lower bound."""
    n_centroids, n_features = centered.shape
    n_columns = padded_columns(n_centroids)
    blur = roundoff(n_features, dtype)
    sq_norm = np.einsum("ij,ij->i", centered, centered)
    factors = np.zeros((n_features + 2, n_columns), dtype=dtype)
    factors[:n_features, :n_centroids] = -centered.T
    factors[n_features, :n_centroids] = -2 * blur * np.sqrt(sq_norm)
    # The small number covers products that underflow.
    factors[n_features + 1, :n_centroids] = sq_norm / 2 * (1 - 2 * blur) - 1e-34
    factors[n_features + 1, n_centroids:] = 1e30
    return factors
