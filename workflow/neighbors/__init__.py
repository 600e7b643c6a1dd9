"""Nearest neighbours of every row among all rows, in pieces that fit into memory.

Rows go down a tree of splits to *regions* of some 4,096, and within a region to compact *leaves* of
up to 32.  Some regions make a *bucket*: what is stored and loaded together.  Rows are compared leaf
by leaf: with all leaves whose bounds do not rule out that a neighbour lies there, or, where there
are too many rows for that, with the nearest leaves, as many as a sample shows to be enough.  Equal
rows are one row with several numbers.
"""

from __future__ import annotations

from workflow.neighbors.buckets import (
    Bucket,
    Distinct,
    bucket_regions,
    make_bucket,
    merge_equal,
    numbered_rows,
)
from workflow.neighbors.chosen import (
    Effort,
    Groups,
    Nearest,
    Sampled,
    choose_effort,
    group_table,
    merge_nearest,
    nearest_in_bucket,
    sample_leaves,
    search_chosen,
)
from workflow.neighbors.regions import (
    Regions,
    build_regions,
    packed,
    region_count,
    sample_rows,
    unpacked,
)
from workflow.neighbors.search import Boxes, Found, box_of, search_bucket, without_self
from workflow.neighbors.whole import nearest_neighbors

__all__ = [
    "Boxes",
    "Bucket",
    "Distinct",
    "Effort",
    "Found",
    "Groups",
    "Nearest",
    "Regions",
    "Sampled",
    "box_of",
    "bucket_regions",
    "build_regions",
    "choose_effort",
    "group_table",
    "make_bucket",
    "merge_equal",
    "merge_nearest",
    "nearest_in_bucket",
    "nearest_neighbors",
    "numbered_rows",
    "packed",
    "region_count",
    "sample_leaves",
    "sample_rows",
    "search_bucket",
    "search_chosen",
    "unpacked",
    "without_self",
]
