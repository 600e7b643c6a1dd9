"""Workers that lack the package get it; those that cannot use it are refused in one line.

Scheduler and workers run in an environment of their own, made by ``venv``: it
has the libraries of this one, and not the package.
"""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from distributed import Client

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import LEAN, SETTINGS, assert_same_labels, lean_run
from workflow.commands.compute_check import check_site
from workflow.compute import package_upload, upload_package
from workflow.compute.package_upload import PackageUpload
from workflow.engine.results import run_task
from workflow.errors import ComputeError
from workflow.steps import get_ready, load_config

LIBRARIES = Path(sysconfig.get_path("purelib"))
FOLDER = Path(workflow.__file__).parent
DEADLINE_S = 120


class Environment:
    """An environment without the package, and the processes that run in it."""

    def __init__(self, folder, *, without=()):
        self.folder = folder
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True, timeout=120
        )
        (self.libraries,) = (folder / "env").glob("lib/python*/site-packages")
        left_out = ("overcluster", "_editable", "__editable", "workflow", *without)
        for entry in LIBRARIES.iterdir():
            # What pytest or coverage start in every process is not wanted here either.
            if entry.name.lower().startswith(left_out) or entry.suffix == ".pth":
                continue
            if not (self.libraries / entry.name).exists():
                (self.libraries / entry.name).symlink_to(entry)
        self.stack = contextlib.ExitStack()
        self.file = folder / "scheduler.json"

    def python(self, *words):
        """Start Python there."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment |= {"XDG_CACHE_HOME": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"}
        command = [self.folder / "env" / "bin" / "python", *map(str, words)]
        log = self.stack.enter_context((self.folder / "log").open("ab"))
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=log, stderr=log
        )
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.terminate)
        return process

    def open(self):
        """Start a scheduler and return a client of it."""
        address = ("--host", "127.0.0.1", "--port", 0, "--dashboard-address", "127.0.0.1:0")
        self.python("-m", "distributed.cli.dask_scheduler", "--scheduler-file", self.file, *address)
        deadline = time.monotonic() + DEADLINE_S
        while not self.file.is_file():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.1)
        client = Client(scheduler_file=str(self.file), set_as_default=False, timeout=60)
        return self.stack.enter_context(client)

    def add_worker(self, client):
        """Start a worker; return when it is there."""
        before = len(client.scheduler_info(n_workers=-1)["workers"])
        words = ("--nthreads", 1, "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
        self.python("-m", "distributed.cli.dask_worker", "--scheduler-file", self.file, *words)
        client.wait_for_workers(before + 1, timeout=DEADLINE_S)


@contextlib.contextmanager
def opened(folder, n_workers=1, **options):
    """Open a client of workers without the package."""
    place = Environment(folder, **options)
    with place.stack:
        client = place.open()
        for _ in range(n_workers):
            place.add_worker(client)
        yield place, client


def package_file():
    """Return where a worker imports the package from."""
    return workflow.__file__


def has_package():
    """Return whether the package can be imported, without its own code."""
    return importlib.util.find_spec("workflow") is not None


def run_by_value(client, function):
    """Run a function of this file, which workers cannot import either, on all workers."""
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return list(client.run(function).values())
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def test_package__reaches_workers_that_lack_it_and_those_that_come_later(tmp_path, monkeypatch):
    with opened(tmp_path) as (place, client):
        assert run_by_value(client, has_package) == [False]
        upload_package(client)
        assert run_by_value(client, has_package) == [True]
        place.add_worker(client)
        folders = {Path(folder) for folder in run_by_value(client, package_file)}
        assert len(folders) == 1
        assert folders.pop().is_relative_to(tmp_path / "cache")
        client.run(get_ready)
        # The scheduler reads tasks, too.
        outcomes = client.gather(client.map(run_task, [[3, 4], [5]], function=sum, pure=False))
        assert [outcome.result for outcome in outcomes] == [7, 5]
        upload_package(client)
        # Uploaded earlier, it is another version.
        newer = tmp_path / "newer" / "workflow"
        shutil.copytree(FOLDER, newer, ignore=shutil.ignore_patterns("__pycache__"))
        with (newer / "rng.py").open("a") as file:
            file.write("\n# a later version\n")
        monkeypatch.setattr(package_upload, "FOLDER", newer)
        with pytest.raises(ComputeError, match="start the workers anew") as refusal:
            upload_package(client)
        assert "\n" not in str(refusal.value)


def test_package__reaches_workers_started_beside_a_file_of_its_name(tmp_path):
    (tmp_path / "workflow.py").write_text("X = 1\n")
    with opened(tmp_path) as (_, client):
        upload_package(client)
        folders = {Path(folder) for folder in run_by_value(client, package_file)}
        assert folders.pop().is_relative_to(tmp_path / "cache")
        client.run(get_ready)


def test_package__of_another_version_is_refused(tmp_path):
    with opened(tmp_path, n_workers=0) as (place, client):
        shutil.copytree(FOLDER, place.libraries / "workflow")
        with (place.libraries / "workflow" / "rng.py").open("a") as file:
            file.write("\n# another version\n")
        place.add_worker(client)
        pattern = r"has other code in \S+site-packages/workflow\. .*pip install overcluster==0"
        with pytest.raises(ComputeError, match=pattern):
            upload_package(client)


def test_package__that_cannot_be_written_is_missing(tmp_path):
    (tmp_path / "cache").touch()
    with (
        opened(tmp_path) as (_, client),
        pytest.raises(ComputeError, match="the scheduler lacks the package"),
    ):
        upload_package(client)


def test_requirements__that_are_missing_are_named_at_once(tmp_path):
    with opened(tmp_path, without=("h5py", "google_crc32c")) as (_, client):
        with pytest.raises(
            ComputeError,
            match=r"lacks google-crc32c>=1\.5, h5py>=3\.12\. Install there: pip install",
        ) as refusal:
            workflow.run(np.zeros((2000, 4), np.uint8), out=tmp_path / "run", client=client)
        assert "\n" not in str(refusal.value)


def test_nothing__is_uploaded_where_the_package_is(client, monkeypatch):
    monkeypatch.setattr(package_upload, "register_worker_plugin", None)
    upload_package(client)


def test_run__on_workers_without_the_package_gives_the_labels_of_a_local_one(tmp_path, client):
    """And a check there says before it what a run would meet."""
    images, _ = picture_set(n=1500)
    np.save(tmp_path / "images.npy", images)
    here = lean_run(tmp_path / "images.npy", tmp_path / "here", client)
    # As after an earlier run: what was compiled then is not compiled again.
    uploaded = tmp_path / "cache" / "overcluster" / "packages" / PackageUpload().digest
    shutil.copytree(FOLDER, uploaded / "workflow")
    with opened(tmp_path, n_workers=2) as (place, there):
        settings = {"compute.launcher": "address", "compute.scheduler_file": str(place.file)}
        config = load_config(None, settings, environment={}).config
        found = check_site(config, None, tmp_path / "there")
        assert found["problems"] == []
        assert found["writes_run"]
        settings = SETTINGS | LEAN
        run = workflow.run(
            tmp_path / "images.npy", out=tmp_path / "there", client=there, settings=settings
        )
        with workflow.Run(here.path).dataset as expected:
            assert_same_labels(run.dataset.load(), expected.load())
