"""A map turned so that it looks like another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Turn:
    """A rotation, perhaps with a reflection, and a shift.

    Attributes
    ----------
    matrix : float64 array of shape (2, 2)
        What positions are multiplied by.
    center, shift : float64 array of shape (2,)
        What they are taken from before, and moved by after.
    """

    matrix: NDArray[np.float64]
    center: NDArray[np.float64]
    shift: NDArray[np.float64]

    @classmethod
    def between(cls, new: NDArray[Any], old: NDArray[Any]) -> Turn:
        """Return what brings points closest to where they were: orthogonal Procrustes.

        Parameters
        ----------
        new, old : float arrays of shape (n_points, 2)
            The same points on both maps.

        Returns
        -------
        Turn
            No change where they are equal.
        """
        new, old = new.astype(np.float64), old.astype(np.float64)
        if not len(new) or np.array_equal(new, old):
            return cls(np.eye(2), np.zeros(2), np.zeros(2))
        center, shift = new.mean(axis=0), old.mean(axis=0)
        x, y = (new - center).T
        u, v = (old - shift).T
        xu, xv, yu, yv = (float((a * b).sum()) for a in (x, y) for b in (u, v))
        turned, mirrored = (xu + yv, xv - yu), (xu - yv, xv + yu)
        length = math.sqrt(turned[0] ** 2 + turned[1] ** 2)
        other = math.sqrt(mirrored[0] ** 2 + mirrored[1] ** 2)
        if max(length, other) == 0:
            return cls(np.eye(2), center, shift)
        # Rows are multiplied from the left.
        if length >= other:
            c, s = turned[0] / length, turned[1] / length
            return cls(np.array([[c, s], [-s, c]]), center, shift)
        c, s = mirrored[0] / other, mirrored[1] / other
        return cls(np.array([[c, s], [s, -c]]), center, shift)

    def apply(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return turned positions.

        Parameters
        ----------
        position : float64 array of shape (n_points, 2)
            Positions.

        Returns
        -------
        float64 array of shape (n_points, 2)
            Where they come to lie.
        """
        x, y = (position - self.center).T
        (a, b), (c, d) = self.matrix
        return np.column_stack([x * a + y * c, x * b + y * d]) + self.shift
