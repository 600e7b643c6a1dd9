"""What a source of images is."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from workflow.errors import ImagesError, WorkflowError
from workflow.runstore import paths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from workflow.mapper import PartitionRunner


OnUnreadable = Literal["skip", "fail"]
Frames = Literal["first", "all"]
#: A last dimension so many times as long as any other may be the one that counts the images.
LAST_FACTOR = 10


class Reading(NamedTuple):
    """How files are to be read.

    Attributes
    ----------
    shape : tuple of int or None
        Shape of one image.
    dtype : str or None
        Type of the values.
    on_unreadable : "skip" or "fail"
        Whether unreadable image files are left out, or end the copying.
    background : str
        Colour behind what is transparent.
    frames : "first" or "all"
        Which pictures of an animated file are taken.
    columns : tuple of str
        Names of what lies beside the images and is carried along.
    """

    shape: tuple[int, ...] | None = None
    dtype: str | None = None
    on_unreadable: OnUnreadable = "skip"
    background: str = "white"
    frames: Frames = "first"
    columns: tuple[str, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Images that can be read by ranges, by any worker; pickles to a few hundred bytes.

    A source is `workflow.mapper.Rows` with the shape of an image and a
    fingerprint.  It may have more:

    ``name``
        What to call the images in messages.
    ``prepare(folder, runner) -> Source``
        Does what must be done once before images can be read by ranges, such
        as decoding files into `folder`; resumes after a kill.  `folder` is
        removed when the images have been copied.
    ``read_paths(start, stop) -> list of str``
        File names of images, relative, with slashes.
    ``unreadable() -> list of (str, str)``
        File names that were left out, each with the reason; goes with
        ``read_paths``.
    ``columns``, ``read_column(name, start, stop) -> ndarray``
        Name of each column that is carried along -> its type, and its values;
        go with ``read_paths``.
    ``map_blocks(function, ranges) -> list``
        ``[function(rows, images of rows) for rows in ranges]``, for images
        that are not on a disk: they are computed or held where only the
        source can take the function.
    ``shard_rows``
        Images of a file of a copy, where making them costs far more than storing them.
    ``remarks() -> list of str``
        What a user should know of the images before anything starts.
    """

    @property
    def n_samples(self) -> int:
        """Number of images; of files that have not been decoded yet, the number of files."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""

    @property
    def n_features(self) -> int:
        """Number of values of one image."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values, in native byte order."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others: JSON-able, the same at every call."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows, of shape (stop - start, n_features).

        Parameters
        ----------
        start, stop : int
            First image, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, n_features)
            Values as they are stored, C-contiguous.
        """


@dataclass(frozen=True)
class BaseSource:
    """The fields that most sources have."""

    n_samples: int
    image_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def n_features(self) -> int:
        """Number of values of one image."""
        return math.prod(self.image_shape)

    def shape_and_type(self) -> dict[str, Any]:
        """Return shape and type, for fingerprints."""
        return {"shape": [self.n_samples, *self.image_shape], "dtype": self.dtype.name}


@dataclass(frozen=True)
class Reshaped(BaseSource):
    """Images of another source in another shape."""

    source: Source

    @classmethod
    def of(cls, source: Source, image_shape: tuple[int, ...]) -> Reshaped:
        """Return images of `source` with `image_shape`, which has as many values."""
        return cls(source.n_samples, image_shape, source.dtype, source)

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the source, and the shape."""
        return {**self.source.fingerprint(), "image_shape": list(self.image_shape)}

    def prepare(self, folder: Path, runner: PartitionRunner) -> Reshaped:
        """Prepare the source, where it needs that."""
        return Reshaped.of(prepared(self.source, folder, runner), self.image_shape)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows."""
        return self.source.read(start, stop)


@contextlib.contextmanager
def readable() -> Iterator[None]:
    """Refuse images that the system does not let this user read."""
    try:
        yield
    except WorkflowError:
        raise
    except OSError as err:
        msg = f"images must be readable; {err.filename} is not ({err.strerror}). Change its permissions, or give another path."
        raise ImagesError(msg) from None


def remarks(source: Source) -> list[str]:
    """Return what a user should know of images before anything starts.

    Parameters
    ----------
    source : Source
        The images.

    Returns
    -------
    list of str
        Lines: what the source itself remarks, and whether the last dimension may be the sample.
    """
    found = list(getattr(source, "remarks", list)())
    *others, last = source.n_samples, *source.image_shape
    if last > LAST_FACTOR * max(others):
        shape = (*others, last)
        found.append(
            f"{source.n_samples} images of shape {source.image_shape}: the last dimension of {shape} looks like the one that counts the images, which must be the first or be called `sample`"
        )
    return found


def prepared(source: Source, folder: Path, runner: PartitionRunner) -> Source:
    """Return a source that can be read by ranges; see `Source.prepare`."""
    prepare = getattr(source, "prepare", None)
    return source if prepare is None else prepare(folder, runner)


def is_scattered(source: Source) -> bool:
    """Return whether only the source itself can take a function to its images."""
    return hasattr(source, "map_blocks")


def has_paths(source: Source) -> bool:
    """Return whether images have file names."""
    return hasattr(source, "read_paths")


def columns_of(source: Source) -> dict[str, str]:
    """Return name and type of what is carried along beside the images."""
    return dict(getattr(source, "columns", None) or {}) if has_paths(source) else {}


def file_identity(path: Path) -> dict[str, Any]:
    """Return name, size and time of a file, for fingerprints."""
    return {"name": path.name, **paths.identity(path)._asdict()}
