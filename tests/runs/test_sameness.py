"""The same to the last bit: on any number of workers, for other blocks, and whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import subprocess
import time

import dask
import numpy as np
import pytest

from tests.conftest import FORKED, picture_set, spawn_cli
from tests.runs.helpers import make_run, only
from tests.runs.kills import (
    SET_WORDS,
    SMALL_BLOCKS,
    WorkerKiller,
    assert_same_results,
    open_workers,
)
from workflow.commands.status import status
from workflow.engine.executor import KILLED_RETRIES, Executor
from workflow.engine.progress import Progress
from workflow.errors import ComputeError
from workflow.runstore import RunStore

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def npy(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, picture_set(n=1600, seed=11)[0])
    return path


@pytest.fixture(scope="module")
def undisturbed(npy, client, tmp_path_factory):
    return make_run(npy, tmp_path_factory.mktemp("whole") / "run", client, **SMALL_BLOCKS)


def test_workers__none_two_and_seven_give_the_same(npy, undisturbed, tmp_path):
    """`undisturbed` was made by two."""
    assert_same_results(undisturbed, make_run(npy, tmp_path / "here", None, **SMALL_BLOCKS))
    with open_workers(7) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 7
        again = make_run(npy, tmp_path / "there", client, **SMALL_BLOCKS)
    assert_same_results(undisturbed, again)


def test_blocks__of_bytes_give_the_same_moments_and_components(npy, undisturbed, client, tmp_path):
    """Sums of integers are exact, however they are cut; what is drawn block by block is not the same."""
    names = ["mean", "components", "explained_variance", "moments_sum", "moments_second"]
    loaded = undisturbed.read_model(*names)
    for block_rows in (97, 1000, 1600):
        with only("ingest", "pca"):
            again = make_run(npy, tmp_path / str(block_rows), client, block_rows=block_rows)
        for name, ours, theirs in zip(names, loaded, again.read_model(*names), strict=True):
            assert ours.tobytes() == theirs.tobytes(), (name, block_rows)


def kill_workers(npy, undisturbed, folder, n_kills, seed):
    """Make runs until so many workers have been killed; hold each against the undisturbed one."""
    with open_workers(3) as client, WorkerKiller(client, n_kills, seed) as killer:
        n_runs = 0
        while killer.n_killed < n_kills:
            again = make_run(npy, folder / f"run{n_runs}", client, **SMALL_BLOCKS)
            n_runs += 1
            assert_same_results(undisturbed, again)
    log.info("seed %s: %s workers killed in %s runs", seed, killer.n_killed, n_runs)


def test_kills__of_workers_change_nothing(npy, undisturbed, tmp_path):
    kill_workers(npy, undisturbed, tmp_path, 6, seed=1)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(2**32)])
def test_soak__kills_of_sixty_workers(npy, undisturbed, tmp_path, seed):
    kill_workers(npy, undisturbed, tmp_path, 60, seed)


#: Where a run is killed: as soon as this file has so many lines.
KILL_AT = [("pca/moments.jsonl", 2), ("overcluster/sample.jsonl", 1), ("labels/blocks.jsonl", 10)]
KILL_AT_TOO = [
    ("manifest.json", 1),
    ("pca/moments.jsonl", 20),
    ("projection/blocks.jsonl", 2),
    ("projection/blocks.jsonl", 20),
    ("neighbors/sorted.jsonl", 2),
    ("neighbors/blocks.jsonl", 10),
    ("overcluster/rounds.jsonl", 2),
    ("overcluster/assign-0.jsonl", 10),
    ("report.html", 1),
]


def kill_runs(npy, undisturbed, folder, places, draw=None):
    """Kill the whole run, client and workers, at one place after the other, each time resumed from there.

    With `draw` a little later than that, at random.
    """
    run, kills_at = folder / "run0", []
    environment = {
        **os.environ,
        "DASK_" + FORKED.upper().replace("-", "_").replace(".", "__"): "forkserver",
    }
    for file, n_lines in places:
        words = ("run", npy, "--out", run, *SET_WORDS, "--set", "compute.n_workers=2")
        process = spawn_cli(*words, env=environment)
        while process.poll() is None and not has_lines(run / file, n_lines):
            time.sleep(0.005)
        if draw is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, 1.5))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills_at.append(reached(run))
        _, err = process.communicate()
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, err
            assert_same_results(undisturbed, RunStore.open(run))
            run = folder / f"run{len(list(folder.iterdir()))}"
    log.info("killed at %s", ", ".join(kills_at))
    assert len(set(kills_at)) >= 2, kills_at
    return run


def has_lines(file, n_lines):
    """Return whether a file is there and has so many lines."""
    with contextlib.suppress(FileNotFoundError):
        return file.read_bytes().count(b"\n") >= n_lines
    return False


def reached(run):
    """Return which step a run is at."""
    if not (run / "manifest.json").exists():
        return "nothing"
    steps = status(run)["steps"]
    return next((name for name, step in steps.items() if step["state"] != "complete"), "the end")


def test_kills__of_the_whole_run_change_nothing(npy, undisturbed, client, tmp_path):
    place = kill_runs(npy, undisturbed, tmp_path, KILL_AT)
    assert_same_results(undisturbed, make_run(npy, place, client, **SMALL_BLOCKS))
    assert status(place, verify=True)["damaged"] == []


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("seed", [random.SystemRandom().randrange(2**32)])
def test_soak__kills_of_the_whole_run_at_many_moments(npy, undisturbed, client, tmp_path, seed):
    draw = random.Random(seed)
    places = [*KILL_AT, *KILL_AT_TOO] * 3
    place = kill_runs(npy, undisturbed, tmp_path, places, draw)
    assert_same_results(undisturbed, make_run(npy, place, client, **SMALL_BLOCKS))


class Kamikaze:
    """A task that kills its worker: the first time only, or always."""

    def __init__(self, folder, always):
        self.folder, self.always = folder, always

    def __call__(self, item):
        n_before = len(list(self.folder.iterdir()))
        (self.folder / f"{n_before}").touch()
        if item == 3 and (self.always or n_before < KILLED_RETRIES):
            os.kill(os.getpid(), signal.SIGKILL)
        return item * item


@pytest.mark.parametrize("always", [False, True])
def test_killed__tasks_are_tried_again_and_then_given_up(always, tmp_path):
    (tmp_path / "calls").mkdir()
    # Every death counts: what survives it does so by our own tries.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        open_workers(1) as client,
    ):
        executor = Executor(client, Progress(enabled=False), tmp_path)
        task = Kamikaze(tmp_path / "calls", always)
        if always:
            with pytest.raises(ComputeError, match=f"{KILLED_RETRIES + 1} died over one task"):
                executor.map(task, [3])
        else:
            assert executor.map(task, [3]) == [9]
    assert len(list((tmp_path / "calls").iterdir())) == KILLED_RETRIES + 1


def test_killed__all_workers_for_good_is_told(tmp_path):
    with (
        dask.config.set({"distributed.scheduler.no-workers-timeout": "1s"}),
        open_workers(1) as client,
    ):
        executor = Executor(client, Progress(enabled=False), tmp_path)
        client.cluster.scale(0)
        while client.cluster.scheduler.workers:
            time.sleep(0.05)
        with pytest.raises(ComputeError, match=r"none is left\. Run the same command again"):
            executor.map(abs, [1])


def test_two__runs_on_one_folder_are_refused(npy, tmp_path):
    """This process holds the folder, another one comes."""
    place = tmp_path / "run"
    with RunStore.create(place).lock():
        process = spawn_cli("run", npy, "--out", place, *SET_WORDS)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert f"one command at a time may write {place}; process {os.getpid()} on" in err
