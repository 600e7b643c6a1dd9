"""The tree of the centroids against hdbscan on the same centroids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import hdbscan
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from benchmarks.data import Data
from benchmarks.measure import Result, alternate
from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.graph import Graph
from workflow.overcluster import NearestCentroids
from workflow.tree import ClusterTree, build_tree
from workflow.tree.density.method import MIN_LOG_DENSITY_RISE, density_linkage
from workflow.tree.layers import Cut, Leaves, label_cut
from workflow.tree.nodes import make_nodes
from workflow.tree.selection import Labelling

#: Minimum of centroids in a cluster for the peer, which cannot count images.
MIN_CENTROIDS = 5


class Problem(NamedTuple):
    """Centroids of one set of images (empty for the demo's), with all that a tree is made of."""

    name: str
    centroids: NDArray[np.float32]
    #: Nearest centroid of each image, and images of each centroid, at least 1.
    first: NDArray[np.int32]
    population: NDArray[np.int64]
    #: As `workflow.tree.build_tree` takes it.
    graph: Graph
    #: Intrinsic dimension of the scores.
    dimension: float

    def tree(self) -> ClusterTree:
        """Build the tree as a run does: every method, the choice between them, and layers."""
        return build_tree(self.centroids, self.population, self.graph, dimension=self.dimension)

    def one_linkage(self) -> Labelling:
        """Do what the peer does: one linkage, condensed, clusters chosen and labels given."""
        nodes = make_nodes(self.centroids, self.population, self.graph)
        linkage = density_linkage(nodes, dimension=self.dimension)
        size = round(MIN_CENTROIDS * float(self.population.mean()))
        how = Cut(size, MIN_LOG_DENSITY_RISE / self.dimension, "eom")
        return label_cut(Leaves(linkage, nodes.node, self.population), how)[1]

    def peer(self) -> hdbscan.HDBSCAN:
        """Run the library on the centroids as points."""
        model = hdbscan.HDBSCAN(min_cluster_size=MIN_CENTROIDS, core_dist_n_jobs=1)
        return model.fit(self.centroids.astype(np.float64))


def problems(data: Data) -> Iterator[Problem]:
    """Make the problem of each set of scores, the demo's first."""
    for name, scores in data.score_sets.items():
        centroids = data.centroids_of(name)
        nearest = NearestCentroids.build(centroids).query(scores, k=3)[0]
        graph = centroid_graph(count_pairs(nearest, len(centroids)), len(centroids))
        population = np.bincount(nearest[:, 0], minlength=len(centroids))
        yield Problem(
            "" if scores is data.scores else name.removesuffix("scores"),
            centroids,
            nearest[:, 0],
            np.maximum(population, 1),
            graph,
            intrinsic_dimension(scores, max_queries=min(2_000, len(scores))),
        )


def tree(data: Data) -> Iterator[Result]:
    """Time the whole tree, then one linkage alone, against the library; compare with the truth."""
    for problem in problems(data):
        # Loops are compiled when they are first called, or read from the disk.
        problem.tree()
        what = f"{problem.name}{len(problem.centroids):,} centroids"
        ours_s, mine, peer_s, theirs = alternate(problem.tree, problem.peer, data.scale.repeats)
        numbers = f"{mine.n_clusters} and {theirs.labels_.max() + 1} clusters"
        text, figures = _agreement(data, problem, mine.label, theirs.labels_)
        yield Result(
            f"clusters of {what}", ours_s, "hdbscan on the centroids", peer_s, numbers + text,
            figures,
        )  # fmt: skip
        ours_s, found, peer_s, theirs = alternate(
            problem.one_linkage, problem.peer, data.scale.repeats
        )
        numbers = f"{len(found.selected)} and {theirs.labels_.max() + 1} clusters"
        label = found.label[make_nodes(problem.centroids, problem.population, problem.graph).node]
        text, figures = _agreement(data, problem, label, theirs.labels_)
        yield Result(
            f"one linkage of {what}, cut by density", ours_s, "hdbscan on the centroids", peer_s,
            numbers + text, figures, wanted=10.0,
        )  # fmt: skip


def _agreement(
    data: Data, problem: Problem, label: NDArray[np.int32], other: NDArray[np.int64]
) -> tuple[str, dict[str, float]]:
    """Say how two labellings of the demo's centroids agree with the sources of the images."""
    if problem.name:
        return "", {}
    known = data.truth >= 0
    first = problem.first[known]
    scores = [float(adjusted_rand_score(data.truth[known], of[first])) for of in (label, other)]
    occupied = len(np.unique(problem.first)) == len(problem.centroids)
    text = f" of {data.source.n_sources}; ARI {scores[0]:.3f} and {scores[1]:.3f}"
    return text, {"ari": scores[0], "peer_ari": scores[1], "occupied": float(occupied)}
