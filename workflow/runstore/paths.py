"""Users' paths, addresses and snapshots: each is looked at here, so that others need not ask which it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from workflow.errors import StoreError
from workflow.runstore.objects import Address, Stored, is_address
from workflow.runstore.snapshots import Snapshot, snapshot_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Where images are: all have what reading Zarr takes of a path.
Place = Path | Address | Snapshot


class Identity(NamedTuple):
    """Size [bytes] and time of the last change [ns] of a file."""

    n_bytes: int
    mtime_ns: int


def place(text: str | os.PathLike[str] | Stored) -> Place:
    """Return what a user means: an address, a snapshot as ``REPOSITORY@VERSION``, or an absolute path."""
    if isinstance(text, Address | Snapshot):
        return text
    assert not isinstance(text, Stored)
    written = os.fspath(text)
    found = _without_version(written)
    before, at, version = written.rpartition("@")
    if not at or "/" in version or not version or not before or found.exists():
        return found
    repository = _without_version(before)
    # Of addresses, any other name with such a mark was no Zarr.
    if isinstance(repository, Path) and not (repository / "snapshots").is_dir():
        return found
    return snapshot_of(repository, version)


def _without_version(text: str) -> Path | Address:
    """Return an address, or an absolute path."""
    return Address.of(text) if is_address(text) else Path(text).expanduser().absolute()


def require_local(what: str, path: str | os.PathLike[str]) -> None:
    """Refuse an address in an object store, which a file system would take for a folder called ``s3:``."""
    if is_address(path):
        msg = f"{what} must be on a file system; {Address.of(path)} is not. Give a local path, and copy to or from it (aws s3 sync, gcloud storage rsync, azcopy, rclone)."
        raise StoreError(msg)


def exists(path: Place) -> bool:
    """Return whether there is a file or folder; at an address, whether there is Zarr."""
    return path.exists()


def is_folder(path: Place) -> bool:
    """Return whether there is a folder; at an address, whether there is Zarr."""
    return path.is_dir()


def oddity(path: Place) -> str | None:
    """Return what a path is where that is neither file nor folder: reading it may never end."""
    if isinstance(path, Address | Snapshot):
        return None
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return None
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def identity(path: Path) -> Identity:
    """Return size and time of a file; of a link that leads nowhere, of the link itself."""
    try:
        known = path.stat()
    except OSError:
        known = path.lstat()
    return Identity(known.st_size, known.st_mtime_ns)


def names_in(folder: Place) -> list[str]:
    """Return what lies in a folder, nothing where there is none or it cannot be listed."""
    if isinstance(folder, Address | Snapshot):
        return folder.names()
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def stamp(path: Place) -> tuple[Any, ...]:
    """Return what changes when a file or object is written; raise FileNotFoundError where there is none."""
    if isinstance(path, Address | Snapshot):
        return path.stamp()
    known = path.stat()
    return known.st_mtime_ns, known.st_size, known.st_ino


def known_files(place: Place) -> list[tuple[str, int, Any]] | None:
    """Return name, bytes and time or tag of a file, or of all below a place, sorted; None where nothing can be listed."""
    if isinstance(place, Address | Snapshot):
        return place.files()
    return sorted(_below(place, "")) if place.is_dir() else [(place.name, *identity(place))]


def _below(folder: Path, prefix: str) -> list[tuple[str, int, Any]]:
    """Return name, bytes and time of every file below a folder."""
    found: list[tuple[str, int, Any]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                found += _below(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                local(Path(entry.path))
                known = entry.stat()
                found.append((prefix + entry.name, known.st_size, known.st_mtime_ns))
    return found


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder as sorted POSIX paths relative to it; hidden ones are left out.

    Links to folders are followed after everything else, and a folder that is reached twice is
    read once, so circles end.  A folder that cannot be read is listed, with a slash at its end.
    """
    found: list[str] = []
    seen: set[tuple[int, int]] = set()

    def note(err: OSError) -> None:
        if err.filename == os.fspath(folder):
            raise err
        found.append(Path(err.filename).relative_to(folder).as_posix() + "/")

    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:
            for parent, folders, files in os.walk(start, onerror=note):
                known = os.stat(parent)  # noqa: PTH116 - walk gives text
                if (known.st_dev, known.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((known.st_dev, known.st_ino))
                folders[:] = [name for name in folders if not name.startswith(".")]
                place = Path(parent)
                links += [place / name for name in folders if (place / name).is_symlink()]
                below = place.relative_to(folder)
                found += [(below / name).as_posix() for name in files if not name.startswith(".")]
        waiting = sorted(links)
    return sorted(found)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading bytes at any position."""
    return local(path).open("rb")


def read_values(path: Path, dtype: np.dtype[Any], n_values: int, first_byte: int) -> NDArray[Any]:
    """Read values that lie one after the other; fewer where the file ends before."""
    return np.fromfile(path, dtype, n_values, offset=first_byte)


def local(path: Path) -> Path:
    """Return a path that a library written in C can open; raise OSError where reading may never end."""
    found = oddity(path)
    if found:
        msg = f"it is {found}, no file"
        raise OSError(msg)
    return path
