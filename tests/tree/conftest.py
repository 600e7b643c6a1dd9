"""Centroids, populations and graphs that the tests of the tree share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from workflow.graph import Graph


class Overclustered(NamedTuple):
    """Images cut into cells, as the steps before the tree leave them."""

    centroids: np.ndarray
    population: np.ndarray
    graph: Graph
    mean_distance: np.ndarray
    nearest: np.ndarray


def counts_to_graph(counts: np.ndarray, of_three: np.ndarray | None = None):
    """Graph of dense symmetric counts, with the weights of three on the same structure."""
    wide = counts if of_three is None else of_three
    matrix = sparse.csr_array(wide)
    rows = np.repeat(np.arange(len(wide)), np.diff(matrix.indptr))
    weights = counts[rows, matrix.indices].astype(np.int64)
    return Graph(
        matrix.indptr.astype(np.int64),
        matrix.indices.astype(np.int32),
        matrix.data.astype(np.int64),
        weights,
    )


def overcluster(images: np.ndarray, n_centroids: int, seed: int = 0) -> Overclustered:
    model = KMeans(n_centroids, init="k-means++", n_init=1, max_iter=8, tol=0.0, random_state=seed)
    centroids = model.fit(images).cluster_centers_.astype(np.float64)
    distance = cdist(images, centroids)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :3]
    assert len(np.unique(nearest[:, 0])) == n_centroids
    population = np.bincount(nearest[:, 0], minlength=n_centroids)
    total = np.bincount(nearest[:, 0], distance.min(axis=1), minlength=n_centroids)
    counts = np.zeros((2, n_centroids, n_centroids), np.int64)
    for pair, (a, b) in enumerate(((0, 1), (0, 2), (1, 2))):
        np.add.at(counts[min(pair, 1)], (nearest[:, a], nearest[:, b]), 1)
    counts = counts + counts.transpose(0, 2, 1)
    graph = counts_to_graph(counts[0], counts[0] + counts[1])
    return Overclustered(centroids, population, graph, total / population, nearest[:, 0])


@pytest.fixture(name="overcluster", scope="session")
def _overcluster():
    return overcluster


@pytest.fixture(name="complete_graph", scope="session")
def _complete_graph():
    def make(n: int):
        return counts_to_graph(np.ones((n, n), np.int64) - np.eye(n, dtype=np.int64))

    return make


@pytest.fixture(name="empty_graph", scope="session")
def _empty_graph():
    def make(n: int):
        return Graph(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))

    return make


@pytest.fixture(scope="session")
def blobs():
    """Ten blobs of unequal size and width and 5 % noise in 8 dimensions, and their centroids."""
    rng = np.random.default_rng(3)
    share = rng.dirichlet(np.full(10, 3.0))
    label = rng.choice(10, 12_000, p=share)
    centers = rng.uniform(-4, 4, (10, 8))
    while np.sort(cdist(centers, centers), axis=1)[:, 1].min() < 4.5:
        centers = rng.uniform(-4, 4, (10, 8))
    images = (
        centers[label] + rng.standard_normal((12_000, 8)) * rng.uniform(0.3, 0.6, 10)[label, None]
    )
    noise = rng.random(12_000) < 0.05
    images[noise] = rng.uniform(-6, 6, (noise.sum(), 8))
    return overcluster(images, 400), np.where(noise, -1, label)


@pytest.fixture(scope="session")
def structureless():
    """One normal and one uniform set, and a ring, by name."""
    rng = np.random.default_rng(0)
    turn = rng.uniform(0, 2 * np.pi, 9_000)
    ring = np.stack([np.cos(turn), np.sin(turn), np.zeros(9_000)], axis=1)
    sets = {
        "normal": rng.standard_normal((9_000, 8)),
        "plane": rng.standard_normal((9_000, 2)),
        "uniform": rng.random((9_000, 5)),
        "ring": ring + 0.02 * rng.standard_normal((9_000, 3)),
    }
    return {name: overcluster(images, 300) for name, images in sets.items()}


#: Intrinsic dimension of each set of `structureless`.
@pytest.fixture(scope="session")
def dimensions():
    return {"normal": 8.0, "plane": 2.0, "uniform": 5.0, "ring": 2.5}


@pytest.fixture(name="same_partition", scope="session")
def _same_partition():
    def same(a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two labellings differ by the names of clusters only; noise is noise."""
        if not np.array_equal(a < 0, b < 0):
            return False
        pairs = np.unique(np.stack([a, b]), axis=1)
        return len(np.unique(a)) == len(np.unique(b)) == pairs.shape[1]

    return same
