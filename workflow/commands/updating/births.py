"""Centroids that are born for added images which no old one explains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

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
#: Images farther from their centroid than so many of the radii around it may be of a birth, too.
FAR_RADII = 2.0
#: Rows that are read at a time.
ROWS_AT_ONCE = 2**18


class Added(NamedTuple):
    """Images that were added to a run.

    Attributes
    ----------
    scores : Rows
        Scores.
    nearest : Path
        Group with their nearest centroids, and the squared distances to these.
    first_row : int
        The first of them that counts, of both.
    """

    scores: Rows
    nearest: Path
    first_row: int = 0


@dataclass(frozen=True, slots=True)
class Births:
    """Finds centroids for added images that lie far out; one task.

    Attributes
    ----------
    added : tuple of Added
        The images: those that come, and those that came before and may have been too few.
    usual_distance : float
        Images farther from their centroid lie far out [score].
    radius_sq : float32 array of shape (n_centroids,)
        Squared radius around each centroid that outliers are measured by.
    cell_images : float
        Images of a cell of the run, on average.
    most : int
        Most centroids that may be born.
    seed : int
        Seed of the run.
    """

    added: tuple[Added, ...]
    usual_distance: float
    radius_sq: NDArray[np.float32]
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
        n_wanted = min(self.most, round(len(rows) / (2 * smallest)))
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
        rows = [np.empty((0, self.added[0].scores.n_features), np.float32)]
        distances = [np.empty(0, np.float32)]
        limit = FAR_RADII**2 * self.radius_sq
        for scores, group, first in self.added:
            for start, stop in row_ranges(scores.n_samples - first, ROWS_AT_ONCE):
                here = first + start, first + stop
                nearest = zarr_io.read_rows(group, "nearest", *here)[:, 0]
                sq_distance = zarr_io.read_rows(group, "sq_distance", *here)[:, 0]
                distance = np.sqrt(sq_distance)
                is_far = (distance > self.usual_distance) | (sq_distance > limit[nearest])
                if is_far.any():
                    rows.append(scores.read(*here)[is_far].astype(np.float32, copy=False))
                    distances.append(distance[is_far])
        return np.concatenate(rows), np.concatenate(distances)
