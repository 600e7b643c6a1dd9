"""The images all benchmarks share: those of the demo, as large as a scale says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.blocks import ArrayRows, SerialMapper
from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.ingest import DemoSource
from workflow.overcluster import NearestCentroids, fit_centroids
from workflow.pca import PCA

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Components of the scores.
N_COMPONENTS = 50


@dataclass(frozen=True)
class Scale:
    """How large the problems are.

    Attributes
    ----------
    n_images : int
        Images.
    n_centroids : int
        Centroids.
    repeats : int
        How often each side is timed.
    """

    n_images: int
    n_centroids: int
    repeats: int


SCALES = {
    "tiny": Scale(6_000, 150, 1),
    "small": Scale(60_000, 2_000, 3),
    "full": Scale(500_000, 16_384, 3),
}


class Data:
    """Images, scores and centroids of one scale, each made when first asked for.

    Parameters
    ----------
    scale : Scale
        How large.
    """

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.source = DemoSource(scale.n_images, seed=0)

    @cached_property
    def images(self) -> NDArray[np.uint8]:
        """Images as rows: uint8 array of shape (n_images, 768)."""
        return self.source.read(0, self.scale.n_images).reshape(self.scale.n_images, -1)

    @cached_property
    def truth(self) -> NDArray[np.int32]:
        """Source of each image; -1 is clutter."""
        return self.source.truth(0, self.scale.n_images)

    @cached_property
    def scores(self) -> NDArray[np.float32]:
        """Scores: float32 array of shape (n_images, 50)."""
        return PCA(n_components=N_COMPONENTS).fit_transform(self.images).astype(np.float32)

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """Centroids fitted on all scores: float32 array of shape (n_centroids, 50)."""
        fitted = fit_centroids(
            ArrayRows(self.scores), self.scale.n_centroids, seed=0, mapper=SerialMapper()
        )
        return fitted.centroids

    @cached_property
    def nearest(self) -> NDArray[np.int32]:
        """Nearest three centroids of each image."""
        return NearestCentroids.build(self.centroids).query(self.scores, k=3)[0]

    @cached_property
    def graph(self) -> tuple[NDArray[Any], ...]:
        """The centroid graph, as `workflow.tree.build_tree` takes it."""
        counts = count_pairs(self.nearest, len(self.centroids))
        graph = centroid_graph(counts, len(self.centroids))
        return graph.indptr, graph.indices, graph.weights_two, graph.weights_three

    @cached_property
    def dimension(self) -> float:
        """Intrinsic dimension of the scores."""
        return intrinsic_dimension(self.scores, max_queries=min(2_000, self.scale.n_images))
