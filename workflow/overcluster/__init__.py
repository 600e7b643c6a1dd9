"""Overclustering: k-means with many more centroids than expected clusters."""

from __future__ import annotations

from workflow.overcluster.assignment import NearestCentroids
from workflow.overcluster.cells import CellSums, cell_sums, merge_cell_sums
from workflow.overcluster.duplicates import DuplicateCells, duplicate_cells
from workflow.overcluster.estimator import Overcluster
from workflow.overcluster.fitting import FittedCentroids, fit_centroids
from workflow.overcluster.rounds import RoundState
from workflow.overcluster.sampling import (
    auto_n_centroids,
    draw_rows,
    sample_counts,
    sample_destinations,
    sample_size,
)

__all__ = [
    "CellSums",
    "DuplicateCells",
    "FittedCentroids",
    "NearestCentroids",
    "Overcluster",
    "RoundState",
    "auto_n_centroids",
    "cell_sums",
    "draw_rows",
    "duplicate_cells",
    "fit_centroids",
    "merge_cell_sums",
    "sample_counts",
    "sample_destinations",
    "sample_size",
]
