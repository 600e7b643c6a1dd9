"""Families: groups of images of the same source."""

from __future__ import annotations

from workflow.families.find import Families, find_families
from workflow.families.methods import MapEquation, Method, Modularity, method_of
from workflow.families.neighbor_graph import neighbor_graph

__all__ = [
    "Families",
    "MapEquation",
    "Method",
    "Modularity",
    "find_families",
    "method_of",
    "neighbor_graph",
]
