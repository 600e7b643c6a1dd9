"""Open and read Zarr arrays, whoever wrote them, and say what is damaged; zarr itself would serve fill values."""

from __future__ import annotations

import itertools
import json
import lzma
import math
import os
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import google_crc32c
import numpy as np
import zarr

from workflow.errors import StoreError
from workflow.runstore.shards import DamagedShardError, ShardLayout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

#: Metadata files of an array and of a group, Zarr version 3 first.
ARRAY_FILES, GROUP_FILES = ("zarr.json", ".zarray"), ("zarr.json", ".zgroup")
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


def node_kind(folder: Path) -> str | None:
    """Return ``"array"``, ``"group"``, or None where the folder is neither.

    Raises
    ------
    StoreError
        If there is metadata that cannot be read.
    """
    metadata = folder / "zarr.json"
    if metadata.is_file():
        try:
            kind = json.loads(metadata.read_text(encoding="utf-8"))["node_type"]
        except (OSError, ValueError, KeyError, TypeError) as err:
            msg = f"{metadata} must be the metadata of an array or a group; it is damaged ({first_line(err)}). Restore it."
            raise StoreError(msg) from None
        return str(kind) if kind in ("array", "group") else None
    if (folder / ".zarray").is_file():
        return "array"
    return "group" if (folder / ".zgroup").is_file() else None


def array_names(path: Path) -> list[str]:
    """Return the names of the arrays that lie directly in a group, sorted."""
    if not path.is_dir():
        msg = f"{path} must be a Zarr group; it is missing. Give the path of one."
        raise StoreError(msg)
    return sorted(p.name for p in path.iterdir() if p.is_dir() and node_kind(p) == "array")


class Opened(NamedTuple):
    """An array, and where its rows are where that is known without zarr."""

    array: Any
    layout: ShardLayout | None


def open_array(folder: Path) -> Any:
    """Return the handle of an array, cached until its metadata changes.

    Raises
    ------
    StoreError
        If there is no array, or its metadata cannot be read.
    """
    return opened(folder).array


def opened(folder: Path) -> Opened:
    """Return the handle and the layout of an array; errors as of `open_array`."""
    for name in ARRAY_FILES:
        try:
            known = (folder / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return _opened(folder, name, (known.st_mtime_ns, known.st_size, known.st_ino))
    msg = f"{folder} must be a Zarr array; it holds no {' or '.join(ARRAY_FILES)}. Give the path of an array, or make it anew."
    raise StoreError(msg)


@lru_cache(maxsize=128)
def _opened(folder: Path, metadata: str, stamp: tuple[int, int, int]) -> Opened:
    """Open an array; `stamp` makes a changed one another entry of the cache."""
    del stamp
    try:
        array = zarr.open_array(
            store=folder, mode="r", zarr_format=3 if metadata == "zarr.json" else 2
        )
        return Opened(array, ShardLayout.of(folder, array))
    except DECODING_ERRORS as err:
        msg = f"{folder / metadata} must describe a Zarr array; it cannot be used ({first_line(err)}). Restore it, or write the array anew."
        raise StoreError(msg) from None


def read_block(folder: Path, start: int, stop: int) -> NDArray[Any]:
    """Return rows of an array, in native byte order and C order.

    Parameters
    ----------
    folder : Path
        Folder of the array.
    start, stop : int
        Rows, not negative.

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
    found = opened(folder)
    if not 0 <= start <= stop <= found.array.shape[0]:
        msg = f"{folder} has rows 0 to {found.array.shape[0]}; rows {start} to {stop} were asked for. The array may have been replaced: start again."
        raise StoreError(msg)
    return _read(folder, found, start, stop)


def read_whole(folder: Path) -> NDArray[Any]:
    """Return all of an array, of any number of dimensions; errors as of `read_block`."""
    found = opened(folder)
    return _read(folder, found, 0, found.array.shape[0] if found.array.ndim else 1)


def _read(folder: Path, found: Opened, start: int, stop: int) -> NDArray[Any]:
    """Read rows, by their layout or, after a look at their files, by zarr; the range is right."""
    array, layout = found
    if layout is not None:
        try:
            return layout.read(start, stop)
        except DamagedShardError as err:
            index = (err.index, *([0] * (array.ndim - 1)))
            if err.left_out is not None:
                raise _left_out(folder, array, index, err.left_out) from None
            raise _chunk_error(folder, array, index, f"is damaged ({first_line(err)})") from None
    for index in stored_chunks(array, start, stop):
        _require_file(folder, array, index)
    try:
        block = np.asarray(array[start:stop] if array.ndim else array[()])
    except DECODING_ERRORS as err:
        raise _damaged(folder, array, (start, stop), err) from None
    native = block.dtype if block.dtype.kind in "OT" else block.dtype.newbyteorder("=")
    return np.asarray(block, dtype=native, order="C")


def stored_chunks(array: Any, start: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the files that hold rows `start` to `stop`: shards where there are shards."""
    if 0 in array.shape or stop <= start:
        return
    sizes = _file_sizes(array)
    counts = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    spans = [range(n) for n in counts]
    if spans:
        spans[0] = range(start // sizes[0], -(-stop // sizes[0]))
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


def _require_file(folder: Path, array: Any, index: tuple[int, ...]) -> None:
    """Refuse a chunk whose file is missing or empty: zarr would serve fill values for it."""
    key = array.metadata.encode_chunk_key(index)
    try:
        n_bytes = os.stat(f"{folder}/{key}").st_size  # noqa: PTH116 - thousands a block; Path doubles the time
    except (FileNotFoundError, NotADirectoryError):
        n_bytes = -1
    if n_bytes <= 0:
        raise _left_out(folder, array, index, n_bytes)


def _left_out(folder: Path, array: Any, index: tuple[int, ...], n_bytes: int) -> StoreError:
    """Return the error for a file that is missing (-1 bytes) or empty."""
    found = "is missing" if n_bytes < 0 else "is empty"
    hint = ", or write the array with write_empty_chunks=True if it was left out on purpose"
    return _chunk_error(folder, array, index, f"{found}: Zarr would read fill values", hint)


def _damaged(folder: Path, array: Any, rows: tuple[int, int], err: Exception) -> StoreError:
    """Return the error that names the first file that cannot be decoded."""
    for index in stored_chunks(array, *rows):
        try:
            _ = array[_region(array, index)]
        except DECODING_ERRORS as found:
            return _chunk_error(folder, array, index, f"is damaged ({first_line(found)})")
    msg = f"{folder} must be readable; rows {rows[0]} to {rows[1] - 1} could not be read ({first_line(err)}). Look at the disk and try again."
    return StoreError(msg)


def _chunk_error(
    folder: Path, array: Any, index: tuple[int, ...], found: str, hint: str = ""
) -> StoreError:
    """Return an error that names array, rows and file."""
    rows = _region(array, index)[:1] or (slice(0, 1),)
    key = array.metadata.encode_chunk_key(index)
    msg = f"{folder} must hold its rows {rows[0].start} to {rows[0].stop - 1} whole; its file {key} {found}. Restore that file{hint}."
    return StoreError(msg)


def read_rows(path: Path | str, name: str, start: int, stop: int) -> NDArray[Any]:
    """Return rows of an array; text as ``StringDType``.

    Raises
    ------
    StoreError
        If there is no such array, or it is damaged there.
    """
    return read_block(Path(path) / name, start, stop)


def read_array(path: Path | str, name: str) -> NDArray[Any]:
    """Return a whole array.

    Raises
    ------
    StoreError
        If it is missing or damaged.
    """
    return read_whole(Path(path) / name)


def array_dtype(path: Path | str, name: str) -> Any:
    """Return the type of an array as `create_rows_array` takes it: ``"string"`` for text."""
    dtype = open_array(Path(path) / name).dtype
    return "string" if dtype.kind in "OT" else np.dtype(dtype).newbyteorder("=")


def read_attrs(path: Path | str, name: str = "") -> dict[str, Any]:
    """Return the attributes of a group, or of an array of it.

    Raises
    ------
    StoreError
        If there is no such node.
    """
    return dict(open_node(Path(path) / name, "r").attrs)


def open_node(place: Path, mode: Literal["r", "r+"]) -> Any:
    """Open a group or an array as it is on disk, not as consolidated metadata remembers it."""
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
    """Return the crc32c of an array's bytes in C order; of text, of its UTF-8 lines."""
    if block.dtype.kind in "UOT":
        return int(google_crc32c.value("\n".join(map(str, block.ravel())).encode()))
    return int(google_crc32c.value(np.ascontiguousarray(block).reshape(-1).view(np.uint8)))


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows of one of our arrays, read where they lie; implements `workflow.mapper.Rows`."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def open(cls, path: Path | str, name: str) -> StoredRows:
        """Open an array of a group.

        Raises
        ------
        StoreError
            If there is no such array.
        """
        array = open_array(Path(path) / name)
        return cls(Path(path), name, tuple(array.shape), np.dtype(array.dtype).newbyteorder("="))

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def n_features(self) -> int:
        """Numbers in a row."""
        return math.prod(self.shape[1:])

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, of shape (stop - start, n_features)."""
        return read_rows(self.path, self.name, start, stop).reshape(stop - start, self.n_features)


def first_line(err: BaseException) -> str:
    """Return the first line of an error's text, shortened."""
    text = str(err).strip().splitlines()
    return (text[0] if text else type(err).__name__)[:200].rstrip(".")
