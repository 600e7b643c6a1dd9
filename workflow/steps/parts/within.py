"""The covariance of images within the cells of a trial overclustering, and scores whitened by it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.mapper import ArrayRows, SerialMapper
from workflow.numerics import stacked
from workflow.overcluster import NearestCentroids, draw_rows, fit_centroids, sample_counts
from workflow.pca import FloatMoments, block_moments, mean_and_scatter
from workflow.rng import generator
from workflow.threads import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.mapper import Rows

#: Rows of the trial, rows for each of its centroids, and most rounds of k-means.
TRIAL_ROWS, ROWS_PER_CENTROID, MAX_ITER = 20_000, 15, 40
#: Least shrinkage, so that a component without variance within cells stays finite.
MIN_SHRINKAGE = 1e-4


class DrawItem(NamedTuple):
    """Blocks of a partition, and how many rows to draw of each."""

    blocks: Sequence[RowRange]
    n_drawn: list[int]


def within_transform(context: Context, scores: Rows) -> NDArray[np.float64]:
    """Return what scores are multiplied by so that the covariance within cells is the identity.

    Whatever the seed: another one makes no scores stale.
    """
    counts = sample_counts(context.block_sizes, min(TRIAL_ROWS, context.n_samples))
    drawn = context.split(counts.tolist())
    items = [DrawItem(p.blocks, n) for p, n in zip(context.partitions, drawn, strict=True)]
    found: NDArray[np.float64] = context.executor.reduce(
        partial(_draw, scores), items, stacked, transform_of
    )
    return found


def _draw(scores: Rows, item: DrawItem) -> NDArray[np.float32]:
    """Return the rows that are drawn of a partition."""
    found = []
    for block, n in zip(item.blocks, item.n_drawn, strict=True):
        drawn = draw_rows(block.n_rows, n, generator(0, "projection/within", block.start))
        found.append(scores.read(*block)[drawn])
    return np.concatenate(found).astype(np.float32)


def transform_of(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the inverse of the Cholesky factor of the pooled covariance within the cells of a trial.

    The covariance is shrunk towards a multiple of the identity (O. Ledoit and M. Wolf, "A
    well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 88, 2004).
    """
    # scikit-learn is slow to import, and this metric rarely wanted.
    from sklearn.covariance import ledoit_wolf_shrinkage

    n_rows, n_features = rows.shape
    fitted = fit_centroids(
        ArrayRows(rows),
        max(1, n_rows // ROWS_PER_CENTROID),
        seed=0,
        mapper=SerialMapper(),
        max_iter=MAX_ITER,
    )
    centroids = fitted.centroids.astype(np.float32)
    nearest, _ = NearestCentroids.build(centroids).query(rows, k=1)
    left = rows - centroids[nearest[:, 0]]
    # In units of the spread of each component: of the smallest, too, the share that is noise counts.
    spread = np.sqrt(np.diag(_covariance(rows)))
    spread[spread == 0] = 1
    covariance = _covariance(left) / np.outer(spread, spread)
    usual = np.trace(covariance) / n_features
    if not usual > 0:
        return np.eye(n_features)
    with one_blas_thread():
        # Rounded: what BLAS does to the last bits decides nothing.
        share = round(float(ledoit_wolf_shrinkage(left / spread, assume_centered=True)), 4)
        shrunk = (1 - share) * covariance + max(share, MIN_SHRINKAGE) * usual * np.eye(n_features)
        inverse = np.linalg.inv(np.linalg.cholesky(shrunk)) / spread
    return inverse.astype(np.float32).astype(np.float64)


def _covariance(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the covariance of rows, summed in a fixed order."""
    state = block_moments(rows, kind="float")
    assert isinstance(state, FloatMoments)
    return mean_and_scatter(state)[1] / len(rows)
