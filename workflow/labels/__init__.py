"""Labels of images from the labels of their nearest centroids."""

from __future__ import annotations

from workflow.labels.centroids import CentroidLabels, centroid_labels, order_by_size
from workflow.labels.lineage import (
    CHANGES,
    Changes,
    Overlap,
    are_same,
    count_changes,
    count_overlap,
    find_changes,
    kept_ids,
    mostly_of,
    new_ids,
    overlap_of,
    sum_overlaps,
)
from workflow.labels.memberships import MAX_OUTLIER_SCORE, N_TOP, top_memberships
from workflow.labels.noise import NOISE_LABEL, resolve_noise
from workflow.labels.rows import RowLabels, cluster_of_rows, label_rows

__all__ = [
    "CHANGES",
    "MAX_OUTLIER_SCORE",
    "NOISE_LABEL",
    "N_TOP",
    "CentroidLabels",
    "Changes",
    "Overlap",
    "RowLabels",
    "are_same",
    "centroid_labels",
    "cluster_of_rows",
    "count_changes",
    "count_overlap",
    "find_changes",
    "kept_ids",
    "label_rows",
    "mostly_of",
    "new_ids",
    "order_by_size",
    "overlap_of",
    "resolve_noise",
    "sum_overlaps",
    "top_memberships",
]
