"""Images one after the other in a file without a header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.source import BaseSource, file_identity
from workflow.runstore import paths, zarr_io

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import Reading


@dataclass(frozen=True)
class RawSource(BaseSource):
    """Values that lie one after the other from a byte of a file on."""

    path: Path
    stored_dtype: np.dtype[Any]
    first_byte: int = 0

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and how it is read."""
        known = {"kind": "raw", **self.shape_and_type(), "dtype": self.stored_dtype.str}
        return {**known, **file_identity(self.path)}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows.

        Raises
        ------
        ImagesError
            If the file has been cut.
        """
        n_values = (stop - start) * self.n_features
        first_byte = self.first_byte + start * self.n_features * self.dtype.itemsize
        values = paths.read_values(self.path, self.stored_dtype, n_values, first_byte)
        if values.size != n_values:
            msg = f"{self.path} must hold images {start} to {stop - 1}; the file ends before. Copy it again."
            raise ImagesError(msg)
        return values.astype(self.dtype, copy=False).reshape(stop - start, self.n_features)


def open_raw(path: Path, name: str | None, how: Reading) -> RawSource:
    """Open a file of images without a header.

    Raises
    ------
    ImagesError
        If shape or type are missing or do not fit the file.
    """
    del name
    if how.shape is None or how.dtype is None:
        missing = " and ".join(
            option
            for option, value in (("ingest.shape", how.shape), ("ingest.dtype", how.dtype))
            if value is None
        )
        msg = f"a raw binary file needs shape and type of an image; {missing} is missing for {path}. Add for example --set ingest.shape=16,16,3 --set ingest.dtype=uint8."
        raise ImagesError(msg)
    stored, shape = number_type(how.dtype), how.shape
    if not shape or min(shape) < 1:
        msg = f"`ingest.shape` must be positive numbers; got {shape}. Give for example --set ingest.shape=16,16,3."
        raise ImagesError(msg)
    image_bytes = math.prod(shape) * stored.itemsize
    n_bytes = paths.identity(path).n_bytes
    if n_bytes % image_bytes:
        msg = f"{path} must have a multiple of {image_bytes} bytes, the size of an image of {shape} {stored.name}; it has {n_bytes}. Check ingest.shape and ingest.dtype."
        raise ImagesError(msg)
    n_samples = n_bytes // image_bytes
    zarr_io.check_images(str(path), (n_samples, *shape), stored)
    return RawSource(n_samples, shape, stored.newbyteorder("="), path, stored)


def number_type(dtype: str) -> np.dtype[Any]:
    """Return the type that a user names, of an accepted kind and any byte order."""
    try:
        known: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known.name not in zarr_io.IMAGE_DTYPES:
        msg = f"`ingest.dtype` must be one of {', '.join(zarr_io.IMAGE_DTYPES)}; got {dtype}. Give the type the values were written in."
        raise ImagesError(msg)
    return known
