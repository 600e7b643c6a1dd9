"""Items in shards: decoded once, shard by shard, unreadable items left out or fatal.

A collection is files, archives, records or tables that hold one image an item, or several.  Which
items are readable is known only when all have been decoded, and the row of an image depends on it.
So a task decodes a shard and leaves the good images in the working folder, in pieces of bounded
size, with their names and the names of the bad items.  Rows are then counted over the good ones:
row i is always the same item, whatever the number of workers and wherever a run was cut.
The decoded pixels lie on disk twice for a while; nothing is decoded twice.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from workflow.chunks import RowRange
from workflow.errors import ImagesError
from workflow.ingest.readers.files import printable
from workflow.ingest.readers.pictures import LEAST_DEEP, Decoded, Look, decode
from workflow.ingest.source import BaseSource
from workflow.runstore import zarr_io
from workflow.runstore.files import read_json, write_json
from workflow.runstore.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.ingest.source import OnUnreadable
    from workflow.mapper import PartitionRunner

#: Items of a shard at most, where it can be chosen, and bytes of the decoded images of a piece.
SHARD_ITEMS, PIECE_BYTES = 2_048, 32 * 2**20
#: Kinds of the values of a column, a value of each fits the next one, and what stands for none.
KINDS: dict[str, tuple[str, Any]] = {
    "whole": ("int64", None),
    "number": ("float64", float("nan")),
    "text": ("string", ""),
}


class Item(NamedTuple):
    """What may be an image: a picture file, its bytes, an array, or why it cannot be had."""

    name: str
    content: Path | bytes | NDArray[Any] | ImagesError
    columns: tuple[Any, ...] = ()


class Shard(NamedTuple):
    """Items that one task decodes: of a file from number `first` on, about `n_items` of them."""

    place: str
    first: int
    n_items: int


class Collection(Protocol):
    """Items in shards; pickles to a few hundred bytes."""

    @property
    def place(self) -> str:
        """What to call it in messages."""

    def shards(self, folder: Path, most: int) -> list[Shard]:
        """Return the shards, of at most so many items where that can be chosen; `folder` is for notes."""

    def items(self, shard: Shard) -> Iterator[Item]:
        """Yield the items of a shard in their order, and what ends it early as the last one."""

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these items from others."""


@dataclass(frozen=True)
class ItemSource(BaseSource):
    """Images of a collection; `n_samples` counts its items until they have been decoded."""

    collection: Collection
    look: Look
    on_unreadable: OnUnreadable
    said: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    known: Mapping[str, Any] = field(default_factory=dict)

    def remarks(self) -> list[str]:
        """Return what the user should know before the items are read."""
        return list(self.said)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells the items from others, and what they are made into."""
        return {
            **self.collection.fingerprint(),
            "shape": list(self.image_shape),
            **({} if self.dtype == np.uint8 else {"dtype": self.dtype.name}),
            **({"columns": list(self.columns)} if self.columns else {}),
            **self.known,
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Refuse: which image is which row is known only when all have been decoded.

        Raises
        ------
        ImagesError
            Always.
        """
        msg = f"{self.collection.place} must be decoded before images {start} to {stop - 1} are read. Ingest it."
        raise ImagesError(msg)

    def few(self, n_items: int, n_shards: int) -> ItemSource:
        """Return so many of the items, in shards spread evenly."""
        some = Few(self.collection, self.n_samples, n_items, n_shards)
        return replace(self, n_samples=n_items, collection=some, said=())

    def prepare(self, folder: Path, runner: PartitionRunner) -> DecodedSource:
        """Decode all items that have not been decoded yet.

        Raises
        ------
        ImagesError
            If none is readable, or one is not and that is to be fatal; if 8 bits are too few
            for what files of 16 bits hold.
        """
        fitting = max(1, PIECE_BYTES // (self.n_features * self.dtype.itemsize))
        place = folder / "shards.json"
        if not place.exists():
            write_json(place, self.collection.shards(folder, min(SHARD_ITEMS, fitting)))
        shards = {index: Shard(*shard) for index, shard in enumerate(read_json(place))}
        reports = runner.run(
            "ingest: decode",
            DecodeShard(replace(self, said=()), folder, fitting),
            {index: (index, shard) for index, shard in shards.items()},
            journal=Journal(folder / "items.jsonl", "decoded"),
            n_rows=lambda task: task[1].n_items,
        )
        pieces = [
            (index, number, n_images, n_bad)
            for index, report in reports.items()
            for number, (n_images, n_bad) in enumerate(report["pieces"])
        ]
        ends = np.cumsum([n_images for _, _, n_images, _ in pieces]).tolist()
        write_json(folder / "ends.json", {"pieces": pieces, "ends": ends})
        kinds = tuple(
            (
                stored_name(name),
                max((report["kinds"][i] for report in reports.values()), key=list(KINDS).index),
            )
            for i, name in enumerate(self.columns)
        )
        n_samples = ends[-1] if ends else 0
        decoded = DecodedSource(n_samples, self.image_shape, self.dtype, folder, kinds)
        if not decoded.n_samples:
            bad = decoded.unreadable()
            first = f" (first: {bad[0][0]}, {bad[0][1]})" if bad else ""
            msg = f"there must be one readable image or more; {self.collection.place} has none in {len(bad)} files{first}. Give more images."
            raise ImagesError(msg)
        largest = max((report["largest"] for report in reports.values()), default=0)
        if 0 < largest < LEAST_DEEP:
            n_deep = sum(report["n_deep"] for report in reports.values())
            self._require_one_scale(largest, n_deep, decoded.n_samples)
        return decoded

    def _require_one_scale(self, largest: int, n_deep: int, n_samples: int) -> None:
        """Refuse files of 16 bits that use few of them, where that loses levels or mixes scales."""
        place = self.collection.place
        if self.dtype == np.uint8:
            msg = f"image files of 16 bits must use their range where 8 bits are kept; the largest value in {place} is {largest}, which leaves {(largest >> 8) + 1} levels. Set ingest.dtype=uint16 to keep all bits of grey files, or convert the files to 8 bits."
            raise ImagesError(msg)
        if n_deep < n_samples:
            msg = f"image files of 8 and of 16 bits must have one scale where they are mixed; {n_deep:,} of {n_samples:,} files in {place} have 16 bits and use {largest + 1:,} of 65,536 values, the others fill the range. Put them into folders of their own, or convert them to the same depth."
            raise ImagesError(msg)


@dataclass(frozen=True)
class Few:
    """Few items of a collection: the first ones of some of its shards, spread evenly."""

    collection: Collection
    n_all: int
    n_items: int
    n_shards: int

    @property
    def place(self) -> str:
        """What to call it in messages."""
        return self.collection.place

    def shards(self, folder: Path, most: int) -> list[Shard]:
        """Return some of the shards, which share the items among them."""
        shards = self.collection.shards(folder, min(most, max(1, self.n_all // self.n_shards)))
        n_shards = min(len(shards), self.n_shards)
        chosen = np.linspace(0, len(shards) - 1, n_shards).astype(int).tolist()
        cuts = np.linspace(0, self.n_items, n_shards + 1).astype(int).tolist()
        return [
            shards[index]._replace(n_items=cuts[i + 1] - cuts[i]) for i, index in enumerate(chosen)
        ]

    def items(self, shard: Shard) -> Iterator[Item]:
        """Yield the first items of a shard."""
        return islice(self.collection.items(shard), shard.n_items)

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these items from others."""
        return {**self.collection.fingerprint(), "few": [self.n_items, self.n_shards]}


@dataclass
class _Piece:
    """Images and names that are written together."""

    images: list[NDArray[Any]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    columns: list[tuple[Any, ...]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class DecodeShard:
    """Decodes the items of one shard into the working folder."""

    source: ItemSource
    folder: Path
    piece_rows: int

    def __call__(self, task: tuple[int, Shard]) -> dict[str, Any]:
        """Leave pixels, names and unreadable items of a shard; return how many images it has."""
        index, shard = task
        pieces: list[tuple[int, int]] = []
        piece, largest, n_deep = _Piece(), 0, 0
        kinds = [next(iter(KINDS))] * len(self.source.columns)
        for item in self.source.collection.items(shard):
            try:
                found = decoded(item.content, self.source.look)
            except ImagesError as err:
                if self.source.on_unreadable == "fail":
                    raise
                piece.bad.append((item.name, str(err)))
                continue
            is_one = len(found) == 1 and self.source.look.frames == "first"
            for frame, (values, deepest) in enumerate(found):
                piece.images.append(values)
                piece.names.append(
                    item.name if is_one or len(found) == 1 else f"{item.name}#{frame}"
                )
                piece.columns.append(tuple(map(_storable, item.columns)))
                largest, n_deep = max(largest, deepest), n_deep + (deepest > 0)
            kinds = [
                max(kind, _kind(v), key=list(KINDS).index)
                for kind, v in zip(kinds, item.columns, strict=True)
            ]
            if len(piece.images) >= self.piece_rows:
                pieces.append(self._write(index, len(pieces), piece))
                piece = _Piece()
        pieces.append(self._write(index, len(pieces), piece))
        return {"pieces": pieces, "largest": largest, "n_deep": n_deep, "kinds": kinds}

    def _write(self, index: int, number: int, piece: _Piece) -> tuple[int, int]:
        """Write a piece; return how many images and unreadable items it has."""
        n_images = len(piece.images)
        block = np.array(piece.images, self.source.dtype).reshape(n_images, self.source.n_features)
        with _part(self.folder, index, number, "npy").open("wb") as file:
            np.save(file, block, allow_pickle=False)
        held = {
            "paths": piece.names,
            "columns": piece.columns if self.source.columns else [],
            "unreadable": piece.bad,
            "crc": zarr_io.crc(block),
        }
        write_json(_part(self.folder, index, number, "json"), held)
        return n_images, len(piece.bad)


def decoded(content: Any, look: Look) -> list[Decoded]:
    """Return the images that an item holds.

    Raises
    ------
    ImagesError
        If it holds none, or values that do not fit.
    """
    if isinstance(content, ImagesError):
        raise content
    if not isinstance(content, np.ndarray):
        return decode(content, look)
    if math.prod(look.shape) != content.size:
        msg = f"images must have one shape; this one has {content.shape}, not {look.shape}. Leave it out with ingest.on_unreadable=skip, or give another ingest.shape."
        raise ImagesError(msg)
    with np.errstate(invalid="ignore", over="ignore"):
        values = content.astype(look.dtype)
        is_kept = look.dtype.kind == "f" or np.array_equal(values, content)
    if not is_kept:
        msg = f"values must fit {look.dtype}; this one has {content.min()} to {content.max()} of {content.dtype}. Give another ingest.dtype."
        raise ImagesError(msg)
    return [Decoded(values.reshape(look.shape), 0)]


def stored_name(column: str) -> str:
    """Return the name of the array that holds a column: a slash would make groups of it."""
    return column.replace("/", ".")


def _storable(value: Any) -> Any:
    """Return a value of a column as JSON holds it: numbers that are none are missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _kind(value: Any) -> str:
    """Return the kind of a value of a column; text that is a whole number is one."""
    if value is None:
        return "number"
    if isinstance(value, str):
        return "whole" if _is_whole(value) else "text"
    return "whole" if isinstance(value, int) and abs(value) < 1 << 63 else "number"


def _is_whole(text: str) -> bool:
    """Return whether a text is a whole number as Python writes it."""
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) < 19 and str(int(text)) == text


@dataclass(frozen=True)
class DecodedSource(BaseSource):
    """The readable images of a collection, decoded into the working folder."""

    folder: Path
    kinds: tuple[tuple[str, str], ...] = ()

    @property
    def columns(self) -> dict[str, str]:
        """Name of each column that is carried along -> its type."""
        return {name: KINDS[kind][0] for name, kind in self.kinds}

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of images; what they are is known of the collection."""
        return {"kind": "decoded", "n_samples": self.n_samples}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`.

        Raises
        ------
        ImagesError
            If the decoded pixels have been altered on disk.
        """
        pieces = []
        for place, rows in self._pieces(start, stop):
            block = np.load(_part(self.folder, *place, "npy"), allow_pickle=False)
            if zarr_io.crc(block) != read_json(_part(self.folder, *place, "json"))["crc"]:
                msg = f"decoded images must be as they were written; part {place[0]} of {self.folder} differs. Delete {self.folder} and run the same command again."
                raise ImagesError(msg)
            pieces.append(block[rows.start : rows.stop])
        return np.concatenate(pieces)

    def read_paths(self, start: int, stop: int) -> list[str]:
        """Return the names of images `start` to `stop`."""
        return [printable(name) for name in self._held("paths", start, stop)]

    def read_column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Return the values of a column for images `start` to `stop`."""
        at = [column for column, _ in self.kinds].index(name)
        dtype, none = KINDS[self.kinds[at][1]]
        values = [row[at] for row in self._held("columns", start, stop)]
        if dtype == "string":
            texts = ["" if value is None else printable(str(value)) for value in values]
            return np.array(texts, dtype=np.dtypes.StringDType())
        return np.array([none if value is None else value for value in values], dtype=dtype)

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the items that were left out, each with the reason."""
        return [
            (printable(name), printable(reason))
            for index, number, _, n_bad in _layout(self.folder)["pieces"]
            if n_bad
            for name, reason in read_json(_part(self.folder, index, number, "json"))["unreadable"]
        ]

    def _held(self, what: str, start: int, stop: int) -> Iterable[Any]:
        """Yield what the pieces hold of images `start` to `stop`."""
        for place, rows in self._pieces(start, stop):
            held = read_json(_part(self.folder, *place, "json"))[what]
            yield from held[rows.start : rows.stop]

    def _pieces(self, start: int, stop: int) -> list[tuple[tuple[int, int], RowRange]]:
        """Return the pieces that hold images `start` to `stop`, and which of their rows."""
        known = _layout(self.folder)
        ends, pieces = known["ends"], []
        at = bisect_right(ends, start)
        while start < stop:
            first = ends[at - 1] if at else 0
            end = min(stop, ends[at])
            if end > start:
                pieces.append(
                    (tuple(known["pieces"][at][:2]), RowRange(start - first, end - first))
                )
            start, at = max(start, end), at + 1
        return pieces


def _layout(folder: Path) -> dict[str, Any]:
    """Return the pieces of a collection and how many images there are up to the end of each."""
    place = folder / "ends.json"
    return _read_layout(place, place.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _read_layout(place: Path, stamp: int) -> dict[str, Any]:
    """Read the layout; once per process."""
    del stamp
    known: dict[str, Any] = read_json(place)
    return known


def _part(folder: Path, index: int, number: int, suffix: str) -> Path:
    """Return a working file of a piece of a shard."""
    return folder / f"part-{index:06d}-{number:04d}.{suffix}"
