"""Which leaves are searched where there are too many rows to search all: the nearest to each leaf."""

from __future__ import annotations

from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.compiling import frozen
from workflow.neighbors._search_kernels import Leaves, Lists, search_lists
from workflow.neighbors._tiles import LEAF_ROWS
from workflow.neighbors.leaves import (
    NOTHING,
    all_lists,
    even_starts,
    laid_out,
    narrowed,
    nothing_found,
    ranges,
    visit_near,
)
from workflow.neighbors.search import Found, copies_of, expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from workflow.neighbors.buckets import Bucket

#: Leaves that a row may be compared with, of which the fewest are taken that find enough.
EFFORTS = (*range(16, 128, 4), *range(128, 256, 8), *range(256, 1025, 32))
#: Groups whose leaves a row looks at, for each leaf that it is compared with, and those it chooses among.
GROUPS_PER_LEAF, GROUPS_AROUND = 0.5, 4
#: Groups whose leaves' centres are loaded together.
GROUPS_AT_ONCE = 16
#: Times a row of a bucket is compared with a leaf, handled together: they make the memory of a search.
PAIRS_AT_ONCE = 1 << 23
#: Leaves of which some rows are searched exactly to learn how many leaves that takes, and those rows.
N_SAMPLED, SAMPLED_ROWS = 128, 4


class Groups(NamedTuple):
    """The groups of leaves of all buckets.

    Attributes
    ----------
    centers : Leaves
        Mean of the centres of the leaves of each group, numbered by group.
    spread : float32 array of shape (n_groups,)
        Mean squared distance of those centres from it.
    leaf_start : int64 array of shape (n_groups + 1,)
        Number of the first leaf of each group, counted over all; and how many there are.
    bucket_start : int64 array of shape (n_buckets + 1,)
        First group of each bucket, and their number.
    """

    centers: Leaves
    spread: NDArray[np.float32]
    leaf_start: NDArray[np.int64]
    bucket_start: NDArray[np.int64]

    @property
    def first_leaf(self) -> NDArray[np.int64]:
        """Number of the first leaf of each bucket, counted over all; and how many there are."""
        return self.leaf_start[self.bucket_start]


def group_table(
    centers: NDArray[np.float32],
    spread: NDArray[np.float32],
    n_leaves: NDArray[np.int64],
    n_groups: NDArray[np.int64],
) -> Groups:
    """Return the table of all groups.

    Parameters
    ----------
    centers : float32 array of shape (n, n_features)
        Centre of each group, bucket by bucket.
    spread : float32 array of shape (n,)
        Mean squared distance of the centres of its leaves from it.
    n_leaves : int64 array of shape (n,)
        Leaves of each group.
    n_groups : int64 array of shape (n_buckets,)
        Groups of each bucket.

    Returns
    -------
    Groups
        The table.
    """
    starts = (np.concatenate([[0], np.cumsum(size)]) for size in (n_leaves, n_groups))
    leaves = laid_out(centers, np.arange(len(centers)), even_starts(len(centers)))
    return Groups(leaves, spread, *starts)


def near_leaves(
    points: Leaves,
    group_of: NDArray[np.int64],
    groups: Groups,
    load: Callable[[int], Bucket],
    n_leaves: int,
) -> Lists:
    """Return the leaves nearest to rows, by their centres.

    Parameters
    ----------
    points : Leaves
        The rows.
    group_of : int64 array of shape (n,)
        Group of each leaf, rising.
    groups : Groups
        All groups.
    load : callable
        Returns a bucket of that number.
    n_leaves : int
        Leaves that each row wants.

    Returns
    -------
    Lists
        Leaves, counted over all.

    Notes
    -----
    A row looks at the leaves of the groups whose centres are nearest to it,
    among those around its own group.
    """
    homes, first = np.unique(group_of, return_index=True)
    first = np.append(first, len(group_of))
    n, found = int(GROUPS_PER_LEAF * n_leaves), []
    for begin in range(0, len(homes), GROUPS_AT_ONCE):
        stop = min(begin + GROUPS_AT_ONCE, len(homes))
        near = _joined(
            [
                _near_groups(_part(points, first[place], first[place + 1]), homes[place], groups, n)
                for place in range(begin, stop)
            ]
        )
        used, number = np.unique(near.number, return_inverse=True)
        part, near = _part(points, first[begin], first[stop]), near._replace(number=number)
        found.append(narrowed(part, *_centers(used, groups, load), near, n_leaves))
    return _joined(found)


def _joined(parts: list[Lists]) -> Lists:
    """Return the lists of leaves that follow each other."""
    sizes = np.concatenate([np.diff(part.start) for part in parts])
    number, rows = (np.concatenate([part[field] for part in parts]) for field in (1, 2))
    return Lists(np.concatenate([[0], np.cumsum(sizes)]), number, rows)


def _part(leaves: Leaves, first: int, stop: int) -> Leaves:
    """Return consecutive leaves."""
    rows = slice(leaves.start[first], leaves.start[stop])
    start = frozen(leaves.start[first : stop + 1] - leaves.start[first])
    bounds = (array[first:stop] for array in leaves[3:])
    return Leaves(leaves.rows[rows], leaves.number[rows], start, *bounds)


def _near_groups(points: Leaves, home: int, groups: Groups, n_groups: int) -> Lists:
    """Return the groups nearest to rows of a group, among those around it."""
    middle = groups.centers.rows[home : home + 1]
    one = laid_out(middle, np.zeros(1, np.int64), np.array([0, 1]))
    every = all_lists(1, np.arange(len(groups.centers.start) - 1))
    n_around = GROUPS_AROUND * n_groups
    around = np.sort(narrowed(one, groups.centers, groups.spread, every, n_around).number)
    others = laid_out(groups.centers.rows[around], around, even_starts(len(around)))
    lists = all_lists(len(points.start) - 1, np.arange(len(others.start) - 1))
    return narrowed(points, others, groups.spread[around], lists, n_groups)


def _centers(
    used: NDArray[np.int64], groups: Groups, load: Callable[[int], Bucket]
) -> tuple[Leaves, NDArray[np.float32]]:
    """Return centres of the leaves of some groups, which rise, a leaf for each group; and spread."""
    found, spread = [], []
    number, start = ranges(groups.leaf_start, used)
    begins = np.searchsorted(used, groups.bucket_start)
    for home in np.flatnonzero(np.diff(begins)).tolist():
        bucket = load(home)
        part = used[begins[home] : begins[home + 1]] - groups.bucket_start[home]
        places = ranges(bucket.group_start, part)[0]
        found.append(bucket.centers[places])
        spread.append(bucket.spread[places])
    return laid_out(np.concatenate(found), number, start), np.concatenate(spread)


def _search(
    points: Leaves,
    lists: Lists,
    first: NDArray[np.int64],
    home: int,
    leaves_of: Callable[[int, NDArray[np.int64]], Leaves],
    n_found: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest of the points among those of the leaves on their lists, bucket by bucket.

    The bucket `home` comes first; ``first`` says where the leaves of each
    bucket begin among all, and ``leaves_of`` returns some of a bucket.
    """
    found = nothing_found(len(points.rows), n_found)
    for number, part, listed in _by_bucket(lists, first, home):
        search_lists(points, leaves_of(number, part), listed, 0, *found)
    return found


def _by_bucket(
    lists: Lists, first: NDArray[np.int64], home: int
) -> Iterator[tuple[int, NDArray[np.int64], Lists]]:
    """Yield (bucket, its leaves on any list, lists of places among those)."""
    n = len(lists.start) - 1
    leaf = np.repeat(np.arange(n), np.diff(lists.start))
    # Empty buckets begin where the next one does.
    bucket_of = np.searchsorted(first, lists.number, side="right") - 1
    order = np.argsort(bucket_of, kind="stable")
    numbers, begin = np.unique(bucket_of[order], return_index=True)
    stops = np.append(begin[1:], len(order))
    for place in np.argsort(numbers != home, kind="stable"):
        here, bucket = order[begin[place] : stops[place]], int(numbers[place])
        wanted = lists.number[here] - first[bucket]
        is_part = np.zeros(wanted.max() + 1, np.bool_)
        is_part[wanted] = True
        part, wanted = np.flatnonzero(is_part), (np.cumsum(is_part) - 1)[wanted]
        start = np.concatenate([[0], np.cumsum(np.bincount(leaf[here], minlength=n))])
        yield bucket, part, Lists(start, wanted, lists.rows[here])


def search_chosen(
    home: int,
    groups: Groups,
    load: Callable[[int], Bucket],
    k: int,
    scale: float,
    n_leaves: int,
) -> Found:
    """Find the nearest images of all rows of a bucket among those of the nearest leaves.

    Parameters
    ----------
    home : int
        The bucket.
    groups : Groups
        All groups.
    load : callable
        Returns a bucket of that number; only what is needed of its rows is read.
    k : int
        Neighbours wanted, the image itself not counted.
    scale : float
        What rows were multiplied by.
    n_leaves : int
        Leaves that each row is compared with, the nearest by their centres.

    Returns
    -------
    Found
        ``k + 1`` images for each row.
    """
    bucket = load(home)
    every = bucket.leaves()
    start = np.asarray(bucket.group_start)

    def search_groups(here: NDArray[np.int64]) -> Found:
        copies = []

        def leaves(number: int, part: NDArray[np.int64]) -> Leaves:
            bucket = load(number)
            copies.append(copies_of(bucket, part))
            return bucket.leaves(part)

        points = _part(every, start[here[0]], start[here[-1] + 1])
        group_of = np.repeat(groups.bucket_start[home] + here, np.diff(start)[here])
        lists = near_leaves(points, group_of, groups, load, n_leaves)
        found = _search(points, lists, groups.first_leaf, home, leaves, k + 1)
        return expanded(*found, copies, scale)

    n_together = max(1, PAIRS_AT_ONCE // (n_leaves * LEAF_ROWS**2))
    cuts = range(n_together, len(start) - 1, n_together)
    found = [search_groups(here) for here in np.split(np.arange(len(start) - 1), cuts)]
    return Found(*map(np.concatenate, zip(*found, strict=True)))


class Sampled(NamedTuple):
    """Rows of some leaves that are searched exactly, to learn how many leaves it takes.

    Attributes
    ----------
    rows : float32 array of shape (n_rows, n_features)
        The rows, leaf by leaf, scaled.
    place : int64 array of shape (n_rows,)
        Where each row lies: 32 times its leaf, counted over all, and its place there.
    start : int64 array of shape (n_leaves + 1,)
        Where the rows of each leaf begin, and the end.
    group : int64 array of shape (n_leaves,)
        Group of each leaf.
    limit : float32 array of shape (n_rows,)
        Squared distances that no neighbour exceeds.
    """

    rows: NDArray[np.float32]
    place: NDArray[np.int64]
    start: NDArray[np.int64]
    group: NDArray[np.int64]
    limit: NDArray[np.float32]

    def leaves(self) -> Leaves:
        """Return the leaves as the search reads them."""
        return laid_out(self.rows, self.place, self.start)


class Nearest(NamedTuple):
    """The nearest rows of each sampled one, itself among them.

    Attributes
    ----------
    place : int64 array of shape (n_rows, n_found)
        Where they lie, as `Sampled` has it.
    sq_distance : float32 array of shape (n_rows, n_found)
        Squared distances; those above the limit stand for none.
    """

    place: NDArray[np.int64]
    sq_distance: NDArray[np.float32]


def sample_leaves(groups: Groups, load: Callable[[int], Bucket], k: int) -> Sampled:
    """Take some rows of some leaves evenly over all, and search a few leaves around each.

    Parameters
    ----------
    groups : Groups
        All groups.
    load : callable
        Returns a bucket of that number.
    k : int
        Neighbours wanted.

    Returns
    -------
    Sampled
        The leaves, what each would be compared with, and a limit for each row.
    """
    first_leaf = groups.first_leaf
    n_leaves = int(first_leaf[-1])
    numbers = np.unique(np.linspace(0, n_leaves - 1, min(N_SAMPLED, n_leaves)).astype(np.int64))
    rows, places = [], []
    for number in numbers.tolist():
        home = int(np.searchsorted(first_leaf, number, side="right")) - 1
        leaf = load(home).leaves(np.array([number - first_leaf[home]]))
        taken = np.unique(np.linspace(0, len(leaf.rows) - 1, SAMPLED_ROWS).astype(np.int64))
        rows.append(leaf.rows[taken])
        places.append(number * LEAF_ROWS + taken)
    start = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    group = np.searchsorted(groups.leaf_start, numbers, side="right") - 1
    all_rows, place = np.concatenate(rows), np.concatenate(places)
    points = laid_out(all_rows, place, start)
    lists = near_leaves(points, group, groups, load, EFFORTS[0])
    found = _search(
        points, lists, first_leaf, -1, lambda other, part: load(other).leaves(part), k + 1
    )
    return Sampled(all_rows, place, start, group, found[1][:, -1])


def nearest_in_bucket(sampled: Sampled, bucket: Bucket, first_leaf: int, k: int) -> Nearest:
    """Search a bucket for the nearest rows of the sampled ones, exactly.

    Parameters
    ----------
    sampled : Sampled
        The sampled rows.
    bucket : Bucket
        The bucket.
    first_leaf : int
        Number of its first leaf, counted over all.
    k : int
        Neighbours wanted.

    Returns
    -------
    Nearest
        ``k + 1`` for each row, those of this bucket alone.
    """
    home, other = sampled.leaves(), bucket.leaves()
    size = np.diff(bucket.start)
    within = np.arange(len(bucket.rows)) - np.repeat(bucket.start[:-1], size)
    leaf = first_leaf + np.repeat(np.arange(len(size)), size)
    other = other._replace(number=frozen(leaf * LEAF_ROWS + within))
    place, sq_distance = nothing_found(len(sampled.rows), k + 1)
    sq_distance[:] = sampled.limit[:, None]
    visit_near(home, other, place, sq_distance)
    return Nearest(place, sq_distance)


def merge_nearest(left: Nearest, right: Nearest) -> Nearest:
    """Return the nearest of two disjoint sets of rows.

    Parameters
    ----------
    left, right : Nearest
        What was found in each, for the same sampled rows.

    Returns
    -------
    Nearest
        What is nearest in both; the order of the two does not matter.
    """
    place = np.concatenate([left.place, right.place], axis=1)
    sq_distance = np.concatenate([left.sq_distance, right.sq_distance], axis=1)
    order = np.lexsort((place, sq_distance), axis=1)[:, : left.place.shape[1]]
    return Nearest(np.take_along_axis(place, order, 1), np.take_along_axis(sq_distance, order, 1))


class Effort(NamedTuple):
    """How many leaves a leaf is compared with, and what that finds.

    Attributes
    ----------
    n_leaves : int
        Leaves.
    recall : float
        Share of the true neighbours of the sampled rows that lie in them.
    n_rows : int
        Sampled rows.
    """

    n_leaves: int
    recall: float
    n_rows: int


def choose_effort(
    sampled: Sampled,
    nearest: Nearest,
    groups: Groups,
    load: Callable[[int], Bucket],
    recall: float,
) -> Effort:
    """Return the fewest leaves that find enough of the true neighbours.

    Parameters
    ----------
    sampled : Sampled
        The sampled rows.
    nearest : Nearest
        Their true neighbours, themselves among them.
    groups : Groups
        All groups.
    load : callable
        Returns a bucket of that number.
    recall : float
        Share wanted.

    Returns
    -------
    Effort
        As many leaves as are wanted, or the most of `EFFORTS`.
    """
    points = sampled.leaves()
    size = np.diff(sampled.start)
    within = np.arange(len(sampled.rows)) - np.repeat(sampled.start[:-1], size)
    is_true = (nearest.place != sampled.place[:, None]) & (nearest.place != NOTHING)
    row, rank = np.nonzero(is_true)
    leaf, wanted = np.repeat(np.arange(len(size)), size)[row], nearest.place[row, rank] // LEAF_ROWS
    n_all = groups.leaf_start[-1]

    @cache
    def share_found(n_leaves: int) -> float:
        lists = near_leaves(points, sampled.group, groups, load, n_leaves)
        key = np.repeat(np.arange(len(size)), np.diff(lists.start)) * n_all + lists.number
        order = np.argsort(key)
        at = np.minimum(np.searchsorted(key[order], leaf * n_all + wanted), len(key) - 1)
        at = order[at]
        bit = (lists.rows[at] >> within[row].astype(np.uint32)) & np.uint32(1)
        is_found = (key[at] == leaf * n_all + wanted) & (bit == 1)
        return float(is_found.mean()) if len(row) else 1.0

    # More leaves find more.
    place = min(bisect_left(EFFORTS, recall, key=share_found), len(EFFORTS) - 1)
    return Effort(EFFORTS[place], share_found(EFFORTS[place]), len(sampled.rows))
