"""Statistics of the rows nearest to each centroid, additive over blocks of rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.overcluster._cell_kernels import lowest_of_groups, sum_by_group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Exemplars of each centroid.
N_EXEMPLARS = 4


@dataclass(frozen=True, slots=True)
class CellSums:
    """Sums over the rows of each cell; a cell is the rows nearest to one centroid.

    Attributes
    ----------
    population : int64 array of shape (n_centroids,)
        Rows of the cell.
    total : float64 array of shape (n_centroids, n_features)
        Sum of its rows [score].
    sq_distance : float64 array of shape (n_centroids,)
        Sum of their squared distances to the centroid [score squared].
    distance : float64 array of shape (n_centroids,)
        Sum of their distances to the centroid [score].
    max_distance : float64 array of shape (n_centroids,)
        Largest such distance, 0 for an empty cell [score].
    exemplar : int64 array of shape (n_centroids, 4)
        The rows nearest to the centroid by rising distance, ties by the lower
        row; -1 where the cell has fewer.
    exemplar_sq_distance : float64 array of shape (n_centroids, 4)
        Their squared distances; infinite where there is none [score squared].
    """

    population: NDArray[np.int64]
    total: NDArray[np.float64]
    sq_distance: NDArray[np.float64]
    distance: NDArray[np.float64]
    max_distance: NDArray[np.float64]
    exemplar: NDArray[np.int64]
    exemplar_sq_distance: NDArray[np.float64]

    @property
    def n_samples(self) -> int:
        """Number of rows of all cells."""
        return int(self.population.sum())

    @property
    def inertia(self) -> float:
        """Sum of squared distances of all rows [score squared]."""
        return float(self.sq_distance.sum())

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the rows of each cell, shape (n_centroids, n_features); 0 where it is empty."""
        return self.total / np.maximum(self.population, 1)[:, None]

    @property
    def rms_radius(self) -> NDArray[np.float64]:
        """Root mean square distance to the centroid, shape (n_centroids,); 0 where it is empty."""
        return np.sqrt(self.sq_distance / np.maximum(self.population, 1))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name.

        Returns
        -------
        dict of str to ndarray
            Not copied.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CellSums:
        """Return the sums whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave.

        Returns
        -------
        CellSums
            The same sums.
        """
        return cls(**{field.name: np.asarray(arrays[field.name]) for field in fields(cls)})


def cell_sums(
    rows: NDArray[Any],
    first_row: int,
    nearest: NDArray[np.integer[Any]],
    sq_distance: NDArray[np.floating[Any]],
    n_centroids: int,
) -> CellSums:
    """Add up the rows of each cell.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        Rows [score].
    first_row : int
        Index of the first of them in the whole data, to name exemplars.
    nearest : int array of shape (n_samples,) or (n_samples, k)
        Nearest centroid of each row (first column).
    sq_distance : float array of shape (n_samples,) or (n_samples, k)
        Squared distance to it (first column) [score squared].
    n_centroids : int
        Number of centroids.

    Returns
    -------
    CellSums
        Sums in float64 in row order.

    Raises
    ------
    ValueError
        If the lengths differ, or a centroid is out of range.

    See Also
    --------
    merge_cell_sums : Adds the sums of two blocks.

    Notes
    -----
    Memory is O(n_centroids * n_features), whatever the number of rows.

    Examples
    --------
    >>> rows = np.array([[0.0], [2.0], [9.0]])
    >>> sums = cell_sums(rows, 100, np.array([0, 0, 1]), np.array([1.0, 1.0, 0.0]), 2)
    >>> sums.population.tolist(), sums.mean.ravel().tolist(), sums.rms_radius.tolist()
    ([2, 1], [1.0, 9.0], [1.0, 0.0])
    """
    group = _first_column(nearest).astype(np.intp)
    squared = _first_column(sq_distance).astype(np.float64)
    is_legal = group.shape == squared.shape == rows.shape[:1]
    if not is_legal or ((group < 0) | (group >= n_centroids)).any():
        found = f"{group.min()} to {group.max()}" if group.size else "none"
        msg = (
            f"`nearest` must hold a centroid 0 to {n_centroids - 1} for each of "
            f"{rows.shape[0]} rows; got {found} for {group.shape[0]}. "
            "Assign the rows to these centroids first."
        )
        raise ValueError(msg)
    plain = np.sqrt(squared)
    exemplar, exemplar_sq_distance = lowest_of_groups(squared, group, n_centroids, N_EXEMPLARS)
    exemplar[exemplar >= 0] += first_row
    _, farthest = lowest_of_groups(-plain, group, n_centroids, 1)
    summed = sum_by_group(np.column_stack([squared, plain]), group, n_centroids)
    return CellSums(
        population=np.bincount(group, minlength=n_centroids).astype(np.int64),
        total=sum_by_group(rows, group, n_centroids),
        sq_distance=summed[:, 0],
        distance=summed[:, 1],
        max_distance=np.where(np.isfinite(farthest[:, 0]), -farthest[:, 0], 0.0),
        exemplar=exemplar,
        exemplar_sq_distance=exemplar_sq_distance,
    )


def merge_cell_sums(left: CellSums, right: CellSums) -> CellSums:
    """Combine the sums of two disjoint sets of rows.

    Parameters
    ----------
    left, right : CellSums
        Sums over disjoint sets of rows with the same centroids.

    Returns
    -------
    CellSums
        Sums over both.  Integers, extremes and exemplars do not depend on the
        order; merge in the order of the blocks to fix the last bits of the
        others.

    Raises
    ------
    ValueError
        If the two sides have different shapes.

    Examples
    --------
    >>> one = cell_sums(np.array([[1.0]]), 0, np.array([0]), np.array([4.0]), 1)
    >>> two = cell_sums(np.array([[2.0]]), 1, np.array([0]), np.array([1.0]), 1)
    >>> merge_cell_sums(one, two).exemplar.tolist()
    [[1, 0, -1, -1]]
    """
    if left.total.shape != right.total.shape:
        msg = (
            "`left` and `right` must have the same shape (n_centroids, n_features); "
            f"got {left.total.shape} and {right.total.shape}. Were they made by different runs?"
        )
        raise ValueError(msg)
    exemplar, squared = left.exemplar.copy(), left.exemplar_sq_distance.copy()
    # Most cells know nearer rows than any of the right side.
    nearest = right.exemplar_sq_distance[:, 0]
    changed = np.flatnonzero((nearest <= squared[:, -1]) & np.isfinite(nearest))
    both = np.concatenate([exemplar[changed], right.exemplar[changed]], axis=1)
    both_squared = np.concatenate([squared[changed], right.exemplar_sq_distance[changed]], axis=1)
    order = np.lexsort((both, both_squared), axis=1)[:, :N_EXEMPLARS]
    exemplar[changed] = np.take_along_axis(both, order, axis=1)
    squared[changed] = np.take_along_axis(both_squared, order, axis=1)
    return CellSums(
        population=left.population + right.population,
        total=left.total + right.total,
        sq_distance=left.sq_distance + right.sq_distance,
        distance=left.distance + right.distance,
        max_distance=np.maximum(left.max_distance, right.max_distance),
        exemplar=exemplar,
        exemplar_sq_distance=squared,
    )


def _first_column(values: NDArray[Any]) -> NDArray[Any]:
    """Return the first column, or the values themselves where there is but one."""
    values = np.asarray(values)
    return values if values.ndim == 1 else values[:, 0]
