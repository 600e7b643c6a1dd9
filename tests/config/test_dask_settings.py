"""What the user's configuration of Dask changes is named where it may be the cause."""

import subprocess
import sys
from pathlib import Path

import dask.config
import numpy as np
import pytest

from workflow.config import describe_dask_settings
from workflow.engine.plan import check_memory
from workflow.errors import MemoryBudgetError
from workflow.ingest import open_input
from workflow.steps import STEPS, load_config

GIB = 2**30
OVERCLUSTER = Path(sys.executable).with_name("overcluster")


def test_describe__names_what_differs_and_may_harm(monkeypatch):
    monkeypatch.setattr(dask.config, "collect", dict)
    assert describe_dask_settings() == ""
    given = {
        "distributed": {
            "dashboard": {"link": "/proxy"},
            "worker": {"memory": {"terminate": 0.95, "pause": 0.3}},
            "comm": {"require_encryption": None, "timeouts": {"connect": "1ms"}},
        }
    }
    monkeypatch.setattr(dask.config, "collect", lambda: given)
    said = describe_dask_settings()
    assert "memory.pause=0.3, distributed.comm.timeouts.connect=1ms: try" in said
    assert "link" not in said
    assert "terminate" not in said


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({}, None),
        ({"terminate": False, "pause": False}, None),
        ({"terminate": 0.9, "pause": 0.7}, None),
        ({"terminate": 0.05}, "sets distributed.worker.memory.terminate to 0.05"),
        ({"pause": 0.1}, "sets distributed.worker.memory.pause to 0.1"),
    ],
)
def test_check_memory__a_threshold_that_stops_any_worker_is_the_cause(settings, refused, tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((100, 8), np.uint8))
    images = open_input(tmp_path / "images.npy").source
    config = load_config(environment={}).config
    with dask.config.set({f"distributed.worker.memory.{k}": v for k, v in settings.items()}):
        if refused is None:
            check_memory(STEPS, images, config, 2 * GIB)
            return
        with pytest.raises(MemoryBudgetError, match=refused):
            check_memory(STEPS, images, config, 2 * GIB)
        check_memory(STEPS, images, config, 100 * GIB)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("distributed: {worker: [\n", "Dask must be able to read its configuration"),
        ("distributed: {logging: 5}\n", "Dask must be able to use its configuration"),
    ],
)
def test_command__a_broken_configuration_of_dask_is_one_line(content, words, tmp_path, monkeypatch):
    (tmp_path / "dask.yaml").write_text(content)
    monkeypatch.setenv("DASK_CONFIG", str(tmp_path))
    ended = subprocess.run(
        [OVERCLUSTER, "config"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert words in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_command__works_beside_a_file_of_the_packages_name(tmp_path):
    (tmp_path / "workflow.py").write_text("raise SystemExit('the file of the user')\n")
    words = [OVERCLUSTER, "config", "--set", "seed=5"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "seed" in ended.stdout
