"""How fast this machine is: measured once in some seconds, kept in the user's cache, read by `plan`."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.compute import open_client
from workflow.errors import StoreError
from workflow.pipeline.measuring import (
    measure_leader,
    measure_worker,
    merge_workers,
)
from workflow.pipeline.outcomes import run_task
from workflow.pipeline.rates import Rates
from workflow.pipeline.rehearsal import library_seconds, rehearse
from workflow.runstore.files import read_json, write_json
from workflow.runstore.manifest import digest
from workflow.threads import n_processors

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: Version of what is measured; another one is measured anew.
FORMAT_VERSION = 2
#: Packages whose versions change how fast things are.
PACKAGES = ("overcluster", "numpy", "numba", "scipy", "zarr", "dask", "distributed")
#: Tasks without work, and tasks that return so many bytes, sent to measure what sending costs.
N_EMPTY, N_RETURNS, RETURNED_BYTES = 64, 8, 2**22


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a machine was found to do.

    Attributes
    ----------
    rates : Rates
        The measurement.
    path : Path
        The file it is kept in.
    is_new : bool
        Whether it was measured now.
    n_workers : int
        Workers that compute at once.
    """

    rates: Rates
    path: Path
    is_new: bool
    n_workers: int


def cache_folder() -> Path:
    """Return where measurements are kept: ``overcluster`` in the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    return base / "overcluster"


def processor_name() -> str:
    """Return the model of the processor, as far as the system tells."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def worker_count(settings: ComputeSettings) -> int:
    """Return how many workers a run of these settings starts here; 1 where they are elsewhere."""
    if settings.launcher != "local":
        return 1
    if settings.n_workers != "auto":
        return int(settings.n_workers)
    return max(1, n_processors() // settings.threads_per_worker)


def calibration_key(settings: ComputeSettings, folder: Path) -> dict[str, Any]:
    """Return all that a measurement depends on: another key is measured anew.

    Parameters
    ----------
    settings : ComputeSettings
        How many workers share the machine.
    folder : Path
        A folder on the disk that runs are written to.
    """
    return {
        "format_version": FORMAT_VERSION,
        "processor": processor_name(),
        "n_processors": n_processors(),
        "n_workers": worker_count(settings),
        "disk": folder.stat().st_dev,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def calibrated(settings: ComputeSettings, folder: Path, *, anew: bool = False) -> Calibration:
    """Return how fast this machine is, measured now where that is not known.

    Parameters
    ----------
    settings : ComputeSettings
        The workers of a run.
    folder : Path
        A folder on the disk that runs are written to.
    anew : bool, default False
        Measure even where a measurement of the same key is kept.

    Returns
    -------
    Calibration
        With the file it is kept in, one for each key.
    """
    key = calibration_key(settings, folder)
    path = cache_folder() / f"calibration-{digest(key)}.json"
    # More workers than processors take turns.
    n_workers = min(key["n_workers"], key["n_processors"])
    rates = None if anew else stored_rates(path, key)
    if rates is not None:
        return Calibration(rates, path, is_new=False, n_workers=n_workers)
    log.info("measuring this machine, once, for about half a minute")
    rates = measure(settings, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": key, "rates": rates.to_json()})
    except OSError as err:
        # Measured all the same; the next plan measures again.
        log.info("the measurement could not be kept in %s: %s", path, err.strerror or err)
    return Calibration(rates, path, is_new=True, n_workers=n_workers)


def stored_rates(path: Path, key: dict[str, Any]) -> Rates | None:
    """Return the measurement in a file; None where there is none, or it is damaged or of another key."""
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        if content["key"] != key:
            return None
        return Rates.from_json(content["rates"])
    except (StoreError, KeyError, TypeError, ValueError):
        return None


def measure(settings: ComputeSettings, folder: Path) -> Rates:
    """Measure this machine: the leading process alone, all workers at once, then a run of few images.

    Parameters
    ----------
    settings : ComputeSettings
        The workers; those elsewhere are not asked, one is started here instead.
    folder : Path
        Where working files are put for the time; the disk whose speed counts.
    """
    # Compiled code is kept on disk: whatever this version lacks is compiled here, before a clock runs.
    leader = measure_leader()
    here = settings.model_copy(
        update={
            "launcher": "local",
            "n_workers": worker_count(settings),
            "memory_limit": "auto",
            "dashboard": False,
        }
    )
    working = Path(tempfile.mkdtemp(prefix=".overcluster-", dir=folder))
    try:
        with open_client(here) as client:
            task, result_byte = _sending(client)
            found = client.run(partial(measure_worker, working))
        once = rehearse(here, working)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return Rates(
        once=once,
        library=library_seconds(),
        task=task,
        result_byte=result_byte,
        **merge_workers(list(found.values())),
        **leader,
    )


def _returned(n_bytes: int) -> Any:
    """Return so many bytes from a task."""
    return np.zeros(n_bytes, np.uint8)


def _sending(client: Client) -> tuple[float, float]:
    """Return the seconds of a task without work, and of a byte that a task returns."""
    seconds = []
    for n_tasks, n_bytes in ((N_EMPTY, 1), (N_EMPTY, 1), (N_RETURNS, RETURNED_BYTES)):
        started = time.perf_counter()
        futures = client.map(run_task, [n_bytes] * n_tasks, function=_returned, pure=False)
        total = sum(int(outcome.result.sum()) for outcome in client.gather(futures))
        assert total == 0
        del futures
        seconds.append((time.perf_counter() - started) / n_tasks)
    # The first round also sends the function.
    _, task, returned = seconds
    return task, max(0.0, returned - task) / RETURNED_BYTES
