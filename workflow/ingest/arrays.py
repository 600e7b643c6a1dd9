"""Images that are in memory: NumPy and Dask arrays."""

from __future__ import annotations

import math
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from dask.base import compute, is_dask_collection
from dask.core import flatten
from dask.delayed import Delayed, delayed
from distributed.client import futures_of

from workflow.errors import ImagesError
from workflow.runstore import zarr_io
from workflow.runstore.packing import decode_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array as da
    from distributed import Client
    from numpy.typing import NDArray

    from workflow.chunks import RowRange

T = TypeVar("T")
#: Rows of a checksum of an array in memory.
CRC_ROWS = 65_536


class ArraySource:
    """Images of an array in memory; a `Source`.

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

    name = "the array"

    def __init__(self, array: Any) -> None:
        _require_unmasked(array)
        self._adopt(np.asarray(array), "the array")

    def _adopt(self, array: Any, called: str) -> None:
        """Take an array that has a shape and a dtype."""
        zarr_io.check_images(called, array.shape, array.dtype)
        self.array = array
        self.n_samples, *image_shape = map(int, array.shape)
        self.image_shape = tuple(image_shape)
        self.n_features = math.prod(image_shape)
        self.dtype: np.dtype[Any] = array.dtype.newbyteorder("=")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, type and a checksum of the values."""
        starts = range(0, self.n_samples, CRC_ROWS)
        checksums = [zarr_io.crc(self.read(start, start + CRC_ROWS)) for start in starts]
        return self._known("array", crc=zarr_io.crc(np.array(checksums, dtype="<u4")))

    def _known(self, kind: str, **more: Any) -> dict[str, Any]:
        """Return a fingerprint."""
        shape = [self.n_samples, *self.image_shape]
        return {"kind": kind, "shape": shape, "dtype": self.dtype.name, **more}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows."""
        return _rows(self.array[start:stop], self.dtype)

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], T], ranges: Sequence[RowRange]
    ) -> list[T]:
        """Return ``[function(r, rows of r) for r in ranges]``, one after the other.

        Parameters
        ----------
        function : callable
            Takes a range of images and its rows.
        ranges : sequence of RowRange
            Images that go together.

        Returns
        -------
        list
            What the calls returned, in the order of the ranges.
        """
        return [function(rows, self.read(*rows)) for rows in ranges]


class DaskSource(ArraySource):
    """Images of a Dask array; a `Source`.

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
    Blocks are written where Dask computes them, with its active scheduler; of
    a persisted array that must be `client`.
    """

    def __init__(self, array: da.Array) -> None:
        if any(np.isnan(n) for n in array.shape):
            msg = f"images must have a known shape; the Dask array has {array.shape}. Call its compute_chunk_sizes() first."
            raise ImagesError(msg)
        self._adopt(array, "the Dask array")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, type and Dask's own name for the array."""
        return self._known("dask", name=self.array.name)

    @property
    def client(self) -> Client | None:
        """The client on whose workers the array is persisted, None where it is lazy."""
        try:
            held = futures_of(self.array)
        except CancelledError:
            msg = "a persisted Dask array must still be on its workers; its client was closed or it was cancelled. Persist it again, and keep the client open."
            raise ImagesError(msg) from None
        return held[0].client if held else None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Compute and return images `start` to `stop` as rows."""
        block = self.array[start:stop].compute()
        _require_unmasked(block, start)
        return _rows(block, self.dtype)

    def map_blocks(
        self, function: Callable[[RowRange, NDArray[Any]], T], ranges: Sequence[RowRange]
    ) -> list[T]:
        """Return ``[function(r, rows of r) for r in ranges]``, computed where the rows are.

        Parameters
        ----------
        function : callable
            Takes a range of images and its rows.
        ranges : sequence of RowRange
            Images that go together.

        Returns
        -------
        list
            What the calls returned, in the order of the ranges.
        """
        tasks = []
        for rows in ranges:
            part = self.array[rows.start : rows.stop]
            tasks.append(
                delayed(_on_block, pure=False)(function, rows, _one_block(part), self.dtype)
            )
        return list(compute(*tasks))


def array_source(images: Any) -> ArraySource:
    """Return the source of a NumPy, Dask or xarray array, or of a Dataset with ``images``.

    Parameters
    ----------
    images : array_like
        Images of shape (n_samples, ...); of xarray's, the dimension ``sample`` may be any of them,
        and values that are still packed are decoded.

    Returns
    -------
    Source
        Nothing is read or computed yet.

    Raises
    ------
    ImagesError
        If it is none of these.
    """
    if hasattr(images, "data_vars"):
        if "images" not in images:
            msg = f"a Dataset must hold `images`; got {', '.join(map(str, images.data_vars)) or 'nothing'}. Pass dataset[NAME]."
            raise ImagesError(msg)
        images = images["images"]
    data = images
    if hasattr(images, "dims"):
        first = zarr_io.sample_axis(images.dims)
        data = decode_variable(images.variable.transpose(*images.dims[first : first + 1], ...)).data
    # Dask's arrays of expressions have no `__array__`.
    is_lazy = is_dask_collection(data)
    if not is_lazy and not hasattr(data, "__array__"):
        msg = f"images must be a path or an array; got a {type(images).__name__}. Pass a NumPy, Dask or xarray array."
        raise ImagesError(msg)
    return DaskSource(data) if is_lazy else ArraySource(data)


def _one_block(array: da.Array) -> Delayed:
    """Return an array as one block, to be computed; arrays of expressions have no `to_delayed`."""
    whole = array.rechunk(array.shape)
    if hasattr(whole, "to_delayed"):
        block: Delayed = whole.to_delayed().item()
        return block
    whole = whole.optimize()
    (key,) = flatten(whole.__dask_keys__())
    return Delayed(key, whole.__dask_graph__())


def _require_unmasked(images: Any, first: int = 0) -> None:
    """Refuse masked values, which NumPy would take for what stands below the mask."""
    if np.ma.is_masked(images):
        row, *at = (int(i) for i in np.argwhere(np.ma.getmaskarray(images))[0])
        msg = f"images must have all their values; image {first + row} is masked at {tuple(at)}. Fill the values in with array.filled(VALUE), or drop such images."
        raise ImagesError(msg)


def _rows(images: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return images as rows."""
    return np.asarray(images, dtype=dtype, order="C").reshape(len(images), -1)


def _on_block(
    function: Callable[[RowRange, NDArray[Any]], T],
    rows: RowRange,
    block: Any,
    dtype: np.dtype[Any],
) -> T:
    """Call a function with the rows of a computed block."""
    _require_unmasked(block, rows.start)
    return function(rows, _rows(block, dtype))
