"""Images in files: one reader for each format, found by the ending of the file.

A new format is a module with a function ``open_it(path, name, how) -> Source`` and a line in
`READERS`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from workflow.errors import ImagesError
from workflow.ingest.readers.folder import SUFFIXES, open_folder
from workflow.ingest.readers.hdf5 import open_hdf5
from workflow.ingest.readers.npz import open_npz
from workflow.ingest.readers.raw import number_type, open_raw
from workflow.ingest.source import OnUnreadable, Reading, Reshaped, readable
from workflow.runstore import paths, zarr_io

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from workflow.ingest.source import Source

#: Ending of a file -> its reader.  Zarr and .npy, which are read in place, and folders of image
#: files are told by what they hold.
READERS: dict[str, Callable[[Path, str | None, Reading], Source]] = {
    ".npz": open_npz,
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".hdf", ".nc", ".nc4"), open_hdf5),
    **dict.fromkeys((".bin", ".raw", ".dat"), open_raw),
}
SUPPORTED = "a folder of image files, .zarr, .npy, .npz, .h5, .hdf5 and .nc (FILE::NAME), .bin, .raw and .dat with ingest.shape and ingest.dtype"


@readable()
def open_source(
    spec: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    on_unreadable: OnUnreadable = "skip",
    like: tuple[tuple[int, ...], str] | None = None,
) -> Source:
    """Open images of any supported format.

    Parameters
    ----------
    spec : path-like
        A folder of image files that Pillow reads, a Zarr array or group, .npy,
        .npz, HDF5, netCDF-4, or a raw binary file; ``FILE::NAME`` names an
        array of a file.
    shape : tuple of int, optional
        Shape of one image: required for folders, where images are resized to
        it, and for raw files; elsewhere the images are seen in this shape.
    dtype : str, optional
        Type of the values: required for raw files, where ``>u2`` means
        big-endian; of image files uint8 or uint16; elsewhere it must be the
        type found.
    on_unreadable : "skip" or "fail"
        Whether unreadable files of a folder are left out, or end the copying.
    like : tuple of (tuple of int, str), optional
        Shape and type of other images: taken for folders and raw files, which
        have none of their own, where `shape` and `dtype` are not given.  With
        it, `spec` may be one image file.

    Returns
    -------
    Source
        Checked as far as that goes without reading the images.  An
        `ImageStore` where the images can be read in place.

    Raises
    ------
    ImagesError
        If the path is missing, of no supported format, damaged, or holds what
        cannot be images.
    """
    path, name = zarr_io.split_key(spec)
    if not paths.exists(path):
        raise zarr_io.missing_path(path)
    odd = paths.oddity(path)
    if odd:
        msg = (
            f"images must be a file or a folder; {path} is {odd}. Write the images to a file first."
        )
        raise ImagesError(msg)
    how = Reading(None if shape is None else tuple(shape), dtype, on_unreadable)
    like_shape, like_dtype = like or (None, None)
    if zarr_io.is_readable_in_place(path):
        return _as_requested(str(spec), zarr_io.open_images(path, name), how)
    # One picture, where there are others that it is to be like.
    is_picture = like is not None and path.suffix.lower() in SUFFIXES
    if paths.is_folder(path) or is_picture:
        return open_folder(path, name, how._replace(shape=how.shape or like_shape))
    if path.suffix.lower() not in READERS:
        msg = f"images must be {SUPPORTED}; got {path} ({path.suffix or 'no suffix'}). Convert them to one of these; a picture file is read as a folder that holds it."
        raise ImagesError(msg)
    filled = how._replace(shape=how.shape or like_shape, dtype=how.dtype or like_dtype)
    source = READERS[path.suffix.lower()](path, name, filled)
    return _as_requested(str(spec), source, how)


def _as_requested(spec: str, source: Source, how: Reading) -> Source:
    """Compare a source with the shape and type that were requested."""
    if how.dtype is not None and number_type(how.dtype).newbyteorder("=") != source.dtype:
        msg = f"`ingest.dtype` must be the type of the images; {spec} is {source.dtype.name} and {how.dtype} was asked for. Leave ingest.dtype out."
        raise ImagesError(msg)
    if how.shape is None or how.shape == source.image_shape:
        return source
    if math.prod(how.shape) != source.n_features:
        msg = f"`ingest.shape` must have as many values as an image; {spec} has images of {source.image_shape} and {how.shape} was asked for. Leave ingest.shape out."
        raise ImagesError(msg)
    return Reshaped.of(source, how.shape)
