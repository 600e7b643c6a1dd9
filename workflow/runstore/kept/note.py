"""What a working folder holds of a run at an address: a note beside it, and the files in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import TypeAdapter

from workflow.errors import StoreError
from workflow.runstore import layout
from workflow.runstore.files import LEFT_BEHIND, write_bytes
from workflow.runstore.objects import Stamp  # noqa: TC001 - pydantic looks it up

#: The last push: what it changes; nothing once it is done.
PUSH = "push.json"
#: Where a push puts objects before they go to their places.
STAGED = f"{layout.WIP}/push"
#: Results that are being made, which journals tell of: with them another machine goes on in the middle.
BEGUN = tuple(
    f"{layout.WIP}/{name}/"
    for name in (layout.FAMILIES, layout.LABELS, layout.MAP, layout.NEIGHBORS)
)


class Identity(NamedTuple):
    """What changes when a file is written, and stays when it is renamed."""

    inode: int
    n_bytes: int
    mtime_ns: int


class Known(NamedTuple):
    """A file that was the same here and at the address."""

    stamp: Stamp
    identity: Identity


@dataclass
class Note:
    """What was the same at the last push or pull; beside the folder, and void once the folder is another one.

    Attributes
    ----------
    address : str
        Where the run is kept.
    folder : int
        Inode of the working folder.
    manifest : str
        Tag of the manifest; empty before the first push.
    push, next_push : str
        The last push that was known, and the one from here that has begun since; empty where there is none.
    writer : str
        The process that writes here, or ended before it had pushed everything; empty where nothing is to be pushed.
    has_rows : bool
        Whether all was fetched, not only what says what there is.
    files : dict of str to Known
        Files by name.
    """

    address: str
    folder: int = 0
    manifest: str = ""
    push: str = ""
    next_push: str = ""
    writer: str = ""
    has_rows: bool = False
    files: dict[str, Known] = field(default_factory=dict)

    @staticmethod
    def path(folder: Path) -> Path:
        """Return where the note of a folder is."""
        return folder.with_name(f"{folder.name}.kept.json")

    @classmethod
    def read(cls, folder: Path) -> Note | None:
        """Return the note of a folder, None where there is none, or it is damaged or of a folder that was deleted."""
        try:
            found = _NOTES.validate_json(cls.path(folder).read_bytes())
            return found if found.folder == folder.stat().st_ino else None
        except (OSError, ValueError):
            return None

    def save(self, folder: Path) -> None:
        """Write the note in one move."""
        self.folder = folder.stat().st_ino
        write_bytes(self.path(folder), _NOTES.dump_json(self))


_NOTES = TypeAdapter(Note)


def is_kept(name: str) -> bool:
    """Return whether a file belongs to the run at the address: not the lock, nor what is being written.

    Raises
    ------
    StoreError
        If the name leads out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        msg = f"objects of a run must have names that stay below its address; got {name!r}. Do not use this run."
        raise StoreError(msg)
    if name.startswith(f"{layout.WIP}/"):
        return name.startswith(BEGUN) and not name.endswith(LEFT_BEHIND)
    is_ours = name in (layout.LOCK, PUSH, layout.WIP)
    return not (is_ours or name.endswith((*LEFT_BEHIND, "/")) or "discarded" in _endings(path))


def _endings(path: PurePosixPath) -> set[str]:
    """Return the endings of the folders on a path."""
    return {part.rpartition(".")[2] for part in path.parts[:-1] if part.startswith(".")}


def is_of_rows(name: str) -> bool:
    """Return whether a file holds values of images: a chunk or shard, but of what was learned."""
    return "/c/" in name and not name.startswith(f"{layout.MODEL}/")


def files_here(folder: Path) -> dict[str, Identity]:
    """Return the files of a working folder that belong to the run."""
    found: dict[str, Identity] = {}

    def note(err: OSError) -> None:
        # What a task has removed meanwhile is gone; what cannot be read is not.
        if not isinstance(err, FileNotFoundError):
            raise err

    for parent, _, names in os.walk(folder, onerror=note):
        below = Path(parent).relative_to(folder)
        for name in names:
            path = (below / name).as_posix()
            if is_kept(path):
                try:
                    known = os.stat(Path(parent) / name)  # noqa: PTH116 - walk gives text
                except FileNotFoundError:
                    # Removed by a task while this looks.
                    continue
                found[path] = Identity(known.st_ino, known.st_size, known.st_mtime_ns)
    return found
