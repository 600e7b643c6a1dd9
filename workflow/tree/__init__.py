"""The hierarchy of the centroids, weighted by their images, and its cut into clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names
from workflow.tree.build import METHODS, build_tree
from workflow.tree.cluster_tree import ClusterTree
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.cutting import cut
from workflow.tree.selection import NOISE_LABEL

if TYPE_CHECKING:
    from workflow.tree.estimator import CentroidTree

__all__ = [
    "DEFAULT_RATIO",
    "METHODS",
    "NOISE_LABEL",
    "CentroidTree",
    "ClusterTree",
    "build_tree",
    "cut",
]

__getattr__ = late_names(__name__, {"CentroidTree": "workflow.tree.estimator"})
