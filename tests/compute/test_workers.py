"""Calls on all workers: one that leaves meanwhile is left out, an error on a worker is raised."""

import os
import signal
from pathlib import Path

import pytest
from distributed.diagnostics.plugin import WorkerPlugin

from tests.runs.kills import open_workers
from workflow.compute.workers import register_worker_plugin, run_on_workers


def die_if_first(mark):
    """End the worker that comes first, as a kill does; return the process of the others."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def fail():
    msg = "not here"
    raise ValueError(msg)


class Deadly(WorkerPlugin):
    """Ends the first worker that it is set up on, and tells of the others."""

    name = "deadly"

    def __init__(self, folder):
        self.folder = folder

    def setup(self, worker):
        die_if_first(self.folder / "mark")
        (self.folder / str(os.getpid())).touch()


@pytest.fixture(scope="module")
def three():
    with open_workers(3) as client:
        yield client


def test_run_on_workers__leaves_out_who_dies(three, tmp_path):
    three.wait_for_workers(3)
    before = run_on_workers(three, os.getpid)
    found = run_on_workers(three, die_if_first, str(tmp_path / "mark"))
    assert len(before) == 3
    assert len(found) == 2
    assert found.items() <= before.items()


def test_run_on_workers__raises_what_a_worker_raises(three):
    with pytest.raises(ValueError, match="not here"):
        run_on_workers(three, fail)


def test_register_worker_plugin__reaches_who_stays_and_who_comes(three, tmp_path):
    three.wait_for_workers(3)
    register_worker_plugin(three, Deadly(tmp_path))
    three.wait_for_workers(3)
    there = set(run_on_workers(three, os.getpid).values())
    assert {int(path.name) for path in tmp_path.iterdir() if path.name != "mark"} >= there
