"""Other methods: one function from scores to labels for each peer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from hdbscan import HDBSCAN
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from benchmarks.internals import partitions
from benchmarks.quality.agreement import Labels, n_clusters
from benchmarks.quality.clustering import (
    Clustering,
    Scores,
    cluster_scores,
    families_of,
    neighbors_of,
)
from workflow.families import neighbor_graph
from workflow.graph import Graph

#: Minimum of centroids in a cluster, for a peer that cannot count images.
MIN_CENTROIDS = 5
#: Minimum of images in a cluster, as a share of the mean true cluster.
SIZE_SHARE = 0.1
#: UMAP's settings for clustering, from its documentation.
UMAP_NEIGHBORS, UMAP_MIN_DIST = 30, 0.0
#: Resolution at which Leiden's communities are as small as families.
FINE_RESOLUTION = 32
#: Rows on which a peer that compiles itself does so before it is timed; fewer take other code.
WARM_ROWS = 5_000
#: Peers that have done so, and whether on so many rows.
_COMPILED: set[tuple[str, bool]] = set()
#: What is asked of a method: clusters, or the finest groups that it tells.
Level = Literal["clusters", "families"]
_LEIDEN = {"leidenalg": "leidenalg", "igraph": "igraph"}


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

    @cached_property
    def graph(self) -> Graph:
        """The graph of the images that families are found on, for peers that take one."""
        return neighbor_graph(*neighbors_of(self.scores))

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
    solve: Callable[[Problem, Level], Labels]
    #: What it imports that may not be installed: module -> distribution.
    modules: dict[str, str] = field(default_factory=dict)
    #: Images above which it is left out: it would take more than minutes.
    max_images: int | None = None
    #: Whether its first call compiles; what of the problem it is given, whose making is not timed.
    compiles: bool = False
    given: Literal["rows", "graph", "ours"] = "rows"

    @property
    def missing(self) -> list[str]:
        """Distributions that are not installed."""
        return [dist for module, dist in self.modules.items() if find_spec(module) is None]

    @property
    def versions(self) -> str:
        """Names and versions of what it imports."""
        return ", ".join(f"{dist} {version(dist)}" for dist in self.modules.values())


def timed(peer: Peer, problem: Problem, level: Level = "clusters") -> tuple[Labels, float]:
    """Return a peer's labels and its processor seconds, from what it is given to labels."""
    kind = (peer.name, len(problem.rows) >= WARM_ROWS)
    if peer.compiles and kind not in _COMPILED:
        rows = problem.rows[:WARM_ROWS]
        first = Scores(rows, partitions(len(rows), len(rows)))
        peer.solve(Problem(first, problem.truth[:WARM_ROWS], problem.seed), level)
        _COMPILED.add(kind)
    # Made before the time is taken.
    _ = getattr(problem, peer.given)
    started = time.process_time()
    labels = peer.solve(problem, level)
    return labels, time.process_time() - started


def _ours(problem: Problem, level: Level) -> Labels:
    # Not `problem.ours`, which others may have computed already: this one is timed.
    if level == "families":
        return families_of(problem.scores).family
    return cluster_scores(problem.scores, problem.seed).labels.label


def _kmeans(problem: Problem, _: Level) -> Labels:
    model = MiniBatchKMeans(problem.n_true, batch_size=4_096, n_init=3, random_state=problem.seed)
    return model.fit_predict(problem.rows)


def _selection(problem: Problem, level: Level) -> dict[str, Any]:
    """Return the settings of an HDBSCAN: leaves of its tree are the finest that it tells."""
    size = problem.min_cluster_size
    if level == "clusters":
        return {"min_cluster_size": size}
    return {"min_cluster_size": size, "cluster_selection_method": "leaf"}


def _hdbscan_centroids(problem: Problem, _: Level) -> Labels:
    model = HDBSCAN(min_cluster_size=MIN_CENTROIDS, core_dist_n_jobs=1)
    centroids = problem.ours.centroids.astype(np.float64)
    return model.fit_predict(centroids)[problem.ours.labels.centroid]


def _hdbscan_points(problem: Problem, level: Level) -> Labels:
    model = HDBSCAN(core_dist_n_jobs=1, **_selection(problem, level))
    return model.fit_predict(problem.rows.astype(np.float64))


def _fast_hdbscan(problem: Problem, level: Level) -> Labels:
    model = import_module("fast_hdbscan").HDBSCAN(**_selection(problem, level))
    return model.fit_predict(problem.rows)


def _layer(model: Any, problem: Problem, level: Level) -> Labels:
    """Return the labels of a model that tells layers, the finest first."""
    labels = model.fit_predict(problem.rows)
    return labels if level == "clusters" else model.cluster_layers_[0]


def _plscan(problem: Problem, level: Level) -> Labels:
    return _layer(import_module("fast_hdbscan").PLSCAN(), problem, level)


def _evoc(problem: Problem, level: Level) -> Labels:
    return _layer(import_module("evoc").EVoC(random_state=problem.seed), problem, level)


def _umap_hdbscan(problem: Problem, level: Level) -> Labels:
    umap = import_module("umap").UMAP(
        n_neighbors=min(UMAP_NEIGHBORS, len(problem.rows) - 1),
        min_dist=UMAP_MIN_DIST,
        random_state=problem.seed,
        n_jobs=1,
    )
    embedded = umap.fit_transform(problem.rows)
    model = HDBSCAN(core_dist_n_jobs=1, **_selection(problem, level))
    return model.fit_predict(embedded.astype(np.float64))


def _edges(graph: Graph) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return both ends of each edge of a graph, and its weight."""
    start = graph.rows()
    once = start < graph.indices
    return np.stack([start, graph.indices], axis=1)[once], graph.weights[once].astype(float)


def _leiden(graph: Graph, resolution: float, seed: int) -> Labels:
    ends, weights = _edges(graph)
    leidenalg = import_module("leidenalg")
    found = leidenalg.find_partition(
        import_module("igraph").Graph(n=graph.n_nodes, edges=ends.tolist()),
        leidenalg.RBConfigurationVertexPartition,
        weights=weights.tolist(),
        n_iterations=-1,
        seed=seed,
        resolution_parameter=resolution,
    )
    return np.asarray(found.membership)


def _leiden_centroids(problem: Problem, _: Level) -> Labels:
    found = _leiden(problem.ours.graph, 1, problem.seed)
    return found[problem.ours.labels.centroid]


def _leiden_images(problem: Problem, level: Level) -> Labels:
    resolution = 1 if level == "clusters" else FINE_RESOLUTION
    return _leiden(problem.graph, resolution, problem.seed)


def _infomap(problem: Problem, level: Level) -> Labels:
    ends, weights = _edges(problem.graph)
    is_flat = level == "families"
    model = import_module("infomap").Infomap(silent=True, seed=problem.seed + 1, two_level=is_flat)
    model.add_nodes(range(len(problem.rows)))
    model.add_links(np.column_stack([ends, weights]))
    modules = model.run().modules()
    return np.array([modules[row] for row in range(len(problem.rows))])


#: Name of this package among the methods.
OURS = "ours"
_GIVEN_SIZE = "given a tenth of the mean cluster size"
_LEAVES = "families: the leaves of its tree"
_LAYER = "families: its finest layer"
_ALL = (
    Peer(OURS, "this package, default settings: `label`; families: `family`", _ours, compiles=True),
    Peer("k-means", "scikit-learn MiniBatchKMeans, given the true number of groups", _kmeans),
    Peer(
        "hdbscan", f"hdbscan on the images, {_GIVEN_SIZE}; {_LEAVES}", _hdbscan_points,
        max_images=20_000,
    ),
    Peer(
        "fast-hdbscan", f"fast_hdbscan on the images, {_GIVEN_SIZE}; {_LEAVES}", _fast_hdbscan,
        {"fast_hdbscan": "fast-hdbscan"}, max_images=100_000, compiles=True,
    ),
    Peer(
        "plscan", f"fast_hdbscan's PLSCAN, default settings; {_LAYER}", _plscan,
        {"fast_hdbscan": "fast-hdbscan"}, max_images=100_000, compiles=True,
    ),
    Peer(
        "evoc", f"EVoC, default settings; {_LAYER}", _evoc, {"evoc": "evoc"}, max_images=100_000,
        compiles=True,
    ),
    Peer(
        "umap-hdbscan", f"UMAP to 2 dimensions, then hdbscan, {_GIVEN_SIZE}; {_LEAVES}",
        _umap_hdbscan, {"umap": "umap-learn"}, max_images=100_000, compiles=True,
    ),
    Peer(
        "leiden", f"Leiden's modularity on the graph of the images; families: resolution {FINE_RESOLUTION}",
        _leiden_images, _LEIDEN, max_images=100_000, given="graph",
    ),
    Peer(
        "infomap", "Infomap on the graph of the images: the top modules of its tree; families: those of two levels",
        _infomap, {"infomap": "infomap"}, max_images=100_000, given="graph",
    ),
    Peer(
        "hdbscan-centroids", f"hdbscan on our centroids, {MIN_CENTROIDS} centroids a cluster",
        _hdbscan_centroids, given="ours",
    ),
    Peer(
        "leiden-centroids", "Leiden's modularity on our centroid graph", _leiden_centroids,
        _LEIDEN, given="ours",
    ),
)  # fmt: skip
PEERS = {peer.name: peer for peer in _ALL}


def installed() -> list[Peer]:
    """Return the methods that can run here."""
    return [peer for peer in PEERS.values() if not peer.missing]


def absent() -> list[str]:
    """Return what is missing for the others: ``"evoc (evoc)"``."""
    return [f"{p.name} ({', '.join(p.missing)})" for p in PEERS.values() if p.missing]
