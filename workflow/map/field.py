"""What repels the points of a map: a sum over all of them, by a grid and a Fourier transform."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft

from workflow.map._kernels import gather, spread, sum_pairs

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Spacing of the nodes in units of the kernel, and the most nodes on a side: a wide map has a coarser grid.
SPACING, MAX_NODES = 0.5, 640
#: Of so few points all pairs are summed: far apart, they repel by less than what the grid is wrong by.
MAX_PAIRED = 256
#: Nodes beyond the outermost points, for the splines.
MARGIN = 4


def field_of(position: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Return the sum of 1 / (1 + r^2) over all pairs of points, each with itself too, and its slope at each."""
    if len(position) > MAX_PAIRED:
        return Field.of(position).at(position)
    slope = np.empty(position.shape)
    return sum_pairs(position, slope), slope


@dataclass(frozen=True, slots=True)
class Field:
    """The sum of 1 / (1 + r^2) over points, anywhere between them.

    Each point is spread over 4 x 4 nodes by cubic B-splines, the nodes are convolved with the kernel,
    and the sum is gathered by the same splines, as in particle-mesh Ewald sums (Essmann et al., J. Chem.
    Phys. 103, 1995).  That t-SNE repels by the slope of one smooth function makes it two transforms.
    """

    grid: NDArray[np.float32]
    low: NDArray[np.float64]
    spacing: float

    @classmethod
    def of(cls, position: NDArray[np.float64]) -> Field:
        """Return the field of points."""
        low, high = position.min(axis=0), position.max(axis=0)
        spacing = SPACING
        while float((high - low).max()) > spacing * (MAX_NODES - 2 * MARGIN):
            spacing *= 1.25
        n_nodes = [int(n) + 2 * MARGIN for n in np.ceil((high - low) / spacing)]
        low = low - spacing
        padded = tuple(fft.next_fast_len(2 * n, real=True) for n in n_nodes)
        spectrum = fft.rfft2(spread(position, low, spacing, n_nodes[0], n_nodes[1]), padded)
        spectrum *= _kernel(padded, spacing)
        whole = fft.irfft2(spectrum, padded, overwrite_x=True)
        return cls(np.ascontiguousarray(whole[: n_nodes[0], : n_nodes[1]]), low, spacing)

    def at(self, position: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the sum of the field over points, and its slope at each."""
        slope = np.empty(position.shape)
        return gather(self.grid, position, self.low, self.spacing, slope), slope


@lru_cache(maxsize=4)
def _kernel(shape: tuple[int, int], spacing: float) -> NDArray[np.float32]:
    """Return the transform of the kernel, corrected for the splines that spread and gather."""
    sq = [np.square(spacing * np.minimum(np.arange(n), n - np.arange(n))) for n in shape]
    transform = fft.rfft2(1.0 / (1.0 + sq[0][:, None] + sq[1])).real
    # Splines at the nodes.  Transforms have the same bits on every processor; NumPy's cosines have not.
    at_nodes = [np.bincount([0, 1, n - 1], [4 / 6, 1 / 6, 1 / 6], n) for n in shape]
    response = fft.fft(at_nodes[0]).real[:, None] * fft.rfft(at_nodes[1]).real
    kernel: NDArray[np.float32] = (transform / np.square(response)).astype(np.float32)
    return kernel
