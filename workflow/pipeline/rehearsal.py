"""A run of few images, begun as a user begins one: what a run takes however few its images are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from workflow.config.load import ENVIRONMENT_PREFIX
from workflow.errors import ComputeError
from workflow.ingest import DemoSource

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.config import ComputeSettings

#: Images and centroids: so few that what is left is the same for every run.
N_IMAGES, N_CENTROIDS = 4_000, 256
#: The first run may compile what nothing else has needed yet.
N_RUNS = 2
#: What only a tree of few centroids needs: the library, to hear what it says of them.
LIBRARY = "import time, workflow.tree; a = time.perf_counter(); import hdbscan; print(time.perf_counter() - a)"


def rehearse(settings: ComputeSettings, folder: Path) -> dict[str, float]:
    """Run a few images as a command of their own.

    Parameters
    ----------
    settings : ComputeSettings
        How many workers, with how many threads; all of this machine.
    folder : Path
        An empty folder on the disk of the run.

    Returns
    -------
    dict of str to float
        Step -> seconds, with ``start`` for what the command takes before and
        after its steps; the fastest of two runs.

    Raises
    ------
    ComputeError
        If such a run fails, with what it said.
    """
    images = folder / "few.npz"
    # As a file that is copied first, so that every step has something to do.
    np.savez(images, images=DemoSource(N_IMAGES).read(0, N_IMAGES))
    chosen = {
        "compute.launcher": "local",
        "compute.n_workers": settings.n_workers,
        "compute.threads_per_worker": settings.threads_per_worker,
        "compute.dashboard": "false",
        "overcluster.n_centroids": N_CENTROIDS,
    }
    words = [sys.executable, "-m", "workflow", "run", str(images), "--json"]
    words += [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    # Settings of the user's own runs are not those of this one.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ENVIRONMENT_PREFIX)}
    runs = []
    for number in range(N_RUNS):
        started = time.perf_counter()
        out = str(folder / f"run-{number}")
        done = subprocess.run(
            [*words, "--out", out], check=False, capture_output=True, text=True, env=environment
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
            msg = f"a run of {N_IMAGES:,} images must work before the time of others can be told; it said: {said[0]}"
            raise ComputeError(msg)
        seconds = json.loads(done.stdout)["seconds"]
        total = seconds.pop("total")
        runs.append({"start": time.perf_counter() - started - total, **seconds})
    return {name: min(run[name] for run in runs) for name in runs[0]}


def library_seconds() -> float:
    """Return the seconds to import what only a tree of few centroids needs."""
    done = subprocess.run([sys.executable, "-c", LIBRARY], check=True, capture_output=True)
    return float(done.stdout)
