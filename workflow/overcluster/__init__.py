"""Overclustering: k-means with many more centroids than expected clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names
from workflow.overcluster.cells import CellSums, cell_sums, merge_cell_sums
from workflow.overcluster.duplicates import DuplicateCells, duplicate_cells
from workflow.overcluster.fitting import FittedCentroids, fit_centroids
from workflow.overcluster.rounds import RoundState
from workflow.overcluster.sampling import (
    auto_n_centroids,
    draw_rows,
    sample_counts,
    sample_destinations,
    sample_size,
)
from workflow.overcluster.search import NearestCentroids

if TYPE_CHECKING:
    from workflow.overcluster.estimator import Overcluster

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

__getattr__ = late_names(__name__, {"Overcluster": "workflow.overcluster.estimator"})
