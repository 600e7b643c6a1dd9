"""What communities of a smooth cloud are like: the distribution that families are tested against."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import ndtr

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: The table, and what made it: ``python -m benchmarks.smooth_clouds``.
TABLE = Path(__file__).with_name("smooth_clouds.csv")
#: Conductances are kept this far from 0 and 1, so that their log odds are finite.
MARGIN = 1e-4
#: How much the log odds may differ in smooth clouds that the table was not made from: steep ones in 20 to
#: 50 dimensions, in which 20,000 points are nowhere alike.  Added to the spread in quadrature.
MODEL_ERROR = 0.3


class SmoothClouds(NamedTuple):
    """Log odds of the conductance of communities of smooth clouds, by dimension and size.

    Attributes
    ----------
    dimension : float64 array of shape (n_dimensions,)
        Rising dimensions, as `ambient_dimension` reads them.
    size : float64 array of shape (n_sizes,) [images]
        Rising sizes.
    center : float64 array of shape (n_dimensions, n_sizes)
        Mean of the log odds in a cloud of one density.
    spread : float64 array of shape (n_dimensions, n_sizes)
        How far below the mean the lowest half per cent lie, in the least
        favourable of the clouds, over 2.58.
    """

    dimension: NDArray[np.float64]
    size: NDArray[np.float64]
    center: NDArray[np.float64]
    spread: NDArray[np.float64]

    def at(
        self, dimension: ArrayLike, size: ArrayLike
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return center and spread at dimensions and sizes, between those of the table."""
        row, row_share = _between(np.log(self.dimension), np.log(np.asarray(dimension, float)))
        column, share = _between(np.log(self.size), np.log(np.asarray(size, float)))
        found = []
        for table in (self.center, self.spread):
            low = table[row, column] * (1 - share) + table[row, column + 1] * share
            high = table[row + 1, column] * (1 - share) + table[row + 1, column + 1] * share
            found.append(low * (1 - row_share) + high * row_share)
        return found[0], found[1]


def _between(
    grid: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the place below each value in a grid and its share of the way up; ends hold beyond."""
    value = np.clip(value, grid[0], grid[-1])
    place = np.clip(np.searchsorted(grid, value, side="right") - 1, 0, len(grid) - 2)
    return place, (value - grid[place]) / (grid[place + 1] - grid[place])


@cache
def smooth_clouds() -> SmoothClouds:
    """Return the stored table.

    Returns
    -------
    SmoothClouds
        The same for everybody: nothing is drawn.
    """
    table = np.loadtxt(TABLE, delimiter=",", skiprows=1)
    dimension, size = np.unique(table[:, 0]), np.unique(table[:, 1])
    shape = (len(dimension), len(size))
    return SmoothClouds(dimension, size, table[:, 2].reshape(shape), table[:, 3].reshape(shape))


def log_odds(conductance: ArrayLike) -> NDArray[np.float64]:
    """Return the log odds of conductances, finite for 0 and 1, too."""
    share = np.clip(np.asarray(conductance, np.float64), MARGIN, 1 - MARGIN)
    return np.asarray(np.log(share / (1 - share)))


def against_smooth(
    conductance: NDArray[np.float64], size: NDArray[np.int64], dimension: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare communities with those of a smooth cloud of their dimension and size.

    Parameters
    ----------
    conductance : float64 array of shape (n_communities,)
        Weight that leaves a community over the weight of its images.
    size : int64 array of shape (n_communities,) [images]
        Sizes.
    dimension : float64 array of shape (n_communities,)
        Dimension around each.

    Returns
    -------
    expected : float64 array of shape (n_communities,)
        Conductance that such a community of a smooth cloud has.
    p : float64 array of shape (n_communities,)
        How probable one as low or lower is there.

    Examples
    --------
    >>> expected, p = against_smooth(np.array([0.02]), np.array([30]), np.array([4.0]))
    >>> bool(0.2 < expected[0] < 0.4), bool(p[0] < 1e-4)
    (True, True)
    """
    center, spread = smooth_clouds().at(dimension, size)
    p: Any = ndtr((log_odds(conductance) - center) / np.hypot(spread, MODEL_ERROR))
    return 1 / (1 + np.exp(-center)), p


def benjamini_hochberg(p: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return which tests are passed so that at most this share of them is false.

    Parameters
    ----------
    p : float64 array of shape (n_tests,)
        Their p-values.
    share : float
        Expected share of false ones among the passed.

    Returns
    -------
    bool array of shape (n_tests,)
        The procedure of Benjamini and Hochberg (1995).

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.001, 0.04, 0.9]), 0.05).tolist()
    [True, False, False]
    """
    if not len(p):
        return np.zeros(0, bool)
    order = np.argsort(p, kind="stable")
    passes = p[order] <= share * np.arange(1, len(p) + 1) / len(p)
    n_passed = int(np.flatnonzero(passes).max(initial=-1)) + 1
    passed = np.zeros(len(p), bool)
    passed[order[:n_passed]] = True
    return passed
