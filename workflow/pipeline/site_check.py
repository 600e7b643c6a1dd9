"""Start a small job at a site and say what it saw."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.compute import open_client
from workflow.pipeline.executor import run_task
from workflow.runstore.manifest import software_versions

if TYPE_CHECKING:
    from workflow.config import Config


def check_site(config: Config) -> dict[str, Any]:
    """Open a client as a run would, run one task, and compare its surroundings with ours.

    Parameters
    ----------
    config : Config
        The settings; only ``compute`` is used.

    Returns
    -------
    dict
        ``seconds`` until the first result came, ``n_workers``, the worker's
        ``host`` and ``memory_limit`` [bytes], ``shares_folder``: whether it
        sees the present folder and may write there, and ``differing``: package
        -> versions here and there, where they are not the same.

    Raises
    ------
    ComputeError
        If the site cannot be reached or has no workers.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".overcluster-check-", dir=Path.cwd()) as folder:
        with open_client(config.compute) as client:
            seen = client.submit(run_task, folder, function=look_around, pure=False).result().result
            seconds = time.monotonic() - started
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
            limits = [worker["memory_limit"] for worker in workers]
        shares = (Path(folder) / "seen").is_file() and seen["sees_folder"]
    here = software_versions()
    differing = {
        name: {"here": ours, "there": seen["versions"].get(name)}
        for name, ours in here.items()
        if seen["versions"].get(name) != ours
    }
    return {
        "seconds": round(seconds, 3),
        "n_workers": len(limits),
        "memory_limit": min(limits, default=0),
        "host": seen["host"],
        "blas_threads": seen["blas_threads"],
        "shares_folder": shares,
        "differing": differing,
    }


def look_around(folder: str) -> dict[str, Any]:
    """Return what a worker sees; leave a mark in a folder if it may."""
    mark = Path(folder) / "seen"
    sees = mark.parent.is_dir() and os.access(mark.parent, os.W_OK)
    if sees:
        mark.touch()
    return {
        "host": socket.gethostname(),
        "sees_folder": sees,
        "versions": software_versions(),
        "blas_threads": os.environ.get("OMP_NUM_THREADS", "not set"),
    }


def told(found: dict[str, Any]) -> str:
    """Return what was seen, for a person."""
    lines = [
        (
            f"first result after {found['seconds']:.1f} s from {found['host']}; {found['n_workers']} workers, "
            f"{found['memory_limit'] / 2**30:.1f} GiB each"
        ),
        "the worker sees this folder and may write there"
        if found["shares_folder"]
        else "the worker does not see this folder: images and runs must lie on a shared file system",
    ]
    lines += [
        f"{name} differs: {version['here']} here, {version['there']} there"
        for name, version in found["differing"].items()
    ] or ["Python and packages are the same here and there"]
    return "\n".join(lines)
