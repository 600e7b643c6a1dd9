"""An unfinished copy: what is noted in it, how it goes on, and how it becomes the real one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Any

from workflow.errors import StoreError
from workflow.runstore import zarr_io
from workflow.runstore.files import read_json, write_json
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflow.chunks import RowRange

#: Folder of notes and working files inside an unfinished store.
NOTES = ".ingest"


def begin(partial: Path, key: dict[str, Any], *, overwrite: bool) -> None:
    """Make the unfinished store, or find that it is one of the same images."""
    state = partial / NOTES / "state.json"
    if overwrite and partial.exists():
        discard(partial)
    if partial.exists():
        if state.is_file() and read_json(state) == key:
            return
        if any(p.name != NOTES for p in partial.iterdir()) or state.is_file():
            msg = f"{partial} must be new or an unfinished copy of the same images; it is of other images or settings, or the images have changed. Remove it, then run the same command again."
            raise StoreError(msg)
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
        (state.parent / "shards").mkdir(exist_ok=True)
        write_json(state, key)
    except OSError as err:
        msg = f"the destination must be in a folder that can be written; {partial} cannot be made ({err.strerror}). Give another path."
        raise StoreError(msg) from None


@contextlib.contextmanager
def lock(partial: Path, *, is_shared: bool = False) -> Iterator[None]:
    """Hold an unfinished store against a second writer; parts share it among themselves."""
    with (partial / NOTES / "lock").open("a+") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"one process at a time may write {partial}; another one does. Wait for it, or give another path."
            raise StoreError(msg) from None
        yield


def note(partial: Path, rows: RowRange) -> Path:
    """Return the file that says that a shard is whole."""
    return partial / NOTES / "shards" / f"{rows.start:012d}.json"


def is_written(partial: Path, rows: RowRange) -> bool:
    """Return whether a shard was noted and its files are there in full length."""
    noted = note(partial, rows)
    if not noted.is_file():
        return False
    for name, n_bytes in read_json(noted)["n_bytes"].items():
        file = zarr_io.shard_file(partial, name, rows.start)
        if not file.is_file() or file.stat().st_size != n_bytes:
            return False
    return True


def is_whole(partial: Path, key: dict[str, Any]) -> bool:
    """Return whether an earlier call was killed between the last note and the move."""
    if not partial.is_dir() or (partial / NOTES).exists() or zarr_io.node_kind(partial) != "group":
        return False
    known = zarr_io.read_attrs(partial).get("ingest", {})
    return bool(known.get("key") == key)


def move(partial: Path, target: Path) -> None:
    """Take the notes out of a whole store, and put the store in its place."""
    notes = target.with_name(f"{target.name}.notes")
    if notes.exists():
        shutil.rmtree(notes)
    if (partial / NOTES).exists():
        (partial / NOTES).replace(notes)
    if target.exists():
        discard(target)
    partial.replace(target)
    sync(target.parent)
    if notes.exists():
        shutil.rmtree(notes)


def sync(path: Path) -> None:
    """Wait until the disk has a file or the entries of a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
