"""An unfinished copy: its journals, how it is resumed, and how it becomes the real one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from typing import TYPE_CHECKING, Any

from workflow.errors import StoreError
from workflow.runstore import zarr_io
from workflow.runstore.files import discard
from workflow.runstore.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from workflow.chunks import RowRange

#: Folder of journals and working files inside an unfinished store.
NOTES = ".ingest"
#: Attribute of a whole copy that says what it was copied from.
ATTRS = "ingest"
#: The journal of a copy by one call; a part of a job array has its own beside it.
WHOLE = "shards"


def partial_of(target: Path) -> Path:
    """Return where a store is made."""
    return target.with_name(f"{target.name}.partial")


def begin(partial: Path, key: str) -> None:
    """Make the unfinished store, or find that it is one of the same images."""
    journal = _journal(partial, WHOLE)
    if partial.exists():
        if journal.is_file() and Journal.key_of(journal) == key:
            return
        if journal.is_file() and not any(_entries(partial)):
            # Nothing of the other copy is finished that could be lost.
            with lock(partial):
                discard(partial)
        elif any(p.name != NOTES for p in partial.iterdir()) or journal.is_file():
            msg = f"{partial} must be new or an unfinished copy of the same images; it is of other images or settings, or the images have changed. Remove it, then run the same command again."
            raise StoreError(msg)
    try:
        journal.parent.mkdir(parents=True, exist_ok=True)
        Journal(journal, key)
    except OSError as err:
        msg = f"the destination must be in a folder that can be written; {partial} cannot be made ({err.strerror}). Give another path."
        raise StoreError(msg) from None


def open_journal(
    partial: Path,
    key: str,
    shards: Mapping[int, RowRange],
    name: str = WHOLE,
    *,
    alone: bool = False,
) -> Journal:
    """Open a journal of an unfinished copy; its entries are of those shards that are whole.

    Also of those that other journals tell of, unless `alone`: a copy may be
    begun by one call and resumed by a job array, and the reverse.
    """
    journal = Journal(_journal(partial, name), key)
    known = dict(journal.entries)
    for other in [] if alone else sorted(journal.path.parent.glob("*.jsonl")):
        found, entries = Journal.read(other)
        known |= entries if found == key else {}
    journal.entries = {
        index: known[index]
        for index, rows in shards.items()
        if index in known and _is_written(partial, rows, known[index])
    }
    return journal


def _entries(partial: Path) -> Iterator[Mapping[int, Any]]:
    """Yield what each journal of an unfinished copy tells of."""
    for path in _journal(partial, WHOLE).parent.glob("*.jsonl"):
        yield Journal.read(path)[1]


def _journal(partial: Path, name: str) -> Path:
    """Return the file of a journal."""
    return partial / NOTES / "journals" / f"{name}.jsonl"


def _is_written(partial: Path, rows: RowRange, report: Mapping[str, Any]) -> bool:
    """Return whether the files of a shard are there in full length."""
    for name, n_bytes in report["n_bytes"].items():
        file = zarr_io.shard_file(partial, name, rows.start)
        if not file.is_file() or file.stat().st_size != n_bytes:
            return False
    return True


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


def is_whole(partial: Path, identity: dict[str, Any]) -> bool:
    """Return whether an earlier call was killed between the last note and the move."""
    if (partial / NOTES).exists():
        return False
    return bool(stored_attrs(partial).get("key") == identity)


def stored_attrs(store: Path) -> dict[str, Any]:
    """Return what a store says of its copying; nothing where it is no copy."""
    is_group = store.is_dir() and zarr_io.node_kind(store) == "group"
    return dict(zarr_io.read_attrs(store).get(ATTRS, {})) if is_group else {}


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
