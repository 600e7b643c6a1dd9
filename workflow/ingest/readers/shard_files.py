"""Files that hold many items each, one after the other: what tars, records and tables have in common."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, cast

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.folder import picture_source
from workflow.ingest.readers.items import Item, ItemSource, Shard, stored_name
from workflow.ingest.readers.pictures import Look
from workflow.ingest.readers.raw import number_type
from workflow.runstore import paths, zarr_io
from workflow.runstore.zarr_read import first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from workflow.ingest.readers.files import Files
    from workflow.ingest.source import Reading
    from workflow.runstore.paths import Place

#: Files whose items are counted, of many, and what is read of each [bytes]; the rest is estimated.
COUNTED_FILES, COUNTED_BYTES = 8, 4 * 2**20
#: Files that are looked into, and items of each, where a shape or a column must be chosen.
LOOKED_AT_FILES, LOOKED_AT_ITEMS = 16, 16
#: Names of arrays that a copy has itself.
TAKEN = ("images", "path", "unreadable", "unreadable_reason")


@dataclass(frozen=True)
class ShardFiles:
    """Files of one format, one shard each; a format says what is in them.

    Attributes
    ----------
    files : Files
        The files.
    image : str
        What of an item is the image: the ending of a member, a feature, a column.
    columns : tuple of str
        What of an item is carried along.
    """

    files: Files
    image: str = ""
    columns: tuple[str, ...] = ()

    #: Name of the format.
    kind: ClassVar[str] = ""
    #: What reading a damaged file raises.
    errors: ClassVar[tuple[type[Exception], ...]] = (OSError, EOFError, zlib.error, ValueError)

    @property
    def place(self) -> str:
        """What to call it in messages."""
        return self.files.place

    def shards(self, folder: Path, most: int) -> list[Shard]:
        """Return one shard for each file, of as many items as its size suggests."""
        del folder, most
        per_byte = self.items_per_byte()
        sizes = (
            (name, paths.identity(self.files.root / name).n_bytes) for name in self.files.names
        )
        return [Shard(name, 0, max(1, round(n_bytes * per_byte))) for name, n_bytes in sizes]

    def items(self, shard: Shard) -> Iterator[Item]:
        """Yield the items of a file; where it is damaged, what can be had and why it is no more."""
        try:
            yield from self.read(shard)
        except self.errors as err:
            yield Item(shard.place, damaged(self.files.root / shard.place, err))

    def read(self, shard: Shard) -> Iterator[Item]:
        """Yield the items of a file; raise one of `errors` where it is damaged."""
        raise NotImplementedError

    def count(self, name: str) -> tuple[int, int]:
        """Return how many items there are in the first bytes of a file, and how many bytes these are."""
        path = self.files.root / name
        n_items = 0
        with contextlib.suppress(*self.errors), opened(path) as (file, raw):
            for n_items, _ in enumerate(self.walk(file, name), start=1):
                if raw.tell() > COUNTED_BYTES:
                    return n_items, raw.tell()
        return n_items, paths.identity(path).n_bytes

    def walk(self, file: BinaryIO, name: str) -> Iterator[Any]:
        """Yield something for each item of an open file."""
        raise NotImplementedError

    def items_per_byte(self) -> float:
        """Return how many items a byte of the files holds, by the first bytes of some of them."""
        counts = [self.count(name) for name in spread(self.files.names, COUNTED_FILES)]
        return sum(n for n, _ in counts) / max(1, sum(n_bytes for _, n_bytes in counts))

    def estimate(self) -> int:
        """Return how many items there are: exactly, where the files are few and small."""
        n_bytes = sum(paths.identity(self.files.root / name).n_bytes for name in self.files.names)
        return max(1, round(n_bytes * self.items_per_byte()))

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these files from others."""
        return {"kind": self.kind, "image": self.image, **self.files.fingerprint()}

    def first_items(self) -> Iterator[Item]:
        """Yield the first items of some files, spread evenly."""
        for name in spread(self.files.names, LOOKED_AT_FILES):
            yield from islice(self.items(Shard(name, 0, LOOKED_AT_ITEMS)), LOOKED_AT_ITEMS)


def spread(names: list[str], most: int) -> list[str]:
    """Return so many of some names at most, spread evenly."""
    return [names[i] for i in np.unique(np.linspace(0, len(names) - 1, most).astype(int)).tolist()]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a file, unpacked where it is gzip, and the file as it lies on disk."""
    with paths.open_file(path) as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_packed:
            yield raw, raw
            return
        with gzip.open(raw) as file:
            yield cast("BinaryIO", file), raw


def damaged(path: Place, err: Exception) -> ImagesError:
    """Return the error for a file that cannot be read to its end."""
    msg = f"files must be whole; {path} cannot be read to its end ({first_line(err)}). Copy or write it again; what comes before is read."
    return ImagesError(msg)


def shard_source(collection: ShardFiles, how: Reading, there: Sequence[str]) -> ItemSource:
    """Return the source of a collection, in the shape that was given or that its first items suggest.

    Parameters
    ----------
    collection : ShardFiles
        The items.
    how : Reading
        As the user said.
    there : sequence of str
        What can be carried along.

    Returns
    -------
    ItemSource
        Of pictures or of arrays.

    Raises
    ------
    ImagesError
        If there is no item, or shape, type or columns cannot be had.
    """
    wrong = [name for name in how.columns if stored_name(name) in TAKEN or name not in there]
    if wrong:
        msg = f"`ingest.columns` must name what lies beside the images; {collection.place} has {', '.join(there) or 'nothing'}, and not {', '.join(wrong)}. Name some of those."
        raise ImagesError(msg)
    first = [item.content for item in collection.first_items()]
    if not first:
        msg = f"there must be one image or more; {collection.place} has none. Give more images."
        raise ImagesError(msg)
    found = [content for content in first if not isinstance(content, ImagesError)]
    n_items = collection.estimate()
    others = collection.files.others
    said = [f"{collection.place} also holds {others}, not read"] if others else []
    if collection.image:
        said.append(
            f"images are `{collection.image}` of {collection.place}; ::NAME names another one"
        )
    arrays = [content for content in found if isinstance(content, np.ndarray)]
    if not arrays:
        return picture_source(collection, n_items, cast("list[bytes]", found), how, said)
    shape = how.shape or arrays[0].shape
    dtype = number_type(how.dtype).newbyteorder("=") if how.dtype else image_type(arrays[0].dtype)
    zarr_io.check_images(collection.place, (n_items, *shape), dtype)
    if dtype != arrays[0].dtype and not how.dtype:
        said.append(f"values of {arrays[0].dtype} become {dtype}; ingest.dtype gives another type")
    look = Look(tuple(shape), dtype)
    return ItemSource(
        n_items, look.shape, dtype, collection, look, how.on_unreadable, tuple(said), how.columns
    )


def image_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that images of a type have: one of those that they may have, without loss."""
    if dtype.name in zarr_io.IMAGE_DTYPES:
        return dtype.newbyteorder("=")
    return np.dtype(
        "uint8" if dtype.kind == "b" else "float32" if dtype.itemsize < 4 else "float64"
    )
