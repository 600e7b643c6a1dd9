"""Nearest neighbours of an array in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.mapper import pairwise
from workflow.neighbors.buckets import bucket_regions, make_bucket, merge_equal, numbered_rows
from workflow.neighbors.chosen import (
    choose_effort,
    group_table,
    merge_nearest,
    nearest_in_bucket,
    sample_leaves,
    search_chosen,
)
from workflow.neighbors.regions import build_regions, region_count
from workflow.neighbors.search import Boxes, Found, box_of, search_bucket, without_self

if TYPE_CHECKING:
    from numpy.typing import NDArray


def nearest_neighbors(
    X: NDArray[Any], k: int = 15, *, recall: float | None = None
) -> tuple[Any, Any]:
    """Find the nearest neighbours of all rows among them.

    Parameters
    ----------
    X : float array of shape (n_samples, n_features)
        Finite rows [score].
    k : int
        Neighbours of each row, itself not counted.
    recall : float, optional
        Share of the true neighbours that is enough, below 1; all of them by default.

    Returns
    -------
    index : int64 array of shape (n_samples, k)
        Neighbours by rising (distance, index); -1 where there are fewer rows.
    distance : float32 array of shape (n_samples, k)
        Their distances; infinite where there are fewer [score].

    Raises
    ------
    ValueError
        If `X` is no matrix with rows, `k` is below 1, or `recall` is no share.

    Notes
    -----
    A squared distance is the sum of squared differences in float32,
    feature by feature, each square and sum rounded once.  With `recall`, rows
    are compared with those of the nearest leaves only; how many leaves that
    takes is measured on a sample.

    Examples
    --------
    >>> index, distance = nearest_neighbors(np.array([[0.0], [1.0], [3.0]]), k=1)
    >>> index.ravel().tolist(), distance.ravel().tolist()
    ([1, 0, 1], [1.0, 1.0, 2.0])
    """
    if X.ndim != 2 or not X.size or k < 1 or not (recall is None or 0 < recall < 1):
        msg = f"`X` must have rows and columns, `k` be at least 1, `recall` be between 0 and 1; got shape {X.shape}, {k} and {recall}."
        raise ValueError(msg)
    regions = build_regions(X, region_count(len(X)))
    rows = regions.scaled(X)
    distinct, place = merge_equal([numbered_rows(rows, 0)], k + 1)
    region = regions.route(distinct.rows)
    step = bucket_regions(regions.n_regions)
    buckets, at, bucket_of = [], np.empty(len(region), np.int64), region // step
    for first in range(0, regions.n_regions, step):
        members = np.flatnonzero(bucket_of == first // step)
        span = range(first, min(first + step, regions.n_regions))
        bucket, inside = make_bucket(distinct.take(members), region[members], span)
        at[members] = inside
        buckets.append(bucket)
    if recall is None:
        boxes = Boxes(*map(np.concatenate, zip(*map(box_of, buckets), strict=True)))
        parts = [
            search_bucket(number, boxes, buckets.__getitem__, k, regions.scale)
            for number in range(len(buckets))
        ]
    else:
        groups = group_table(
            np.concatenate([bucket.group_centers for bucket in buckets]),
            np.concatenate([bucket.group_spread for bucket in buckets]),
            np.concatenate([np.diff(bucket.group_start) for bucket in buckets]),
            np.array([len(bucket.group_centers) for bucket in buckets]),
        )
        sampled = sample_leaves(groups, buckets.__getitem__, k)
        true = [
            nearest_in_bucket(sampled, bucket, groups.first_leaf[number], k)
            for number, bucket in enumerate(buckets)
        ]
        nearest = pairwise(true, merge_nearest)
        effort = choose_effort(sampled, nearest, groups, buckets.__getitem__, recall)
        parts = [
            search_chosen(number, groups, buckets.__getitem__, k, regions.scale, effort.n_leaves)
            for number in range(len(buckets))
        ]
    first_row = np.cumsum([0] + [len(bucket.rows) for bucket in buckets])
    where = (first_row[bucket_of] + at)[place]
    found = Found(*(np.concatenate(arrays)[where] for arrays in zip(*parts, strict=True)))
    return without_self(found, np.arange(len(X)))
