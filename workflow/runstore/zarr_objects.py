"""What Zarr reads from: a folder, or an object store of which a missing chunk is an error."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.storage import ObjectStore, StorePath

from workflow.runstore.objects import Address, RefusedError, asked, client
from workflow.runstore.snapshots import Snapshot

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from workflow.runstore.paths import Place

__all__ = ["MissingObjectError", "reading", "some_chunks", "zarr_store"]

#: Objects that need not be there.
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
#: Chunks that stand for all where nothing can be listed.
MOST_CHUNKS = 16


class MissingObjectError(Exception):
    """A chunk for which there is no object, or an empty one.

    Parameters
    ----------
    key : str
        Its key in the bucket.
    n_bytes : int
        -1 where there is no object, 0 where it is empty.
    """

    def __init__(self, key: str, n_bytes: int) -> None:
        super().__init__(key)
        self.key, self.n_bytes = key, n_bytes


class _Objects(ObjectStore[Any]):
    """Zarr's own store, which would read fill values where an object is missing."""

    def __init__(self, root: str) -> None:
        self._root = root
        super().__init__(client(root), read_only=True)

    @property
    def store(self) -> Any:
        """The client of now: arrays stay open when credentials or the server change."""
        return client(self._root)

    @store.setter
    def store(self, opened: Any) -> None:
        """Take none: it is looked up."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return bytes of an object; None where there is no metadata."""
        is_metadata = key.rpartition("/")[2] in METADATA
        try:
            with asked(Address(self._root, key)):
                found = await super().get(key, prototype, byte_range)
        except RefusedError:
            if not is_metadata:
                raise
            return None
        if not is_metadata and (found is None or not len(found)):
            raise MissingObjectError(key, -1 if found is None else 0)
        return found


def reading(place: Place) -> contextlib.AbstractContextManager[None]:
    """Turn what a store raises inside into errors of ours; that over obstore does so itself."""
    return place.asked() if isinstance(place, Snapshot) else contextlib.nullcontext()


def zarr_store(place: Place) -> Any:
    """Return a place as Zarr takes it.

    Parameters
    ----------
    place : Path, Address or Snapshot
        An array or a group.

    Returns
    -------
    Path or StorePath
        The path, or the place in a store, for reading.  Of a snapshot, chunks that are not there are fill values:
        its manifest tells which there are.
    """
    if isinstance(place, Address):
        return StorePath(_Objects(place.root), place.key)
    if isinstance(place, Snapshot):
        return StorePath(place.store, place.key)
    return place


def some_chunks(address: Address, array: Any) -> list[tuple[str, int, Any]]:
    """Return name, bytes and tag of the objects of some chunks, evenly spread, with the first and the last.

    Parameters
    ----------
    address : Address
        Where the array is.
    array : zarr.Array
        Its handle.

    Returns
    -------
    list of (str, int, str)
        At most `MOST_CHUNKS`; chunks without an object are left out.
    """
    sizes = array.shards or array.chunks
    counts = [-(-n // size) for n, size in zip(array.shape, sizes, strict=True)]
    n_chunks = math.prod(counts)
    chosen = np.unique(np.linspace(0, n_chunks - 1, min(n_chunks, MOST_CHUNKS)).astype(np.int64))
    found: list[tuple[str, int, Any]] = []
    for index in zip(*np.unravel_index(chosen, counts), strict=True):
        name = array.metadata.encode_chunk_key(tuple(map(int, index)))
        with contextlib.suppress(FileNotFoundError):
            found.append((name, *(address / name).stamp()))
    return found
