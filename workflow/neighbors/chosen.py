"""Which leaves are searched where there are too many rows to search all: the nearest to each leaf."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.neighbors._leaf_kernels import nearest_columns
from workflow.neighbors._search_kernels import Leaves, lay_out, leaf_limits, near_leaves
from workflow.neighbors._search_kernels import search_leaves as search_lists
from workflow.neighbors._tiles import LEAF_ROWS
from workflow.neighbors.search import copies_of, expanded, nothing_found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from workflow.neighbors.buckets import Bucket
    from workflow.neighbors.search import Found

#: Regions that the leaves of a leaf's list may lie in, and those that they are looked for among.
N_REGIONS, N_REGIONS_AROUND = 32, 256
#: Most leaves that a leaf is compared with.
MAX_LEAVES = 1024
#: Leaves whose rows are searched exactly to learn how many leaves that takes.
N_SAMPLED = 64


class Centers(NamedTuple):
    """Centres of regions, and where the regions lie.

    Attributes
    ----------
    centers : float32 array of shape (n_regions, n_features)
        Mean of each region.
    n_leaves : int64 array of shape (n_regions,)
        Leaves of each.
    step : int
        Regions of a bucket.
    """

    centers: NDArray[np.float32]
    n_leaves: NDArray[np.int64]
    step: int

    @property
    def leaf_start(self) -> NDArray[np.int64]:
        """Number of the first leaf of each region, counted over all; and their number."""
        return np.concatenate([[0], np.cumsum(self.n_leaves)])

    def first_leaf(self, bucket: int) -> int:
        """Return the number of the first leaf of a bucket, counted over all.

        Parameters
        ----------
        bucket : int
            The bucket.

        Returns
        -------
        int
            Leaves of all buckets before it.
        """
        return int(self.leaf_start[bucket * self.step])


def region_centers(bucket: Bucket) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what a table of all regions needs of a bucket.

    Parameters
    ----------
    bucket : Bucket
        The bucket.

    Returns
    -------
    tuple of arrays
        The centre and the number of leaves of each of its regions.
    """
    n_leaves = np.diff(bucket.region_start)
    centers = np.zeros((len(n_leaves), bucket.centers.shape[1]), np.float32)
    for region in np.flatnonzero(n_leaves):
        leaves = slice(*bucket.region_start[region : region + 2])
        weights = np.diff(bucket.start)[leaves]
        # Sums along the first axis are added row by row, the same everywhere.
        total = (bucket.centers[leaves].astype(np.float64) * weights[:, None]).sum(axis=0)
        centers[region] = total / weights.sum()
    return centers, n_leaves


def center_table(
    parts: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]], step: int
) -> Centers:
    """Return the table of all regions.

    Parameters
    ----------
    parts : sequence of tuple of arrays
        What `region_centers` says of each bucket, in their order.
    step : int
        Regions of a bucket.

    Returns
    -------
    Centers
        The table.
    """
    centers, n_leaves = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Centers(centers, n_leaves, step)


def nearest_leaves(
    centers: NDArray[np.float32],
    region: int,
    table: Centers,
    load_centers: Callable[[int], NDArray[np.float32]],
    n_leaves: int,
) -> NDArray[np.int64]:
    """Return the leaves nearest to some leaves of a region.

    Parameters
    ----------
    centers : float32 array of shape (n, n_features)
        Centres of leaves of one region.
    region : int
        That region.
    table : Centers
        All regions.
    load_centers : callable
        Returns the centres of the leaves of a region.
    n_leaves : int
        Leaves wanted, at most.

    Returns
    -------
    int64 array of shape (n, n_leaves)
        Leaves, counted over all, nearest first; -1 where there are fewer.
    """
    is_there = np.flatnonzero(table.n_leaves)
    one = np.zeros((1, 1), np.int64)
    columns = np.ascontiguousarray(table.centers[is_there].T)
    whole = np.array([0, len(is_there)])
    around = nearest_columns(
        table.centers[region : region + 1],
        columns,
        whole,
        one,
        min(N_REGIONS_AROUND, len(is_there)),
    )[0]
    around = np.sort(is_there[around])
    columns = np.ascontiguousarray(table.centers[around].T)
    whole = np.array([0, len(around)])
    zeros = np.zeros((len(centers), 1), np.int64)
    near = nearest_columns(centers, columns, whole, zeros, min(N_REGIONS, len(around)))
    used, blocks = np.unique(near, return_inverse=True)
    numbers = [around[place] for place in used]
    found = [load_centers(int(number)) for number in numbers]
    start = np.concatenate([[0], np.cumsum([len(part) for part in found])])
    columns = np.ascontiguousarray(np.concatenate(found).T)
    chosen = nearest_columns(centers, columns, start, blocks.reshape(near.shape), n_leaves)
    leaf_start = table.leaf_start
    leaf = np.concatenate([np.arange(leaf_start[n], leaf_start[n + 1]) for n in numbers])
    return np.where(chosen < 0, -1, leaf[chosen])


def search_chosen(
    home: int,
    table: Centers,
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
    table : Centers
        All regions.
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
    bucket = load(home)
    lists = []
    for region, (first, stop) in enumerate(
        zip(bucket.region_start[:-1], bucket.region_start[1:], strict=True)
    ):
        if first < stop:
            number = home * table.step + region
            lists.append(
                nearest_leaves(
                    bucket.centers[first:stop],
                    number,
                    table,
                    lambda other: _centers_of(load(other // table.step), other % table.step),
                    n_leaves,
                )
            )
    leaves = bucket.leaves()
    nearest, sq_distance = nothing_found(len(leaves.rows), k + 1)
    copies = []
    for number, part, start, wanted in _by_bucket(np.concatenate(lists), table, home):
        other = load(number)
        copies.append(copies_of(other, part))
        search_lists(leaves, other.leaves(part), start, wanted, nearest, sq_distance)
    return expanded(nearest, sq_distance, copies, scale)


def _centers_of(bucket: Bucket, region: int) -> NDArray[np.float32]:
    """Return the centres of the leaves of a region of a bucket."""
    return bucket.centers[slice(*bucket.region_start[region : region + 2])]


def _by_bucket(chosen: NDArray[np.int64], table: Centers, home: int) -> Any:
    """Yield (bucket, its leaves on any list, start of each list, lists of places among those).

    The bucket that is searched itself comes first.
    """
    first = table.leaf_start[:: table.step]
    bucket_of = np.searchsorted(first, chosen, side="right") - 1
    # Empty buckets begin where the next one does.
    bucket_of[chosen < 0] = -1
    numbers = [int(number) for number in np.unique(bucket_of) if number >= 0]
    for number in sorted(numbers, key=lambda other: (other != home, other)):
        is_here = bucket_of == number
        part, wanted = np.unique(chosen[is_here] - table.first_leaf(number), return_inverse=True)
        start = np.concatenate([[0], np.cumsum(is_here.sum(axis=1))])
        yield number, part, start, wanted.astype(np.int32)


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
        Leaves that each may be compared with, counted over all, nearest first; -1 for none.
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
        return Leaves(self.rows, self.place, self.start, *lay_out(self.rows, self.start))


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


def sample_leaves(table: Centers, load: Callable[[int], Bucket], k: int) -> Sampled:
    """Take some leaves evenly over all, and search a few leaves around each.

    Parameters
    ----------
    table : Centers
        All regions.
    load : callable
        Returns a bucket of that number.
    k : int
        Neighbours wanted.

    Returns
    -------
    Sampled
        The leaves, what each would be compared with, and a limit for each row.
    """
    leaf_start = table.leaf_start
    n_leaves = int(leaf_start[-1])
    numbers = np.unique(np.linspace(0, n_leaves - 1, min(N_SAMPLED, n_leaves)).astype(np.int64))
    rows, places, chosen, limits = [], [], [], []
    for number in numbers:
        region = int(np.searchsorted(leaf_start, number, side="right")) - 1
        home = region // table.step
        bucket, inside = load(home), number - table.first_leaf(home)
        lists = nearest_leaves(
            bucket.centers[inside : inside + 1],
            region,
            table,
            lambda other: _centers_of(load(other // table.step), other % table.step),
            MAX_LEAVES,
        )
        leaf = bucket.leaves(np.array([inside]))
        found = nothing_found(len(leaf.rows), k + 1)
        for other, part, start, wanted in _by_bucket(lists[:, :N_SAMPLED], table, home):
            search_lists(leaf, load(other).leaves(part), start, wanted, *found)
        rows.append(leaf.rows)
        places.append(number * LEAF_ROWS + np.arange(len(leaf.rows)))
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
    other = other._replace(number=leaf * LEAF_ROWS + within)
    place, sq_distance = nothing_found(len(sampled.rows), k + 1)
    sq_distance[:] = sampled.limit[:, None]
    lists = near_leaves(home, leaf_limits(home.start, sq_distance), other, False)  # noqa: FBT003
    search_lists(home, other, *lists, place, sq_distance)
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
    is_true = (nearest.place != sampled.place[:, None]) & (nearest.place < np.iinfo(np.int64).max)
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
