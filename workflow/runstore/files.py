"""Small files written whole or not at all, and journals that survive a kill."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from workflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move: readers see the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _disk_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON in one move."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    StoreError
        If the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{path.name} must be in {path.parent}; it is missing. Is this a run folder?"
        raise StoreError(msg) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as err:
        msg = f"{path} must be JSON; it is damaged ({err}). Restore it, or give another run folder."
        raise StoreError(msg) from None


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> int:
    """Write arrays to one .npz in one move; return the crc32c of the file."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.{threading.get_ident()}.tmp.npz")
    with _disk_errors(path):
        try:
            with temporary.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
                file.flush()
                os.fsync(file.fileno())
            checksum = crc_of_file(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return checksum


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Tell what the disk refused, and that nothing is lost."""
    try:
        yield
    except OSError as err:
        msg = f"{path} must be written; the disk refused ({err.strerror or err}). Make room or give write access, then run the same command again."
        raise StoreError(msg) from err


def read_arrays(path: Path, checksum: int | None = None) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote.

    Raises
    ------
    StoreError
        If the file is missing, damaged, or its crc32c is not `checksum`.
    """
    if not path.is_file():
        msg = f"{path} must exist; it is missing. Run the same command again to make it anew."
        raise StoreError(msg)
    if checksum is not None and crc_of_file(path) != checksum:
        msg = f"{path} must be as it was written; its checksum differs. Delete it and run the same command again."
        raise StoreError(msg)
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def crc_of_file(path: Path) -> int:
    """Return the crc32c of a file's bytes."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            checksum.update(chunk)
    return int.from_bytes(checksum.digest(), "big")


class Journal:
    """What tasks reported, a line each, appended by the client as they finish.

    After a kill the last line may be cut; it is then ignored, and its task is
    done again.  The first line is a key: a journal of other settings is void.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.entries: dict[int, dict[str, Any]] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        whole = [record for line in lines if (record := _parsed(line)) is not None]
        if whole and whole[0].get("key") == key:
            self.entries = {record["index"]: record for record in whole[1:] if "index" in record}
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, (json.dumps({"key": key}) + "\n").encode())
            return
        # A cut last line would swallow the next one: end it.
        if path.read_bytes()[-1:] != b"\n":
            with path.open("ab") as file:
                file.write(b"\n")

    @staticmethod
    def key_of(path: Path) -> str | None:
        """Return the key a journal was made with; None where its first line is cut."""
        with path.open(encoding="utf-8") as file:
            first = _parsed(file.readline()) or {}
        return first.get("key")

    def append(self, index: int, record: Mapping[str, Any]) -> None:
        """Add what task `index` reported."""
        entry = {"index": index, **record}
        with _disk_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.entries[index] = entry


def _parsed(line: str) -> dict[str, Any] | None:
    """Return the record of a line, None where the line is cut."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    return record if isinstance(record, dict) else None
