"""Edges between centroids counted from the nearest three centroids of every row."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many rows have each pair of centroids among their nearest three.

    Attributes
    ----------
    key : int64 array of shape (n_pairs,)
        ``i * n_centroids + j`` of each pair with i < j, ascending, unique.
    first : int64 array of shape (n_pairs,)
        Rows whose nearest two centroids are this pair.
    others : int64 array of shape (n_pairs,)
        Rows that have the pair as first and third, or second and third.
    """

    key: NDArray[np.int64]
    first: NDArray[np.int64]
    others: NDArray[np.int64]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name.

        Returns
        -------
        dict of str to array
            What `from_arrays` takes.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PairCounts:
        """Return the counts whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to array
            Attributes by name.

        Returns
        -------
        PairCounts
            Equal to what `to_arrays` was called on.
        """
        return cls(
            **{field.name: np.asarray(arrays[field.name], np.int64) for field in fields(cls)}
        )


def count_pairs(nearest: NDArray[np.integer[Any]], n_centroids: int) -> PairCounts:
    """Count pairs of centroids among the nearest two and three of each row.

    Parameters
    ----------
    nearest : int array of shape (n_samples, 2) or (n_samples, 3)
        Nearest centroids by rising distance; -1 where there is none.
    n_centroids : int
        Number of centroids.

    Returns
    -------
    PairCounts
        The sum of ``first`` is the number of rows that have a second centroid.

    Raises
    ------
    ValueError
        If the shape is another one or a centroid is out of range.

    See Also
    --------
    merge_pair_counts : Adds the counts of two blocks.

    Notes
    -----
    The counts of the nearest two are the connectivity of [1]_, weighted by
    the population as in [2]_.

    References
    ----------
    .. [1] T. Martinetz and K. Schulten, "Topology representing networks",
       Neural Networks 7(3), 507-522, 1994.
    .. [2] K. Tasdemir and E. Merenyi, "Exploiting data topology in
       visualization and clustering of self-organizing maps", IEEE
       Transactions on Neural Networks 20(4), 549-562, 2009.

    Examples
    --------
    >>> counts = count_pairs(np.array([[0, 1, 2], [1, 0, 2], [2, 1, 0]]), 3)
    >>> counts.key.tolist(), counts.first.tolist(), counts.others.tolist()
    ([1, 2, 5], [2, 0, 1], [1, 3, 2])
    """
    nearest = np.asarray(nearest)
    out_of_range = nearest.size and not (nearest.min() >= -1 and nearest.max() < n_centroids)
    if nearest.ndim != 2 or nearest.shape[1] not in (2, 3) or out_of_range:
        msg = (
            "`nearest` must be of shape (n_samples, 2 or 3) and hold centroids "
            f"-1 to {n_centroids - 1}; got shape {nearest.shape}"
            f"{f', {nearest.min()} to {nearest.max()}' if nearest.size else ''}. "
            "Take it from a search for the nearest three."
        )
        raise ValueError(msg)
    columns = nearest.astype(np.int64).T
    # The last bit says which count a key is for: one sort of plain numbers finds both.
    marked = [2 * _pair_keys(columns[0], columns[1], n_centroids)]
    if len(columns) == 3:
        marked += [2 * _pair_keys(columns[end], columns[2], n_centroids) + 1 for end in (0, 1)]
    both = np.sort(np.concatenate(marked))
    is_other = both & 1
    return _add_up(both >> 1, 1 - is_other, is_other)


def merge_pair_counts(*counts: PairCounts) -> PairCounts:
    """Add the counts of disjoint sets of rows.

    Parameters
    ----------
    *counts : PairCounts
        At least one; counts with the same number of centroids.

    Returns
    -------
    PairCounts
        Exact, in any order of merging.

    Examples
    --------
    >>> one = count_pairs(np.array([[0, 1]]), 2)
    >>> merge_pair_counts(one, one).first.tolist()
    [2]
    """
    key = np.concatenate([part.key for part in counts])
    # Made of sorted parts, which this kind of sort merges.
    order = np.argsort(key, kind="stable")
    first = np.concatenate([part.first for part in counts])
    others = np.concatenate([part.others for part in counts])
    return _add_up(key[order], first[order], others[order])


def centroid_graph(counts: PairCounts, n_centroids: int) -> Graph:
    """Make the symmetric graph of counted pairs.

    Parameters
    ----------
    counts : PairCounts
        Counts over all rows.
    n_centroids : int
        Number of centroids that the keys were made with.

    Returns
    -------
    Graph
        Both weights as int64 [images] on one structure; every pair that was
        counted is an edge, neighbours rise within a row.

    Raises
    ------
    ValueError
        If a key does not fit the number of centroids.

    Examples
    --------
    >>> graph = centroid_graph(count_pairs(np.array([[0, 1, 2]]), 3), 3)
    >>> graph.indptr.tolist(), graph.indices.tolist(), graph.weights_two.tolist()
    ([0, 2, 4, 6], [1, 2, 0, 2, 0, 1], [1, 0, 1, 0, 0, 0])
    """
    low, high = np.divmod(counts.key, max(1, n_centroids))
    if counts.key.size and not (low.min() >= 0 and np.all(low < high)):
        msg = (
            f"`counts` must hold pairs i < j of {n_centroids} centroids; got keys "
            f"{counts.key.min()} to {counts.key.max()}. Pass the number they were counted with."
        )
        raise ValueError(msg)
    start, end = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.lexsort((end, start))
    indptr = np.zeros(n_centroids + 1, dtype=np.int64)
    np.cumsum(np.bincount(start, minlength=n_centroids), out=indptr[1:])
    return Graph(
        indptr=indptr,
        indices=end[order].astype(np.int32),
        weights=np.tile(counts.first + counts.others, 2)[order],
        weights_two=np.tile(counts.first, 2)[order],
    )


def _pair_keys(
    one: NDArray[np.int64], two: NDArray[np.int64], n_centroids: int
) -> NDArray[np.int64]:
    """Return the keys of the pairs that exist."""
    exists = (one >= 0) & (two >= 0) & (one != two)
    one, two = one[exists], two[exists]
    return np.minimum(one, two) * n_centroids + np.maximum(one, two)


def _add_up(
    key: NDArray[np.int64], first: NDArray[np.int64], others: NDArray[np.int64]
) -> PairCounts:
    """Add the counts of equal keys, which are neighbours."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    if not starts.size:
        return PairCounts(key, first, others)
    return PairCounts(key[starts], np.add.reduceat(first, starts), np.add.reduceat(others, starts))
