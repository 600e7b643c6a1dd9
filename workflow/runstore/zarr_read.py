"""Open and read Zarr arrays, whoever wrote them, wherever they are, and say what is damaged; zarr itself would serve fill values."""

from __future__ import annotations

import contextlib
import itertools
import json
import lzma
import os
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import google_crc32c
import numpy as np
import zarr

from workflow.errors import StoreError
from workflow.runstore import paths
from workflow.runstore.files import first_line
from workflow.runstore.objects import NODE_FILES, RefusedError
from workflow.runstore.shards import DamagedShardError, ShardLayout
from workflow.runstore.zarr_objects import MissingObjectError, reading, zarr_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from workflow.runstore.paths import Place

__all__ = [
    "ARRAY_FILES",
    "GROUP_METADATA",
    "OpenedArray",
    "array_dtype",
    "array_names",
    "crc",
    "first_line",
    "node_kind",
    "open_array",
    "open_node",
    "read_array",
    "read_attrs",
    "read_block",
    "read_rows",
]

#: The file that makes a folder a Zarr group or array.
GROUP_METADATA = "zarr.json"
#: Metadata files of an array, Zarr version 3 first.
ARRAY_FILES = (GROUP_METADATA, ".zarray")
#: What codecs raise on bytes that are not theirs; running out of memory is not among them.
DECODING_ERRORS = (
    ValueError,
    TypeError,
    RuntimeError,
    OSError,
    LookupError,
    EOFError,
    AttributeError,
    zlib.error,
    lzma.LZMAError,
)


def node_kind(folder: Place) -> str | None:
    """Return whether a folder is an array or a group.

    Parameters
    ----------
    folder : Path or Address
        The folder; it may be missing.

    Returns
    -------
    str or None
        ``"array"``, ``"group"``, or None where it is neither.

    Raises
    ------
    StoreError
        If there is metadata that cannot be read.
    """
    metadata = folder / GROUP_METADATA
    if metadata.is_file():
        try:
            kind = json.loads(metadata.read_text(encoding="utf-8"))["node_type"]
        except StoreError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as err:
            msg = f"{metadata} must be the metadata of an array or a group; it is damaged ({first_line(err)}). Restore it."
            raise StoreError(msg) from None
        return str(kind) if kind in ("array", "group") else None
    if (folder / ".zarray").is_file():
        return "array"
    return "group" if (folder / ".zgroup").is_file() else None


def array_names(path: Place) -> list[str]:
    """Return the names of the arrays of a group.

    Parameters
    ----------
    path : Path or Address
        The group.

    Returns
    -------
    list of str
        Names of the arrays that lie directly in it, sorted; none where it cannot be listed.

    Raises
    ------
    StoreError
        If it is missing, or the metadata of an array cannot be read.
    """
    if not path.is_dir():
        msg = f"{path} must be a Zarr group; it is missing. Give the path of one."
        raise StoreError(msg)
    nodes = (name for name in paths.names_in(path) if name not in NODE_FILES)
    return sorted(name for name in nodes if node_kind(path / name) == "array")


class OpenedArray(NamedTuple):
    """An array, opened.

    Attributes
    ----------
    array : zarr.Array
        Its handle.
    layout : ShardLayout or None
        Where its rows are, if they are in files that are shards of whole rows.
    stamp : tuple
        Its metadata file and what changes with it.
    """

    array: Any
    layout: ShardLayout | None
    stamp: tuple[Any, ...]


def open_array(folder: Place, stamp: tuple[Any, ...] | None = None) -> OpenedArray:
    """Open an array, once per process until its metadata changes.

    Parameters
    ----------
    folder : Path or Address
        Folder of the array.
    stamp : tuple, optional
        That of an array which was opened: nobody looks whether its metadata has changed since.

    Returns
    -------
    OpenedArray
        Its handle and its layout.

    Raises
    ------
    StoreError
        If there is no array, or its metadata cannot be read.
    """
    if stamp is not None:
        return _opened(folder, stamp)
    for name in ARRAY_FILES:
        try:
            found = (name, *paths.stamp(folder / name))
        except (FileNotFoundError, NotADirectoryError, RefusedError):
            continue
        with contextlib.suppress(FileNotFoundError, RefusedError):
            # Format 2 keeps attributes apart.
            found += paths.stamp(folder / ".zattrs") if name == ".zarray" else ()
        return _opened(folder, found)
    msg = f"{folder} must be a Zarr array; it holds no {' or '.join(ARRAY_FILES)}. Give the path of an array, or make it anew."
    raise StoreError(msg)


@lru_cache(maxsize=128)
def _opened(folder: Place, stamp: tuple[Any, ...]) -> OpenedArray:
    """Open an array; `stamp` makes a changed one another entry of the cache."""
    metadata = stamp[0]
    zarr_format: Literal[2, 3] = 3 if metadata == GROUP_METADATA else 2
    try:
        with reading(folder):
            array = zarr.open_array(store=zarr_store(folder), mode="r", zarr_format=zarr_format)
        layout = ShardLayout.of(folder, array) if isinstance(folder, Path) else None
        return OpenedArray(array, layout, stamp)
    except StoreError:
        raise
    except DECODING_ERRORS as err:
        msg = f"{folder / metadata} must describe a Zarr array; it cannot be used ({first_line(err)}). Restore it, or write the array anew."
        raise StoreError(msg) from None


def read_block(
    folder: Place, start: int, stop: int, *, axis: int = 0, stamp: tuple[Any, ...] | None = None
) -> NDArray[Any]:
    """Return rows of an array, in native byte order and C order.

    Parameters
    ----------
    folder : Path or Address
        Folder of the array.
    start, stop : int
        Rows, not negative.
    axis : int
        Dimension of the array that counts the rows; it comes first in what is returned.
    stamp : tuple, optional
        As `open_array` takes it.

    Returns
    -------
    ndarray of shape (stop - start, ...)
        In the stored dtype.

    Raises
    ------
    StoreError
        If a file that holds some of the rows is missing, empty, or cannot be
        decoded; it names the array, the rows and the file.

    Notes
    -----
    A file that is missing or empty may mean "all fill values" in a foreign
    array; that cannot be told from a lost file, so it is refused.  Chunks
    left out inside a shard are known to be meant, by the shard's index.
    """
    found = open_array(folder, stamp)
    if not 0 <= start <= stop <= found.array.shape[axis]:
        msg = f"{folder} has rows 0 to {found.array.shape[axis]}; rows {start} to {stop} were requested. The array may have been replaced: start again."
        raise StoreError(msg)
    return _read(folder, found, start, stop, axis)


def _read(folder: Place, found: OpenedArray, start: int, stop: int, axis: int = 0) -> NDArray[Any]:
    """Read rows, by their layout or, after a look at their files, by zarr; the range is right."""
    array, layout, _ = found
    if layout is not None and not axis:
        try:
            return layout.read(start, stop)
        except DamagedShardError as err:
            index = (err.index, *([0] * (array.ndim - 1)))
            if err.left_out is not None:
                raise _left_out(folder, array, index, err.left_out) from None
            raise _chunk_error(folder, array, index, f"is damaged ({first_line(err)})") from None
    if isinstance(folder, Path):
        for index in _stored_chunks(array, start, stop, axis):
            _require_file(folder, array, index)
    try:
        with reading(folder):
            if array.ndim:
                rows = (*[slice(None)] * axis, slice(start, stop))
                block = np.moveaxis(np.asarray(array[rows]), axis, 0)
            else:
                block = np.asarray(array[()])
    except MissingObjectError as err:
        raise _missing(folder, array, (start, stop), axis, err) from None
    except StoreError:
        raise
    except DECODING_ERRORS as err:
        raise _damaged(folder, array, (start, stop), axis, err) from None
    native = block.dtype if block.dtype.kind in "OT" else block.dtype.newbyteorder("=")
    return np.asarray(block, dtype=native, order="C")


def _stored_chunks(array: Any, start: int, stop: int, axis: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the files that hold rows `start` to `stop`: shards where there are shards."""
    if 0 in array.shape or stop <= start:
        return
    sizes = _file_sizes(array)
    counts = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    spans = [range(n) for n in counts]
    if spans:
        spans[axis] = range(start // sizes[axis], -(-stop // sizes[axis]))
    yield from itertools.product(*spans)


def _file_sizes(array: Any) -> tuple[int, ...]:
    """Return the shape of what one file holds."""
    return tuple(array.shards or array.chunks)


def _region(array: Any, index: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of an array that one file holds."""
    return tuple(
        slice(i * size, min((i + 1) * size, n))
        for i, size, n in zip(index, _file_sizes(array), array.shape, strict=True)
    )


def _missing(
    folder: Place, array: Any, rows: tuple[int, int], axis: int, err: MissingObjectError
) -> StoreError:
    """Return the error for the object that is missing or empty."""
    chunks = _stored_chunks(array, *rows, axis)
    named = (i for i in chunks if err.key.endswith(f"/{array.metadata.encode_chunk_key(i)}"))
    return _left_out(folder, array, next(named), err.n_bytes)


def _require_file(folder: Path, array: Any, index: tuple[int, ...]) -> None:
    """Refuse a chunk whose file is missing or empty: zarr would serve fill values for it."""
    key = array.metadata.encode_chunk_key(index)
    try:
        n_bytes = os.stat(f"{folder}/{key}").st_size  # noqa: PTH116 - thousands a block; Path doubles the time
    except (FileNotFoundError, NotADirectoryError):
        n_bytes = -1
    if n_bytes <= 0:
        raise _left_out(folder, array, index, n_bytes)


def _left_out(folder: Place, array: Any, index: tuple[int, ...], n_bytes: int) -> StoreError:
    """Return the error for a file that is missing (-1 bytes) or empty."""
    found = "is missing" if n_bytes < 0 else "is empty"
    hint = ", or write the array with write_empty_chunks=True if it was left out on purpose"
    return _chunk_error(folder, array, index, f"{found}: Zarr would read fill values", hint)


def _damaged(
    folder: Place, array: Any, rows: tuple[int, int], axis: int, err: Exception
) -> StoreError:
    """Return the error that names the first file that cannot be decoded."""
    for index in _stored_chunks(array, *rows, axis):
        try:
            _ = array[_region(array, index)]
        except StoreError as found:
            return found
        except DECODING_ERRORS as found:
            return _chunk_error(folder, array, index, f"is damaged ({first_line(found)})")
    msg = f"{folder} must be readable; rows {rows[0]} to {rows[1] - 1} could not be read ({first_line(err)}). Look at the disk and try again."
    return StoreError(msg)


def _chunk_error(
    folder: Place, array: Any, index: tuple[int, ...], found: str, hint: str = ""
) -> StoreError:
    """Return an error that names array, rows of its first dimension and file."""
    rows = _region(array, index)[:1] or (slice(0, 1),)
    key = array.metadata.encode_chunk_key(index)
    msg = f"{folder} must hold its rows {rows[0].start} to {rows[0].stop - 1} whole; its file {key} {found}. Restore that file{hint}."
    return StoreError(msg)


def read_rows(path: Place | str, name: str, start: int, stop: int) -> NDArray[Any]:
    """Return rows of an array of a group.

    Parameters
    ----------
    path, name : path-like or Address, str
        Group and array.
    start, stop : int
        Rows, not negative.

    Returns
    -------
    ndarray of shape (stop - start, ...)
        In the stored type and native byte order; text as ``StringDType``.

    Raises
    ------
    StoreError
        As of `read_block`.
    """
    return read_block(_joined(path, name), start, stop)


def read_array(path: Place | str, name: str) -> NDArray[Any]:
    """Return a whole array of a group.

    Parameters
    ----------
    path, name : path-like, str
        Group and array.

    Returns
    -------
    ndarray of any shape
        In the stored type and native byte order; text as ``StringDType``.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    folder = _joined(path, name)
    found = open_array(folder)
    return _read(folder, found, 0, found.array.shape[0] if found.array.ndim else 1)


def _joined(path: Place | str, name: str) -> Place:
    """Return the place of an array of a group."""
    return (Path(path) if isinstance(path, str) else path) / name


def array_dtype(path: Place | str, name: str) -> Any:
    """Return the type of an array.

    Parameters
    ----------
    path, name : path-like, str
        Group and array.

    Returns
    -------
    numpy.dtype or str
        As `create_rows_array` takes it: ``"string"`` for text.

    Raises
    ------
    StoreError
        If there is no such array.
    """
    dtype = open_array(_joined(path, name)).array.dtype
    return "string" if dtype.kind in "OT" else np.dtype(dtype).newbyteorder("=")


def read_attrs(path: Path | str, name: str = "") -> dict[str, Any]:
    """Return the attributes of a group, or of an array of it.

    Parameters
    ----------
    path : path-like
        Group.
    name : str
        Array of the group; the group itself by default.

    Returns
    -------
    dict
        Attributes by name.

    Raises
    ------
    StoreError
        If there is no such node.
    """
    return dict(open_node(Path(path) / name, "r").attrs)


def open_node(place: Path, mode: Literal["r", "r+"]) -> Any:
    """Open a group or an array as it is on disk, not as consolidated metadata remembers it.

    Parameters
    ----------
    place : Path
        Its folder.
    mode : "r" or "r+"
        Whether it may be changed.

    Returns
    -------
    zarr.Array or zarr.Group
        Its handle, which is not cached.

    Raises
    ------
    StoreError
        If there is none, or it cannot be opened.
    """
    kind = node_kind(place)
    if kind is None:
        msg = f"{place} must be a Zarr group or array; it is neither. Check the path."
        raise StoreError(msg)
    try:
        if kind == "array":
            return zarr.open_array(store=place, mode=mode)
        return zarr.open_group(store=place, mode=mode, use_consolidated=False)
    except DECODING_ERRORS as err:
        msg = f"{place} must be a Zarr {kind}; it cannot be opened ({first_line(err)}). Restore it."
        raise StoreError(msg) from None


def crc(block: NDArray[Any]) -> int:
    """Return the checksum of an array.

    Parameters
    ----------
    block : ndarray of any shape
        Numbers, booleans or text.

    Returns
    -------
    int
        Crc32c of its bytes in C order; of text, of its UTF-8 lines.
    """
    if block.dtype.kind in "UOT":
        return int(google_crc32c.value("\n".join(map(str, block.ravel())).encode()))
    return int(google_crc32c.value(np.ascontiguousarray(block).reshape(-1).view(np.uint8)))
