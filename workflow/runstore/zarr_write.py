"""Create Zarr groups and arrays of our own, every chunk with a checksum; write small arrays and attributes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr
from numcodecs.zstd import compress  # type: ignore[import-untyped]
from zarr.codecs import Crc32cCodec, ZstdCodec

from workflow.errors import StoreError
from workflow.runstore.files import read_json, write_json
from workflow.runstore.zarr_read import (
    GROUP_METADATA,
    array_names,
    node_kind,
    open_array,
    open_node,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Compressor",
    "compresses",
    "consolidate",
    "create_group",
    "create_rows_array",
    "open_writable",
    "write_array",
    "write_attrs",
]

#: How the chunks of an array are compressed.
Compressor = Literal["zstd"] | None

#: Chunks inside a shard have at most about so many bytes: what is decoded at once.  With 1 MiB,
#: Zarr writes and reads three times slower than with 4.
CHUNK_BYTES = 1 << 22
#: Small arrays are one chunk up to this size.
WHOLE_BYTES = 1 << 26
#: Level of Zstandard.
LEVEL = 1
#: A completely empty chunk is written too: a missing file then always means a lost one.
CONFIG: Any = {"write_empty_chunks": True}


def create_group(
    path: Path | str, attrs: Mapping[str, Any] | None = None, *, overwrite: bool = False
) -> None:
    """Make a Zarr group (format 3).

    Parameters
    ----------
    path : path-like
        Its folder.
    attrs : mapping, optional
        Its attributes.
    overwrite : bool
        Replace a node that is there.

    Raises
    ------
    StoreError
        If there is a node already and `overwrite` is false.
    """
    place = Path(path)
    if not overwrite and place.is_dir() and node_kind(place) is not None:
        msg = f"a new group must have a new path; {place} is there already. Remove it, or give another path."
        raise StoreError(msg)
    zarr.create_group(store=place, zarr_format=3, attributes=dict(attrs or {}), overwrite=overwrite)


def create_rows_array(
    path: Path | str,
    name: str,
    *,
    n_rows: int,
    tail_shape: Sequence[int],
    dtype: DTypeLike,
    shard_rows: int,
    dims: Sequence[str],
    block_rows: int | None = None,
    chunk_rows: int | None = None,
    attrs: Mapping[str, Any] | None = None,
    compressor: Compressor = "zstd",
    overwrite: bool = False,
) -> None:
    """Make an array that tasks fill shard by shard.

    Parameters
    ----------
    path : path-like
        Its group, made where it is missing.
    name : str
        Its name in the group.
    n_rows, tail_shape : int, sequence of int
        Its shape: rows, then the rest.
    dtype : dtype-like
        Type of its values; ``"string"`` for text.
    shard_rows : int
        Rows of a file: what one task writes whole.
    dims : sequence of str
        Names of its dimensions, for xarray.
    block_rows : int, optional
        Rows that are written and read at once; must divide `shard_rows`, which
        they are by default.
    chunk_rows : int, optional
        Rows that are decoded at once; must divide `block_rows`.  By default
        about 4 MiB of them.
    attrs : mapping, optional
        Attributes, such as ``units``.
    compressor : "zstd" or None
        Zstandard at level 1, or none; a checksum follows either.
    overwrite : bool
        Replace an array that is there.

    Raises
    ------
    StoreError
        If the array is there and `overwrite` is false.
    ValueError
        If `chunk_rows` does not divide `block_rows`, or that `shard_rows`.

    Notes
    -----
    The crc32c after each chunk, and the one of the shard's index, make any
    altered byte an error when it is read.
    """
    row_bytes = _row_bytes(tail_shape, dtype)
    block_rows = block_rows or shard_rows
    chunk_rows = chunk_rows or _chunk_rows(block_rows, row_bytes)
    if chunk_rows < 1 or block_rows % chunk_rows or shard_rows % block_rows:
        msg = f"`chunk_rows` must divide `block_rows`, and that `shard_rows`; got {chunk_rows}, {block_rows} and {shard_rows}."
        raise ValueError(msg)
    if n_rows < shard_rows:
        # One short shard: without this, its one chunk would be padded to full length on disk.
        chunk_rows = min(chunk_rows, max(1, n_rows))
        shard_rows = max(1, -(-n_rows // chunk_rows)) * chunk_rows
    tail = tuple(tail_shape)
    _create(
        Path(path),
        name,
        shape=(n_rows, *tail),
        dtype=dtype,
        shards=(shard_rows, *tail),
        chunks=(chunk_rows, *tail),
        dims=dims,
        attrs=attrs,
        compressor=compressor,
        overwrite=overwrite,
    )


def _row_bytes(tail_shape: Sequence[int], dtype: DTypeLike) -> int:
    """Return about how many bytes a row has; a text is taken as 32."""
    itemsize = 32 if dtype == "string" else max(1, np.dtype(dtype).itemsize)
    return max(1, math.prod(tail_shape)) * itemsize


def _chunk_rows(shard_rows: int, row_bytes: int) -> int:
    """Return the most rows of about `CHUNK_BYTES` that divide a shard; a shard where none come near."""
    min_chunks = max(1, -(-shard_rows * row_bytes // CHUNK_BYTES))
    for n_chunks in range(min_chunks, min(4 * min_chunks, shard_rows) + 1):
        if shard_rows % n_chunks == 0:
            return shard_rows // n_chunks
    return shard_rows


def _create(
    path: Path,
    name: str,
    *,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    dims: Sequence[str],
    attrs: Mapping[str, Any] | None,
    compressor: Compressor,
    overwrite: bool,
) -> None:
    """Make an array with a checksum behind every chunk."""
    if not (path / GROUP_METADATA).is_file():
        create_group(path)
    if not overwrite and node_kind(path / name) is not None:
        msg = f"a new array must have a new name; {path / name} is there already. Remove it, or give another name."
        raise StoreError(msg)
    zarr.create_array(
        store=path,
        name=name,
        shape=shape,
        dtype=_stored_dtype(dtype),
        chunks=chunks,
        shards=shards,
        compressors=[*([ZstdCodec(level=LEVEL)] if compressor == "zstd" else []), Crc32cCodec()],
        fill_value="" if dtype == "string" else np.zeros((), dtype)[()],
        zarr_format=3,
        attributes=dict(attrs or {}),
        dimension_names=tuple(dims),
        config=CONFIG,
        overwrite=overwrite,
    )


def _stored_dtype(dtype: DTypeLike) -> Any:
    """Return the type as zarr wants it, little-endian."""
    return "string" if dtype == "string" else np.dtype(dtype).newbyteorder("<")


def open_writable(folder: Path) -> Any:
    """Open an array for writing by zarr.

    Parameters
    ----------
    folder : Path
        Folder of the array.

    Returns
    -------
    zarr.Array
        Its handle, which writes empty chunks too.

    Raises
    ------
    StoreError
        If there is no array, or its metadata cannot be read.
    """
    open_array(folder)
    return zarr.open_array(store=folder, mode="r+", zarr_format=3).with_config(CONFIG)


def write_array(
    path: Path | str,
    name: str,
    array: NDArray[Any],
    *,
    dims: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
) -> None:
    """Write a small array in one go; an array of that name is replaced.

    Parameters
    ----------
    path, name : path-like, str
        Group, made where it is missing, and array.
    array : ndarray of any shape
        Numbers, booleans or text.
    dims : sequence of str
        Names of its dimensions.
    attrs : mapping, optional
        Attributes, such as ``units``.

    Raises
    ------
    ValueError
        If `dims` does not name every dimension.
    """
    if len(dims) != array.ndim:
        msg = f"`dims` must name the {array.ndim} dimensions of `{name}`; got {tuple(dims)}."
        raise ValueError(msg)
    text = array.dtype.kind in "UOT"
    dtype: DTypeLike = "string" if text else array.dtype
    chunks = tuple(max(1, n) for n in array.shape)
    if chunks:
        fitting = max(1, WHOLE_BYTES // _row_bytes(chunks[1:], dtype))
        chunks = (min(chunks[0], fitting), *chunks[1:])
    _create(
        Path(path),
        name,
        shape=array.shape,
        dtype=dtype,
        chunks=chunks,
        shards=None,
        dims=dims,
        attrs=attrs,
        compressor="zstd",
        overwrite=True,
    )
    target = open_writable(Path(path) / name)
    if array.size:
        target[...] = array.astype(target.dtype) if text else array


def write_attrs(path: Path | str, attrs: Mapping[str, Any], name: str = "") -> None:
    """Add attributes to a group, or to an array of it; those of the same name are replaced.

    Parameters
    ----------
    path : path-like
        Group.
    attrs : mapping
        Attributes, as JSON can hold them.
    name : str
        Array of the group; the group itself by default.

    Raises
    ------
    StoreError
        If there is no such node.
    """
    open_node(Path(path) / name, "r+").attrs.update(dict(attrs))


def consolidate(path: Path | str) -> None:
    """Copy the metadata of a group's arrays into its own: xarray warns without.

    To be called last: xarray does not see what is added later, and attributes
    written later take the copy away.

    Parameters
    ----------
    path : path-like
        Group.

    Raises
    ------
    StoreError
        If there is no group.

    Notes
    -----
    Written here and not by zarr, whose own function warns of other files in
    the folder, and of itself.
    """
    place = Path(path)
    metadata = read_json(place / GROUP_METADATA)
    metadata["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {name: read_json(place / name / GROUP_METADATA) for name in array_names(place)},
    }
    write_json(place / GROUP_METADATA, metadata)


def compresses(block: NDArray[Any]) -> bool:
    """Return whether compression takes a tenth or more off a block: noise it only slows.

    Parameters
    ----------
    block : ndarray of any shape
        A sample of the values that are to be stored.

    Returns
    -------
    bool
        Whether Zstandard at the level of `create_rows_array` takes so much off.
    """
    encoded = compress(np.ascontiguousarray(block), LEVEL, False)  # noqa: FBT003 - checksum
    return len(encoded) <= 0.9 * block.nbytes
