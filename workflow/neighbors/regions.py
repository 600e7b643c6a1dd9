"""Regions: a tree of splits, made on a sample, that leads every row to a part of a few thousand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compiling import frozen
from workflow.neighbors._leaf_kernels import route_rows
from workflow.neighbors.leaves import means, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Rows that a region has about, and rows of the sample for each region.
REGION_ROWS, SAMPLE_ROWS = 4096, 32
#: Largest value of the sample once it is scaled: leaves room for larger ones in float16 [1].
SCALED_MAX = 2.0**8
#: Largest value of float16.
MAX_HALF = 65_504.0


@dataclass(frozen=True, slots=True)
class Regions:
    """A tree of splits by one feature each; the parts it leads to are numbered from left to right.

    Attributes
    ----------
    scale : float
        A power of two that rows are multiplied by.
    feature : int64 array of shape (n_regions - 1,)
        Feature that decides at each split.
    threshold : float32 array of shape (n_regions - 1,)
        Scaled rows up to it take the first branch.
    branch : int64 array of shape (n_regions - 1, 2)
        The split that follows, or ``-1 - region``.
    centers : float32 array of shape (n_regions, n_features)
        Mean of the sample in each region.
    """

    scale: float
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    branch: NDArray[np.int64]
    centers: NDArray[np.float32]

    @property
    def n_regions(self) -> int:
        """Number of regions."""
        return len(self.feature) + 1

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {
            "scale": np.array(self.scale),
            "feature": self.feature,
            "threshold": self.threshold,
            "branch": self.branch,
            "centers": self.centers,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Regions:
        """Return the regions whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave.

        Returns
        -------
        Regions
            The same regions.
        """
        names = ("feature", "threshold", "branch", "centers")
        return cls(float(arrays["scale"]), *(arrays[name] for name in names))

    def scaled(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Return rows in the unit of the regions.

        Parameters
        ----------
        rows : float array of shape (n_rows, n_features)
            Rows [score].

        Returns
        -------
        float32 array of shape (n_rows, n_features)
            The rows times `scale`; zeros are all positive, so that equal rows have equal bytes.
        """
        return rows.astype(np.float32) * np.float32(self.scale) + np.float32(0)

    def route(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """Return the region of each row.

        Parameters
        ----------
        rows : float array of shape (n_rows, n_features)
            Scaled rows.

        Returns
        -------
        int32 array of shape (n_rows,)
            Equal rows come to one region.
        """
        region = np.zeros(len(rows), np.int32)
        if self.n_regions > 1:
            rows = frozen(rows.astype(np.float32, copy=False))
            route_rows(rows, self.feature, self.threshold, self.branch, region)
        return region


def region_count(n_samples: int) -> int:
    """Return into how many regions rows are split, by their number alone.

    Parameters
    ----------
    n_samples : int
        All rows.

    Returns
    -------
    int
        At least one.
    """
    return max(1, -(-n_samples // REGION_ROWS))


def sample_rows(n_samples: int) -> int:
    """Return how many rows the splits are made on.

    Parameters
    ----------
    n_samples : int
        All rows.

    Returns
    -------
    int
        So many of them, at most all.
    """
    return min(n_samples, max(REGION_ROWS, SAMPLE_ROWS * region_count(n_samples)))


def build_regions(sample: NDArray[Any], n_regions: int) -> Regions:
    """Split a sample into regions of about as many different rows each.

    Parameters
    ----------
    sample : float array of shape (n_rows, n_features)
        Some of the rows, in an order that does not depend on who drew them [score].
    n_regions : int
        Regions wanted; there are fewer where the sample has fewer different rows.

    Returns
    -------
    Regions
        Rows that are equal count once: copies do not draw borders.
    """
    largest = float(np.abs(sample).max(initial=0))
    scale = 2.0 ** -np.frexp(largest / SCALED_MAX)[1] if largest > 0 else 1.0
    rows = np.unique(sample.astype(np.float32) * np.float32(scale) + np.float32(0), axis=0)
    splits = split(rows, min(n_regions, len(rows)), is_distinct=True)
    centers, _ = means(rows, splits.order, splits.start)
    return Regions(scale, splits.feature, splits.threshold, splits.branch, centers)


def packed(rows: NDArray[np.float32], centers: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return rows in half the bytes: what is between them and the centre of their region or group.

    Parameters
    ----------
    rows : float32 array of shape (n_rows, n_features)
        Scaled rows.
    centers : float32 array of shape (n_rows, n_features)
        The centre for each.

    Returns
    -------
    float16 array of shape (n_rows, n_features)
        With errors of 1/4,000 of the distance to the centre at most; `unpacked` undoes it.
    """
    found: NDArray[np.float16] = np.clip(rows - centers, -MAX_HALF, MAX_HALF).astype(np.float16)
    return found


def unpacked(rows: NDArray[np.float16], centers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what `packed` has packed, but for the last digits.

    Parameters
    ----------
    rows : float16 array of shape (n_rows, n_features)
        What `packed` returned.
    centers : float32 array of shape (n_rows, n_features)
        The centre for each.

    Returns
    -------
    float32 array of shape (n_rows, n_features)
        Scaled rows.
    """
    return rows.astype(np.float32) + centers
