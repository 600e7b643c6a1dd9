"""Small files written whole or not at all, and journals that survive a kill."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import struct
import threading
import zipfile
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, ValuesView
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np

from workflow.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What a disk says that is full, over its quota, read-only or broken.
DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: What reading an .npz raises where bytes of it are not those that were written.
DAMAGED = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile)
#: How the names end of files that are renamed once they are whole.
LEFT_BEHIND = (".partial", ".tmp", ".tmp.npz")
#: Name of the checksum of a line of a journal.
LINE_CRC = "line_crc"


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


def sweep(place: Path) -> None:
    """Remove what was being written anywhere in a folder by processes that were killed."""
    for folder, _, names in os.walk(place):
        for name in names:
            if name.endswith(LEFT_BEHIND):
                (Path(folder) / name).unlink(missing_ok=True)


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


def crc_of_json(content: Any) -> int:
    """Return the crc32c of JSON-able content: the same before it is written and after it is read."""
    return int(google_crc32c.value(json.dumps(content).encode()))


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Tell what the disk refused, and that nothing is lost."""
    try:
        yield
    except OSError as err:
        raise refused(path, err) from err


def refused(path: Path, err: OSError) -> StoreError:
    """Return the error for what a disk would not take."""
    msg = f"{err.filename or path} must be written; the disk refused ({err.strerror or err}). Make room or give write access, then run the same command again."
    return StoreError(msg)


@contextlib.contextmanager
def disk_errors_told(path: Path) -> Iterator[None]:
    """Turn what a full or failing disk raises anywhere inside into an error of ours."""
    try:
        yield
    except StoreError:
        raise
    except OSError as err:
        if err.errno not in DISK_REFUSES:
            raise
        raise refused(path, err) from err


def read_arrays(
    path: Path, checksum: int | None = None, names: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote: all arrays, or those of some names.

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
    try:
        if checksum is None:
            # Before NumPy believes its header: an altered shape may ask for all the memory there is.
            with zipfile.ZipFile(path) as members:
                if members.testzip() is not None:
                    raise zipfile.BadZipFile
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names or stored.files}
    except DAMAGED:
        raise _damaged(path) from None


class ArrayPlace(NamedTuple):
    """Where one of the arrays that `write_arrays` wrote lies, to read rows of it and nothing else."""

    path: Path
    first_byte: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def find(cls, path: Path, name: str) -> ArrayPlace:
        """Look an array up; the checksum of the file is not compared.

        Raises
        ------
        StoreError
            If the file is damaged, or holds no such array by rows.
        """
        try:
            with zipfile.ZipFile(path) as members:
                member = members.getinfo(f"{name}.npy")
            with path.open("rb") as file:
                # What stands before a member ends with a name and an extra, as long as it says.
                file.seek(member.header_offset + 26)
                file.seek(sum(struct.unpack("<HH", file.read(4))), os.SEEK_CUR)
                np.lib.format.read_magic(file)
                shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
                if by_columns or member.compress_type != zipfile.ZIP_STORED:
                    raise _damaged(path)
                return cls(path, file.tell(), shape, dtype)
        except (*DAMAGED, struct.error):
            raise _damaged(path) from None

    def read(self, rows: Iterable[int]) -> NDArray[Any]:
        """Return rows in the order given, shape (n_rows, ...).

        Raises
        ------
        StoreError
            If the file ends before one of them, or is gone.
        """
        row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        found = bytearray()
        try:
            with self.path.open("rb") as file:
                for row in rows:
                    file.seek(self.first_byte + int(row) * row_bytes)
                    content = file.read(row_bytes)
                    if len(content) < row_bytes or row >= self.shape[0]:
                        raise _damaged(self.path)
                    found += content
        except OSError:
            raise _damaged(self.path) from None
        return np.frombuffer(found, self.dtype).reshape(-1, *self.shape[1:])


def _damaged(path: Path) -> StoreError:
    """Return the error for a file whose arrays cannot be read."""
    msg = f"{path} must hold arrays as they were written; it is damaged. Delete it and run the same command again."
    return StoreError(msg)


def crc_of_file(path: Path) -> int:
    """Return the crc32c of a file's bytes."""
    checksum = google_crc32c.Checksum()
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            checksum.update(chunk)
    return int.from_bytes(checksum.digest(), "big")


class Entries(Mapping[int, dict[str, Any]]):
    """What a journal tells of tasks, read from its file when it is asked for: there may be very many.

    Held are places in the file, in the order in which tasks were noted.
    """

    def __init__(self, path: Path, places: dict[int, int]) -> None:
        self._path, self._places = path, places

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return what was noted of task `index`."""
        ((_, record),) = self.of([index]).read()
        return record

    def __contains__(self, index: object) -> bool:
        """Return whether task `index` was noted."""
        return index in self._places

    def __iter__(self) -> Iterator[int]:
        """Yield the tasks that were noted."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many were."""
        return len(self._places)

    def items(self) -> ItemsView[int, dict[str, Any]]:
        """Return tasks and what was noted of them, read one after the other."""
        return _Items(self)

    def values(self) -> ValuesView[dict[str, Any]]:
        """Return what was noted, read one after the other."""
        return _Values(self)

    def of(self, indices: Iterable[int]) -> Entries:
        """Return the entries of some tasks, in this order."""
        return Entries(self._path, {index: self._places[index] for index in indices})

    def note(self, index: int, place: int) -> None:
        """Note where the line of a task begins."""
        self._places[index] = place

    def read(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield tasks and what was noted of them."""
        if not self._places:
            return
        with self._path.open("rb") as file:
            for index, place in self._places.items():
                file.seek(place)
                record = _parsed(file.readline())
                if record is None or record.get("index") != index:
                    msg = f"{self._path} must be as it was written; it was altered meanwhile. Run the same command again."
                    raise StoreError(msg)
                yield index, record


class _Items(ItemsView[int, dict[str, Any]]):
    """Items of entries, read from a file that is opened once."""

    _mapping: Entries

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Read them."""
        return self._mapping.read()


class _Values(ValuesView[dict[str, Any]]):
    """Values of entries, read from a file that is opened once."""

    _mapping: Entries

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read them."""
        return (record for _, record in self._mapping.read())


class Journal:
    """What tasks reported, a line each, appended by the client as they finish.

    After a kill the last line that got to the disk may be cut; it is then
    ignored, and its task is done again; so is that of a line with an altered byte, which its checksum
    tells.  The first line is a key: a journal of other settings is void.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        found, self.entries = Journal.read(path)
        if found is None or found != key:
            self.entries = Entries(path, {})
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _line({"key": key}))
            return
        # A cut last line would swallow the next one: end it.
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            is_ended = file.read() == b"\n"
        if not is_ended:
            with _disk_errors(path), path.open("ab") as file:
                file.write(b"\n")

    @staticmethod
    def read(path: Path) -> tuple[str | None, Entries]:
        """Return key and entries of a journal, and leave it as it is; no key where there is none."""
        key, places, place = None, {}, 0
        if path.is_file():
            with path.open("rb") as file:
                for line in file:
                    record = _parsed(line) or {}
                    if place == 0:
                        key = record.get("key")
                    elif "index" in record:
                        places[record["index"]] = place
                    place += len(line)
        return key, Entries(path, places)

    @staticmethod
    def key_of(path: Path) -> str | None:
        """Return the key a journal was made with; None where its first line is cut."""
        with path.open("rb") as file:
            first = _parsed(file.readline()) or {}
        return first.get("key")

    def extend(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Add what tasks reported, by their index: together, for the disk is waited for once."""
        lines = {index: _line({"index": index, **record}) for index, record in records.items()}
        with _disk_errors(self.path), self.path.open("ab") as file:
            place = file.tell()
            file.write(b"".join(lines.values()))
            file.flush()
            os.fsync(file.fileno())
        for index, line in lines.items():
            self.entries.note(index, place)
            place += len(line)

    def append(self, index: int, record: Mapping[str, Any]) -> None:
        """Add what task `index` reported."""
        self.extend({index: record})


def _line(record: Mapping[str, Any]) -> bytes:
    """Return the line of a record, its checksum last."""
    return (json.dumps({**record, LINE_CRC: crc_of_json(record)}) + "\n").encode()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, None where the line is cut or altered."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    # A line of an older version has no checksum.
    checksum = record.pop(LINE_CRC, None)
    return record if checksum is None or checksum == crc_of_json(record) else None
