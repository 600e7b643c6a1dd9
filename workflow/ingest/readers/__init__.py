"""Images in files: one reader for each format, found by the ending of the file.

A new format is a module with a function and a line in a table: ``open_it(path, name, how) -> Source``
in `READERS` for files whose images are one array, ``open_it(files, name, how) -> Source`` in
`COLLECTIONS` for files of items of which some may be unreadable.
"""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

from workflow.errors import ImagesError
from workflow.ingest.readers.archives import ARCHIVES, open_archives
from workflow.ingest.readers.files import Files
from workflow.ingest.readers.folder import open_folder
from workflow.ingest.readers.hdf5 import open_hdf5
from workflow.ingest.readers.matlab import open_matlab
from workflow.ingest.readers.netcdf import open_netcdf
from workflow.ingest.readers.npz import open_npz
from workflow.ingest.readers.pictures import SUFFIXES
from workflow.ingest.readers.raw import number_type, open_raw
from workflow.ingest.readers.tables import TABLES, open_tables
from workflow.ingest.readers.tfrecord import TFRECORDS, open_tfrecords
from workflow.ingest.source import Frames, OnUnreadable, Reading, Reshaped, readable
from workflow.runstore import paths, zarr_io

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workflow.ingest.source import Source

#: Ending of a file -> its reader.  Zarr and .npy, which are read in place, are told by what they hold.
READERS: dict[str, Callable[[Path, str | None, Reading], Source]] = {
    ".npz": open_npz,
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".hdf"), open_hdf5),
    **dict.fromkeys((".nc", ".nc3", ".nc4", ".cdf"), open_netcdf),
    ".mat": open_matlab,
    **dict.fromkeys((".bin", ".raw", ".dat"), open_raw),
}
#: How the names of files end -> their reader.  The first kind that there is counts.
COLLECTIONS: dict[str, Callable[[Files, str | None, Reading], Source]] = {
    rf"({'|'.join(map(re.escape, SUFFIXES))})$": open_folder,
    ARCHIVES: open_archives,
    TFRECORDS: open_tfrecords,
    TABLES: open_tables,
}
SUPPORTED = "a folder, a pattern or an @list of image files, archives (.tar, .tar.gz, .zip), TFRecord or tables (.parquet, .arrow), .zarr, .npy, .npz, .h5, .hdf5, .nc and .mat (FILE::NAME), .bin, .raw and .dat with ingest.shape and ingest.dtype"


@readable()
def open_source(
    spec: str | os.PathLike[str],
    *,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    on_unreadable: OnUnreadable = "skip",
    background: str = "white",
    frames: Frames = "first",
    columns: tuple[str, ...] = (),
    like: tuple[tuple[int, ...], str] | None = None,
) -> Source:
    """Open images of any supported format.

    Parameters
    ----------
    spec : path-like
        A folder of files, a pattern such as ``photos/**/*.jpg``, a list of
        files as ``@LIST``, a Zarr array or group, .npy, .npz, HDF5, netCDF, .mat,
        or a raw binary file; ``FILE::NAME`` names an array of a file.
    shape : tuple of int, optional
        Shape of one image: required for raw files; pictures are resized to it,
        and by default to one that their sizes suggest; elsewhere the images
        are seen in this shape.
    dtype : str, optional
        Type of the values: required for raw files, where ``>u2`` means
        big-endian; of image files uint8 or uint16; elsewhere it must be the
        type found.
    on_unreadable : "skip" or "fail"
        Whether unreadable files, records and rows are left out, or end the copying.
    background : str
        Colour behind what is transparent in pictures.
    frames : "first" or "all"
        Which pictures of an animated file are taken.
    columns : tuple of str
        Names of what lies beside the images and is carried along.
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
    how = Reading(
        None if shape is None else tuple(shape),
        dtype,
        on_unreadable,
        background,
        frames,
        tuple(dict.fromkeys(columns)),
    )
    if zarr_io.is_readable_in_place(spec):
        path, name = zarr_io.split_key(spec)
        if not paths.exists(path):
            raise zarr_io.missing_path(path)
        _require_regular(path)
        return _as_requested(str(spec), zarr_io.open_images(path, name), how)
    files, name = Files.of(os.fspath(spec))
    like_shape, like_dtype = like or (None, None)
    how_like = how._replace(shape=how.shape or like_shape)
    if files.by == "name":
        path = files.root / files.text
        _require_regular(path)
        suffix = path.suffix.lower()
        if suffix in READERS:
            filled = how_like._replace(dtype=how.dtype or like_dtype)
            return _as_requested(str(spec), READERS[suffix](path, name, filled), how)
    for kind, open_it in COLLECTIONS.items():
        some = files.of_kind(kind)
        if some.names:
            return open_it(some, name, how_like)
    if files.by == "name":
        msg = f"images must be {SUPPORTED}; got {path} ({path.suffix or 'no suffix'}). Convert them to one of these."
        raise ImagesError(msg)
    # Of what a user has listed, files without a known ending are taken for pictures.
    (pictures, *_) = COLLECTIONS
    return open_folder(files.of_kind("" if files.by == "list" else pictures), name, how_like)


def _require_regular(path: Path) -> None:
    """Refuse pipes and the like: reading them may never end."""
    odd = paths.oddity(path)
    if odd:
        msg = (
            f"images must be a file or a folder; {path} is {odd}. Write the images to a file first."
        )
        raise ImagesError(msg)


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
