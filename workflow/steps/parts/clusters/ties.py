"""How centroids of before are tied to those of now: by the images that are nearest to both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.labels.lineage import Overlap, add_overlaps, overlap_of, sum_overlaps
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import Executor
    from workflow.engine.partitions import Partition
    from workflow.runstore import RunStore


class Ties(NamedTuple):
    """Images that pairs of a centroid of before and one of now have in common.

    Attributes
    ----------
    images : Overlap
        The pairs, and how many images of each.
    n_centroids : int
        Number of centroids now.
    are_moved : bool
        Whether they are others than before.
    n_left : int64 array of shape (n_centroids_before,), optional [images]
        Images of each centroid of before that have left the run.
    """

    images: Overlap
    n_centroids: int
    are_moved: bool
    n_left: NDArray[np.int64] | None = None

    @classmethod
    def same(cls, population: NDArray[np.int64]) -> Ties:
        """Return those of centroids that stay where they are; such as come after them are new."""
        centroids = np.arange(len(population))
        return cls(Overlap(centroids, centroids, population), len(population), are_moved=False)

    @classmethod
    def unknown(cls, population: NDArray[np.int64]) -> Ties:
        """Return those of centroids of which nothing is known but how many images they have."""
        centroids = np.arange(len(population))
        pairs = Overlap(np.full(len(population), -1), centroids, population)
        return cls(pairs, len(population), are_moved=True)

    @property
    def of_old_images(self) -> Ties:
        """Those of the images that there were before: ids and names do not depend on how many have come since."""
        was_there = self.images.before >= 0
        if not was_there.any():
            return self
        return self._replace(images=Overlap(*(values[was_there] for values in self.images)))

    def overlap(self, before: NDArray[Any], now: NDArray[Any]) -> Overlap:
        """Return the overlap of two labels of the centroids; new centroids had none."""
        n_new = max(0, int(self.images.before.max(initial=-1)) + 1 - len(before))
        # One more, so that no centroid, -1, has no label.
        padded = np.append(before, np.full(n_new + 1, -1))
        return overlap_of(padded[self.images.before], now[self.images.now], self.images.images)

    def with_left(self, overlap: Overlap, before: NDArray[Any]) -> Overlap:
        """Return an overlap with the images that have left the run: they have no label now."""
        if self.n_left is None:
            return overlap
        left = overlap_of(before, np.full(len(before), -1), self.n_left)
        return sum_overlaps([overlap, left])


def ties_to_before(executor: Executor, store: RunStore, partitions: Sequence[Partition]) -> Ties:
    """Count the images that centroids of the labels in place share with those that were found since."""
    labels = store.path / layout.LABELS
    (population,) = store.read_model("population")
    if not labels.is_dir() or "centroid" not in zarr_io.array_names(labels):
        return Ties.unknown(population)
    task = SharedImages(labels, layout.nearest(store.path))
    shared = executor.reduce(task, list(partitions), add_overlaps)
    return Ties(shared, len(population), are_moved=True)


@dataclass(frozen=True, slots=True)
class SharedImages:
    """Counts the images of each pair of a centroid of before and one of now, in the rows of a partition."""

    labels: Path
    nearest: Path

    def __call__(self, partition: Partition) -> Overlap:
        """Return the pairs and their images."""
        rows = partition.blocks[0].start, partition.blocks[-1].stop
        before = zarr_io.read_rows(self.labels, "centroid", *rows)
        now = zarr_io.read_rows(self.nearest, "nearest", *rows)[:, 0]
        return overlap_of(before, now, np.ones(len(now), np.int64))
