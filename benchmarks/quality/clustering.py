"""What the package does with its default settings, in memory and in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.internals import (
    FEW_IMAGES,
    N_NEAREST,
    TRIAL_ROWS,
    Partition,
    config_class,
    partitions,
    transform_of,
    transformed,
)
from workflow.centroid_graph import (
    centroid_graph,
    count_pairs,
    intrinsic_dimension,
    merge_pair_counts,
)
from workflow.chunks import RowRange, choose_block_rows
from workflow.families import Families, coarse_test, find_families, ties_between
from workflow.graph import Graph
from workflow.labels import RowLabels, centroid_labels, label_rows, order_by_size
from workflow.mapper import ArrayRows, SerialMapper
from workflow.neighbors import nearest_neighbors
from workflow.overcluster import (
    CellSums,
    NearestCentroids,
    auto_n_centroids,
    cell_sums,
    draw_rows,
    fit_centroids,
    merge_cell_sums,
    sample_counts,
    sample_size,
)
from workflow.pca import (
    DEFAULT_RANK,
    about_zero,
    block_moments,
    choose_kind,
    feature_shift,
    merge_moments,
    principal_components,
)
from workflow.projection import project
from workflow.rng import generator
from workflow.tree import ClusterTree, build_tree

T = TypeVar("T")
#: Distances of scores: as they are, with ``pca.whiten``, with ``projection.metric: within``.
Metric = Literal["euclidean", "whiten", "within"]

#: The settings of a run that sets none.
DEFAULTS: Any = config_class()()
#: Rows of the sample read for the intrinsic dimension, for each row whose neighbours are found.
ROWS_PER_QUERY = 10


@dataclass(frozen=True)
class Scores:
    """Scores of shape (n_samples, n_components), in the partitions of a run."""

    rows: NDArray[np.float32]
    parts: list[Partition]


@dataclass(frozen=True)
class Clustering:
    """What a run finds: labels of the images; tree, graph and scores of the centroids."""

    labels: RowLabels
    tree: ClusterTree
    centroids: NDArray[np.float32]
    graph: Graph


def scores_of(images: NDArray[Any], metric: Metric = "euclidean") -> Scores:
    """Find the principal components of images and project the images on them."""
    rows = images.reshape(len(images), -1)
    parts = partitions(len(rows), choose_block_rows(rows.shape[1]))
    kind = choose_kind(rows.dtype, rows.shape[1], max_full_features=DEFAULTS.pca.max_full_features)
    shift = feature_shift(rows[slice(*parts[0].blocks[0])]) if kind == "integer" else None
    state = _merged(
        parts,
        lambda block: block_moments(rows[slice(*block)], kind=kind, shift=shift, rank=DEFAULT_RANK),
        merge_moments,
    )
    found = principal_components(about_zero(state), DEFAULTS.pca.n_components)
    scale = found.explained_variance if metric == "whiten" else None
    blocks = [
        project(rows[slice(*block)], found.mean, found.components, whiten_scale=scale)
        for p in parts
        for block in p.blocks
    ]
    scores = Scores(np.concatenate(blocks), parts)
    if metric != "within":
        return scores
    trial = scores.rows[_drawn(scores, min(TRIAL_ROWS, len(rows)), 0, "projection/within")]
    return Scores(transformed(scores.rows, transform_of(trial)), parts)


def cluster_rows(
    images: NDArray[Any],
    seed: int = 0,
    n_centroids: int | None = None,
    metric: Metric = "euclidean",
) -> Clustering:
    """Cluster images as `workflow.run` does, to the same bits; settings that are not given are its defaults."""
    return cluster_scores(scores_of(images, metric), seed, n_centroids)


def neighbors_of(scores: Scores) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest neighbours of every image, and their distances."""
    index, distance = nearest_neighbors(scores.rows, DEFAULTS.neighbors.k)
    return index.astype(np.int32), distance


def families_of(scores: Scores) -> Families:
    """Find the families as `workflow.run` does with its default settings."""
    return find_families(*neighbors_of(scores), lambda chosen: scores.rows[chosen])


def cluster_scores(
    scores: Scores, seed: int = 0, n_centroids: int | None = None, *, n_resamples: int = 0
) -> Clustering:
    """Cluster scores: everything of `cluster_rows` after the projection."""
    n_samples = len(scores.rows)
    n_centroids = n_centroids or auto_n_centroids(n_samples)
    sample = _sample(scores, seed, n_centroids)
    fitted = fit_centroids(
        ArrayRows(sample),
        n_centroids,
        seed=seed,
        mapper=SerialMapper(),
        max_iter=DEFAULTS.overcluster.max_iter,
    )
    centroids, cells, nearest, sq_distance = _assign(scores, fitted.centroids.astype(np.float32))
    pairs = _merged(
        scores.parts,
        lambda block: count_pairs(nearest[slice(*block)], len(centroids)),
        merge_pair_counts,
    )
    graph = centroid_graph(pairs, len(centroids))
    n_queries = DEFAULTS.centroid_graph.dimension_rows
    dimension = intrinsic_dimension(sample[: ROWS_PER_QUERY * n_queries], max_queries=n_queries)
    few = _tested(scores, nearest[:, 0], len(centroids))
    tree = build_tree(
        centroids,
        cells.population,
        few.pop("graph", graph),
        dimension=dimension,
        mean_distance=cells.distance / cells.population,
        n_resamples=n_resamples,
        **few,
    )
    labels = centroid_labels(
        tree.label,
        tree.membership,
        tree.noise_graph(graph, centroids, dimension),
        centroids=centroids,
        rms_radius=cells.rms_radius,
        population=cells.population,
    )
    # As a run numbers them: by their images.
    label = label_rows(nearest, sq_distance, labels).label
    order = order_by_size(tree.label, np.bincount(label[label >= 0], minlength=tree.n_clusters))
    tree, labels = tree.renumbered(order), labels.renumbered(order)
    return Clustering(label_rows(nearest, sq_distance, labels), tree, centroids, graph)


def _tested(scores: Scores, centroid: NDArray[np.int32], n_centroids: int) -> dict[str, Any]:
    """Return what the graph of few images says of clusters, and that graph between centroids."""
    if len(scores.rows) >= FEW_IMAGES:
        return {}
    index, distance = neighbors_of(scores)
    test = coarse_test(index, distance, lambda chosen: scores.rows[chosen])
    if test.has_clusters is None:
        return {}
    ties, community = ties_between(
        index, distance, centroid, n_centroids, is_clumped=test.is_clumped
    )
    return {"graph": ties, "has_clusters": test.has_clusters, "community": community}


def _merged(
    parts: list[Partition], function: Callable[[RowRange], T], merge: Callable[[T, T], T]
) -> T:
    """Merge what a function gives for each block, first within partitions, as the tasks of a run do."""
    return reduce(merge, (reduce(merge, map(function, part.blocks)) for part in parts))


def _sample(scores: Scores, seed: int, n_centroids: int) -> NDArray[np.float32]:
    """Draw the sample that centroids are fitted on."""
    n_drawn = sample_size(len(scores.rows), n_centroids)
    drawn = _drawn(scores, n_drawn, seed, "overcluster/sample")
    return scores.rows[drawn[generator(seed, "overcluster/shuffle").permutation(len(drawn))]]


def _drawn(scores: Scores, n_drawn: int, seed: int, name: str) -> NDArray[np.int64]:
    """Draw some of the rows, evenly from all blocks."""
    blocks = [block for part in scores.parts for block in part.blocks]
    counts = sample_counts([block.n_rows for block in blocks], n_drawn)
    drawn = [
        block.start + draw_rows(block.n_rows, int(n), generator(seed, name, block.start))
        for block, n in zip(blocks, counts, strict=True)
    ]
    return np.concatenate(drawn)


def _assign(
    scores: Scores, centroids: NDArray[np.float32]
) -> tuple[NDArray[np.float32], CellSums, NDArray[np.int32], NDArray[np.float32]]:
    """Find the nearest three centroids of every row; drop centroids that no row is nearest to."""
    n_samples = len(scores.rows)
    nearest = np.empty((n_samples, N_NEAREST), np.int32)
    sq_distance = np.empty((n_samples, N_NEAREST), np.float32)
    while True:
        search, n_centroids = NearestCentroids.build(centroids), len(centroids)

        def sums(
            block: RowRange, search: NearestCentroids = search, n_centroids: int = n_centroids
        ) -> CellSums:
            here = slice(*block)
            nearest[here], sq_distance[here] = search.query(scores.rows[here], k=N_NEAREST)
            return cell_sums(
                scores.rows[here], block.start, nearest[here], sq_distance[here], n_centroids
            )

        cells = _merged(scores.parts, sums, merge_cell_sums)
        occupied = cells.population > 0
        if occupied.all():
            return centroids, cells, nearest, sq_distance
        centroids = centroids[occupied]
