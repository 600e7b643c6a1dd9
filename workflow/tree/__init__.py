"""The hierarchy of the centroids, weighted by their images, and its cut into clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names
from workflow.tree.build import build_tree
from workflow.tree.cluster_tree import ClusterTree
from workflow.tree.contrast.constants import DEFAULT_RATIO
from workflow.tree.cutting import cut
from workflow.tree.methods import METHODS, method_names, method_of
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
    "method_names",
    "method_of",
]

__getattr__ = late_names(__name__, {"CentroidTree": "workflow.tree.estimator"})
