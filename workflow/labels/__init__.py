"""Labels of images from the labels of their nearest centroids."""

from __future__ import annotations

from workflow.labels.centroids import CentroidLabels, centroid_labels, order_by_size
from workflow.labels.memberships import MAX_OUTLIER_SCORE, N_TOP, top_memberships
from workflow.labels.noise import NOISE_LABEL, resolve_noise
from workflow.labels.rows import RowLabels, cluster_of_rows, label_rows

__all__ = [
    "MAX_OUTLIER_SCORE",
    "NOISE_LABEL",
    "N_TOP",
    "CentroidLabels",
    "RowLabels",
    "centroid_labels",
    "cluster_of_rows",
    "label_rows",
    "order_by_size",
    "resolve_noise",
    "top_memberships",
]
