"""Which run folders are kept at an address, and where they are worked on."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from workflow.errors import StoreError
from workflow.runstore import layout
from workflow.runstore.kept.folder import Kept
from workflow.runstore.kept.note import Note
from workflow.runstore.objects import WEB, Address, is_address, s3_server

#: The variable of the setting ``compute.working_folder``, for calls that are given no settings.
VARIABLE = "WORKFLOW_COMPUTE__WORKING_FOLDER"
_chosen: dict[str, str | None] = {}


def choose_folder(folder: str | None) -> None:
    """Choose the folder in which runs at addresses are worked on from now on in this process.

    Parameters
    ----------
    folder : str or None
        The setting ``compute.working_folder``; None for the user's cache.
    """
    _chosen["folder"] = folder


def keep(what: str, path: str | os.PathLike[str]) -> Kept | None:
    """Return the run at an address that a path stands for.

    Parameters
    ----------
    what : str
        What the path is, for an error.
    path : path
        An address, the working folder of one, or any other folder.

    Returns
    -------
    Kept or None
        None for a run folder that is on this file system alone.

    Raises
    ------
    StoreError
        If nothing can be written at the address.
    """
    if not is_address(path):
        folder = Path(path).absolute()
        note = Note.read(folder)
        return None if note is None else _kept(folder, Address.of(note.address))
    address = Address.of(path)
    if address.root.startswith(WEB) or "@" in address.key.rpartition("/")[2]:
        kind = "a server on the web" if address.root.startswith(WEB) else "a snapshot of Icechunk"
        msg = f"{what} must be where it can be written, on a file system or at s3://, gs:// or az://; {address} is {kind}. Give another place."
        raise StoreError(msg)
    return _kept(_folder_of(address), address)


def here(path: str | os.PathLike[str]) -> Path:
    """Return where a run is worked on, at an address or on this file system; nothing is fetched.

    Parameters
    ----------
    path : path
        A run folder, or an address.

    Returns
    -------
    Path
        The folder; there may be none yet.
    """
    kept = keep("RUN", path)
    return Path(path) if kept is None else kept.folder


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether there is a run, on this file system or at an address.

    Parameters
    ----------
    path : path
        A run folder, or an address.

    Returns
    -------
    bool
        Of an address, also where a run was begun here and has not got there yet.
    """
    kept = keep("RUN", path) if is_address(path) else None
    return (Path(path) / layout.MANIFEST).is_file() if kept is None else kept.is_run()


def kept_around(path: Path) -> Kept | None:
    """Return the run at an address in whose working folder a path is.

    Parameters
    ----------
    path : Path
        A file or folder.

    Returns
    -------
    Kept or None
        None where it is in none.
    """
    found = (keep("RUN", folder) for folder in (path.absolute(), *path.absolute().parents))
    return next(filter(None, found), None)


@lru_cache(maxsize=256)
def _kept(folder: Path, address: Address) -> Kept:
    """Return the one of this process: what is opened while it is written must know so."""
    return Kept(address, folder)


def _folder_of(address: Address) -> Path:
    """Return the working folder of an address; a bucket of another server or account is another one."""
    account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
    server = {"s3": s3_server() or "", "gs": ""}.get(address.root.partition(":")[0], account)
    digest = hashlib.sha256(f"{server} {address}".encode()).hexdigest()[:12]
    name = (address.key or address.root).rpartition("/")[2]
    return _folder() / f"{name}-{digest}"


def _folder() -> Path:
    """Return the folder of all working folders."""
    chosen = _chosen.get("folder") or os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    return base / "overcluster" / "runs"
