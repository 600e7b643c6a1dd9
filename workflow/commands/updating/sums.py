"""Sums over the cells of a run, to which those of added images are added."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow.centroid_graph import PairCounts
from workflow.chunks import row_ranges
from workflow.overcluster import CellSums
from workflow.runstore import zarr_io
from workflow.runstore.files import read_arrays
from workflow.steps.overcluster import AssignSums, leave_sums, merge_sums

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import StoredArrays

#: Rows that are read at a time to find how far exemplars lie from their centroids.
ROWS_AT_ONCE = 2**20


@dataclass(frozen=True, slots=True)
class MergeSums:
    """Adds sums over cells and counts of pairs to those of a run, and leaves both as its last pass did."""

    model: Path
    nearest: Path
    pairs: Path
    checksum: int
    centroids: StoredArrays
    place: Path
    n_old: int

    def __call__(self, new: tuple[CellSums, PairCounts]) -> AssignSums:
        """Merge and leave them; the added rows come after those of the run."""
        cells, pairs = new
        exemplar = np.where(cells.exemplar >= 0, cells.exemplar + self.n_old, -1)
        cells = dataclasses.replace(cells, exemplar=exemplar)
        stored = PairCounts.from_arrays(read_arrays(self.pairs, self.checksum))
        both = merge_sums((self._cells(), stored), (cells, pairs))
        return leave_sums(self.centroids, self.pairs, self.place, both)

    def _cells(self) -> CellSums:
        """Return the sums of the run, from what its model keeps of them."""
        names = ("population", "centroid_mean", "rms_radius", "mean_distance", "max_distance")
        population, mean, radius, distance, largest = (
            zarr_io.read_array(self.model, name) for name in names
        )
        exemplar = zarr_io.read_array(self.model, "exemplar")
        return CellSums(
            population=population,
            total=mean * population[:, None],
            sq_distance=radius**2 * population,
            distance=distance * population,
            max_distance=largest,
            exemplar=exemplar,
            exemplar_sq_distance=self._sq_distances(exemplar),
        )

    def _sq_distances(self, exemplar: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how far exemplars lie from their centroids, squared; the distances of all rows are read."""
        found = np.full(exemplar.shape, np.inf)
        for start, stop in row_ranges(self.n_old, ROWS_AT_ONCE):
            here = (exemplar >= start) & (exemplar < stop)
            sq_distance = zarr_io.read_rows(self.nearest, "sq_distance", start, stop)[:, 0]
            found[here] = sq_distance[exemplar[here] - start]
        return found
