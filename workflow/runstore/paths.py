"""Users' paths: every one is looked at and opened here, so that other places than a file system can come in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Identity(NamedTuple):
    """Size [bytes] and time of the last change [ns] of a file."""

    n_bytes: int
    mtime_ns: int


def place(text: str | os.PathLike[str]) -> Path:
    """Return the absolute path that a user means."""
    return Path(text).expanduser().absolute()


def exists(path: Path) -> bool:
    """Return whether there is a file or folder."""
    return path.exists()


def is_folder(path: Path) -> bool:
    """Return whether there is a folder."""
    return path.is_dir()


def identity(path: Path, *, follow_links: bool = True) -> Identity:
    """Return size and time of a file, or of the link itself."""
    known = path.stat() if follow_links else path.lstat()
    return Identity(known.st_size, known.st_mtime_ns)


def names_in(folder: Path) -> list[str]:
    """Return what lies in a folder, nothing where there is none."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def files_below(folder: Path) -> list[str]:
    """Return the files below a folder as sorted POSIX paths relative to it; hidden ones are left out."""
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder)
        found += [(below / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def open_file(path: Path) -> BinaryIO:
    """Open a file for reading bytes at any position."""
    return path.open("rb")


def read_values(path: Path, dtype: np.dtype[Any], n_values: int, first_byte: int) -> NDArray[Any]:
    """Read values that lie one after the other; fewer where the file ends before."""
    return np.fromfile(path, dtype, n_values, offset=first_byte)


def local(path: Path) -> Path:
    """Return a path that a library written in C can open."""
    return path
