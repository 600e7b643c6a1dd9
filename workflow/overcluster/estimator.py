"""Overclustering with scikit-learn's conventions, on NumPy and Dask arrays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

import dask.array as da
import numpy as np
from dask.base import compute
from dask.delayed import delayed
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted

from workflow.chunks import row_ranges
from workflow.estimators import validated_rows
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster.fitting import fit_centroids
from workflow.overcluster.sampling import (
    auto_n_centroids,
    draw_rows,
    sample_counts,
    sample_destinations,
    sample_size,
)
from workflow.overcluster.search import NearestCentroids, as_float_rows
from workflow.rng import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows of the blocks that an array in memory is cut into.
BLOCK_ROWS = 65_536


class Overcluster(ClusterMixin, BaseEstimator):
    """K-means with many more centroids than expected clusters.

    Parameters
    ----------
    n_centroids : int or "auto", default "auto"
        Centroids wanted; "auto" takes one for 15 rows, 16,384 at most.
    seed : int, default 0
        Seed of every random draw.
    max_iter : int, default 60
        Maximum number of rounds of k-means.

    Attributes
    ----------
    cluster_centers_ : float32 or float64 array of shape (n_centroids, n_features)
        The centroids; fewer than requested only where there are fewer
        distinct rows.
    labels_ : int32 array of shape (n_samples,)
        Nearest centroid of each row; a lazy Dask array after a fit on one.
    population_ : int64 array of shape (n_centroids,)
        Rows nearest to each centroid.
    inertia_ : float
        Sum of squared distances of all rows to their centroids.
    n_iter_ : int
        Rounds made.
    n_features_in_ : int
        Features seen in fit.
    feature_names_in_ : array of str of shape (n_features_in,)
        Their names, where `X` had some.

    See Also
    --------
    workflow.overcluster.fit_centroids : The same on stored rows and many workers.

    Notes
    -----
    Fits on a sample of 64 rows a centroid (at least 65,536, all where there
    are no more), gathered into memory block by block.  A Dask array is read
    twice: for the sample, and for populations and inertia.  Results depend on
    how a Dask array is cut, never on the scheduler.

    Examples
    --------
    >>> X = np.array([[0.0], [0.1], [5.0], [5.1]])
    >>> sorted(Overcluster(n_centroids=2).fit(X).cluster_centers_.ravel().round(2).tolist())
    [0.05, 5.05]
    """

    def __init__(
        self, n_centroids: int | str = "auto", *, seed: int = 0, max_iter: int = 60
    ) -> None:
        self.n_centroids = n_centroids
        self.seed = seed
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the centroids.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, n_features)
            Rows; a Dask array has known chunk sizes.
        y : None
            Ignored.

        Returns
        -------
        Overcluster
            The fitted estimator.

        Raises
        ------
        ValueError
            If `X` or a parameter does not fit.
        """
        X = self._validated(X, reset=True)
        blocks = _delayed_blocks(X)
        n_samples = int(X.shape[0])
        n_centroids = self._wanted_centroids(n_samples)
        sample = _gather_sample(X, blocks, sample_size(n_samples, n_centroids), self.seed)
        fitted = fit_centroids(
            ArrayRows(sample),
            n_centroids,
            seed=self.seed,
            mapper=SerialMapper(),
            max_iter=self.max_iter,
        )
        self._search = NearestCentroids.build(fitted.centroids)
        self.cluster_centers_ = fitted.centroids
        self.n_iter_ = fitted.n_iter
        if isinstance(X, da.Array):
            self.labels_: Any = self.predict(X)
            summarize = delayed(partial(_summarize_block, self._search))
            parts = compute(*[summarize(block) for block in blocks])
            self.population_ = np.sum([part[0] for part in parts], axis=0)
            self.inertia_ = float(sum(part[1] for part in parts))
        else:
            nearest, sq_distance = self._search.query(X, k=1)
            self.labels_ = nearest[:, 0]
            self.population_ = np.bincount(self.labels_, minlength=len(self.cluster_centers_))
            self.inertia_ = float(sq_distance.sum(dtype=np.float64))
        return self

    def predict(self, X: Any) -> Any:
        """Find the nearest centroid of each row.

        Parameters
        ----------
        X : NumPy or Dask array of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        int32 array of shape (n_samples,)
            Nearest centroids, ties to the lower index; lazy for a Dask array.

        Raises
        ------
        ValueError
            If a value is not finite, or the features are not those that were fitted.
        """
        check_is_fitted(self, "cluster_centers_")
        X = self._validated(X, reset=False)
        if isinstance(X, da.Array):
            nearest = partial(_nearest, self._search)
            return da.map_blocks(nearest, X, drop_axis=1, meta=np.empty(0, dtype=np.int32))
        return _nearest(self._search, X)

    def _validated(self, X: Any, *, reset: bool) -> Any:
        """Check the rows as far as that is possible without computing them."""
        X = validated_rows(self, X, reset=reset, dtypes=["float64", "float32"])
        if reset and np.isnan(X.shape[0]):
            msg = f"`X` must have known chunk sizes; got shape {X.shape}. Call X.compute_chunk_sizes()."
            raise ValueError(msg)
        return X

    def _wanted_centroids(self, n_samples: int) -> int:
        """Return the number of centroids for this many rows."""
        if self.n_centroids == "auto":
            return auto_n_centroids(n_samples)
        if isinstance(self.n_centroids, str):
            msg = f"`n_centroids` must be an integer or 'auto'; got {self.n_centroids!r}. Set it."
            raise ValueError(msg)
        return int(self.n_centroids)


def _delayed_blocks(X: Any) -> list[Any]:
    """Cut rows into blocks, read when computed."""
    if isinstance(X, da.Array):
        return list(X.to_delayed().ravel())
    return [X[rows.start : rows.stop] for rows in row_ranges(X.shape[0], BLOCK_ROWS)]


def _gather_sample(X: Any, blocks: list[Any], n_sample: int, seed: int) -> NDArray[Any]:
    """Draw rows from every block and shuffle them."""
    sizes = X.chunks[0] if isinstance(X, da.Array) else [block.shape[0] for block in blocks]
    counts = sample_counts(sizes, n_sample)
    drawn = [
        draw_rows(int(size), int(count), generator(seed, "overcluster/sample", number))
        for number, (size, count) in enumerate(zip(sizes, counts, strict=True))
    ]
    take = delayed(_take)
    parts = compute(*[take(*pair) for pair in zip(blocks, drawn, strict=True)])
    gathered = np.concatenate(parts)
    sample = np.empty_like(gathered)
    sample[sample_destinations(n_sample, seed)] = gathered
    return sample


def _take(block: NDArray[Any], index: NDArray[np.int64]) -> NDArray[Any]:
    """Return listed rows of a block."""
    return as_float_rows(np.asarray(block)[index])


def _nearest(search: NearestCentroids, block: NDArray[Any]) -> NDArray[np.int32]:
    """Return the nearest centroid of each row of a block."""
    return search.query(block, k=1)[0][:, 0]


def _summarize_block(
    search: NearestCentroids, block: NDArray[Any]
) -> tuple[NDArray[np.int64], float]:
    """Return the population of each cell and the sum of squared distances of a block."""
    nearest, sq_distance = search.query(block, k=1)
    population = np.bincount(nearest[:, 0], minlength=search.n_centroids).astype(np.int64)
    return population, float(sq_distance.sum(dtype=np.float64))
