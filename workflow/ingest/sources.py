"""One reader per input format, and the function that finds the right one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.base import ImageSource, SourceShape, file_identity
from workflow.ingest.folder import OnUnreadable, open_folder
from workflow.ingest.npz import open_npz
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.mapper import Mapper

HDF5_SUFFIXES = (".h5", ".hdf5", ".he5", ".hdf")
RAW_SUFFIXES = (".bin", ".raw", ".dat")
SUPPORTED = "a folder of image files, .zarr, .npy, .npz, .h5 and .hdf5 (FILE::NAME), .bin, .raw and .dat with --shape and --dtype"


@dataclass(frozen=True)
class StoreSource(SourceShape):
    """Images of a Zarr array or a .npy file."""

    store: zarr_io.ImageStore

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the store."""
        return zarr_io.fingerprint(self.store)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`."""
        return self.store.read(start, stop).reshape(stop - start, *self.image_shape)


@dataclass(frozen=True)
class Hdf5Source(SourceShape):
    """Images of a dataset of an HDF5 file; the file is opened for each reading."""

    path: Path
    name: str

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and the dataset's name."""
        return {
            "kind": "hdf5",
            "dataset": self.name,
            "shape": [self.n_samples, *self.image_shape],
            "dtype": self.dtype.name,
            **file_identity(self.path),
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`.

        Raises
        ------
        ImagesError
            If the file is damaged there.
        """
        try:
            with h5py.File(self.path, "r") as file:
                block = file[self.name][start:stop]
        except (OSError, KeyError, RuntimeError, ValueError) as err:
            raise _damaged_hdf5(self.path, err) from None
        return np.asarray(block, dtype=self.dtype, order="C")


@dataclass(frozen=True)
class RawSource(SourceShape):
    """Images one after the other in a file without a header."""

    path: Path
    stored_dtype: np.dtype[Any]

    def fingerprint(self) -> dict[str, Any]:
        """Return name, size and time of the file, and how it is read."""
        return {
            "kind": "raw",
            "shape": [self.n_samples, *self.image_shape],
            "dtype": self.stored_dtype.str,
            **file_identity(self.path),
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`.

        Raises
        ------
        ImagesError
            If the file has been cut.
        """
        n_values = (stop - start) * self.n_features
        offset = start * self.n_features * self.dtype.itemsize
        values = np.fromfile(self.path, self.stored_dtype, n_values, offset=offset)
        if values.size != n_values:
            msg = f"{self.path} must hold images {start} to {stop - 1}; the file ends before. Copy it again."
            raise ImagesError(msg)
        return values.astype(self.dtype, copy=False).reshape(stop - start, *self.image_shape)


@dataclass(frozen=True)
class ReshapedSource(SourceShape):
    """Images of another source, seen in another shape."""

    source: ImageSource

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the source, and the shape."""
        return {**self.source.fingerprint(), "image_shape": list(self.image_shape)}

    def prepare(self, folder: Path, mapper: Mapper) -> ImageSource:
        """Prepare the source, where it wants to be."""
        wanted = getattr(self.source, "prepare", None)
        ready = wanted(folder, mapper) if wanted else self.source
        return ReshapedSource(self.n_samples, self.image_shape, self.dtype, ready)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`."""
        return self.source.read(start, stop).reshape(stop - start, *self.image_shape)


def open_source(
    spec: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    on_unreadable: OnUnreadable = "skip",
) -> ImageSource:
    """Open images of any supported format.

    Parameters
    ----------
    spec : path-like
        A folder of PNG, JPEG, BMP, TIFF or WebP files, a Zarr array or group,
        .npy, .npz, HDF5, or a raw binary file; ``FILE::NAME`` names an array
        of a file.
    shape : tuple of int, optional
        Shape of one image: required for folders, where images are resized to
        it, and for raw files; elsewhere the images are seen in this shape.
    dtype : str, optional
        Type of the values: required for raw files, where ``>u2`` means
        big-endian; elsewhere it must be the type found.
    on_unreadable : "skip" or "fail"
        Whether unreadable files of a folder are left out, or end the copying.

    Returns
    -------
    ImageSource
        Checked as far as that goes without reading the images.

    Raises
    ------
    ImagesError
        If the path is missing, of no supported format, damaged, or holds what
        cannot be images.
    """
    path, name = zarr_io.split_key(spec)
    if not path.exists():
        raise zarr_io.missing_path(path)
    if zarr_io.is_readable_in_place(path):
        store = zarr_io.open_images(path, name)
        known: ImageSource = StoreSource(store.n_samples, store.image_shape, store.dtype, store)
    elif path.is_dir():
        if dtype not in (None, "uint8"):
            msg = f"image files give uint8; `--dtype {dtype}` was asked for. Leave --dtype out."
            raise ImagesError(msg)
        return open_folder(path, shape, on_unreadable)
    elif path.suffix.lower() in RAW_SUFFIXES:
        return _open_raw(path, shape, dtype)
    elif path.suffix.lower() == ".npz":
        known = open_npz(path, name)
    elif path.suffix.lower() in HDF5_SUFFIXES:
        known = _open_hdf5(path, name)
    else:
        msg = f"images must be {SUPPORTED}; got {path} ({path.suffix or 'no suffix'}). Convert them to one of these."
        raise ImagesError(msg)
    return _as_asked(str(spec), known, shape, dtype)


def _as_asked(
    spec: str, source: ImageSource, shape: tuple[int, ...] | None, dtype: str | None
) -> ImageSource:
    """Hold a source that knows its shape and type against what was asked for."""
    if dtype is not None and _number_type(dtype).newbyteorder("=") != source.dtype:
        msg = f"`--dtype` must be the type of the images; {spec} is {source.dtype.name} and {dtype} was asked for. Leave --dtype out."
        raise ImagesError(msg)
    if shape is None or tuple(shape) == source.image_shape:
        return source
    if math.prod(shape) != source.n_features:
        msg = f"`--shape` must have as many values as an image; {spec} has images of {source.image_shape} and {tuple(shape)} was asked for. Leave --shape out."
        raise ImagesError(msg)
    return ReshapedSource(source.n_samples, tuple(shape), source.dtype, source)


def _number_type(dtype: str) -> np.dtype[Any]:
    """Return the type that a user names, of an accepted kind and any byte order."""
    try:
        known: np.dtype[Any] | None = np.dtype(dtype)
    except TypeError:
        known = None
    if known is None or known.name not in zarr_io.IMAGE_DTYPES:
        msg = f"`--dtype` must be one of {', '.join(zarr_io.IMAGE_DTYPES)}; got {dtype}. Give the type the values were written in."
        raise ImagesError(msg)
    return known


def _open_raw(path: Path, shape: tuple[int, ...] | None, dtype: str | None) -> RawSource:
    """Open a file of images without a header."""
    if shape is None or dtype is None:
        missing = " and ".join(
            name
            for name, value in (("--shape H,W,C", shape), ("--dtype T", dtype))
            if value is None
        )
        msg = f"a raw binary file needs --shape and --dtype; {missing} is missing for {path}. Add for example --shape 16,16,3 --dtype uint8."
        raise ImagesError(msg)
    stored = _number_type(dtype)
    if not shape or min(shape) < 1:
        msg = f"`--shape` must be positive numbers; got {tuple(shape)}. Give for example --shape 16,16,3."
        raise ImagesError(msg)
    image_bytes = math.prod(shape) * stored.itemsize
    n_bytes = path.stat().st_size
    if n_bytes % image_bytes:
        msg = f"{path} must have a multiple of {image_bytes} bytes, the size of an image of {tuple(shape)} {stored.name}; it has {n_bytes}. Check --shape and --dtype."
        raise ImagesError(msg)
    n_samples = n_bytes // image_bytes
    zarr_io.check_images(str(path), (n_samples, *shape), stored)
    return RawSource(n_samples, tuple(shape), stored.newbyteorder("="), path, stored)


def _open_hdf5(path: Path, name: str | None) -> Hdf5Source:
    """Open a dataset of an HDF5 file."""
    try:
        with h5py.File(path, "r") as file:
            held: dict[str, tuple[tuple[int, ...] | None, np.dtype[Any]]] = {}

            def note(at: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset):
                    held[at] = (node.shape, node.dtype)

            file.visititems(note)
    except (OSError, RuntimeError, ValueError, KeyError) as err:
        raise _damaged_hdf5(path, err) from None
    wanted = (name or "images").strip("/")
    if wanted not in held and name is None and len(held) == 1:
        wanted = next(iter(held))
    if wanted not in held:
        msg = f"an HDF5 file must hold the dataset `{wanted}` or one only; {path} holds {', '.join(held) or 'none'}. Give {path}::{next(iter(held), 'NAME')}."
        raise ImagesError(msg)
    shape, dtype = held[wanted]
    zarr_io.check_images(f"{path}::{wanted}", shape or (), dtype)
    assert shape is not None
    return Hdf5Source(shape[0], tuple(shape[1:]), dtype.newbyteorder("="), path, wanted)


def _damaged_hdf5(path: Path, err: Exception) -> ImagesError:
    """Return the error for a file that HDF5 cannot read."""
    text = (str(err).splitlines() or [type(err).__name__])[0].rstrip(".")
    msg = f"{path} must be a whole HDF5 file; it cannot be read ({text}). Copy or write it again."
    return ImagesError(msg)
