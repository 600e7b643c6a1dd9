"""The images all benchmarks share: those of the demo, as large as a scale says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import natural_windows, smooth_sources
from workflow.ingest import DemoSource
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import fit_centroids
from workflow.pca import PCA

#: Components of the scores.
N_COMPONENTS = 50
#: Stored set of images that is looked for beside the demo's.
STORED = "mnist"
#: Images in which bounds rule out less than in the demo's.
MADE = {"natural windows": natural_windows, "noisy sources": smooth_sources}


@dataclass(frozen=True)
class Scale:
    """How large the problems are, and how often each side is timed."""

    n_images: int
    n_centroids: int
    repeats: int


SCALES = {
    "tiny": Scale(6_000, 150, 1),
    "small": Scale(120_000, 4_096, 3),
    "full": Scale(480_000, 16_384, 3),
}


class Data:
    """Images, scores and centroids of one scale, each made when it is first used.

    A folder may hold ``mnist.npz``, whose ``images`` are the second set.
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
        for name, make in MADE.items():
            sets[f"{name} scores"] = _scores(make(self.scale.n_images))
        if self.folder is not None:
            with np.load(self.folder / f"{STORED}.npz") as stored:
                images = stored["images"][: self.scale.n_images]
            order = np.random.default_rng(0).permutation(len(images))
            sets[f"{STORED} scores"] = _scores(images.reshape(len(images), -1))[order]
        return sets

    def n_centroids_of(self, name: str) -> int:
        """Return how many centroids a set is given: one for four rows at most."""
        return min(self.scale.n_centroids, len(self.score_sets[name]) // 4)

    def centroids_of(self, name: str) -> NDArray[np.float32]:
        """Centroids fitted on all scores of a set: float32 array of shape (n_centroids, 50)."""
        if name not in self._centroids:
            rows = ArrayRows(self.score_sets[name])
            n_centroids = self.n_centroids_of(name)
            fitted = fit_centroids(rows, n_centroids, seed=0, mapper=SerialMapper())
            self._centroids[name] = fitted.centroids
        return self._centroids[name]


def _scores(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return scores on the first components."""
    n_components = min(N_COMPONENTS, images.shape[1])
    return PCA(n_components=n_components).fit_transform(images).astype(np.float32)
