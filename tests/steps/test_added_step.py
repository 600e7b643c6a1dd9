"""Another step is a file and a line: it is run, resumed, verified, planned, and has settings of its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import zarr

from tests.conftest import PROJECT
from tests.runs.helpers import LEAN, SETTINGS, copy_of, labels_of, make_run
from tests.steps.brightness import BrightnessSettings, BrightnessStep
from workflow.cli import main
from workflow.commands.status import status
from workflow.engine.plan import Sizes, plan_tasks
from workflow.errors import ConfigError
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import open_images
from workflow.steps import STEPS, load_config

#: The command line of a package that has the step; the second task of it stops the process for good.
KILLED_PROGRAM = """
import os, sys
from tests.steps import brightness
from workflow.cli import main
from workflow.engine.executor import Executor
from workflow.steps import STEPS
STEPS.append(brightness.BrightnessStep())
whole = Executor.run
def stopped(self, name, function, items, *, journal, n_rows):
    if name != "brightness":
        return whole(self, name, function, items, journal=journal, n_rows=n_rows)
    few = dict(list(items.items())[:2])
    whole(self, name, function, few, journal=journal, n_rows=n_rows)
    os._exit(9)
Executor.run = stopped
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def npy(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, pictures[0])
    return path


@pytest.fixture(scope="module")
def made_before(npy, client, tmp_path_factory):
    """A run of a version that does not know the step."""
    return make_run(npy, tmp_path_factory.mktemp("before") / "run", client, **LEAN)


@pytest.fixture
def added():
    """The one line."""
    STEPS.append(BrightnessStep())
    yield
    STEPS.pop()


def brightness_of(store):
    return zarr.open_group(store.path / "brightness/brightness.zarr", mode="r")["brightness"][:]


@pytest.fixture
def with_step(added, npy, made_before, client, tmp_path):
    """A copy of that run, gone on with by a version that has the step."""
    return make_run(npy, copy_of(made_before, tmp_path / "run").path, client)


def test_added_step__is_absent_in_an_old_run_which_opens(added, made_before):
    states = status(made_before.path)["steps"]
    assert states.pop("brightness")["state"] == "absent"
    assert {step["state"] for step in states.values()} == {"complete"}


def test_added_step__runs_and_makes_nothing_else_stale(with_step, pictures, caplog):
    flat = pictures[0].reshape(len(pictures[0]), -1)
    expected = np.percentile(flat, 50, axis=1).astype(np.float32)
    np.testing.assert_array_equal(brightness_of(with_step), expected)
    assert with_step.step("brightness").seconds > 0
    assert status(with_step.path, verify=True)["damaged"] == []


def test_added_step__is_kept_and_named_by_a_version_without_it(with_step):
    STEPS.pop()
    try:
        step = status(with_step.path)["steps"]["brightness"]
        assert step["state"] == "unknown"
        assert step["reason"] == "this version does not know the step"
        with RunStore.open(with_step.path).lock():
            pass
        assert RunStore.open(with_step.path).step("brightness").state == "complete"
    finally:
        STEPS.append(BrightnessStep())


def test_added_step__is_stale_when_its_setting_changes_and_alone(with_step, npy, client, caplog):
    before = labels_of(with_step)["label"].values
    with caplog.at_level("INFO", logger="workflow"):
        again = make_run(npy, with_step.path, client, **{"brightness.percentile": 90})
    stale = [message for message in caplog.messages if "is stale" in message]
    assert stale == ["brightness is stale: brightness.percentile was 50.0, is 90.0"]
    assert (labels_of(again)["label"].values == before).all()
    assert (brightness_of(again) > 0).any()


def test_added_step__damage_is_found(with_step, npy, client):
    shard = with_step.path / "brightness/brightness.zarr/brightness/c/3"
    content = bytearray(shard.read_bytes())
    content[10] ^= 1
    shard.write_bytes(content)
    damaged = status(with_step.path, verify=True)["damaged"]
    assert len(damaged) == 1
    assert damaged[0].startswith("brightness.zarr/brightness, rows 1536 to 2047: ")
    content[10] ^= 1
    shard.write_bytes(content)
    assert status(with_step.path, verify=True)["damaged"] == []


def test_added_step__goes_on_after_a_kill(added, npy, client, tmp_path):
    settings = SETTINGS | LEAN
    words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
    words = ["run", npy, "--out", tmp_path / "run", "--set", "compute.n_workers=1", *words]
    command = [sys.executable, "-c", KILLED_PROGRAM, *map(str, words)]
    killed = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert killed.returncode == 9, killed.stderr
    store = RunStore.open(tmp_path / "run")
    assert store.step("brightness").state == "partial"
    assert len(store.noted("brightness", "blocks")) == 2
    again = make_run(npy, tmp_path / "run", client)
    assert len(again.noted("brightness", "blocks")) == 8
    assert again.step("brightness").counters["bytes_written"] == 0
    assert status(again.path, verify=True)["damaged"] == []


def test_added_step__is_planned_with_its_memory(added, npy):
    sizes = Sizes.of(STEPS, open_images(npy), load_config(environment={}).config)
    task = plan_tasks(STEPS, sizes)[-1]
    assert task.name == "brightness"
    assert task.bytes_read == npy.stat().st_size - 128
    assert task.memory_bytes > sizes.block_bytes


def test_added_step__has_a_section_of_the_settings(added, capsys):
    config = load_config(None, ["brightness.percentile=75"], environment={}).config
    assert config.section(BrightnessSettings).percentile == 75
    with pytest.raises(
        ConfigError, match=r"`brightness\.percentile` must be less than or equal to"
    ):
        load_config(None, ["brightness.percentile=101"], environment={})
    assert main(["config"]) == 0
    assert "brightness.percentile" in capsys.readouterr().out
