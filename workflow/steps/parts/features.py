"""What the rows of the PCA are: the values of the images, as they are stored or at length 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.row_norms import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.mapper import Rows


@dataclass(frozen=True, slots=True)
class Features:
    """Makes rows of images; every pass that reads images for their scores asks it."""

    normalize: bool = False

    def dtype_of(self, images: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type of the rows of images of a type."""
        return np.dtype(np.float32) if self.normalize else images

    def rows_of(self, block: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of a block of images."""
        return unit_rows(block) if self.normalize else block

    def n_bytes(self, n_rows: int, n_features: int) -> int:
        """Return what rows take in memory beside their images [bytes]."""
        return 4 * n_rows * n_features if self.normalize else 0

    def reading(self, images: Rows) -> Rows:
        """Return the rows of all images."""
        return FeatureRows(images, self) if self.normalize else images


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Rows that are made when images are read; implements `workflow.mapper.Rows`."""

    images: Rows
    features: Features

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.images.n_samples

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return self.images.n_features

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.features.dtype_of(self.images.dtype)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`."""
        return self.features.rows_of(self.images.read(start, stop))
