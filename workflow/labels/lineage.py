"""Ids of clusters that stay: which cluster of now is which of before, and what became of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.labels.noise import NOISE_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

#: What becomes of clusters, by number; a table of changes holds the number.
CHANGES = ("born", "grew", "shrank", "merged", "split", "gone")
BORN, GREW, SHRANK, MERGED, SPLIT, GONE = range(len(CHANGES))
#: Pairs are counted in an array over all of them, where it is so small; sorting a block takes 20 times as long.
MAX_DENSE = 2**22


class Overlap(NamedTuple):
    """How many images two labellings have in common: one entry for each pair of labels that occurs.

    Attributes
    ----------
    before, now : int64 arrays of shape (n_pairs,)
        The two labels, -1 for noise; rising by `before`, then by `now`, each pair once.
    images : int64 array of shape (n_pairs,)
        Images that have both.
    """

    before: NDArray[np.int64]
    now: NDArray[np.int64]
    images: NDArray[np.int64]


def count_overlap(
    blocks: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]],
) -> Overlap:
    """Count the images of each pair of a label of before and one of now.

    Parameters
    ----------
    blocks : iterable of (int array, int array), each of shape (n_rows,)
        Labels of the same rows, before and now; -1 is noise.  Blocks are read one
        after the other and not kept.

    Returns
    -------
    Overlap
        The same for any blocks.

    Notes
    -----
    Some ten operations a row.  Memory is that of a block and of the pairs that occur.
    Tasks may count their rows each; `sum_overlaps` adds what they return.

    Examples
    --------
    >>> found = count_overlap([(np.array([0, 0, 1]), np.array([4, 4, -1]))])
    >>> found.before.tolist(), found.now.tolist(), found.images.tolist()
    ([0, 1], [4, -1], [2, 1])
    """
    return sum_overlaps(_count(*block) for block in blocks)


def overlap_of(
    before: NDArray[np.integer[Any]],
    now: NDArray[np.integer[Any]],
    images: NDArray[np.integer[Any]],
) -> Overlap:
    """Return the overlap of two labellings of things that stand for some images each.

    Parameters
    ----------
    before, now : int arrays of shape (n,)
        Two labels of each, -1 for noise; pairs may occur again.
    images : int array of shape (n,) [images]
        How many each stands for.

    Returns
    -------
    Overlap
        Pairs without images are left out.
    """
    # Both in one number: sorting rows of pairs takes 50 times as long.
    both = ((np.asarray(before, np.int64) + 1) << 32) + np.asarray(now, np.int64) + 1
    pairs, place = np.unique(both, return_inverse=True)
    total = np.zeros(len(pairs), np.int64)
    np.add.at(total, place, images)
    pairs, total = pairs[total > 0], total[total > 0]
    return Overlap((pairs >> 32) - 1, (pairs & (2**32 - 1)) - 1, total)


def sum_overlaps(parts: Iterable[Overlap]) -> Overlap:
    """Add what was counted of disjoint images.

    Parameters
    ----------
    parts : iterable of Overlap
        Any number of them, in any order.

    Returns
    -------
    Overlap
        Of all images.
    """
    nothing = np.empty(0, np.int64)
    total = Overlap(nothing, nothing, nothing)
    for part in parts:
        total = overlap_of(*(np.concatenate(both) for both in zip(total, part, strict=True)))
    return total


def add_overlaps(left: Overlap, right: Overlap) -> Overlap:
    """Add what was counted of two disjoint sets of images, as tasks are merged.

    Parameters
    ----------
    left, right : Overlap
        What was counted, in any order.

    Returns
    -------
    Overlap
        Of both sets.
    """
    return sum_overlaps([left, right])


def _count(before: NDArray[np.integer[Any]], now: NDArray[np.integer[Any]]) -> Overlap:
    """Return the overlap in one block."""
    n_now = int(now.max(initial=NOISE_LABEL)) + 2
    n_pairs = (int(before.max(initial=NOISE_LABEL)) + 2) * n_now
    if n_pairs > MAX_DENSE:
        return overlap_of(before, now, np.ones(len(now), np.int64))
    pair = (before.astype(np.int64) + 1) * n_now + (now + 1)
    images = np.bincount(pair, minlength=n_pairs)
    pairs = np.flatnonzero(images)
    return Overlap(pairs // n_now - 1, pairs % n_now - 1, images[pairs].astype(np.int64))


def kept_ids(overlap: Overlap, n_clusters: int) -> NDArray[np.int64]:
    """Return the id that each cluster of now keeps.

    A cluster keeps the id of the one before with which it shares more than half
    of the images of either.

    Parameters
    ----------
    overlap : Overlap
        Images of the ids before and of the clusters of now, counted over the images
        that there were before.
    n_clusters : int
        Number of clusters of now, 0 to n_clusters - 1.

    Returns
    -------
    int64 array of shape (n_clusters,)
        Ids, each at most once; -1 where none is kept.

    Notes
    -----
    No cluster can share more than half of its images with two others, so that the
    pairs which may be matched are a matching already: the assignment of the largest
    total Jaccard index among them, which the Hungarian method would find ([1]_),
    with no search.  Cost is that of sorting the pairs.

    References
    ----------
    .. [1] H. W. Kuhn, "The Hungarian method for the assignment problem", Naval
       Research Logistics Quarterly 2, 83-97, 1955.

    Examples
    --------
    >>> kept_ids(overlap_of([3, 3, 5], [0, 1, 1], [6, 4, 9]), n_clusters=2).tolist()
    [3, 5]
    """
    most_before, most_now = _mostly(overlap)
    is_kept = most_before & most_now
    ids = np.full(n_clusters, -1, np.int64)
    ids[overlap.now[is_kept]] = overlap.before[is_kept]
    return ids


def mostly_of(overlap: Overlap, n: int) -> NDArray[np.int64]:
    """Return the label of before that holds more than half of the images of each label of now.

    Parameters
    ----------
    overlap : Overlap
        Images of both.
    n : int
        Number of labels of now.

    Returns
    -------
    int64 array of shape (n,)
        -1 where there is none, or it is noise.
    """
    found = np.full(n, -1, np.int64)
    _, most_now = _mostly(overlap)
    found[overlap.now[most_now]] = overlap.before[most_now]
    return found


def are_same(overlap: Overlap) -> bool:
    """Return whether two labellings divide the images alike, whatever the numbers.

    Parameters
    ----------
    overlap : Overlap
        Images of both.

    Returns
    -------
    bool
        Whether each label is another one, and noise is noise.
    """
    n_pairs = len(overlap.images)
    is_noise = overlap.before < 0
    return len(np.unique(overlap.before)) == len(np.unique(overlap.now)) == n_pairs and bool(
        (is_noise == (overlap.now < 0)).all()
    )


def new_ids(
    overlap: Overlap, n_clusters: int, next_id: int, earlier: Iterable[Overlap] = ()
) -> NDArray[np.int64]:
    """Return the id of each cluster of now: one that is kept, one that comes back, or a new one.

    Parameters
    ----------
    overlap : Overlap
        As for `kept_ids`.
    n_clusters : int
        As for `kept_ids`.
    next_id : int
        The first id that no cluster has had yet.
    earlier : iterable of Overlap
        The same with states before the last one, the latest first: an id that is gone
        comes back with its cluster.  Not read further than needed.

    Returns
    -------
    int64 array of shape (n_clusters,)
        Ids, each once.  New ones count on from `next_id`, in the order of the clusters.
    """
    ids = kept_ids(overlap, n_clusters)
    others = iter(earlier)
    while (ids < 0).any() and (other := next(others, None)) is not None:
        found = kept_ids(other, n_clusters)
        comes_back = (ids < 0) & (found >= 0) & ~np.isin(found, ids)
        ids[comes_back] = found[comes_back]
    is_new = np.flatnonzero(ids < 0)
    ids[is_new] = next_id + np.arange(len(is_new))
    return ids


class Changes(NamedTuple):
    """What became of clusters: a row for each change; arrays of shape (n_rows,).

    Attributes
    ----------
    change : int64 array
        Place in `CHANGES`.
    cluster, before : int64 arrays
        Id now and id before; -1 where there is none.  A cluster that was merged has
        a row for each that it was merged from, one that was split a row for each part.
    n_images, n_before : int64 arrays [images]
        Images of the cluster now, and of that before; 0 where there is none.
    """

    change: NDArray[np.int64]
    cluster: NDArray[np.int64]
    before: NDArray[np.int64]
    n_images: NDArray[np.int64]
    n_before: NDArray[np.int64]


def find_changes(
    overlap: Overlap, ids: NDArray[np.int64], sizes: NDArray[np.integer[Any]] | None = None
) -> Changes:
    """Return what became of the clusters of before, and where those of now come from.

    Parameters
    ----------
    overlap : Overlap
        As for `kept_ids`.
    ids : int64 array of shape (n_clusters,)
        What `new_ids` returned.
    sizes : int array of shape (n_clusters,) [images], optional
        Images of the clusters of now, new images among them; by default those that
        `overlap` counts.

    Returns
    -------
    Changes
        Clusters that are as they were have no row.

    Notes
    -----
    A cluster is *merged* if it holds most images of each of two or more of before.
    One of before was *split* if two or more of now, with new images, mostly consist of its images.  What
    else keeps its id *grew* or *shrank*; what else has another id was *born*.  An id
    is *gone* if no cluster has it and it was neither merged nor split.
    """
    size_before, size_now = _sizes(overlap)
    sizes = size_now(np.arange(len(ids))) if sizes is None else np.asarray(sizes, np.int64)
    # Where most of a cluster of before went, and what a cluster of now mostly consists of, new images among it.
    both = (overlap.before >= 0) & (overlap.now >= 0)
    went, consists = _mostly(overlap)[0], both & (2 * overlap.images > sizes[overlap.now])
    n_merged = np.bincount(overlap.now[went], minlength=len(ids))
    is_merged = n_merged >= 2
    olds, n_parts = np.unique(overlap.before[consists], return_counts=True)
    was_split = np.isin(overlap.before, olds[n_parts >= 2])
    merged = went & is_merged[overlap.now]
    split = consists & was_split & ~is_merged[overlap.now]
    told = is_merged.copy()
    told[overlap.now[split]] = True
    rest = np.flatnonzero(~told)
    known = np.unique(overlap.before[overlap.before >= 0])
    stays = np.isin(ids[rest], known)
    n_before = np.where(stays, size_before(ids[rest]), 0)
    change = np.where(stays, np.where(sizes[rest] > n_before, GREW, SHRANK), BORN)
    differs = ~stays | (sizes[rest] != n_before)
    is_there = np.concatenate([ids, overlap.before[merged], overlap.before[split]])
    gone = known[~np.isin(known, is_there)]
    none = np.full(len(gone), -1)
    rows = [
        _rows(MERGED, ids, overlap, merged),
        _rows(SPLIT, ids, overlap, split),
        (change[differs], ids[rest][differs], np.where(stays, ids[rest], -1)[differs]),
        (np.full(len(gone), GONE), none, gone),
    ]
    what, cluster, before = (np.concatenate(parts) for parts in zip(*rows, strict=True))
    order = np.lexsort((before, np.where(cluster < 0, np.iinfo(np.int64).max, cluster)))
    what, cluster, before = what[order], cluster[order], before[order]
    by_id = np.argsort(ids)
    place = by_id[np.minimum(np.searchsorted(ids[by_id], cluster), len(ids) - 1)]
    return Changes(
        what,
        cluster,
        before,
        np.where(cluster >= 0, sizes[place], 0),
        np.where(before >= 0, size_before(before), 0),
    )


def _rows(
    change: int, ids: NDArray[np.int64], overlap: Overlap, chosen: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], ...]:
    """Return rows of one change, a row for each pair that was chosen."""
    pairs = ids[overlap.now[chosen]], overlap.before[chosen]
    return np.full(len(pairs[0]), change), *pairs


def _mostly(overlap: Overlap) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which pairs hold more than half of the cluster of before, and of that of now."""
    size_before, size_now = _sizes(overlap)
    is_cluster = (overlap.before >= 0) & (overlap.now >= 0)
    twice = 2 * overlap.images
    return (
        is_cluster & (twice > size_before(overlap.before)),
        is_cluster & (twice > size_now(overlap.now)),
    )


def _sizes(overlap: Overlap) -> tuple[_Sizes, _Sizes]:
    """Return what tells the images of labels of before, and of now."""
    return tuple(  # type: ignore[return-value]
        _Sizes.of(labels, overlap.images) for labels in (overlap.before, overlap.now)
    )


class _Sizes(NamedTuple):
    """Images of labels, which may be few and large numbers."""

    label: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def of(cls, label: NDArray[np.int64], images: NDArray[np.int64]) -> _Sizes:
        """Add the images of each label."""
        found, place = np.unique(label, return_inverse=True)
        total = np.zeros(len(found), np.int64)
        np.add.at(total, place, images)
        return cls(found, total)

    def __call__(self, label: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return the images of some labels, 0 of those that have none."""
        if not len(self.label):
            return np.zeros(len(label), np.int64)
        place = np.minimum(np.searchsorted(self.label, label), len(self.label) - 1)
        return np.where(self.label[place] == label, self.images[place], 0)


def count_changes(changes: Changes, n_before: int, n_clusters: int) -> dict[str, int]:
    """Return how many clusters each change is about.

    Parameters
    ----------
    changes : Changes
        What `find_changes` returned.
    n_before, n_clusters : int
        Clusters before, and now.

    Returns
    -------
    dict of str to int
        ``n_before``, ``n_clusters``; ``kept``, clusters of now that are what one before was, of which some
        ``grew`` and some ``shrank``; ``merged_from`` clusters of before ``merged`` into so many; ``split``
        ones of before ``split_into`` so many; ``born`` and ``gone``.
    """
    of = {name: changes.change == number for number, name in enumerate(CHANGES)}
    merged, parts = (len(np.unique(changes.cluster[of[c]])) for c in ("merged", "split"))
    split = len(np.unique(changes.before[of["split"]]))
    born = int(of["born"].sum())
    return {
        "n_before": n_before,
        "n_clusters": n_clusters,
        "kept": n_clusters - merged - parts - born,
        "grew": int(of["grew"].sum()),
        "shrank": int(of["shrank"].sum()),
        "merged_from": int(of["merged"].sum()),
        "merged": merged,
        "split": split,
        "split_into": parts,
        "born": born,
        "gone": int(of["gone"].sum()),
    }
