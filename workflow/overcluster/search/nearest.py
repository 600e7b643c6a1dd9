"""Nearest centroids of every row: which search answers, behind one class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster.search.base import CenteredCentroids, as_float_rows, center_centroids
from workflow.overcluster.search.panels import PanelSearch
from workflow.overcluster.search.products import ProductSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from workflow.overcluster.search.base import Search

#: Fewer centroids than this are searched by products.
MIN_PANEL_CENTROIDS = 256
#: Panels compare directly what float32 cannot tell apart, at the price of four pairs of a product
#: in float64; with more than this share of the centroids alike, products are as quick.
MAX_BLURRED = 1 / 8


def _fits_panels(centered: CenteredCentroids) -> bool:
    """Return whether there are enough centroids, and float32 tells most of them apart."""
    return len(centered.centroids) >= MIN_PANEL_CENTROIDS and centered.blurred <= MAX_BLURRED


def _fits_all(_: CenteredCentroids) -> bool:
    """Return true."""
    return True


#: Every search and the centroids it is for; the first that fits is taken.  From the data alone,
#: never from timings or the processor, although all give the same answers.
SEARCHES: dict[type[Search], Callable[[CenteredCentroids], bool]] = {
    PanelSearch: _fits_panels,
    ProductSearch: _fits_all,
}


@dataclass(frozen=True, slots=True)
class NearestCentroids:
    """Exact search for the nearest centroids of rows.

    Make one with :meth:`build`, or from the arrays of another with
    :meth:`from_arrays`, which costs nothing: build once, share the arrays,
    and let every task load them.

    Attributes
    ----------
    search : Search
        The way it is done; what it finds is the same for all.

    See Also
    --------
    workflow.overcluster.cell_sums : Statistics of the cells found here.

    Notes
    -----
    The answer is the one that comparing every row with every centroid in
    float64 by direct difference would give, ties to the lower index, to the
    last bit: it depends neither on the number of rows in a call, nor on the
    number of BLAS threads, nor on the processor.

    From 256 centroids on `PanelSearch` answers, otherwise, and where float32
    cannot tell the nearest centroid from one in eight of all, judged from up
    to 256 of them, `ProductSearch`.

    Cost: at most 2 rows x centroids x features operations; a seventh of them
    to a third on scores of images, at 16,384 centroids and 50 features.
    Memory: below 30 MiB at 50 features, whatever the number of rows.

    Examples
    --------
    >>> search = NearestCentroids.build(np.array([[0.0], [1.0], [5.0]]))
    >>> nearest, sq_distance = search.query(np.array([[4.0]]), k=2)
    >>> nearest.tolist(), sq_distance.tolist()
    ([[2, 1]], [[1.0, 9.0]])
    """

    search: Search

    @classmethod
    def build(cls, centroids: NDArray[Any]) -> NearestCentroids:
        """Prepare a search.

        Parameters
        ----------
        centroids : float array of shape (n_centroids, n_features)
            At least one centroid, all finite; float64 stays float64, other
            types become float32 [score].

        Returns
        -------
        NearestCentroids
            The search.

        Raises
        ------
        ValueError
            If there is no centroid, or one is not finite.
        """
        if centroids.ndim != 2 or 0 in centroids.shape or not np.isfinite(centroids).all():
            msg = (
                "`centroids` must be finite and of shape (n_centroids, n_features), both at least "
                f"1; got shape {centroids.shape}. Fit centroids to finite rows first."
            )
            raise ValueError(msg)
        centered = center_centroids(centroids)
        chosen = next(search for search, fits in SEARCHES.items() if fits(centered))
        return cls(chosen.build(centered))

    @property
    def centroids(self) -> NDArray[Any]:
        """Centroids, float32 or float64 of shape (n_centroids, n_features) [score]."""
        return self.search.centroids

    @property
    def n_centroids(self) -> int:
        """Number of centroids."""
        return int(self.centroids.shape[0])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, to share with tasks.

        Returns
        -------
        dict of str to ndarray
            Arrays of the search by name, and its own name as ``"search"``.
        """
        return {"search": np.array(self.search.name), **self.search.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> NearestCentroids:
        """Return the search whose arrays these are.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave.

        Returns
        -------
        NearestCentroids
            The same search.
        """
        chosen = next(search for search in SEARCHES if search.name == str(arrays["search"]))
        return cls(chosen.from_arrays(arrays))

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
        n_features = self.centroids.shape[1]
        if rows.ndim != 2 or rows.shape[1] != n_features or k < 1:
            msg = (
                f"`rows` must be of shape (n_samples, {n_features}) and `k` at least 1; "
                f"got shape {rows.shape} and k={k}. Project the rows as the centroids were."
            )
            raise ValueError(msg)
        return self.search.query(rows, k)
