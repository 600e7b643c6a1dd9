"""Near-duplicates among nearest neighbours: the radius that the data set, and groups that keep to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.neighbors._near_kernels import (
    cut_roots,
    group_linked,
    link,
    link_near,
    roots_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A group is at most so many radii wide.
MAX_DIAMETER = 2.0
#: Bits of a float32 that tell less than a sixteenth of an octave, and the bins that are left.
_LOW_BITS, N_BINS = 19, 1 << 12
#: Widths of a dip: half an octave, as the peaks beside it, and two octaves [bins].
_WIDTHS = (8, 32)
#: A dip holds at most this part of the images of the lower peak beside it.
MAX_IN_DIP = 0.25
#: A dip with so small a part is as deep as any.
DEEP = 0.1
#: Standard deviations by which the lower peak must rise above the dip.
MIN_RISE = 4.5


class NearRows(NamedTuple):
    """Groups of near-duplicates.

    Attributes
    ----------
    first : int64 array of shape (n_rows,)
        First row of the group of each row; its own number for one that is alone.
    diameter : float64 array of shape (n_rows,) [score]
        Largest distance within the group, at its first row, 0 elsewhere; an
        upper bound where groups of very many rows were joined.
    """

    first: NDArray[np.int64]
    diameter: NDArray[np.float64]


def count_distances(distance: NDArray[np.float32]) -> NDArray[np.int64]:
    """Count the smallest distance above 0 of each row, in bins of a sixteenth of an octave.

    Parameters
    ----------
    distance : float32 array of shape (n_rows, k)
        Distances to the nearest neighbours, rising; infinite where missing [score].

    Returns
    -------
    int64 array of shape (4096,)
        Rows of each bin; those whose distances are all 0 or infinite are left out.
    """
    is_apart = (distance > 0) & np.isfinite(distance)
    nearest = distance[np.arange(len(distance)), is_apart.argmax(axis=1)][is_apart.any(axis=1)]
    bins = np.ascontiguousarray(nearest, np.float32).view(np.int32) >> _LOW_BITS
    return np.bincount(bins, minlength=N_BINS)


def quantile_of(counts: NDArray[np.int64], share: float) -> float:
    """Return the distance below which a share of what was counted lies.

    Parameters
    ----------
    counts : int64 array of shape (4096,)
        From `count_distances`.
    share : float
        From 0 to 1.

    Returns
    -------
    float
        A border of bins [score]; 0 where nothing was counted.
    """
    if not counts.any():
        return 0.0
    return _border(int(np.searchsorted(np.cumsum(counts), share * counts.sum())) + 1)


def find_dip(counts: NDArray[np.int64]) -> float | None:
    """Find the distance that parts near-duplicates from other images.

    Parameters
    ----------
    counts : int64 array of shape (4096,)
        From `count_distances`.

    Returns
    -------
    float or None
        A third of the way through the highest dip in the distribution of the
        logarithm of the distance, where it is deepest [score]; None without one.

    Notes
    -----
    A dip is half an octave, or else two octaves, with at most a quarter of the
    images of the higher half octaves on either side, and with at most half of all
    images below it.  The half octave below must rise above it by more than
    chance: 4.5 standard deviations of counts, for images are each other's nearest.
    In a smooth cloud the density of the logarithm rises up to its only peak,
    so there is no dip.  Clouds of very different densities also make one.

    Examples
    --------
    >>> near, others = np.geomspace(9, 11, 50), np.geomspace(90, 400, 1000)
    >>> counts = count_distances(np.concatenate([near, others])[:, None].astype(np.float32))
    >>> round(find_dip(counts))
    23
    """
    for width in _WIDTHS:
        depth = _depths(counts, width)
        dips = _runs(np.isfinite(depth))
        if dips:
            last = depth[dips[-1]]
            deep = _runs(last <= max(DEEP, last.min()))[-1]
            # Nearer to the lower end: what is not equal reaches down farther than near-duplicates up.
            return _border(dips[-1].start + (2 * deep.start + deep.stop - 1) // 3)
    return None


def _depths(counts: NDArray[np.int64], width: int) -> NDArray[np.float64]:
    """Return how many lie in a window around each border of bins, against the lower peak; infinite without a dip."""
    below = np.concatenate([[0], np.cumsum(counts)])
    n_bins, half, peak = len(counts), width // 2, _WIDTHS[0]

    def within(low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = below[np.clip(high, 0, n_bins)] - below[np.clip(low, 0, n_bins)]
        return found

    border = np.arange(n_bins + 1)
    inside = within(border - half, border + half)
    left = np.maximum.accumulate(within(border - half - peak, border - half))
    right = np.maximum.accumulate(within(border + half, border + half + peak)[::-1])[::-1]
    lower, expected = np.minimum(left, right), left * (width / peak)
    is_dip = (
        (inside <= MAX_IN_DIP * lower)
        & (expected - inside > MIN_RISE * np.sqrt(expected + inside))
        & (2 * below <= below[-1])
    )
    return np.where(is_dip, inside / np.maximum(lower, 1), np.inf)


def _runs(mask: NDArray[np.bool_]) -> list[slice]:
    """Return where a mask is true, run by run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
    return [slice(*pair) for pair in edges.reshape(-1, 2).tolist()]


def _border(number: int) -> float:
    """Return the distance where a bin begins."""
    return float(np.array(number << _LOW_BITS, np.int32).view(np.float32))


def near_groups(
    rows: NDArray[np.float32],
    one: NDArray[Any],
    other: NDArray[Any],
    distance: NDArray[np.floating[Any]],
    radius: float,
) -> NearRows:
    """Group rows along links, shortest first, so that no group is wider than two radii.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Rows [score].
    one, other : int array of shape (n_links,)
        Rows that a link joins, in any order; links may be repeated.
    distance : float array of shape (n_links,)
        Their distances [score].
    radius : float
        Links that are longer are left out [score].

    Returns
    -------
    NearRows
        The groups.

    Notes
    -----
    Two groups are joined unless a row of one is farther than two radii from a
    row of the other: complete linkage [1]_ along the links.  Of two groups
    with more than 131,072 pairs the distances of the largest from their first
    rows are used as bounds.

    References
    ----------
    .. [1] T. Sorensen, "A method of establishing groups of equal amplitude in
       plant sociology", Biologiske Skrifter 5, 1948.

    Examples
    --------
    >>> chain = np.arange(5, dtype=np.float32)[:, None]
    >>> found = near_groups(chain, np.arange(4), np.arange(1, 5), np.ones(4), 1.0)
    >>> found.first.tolist(), found.diameter.tolist()
    ([0, 0, 0, 3, 3], [2.0, 0.0, 0.0, 1.0, 0.0])
    """
    low, high = np.minimum(one, other).astype(np.int64), np.maximum(one, other).astype(np.int64)
    order = np.lexsort((high, low, distance))
    order = order[distance[order] <= radius]
    found = group_linked(
        np.ascontiguousarray(rows, np.float32), low[order], high[order], MAX_DIAMETER * radius
    )
    return NearRows(*found)


__all__ = [
    "MAX_DIAMETER",
    "N_BINS",
    "NearRows",
    "count_distances",
    "cut_roots",
    "find_dip",
    "link",
    "link_near",
    "near_groups",
    "quantile_of",
    "roots_of",
]
