"""Sources that have grown: some of the rows of an array, some of the files of a collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from workflow.ingest.embedding import EmbeddedSource
from workflow.ingest.readers.folder import PictureFiles
from workflow.ingest.readers.items import ItemSource
from workflow.ingest.readers.shard_files import ShardFiles
from workflow.ingest.source import BaseSource, Source, prepared
from workflow.runstore import zarr_io

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.readers.files import Files
    from workflow.mapper import PartitionRunner


@dataclass(frozen=True)
class SomeRows(BaseSource):
    """Consecutive images of another source."""

    source: Source
    first_row: int

    def fingerprint(self) -> dict[str, Any]:
        """Return the fingerprint of the source, and which rows these are."""
        shape = [self.n_samples, *self.image_shape]
        return {**self.source.fingerprint(), "shape": shape, "first_row": self.first_row}

    def prepare(self, folder: Path, runner: PartitionRunner) -> SomeRows:
        """Prepare the source, where it needs that."""
        return replace(self, source=prepared(self.source, folder, runner))

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows."""
        return self.source.read(self.first_row + start, self.first_row + stop)


def files_of(source: Source) -> Files | None:
    """Return the files whose items are the images of a source.

    Parameters
    ----------
    source : Source
        The images.

    Returns
    -------
    Files or None
        None where the images are rows of one array.
    """
    if isinstance(source, EmbeddedSource):
        return files_of(source.source)
    collection = getattr(source, "collection", None)
    return collection.files if isinstance(collection, PictureFiles | ShardFiles) else None


def some_rows(source: Source, start: int, stop: int) -> Source:
    """Return images of some rows, in the place of all.

    Parameters
    ----------
    source : Source
        Images that are rows of one array.
    start, stop : int
        First row, and the one after the last.

    Returns
    -------
    Source
        Of ``stop - start`` images.
    """
    if isinstance(source, EmbeddedSource):
        inner = some_rows(source.source, start, stop)
        return replace(source, source=inner, n_samples=inner.n_samples)
    if isinstance(source, zarr_io.ImageStore):
        return zarr_io.some_images(source, start, stop)
    return SomeRows(stop - start, source.image_shape, source.dtype, source, start)


def some_files(source: Source, names: Sequence[str]) -> Source:
    """Return the images of some of the files of a source.

    Parameters
    ----------
    source : Source
        Images that are items of files.
    names : sequence of str
        Names of the files, as the source lists them.

    Returns
    -------
    Source
        Nothing is read yet.
    """
    if isinstance(source, EmbeddedSource):
        inner = some_files(source.source, names)
        return replace(source, source=inner, n_samples=inner.n_samples)
    assert isinstance(source, ItemSource)
    assert isinstance(source.collection, PictureFiles | ShardFiles)
    some = replace(source.collection, files=source.collection.files.some(names))
    return replace(source, collection=some, n_samples=some.estimate(), said=())


def noted_of_images(fingerprint: Mapping[str, Any], name: str) -> Any:
    """Return what a fingerprint notes of the images themselves, also where it is that of their vectors.

    Parameters
    ----------
    fingerprint : mapping
        As a source returns it.
    name : str
        An entry of it.

    Returns
    -------
    object
        Its value; None where there is none.
    """
    while "source" in fingerprint:
        fingerprint = fingerprint["source"]
    return fingerprint.get(name)


def file_of(item: str, names: Container[str]) -> str | None:
    """Return the file that an item was read from, by its name; None where that file is none of `names`.

    Parameters
    ----------
    item : str
        Name of an image, as it is stored beside it: FILE, FILE#FRAME, or FILE/MEMBER.
    names : container of str
        Names of files.

    Returns
    -------
    str or None
        One of `names`.

    Examples
    --------
    >>> names = {"a/1.png", "b.tar"}
    >>> file_of("a/1.png", names), file_of("b.tar/x/2.png", names), file_of("a/2.png", names)
    ('a/1.png', 'b.tar', None)
    """
    return next((name for name in possible_files(item) if name in names), None)


def possible_files(item: str) -> Iterator[str]:
    """Yield the names that the file of an item may have.

    Parameters
    ----------
    item : str
        Name of an image, as `file_of` takes it.

    Yields
    ------
    str
        Names; the first that is one of a file is that of its file.
    """
    yield item
    unframed, mark, _ = item.rpartition("#")
    if mark:
        yield unframed
    yield from map(str, PurePosixPath(item).parents)


__all__ = [
    "SomeRows",
    "file_of",
    "files_of",
    "noted_of_images",
    "possible_files",
    "some_files",
    "some_rows",
]
