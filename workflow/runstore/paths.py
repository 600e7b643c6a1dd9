"""Users' paths: every one is looked at and opened here, so that other places than a file system can come in."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from workflow.errors import StoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: How an address in an object store or on the web begins; a `Path` of it has one slash.
_ADDRESS = re.compile(r"(s3a?|gcs|gs|az|abfss?|https?):/")


class Identity(NamedTuple):
    """Size [bytes] and time of the last change [ns] of a file."""

    n_bytes: int
    mtime_ns: int


def place(text: str | os.PathLike[str]) -> Path:
    """Return the absolute path that a user means."""
    return Path(text).expanduser().absolute()


def require_local(what: str, path: str | os.PathLike[str]) -> None:
    """Refuse an address in an object store, which a file system would take for a folder called ``s3:``."""
    text = os.fspath(path)
    found = _ADDRESS.match(text)
    if found:
        address = f"{found.group()}/{text[found.end() :].lstrip('/')}"
        msg = f"{what} must be on a file system; {address} is not. Give a local path, and copy to or from it (aws s3 sync, gcloud storage rsync, azcopy, rclone)."
        raise StoreError(msg)


def exists(path: Path) -> bool:
    """Return whether there is a file or folder."""
    return path.exists()


def is_folder(path: Path) -> bool:
    """Return whether there is a folder."""
    return path.is_dir()


def oddity(path: Path) -> str | None:
    """Return what a path is where that is neither file nor folder: reading it may never end."""
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


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, nothing where there is none."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


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
