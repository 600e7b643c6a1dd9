"""Nearest neighbours of every row among all rows, exactly, in pieces that fit into memory.

Rows go down a tree of splits to *regions* of some 4,096, and within a region to compact *leaves* of
up to 32.  Some regions make a *bucket*: what is stored and loaded together.  The rows of each bucket
are compared leaf by leaf with those of all buckets, but for leaves whose bounds are farther than the
neighbours that were found already.  Equal rows are one row with several numbers.
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
from workflow.neighbors.regions import Regions, build_regions, region_count, sample_rows
from workflow.neighbors.search import Boxes, Found, box_of, search_bucket, without_self
from workflow.neighbors.whole import nearest_neighbors

__all__ = [
    "Boxes",
    "Bucket",
    "Distinct",
    "Found",
    "Regions",
    "box_of",
    "bucket_regions",
    "build_regions",
    "make_bucket",
    "merge_equal",
    "nearest_neighbors",
    "numbered_rows",
    "region_count",
    "sample_rows",
    "search_bucket",
    "without_self",
]
