"""Nearest centroids and their fitting against faiss, scikit-learn and a plain product."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin

from benchmarks.data import MADE, Data
from benchmarks.measure import Result, alternate
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import NearestCentroids, fit_centroids
from workflow.threads import one_blas_thread

try:
    import faiss
except ImportError:
    faiss = None

#: Rows of a search, and of a batch of the plain product.
MAX_ROWS, BATCH_ROWS = 65_536, 1_024
#: Centroids above which scikit-learn takes longer than anyone waits.
MAX_SKLEARN_CENTROIDS = 4_096
#: Iterations of faiss.
FAISS_ITER = 10
#: Times faster that a search should be where bounds rule out little.
NEVER_SLOWER = 1.0


def nearest(data: Data) -> Iterator[Result]:
    """Time the exact search for two centroids against ways to find them or the first alone."""
    for name, scores in data.score_sets.items():
        rows, centroids = scores[:MAX_ROWS], data.centroids_of(name)
        search = NearestCentroids.build(centroids)

        def ours(search: NearestCentroids = search, rows: NDArray[np.float32] = rows):
            with one_blas_thread():
                return search.query(rows, k=2)[0]

        # The first search of an installation compiles its loops, or reads them from the disk.
        search.query(rows[:1], k=2)
        for peer_name, peer, wanted in _searches(rows, centroids):
            ours_s, mine, peer_s, theirs = alternate(ours, peer, data.scale.repeats)
            n_found = theirs.shape[1]
            same = float((mine[:, :n_found] == theirs).mean())
            yield Result(
                f"nearest 2 of {len(centroids):,} centroids, {len(rows):,} rows of {name}", ours_s,
                f"{peer_name} (finds {n_found})", peer_s, f"{same:.5f} of its answers are ours",
                {"same": same},
                _wanted(name, wanted, NEVER_SLOWER),
            )  # fmt: skip


def _searches(
    rows: NDArray[np.float32], centroids: NDArray[np.float32]
) -> Iterator[tuple[str, Callable[[], NDArray[np.integer]], float | None]]:
    """Yield the peers that are installed, and how many times faster it should be."""

    def product():
        half_norm = np.square(centroids).sum(axis=1) / 2
        found = np.empty((len(rows), 2), np.int64)
        with one_blas_thread():
            for start in range(0, len(rows), BATCH_ROWS):
                score = half_norm - rows[start : start + BATCH_ROWS] @ centroids.T
                two = np.argpartition(score, 1, axis=1)[:, :2]
                order = np.take_along_axis(score, two, axis=1).argsort(axis=1)
                found[start : start + BATCH_ROWS] = np.take_along_axis(two, order, axis=1)
        return found

    def sklearn():
        with one_blas_thread():
            return pairwise_distances_argmin(rows, centroids)[:, None]

    def flat():
        faiss.omp_set_num_threads(1)
        return faiss.knn(rows, centroids, 2)[1]

    if faiss is not None:
        yield "faiss.knn, one thread", flat, 3.0
    if len(centroids) <= MAX_SKLEARN_CENTROIDS:
        yield "NumPy product and argpartition", product, None
        yield "scikit-learn pairwise_distances_argmin", sklearn, None


def _wanted(name: str, usual: float | None, where_bounds_do_little: float) -> float | None:
    """Return how many times faster than a peer a set should be, if it should."""
    has_little = usual is not None and name.removesuffix(" scores") in MADE
    return where_bounds_do_little if has_little else usual


def absent() -> list[str]:
    """Return the optional peers that are not installed."""
    return [] if faiss is not None else ["faiss"]


def fitting(data: Data) -> Iterator[Result]:
    """Time fitted centroids against faiss and mini-batch k-means; compare errors over all rows."""
    for name, rows in data.score_sets.items():
        n_centroids = data.n_centroids_of(name)

        def ours(rows: NDArray[np.float32] = rows, n_centroids: int = n_centroids):
            fitted = fit_centroids(ArrayRows(rows), n_centroids, seed=0, mapper=SerialMapper())
            return fitted.centroids

        for peer_name, peer, wanted in _fits(rows, n_centroids):
            ours_s, mine, peer_s, theirs = alternate(ours, peer, 1)
            error, n_empty = _quality(rows, mine)
            peer_error, peer_empty = _quality(rows, theirs)
            yield Result(
                f"{n_centroids:,} centroids fitted to {len(rows):,} x {rows.shape[1]} {name}",
                ours_s, peer_name, peer_s,
                f"mean squared distance {error / peer_error:.4f} of theirs; "
                f"{n_empty} and {peer_empty} empty",
                {"inertia_ratio": error / peer_error, "n_empty": n_empty},
                _wanted(name, wanted, 1 / 0.7),
            )  # fmt: skip


def _fits(
    rows: NDArray[np.float32], n_centroids: int
) -> Iterator[tuple[str, Callable[[], NDArray[np.floating]], float | None]]:
    """Yield the peers that are installed, and how many times faster it should be."""

    def lloyd():
        faiss.omp_set_num_threads(1)
        model = faiss.Kmeans(rows.shape[1], n_centroids, niter=FAISS_ITER, seed=1)
        model.train(rows)
        return model.centroids

    def mini_batches():
        model = MiniBatchKMeans(n_centroids, batch_size=4 * n_centroids, n_init=1, random_state=0)
        return model.fit(rows).cluster_centers_

    if faiss is not None:
        yield f"faiss.Kmeans, {FAISS_ITER} iterations, one thread", lloyd, 2.0
    if n_centroids <= MAX_SKLEARN_CENTROIDS:
        yield "scikit-learn MiniBatchKMeans", mini_batches, None


def _quality(rows: NDArray[np.float32], centroids: NDArray[np.floating]) -> tuple[float, int]:
    """Return the mean squared distance of all rows, and how many centroids have none."""
    found, sq_distance = NearestCentroids.build(centroids).query(rows, k=1)
    n_empty = len(centroids) - len(np.unique(found))
    return float(sq_distance.mean(dtype=np.float64)), n_empty
