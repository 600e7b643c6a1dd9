"""The images all benchmarks share: those of the demo, as large as a scale says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.ingest import DemoSource
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import NearestCentroids, fit_centroids
from workflow.pca import PCA

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Components of the scores.
N_COMPONENTS = 50
#: Stored set of images that is looked for beside the demo's.
STORED = "mnist"


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
    "small": Scale(120_000, 4_096, 3),
    "full": Scale(480_000, 16_384, 3),
}


class Data:
    """Images, scores and centroids of one scale, each made when first asked for.

    Parameters
    ----------
    scale : Scale
        How large.
    folder : Path, optional
        Where ``mnist.npz`` may be, with ``images``.
    """

    def __init__(self, scale: Scale, folder: Path | None = None) -> None:
        self.scale = scale
        self.folder = folder
        self.source = DemoSource(scale.n_images, seed=0)
        self._centroids: dict[str, NDArray[np.float32]] = {}

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
        """Scores of the demo's images: float32 array of shape (n_images, 50)."""
        return _scores(self.images)

    @cached_property
    def score_sets(self) -> dict[str, NDArray[np.float32]]:
        """Scores by the name of the images, in an order without meaning."""
        sets = {"demo scores": self.scores}
        if self.folder is not None:
            with np.load(self.folder / f"{STORED}.npz") as stored:
                images = stored["images"][: self.scale.n_images]
            order = np.random.default_rng(0).permutation(len(images))
            sets[f"{STORED} scores"] = _scores(images.reshape(len(images), -1))[order]
        return sets

    def n_centroids_of(self, name: str) -> int:
        """Return how many centroids a set can carry: one for four rows at most."""
        return min(self.scale.n_centroids, len(self.score_sets[name]) // 4)

    def centroids_of(self, name: str) -> NDArray[np.float32]:
        """Centroids fitted on all scores of a set: float32 array of shape (n_centroids, 50)."""
        if name not in self._centroids:
            rows = ArrayRows(self.score_sets[name])
            n_centroids = self.n_centroids_of(name)
            fitted = fit_centroids(rows, n_centroids, seed=0, mapper=SerialMapper())
            self._centroids[name] = fitted.centroids
        return self._centroids[name]

    @property
    def centroids(self) -> NDArray[np.float32]:
        """Centroids of the demo's scores."""
        return self.centroids_of("demo scores")

    @cached_property
    def nearest(self) -> NDArray[np.int32]:
        """Nearest three centroids of each image."""
        return NearestCentroids.build(self.centroids).query(self.scores, k=3)[0]

    @cached_property
    def graph(self) -> Graph:
        """The centroid graph, as `workflow.tree.build_tree` takes it."""
        counts = count_pairs(self.nearest, len(self.centroids))
        return centroid_graph(counts, len(self.centroids))

    @cached_property
    def dimension(self) -> float:
        """Intrinsic dimension of the scores."""
        return intrinsic_dimension(self.scores, max_queries=min(2_000, self.scale.n_images))


def _scores(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return scores on the first components."""
    n_components = min(N_COMPONENTS, images.shape[1])
    return PCA(n_components=n_components).fit_transform(images).astype(np.float32)
