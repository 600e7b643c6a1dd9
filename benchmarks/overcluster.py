"""Nearest centroids against a plain product, scikit-learn and faiss; fitting against MiniBatchKMeans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from benchmarks.measure import Result, alternate
from workflow.blocks import ArrayRows, SerialMapper, one_blas_thread
from workflow.overcluster import NearestCentroids, fit_centroids

try:
    import faiss
except ImportError:
    faiss = None

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from benchmarks.data import Data

#: Most rows of a search, and rows of a panel of the plain product.
MAX_ROWS, PANEL_ROWS = 65_536, 1_024


def nearest(data: Data) -> Iterator[Result]:
    """Time the exact search for two centroids against ways to find them or the first alone."""
    rows, centroids = data.scores[:MAX_ROWS], data.centroids
    search = NearestCentroids.build(centroids)

    def ours():
        with one_blas_thread():
            return search.query(rows, k=2)[0]

    # The first search of an installation compiles its loops, or reads them from the disk.
    search.query(rows[:1], k=2)
    for name, peer in _searches(rows, centroids):
        ours_s, mine, peer_s, theirs = alternate(ours, peer, data.scale.repeats)
        n_found = theirs.shape[1]
        same = float((mine[:, :n_found] == theirs).mean())
        yield Result(
            f"nearest 2 of {len(centroids):,} centroids, {len(rows):,} rows",
            ours_s,
            f"{name} (finds {n_found})",
            peer_s,
            f"{same:.5f} of its answers are ours",
            {"same": same},
        )


def _searches(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> Iterator[tuple[str, Callable[[], NDArray[np.integer]]]]:
    """Yield the peers that are installed."""

    def product():
        half_norm = np.square(centroids).sum(axis=1) / 2
        found = np.empty((len(rows), 2), np.int64)
        with one_blas_thread():
            for start in range(0, len(rows), PANEL_ROWS):
                score = half_norm - rows[start : start + PANEL_ROWS] @ centroids.T
                two = np.argpartition(score, 1, axis=1)[:, :2]
                order = np.take_along_axis(score, two, axis=1).argsort(axis=1)
                found[start : start + PANEL_ROWS] = np.take_along_axis(two, order, axis=1)
        return found

    def sklearn():
        return pairwise_distances_argmin(rows, centroids)[:, None]

    def flat():
        faiss.omp_set_num_threads(1)
        index = faiss.IndexFlatL2(centroids.shape[1])
        index.add(centroids)
        return index.search(rows, 2)[1]

    yield "NumPy product and argpartition", product
    yield "scikit-learn pairwise_distances_argmin", sklearn
    if faiss is not None:
        yield "faiss IndexFlatL2, one thread", flat


def absent() -> list[str]:
    """Return the optional peers that are not installed."""
    return [] if faiss is not None else ["faiss"]


def fitting(data: Data) -> Iterator[Result]:
    """Time fitted centroids against scikit-learn's mini-batch k-means; compare inertia on all rows."""
    rows, n_centroids = data.scores, data.scale.n_centroids

    def ours():
        return fit_centroids(ArrayRows(rows), n_centroids, seed=0, mapper=SerialMapper()).centroids

    def peer():
        model = MiniBatchKMeans(n_centroids, batch_size=4 * n_centroids, n_init=1, random_state=0)
        return model.fit(rows).cluster_centers_

    ours_s, mine, peer_s, theirs = alternate(ours, peer, 1)
    inertias, n_empty = [], []
    for centroids in (mine, theirs):
        found, sq_distance = NearestCentroids.build(centroids).query(rows, k=1)
        inertias.append(float(sq_distance.sum(dtype=np.float64)))
        n_empty.append(len(centroids) - len(np.unique(found)))
    yield Result(
        f"{n_centroids:,} centroids fitted to {len(rows):,} x {rows.shape[1]} scores",
        ours_s,
        "scikit-learn MiniBatchKMeans",
        peer_s,
        f"inertia {inertias[0] / inertias[1]:.4f} of theirs; {n_empty[0]} and {n_empty[1]} empty",
        {"inertia_ratio": inertias[0] / inertias[1], "n_empty": n_empty[0]},
    )
