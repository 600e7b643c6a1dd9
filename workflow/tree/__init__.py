"""The hierarchy of the centroids, weighted by their images, and its cut into clusters."""

from __future__ import annotations

from workflow.tree.build import METHODS, build_tree
from workflow.tree.cluster_tree import ClusterTree
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.cutting import cut
from workflow.tree.estimator import CentroidTree
from workflow.tree.selection import NOISE_LABEL

__all__ = [
    "DEFAULT_RATIO",
    "METHODS",
    "NOISE_LABEL",
    "CentroidTree",
    "ClusterTree",
    "build_tree",
    "cut",
]
