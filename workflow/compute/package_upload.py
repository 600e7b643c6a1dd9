"""Upload of this package to workers that lack it; workers with other code are refused."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
from distributed.diagnostics.plugin import WorkerPlugin
from packaging.requirements import Requirement

from workflow.compute.workers import register_worker_plugin, run_on_workers
from workflow.errors import ComputeError

if TYPE_CHECKING:
    from distributed import Client

NAME, DISTRIBUTION = __name__.partition(".")[0], "overcluster"
FOLDER = Path(__file__).resolve().parent.parent
#: Tells our package from a user's own file or package of the same name.
THIS_FILE = Path(__file__).resolve().relative_to(FOLDER)
#: Libraries that tasks never import.
CLIENT_ONLY = frozenset({"bokeh", "click", "dask-ml", "matplotlib", "rich"})
NO_PACKAGE = "lacks the package"


def upload_package(client: Client) -> None:
    """Make sure that the scheduler and all workers can run our tasks.

    Parameters
    ----------
    client : distributed.Client
        Connected; it may have no workers yet.

    Raises
    ------
    ComputeError
        If a process has another Python or other code of this package, or
        lacks a library.
    """
    python = platform.python_version()
    for who, found in _run_everywhere(client, platform.python_version).items():
        # Before functions are sent as code, which the same Python must read.
        if found.split(".")[:2] != python.split(".")[:2]:
            raise _refusal(who, f"has Python {found}, not {python}")
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        plugin = PackageUpload()
        arguments = plugin.digest, _requirements()
        problems = _run_everywhere(client, _problem, *arguments)
        if len(problems) == 1 or any((p or "").startswith(NO_PACKAGE) for p in problems.values()):
            client.run_on_scheduler(plugin.setup)
            register_worker_plugin(client, plugin)
            problems = _run_everywhere(client, _problem, *arguments)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    for who, problem in problems.items():
        if problem:
            raise _refusal(who, problem)


class PackageUpload(WorkerPlugin):
    """Makes this package importable where it is missing, also on workers that start later."""

    name = "overcluster-package"

    def __init__(self) -> None:
        self.files = _python_files(FOLDER)
        self.digest = _digest(self.files)

    def setup(self, worker: Any = None) -> None:
        """Unpack it into the user's cache, where its inner loops are compiled once."""
        if _package_folder() is not None:
            return
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        folder = cache / "overcluster" / "packages" / self.digest
        # Fails where another worker was first, and where nothing can be written: the package is
        # then still missing, and the worker is refused.
        with contextlib.suppress(OSError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as made:
                for name, content in self.files.items():
                    path = Path(made, "new", NAME, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                Path(made, "new").rename(folder)
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()


def _python_files(folder: Path) -> dict[str, bytes]:
    """Return the Python files below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.py"))}


def _digest(files: dict[str, bytes]) -> str:
    """Return a digest of names and contents."""
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def _package_folder() -> Path | None:
    """Return the folder that the package is imported from, None where there is none."""
    folder = Path(_origin()).parent
    return folder if (folder / THIS_FILE).is_file() else None


def _origin() -> str:
    """Return the file that stands for the package here, also one of the user's with its name."""
    spec = importlib.util.find_spec(NAME)
    return "" if spec is None or spec.origin is None else spec.origin


def _requirements() -> list[str]:
    """Return the libraries that tasks import, with their bounds; none where nothing is installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found = map(Requirement, importlib.metadata.requires(DISTRIBUTION) or ())
        return [str(r) for r in found if r.marker is None and r.name not in CLIENT_ONLY]
    return []


def _problem(digest: str, requirements: list[str]) -> str | None:
    """Return why this process cannot run our tasks, None if it can."""
    missing = []
    for text in requirements:
        required = Requirement(text)
        found = importlib.metadata.Distribution.discover(name=required.name)
        if not any(required.specifier.contains(d.version, prereleases=True) for d in found):
            missing.append(f"{required.name}{required.specifier}")
    if missing:
        return f"lacks {', '.join(missing)}"
    folder = _package_folder()
    if folder is None:
        # In the folder that a worker was started in, or imported before.
        return f"{NO_PACKAGE}, which {_origin()} hides" if _origin() else NO_PACKAGE
    return None if _digest(_python_files(folder)) == digest else f"has other code in {folder}"


def _run_everywhere(client: Client, function: Any, *args: Any) -> dict[str, Any]:
    """Call a function on the scheduler and on all workers."""
    scheduler = client.run_on_scheduler(function, *args)
    return {"the scheduler": scheduler, **run_on_workers(client, function, *args)}


def _refusal(who: str, problem: str) -> ComputeError:
    """Return the error for a process that cannot run our tasks."""
    version = "the same version"
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = f"pip install {DISTRIBUTION}=={importlib.metadata.version(DISTRIBUTION)}"
    return ComputeError(
        f"workers must have the same Python, libraries and code as here; {who} {problem}. Install there: {version}, and start the workers anew."
    )
