"""What people expect of a tool of this field: arrays of every kind, shells, logs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import dask.array as da
import numpy as np
import overcluster.accessors  # noqa: F401 - xarray then knows us
import pytest
import xarray as xr

from tests.conftest import PROJECT
from tests.runs.helpers import LEAN, SETTINGS, assert_same_labels, labels_of, make_run
from workflow.runstore import RunStore


@pytest.fixture(scope="module")
def made(client, tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("conventions")
    return make_run(pictures[0], folder / "run", client, **LEAN)


@pytest.mark.parametrize("kind", ["array", "dataset"])
def test_accessor__runs_on_what_it_is_asked_of(kind, made, client, tmp_path, pictures):
    images = xr.DataArray(
        da.from_array(pictures[0], chunks=(700, -1, -1, -1)), dims=["sample", "y", "x", "c"]
    )
    asked = images if kind == "array" else xr.Dataset({"images": images, "other": ("z", [1.0])})
    run = asked.overcluster.run(tmp_path / "run", client=client, settings={**SETTINGS, **LEAN})
    assert_same_labels(labels_of(RunStore.open(run.path)), labels_of(made))


@pytest.mark.parametrize("planned", [False, True], ids=["legacy", "expressions"])
def test_dask_arrays__of_both_kinds_are_the_images(planned, tmp_path):
    # Dask chooses the kind when dask.array is imported.
    code = """
import dask.array as da, numpy as np, sys
from workflow.ingest import ingest, open_source
from workflow.ingest.arrays import array_source
images = np.random.default_rng(0).integers(0, 256, (3000, 4, 4), dtype="uint8")
lazy = da.concatenate([da.from_array(images[:1000], chunks=300), da.from_array(images[1000:], chunks=(900, 2, 4))])
print(type(lazy).__module__, "expr" in dir(lazy))
ingest(array_source(lazy), sys.argv[1])
back = open_source(sys.argv[1])
assert (back.read(0, 3000).reshape(images.shape) == images).all()
"""
    environment = {**os.environ, "DASK_ARRAY__QUERY_PLANNING": str(planned)}
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "images.zarr"],
        cwd=PROJECT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(planned)


def test_log_format__makes_every_line_json(on_client, run_cli, tmp_path, pictures):
    np.save(tmp_path / "images.npy", pictures[0])
    lean = [
        word
        for key, value in {**SETTINGS, **LEAN}.items()
        for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    words = ("run", "images.npy", "--out", "run", "--set", "compute.log_format=json")
    status, _, err = run_cli(*words, *lean)
    assert status == 0, err
    lines = [json.loads(line) for line in err.splitlines()]
    done = {line["step"]: line["seconds"] for line in lines if "seconds" in line}
    assert {"ingest", "pca", "labels"} <= set(done)
    assert {line["level"] for line in lines} == {"info"}
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times)
    status, _, err = run_cli("predict", "run", "nothing.npy", "--out", "p.zarr", *words[-2:])
    assert status == 2
    (line,) = map(json.loads, err.splitlines())
    assert line["level"] == "error"
    assert "nothing.npy" in line["message"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion__is_there_for_the_shells_that_are_named(shell):
    words = {"COMP_WORDS": "overcluster pre", "COMP_CWORD": "1"}
    if shell == "fish":
        words["COMP_CWORD"] = "pre"
    for how in ("source", "complete"):
        environment = {**os.environ, **words, "_OVERCLUSTER_COMPLETE": f"{shell}_{how}"}
        program = shutil.which("overcluster", path=Path(sys.executable).parent)
        done = subprocess.run(
            [program], env=environment, capture_output=True, text=True, check=True
        )
        assert ("_OVERCLUSTER_COMPLETE" if how == "source" else "predict") in done.stdout


def test_script__of_standard_input_is_told_where_to_go(tmp_path):
    np.save(tmp_path / "images.npy", np.zeros((100, 4, 4), np.uint8))
    code = (
        'import workflow\nif __name__ == "__main__":\n    workflow.run("images.npy", out="run")\n'
    )
    done = subprocess.run(
        [sys.executable, "-"], input=code, cwd=tmp_path, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("workflow.errors.ComputeError: worker processes")
    assert not (tmp_path / "run").exists()
