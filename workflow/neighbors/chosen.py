"""Which leaves are searched where there are too many rows to search all: the nearest to each leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import frozen
from workflow.neighbors._tiles import LEAF_ROWS
from workflow.neighbors.leaves import (
    NOTHING,
    even_starts,
    laid_out,
    nearest_of_all,
    nothing_found,
    ranges,
    search_lists,
    visit_near,
)
from workflow.neighbors.search import copies_of, expanded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from workflow.neighbors._kernels import Leaves
    from workflow.neighbors.buckets import Bucket
    from workflow.neighbors.search import Found

#: Groups among whose leaves those nearest to a leaf are looked for.
N_GROUPS = 64
#: Most leaves that a leaf is compared with.
MAX_LEAVES = 1024
#: Leaves of which some rows are searched exactly to learn how many leaves that takes, and those rows.
N_SAMPLED, SAMPLED_ROWS = 128, 4


class Groups(NamedTuple):
    """The groups of leaves of all buckets.

    Attributes
    ----------
    centers : Leaves
        Mean of the centres of the leaves of each group, numbered by group.
    leaf_start : int64 array of shape (n_groups + 1,)
        Number of the first leaf of each group, counted over all; and how many there are.
    bucket_start : int64 array of shape (n_buckets + 1,)
        First group of each bucket, and their number.
    """

    centers: Leaves
    leaf_start: NDArray[np.int64]
    bucket_start: NDArray[np.int64]

    @property
    def first_leaf(self) -> NDArray[np.int64]:
        """Number of the first leaf of each bucket, counted over all; and how many there are."""
        return self.leaf_start[self.bucket_start]


def group_table(
    centers: NDArray[np.float32], n_leaves: NDArray[np.int64], n_groups: NDArray[np.int64]
) -> Groups:
    """Return the table of all groups.

    Parameters
    ----------
    centers : float32 array of shape (n, n_features)
        Centre of each group, bucket by bucket.
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
    return Groups(laid_out(centers, np.arange(len(centers)), even_starts(len(centers))), *starts)


def nearest_leaves(
    home: int, part: NDArray[np.int64], groups: Groups, load: Callable[[int], Bucket], n_leaves: int
) -> NDArray[np.int64]:
    """Return the leaves nearest to those of some groups of a bucket, by their centres.

    Parameters
    ----------
    home : int
        The bucket.
    part : int64 array of shape (n,)
        The groups, counted from the first of the bucket.
    groups : Groups
        All groups.
    load : callable
        Returns a bucket of that number.
    n_leaves : int
        Leaves wanted, at most.

    Returns
    -------
    int64 array of shape (n_leaves_of_part, n_leaves)
        Leaves, counted over all, nearest first; `NOTHING` where there are fewer.
    """
    first_leaf = groups.first_leaf

    def centers(number: int, part: NDArray[np.int64]) -> Leaves:
        bucket = load(number)
        place, start = ranges(bucket.group_start, part)
        return laid_out(bucket.centers[place], first_leaf[number] + place, start)

    middle = groups.centers.rows[groups.bucket_start[home] + part]
    points = laid_out(middle, np.arange(len(part)), even_starts(len(part)))
    chosen = nearest_of_all(points, groups.centers, min(N_GROUPS, len(groups.leaf_start) - 1))
    return _search(centers(home, part), chosen, groups.bucket_start, home, centers, n_leaves)[0]


def _search(
    points: Leaves,
    chosen: NDArray[np.int64],
    first: NDArray[np.int64],
    home: int,
    leaves_of: Callable[[int, NDArray[np.int64]], Leaves],
    n_found: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the nearest of the points of each leaf among those of chosen leaves, bucket by bucket.

    The bucket `home` comes first; ``first`` says where the leaves of each
    bucket begin among all, and ``leaves_of`` returns some of a bucket.
    """
    found = nothing_found(len(points.rows), n_found)
    for number, part, start, lists in _by_bucket(chosen, first, home):
        search_lists(points, leaves_of(number, part), start, lists, *found)
    return found


def _by_bucket(
    chosen: NDArray[np.int64], first: NDArray[np.int64], home: int
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield (bucket, its leaves on any list, start of each list, lists of places among those)."""
    leaf, rank = np.nonzero(chosen != NOTHING)
    wanted = chosen[leaf, rank]
    # Empty buckets begin where the next one does.
    bucket_of = np.searchsorted(first, wanted, side="right") - 1
    order = np.argsort(bucket_of, kind="stable")
    leaf, wanted = leaf[order], wanted[order]
    numbers, begin = np.unique(bucket_of[order], return_index=True)
    stops = np.append(begin[1:], len(order))
    for place in np.argsort(numbers != home, kind="stable"):
        here, number = slice(begin[place], stops[place]), int(numbers[place])
        part, lists = np.unique(wanted[here] - first[number], return_inverse=True)
        size = np.bincount(leaf[here], minlength=len(chosen))
        yield number, part, np.concatenate([[0], np.cumsum(size)]), lists


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
        Leaves that each leaf is compared with, the nearest by their centres.

    Returns
    -------
    Found
        ``k + 1`` images for each row.
    """
    copies = []

    def leaves(number: int, part: NDArray[np.int64]) -> Leaves:
        bucket = load(number)
        copies.append(copies_of(bucket, part))
        return bucket.leaves(part)

    bucket = load(home)
    every = np.arange(len(bucket.group_start) - 1)
    chosen = nearest_leaves(home, every, groups, load, n_leaves)
    found = _search(bucket.leaves(), chosen, groups.first_leaf, home, leaves, k + 1)
    return expanded(*found, copies, scale)


class Sampled(NamedTuple):
    """Leaves whose rows are searched exactly, to learn how many leaves it takes.

    Attributes
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Their rows, leaf by leaf, scaled.
    place : int64 array of shape (n_rows,)
        Where each row lies: 32 times its leaf, counted over all, and its place there.
    start : int64 array of shape (n_leaves + 1,)
        Where each leaf begins, and the end.
    chosen : int64 array of shape (n_leaves, n_chosen)
        Leaves that each may be compared with, counted over all, nearest first; `NOTHING` for
        none.
    limit : float32 array of shape (n_rows,)
        Squared distances that no neighbour exceeds.
    """

    rows: NDArray[np.float32]
    place: NDArray[np.int64]
    start: NDArray[np.int64]
    chosen: NDArray[np.int64]
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
    rows, places, chosen, limits = [], [], [], []
    for number in numbers:
        group = int(np.searchsorted(groups.leaf_start, number, side="right")) - 1
        home = int(np.searchsorted(groups.bucket_start, group, side="right")) - 1
        part = np.array([group - groups.bucket_start[home]])
        lists = nearest_leaves(home, part, groups, load, MAX_LEAVES)
        lists = lists[number - groups.leaf_start[group]][None]
        leaf = load(home).leaves(np.array([number - first_leaf[home]]))
        taken = np.unique(np.linspace(0, len(leaf.rows) - 1, SAMPLED_ROWS).astype(np.int64))
        leaf = laid_out(leaf.rows[taken], taken, np.array([0, len(taken)]))
        around = lists[:, :N_GROUPS]
        found = _search(
            leaf, around, first_leaf, home, lambda other, part: load(other).leaves(part), k + 1
        )
        rows.append(leaf.rows)
        places.append(number * LEAF_ROWS + taken)
        chosen.append(lists)
        limits.append(found[1][:, -1])
    start = np.concatenate([[0], np.cumsum([len(part) for part in rows])])
    return Sampled(
        np.concatenate(rows),
        np.concatenate(places),
        start,
        np.concatenate(chosen),
        np.concatenate(limits),
    )


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


def choose_effort(sampled: Sampled, nearest: Nearest, recall: float) -> Effort:
    """Return the fewest leaves that find enough of the true neighbours.

    Parameters
    ----------
    sampled : Sampled
        The sampled rows.
    nearest : Nearest
        Their true neighbours, themselves among them.
    recall : float
        Share wanted.

    Returns
    -------
    Effort
        As many leaves as are wanted; all that were looked at where those are too few.
    """
    leaf_of = np.repeat(np.arange(len(sampled.start) - 1), np.diff(sampled.start))
    is_true = (nearest.place != sampled.place[:, None]) & (nearest.place != NOTHING)
    rank = np.full(nearest.place.shape, sampled.chosen.shape[1])
    for leaf, chosen in enumerate(sampled.chosen):
        rank_of = np.argsort(chosen, kind="stable")
        rows = leaf_of == leaf
        wanted = nearest.place[rows] // LEAF_ROWS
        at = np.minimum(np.searchsorted(chosen[rank_of], wanted), len(chosen) - 1)
        is_chosen = chosen[rank_of][at] == wanted
        rank[rows] = np.where(is_chosen, rank_of[at], rank[rows])
    found = np.bincount(rank[is_true], minlength=sampled.chosen.shape[1] + 1)[:-1]
    share = np.cumsum(found) / max(1, is_true.sum())
    n_leaves = min(int(np.searchsorted(share, recall)) + 1, len(share))
    return Effort(n_leaves, float(share[n_leaves - 1]) if is_true.any() else 1.0, len(rank))
