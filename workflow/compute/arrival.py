"""What is sent, as code, to workers and schedulers that lack this package: imports nothing of it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin


def digest_of(package: Path) -> str:
    """Return a digest of the Python files of a package: names and contents."""
    found = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        found.update(f"{source.relative_to(package).as_posix()}\0".encode())
        found.update(source.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def seen(name: str, requirements: list[str]) -> dict[str, Any]:
    """Return what a process has of a package and of what it requires.

    Parameters
    ----------
    name : str
        The package as it is imported.
    requirements : list of str
        Distributions with their bounds.

    Returns
    -------
    dict
        ``digest`` and ``place`` of the package, None where there is none;
        ``was_sent``, whether it came from here; and ``lacks``, the
        requirements that are not met.
    """
    place = found_at(name)
    digest = None if place is None else digest_of(place)
    return {
        "place": None if place is None else str(place),
        "digest": digest,
        "was_sent": place is not None and was_sent(place),
        "lacks": [text for text in requirements if not _is_met(text)],
    }


def found_at(name: str) -> Path | None:
    """Return the folder that a package would be imported from, None where there is none."""
    loaded = sys.modules.get(name)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def was_sent(place: Path) -> bool:
    """Return whether a package is one that was sent: its folder lies in one called by its digest."""
    return place.parent.name == digest_of(place)


def _forget(name: str, place: Path) -> None:
    """Let a package that was sent earlier be imported no more."""
    sys.path[:] = [path for path in sys.path if path != str(place.parent)]
    for module in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
        del sys.modules[module]


def _is_met(text: str) -> bool:
    """Return whether a requirement is installed in a version within its bounds."""
    # Dask brings it along.
    requirement = importlib.import_module("packaging.requirements").Requirement(text)
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return bool(requirement.specifier.contains(version, prereleases=True))


def unpack(name: str, digest: str, content: bytes, elsewhere: str) -> None:
    """Make a package importable from a zip; one that was sent earlier gives way, an installed one stays.

    Parameters
    ----------
    name : str
        The package as it is imported.
    digest : str
        Of its sources.
    content : bytes
        Zip of its folder.
    elsewhere : str
        Where to put it if the home cannot be written.

    Notes
    -----
    A folder and not a zip on the path: compiled loops are kept beside the
    sources.  It is in the user's cache, so that all workers of a host, and the
    next ones, compile them once.
    """
    place = found_at(name)
    if place is not None:
        if not was_sent(place) or place.parent.name == digest:
            return
        _forget(name, place)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    for parent in (cache / "overcluster" / "packages", Path(elsewhere)):
        folder = parent / digest
        with contextlib.suppress(OSError):
            _put(folder, content)
        if (folder / name).is_dir() and digest_of(folder / name) == digest:
            sys.path.insert(0, str(folder))
            importlib.invalidate_caches()
            return
    msg = f"a worker must be able to write the package somewhere; neither {cache} nor {elsewhere} can be written. Install it there."
    raise OSError(msg)


def _put(folder: Path, content: bytes) -> None:
    """Unpack a zip into a folder in one move; another process may do the same."""
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as made:
        whole = Path(made) / "whole"
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            archive.extractall(whole)
        # Fails where another process was first: its folder has the same content.
        with contextlib.suppress(OSError):
            whole.rename(folder)


class PackageForWorkers(WorkerPlugin):
    """Unpacks a package on every worker, also those that come later."""

    name = "overcluster-package"

    def __init__(self, package: str, digest: str, content: bytes) -> None:
        self.package, self.digest, self.content = package, digest, content

    def setup(self, worker: Any) -> None:
        """Unpack it before the worker gets a task."""
        unpack(self.package, self.digest, self.content, worker.local_directory)


class PackageForScheduler(SchedulerPlugin):
    """Unpacks a package on the scheduler, which looks into the tasks that it hands on."""

    name = "overcluster-package-scheduler"

    def __init__(self, package: str, digest: str, content: bytes) -> None:
        self.package, self.digest, self.content = package, digest, content

    async def start(self, scheduler: Any) -> None:
        """Unpack it."""
        unpack(self.package, self.digest, self.content, tempfile.mkdtemp())
