"""The tree of the centroids against hdbscan on the same centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hdbscan
import numpy as np
from sklearn.metrics import adjusted_rand_score

from benchmarks.measure import Result, alternate
from workflow.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.data import Data

#: Fewest centroids of a cluster for the peer, which cannot count images.
MIN_CENTROIDS = 5


def tree(data: Data) -> Iterator[Result]:
    """Time the tree with its graph and weights against the library without; compare with the truth."""
    centroids, first = data.centroids, data.nearest[:, 0]
    population = np.bincount(first, minlength=len(centroids))
    occupied = bool((population > 0).all())
    graph, dimension = data.graph, data.dimension

    # Loops are compiled when they are first called, or read from the disk.
    build_tree(centroids, np.maximum(population, 1), graph, dimension=dimension)

    def ours():
        return build_tree(centroids, np.maximum(population, 1), graph, dimension=dimension)

    def peer():
        model = hdbscan.HDBSCAN(min_cluster_size=MIN_CENTROIDS, core_dist_n_jobs=1)
        return model.fit(centroids.astype(np.float64))

    ours_s, mine, peer_s, theirs = alternate(ours, peer, data.scale.repeats)
    known = data.truth >= 0
    scores = [
        float(adjusted_rand_score(data.truth[known], labels[first][known]))
        for labels in (mine.label, theirs.labels_)
    ]
    yield Result(
        f"clusters of {len(centroids):,} centroids",
        ours_s,
        "hdbscan on the centroids",
        peer_s,
        f"{mine.n_clusters} and {theirs.labels_.max() + 1} clusters of {data.source.n_sources}; "
        f"ARI {scores[0]:.3f} and {scores[1]:.3f}",
        {"ari": scores[0], "peer_ari": scores[1], "occupied": float(occupied)},
        wanted=10.0,
    )
