"""Start one small job at a site and describe what it sees."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.compute import open_client, run_on_workers, upload_package
from workflow.compute.scripts import job_script
from workflow.engine.results import run_task
from workflow.errors import StoreError
from workflow.runstore import paths
from workflow.runstore.kept import here
from workflow.versions import software_versions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Worker

    from workflow.config import Config

#: Bytes that a worker reads at most, and with each call.
MAX_READ_BYTES, CALL_BYTES = 256 * 2**20, 4 * 2**20
#: Bytes of the file that is written where no images are given.
WRITTEN_BYTES = 64 * 2**20


def check_site(
    config: Config, images: Path | None = None, run: Path | None = None
) -> dict[str, Any]:
    """Open a client as a run would, with one worker or job, and compare what it sees with what is here.

    Parameters
    ----------
    config : Config
        The settings; only ``compute`` is used.
    images : Path, optional
        Images that the worker reads; a file written for this by default.
    run : Path, optional
        Run folder, or the folder that it will lie in; the present one by
        default.

    Returns
    -------
    dict
        ``job_script`` (text, null where there is none), ``worker_s`` until a
        worker was up and ``result_s`` until it had answered [s], its
        ``host``, ``memory_limit`` [bytes] and ``blas_threads``, ``versions``:
        package -> versions here and there, ``differing``: those that are not
        the same, ``sees_images``, ``sees_run``, ``writes_run``,
        ``read_bytes`` and ``read_bytes_per_s`` of the test read, and
        ``problems``: a sentence each.

    Raises
    ------
    ComputeError
        If the site cannot be reached or has no workers.
    StoreError
        If the run folder cannot be written here.
    """
    if images is not None:
        paths.require_local("`--images`", images)
    script = job_script(config.compute) if config.compute.is_batch else None
    settings = config.compute
    if settings.launcher != "address":
        settings = settings.model_copy(update={"n_workers": 1, "adaptive": False})
    with _folder_beside(run) as folder:
        source = images.absolute() if images is not None else _written_file(folder)
        started = time.monotonic()
        with open_client(settings) as client:
            if settings.launcher == "address":
                upload_package(client)
            worker_s = time.monotonic() - started
            task = client.submit(
                run_task, (str(folder), str(source)), function=look_around, pure=False
            )
            seen = task.result().result
            result_s = time.monotonic() - started
            limits = list(run_on_workers(client, memory_limit).values())
        writes = seen["writes_run"] and (folder / "seen").is_file()
    here = software_versions()
    versions = {
        name: {"here": ours, "there": seen["versions"].get(name, "not installed")}
        for name, ours in here.items()
    }
    if settings.launcher == "address":
        # The code is the same, or the check has ended; an uploaded package has no version.
        versions["overcluster"]["there"] = versions["overcluster"]["here"]
    found = {
        "job_script": script,
        "worker_s": round(worker_s, 3),
        "result_s": round(result_s, 3),
        "n_workers": len(limits),
        "memory_limit": min(limits, default=0),
        "host": seen["host"],
        "blas_threads": seen["blas_threads"],
        "versions": versions,
        "differing": [name for name, pair in versions.items() if pair["here"] != pair["there"]],
        "images": str(source) if images is not None else None,
        "run": str(folder.parent),
        "sees_images": seen["sees_images"],
        "sees_run": seen["sees_run"],
        "writes_run": writes,
        "read_bytes": seen["read_bytes"],
        "read_bytes_per_s": round(seen["read_bytes"] / max(seen["read_s"], 1e-9)),
    }
    return {**found, "problems": _problems(found)}


def _problems(found: dict[str, Any]) -> list[str]:
    """Return what would stop a run, a sentence each."""
    problems = []
    if not found["sees_run"]:
        problems.append(f"the worker does not see {found['run']}")
    elif not found["writes_run"]:
        problems.append(f"the worker may not write in {found['run']}")
    if found["images"] is not None and not found["sees_images"]:
        problems.append(f"the worker cannot read {found['images']}")
    if "overcluster" in found["differing"]:
        problems.append("the worker has another version of overcluster")
    return problems


@contextlib.contextmanager
def _folder_beside(run: Path | None) -> Iterator[Path]:
    """Make a folder in a run folder, or in its nearest parent; remove it at the end."""
    parent = Path.cwd() if run is None else here(run).absolute()
    while not parent.is_dir():
        parent = parent.parent
    try:
        made = tempfile.TemporaryDirectory(prefix=".overcluster-check-", dir=parent)
    except OSError as err:
        msg = f"a run folder must be where it can be written; {parent} cannot ({err.strerror}). Give another --out."
        raise StoreError(msg) from None
    with made as folder:
        yield Path(folder)


def _written_file(folder: Path) -> Path:
    """Write a file for the worker to read, wholly on the disk."""
    path = folder / "to-read"
    with path.open("wb") as file:
        for _ in range(WRITTEN_BYTES // CALL_BYTES):
            file.write(os.urandom(CALL_BYTES))
        file.flush()
        os.fsync(file.fileno())
    return path


def memory_limit(dask_worker: Worker) -> int:
    """Return the memory limit of a worker [bytes], 0 where it has none."""
    return dask_worker.memory_manager.memory_limit or 0


def look_around(paths: tuple[str, str]) -> dict[str, Any]:
    """Return what a worker sees of a folder and of images; write a file into the folder if it can."""
    folder, source = (Path(text) for text in paths)
    mark = folder / "seen"
    sees_run = folder.is_dir()
    writes_run = sees_run and os.access(folder, os.W_OK)
    if writes_run:
        mark.touch()
    started = time.monotonic()
    read_bytes = _read(source)
    return {
        "host": socket.gethostname(),
        "sees_run": sees_run,
        "writes_run": writes_run,
        "sees_images": read_bytes > 0,
        "read_bytes": read_bytes,
        "read_s": time.monotonic() - started,
        "versions": software_versions(),
        "blas_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def _read(source: Path) -> int:
    """Read files up to a limit, from the disk and not from memory; return the bytes."""
    n_bytes = 0
    files = iter([source]) if source.is_file() else source.rglob("*")
    for path in files:
        if n_bytes >= MAX_READ_BYTES:
            break
        if not path.is_file():
            continue
        try:
            with path.open("rb", buffering=0) as file:
                if hasattr(os, "posix_fadvise"):
                    # Drop what the machine keeps of the file in memory.
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while n_bytes < MAX_READ_BYTES and (content := file.read(CALL_BYTES)):
                    n_bytes += len(content)
        except OSError:
            return 0
    return n_bytes


def format_check(found: dict[str, Any]) -> str:
    """Return the result of `check_site` as text for a person."""
    lines = []
    if found["job_script"] is not None:
        lines += ["the job script:", *(f"    {x}" for x in found["job_script"].splitlines()), ""]
    gib = found["memory_limit"] / 2**30
    size = f", {gib:.1f} GiB each" if gib else ""
    noun = "worker" if found["n_workers"] == 1 else "workers"
    lines += [
        (
            f"worker up after {found['worker_s']:.1f} s, first result after {found['result_s']:.1f} s "
            f"from {found['host']}; {found['n_workers']} {noun}{size}"
        ),
        (
            f"{'images' if found['images'] else 'a file written here'}: "
            f"{'read' if found['sees_images'] else 'NOT readable'} by the worker"
        ),
        f"run folder in {found['run']}: {_access(found)} by the worker",
    ]
    if found["read_bytes"]:
        lines.append(
            f"test read of {found['read_bytes'] / 1e6:,.0f} MB: "
            f"{found['read_bytes_per_s'] / 1e6:,.0f} MB/s"
        )
    width = max(map(len, found["versions"]))
    for name, pair in found["versions"].items():
        differs = f"  DIFFERS: {pair['there']} there" if name in found["differing"] else ""
        lines.append(f"{name:{width}}  {pair['here']}{differs}")
    if not found["differing"]:
        lines.append("Python and packages are the same here and there")
    return "\n".join(lines)


def _access(found: dict[str, Any]) -> str:
    """Return how the worker sees the run folder."""
    if not found["sees_run"]:
        return "NOT seen"
    return "readable and writable" if found["writes_run"] else "readable, NOT writable"
