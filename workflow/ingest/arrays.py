"""Images that are in memory: NumPy and Dask arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from dask.base import compute
from dask.delayed import delayed

from workflow.errors import ImagesError
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from workflow.chunks import RowRange

T = TypeVar("T")


class ArraySource:
    """Images of an array in memory.

    Parameters
    ----------
    array : array_like of shape (n_samples, ...)
        The images.

    Raises
    ------
    ImagesError
        If they cannot be images.

    Notes
    -----
    Written by this process: sending the pixels to workers would put them
    into a task graph.
    """

    def __init__(self, array: Any) -> None:
        self.array = np.asarray(array)
        zarr_io.check_images("the array", self.array.shape, self.array.dtype)
        self.n_samples = int(self.array.shape[0])
        self.image_shape = tuple(int(n) for n in self.array.shape[1:])
        self.n_features = int(np.prod(self.image_shape))
        self.dtype: np.dtype[Any] = self.array.dtype.newbyteorder("=")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, type and a checksum of the values."""
        checksums = [
            zarr_io.crc(self.read(start, start + 65_536))
            for start in range(0, self.n_samples, 65_536)
        ]
        return {
            "kind": "array",
            "shape": [self.n_samples, *self.image_shape],
            "dtype": self.dtype.name,
            "crc": zarr_io.crc(np.array(checksums, dtype="<u4")),
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`."""
        return np.asarray(self.array[start:stop], dtype=self.dtype, order="C")

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], T], ranges: Sequence[RowRange]
    ) -> list[T]:
        """Return ``[function(r, rows of r) for r in ranges]``, one after the other."""
        return [function(rows, self.read(*rows)) for rows in ranges]


class DaskSource:
    """Images of a Dask array.

    Parameters
    ----------
    array : dask.array.Array of shape (n_samples, ...)
        The images; chunked in any way, of known size.

    Raises
    ------
    ImagesError
        If they cannot be images, or their number is not known.

    Notes
    -----
    Blocks are written where Dask computes them, with its active scheduler.
    """

    def __init__(self, array: da.Array) -> None:
        self.array = array
        if any(np.isnan(n) for n in array.shape):
            msg = f"images must have a known shape; the Dask array has {array.shape}. Call its compute_chunk_sizes() first."
            raise ImagesError(msg)
        zarr_io.check_images("the Dask array", array.shape, array.dtype)
        self.n_samples = int(array.shape[0])
        self.image_shape = tuple(int(n) for n in array.shape[1:])
        self.n_features = int(np.prod(self.image_shape))
        self.dtype: np.dtype[Any] = array.dtype.newbyteorder("=")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, type and Dask's own name for the array."""
        return {
            "kind": "dask",
            "shape": [self.n_samples, *self.image_shape],
            "dtype": self.dtype.name,
            "name": self.array.name,
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Compute and return images `start` to `stop`."""
        return np.asarray(self.array[start:stop].compute(), dtype=self.dtype, order="C")

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], T], ranges: Sequence[RowRange]
    ) -> list[T]:
        """Return ``[function(r, rows of r) for r in ranges]``, computed where the rows are."""
        tasks = []
        for rows in ranges:
            part = self.array[rows.start : rows.stop]
            block = part.rechunk(part.shape).to_delayed().item()
            tasks.append(delayed(_on_block, pure=False)(function, rows, block, self.dtype))
        return list(compute(*tasks))


def _on_block(
    function: Callable[[RowRange, NDArray[Any]], T],
    rows: RowRange,
    block: Any,
    dtype: np.dtype[Any],
) -> T:
    """Call a function with a computed block."""
    return function(rows, np.asarray(block, dtype=dtype, order="C"))
