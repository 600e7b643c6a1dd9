"""Sparse graphs whose nodes are centroids."""

from __future__ import annotations

from workflow.centroid_graph.cooccurrence import (
    PairCounts,
    centroid_graph,
    count_pairs,
    merge_pair_counts,
)
from workflow.centroid_graph.dimension import intrinsic_dimension

__all__ = [
    "PairCounts",
    "centroid_graph",
    "count_pairs",
    "intrinsic_dimension",
    "merge_pair_counts",
]
