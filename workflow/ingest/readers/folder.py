"""A folder tree of image files: decoded once, part by part, unreadable files left out or fatal.

Which files are readable is known only when all have been decoded, and the
row of an image depends on it.  So the files, sorted by their relative path,
are cut into parts of fixed length; a task decodes a part, resizes its images
and leaves the good ones in the working folder with their names and the names
of the bad ones.  Rows are then counted over the good ones: row i is always
the same file, whatever the number of workers and wherever a run was cut.
The decoded pixels lie on disk twice for a while; nothing is decoded twice.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from workflow.chunks import RowRange, row_ranges
from workflow.errors import ImagesError
from workflow.ingest.source import BaseSource
from workflow.runstore import paths, zarr_io
from workflow.runstore.files import read_json, write_json
from workflow.runstore.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from workflow.ingest.source import OnUnreadable, Reading
    from workflow.mapper import PartitionRunner

#: Files that are taken for images: pictures that Pillow reads without other programs.
SUFFIXES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".bmp", ".dib"),
    *(".tif", ".tiff", ".webp", ".avif", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tga"),
)
#: Values of 16 bits, of which 8 are kept, must reach so far: 64 levels are left.
LEAST_DEEP = 1 << 14
#: Endings of files that are not read which are named.
MOST_NAMED = 5
#: Channels of an image -> the mode Pillow converts to.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
#: Files that one task decodes, at most, and bytes of their decoded images.
PART_FILES, PART_BYTES = 2_048, 32 * 2**20
#: What Pillow raises on files that are no images, or are cut or altered.
DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class FolderSource(BaseSource):
    """Image files below a folder, or one of them; `n_samples` counts files until they have been decoded."""

    folder: Path
    on_unreadable: OnUnreadable
    others: str = ""
    only: str | None = None

    @property
    def files(self) -> list[str]:
        """Relative paths of the files, sorted."""
        return list_files(self.folder) if self.only is None else [self.only]

    def remarks(self) -> list[str]:
        """Return what the user should know before the files are read."""
        return [f"{self.folder} also holds {self.others}, not read"] if self.others else []

    def fingerprint(self) -> dict[str, Any]:
        """Return the number, bytes and a digest of names, sizes and times of the files."""
        files = self.files
        known = [paths.identity(self.folder / name) for name in files]
        named = [(name, *identity) for name, identity in zip(files, known, strict=True)]
        return {
            "kind": "folder",
            "shape": list(self.image_shape),
            "n_files": len(files),
            "n_bytes": sum(identity.n_bytes for identity in known),
            "files": hashlib.blake2b(json.dumps(named).encode(), digest_size=16).hexdigest(),
            **({} if self.dtype == np.uint8 else {"dtype": self.dtype.name}),
        }

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Decode files `start` to `stop`, all of which must be readable.

        Raises
        ------
        ImagesError
            If one is not.
        """
        names = self.files[start:stop]
        images = [decode(self.folder / name, self.image_shape, self.dtype) for name in names]
        return np.stack(images).reshape(len(names), self.n_features)

    def prepare(self, folder: Path, runner: PartitionRunner) -> DecodedSource:
        """Decode all files that have not been decoded yet.

        Raises
        ------
        ImagesError
            If none is readable, or one is not and that is to be fatal; if 8 bits are too few
            for what files of 16 bits hold.
        """
        names = self.files
        fitting = max(1, PART_BYTES // (self.n_features * self.dtype.itemsize))
        parts = dict(enumerate(row_ranges(len(names), min(PART_FILES, fitting))))
        for index, rows in parts.items():
            place = _part(folder, index, "names.json")
            if not place.exists():
                write_json(place, names[rows.start : rows.stop])
        reports = runner.run(
            "ingest: decode",
            DecodePart(self, folder),
            {index: index for index in parts},
            journal=Journal(folder / "decoded.jsonl", "decoded"),
            n_rows=lambda index: parts[index].n_rows,
        )
        ends = np.cumsum([report["n_images"] for report in reports.values()])
        decoded = DecodedSource(int(ends[-1]), self.image_shape, self.dtype, folder, len(parts))
        if not decoded.n_samples:
            name, reason = next(iter(decoded.unreadable()), ("", ""))
            msg = f"there must be one readable image or more; {self.folder} has none in {len(names)} files (first: {name}, {reason}). Give more images."
            raise ImagesError(msg)
        largest = max((report.get("largest", 0) for report in reports.values()), default=0)
        if 0 < largest < LEAST_DEEP:
            self._require_one_scale(largest, reports.values(), decoded.n_samples)
        write_json(folder / "ends.json", ends.tolist())
        return decoded

    def _require_one_scale(
        self, largest: int, reports: Iterable[Mapping[str, Any]], n_samples: int
    ) -> None:
        """Refuse files of 16 bits that use few of them, where that loses levels or mixes scales."""
        if self.dtype == np.uint8:
            msg = f"image files of 16 bits must use their range where 8 bits are kept; the largest value in {self.folder} is {largest}, which leaves {(largest >> 8) + 1} levels. Set ingest.dtype=uint16 to keep all bits of grey files, or convert the files to 8 bits."
            raise ImagesError(msg)
        n_deep = sum(report["n_deep"] for report in reports)
        if n_deep < n_samples:
            msg = f"image files of 8 and of 16 bits must have one scale where they are mixed; {n_deep:,} of {n_samples:,} files in {self.folder} have 16 bits and use {largest + 1:,} of 65,536 values, the others fill the range. Put them into folders of their own, or convert them to the same depth."
            raise ImagesError(msg)


@dataclass(frozen=True)
class DecodePart:
    """Decodes the files of one part into the working folder."""

    source: FolderSource
    folder: Path

    def __call__(self, index: int) -> dict[str, Any]:
        """Leave pixels, names and unreadable files of part `index`; return how many images it has."""
        names: list[str] = read_json(_part(self.folder, index, "names.json"))
        images: list[NDArray[Any]] = []
        largest: list[int] = []
        good: list[str] = []
        bad: list[tuple[str, str]] = []
        for name in names:
            try:
                path = self.source.folder / name
                found = _decoded(path, self.source.image_shape, self.source.dtype)
                images.append(found.values)
                largest.append(found.largest)
                good.append(name)
            except ImagesError as err:
                if self.source.on_unreadable == "fail":
                    raise
                bad.append((name, str(err)))
        block = np.array(images, self.source.dtype).reshape(len(images), self.source.n_features)
        with _part(self.folder, index, "npy").open("wb") as file:
            np.save(file, block, allow_pickle=False)
        held = {"paths": good, "unreadable": bad, "crc": zarr_io.crc(block)}
        write_json(_part(self.folder, index, "json"), held)
        return {
            "n_images": len(good),
            "largest": max(largest, default=0),
            "n_deep": sum(value > 0 for value in largest),
        }


@dataclass(frozen=True)
class DecodedSource(BaseSource):
    """The readable images of a folder, decoded into the working folder."""

    folder: Path
    n_parts: int

    def fingerprint(self) -> dict[str, Any]:
        """Return the number of images; what they are is known of the folder."""
        return {"kind": "decoded", "n_samples": self.n_samples}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop`.

        Raises
        ------
        ImagesError
            If the decoded pixels have been altered on disk.
        """
        pieces = []
        for index, rows in self._pieces(start, stop):
            block = np.load(_part(self.folder, index, "npy"), allow_pickle=False)
            if zarr_io.crc(block) != read_json(_part(self.folder, index, "json"))["crc"]:
                msg = f"decoded images must be as they were written; part {index} of {self.folder} differs. Delete {self.folder} and run the same command again."
                raise ImagesError(msg)
            pieces.append(block[rows.start : rows.stop])
        return np.concatenate(pieces)

    def read_paths(self, start: int, stop: int) -> list[str]:
        """Return the file names of images `start` to `stop`."""
        names: list[str] = []
        for index, rows in self._pieces(start, stop):
            held = read_json(_part(self.folder, index, "json"))["paths"]
            names += map(printable, held[rows.start : rows.stop])
        return names

    def unreadable(self) -> list[tuple[str, str]]:
        """Return the files that were left out, each with the reason."""
        return [
            (printable(name), reason)
            for index in range(self.n_parts)
            for name, reason in read_json(_part(self.folder, index, "json"))["unreadable"]
        ]

    def _pieces(self, start: int, stop: int) -> list[tuple[int, RowRange]]:
        """Return the parts that hold images `start` to `stop`, and which of their rows."""
        place = self.folder / "ends.json"
        ends = _ends(place, place.stat().st_mtime_ns)
        pieces = []
        index = bisect_right(ends, start)
        while start < stop:
            first = ends[index - 1] if index else 0
            end = min(stop, ends[index])
            if end > start:
                pieces.append((index, RowRange(start - first, end - first)))
            start, index = max(start, end), index + 1
        return pieces


@lru_cache(maxsize=2)
def _ends(place: Path, stamp: int) -> list[int]:
    """Return how many images there are up to the end of each part; read once per process."""
    del stamp
    ends: list[int] = read_json(place)
    return ends


def _part(folder: Path, index: int, suffix: str) -> Path:
    """Return a working file of a part."""
    return folder / f"part-{index:06d}.{suffix}"


def list_files(folder: Path) -> list[str]:
    """Return the image files below a folder as relative POSIX paths, sorted; hidden ones are no images.

    Folders that cannot be read are among them, so that they are named as unreadable.
    """
    return [name for name in paths.files_below(folder) if _is_listed(name)]


def _is_listed(name: str) -> bool:
    """Return whether a name is that of an image file or of a folder that cannot be read."""
    return name.lower().endswith((*SUFFIXES, "/"))


def _counted(names: list[str]) -> str:
    """Return how many files there are of each ending, as a text."""
    counts = Counter(PurePosixPath(name).suffix.lower() or "without ending" for name in names)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{n:,} {ending}" for ending, n in ordered[:MOST_NAMED]]
    rest = sum(n for _, n in ordered[MOST_NAMED:])
    return ", ".join([*named, f"{rest:,} of other endings"] if rest else named)


def printable(name: str) -> str:
    """Return a file name that is sure to be valid UTF-8."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class Decoded(NamedTuple):
    """An image, and the largest of the file's values where they have 16 bits, else 0."""

    values: NDArray[Any]
    largest: int


def decode(path: Path, image_shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> NDArray[Any]:
    """Read one image file.

    Parameters
    ----------
    path : Path
        The file; of several frames the first one is taken.
    image_shape : tuple of int
        (height, width, channels), or (height, width) for grey.
    dtype : {uint8, uint16}
        Type of the values.

    Returns
    -------
    array of shape image_shape
        Converted to 1 channel (grey), 3 (RGB) or 4 (RGBA), then resized with
        Pillow's bicubic filter, which averages when it makes smaller.  As
        uint8, values of 16 bits keep their upper 8; as uint16, values of 8
        bits are spread over all 16.

    Raises
    ------
    ImagesError
        If the file cannot be decoded.
    """
    return _decoded(path, image_shape, np.dtype(dtype)).values


def _decoded(path: Path, image_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Decoded:
    """Read one image file as `decode` does, and the largest value if it has 16 bits, else 0."""
    n_channels = image_shape[2] if len(image_shape) == 3 else 1
    size = image_shape[1], image_shape[0]
    try:
        with Image.open(paths.local(path)) as opened:
            # A portable grey map of more than 8 bits is opened as 32 bits, spread over 16.
            is_grey = opened.mode.startswith("I;16") or (opened.format, opened.mode) == ("PPM", "I")
            is_deep = is_grey or ";16" in str(opened.tile)
            opened.load()
            image = ImageOps.exif_transpose(opened)
            largest = _largest(image) if is_deep else 0
            if is_grey:
                image = Image.fromarray(np.asarray(image).astype(np.uint16))
            values: NDArray[Any]
            if dtype == np.uint16 and is_deep:
                values = _deep_values(image, size, n_channels)
            else:
                bytes_ = _byte_values(image, size, n_channels)
                values = bytes_ * np.uint16(257) if dtype == np.uint16 else bytes_
        return Decoded(values.reshape(image_shape), largest)
    except DECODING_ERRORS as err:
        text = (str(err).splitlines() or [type(err).__name__])[0].replace(str(path), path.name)
        msg = f"image files must be readable; {path} is not ({text.rstrip('.')}). Repair it, or leave it out with ingest.on_unreadable=skip."
        raise ImagesError(msg) from None


def _byte_values(image: Image.Image, size: tuple[int, int], n_channels: int) -> NDArray[np.uint8]:
    """Return an image of 8 bits a channel, converted and resized."""
    image = _to_mode(image, MODES[n_channels])
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.uint8)


def _deep_values(image: Image.Image, size: tuple[int, int], n_channels: int) -> NDArray[np.uint16]:
    """Return a grey image of 16 bits, resized, in as many channels."""
    if image.mode != "I;16":
        msg = "it has several channels of 16 bits, of which Pillow reads 8"
        raise ValueError(msg)
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    values: NDArray[np.uint16] = np.repeat(np.asarray(image)[..., None], n_channels, axis=2)
    if n_channels == 4:
        values[..., 3] = np.iinfo(np.uint16).max
    return values


def _largest(image: Image.Image) -> int:
    """Return the largest value of an image of 16 bits, transparency apart; at least 1."""
    if image.mode.startswith("I"):
        return max(1, int(np.asarray(image).max()))
    # Of several channels, Pillow has kept the upper 8 bits.
    return max(1, 257 * int(np.asarray(image.convert("RGB")).max()))


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    """Convert an image to 8 bits a channel and the mode that is wanted."""
    if image.mode == "I;16":
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        msg = f"it has 32-bit values (mode {image.mode}) of unknown range"
        raise ValueError(msg)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)


def open_folder(folder: Path, name: str | None, how: Reading) -> FolderSource:
    """Open a folder tree of image files, or one such file; they are listed, not read.

    Raises
    ------
    ImagesError
        If there are no image files, or the shape is missing or wrong.
    """
    del name
    shape = how.shape
    if how.dtype not in (None, "uint8", "uint16"):
        msg = f"image files give uint8 or uint16; `ingest.dtype={how.dtype}` was asked for. Leave ingest.dtype out."
        raise ImagesError(msg)
    only = None if paths.is_folder(folder) else folder.name
    folder = folder if only is None else folder.parent
    found = paths.files_below(folder) if only is None else [only]
    files = [name for name in found if _is_listed(name)]
    others = _counted([name for name in found if not _is_listed(name)])
    if not files:
        msg = f"a folder of images must hold files ending in {', '.join(SUFFIXES)}; {folder} holds {others or 'none'}. Give another folder."
        raise ImagesError(msg)
    if shape is None:
        msg = f"a folder of images needs the shape H,W,C that they are resized to; none was given for the {len(files)} files in {folder}. Add for example --set ingest.shape={_example_shape(folder / files[0])}."
        raise ImagesError(msg)
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] not in MODES):
        msg = f"`ingest.shape` of a folder of images must be H,W,C with C 1 (grey), 3 (RGB) or 4 (RGBA); got {','.join(map(str, shape))}. Give for example --set ingest.shape=16,16,3."
        raise ImagesError(msg)
    dtype = np.dtype(how.dtype or "uint8")
    return FolderSource(len(files), shape, dtype, folder, how.on_unreadable, others, only)


def _example_shape(path: Path) -> str:
    """Return the shape of an image file as one would type it; 16,16,3 where it cannot be read."""
    try:
        with Image.open(paths.local(path)) as image:
            channels = {"L": 1, "1": 1, "RGBA": 4}.get(image.mode, 3)
            return f"{image.height},{image.width},{channels}"
    except DECODING_ERRORS:
        return "16,16,3"
