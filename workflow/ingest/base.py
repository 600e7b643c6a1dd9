"""What a source of images is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.mapper import Mapper

T = TypeVar("T")


class ImageSource(Protocol):
    """Images that can be read by ranges, by any worker; pickles to a few hundred bytes."""

    @property
    def n_samples(self) -> int:
        """Number of images; of a folder that has not been read yet, the number of files."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""

    @property
    def n_features(self) -> int:
        """Numbers in one image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others: JSON-able, the same at every call."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`, of shape (stop - start, *image_shape)."""


@runtime_checkable
class NamedSource(Protocol):
    """A source whose images have file names."""

    def read_paths(self, start: int, stop: int) -> list[str]:
        """Return the file names of images `start` to `stop`, relative, with slashes."""

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the files that were left out, each with the reason."""


@runtime_checkable
class PreparedSource(Protocol):
    """A source that must do something once before its images can be read by ranges."""

    def prepare(self, folder: Path, mapper: Mapper) -> ImageSource:
        """Use `folder` for working files; called again after a kill, it goes on.

        Parameters
        ----------
        folder : Path
            Exists, is seen by the workers, and is removed at the end.
        mapper : Mapper
            Runs tasks.
        """


@runtime_checkable
class ScatteredSource(Protocol):
    """A source whose pixels are not on a disk: it brings the blocks to the function itself."""

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], T], ranges: Sequence[RowRange]
    ) -> list[T]:
        """Return ``[function(r, rows of r) for r in ranges]``."""


@dataclass(frozen=True)
class SourceShape:
    """The shape part of an `ImageSource`, for readers to inherit."""

    n_samples: int
    image_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_features(self) -> int:
        """Numbers in one image."""
        return math.prod(self.image_shape)


def file_identity(path: Path) -> dict[str, Any]:
    """Return name, size and time of a file, for fingerprints."""
    known = path.stat()
    return {"name": path.name, "n_bytes": known.st_size, "mtime_ns": known.st_mtime_ns}
