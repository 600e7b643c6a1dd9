"""Buckets: the different rows of some consecutive regions, in compact leaves."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.neighbors.leaves import compact_leaves, laid_out, means, ranges
from workflow.neighbors.regions import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.neighbors._search_kernels import Leaves

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
        source, start = ranges(self.copy_start, places)
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
    words = np.ascontiguousarray(rows.T).view(f"u{rows.dtype.itemsize}")
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
    state = np.full(words.shape[1], start, np.uint64)
    for column in words:
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
        Scaled rows: float32, or float16, counted from the centre of the group.
    copy_start, copies : int64 arrays
        As `Distinct` has them.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end.
    group_start : int64 array of shape (n_groups + 1,)
        Where the leaves of each group begin, and the end: up to 32 of one region.
    centers : float32 array of shape (n_leaves, n_features)
        Mean of each leaf.
    spread : float32 array of shape (n_leaves,)
        Mean squared distance of its rows from the centre.
    group_centers : float32 array of shape (n_groups, n_features)
        Mean of the centres of each group; what rows in float16 are counted from.
    group_spread : float32 array of shape (n_groups,)
        Mean squared distance of the centres from it.
    """

    rows: NDArray[Any]
    copy_start: NDArray[np.int64]
    copies: NDArray[np.int64]
    start: NDArray[np.int64]
    group_start: NDArray[np.int64]
    centers: NDArray[np.float32]
    spread: NDArray[np.float32]
    group_centers: NDArray[np.float32]
    group_spread: NDArray[np.float32]

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
        source, start = ranges(self.start, part)
        rows = np.asarray(self.rows[source])
        if rows.dtype == np.float16:
            group = np.searchsorted(self.group_start, part, side="right") - 1
            rows = unpacked(rows, self.group_centers[np.repeat(group, np.diff(start))])
        return laid_out(rows, np.asarray(self.copies[self.copy_start[source]], np.int64), start)


def make_bucket(
    distinct: Distinct,
    region: NDArray[np.integer[Any]],
    regions: range,
    *,
    is_packed: bool = False,
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
    is_packed : bool
        Whether rows take half the bytes, as `packed` makes them.

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
    order, n_rows, n_leaves = [np.empty(0, np.int64)], 0, 0
    starts, group_starts = [np.zeros(1, np.int64)], [np.zeros(1, np.int64)]
    for number in regions:
        members = np.flatnonzero(region == number)
        if len(members):
            inside, start = compact_leaves(distinct.rows[members])
            centers, _ = means(distinct.rows[members], inside, start)
            # Leaves that lie together make a group, as rows make a leaf.
            leaves, group_start = compact_leaves(centers)
            places, start = ranges(start, leaves)
            order.append(members[inside[places]])
            starts.append(start[1:] + n_rows)
            group_starts.append(group_start[1:] + n_leaves)
            n_rows += len(members)
            n_leaves += len(start) - 1
    places, start, group_start = map(np.concatenate, (order, starts, group_starts))
    sorted_rows = distinct.take(places)
    place = np.empty(len(places), np.int64)
    place[places] = np.arange(len(places))
    rows: NDArray[Any] = sorted_rows.rows
    centers, spread = means(rows, np.arange(n_rows), start)
    group_centers, group_spread = means(centers, np.arange(n_leaves), group_start)
    if is_packed:
        group = np.repeat(np.arange(len(group_start) - 1), np.diff(start[group_start]))
        rows = packed(rows, group_centers[group])
    shape = sorted_rows.copy_start, sorted_rows.copies, start, group_start
    return Bucket(rows, *shape, centers, spread, group_centers, group_spread), place
