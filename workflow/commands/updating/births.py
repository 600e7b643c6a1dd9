"""Centroids that are born for added images which no old one explains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import NearestCentroids, fit_centroids
from workflow.rng import generator
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.mapper import Rows

#: Far images that births are fitted on, at most.
MAX_ROWS = 200_000
#: Fewest images of a birth, whatever the cells of the run have.
MIN_IMAGES = 5
#: A birth brings its images so much nearer to a centroid, or is none: the tails of old cells come a tenth nearer.
NEARER = 0.75
#: Rows that are read at a time.
ROWS_AT_ONCE = 2**18


@dataclass(frozen=True, slots=True)
class Births:
    """Finds centroids for added images that lie far out; one task.

    Attributes
    ----------
    scores : Rows
        Scores of the added images.
    nearest : Path
        Group with the squared distances to their nearest centroids.
    usual_distance : float
        Images farther from their centroid lie far out [score].
    cell_images : float
        Images of a cell of the run, on average.
    most : int
        Most centroids that may be born.
    seed : int
        Seed of the run.
    """

    scores: Rows
    nearest: Path
    usual_distance: float
    cell_images: float
    most: int
    seed: int

    def __call__(self, _: Any = None) -> NDArray[np.float32]:
        """Return the centroids that are born.

        Returns
        -------
        float32 array of shape (n_born, n_components)
            The largest groups first; of no more than `most`.
        """
        rows, distance = self._far()
        smallest = max(MIN_IMAGES, math.ceil(self.cell_images / 2))
        n_wanted = min(self.most, round(len(rows) / self.cell_images))
        if len(rows) < smallest or n_wanted < 1:
            return rows[:0]
        order = generator(self.seed, "births").permutation(len(rows))[:MAX_ROWS]
        rows, distance = rows[order], distance[order]
        fitted = fit_centroids(ArrayRows(rows), n_wanted, seed=self.seed, mapper=SerialMapper())
        centroids = fitted.centroids.astype(np.float32)
        nearest, sq_distance = NearestCentroids.build(centroids).query(rows, k=1)
        nearest, near = nearest[:, 0], np.sqrt(sq_distance[:, 0])
        is_gained = near < NEARER * distance
        gained = np.bincount(nearest[is_gained], minlength=len(centroids))
        order = np.argsort(-gained, kind="stable")
        born: NDArray[np.float32] = centroids[order[gained[order] >= smallest]]
        return born

    def _far(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the scores of images that lie far out, and how far."""
        n_samples: int = self.scores.n_samples
        rows, distances = (
            [np.empty((0, self.scores.n_features), np.float32)],
            [np.empty(0, np.float32)],
        )
        for start, stop in row_ranges(n_samples, ROWS_AT_ONCE):
            distance = np.sqrt(zarr_io.read_rows(self.nearest, "sq_distance", start, stop)[:, 0])
            is_far = distance > self.usual_distance
            if is_far.any():
                rows.append(self.scores.read(start, stop)[is_far].astype(np.float32, copy=False))
                distances.append(distance[is_far])
        return np.concatenate(rows), np.concatenate(distances)
