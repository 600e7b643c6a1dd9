"""Rows placed around their nearest landmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.map._kernels import directions, place

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Landmarks around one on the map that tell in which direction what lies.
N_AROUND = 12


@dataclass(frozen=True, slots=True)
class Places:
    """Landmarks on a map, and how rows lie around each.

    Attributes
    ----------
    landmarks : float array of shape (n_landmarks, n_components)
        Landmarks [score].
    position : float32 array of shape (n_landmarks, 2)
        Where they lie on the map.
    around : float32 array of shape (n_landmarks, 2, n_components)
        What the difference of a row from its landmark is multiplied by.

    Notes
    -----
    A row lies at ``y_k + sum over j of w_kj <z - c_k, c_j - c_k> (y_j - y_k) / |c_j - c_k|^2``: its
    projections on the ways from its landmark to those around on the map, as in EmbedSOM [1]_; landmarks
    that are far apart on the map have small weights.  A row that equals a landmark lies on it.  The place
    follows from the row alone, by sums in a fixed order.

    References
    ----------
    .. [1] M. Kratochvil et al., "GigaSOM.jl: High-performance clustering and visualization of huge
       cytometry datasets", GigaScience 9(11), 2020.
    """

    landmarks: NDArray[Any]
    position: NDArray[np.float32]
    around: NDArray[np.float32]

    @classmethod
    def build(cls, landmarks: NDArray[Any], position: NDArray[np.float32]) -> Places:
        """Prepare places.

        Parameters
        ----------
        landmarks : float array of shape (n_landmarks, n_components)
            Landmarks [score].
        position : float32 array of shape (n_landmarks, 2)
            Where they lie.

        Returns
        -------
        Places
            What places rows.
        """
        # Slow to import, and no task but those of the map needs it.
        from scipy.spatial import KDTree

        n_around = min(N_AROUND, len(position) - 1)
        around = np.zeros((len(position), 2, landmarks.shape[1]), np.float32)
        if n_around:
            _, near = KDTree(position).query(position, n_around + 1)
            directions(landmarks, position, near.astype(np.int32), around)
        return cls(landmarks, position, around)

    def place(self, rows: NDArray[Any], nearest: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return where rows lie on the map.

        Parameters
        ----------
        rows : float array of shape (n_rows, n_components)
            Rows [score].
        nearest : int32 array of shape (n_rows,)
            Nearest landmark of each.

        Returns
        -------
        float32 array of shape (n_rows, 2)
            Their places.
        """
        placed = np.empty((len(rows), 2), np.float32)
        place(rows, nearest, self.landmarks, self.position, self.around, placed)
        return placed
