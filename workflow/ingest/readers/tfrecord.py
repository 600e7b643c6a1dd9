"""Images in TFRecord files of tf.train.Example, read without TensorFlow; plain or gzip.

A record is its length (8 bytes, little-endian), the checksum of these, the data, and the checksum
of the data: CRC-32C, turned right by 15 bits, plus a constant.  The data is a protocol buffer: a
message Example holds Features, a map from names to lists of bytes, of float32 or of int64.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import struct
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import google_crc32c
import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.items import Item, Shard
from workflow.ingest.readers.pictures import size_of
from workflow.ingest.readers.raw import number_type
from workflow.ingest.readers.shard_files import (
    LOOKED_AT_FILES,
    LOOKED_AT_ITEMS,
    ShardFiles,
    opened,
    shard_source,
    spread,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.ingest.readers.files import Files
    from workflow.ingest.readers.items import ItemSource
    from workflow.ingest.source import Reading

#: How the names of TFRecord files end; shards without an ending are named train-00000-of-00128.
TFRECORDS = r"(\.tfrec(ords?)?(-\d+-of-\d+)?|(^|/)[^./]+-\d+-of-\d+)(\.gz)?$"
#: Features that tell the shape of raw images, by their last part.
DIMENSIONS = (("height", "h"), ("width", "w"), ("depth", "channels", "n_channels", "c"))
#: Added to a turned checksum.
MASK = 0xA282EAD8
#: A record is held whole: a length beyond this is a damaged one.
MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class TfRecords(ShardFiles):
    """TFRecord files; raw images, which are bytes of values, have a shape and a type."""

    raw_dtype: str = ""

    kind: ClassVar[str] = "tfrecord"

    def read(self, shard: Shard) -> Iterator[Item]:
        """Yield the records of a file; one whose data differs from its checksum is unreadable alone."""
        with opened(self.files.root / shard.place) as (file, _):
            for number, data in enumerate(records(file)):
                name = f"{shard.place}/{number}"
                try:
                    yield self._item(name, features(require_data(data)))
                except (ValueError, IndexError, struct.error) as err:
                    msg = f"records must be whole and tf.train.Example; {name} is not ({err}). Write it again, or leave it out with ingest.on_unreadable=skip."
                    yield Item(name, ImagesError(msg), (None,) * len(self.columns))

    def walk(self, file: BinaryIO, name: str) -> Iterator[Any]:
        """Yield the records of a file."""
        del name
        return records(file)

    def _item(self, name: str, held: dict[str, Any]) -> Item:
        """Return the image of a record, and what lies beside it."""
        columns = tuple(_beside(held.get(column)) for column in self.columns)
        value = held.get(self.image)
        if isinstance(value, list) and value and self.raw_dtype:
            dtype = np.dtype(self.raw_dtype)
            if len(value[0]) % dtype.itemsize:
                msg = f"it has {len(value[0])} bytes, not a multiple of {dtype.itemsize}"
                raise ValueError(msg)
            values = np.frombuffer(value[0], dtype).astype(dtype.newbyteorder("="))
            shape = _told_shape(held)
            is_whole = shape is not None and math.prod(shape) == values.size
            return Item(name, values.reshape(shape) if is_whole and shape else values, columns)
        if isinstance(value, list) and value:
            return Item(name, value[0], columns)
        if isinstance(value, np.ndarray) and value.size:
            return Item(name, value, columns)
        msg = f"it has no `{self.image}`, but {', '.join(held) or 'nothing'}"
        raise ValueError(msg)


def open_tfrecords(files: Files, name: str | None, how: Reading) -> ItemSource:
    """Open TFRecord files; `name` is the feature that holds the image, where there are several.

    Raises
    ------
    ImagesError
        If no feature may be the image, or several may and none is named.
    """
    first = []
    plain = TfRecords(files, "", ())
    for place in spread(files.names, LOOKED_AT_FILES):
        with contextlib.suppress(*plain.errors), opened(files.root / place) as (file, _):
            for data in islice(records(file), LOOKED_AT_ITEMS):
                with contextlib.suppress(ValueError):
                    first.append(features(require_data(data)))
    found = _candidates(first, how)
    there = sorted({key for held in first for key in held})
    chosen = {name: found[name]} if name in found else found
    if first and ((name and name not in found) or len(chosen) != 1):
        which = ", ".join(found) if found else f"none of {', '.join(there)}"
        required = f"the image in `{name}`" if name else "one feature that may be the image"
        msg = f"records must have {required}; in {plain.place} that may be: {which}. Name it: {plain.place}::{next(iter(found or there), 'NAME')}; images without a shape need ingest.shape."
        raise ImagesError(msg)
    ((image, is_raw),) = chosen.items() if chosen else ((name or "", False),)
    raw = (how.dtype or "uint8") if is_raw else ""
    number_type(raw or "uint8")
    return shard_source(TfRecords(files, image, how.columns, raw), how, there)


def _candidates(first: list[dict[str, Any]], how: Reading) -> dict[str, bool]:
    """Return the features that may be the image, and whether they are raw: pictures, else raw ones, else numbers."""
    pictures: dict[str, bool] = {}
    raw: dict[str, bool] = {}
    numbers: dict[str, bool] = {}
    for name in dict.fromkeys(key for held in first for key in held):
        values = [held[name] for held in first if name in held]
        texts = [value[0] for value in values if isinstance(value, list) and value]
        if any(size_of(text) is not None for text in texts):
            pictures[name] = False
        elif texts:
            shapes = [how.shape or _told_shape(held) for held in first if held.get(name)]
            itemsize = np.dtype(how.dtype or "uint8").itemsize
            is_raw = all(
                shape is not None and len(text) == math.prod(shape) * itemsize
                for text, shape in zip(texts, shapes, strict=False)
            )
            raw |= {name: True} if is_raw else {}
        elif all(isinstance(value, np.ndarray) and value.size > 1 for value in values):
            numbers[name] = False
    return pictures or raw or numbers


def _told_shape(held: dict[str, Any]) -> tuple[int, ...] | None:
    """Return the shape that features of a record tell; None where they do not."""
    by_end = {re.split(r"[/_.]", name)[-1]: value for name, value in held.items()}
    by_end |= dict(held)
    shape = []
    for names in DIMENSIONS:
        value = next((by_end[name] for name in names if name in by_end), None)
        if isinstance(value, np.ndarray) and value.size == 1 and value.dtype == np.int64:
            shape.append(int(value[0]))
    return tuple(shape) if len(shape) >= 2 and min(shape) > 0 else None


def _beside(value: Any) -> Any:
    """Return the value of a feature that is carried along: one alone, several as JSON."""
    if value is None or not len(value):
        return None
    if isinstance(value, np.ndarray):
        return value[0].item() if value.size == 1 else json.dumps(value.tolist())
    texts = [text.decode("utf-8", "replace") for text in value]
    return texts[0] if len(texts) == 1 else json.dumps(texts)


def masked_crc(data: bytes) -> int:
    """Return the checksum of bytes as TFRecord files have it."""
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def records(file: BinaryIO) -> Iterator[bytes | None]:
    """Yield the data of the records of a file; None where it differs from its checksum.

    Raises
    ------
    EOFError
        If the file ends within a record.
    ValueError
        If a length differs from its checksum: where the next record begins is not known.
    """
    number = 0
    while head := file.read(12):
        length, length_crc = _unpacked("<QI", head, number)
        if masked_crc(head[:8]) != length_crc or length > MOST_BYTES:
            msg = f"the length of record {number} differs from its checksum"
            raise ValueError(msg)
        data = file.read(length)
        if len(data) < length:
            msg = f"the file ends within record {number}"
            raise EOFError(msg)
        (crc,) = _unpacked("<I", file.read(4), number)
        yield data if masked_crc(data) == crc else None
        number += 1


def _unpacked(form: str, data: bytes, number: int) -> tuple[int, ...]:
    """Unpack numbers; tell where the file ends before."""
    if len(data) < struct.calcsize(form):
        msg = f"the file ends within record {number}"
        raise EOFError(msg)
    return struct.unpack(form, data)


def require_data(data: bytes | None) -> bytes:
    """Return data that agrees with its checksum, or raise ValueError."""
    if data is None:
        msg = "its data differs from its checksum"
        raise ValueError(msg)
    return data


def features(data: bytes) -> dict[str, Any]:
    """Return the features of an Example: lists of bytes, arrays of float32 or int64.

    Raises
    ------
    ValueError
        If the data is no such message.
    """
    found = {}
    for _, message in _fields(data, {1}):
        for _, entry in _fields(message, {1}):
            parts = dict(_fields(entry, {1, 2}))
            for kind, values in _fields(parts.get(2, b""), {1, 2, 3}):
                found[parts.get(1, b"").decode("utf-8", "replace")] = _values(kind, values)
    return found


def _values(kind: int, message: bytes) -> Any:
    """Return the values of a list of bytes (1), float32 (2) or int64 (3)."""
    pieces = [value for _, value in _fields(message, {1})]
    if kind == 1:
        return pieces
    if kind == 2:
        return np.frombuffer(b"".join(pieces), "<f4").astype(np.float32)
    numbers: list[int] = []
    for piece in pieces:
        at = 0
        while at < len(piece):
            number, at = _varint(piece, at)
            numbers.append(number - (1 << 64) if number >> 63 else number)
    return np.array(numbers, np.int64)


def _fields(data: bytes, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of the fields of a message, those of one number as they are."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind, start = tag & 7, at
        if kind == 2:
            length, start = _varint(data, at)
            at = start + length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 0:
            _, at = _varint(data, at)
        else:
            msg = f"a field of kind {kind} is none of an Example"
            raise ValueError(msg)
        if at > len(data):
            msg = "a field ends after its message"
            raise ValueError(msg)
        if tag >> 3 in wanted:
            yield tag >> 3, data[start:at]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of 7 bits a byte, and where it ends."""
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            msg = "a number ends after its message"
            raise ValueError(msg)
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
