"""Other methods: one function from scores to labels for each peer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
from hdbscan import HDBSCAN
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from benchmarks.quality.agreement import Labels, n_clusters
from benchmarks.quality.clustering import Clustering, Scores, cluster_scores

#: Minimum of centroids in a cluster, for a peer that cannot count images.
MIN_CENTROIDS = 5
#: Minimum of images in a cluster, as a share of the mean true cluster.
SIZE_SHARE = 0.1
#: UMAP's settings for clustering, from its documentation.
UMAP_NEIGHBORS, UMAP_MIN_DIST = 30, 0.0
#: Rows on which a peer that compiles itself does so before it is timed; which code, the rows decide.
WARM_ROWS = 2_000


@dataclass(frozen=True)
class Problem:
    """Scores to cluster, and what peers may know beside."""

    scores: Scores
    #: True cluster of each image; peers know the number and the mean size of the clusters.
    truth: Labels
    seed: int

    @cached_property
    def ours(self) -> Clustering:
        """What this package finds; peers on centroids take the centroids and their graph."""
        return cluster_scores(self.scores, self.seed)

    @property
    def rows(self) -> NDArray[np.float32]:
        """The scores as an array."""
        return self.scores.rows

    @property
    def n_true(self) -> int:
        """True number of clusters."""
        return n_clusters(self.truth)

    @property
    def min_cluster_size(self) -> int:
        """A tenth of the mean size of a true cluster: what a user who knows the data would set."""
        return max(5, round(SIZE_SHARE * int((self.truth >= 0).sum()) / self.n_true))


@dataclass(frozen=True)
class Peer:
    """A way of clustering that a user could take."""

    #: Its name in tables and in ``--methods``; one phrase on what it does and which settings it is given.
    name: str
    what: str
    solve: Callable[[Problem], Labels]
    #: What it imports that may not be installed: module -> distribution.
    modules: dict[str, str]
    #: Images above which it is left out: it would take hours or all memory.
    max_images: int | None = None
    #: Whether its first call compiles; whether it needs our centroids, whose making is not timed.
    compiles: bool = False
    on_centroids: bool = False

    @property
    def missing(self) -> list[str]:
        """Distributions that are not installed."""
        return [dist for module, dist in self.modules.items() if find_spec(module) is None]

    @property
    def versions(self) -> str:
        """Names and versions of what it imports."""
        return ", ".join(f"{dist} {version(dist)}" for dist in self.modules.values())


def timed(peer: Peer, problem: Problem) -> tuple[Labels, float]:
    """Return a peer's labels and its seconds, from scores (or centroids) to labels."""
    if peer.compiles:
        _warm(peer, problem)
    if peer.on_centroids:
        _ = problem.ours
    started = time.perf_counter()
    labels = peer.solve(problem)
    return labels, time.perf_counter() - started


def _warm(peer: Peer, problem: Problem) -> None:
    """Let a peer compile what it compiles for such rows, on the first of them."""
    first = Scores(problem.rows[:WARM_ROWS], [])
    peer.solve(Problem(first, problem.truth[:WARM_ROWS], problem.seed))


def _ours(problem: Problem) -> Labels:
    # Not `problem.ours`, which others may have computed already: this one is timed.
    return cluster_scores(problem.scores, problem.seed).labels.label


def _kmeans(problem: Problem) -> Labels:
    model = MiniBatchKMeans(problem.n_true, batch_size=4_096, n_init=3, random_state=problem.seed)
    return model.fit_predict(problem.rows)


def _hdbscan_centroids(problem: Problem) -> Labels:
    model = HDBSCAN(min_cluster_size=MIN_CENTROIDS, core_dist_n_jobs=1)
    centroids = problem.ours.centroids.astype(np.float64)
    return model.fit_predict(centroids)[problem.ours.labels.centroid]


def _hdbscan_points(problem: Problem) -> Labels:
    model = HDBSCAN(min_cluster_size=problem.min_cluster_size, core_dist_n_jobs=1)
    return model.fit_predict(problem.rows.astype(np.float64))


def _fast_hdbscan(problem: Problem) -> Labels:
    model = import_module("fast_hdbscan").HDBSCAN(min_cluster_size=problem.min_cluster_size)
    return model.fit_predict(problem.rows)


def _evoc(problem: Problem) -> Labels:
    model = import_module("evoc").EVoC(random_state=problem.seed)
    return model.fit_predict(problem.rows)


def _umap_hdbscan(problem: Problem) -> Labels:
    umap = import_module("umap").UMAP(
        n_neighbors=min(UMAP_NEIGHBORS, len(problem.rows) - 1),
        min_dist=UMAP_MIN_DIST,
        random_state=problem.seed,
        n_jobs=1,
    )
    embedded = umap.fit_transform(problem.rows)
    model = HDBSCAN(min_cluster_size=problem.min_cluster_size, core_dist_n_jobs=1)
    return model.fit_predict(embedded.astype(np.float64))


def _leiden(problem: Problem) -> Labels:
    igraph, leidenalg = import_module("igraph"), import_module("leidenalg")
    graph = problem.ours.graph
    start = graph.rows()
    once = start < graph.indices
    edges = np.stack([start[once], graph.indices[once]], axis=1)
    found = leidenalg.find_partition(
        igraph.Graph(n=graph.n_nodes, edges=edges.tolist()),
        leidenalg.ModularityVertexPartition,
        weights=graph.weights[once].astype(float).tolist(),
        n_iterations=-1,
        seed=problem.seed,
    )
    return np.asarray(found.membership)[problem.ours.labels.centroid]


#: Name of this package among the methods.
OURS = "ours"
_GIVEN_SIZE = "given a tenth of the mean cluster size"
_ALL = (
    Peer(OURS, "this package, default settings", _ours, {}),
    Peer("k-means", "scikit-learn MiniBatchKMeans, given the true number of clusters", _kmeans, {}),
    Peer(
        "hdbscan-centroids", f"hdbscan on our centroids, {MIN_CENTROIDS} centroids a cluster",
        _hdbscan_centroids, {}, on_centroids=True,
    ),
    Peer(
        "hdbscan", f"hdbscan on the images, {_GIVEN_SIZE}", _hdbscan_points, {}, max_images=20_000
    ),
    Peer(
        "fast-hdbscan", f"fast_hdbscan on the images, {_GIVEN_SIZE}", _fast_hdbscan,
        {"fast_hdbscan": "fast-hdbscan"}, max_images=100_000, compiles=True,
    ),
    Peer(
        "evoc", "EVoC, default settings", _evoc, {"evoc": "evoc"}, max_images=200_000, compiles=True
    ),
    Peer(
        "umap-hdbscan", f"UMAP to 2 dimensions, then hdbscan, {_GIVEN_SIZE}", _umap_hdbscan,
        {"umap": "umap-learn"}, max_images=100_000, compiles=True,
    ),
    Peer(
        "leiden", "Leiden's modularity on our centroid graph, default settings", _leiden,
        {"leidenalg": "leidenalg", "igraph": "igraph"}, on_centroids=True,
    ),
)  # fmt: skip
PEERS = {peer.name: peer for peer in _ALL}


def installed() -> list[Peer]:
    """Return the methods that can run here."""
    return [peer for peer in PEERS.values() if not peer.missing]


def absent() -> list[str]:
    """Return what is missing for the others: ``"evoc (evoc)"``."""
    return [f"{p.name} ({', '.join(p.missing)})" for p in PEERS.values() if p.missing]
