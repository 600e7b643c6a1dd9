"""Images that are read in place: Zarr arrays and .npy files."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.errors import ImagesError, StoreError
from workflow.runstore import layout, paths
from workflow.runstore.objects import NODE_FILES, Stored, is_address
from workflow.runstore.packing import ATTRIBUTES as PACKED
from workflow.runstore.packing import Packing
from workflow.runstore.zarr_objects import some_chunks
from workflow.runstore.zarr_read import (
    ARRAY_FILES,
    array_names,
    first_line,
    node_kind,
    open_array,
    read_block,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.runstore.paths import Place

#: Types that images may have.
IMAGE_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
#: What other kinds of values are called in errors.
_TYPE_NAMES = {"U": "text", "S": "text", "T": "text", "O": "object", "V": "structured"}
#: Name of the images in a group, and of the dimension that counts them.
IMAGES, SAMPLE = "images", "sample"


@dataclass(frozen=True, slots=True)
class ImageStore:
    """The place of images that can be read in place; a `workflow.ingest.Source`.

    Attributes
    ----------
    kind : str
        ``"zarr"`` or ``"npy"``.
    path : Path or Address
        What was opened, absolute: array, group or file.
    key : str
        Name of the array in the group; empty where `path` is the array.
    shape : tuple of int
        (n_samples, ...).
    dtype : numpy.dtype
        Type of the values in native byte order, decoded where they are packed.
    stored_rows : int or None
        Rows of a chunk; None for .npy.
    axis : int
        Dimension of the stored array that counts the images.
    packing : Packing or None
        How stored numbers are decoded; None where they are the values.
    stamp : tuple or None
        Of an array at an address: its metadata as it was opened, so that no reader asks for it again.
    first_row : int
        Stored row of the first image.

    Notes
    -----
    Pickles to a few hundred bytes.  Handles are opened where the rows are
    read, once per process.
    """

    kind: str
    path: Place
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    stored_rows: int | None
    axis: int = 0
    packing: Packing | None = None
    stamp: tuple[Any, ...] | None = None
    first_row: int = 0

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return self.shape[0]

    @property
    def n_features(self) -> int:
        """Numbers in one image."""
        return math.prod(self.shape[1:])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return self.shape[1:]

    @property
    def name(self) -> str:
        """What opens these images again."""
        return f"{self.path}::{self.key}" if self.key else str(self.path)

    @property
    def array_path(self) -> Any:
        """Folder of the Zarr array, or the .npy file."""
        return self.path / self.key if self.key else self.path

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images as rows.

        Parameters
        ----------
        start, stop : int
            Images, not negative.

        Returns
        -------
        ndarray of shape (stop - start, n_features)
            In `dtype`, C-contiguous.

        Raises
        ------
        StoreError
            If the images have been damaged, cut or replaced since they were opened.
        """
        first, last = self.first_row + start, self.first_row + stop
        if self.kind == "npy":
            block = _read_npy(self, first, last)
        else:
            block = read_block(self.array_path, first, last, axis=self.axis, stamp=self.stamp)
            stored = self.packing.stored if self.packing else self.dtype
            if block.shape[1:] != self.image_shape or block.dtype != stored:
                raise _replaced(self, block.shape[1:], block.dtype)
            block = self.packing.decode(block) if self.packing else block
        return block.reshape(stop - start, self.n_features)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others without reading them.

        Returns
        -------
        dict
            JSON-able: shape, dtype, metadata, number, bytes and a digest of
            the names, sizes and times of the files.  The path is no part of
            it, so images may be moved with their times.
        """
        place = self.array_path
        files = paths.known_files(place)
        if files is None:
            # Where nothing can be listed, some chunks stand for all.
            files = some_chunks(place, open_array(place).array)
        digest = hashlib.blake2b(json.dumps(files).encode(), digest_size=16)
        return {
            "kind": self.kind,
            "key": self.key,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "metadata": _metadata(self),
            "n_files": len(files),
            "n_bytes": sum(n_bytes for _, n_bytes, _ in files),
            "files": digest.hexdigest(),
            **({"first_row": self.first_row} if self.first_row else {}),
            **({"packing": self.packing.describe()} if self.packing else {}),
        }


class NpyHeader(NamedTuple):
    """The header of a .npy file.

    Attributes
    ----------
    shape : tuple of int
        Shape of the array.
    dtype : numpy.dtype
        Type of its values.
    fortran_order : bool
        Whether the first index runs fastest.
    offset : int
        Where its values begin [byte].
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset: int


def is_readable_in_place(path: str | os.PathLike[str]) -> bool:
    """Return whether `open_images` is the way to open a path; if not, it must be ingested.

    Parameters
    ----------
    path : path-like
        As `open_images` takes it.

    Returns
    -------
    bool
        True for anything that is or is called .zarr or .npy, even where it is
        missing or damaged: `open_images` says so.  True for every address.
    """
    if is_address(path):
        return True
    place, _ = split_key(path)
    if place.suffix.lower() in (".npy", ".zarr"):
        return True
    return any((place / name).is_file() for name in (*ARRAY_FILES, ".zgroup"))


def split_key(path: str | os.PathLike[str] | Stored) -> tuple[Any, str | None]:
    """Split ``PATH::NAME``.

    Parameters
    ----------
    path : path-like
        A path, with or without a name; a path that exists is not split.

    Returns
    -------
    tuple of (Path, Address or Snapshot, and str or None)
        The place, and the name if there is one.

    Raises
    ------
    StoreError
        If it is an address with a password or a signature.
    """
    if isinstance(path, Stored):
        return path, None
    text = os.fspath(path)
    place, separator, key = text.partition("::")
    if not separator or (not is_address(text) and paths.exists(Path(text))):
        return paths.place(text), None
    return paths.place(place), key


def full_name(path: str | os.PathLike[str]) -> str:
    """Return what names the same images from everywhere, and tomorrow: of a branch the snapshot that it is at."""
    place, key = split_key(path)
    return f"{place}::{key}" if key else str(place)


def open_images(path: str | os.PathLike[str] | Stored, key: str | None = None) -> ImageStore:
    """Open images that can be read in place.

    Parameters
    ----------
    path : path-like
        A Zarr array, a Zarr group or xarray Dataset (format 2 or 3), also at
        an address such as ``s3://BUCKET/KEY``, or a .npy file;
        ``GROUP::NAME`` names the array of a group.
    key : str, optional
        Name of the array of a group; ``images`` by default.

    Returns
    -------
    ImageStore
        Checked: numbers of an accepted type, one image or more.

    Raises
    ------
    ImagesError
        If the path is missing, neither Zarr nor .npy, damaged, cut, or holds
        what cannot be images.
    """
    place, named = split_key(path)
    key = key or named
    if not paths.exists(place):
        raise missing_path(place)
    if not paths.is_folder(place):
        return _open_npy(place)
    try:
        kind = node_kind(place)
        if kind is None:
            held = ", ".join(sorted(paths.names_in(place))[:3]) or "nothing"
            msg = f"IMAGES must be a Zarr array or group, or a .npy file; {place} is a folder without Zarr metadata (it holds {held}). Give another path, or copy it with `overcluster ingest`."
            raise ImagesError(msg)
        name = "" if kind == "array" else _name_in_group(place, key)
        opened = open_array(place / name if name else place)
    except StoreError as err:
        raise ImagesError(str(err)) from None
    array = opened.array
    called = str(place / name if name else place)
    dims, attributes = _dims_and_attributes(array)
    axis = sample_axis(dims)
    shape = (*array.shape[axis : axis + 1], *array.shape[:axis], *array.shape[axis + 1 :])
    packing = Packing.of(called, np.dtype(array.dtype), attributes)
    dtype = packing.dtype if packing else np.dtype(array.dtype)
    check_images(called, shape, dtype)
    rows = int(array.chunks[axis])
    stamp = opened.stamp if isinstance(place, Stored) else None
    return ImageStore(
        "zarr", place, name, shape, dtype.newbyteorder("="), rows, axis, packing, stamp
    )


def sample_axis(dims: Sequence[str | None] | None) -> int:
    """Return which dimension counts the images: the one called ``sample``, else the first.

    Parameters
    ----------
    dims : sequence of str, or None
        Names of the dimensions, as far as there are any.

    Returns
    -------
    int
        Its position.
    """
    return list(dims or ()).index(SAMPLE) if SAMPLE in (dims or ()) else 0


def _dims_and_attributes(array: Any) -> tuple[Sequence[str | None] | None, dict[str, Any]]:
    """Return the names of the dimensions of a Zarr array, and its attributes as xarray reads them."""
    attributes = dict(array.attrs)
    if array.metadata.zarr_format == 3:
        return array.metadata.dimension_names, attributes
    dims = attributes.get("_ARRAY_DIMENSIONS")
    # xarray keeps the fill value of format 2 there.  Zarr's own default, 0, means no missing values.
    fill = array.fill_value if dims else None
    if fill is not None and (fill != 0 or any(name in attributes for name in PACKED)):
        attributes["_FillValue"] = fill
    return dims, attributes


def _name_in_group(group: Place, key: str | None) -> str:
    """Return the name of the images in a group, or say what it holds instead."""
    wanted = key or IMAGES
    if node_kind(group / wanted) == "array":
        return wanted
    for run in (group, group.parent) if isinstance(group, Path) else ():
        if (run / layout.MANIFEST).is_file():
            msg = f"IMAGES must be images; {group} is of the run folder {run}. Give the images that the run was made from, or look at the run with `overcluster open {run}`."
            raise ImagesError(msg)
    held = array_names(group)
    close = difflib.get_close_matches(wanted, held, n=1)
    hint = f"Give {group}::{(close or held or ['NAME'])[0]}" if held else "Give another path"
    msg = f"a Zarr group must hold the array `{wanted}`; {group} holds {', '.join(held) or 'no arrays'}. {hint}."
    raise ImagesError(msg)


def check_images(name: str, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Refuse what cannot be images.

    Parameters
    ----------
    name : str
        What to call them in the error.
    shape : sequence of int
        Shape of the whole array.
    dtype : numpy.dtype
        Its type, of any byte order.

    Raises
    ------
    ImagesError
        If the type is not one of `IMAGE_DTYPES`, there are fewer than two
        dimensions or no images, or an image has no values.
    """
    # A wide type such as float128 has a name of its own; the byte order is no part of a name.
    if dtype.name not in IMAGE_DTYPES:
        msg = f"images must be {', '.join(IMAGE_DTYPES)}; {name} is {_TYPE_NAMES.get(dtype.kind, dtype.name)}. Convert them first."
        raise ImagesError(msg)
    if len(shape) < 2:
        msg = f"images must have two dimensions or more, the first one counting them; {name} has shape {tuple(shape)}. Reshape them first."
        raise ImagesError(msg)
    if shape[0] < 1:
        msg = f"there must be one image or more; {name} has {shape[0]} (shape {tuple(shape)}). Give more images, or move the sample dimension to the front."
        raise ImagesError(msg)
    if 0 in shape:
        msg = f"an image must have one value or more; {name} has shape {tuple(shape)}. Give other images."
        raise ImagesError(msg)


def missing_path(path: Place) -> ImagesError:
    """Return the error for a path that is not there.

    Parameters
    ----------
    path : Path or Address
        The path.

    Returns
    -------
    ImagesError
        Which names the nearest name in its folder.
    """
    if not isinstance(path, Path):
        return ImagesError(
            f"images must exist, and at an address be Zarr; {path} holds none of {', '.join(NODE_FILES)}. Check the address; copy what is no Zarr, and give the copy."
        )
    # Without endings, which alone make two names alike.
    stems = {Path(name).stem: name for name in paths.names_in(path.parent)}
    close = difflib.get_close_matches(path.stem, stems, n=1)
    hint = f"Did you mean {path.parent / stems[close[0]]}?" if close else "Check the path."
    return ImagesError(f"images must exist; {path} does not. {hint}")


def read_npy_header(path: Path) -> NpyHeader:
    """Read the header of a .npy file and hold its size against it.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    NpyHeader
        What it says.

    Raises
    ------
    ImagesError
        If the file is no .npy, or is shorter than its header promises.
    """
    try:
        with paths.open_file(path) as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, fortran_order, dtype = read(file)
            header = NpyHeader(tuple(shape), dtype, fortran_order, file.tell())
    except (ValueError, KeyError, OSError, EOFError) as err:
        msg = f"{path} must be a NumPy .npy file; its header cannot be read ({first_line(err)}). Give another file."
        raise ImagesError(msg) from None
    if not header.dtype.hasobject:
        promised = header.offset + math.prod(header.shape) * header.dtype.itemsize
        present = paths.identity(path).n_bytes
        if present < promised:
            msg = f"{path} must have {promised} bytes by its header (shape {header.shape}, {header.dtype.name}); it has {present}. The file is cut: copy it again."
            raise ImagesError(msg)
    return header


def _open_npy(path: Path) -> ImageStore:
    """Open a .npy file."""
    header = read_npy_header(path)
    check_images(str(path), header.shape, header.dtype)
    return ImageStore("npy", path, "", header.shape, header.dtype.newbyteorder("="), None)


@lru_cache(maxsize=16)
def _npy_header(path: Path, stamp: paths.Identity) -> NpyHeader:
    """Read the header of a file once per process, until the file changes."""
    del stamp
    return read_npy_header(path)


def _read_npy(store: ImageStore, start: int, stop: int) -> NDArray[Any]:
    """Read rows of a .npy file."""
    path = Path(str(store.path))
    try:
        header = _npy_header(path, paths.identity(path))
    except (OSError, ImagesError) as err:
        msg = f"{path} must stay as it was opened; it cannot be read now ({first_line(err)}). Restore it."
        raise StoreError(msg) from None
    # Rows that the file has gained behind those of the store are none of its images.
    is_there = header.shape[0] >= store.first_row + store.n_samples
    is_like = (
        header.shape[1:] == store.image_shape and header.dtype.newbyteorder("=") == store.dtype
    )
    if not (is_there and is_like):
        raise _replaced(store, header.shape[1:], header.dtype)
    if header.fortran_order:
        mapped = np.load(paths.local(path), mmap_mode="r", allow_pickle=False)
        return np.asarray(mapped[start:stop], dtype=store.dtype, order="C")
    # Plain reads, not a map: a map counts as memory of the process and dies of a cut file.
    n_values = (stop - start) * store.n_features
    offset = header.offset + start * store.n_features * header.dtype.itemsize
    values = paths.read_values(path, header.dtype, n_values, offset)
    if values.size != n_values:
        msg = f"{path} must hold rows {start} to {stop - 1}; the file ends before. Restore it."
        raise StoreError(msg)
    return values.astype(store.dtype, copy=False)


def _replaced(store: ImageStore, shape: tuple[int, ...], dtype: np.dtype[Any]) -> StoreError:
    """Return the error for images that are not those that were opened."""
    msg = f"{store.array_path} must stay as it was opened, images of {store.image_shape} {store.dtype.name}; it now has {shape} {dtype.name}. Restore it, or start again."
    return StoreError(msg)


def _metadata(store: ImageStore) -> Any:
    """Return the metadata of an array as it is stored."""
    if store.kind == "npy":
        header = read_npy_header(Path(str(store.path)))
        return {"descr": header.dtype.str, "fortran_order": header.fortran_order}
    name = next(name for name in ARRAY_FILES if (store.array_path / name).is_file())
    return json.loads((store.array_path / name).read_text(encoding="utf-8"))
