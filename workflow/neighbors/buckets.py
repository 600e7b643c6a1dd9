"""Buckets: the different rows of some consecutive regions, in compact leaves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import frozen
from workflow.neighbors._leaf_kernels import leaf_centers, leaf_order
from workflow.neighbors._search_kernels import Leaves, lay_out
from workflow.neighbors.regions import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Most regions of a bucket, and buckets that there are before a bucket takes a second region.
MAX_REGIONS, MIN_BUCKETS = 16, 64
#: Start and factor of the two fingerprints: odd, with bits without pattern (of the golden ratio and pi).
FIRST, SECOND = (
    (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9),
    (0x243F6A8885A308D3, 0x94D049BB133111EB),
)


class Distinct(NamedTuple):
    """Different rows, and which of all rows are equal to each.

    Attributes
    ----------
    rows : array of shape (n_rows, n_features)
        Scaled rows, no two of them equal.
    copy_start : int64 array of shape (n_rows + 1,)
        Where the copies of each row begin in `copies`, and the end.
    copies : int64 array
        Numbers of the rows that are equal to each, rising: the first ones of them, as many as
        were asked for.
    """

    rows: NDArray[Any]
    copy_start: NDArray[np.int64]
    copies: NDArray[np.int64]

    def take(self, places: NDArray[np.integer[Any]]) -> Distinct:
        """Return some of the rows, in the order given.

        Parameters
        ----------
        places : int array of shape (n,)
            Which of them.

        Returns
        -------
        Distinct
            Those rows, with their copies.
        """
        size = np.diff(self.copy_start)[places]
        start = np.concatenate([[0], np.cumsum(size)])
        source = np.repeat(self.copy_start[:-1][places] - start[:-1], size) + np.arange(start[-1])
        return Distinct(self.rows[places], start, self.copies[source])


def bucket_regions(n_regions: int) -> int:
    """Return how many consecutive regions make a bucket.

    Parameters
    ----------
    n_regions : int
        All regions.

    Returns
    -------
    int
        More where there are very many.
    """
    return min(MAX_REGIONS, max(1, n_regions // MIN_BUCKETS))


def numbered_rows(rows: NDArray[Any], first: int) -> Distinct:
    """Return rows numbered from `first`, each taken as different.

    Parameters
    ----------
    rows : float array of shape (n_rows, n_features)
        Scaled rows.
    first : int
        Number of the first of them.

    Returns
    -------
    Distinct
        The rows, not copied.
    """
    return Distinct(rows, np.arange(len(rows) + 1), np.arange(first, first + len(rows)))


def merge_equal(parts: Sequence[Distinct], n_copies: int) -> tuple[Distinct, NDArray[np.int64]]:
    """Bring equal rows together.

    Parameters
    ----------
    parts : sequence of Distinct
        Rows with numbers that rise from part to part.
    n_copies : int
        Copies that are kept of each row, those of the lowest numbers.

    Returns
    -------
    merged : Distinct
        The different rows, in the order of their lowest numbers.
    place : int64 array of shape (n_rows,)
        Where each of the given rows, part by part, went.

    Notes
    -----
    Rows are sorted by fingerprints of 128 bits and compared with their
    neighbours there: time and memory do not depend on how many are equal.
    """
    rows = np.concatenate([part.rows for part in parts])
    size = np.concatenate([np.diff(part.copy_start) for part in parts])
    copies = np.concatenate([part.copies for part in parts])
    start = np.concatenate([[0], np.cumsum(size)])
    words = np.ascontiguousarray(rows).view(f"u{rows.dtype.itemsize}")
    one, two = (_fingerprint(words, *seed) for seed in (FIRST, SECOND))
    order = np.lexsort((two, one))
    is_same = (one[order[1:]] == one[order[:-1]]) & (two[order[1:]] == two[order[:-1]])
    is_same[is_same] = (rows[order[1:][is_same]] == rows[order[:-1][is_same]]).all(axis=1)
    if not is_same.any():
        return Distinct(rows, start, copies), np.arange(len(rows))
    group = np.concatenate([[0], np.cumsum(~is_same)])
    lowest = np.full(group[-1] + 1, len(rows))
    np.minimum.at(lowest, group, order)
    # Numbered by their first rows.
    rank = np.empty(len(lowest), np.int64)
    rank[np.argsort(lowest)] = np.arange(len(lowest))
    place = np.empty(len(rows), np.int64)
    place[order] = rank[group]
    owner = np.repeat(place, size)
    by_owner = np.argsort(owner, kind="stable")
    total = np.bincount(owner, minlength=len(lowest))
    ends = np.cumsum(total)
    within = np.arange(len(owner)) - np.repeat(ends - total, total)
    kept = by_owner[within < n_copies]
    new_start = np.concatenate([[0], np.cumsum(np.minimum(total, n_copies))])
    return Distinct(rows[np.sort(lowest)], new_start, copies[kept]), place


def _fingerprint(words: NDArray[Any], start: int, factor: int) -> NDArray[np.uint64]:
    """Return a number of 64 bits for each row; rows that differ in one word never share it."""
    state = np.full(len(words), start, np.uint64)
    for column in words.T:
        state ^= column
        state *= np.uint64(factor)
        state ^= state >> np.uint64(32)
    return state


@dataclass(frozen=True, slots=True)
class Bucket:
    """The different rows of consecutive regions, leaf by leaf.

    Attributes
    ----------
    rows : array of shape (n_rows, n_features)
        Scaled rows: float32, or float16, as `packed` returns them.
    copy_start, copies : int64 arrays
        As `Distinct` has them.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end.
    region_start : int64 array of shape (n_regions + 1,)
        Where the leaves of each region begin, and the end.
    centers : float32 array of shape (n_leaves, n_features)
        Mean of each leaf.
    bases : float32 array of shape (n_regions, n_features)
        What rows in float16 are counted from; of no length where they are float32.
    """

    rows: NDArray[Any]
    copy_start: NDArray[np.int64]
    copies: NDArray[np.int64]
    start: NDArray[np.int64]
    region_start: NDArray[np.int64]
    centers: NDArray[np.float32]
    bases: NDArray[np.float32]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def leaves(self, part: NDArray[np.int64] | None = None) -> Leaves:
        """Return all leaves of the bucket, or some, as the search reads them.

        Parameters
        ----------
        part : int array of shape (n,), optional
            Which leaves; all by default.

        Returns
        -------
        Leaves
            Rows in float32, side by side.
        """
        if part is None:
            part = np.arange(len(self.start) - 1)
        size = np.diff(self.start)[part]
        start = np.concatenate([[0], np.cumsum(size)])
        source = np.repeat(self.start[part] - start[:-1], size) + np.arange(start[-1])
        rows = np.asarray(self.rows[source])
        if len(self.bases):
            region = np.searchsorted(self.region_start, part, side="right") - 1
            rows = unpacked(rows, self.bases[np.repeat(region, size)])
        return Leaves(rows, self.copies[self.copy_start[source]], start, *lay_out(rows, start))


def make_bucket(
    distinct: Distinct,
    region: NDArray[np.integer[Any]],
    regions: range,
    bases: NDArray[np.float32] | None = None,
) -> tuple[Bucket, NDArray[np.int64]]:
    """Put the rows of some regions into leaves.

    Parameters
    ----------
    distinct : Distinct
        All different rows of the regions, by rising lowest numbers.
    region : int array of shape (n_rows,)
        Region of each.
    regions : range
        The regions of the bucket.
    bases : float32 array of shape (n_regions, n_features), optional
        Centre of each of them, to pack rows by; rows stay as they are by default.

    Returns
    -------
    bucket : Bucket
        The rows, region by region and leaf by leaf.
    place : int64 array of shape (n_rows,)
        Where each of the given rows went.

    Notes
    -----
    A leaf depends on the rows of its region alone, not on the bucket.
    """
    order, starts, region_start, n_rows = [], [np.zeros(1, np.int64)], [0], 0
    for number in regions:
        members = np.flatnonzero(region == number)
        if len(members):
            inside, start = leaf_order(frozen(distinct.rows[members].astype(np.float32)))
            order.append(members[inside])
            starts.append(start[1:] + n_rows)
            n_rows += len(members)
        region_start.append(sum(map(len, starts)) - 1)
    places = np.concatenate(order) if order else np.empty(0, np.int64)
    start = np.concatenate(starts)
    sorted_rows = distinct.take(places)
    place = np.empty(len(places), np.int64)
    place[places] = np.arange(len(places))
    rows: NDArray[Any] = np.ascontiguousarray(sorted_rows.rows, np.float32)
    centers = leaf_centers(rows, np.arange(len(rows)), start)
    if bases is None:
        bases = np.empty((0, rows.shape[1]), np.float32)
    else:
        rows = packed(rows, bases[region[places] - regions.start])
    shape = sorted_rows.copy_start, sorted_rows.copies, start, np.array(region_start)
    return Bucket(rows, *shape, centers, bases), place
