"""Families: groups of images of the same source."""

from __future__ import annotations

from workflow.families.coarse import CoarseTest, coarse_test, ties_between
from workflow.families.find import Families, find_families
from workflow.families.methods import MapEquation, Method, Modularity, method_of
from workflow.families.neighbor_graph import neighbor_graph

__all__ = [
    "CoarseTest",
    "Families",
    "MapEquation",
    "Method",
    "Modularity",
    "coarse_test",
    "find_families",
    "method_of",
    "neighbor_graph",
    "ties_between",
]
