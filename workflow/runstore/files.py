"""Small files, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
import struct
import threading
import uuid
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import google_crc32c
import numpy as np

from workflow.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

#: What a disk says that is full, over its quota, read-only or broken.
DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
#: What reading an .npz raises where bytes of it are not those that were written.
DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
#: How the names end of files that are renamed once they are whole.
LEFT_BEHIND = (".partial", ".tmp", ".tmp.npz")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in one move: readers see the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with write_errors(path):
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
    with write_errors(path):
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
def write_errors(path: Path) -> Iterator[None]:
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
def disk_errors(path: Path) -> Iterator[None]:
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
    """Read what `write_arrays` wrote: all arrays, or those of some names and nothing else.

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
                for member in members.namelist() if names is None else (f"{n}.npy" for n in names):
                    with members.open(member) as content:
                        while content.read(1 << 22):
                            pass
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in names or stored.files}
    except DAMAGED:
        raise _damaged(path) from None


class NpzMember(NamedTuple):
    """What the header of an array in an .npz says.

    Attributes
    ----------
    shape, dtype, fortran_order : tuple of int, numpy.dtype, bool
        The array.
    first_byte : int or None
        Where its values begin in the .npz; None where they are compressed.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    first_byte: int | None


def find_member(archive: zipfile.ZipFile, name: str) -> NpzMember:
    """Read the header of an array in an open .npz.

    Raises
    ------
    OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, struct.error
        Whatever `zipfile` and NumPy raise of a damaged file.
    """
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        is_first = version == (1, 0)
        read = (
            np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read(member)
        header_bytes = member.tell()
    if info.compress_type != zipfile.ZIP_STORED:
        return NpzMember(tuple(shape), dtype, fortran_order, None)
    file = archive.fp
    assert file is not None
    # The header in front of a member ends with a name and an extra field, of the lengths it says
    # (PKWARE APPNOTE 4.3.7).
    file.seek(info.header_offset + 26)
    lengths = struct.unpack("<HH", file.read(4))
    first_byte = info.header_offset + 30 + sum(lengths) + header_bytes
    return NpzMember(tuple(shape), dtype, fortran_order, first_byte)


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
            with zipfile.ZipFile(path) as archive:
                member = find_member(archive, name)
        except DAMAGED:
            raise _damaged(path) from None
        if member.fortran_order or member.first_byte is None:
            raise _damaged(path)
        return cls(path, member.first_byte, member.shape, member.dtype)

    @classmethod
    def find_all(cls, path: Path) -> dict[str, ArrayPlace]:
        """Look all arrays of a file up; its checksum is not compared.

        Raises
        ------
        StoreError
            If the file is damaged or gone, or holds no arrays by rows.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
        except DAMAGED:
            raise _damaged(path) from None
        return {name: cls.find(path, name) for name in names}

    @classmethod
    def known(cls, path: Path) -> dict[str, ArrayPlace]:
        """Look all arrays of a file up, once per process as long as it is not written anew."""
        return _places_of(path, path.stat().st_mtime_ns)

    def read_range(self, start: int, stop: int) -> NDArray[Any]:
        """Return consecutive rows, shape (stop - start, ...).

        Raises
        ------
        StoreError
            If the file ends before the last of them, or is gone.
        """
        count = math.prod(self.shape[1:])
        place = self.first_byte + start * count * self.dtype.itemsize
        try:
            found = np.fromfile(self.path, self.dtype, (stop - start) * count, offset=place)
        except OSError:
            raise _damaged(self.path) from None
        if len(found) < (stop - start) * count:
            raise _damaged(self.path)
        return found.reshape(stop - start, *self.shape[1:])

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


@lru_cache(maxsize=4096)
def _places_of(path: Path, written_ns: int) -> dict[str, ArrayPlace]:
    """Return where the arrays of a file lie that was written at a time."""
    del written_ns
    return ArrayPlace.find_all(path)


def map_arrays(places: Mapping[str, ArrayPlace]) -> dict[str, NDArray[Any]]:
    """Return arrays of one file, read where and when they are looked at; closed with the last one.

    Raises
    ------
    StoreError
        If the file is gone or too short.
    """
    (path,) = {place.path for place in places.values()}
    try:
        content = np.memmap(path, np.uint8, "r")
        return {
            name: np.ndarray(place.shape, place.dtype, content, place.first_byte)
            for name, place in places.items()
        }
    except (OSError, ValueError, TypeError):
        raise _damaged(path) from None


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


def locked(path: Path) -> BinaryIO:
    """Open the file that locks a run folder, and lock it.

    Raises
    ------
    StoreError
        If another process holds it, or the file system has no locks.
    """
    try:
        # Without a buffer: what a full disk does not take must not be tried again on closing.
        file = path.open("a+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().decode(errors="replace").strip() or "another process"
        file.close()
        msg = f"one command at a time may write {path.parent}; {holder} does. Wait for it, or give another run folder."
        raise StoreError(msg) from None
    except OSError as err:
        msg = f"a run folder must be on a file system that can be written and locked; {path.parent} refuses ({err.strerror}). Mount it with locks, or give another run folder."
        raise StoreError(msg) from None
    return cast("BinaryIO", file)


def discard(path: Path) -> None:
    """Remove a file or folder; a folder is renamed first, so that half of it is never taken for it."""
    if path.is_dir() and not path.is_symlink():
        for left in path.parent.glob(f".{path.name}.*.discarded"):
            shutil.rmtree(left, ignore_errors=True)
        doomed = path.with_name(f".{path.name}.{uuid.uuid4().hex}.discarded")
        path.replace(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def first_line(err: BaseException) -> str:
    """Return the first line of an error's text, shortened."""
    text = str(err).strip().splitlines()
    return (text[0] if text else type(err).__name__)[:200].rstrip(".")
