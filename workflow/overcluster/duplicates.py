"""Cells whose rows are all the same, or nearly so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.numerics import weighted_median

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: A cell with so small a part of the usual radius holds near-duplicates.  A hundredth of the radius
#: is a density higher by 100 to the power of the dimension, 10^10 in five: images do not crowd so by
#: chance; copies with a grey level changed here and there do.  Copies that were compressed again lie
#: farther apart, where other causes of dense cells begin: a larger part would mix the two.
NEAR_RADIUS = 1e-2
#: Distances that float32 cannot tell from 0, as a part of the size of the scores: its spacing,
#: for a centroid is the rounded mean of its rows.
SAME = float(np.finfo(np.float32).eps)


class DuplicateCells(NamedTuple):
    """Which cells hold duplicates; boolean arrays of shape (n_centroids,).

    Attributes
    ----------
    is_exact : bool array
        Rows that coincide, to float32.
    is_near : bool array
        Rows that lie far closer together than those of other cells; never
        also exact.
    """

    is_exact: NDArray[np.bool_]
    is_near: NDArray[np.bool_]


def duplicate_cells(
    population: NDArray[np.integer[Any]],
    rms_radius: NDArray[np.floating[Any]],
    max_distance: NDArray[np.floating[Any]],
    scale: ArrayLike,
) -> DuplicateCells:
    """Find the cells that are made of duplicates.

    Parameters
    ----------
    population : int array of shape (n_centroids,)
        Rows of each cell.
    rms_radius : float array of shape (n_centroids,)
        Root mean square distance of its rows to the centroid [score].
    max_distance : float array of shape (n_centroids,)
        Largest such distance [score].
    scale : float or float array of shape (n_centroids,)
        Size of the scores around: the norm of each centroid [score].

    Returns
    -------
    DuplicateCells
        Two masks that do not overlap.

    Raises
    ------
    ValueError
        If the arrays have different shapes, or a radius is negative or no
        number.

    Notes
    -----
    A cell is exact when it has two rows or more and no distance exceeds the
    spacing of float32 at `scale`.  It is near when its radius is below
    ``NEAR_RADIUS`` times the usual one: the median over the cells of two rows
    or more that are not exact, weighted by population.  Where near-duplicates
    are the majority of those rows, they are what is usual, and none is found.
    Duplicates that share a cell with other rows are not seen here.

    Examples
    --------
    >>> radius = np.array([0.0, 0.001, 1.0, 0.0])
    >>> found = duplicate_cells(np.array([9, 5, 80, 1]), radius, 2 * radius, 10.0)
    >>> found.is_exact.tolist(), found.is_near.tolist()
    ([True, False, False, False], [False, True, False, False])
    """
    population, radius, farthest = (
        np.asarray(array) for array in (population, rms_radius, max_distance)
    )
    sizes = sorted({population.shape, radius.shape, farthest.shape})
    if len(sizes) > 1 or not ((radius >= 0) & (farthest >= 0)).all():
        msg = (
            "`population`, `rms_radius` and `max_distance` must have one value a cell, distances "
            f"of 0 or more; got shapes {sizes}, minimum {min(radius.min(initial=0), farthest.min(initial=0))}. "
            "Take them from one run."
        )
        raise ValueError(msg)
    is_several = population >= 2
    is_exact = is_several & (farthest <= SAME * np.asarray(scale))
    others = is_several & ~is_exact
    usual = weighted_median(radius[others], population[others])
    return DuplicateCells(is_exact, others & (radius < NEAR_RADIUS * usual))
