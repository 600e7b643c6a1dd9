"""Pictures in archives: tar, as WebDataset writes it, plain or gzip, and zip.

Members whose names are the same up to the first dot of the file name are one item: a picture and
what lies beside it.  Nothing is unpacked to disk, and a name is a name only.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.items import Item, Shard
from workflow.ingest.readers.pictures import SUFFIXES
from workflow.ingest.readers.shard_files import (
    LOOKED_AT_FILES,
    LOOKED_AT_ITEMS,
    ShardFiles,
    damaged,
    opened,
    shard_source,
    spread,
)
from workflow.runstore import paths

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.ingest.readers.files import Files
    from workflow.ingest.readers.items import ItemSource
    from workflow.ingest.source import Reading

#: Endings of archives.
ARCHIVES = r"\.(tar|tar\.gz|tgz|zip)$"
#: Items of a zip archive that one task reads: its directory is read each time.
ZIP_ITEMS = 16_384
#: The key of an item, as WebDataset calls it.
KEY = "__key__"


class Member(NamedTuple):
    """A file in an archive: its whole name, and what it holds or why it cannot be had."""

    name: str
    content: bytes | ImagesError

    @property
    def key(self) -> str:
        """The name up to the first dot of its last part."""
        head, slash, last = self.name.rpartition("/")
        return f"{head}{slash}{last.partition('.')[0]}"

    @property
    def ending(self) -> str:
        """What comes after the key, without the dot, in small letters."""
        return self.name[len(self.key) + 1 :].lower()


@dataclass(frozen=True)
class Archives(ShardFiles):
    """Archives of pictures, and of what lies beside each."""

    kind: ClassVar[str] = "archives"
    errors: ClassVar[tuple[type[Exception], ...]] = (
        *(tarfile.TarError, zipfile.BadZipFile, OSError, EOFError, ValueError),
        *(zlib.error, NotImplementedError, RuntimeError),
    )

    def shards(self, folder: Any, most: int) -> list[Shard]:
        """Return a shard for each tar, and for consecutive items of each zip."""
        found = []
        for shard in super().shards(folder, most):
            if not _is_zip(shard.place):
                found.append(shard)
                continue
            n_items, _ = self.count(shard.place)
            firsts = range(0, max(1, n_items), ZIP_ITEMS)
            found += [Shard(shard.place, at, min(ZIP_ITEMS, n_items - at)) for at in firsts]
        return found

    def count(self, name: str) -> tuple[int, int]:
        """Return how many keys there are in the first bytes of a tar, or in a whole zip."""
        if not _is_zip(name):
            return super().count(name)
        path = self.files.root / name
        n_keys = 0
        with contextlib.suppress(*self.errors), paths.open_file(path) as file:
            n_keys = sum(1 for _ in self.walk(file, name))
        return n_keys, paths.identity(path).n_bytes

    def read(self, shard: Shard) -> Iterator[Item]:
        """Yield an item for each key, in the order of the archive."""
        for key, members in self.groups(shard):
            yield self._item(shard.place, key, members)

    def groups(self, shard: Shard) -> Iterator[tuple[str, list[Member]]]:
        """Yield keys and their members; of a zip archive, those of the shard."""
        path = self.files.root / shard.place
        if not _is_zip(shard.place):
            with opened(path) as (file, _):
                yield from _grouped(_tar_members(file))
            return
        with paths.open_file(path) as file, zipfile.ZipFile(file) as archive:
            names = groupby(_zip_names(archive), lambda name: Member(name, b"").key)
            for key, some in islice(
                ((key, list(some)) for key, some in names), shard.first, shard.first + ZIP_ITEMS
            ):
                yield key, [_zip_member(archive, name) for name in some]

    def walk(self, file: BinaryIO, name: str) -> Iterator[Any]:
        """Yield the keys of an archive."""
        if _is_zip(name):
            with zipfile.ZipFile(file) as archive:
                yield from groupby(_zip_names(archive), lambda name: Member(name, b"").key)
        else:
            yield from _grouped(_tar_members(file))

    def _item(self, archive: str, key: str, members: Sequence[Member]) -> Item:
        """Return the picture among the members of a key, and what lies beside it."""
        held = {member.ending: member for member in members}
        wanted = [self.image] if self.image else [end for end in held if _is_image(end)]
        chosen = [held[end] for end in wanted if end in held]
        columns = tuple(_beside(key, held, name) for name in self.columns)
        if len(chosen) == 1:
            return Item(f"{archive}/{chosen[0].name}", _content(chosen[0]), columns)
        required = f"a `{self.image}`" if self.image else "one picture"
        msg = f"the members of a key must be {required} and what belongs to it; {key} of {archive} has {', '.join(held)}. Name the picture's ending: {archive}::{(wanted or ['jpg'])[0]}."
        return Item(f"{archive}/{key}", ImagesError(msg), columns)


def open_archives(files: Files, name: str | None, how: Reading) -> ItemSource:
    """Open archives of pictures; `name` is the ending of the pictures, where there are several a key.

    Raises
    ------
    ImagesError
        If keys have several pictures and none is named, or none has what is named.
    """
    archives = Archives(files, (name or "").lower().removeprefix("."), how.columns)
    endings: Counter[str] = Counter()
    n_several, fields = 0, {KEY}
    for place in spread(files.names, LOOKED_AT_FILES):
        try:
            for _, members in islice(archives.groups(Shard(place, 0, 0)), LOOKED_AT_ITEMS):
                pictures = [member.ending for member in members if _is_image(member.ending)]
                endings.update(member.ending for member in members)
                n_several += len(pictures) > 1
                fields.update(*(_fields(member) for member in members))
        except archives.errors:
            continue
    if archives.image and endings and archives.image not in endings:
        msg = f"{archives.place} must hold members that end in .{archives.image}; it holds {', '.join(endings)}. Name one of those after ::."
        raise ImagesError(msg)
    if n_several and not archives.image:
        several = [ending for ending in endings if _is_image(ending)]
        msg = f"a key must have one picture; those of {archives.place} have {', '.join(several)}. Name its ending: {archives.place}::{several[0]}."
        raise ImagesError(msg)
    return shard_source(archives, how, sorted(fields))


class _Member(tarfile.TarInfo):
    """A member of a tar file; what is no header ends the reading with an error, not in silence."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Member:
        """Return the next member."""
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as err:
            msg = f"{err} at byte {tarfile_.offset:,}, where a member or the end must be"
            raise tarfile.ReadError(msg) from None


def _tar_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the files of a tar file, in their order."""
    with tarfile.open(fileobj=file, mode="r|", tarinfo=_Member) as archive:
        for info in archive:
            if info.isdir() or _is_hidden(info.name):
                continue
            held = archive.extractfile(info) if info.isreg() else None
            if held is None:
                msg = f"members must be files; {info.name} is a link or a device. Write the file itself."
                yield Member(info.name, ImagesError(msg))
            else:
                yield Member(info.name, held.read())


def _grouped(members: Iterator[Member]) -> Iterator[tuple[str, list[Member]]]:
    """Yield keys and their members; where the archive ends early, what was read of the last key first."""
    ended: list[Exception] = []

    def until_the_end() -> Iterator[Member]:
        try:
            yield from members
        except Archives.errors as err:
            ended.append(err)

    for key, some in groupby(until_the_end(), lambda member: member.key):
        yield key, list(some)
    for err in ended:
        raise err


def _zip_names(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield the names of the files of a zip archive."""
    names = (info.filename for info in archive.infolist() if not info.is_dir())
    return (name for name in names if not _is_hidden(name))


def _zip_member(archive: zipfile.ZipFile, name: str) -> Member:
    """Read a file of a zip archive, checked by its checksum."""
    try:
        return Member(name, archive.read(name))
    except Archives.errors as err:
        return Member(name, damaged(paths.place(name), err))


def _is_zip(name: str) -> bool:
    """Return whether an archive is a zip, by its name."""
    return name.lower().endswith(".zip")


def _is_hidden(name: str) -> bool:
    """Return whether a member is hidden, or macOS's notes of another one."""
    return (
        any(p.startswith(".") and p not in (".", "..") for p in name.split("/"))
        or "__MACOSX" in name
    )


def _is_image(ending: str) -> bool:
    """Return whether a member is a picture or an array, by its ending."""
    last = f".{ending.rpartition('.')[2]}"
    return last in SUFFIXES or last == ".npy"


def _content(member: Member) -> Any:
    """Return what a member holds as an item does: the bytes of a picture, or an array."""
    if isinstance(member.content, ImagesError) or not member.ending.endswith("npy"):
        return member.content
    try:
        return np.load(io.BytesIO(member.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as err:
        return ImagesError(f"arrays must be whole .npy; {member.name} is not ({err}). Repair it.")


def _beside(key: str, held: dict[str, Member], name: str) -> Any:
    """Return a value that lies beside a picture: the text of a member, or a field of a JSON member."""
    if name == KEY:
        return key
    member = held.get(name)
    if member is not None:
        return None if isinstance(member.content, ImagesError) else _text(member.content)
    ending, _, field = name.rpartition(".")
    member = held.get(ending)
    if member is None or isinstance(member.content, ImagesError):
        return None
    try:
        value = json.loads(member.content).get(field)
    except (ValueError, AttributeError):
        return None
    return value if value is None or isinstance(value, str | int | float) else json.dumps(value)


def _text(content: bytes) -> str:
    """Return the text of a member, without the end of its last line."""
    return content.decode("utf-8", "replace").strip()


def _fields(member: Member) -> list[str]:
    """Return what can be carried along of a member."""
    if _is_image(member.ending) or isinstance(member.content, ImagesError):
        return []
    found = [member.ending]
    if member.ending.rpartition(".")[2] == "json":
        try:
            found += [f"{member.ending}.{name}" for name in json.loads(member.content)]
        except (ValueError, TypeError):
            return found
    return found
