"""Fixtures that more than one room needs: small images with known clusters, and a real Dask cluster."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from hypothesis import HealthCheck, settings

from workflow.cli import main

settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile(
    "ci", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci" if os.environ.get("CI") else "default")

PROJECT = Path(__file__).resolve().parent.parent
#: Dask's setting for how a worker is started.
FORKED = "distributed.worker.multiprocessing-method"
#: Files that take longest. They are begun first, so that no process of `make test` ends long after the other.
LONGEST = (
    "test_notebooks", "test_memory", "test_sameness", "test_plan", "test_resume", "test_duplicates",
    "test_cli", "test_package_upload", "test_documents", "test_alterations", "test_live",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Put the tests of the files that take longest first."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def picture_set(n=4000, n_sources=8, shape=(6, 6, 3), noise=9.0, seed=0, dtype=np.uint8):
    """Noisy variants of a few random pictures, and the picture each is a variant of."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(40, 216, (n_sources, *shape))
    share = np.linspace(1, 3, n_sources)
    source = rng.choice(n_sources, n, p=share / share.sum())
    images = pictures[source] + rng.normal(0, noise, (n, *shape))
    if np.dtype(dtype).kind == "u":
        images = images.round().clip(0, 255)
    return images.astype(dtype), source


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep notes of runs out of the user's cache; what Matplotlib knows of fonts stays where it is."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        if "MPLCONFIGDIR" not in os.environ:
            patch.setenv("MPLCONFIGDIR", str(cache / "matplotlib"))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """Fork local workers from a process that has imported everything: an import in each takes a second."""
    with dask.config.set({FORKED: "forkserver"}):
        get_mp_context().set_forkserver_preload(["distributed", "workflow.steps"])
        yield


def as_imported():
    """Put our logger back: the command line gives it a handler of its own."""
    own = logging.getLogger("workflow")
    own.handlers.clear()
    own.propagate = True
    own.setLevel(logging.NOTSET)


@pytest.fixture(autouse=True)
def own_logger():
    """Let messages reach pytest, and once, whatever test came before."""
    as_imported()
    yield
    as_imported()


@pytest.fixture(scope="session")
def pictures():
    """4,000 images of eight sources, and the source of each."""
    return picture_set()


@pytest.fixture(scope="session")
def client():
    """A real scheduler with two worker processes."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as opened,
    ):
        yield opened


@pytest.fixture
def run_cli(capsys, monkeypatch, tmp_path):
    """Call the command line in this process; return exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def on_client(client, monkeypatch):
    """Let commands use workers that are there: starting some for each command takes seconds."""
    monkeypatch.setenv("WORKFLOW_COMPUTE__LAUNCHER", "address")
    monkeypatch.setenv("WORKFLOW_COMPUTE__ADDRESS", client.scheduler.address)


def spawn_cli(*words, **kwargs):
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "workflow", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **kwargs,
    )


def last_json(out):
    """Return the JSON object of the last line."""
    return json.loads(out.strip().splitlines()[-1])
