"""Brings this package to workers that lack it; refuses workers that have another one."""

from __future__ import annotations

import contextlib
import io
import logging
import platform
import re
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle

from workflow.compute import arrival
from workflow.compute.asking import ask_workers, register_plugin
from workflow.errors import ComputeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

log = logging.getLogger(__name__)

#: This package as it is imported, as it is installed, and where it lies.
NAME, DISTRIBUTION = __name__.partition(".")[0], "overcluster"
FOLDER = Path(__file__).resolve().parent.parent
#: What a worker never imports: they draw, or talk to a person.
NOT_FOR_WORKERS = frozenset({"bokeh", "click", "dask-ml", "matplotlib", "rich"})


def bring_package(client: Client) -> None:
    """Make sure that workers and scheduler have the code of this process.

    Parameters
    ----------
    client : distributed.Client
        Connected; it may have no workers yet.

    Raises
    ------
    ComputeError
        If the Python versions differ, something that this package requires is
        missing, or another version of this package is there.

    Notes
    -----
    Where all have the same code, nothing is sent: one question and its answers.
    """
    found = _asked(client)
    here = arrival.digest_of(FOLDER)
    others = {
        who: it
        for who, it in found.items()
        if it["digest"] not in (None, here) and not it["was_sent"]
    }
    if others:
        who, it = min(others.items())
        msg = f"workers must have the same code as here or none; {_number(others, found)} other code of `{NAME}`, {who} has it at {it['place']}. Install the same version on both sides, or remove it there."
        raise ComputeError(msg)
    lacking = {who: it for who, it in found.items() if it["digest"] != here}
    if not lacking and len(found) > 1:
        return
    missing = sorted({text for it in lacking.values() for text in it["lacks"]})
    if missing:
        quoted = " ".join(f"'{text}'" for text in missing)
        msg = f"workers must have what `{NAME}` requires; {_number(lacking, found)} not got {', '.join(missing)}. Run there: pip install {quoted}"
        raise ComputeError(msg)
    content = zipped()
    if lacking:
        log.info("sending the package to %d of %d processes", len(lacking), len(found))
    _send(client, here, content)


def requirements() -> list[str]:
    """Return what a worker must have installed, with bounds.

    Examples
    --------
    >>> any(text.startswith("numba") for text in requirements())
    True
    """
    try:
        declared = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        # Not installed but on the path: what is missing shows when it is imported.
        return []
    names = {text: re.split(r"[^\w-]", text, maxsplit=1)[0] for text in declared}
    return [
        re.sub(r"\[.*?\]", "", text)
        for text, name in names.items()
        if "extra ==" not in text and name not in NOT_FOR_WORKERS
    ]


def zipped() -> bytes:
    """Return the Python files of this package as a zip, the same for the same files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(FOLDER.rglob("*.py")):
            name = f"{NAME}/{source.relative_to(FOLDER).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), source.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _asked(client: Client) -> dict[str, dict[str, Any]]:
    """Ask the scheduler and every worker, once their Python can read a question of ours."""
    # A function of the standard library: sent by name, so that any version understands it.
    pythons = {
        "the scheduler": client.run_on_scheduler(platform.python_version),
        **ask_workers(client, platform.python_version),
    }
    here = platform.python_version_tuple()[:2]
    others = {who: it for who, it in pythons.items() if tuple(it.split(".")[:2]) != here}
    if others:
        who, version = min(others.items())
        msg = f"workers must have the same Python as here, {'.'.join(here)}; {who} has {version}. Start them from an environment with the same one."
        raise ComputeError(msg)
    question = NAME, requirements()
    with _with_code():
        of_scheduler = client.run_on_scheduler(arrival.seen, *question)
        return {"the scheduler": of_scheduler, **ask_workers(client, arrival.seen, *question)}


def _send(client: Client, digest: str, content: bytes) -> None:
    """Register what unpacks the package, here and on workers to come."""
    with _with_code():
        for kind in (arrival.PackageForScheduler, arrival.PackageForWorkers):
            register_plugin(client, kind(NAME, digest, content))


@contextlib.contextmanager
def _with_code() -> Iterator[None]:
    """Let what is sent inside take its code along, for who cannot import it."""
    cloudpickle.register_pickle_by_value(arrival)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(arrival)


def _number(some: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Return how many of all processes, as the subject of a sentence."""
    return f"{len(some)} of {len(found)} {'has' if len(some) == 1 else 'have'}"
