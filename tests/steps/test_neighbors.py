"""Nearest neighbours of a run: against brute force, whoever computes them, and after a kill."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import workflow
from tests.conftest import PROJECT, last_json
from tests.neighbors.references import by_brute_force
from tests.runs.helpers import copy_of, only
from tests.runs.kills import open_workers
from workflow import steps
from workflow.cli import main
from workflow.commands.run import run_workflow
from workflow.commands.status import status
from workflow.engine.executor import Executor
from workflow.engine.plan import Sizes, plan_tasks
from workflow.engine.progress import Progress
from workflow.errors import StoreError
from workflow.neighbors import nearest_neighbors
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import StoredRows, open_images
from workflow.steps import load_config, neighbors

FEW = ("ingest", "pca", "projection", "neighbors")
#: The command line, with those steps alone; stopped for good in the middle of a pass.
KILLED_PROGRAM = """
import os, sys
from workflow import steps
from workflow.cli import main
from workflow.engine.executor import Executor
steps.STEPS[:] = [s for s in steps.STEPS if s.name in {few}]
whole = Executor.run
def stopped(self, name, function, items, *, journal, n_rows):
    if name != {killed!r}:
        return whole(self, name, function, items, journal=journal, n_rows=n_rows)
    whole(self, name, function, dict(list(items.items())[:1]), journal=journal, n_rows=n_rows)
    os._exit(9)
Executor.run = stopped
sys.exit(main(sys.argv[1:]))
"""


#: Pass -> its journal.
JOURNALS = {
    "sort": "sorted",
    "leaves": "leaves",
    "search": "found",
    "in the order of the images": "blocks",
}


@pytest.fixture
def few_steps():
    """Only the steps that neighbours are made from."""
    with only(*FEW):
        yield


@pytest.fixture(scope="module")
def images():
    """Two thousand images a region: clouds of several sizes, copies, and lone ones."""
    rng = np.random.default_rng(4)
    center = rng.normal(size=(12, 30)) * 6
    spread = np.geomspace(0.2, 3, 12)
    kind = rng.integers(0, 12, 21_000)
    found = center[kind] + rng.normal(size=(21_000, 30)) * spread[kind, None]
    found[rng.choice(21_000, 3000, replace=False)] = found[5]
    return np.round(found * 16).astype(np.float32)


@pytest.fixture(scope="module")
def npy(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, images)
    return path


def run_few(images, out, client, *, n_components=10, block_rows=512, **settings):
    settings = {f"neighbors.{name}": value for name, value in settings.items()}
    settings |= {"pca.n_components": n_components, "block_rows": block_rows}
    loaded = load_config(None, settings, environment={})
    return run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))


def neighbors_of(store):
    with xr.open_zarr(store.path / "neighbors.zarr") as found:
        return found.load()


def assert_same_neighbors(first, second):
    """Hold the neighbours of two runs against each other, bit for bit."""
    for name, array in neighbors_of(first).items():
        np.testing.assert_array_equal(array, neighbors_of(second)[name], err_msg=name)


def scores_of(store):
    scores = StoredRows.open(store.path / "projection/scores.zarr", "scores")
    return scores.read(0, scores.n_samples)


@pytest.fixture(scope="module")
def exact(npy, client, tmp_path_factory):
    with only(*FEW):
        return run_few(npy, tmp_path_factory.mktemp("exact") / "run", client, exact_up_to=10**6)


@pytest.fixture(scope="module")
def approximate(npy, client, tmp_path_factory):
    with only(*FEW):
        return run_few(npy, tmp_path_factory.mktemp("near") / "run", client, exact_up_to=0)


@pytest.fixture(params=["exact", "approximate"])
def whole(request):
    return request.getfixturevalue(request.param)


def exact_up_to(store):
    return {"exact_up_to": store.manifest.config["neighbors.exact_up_to"]}


def test_neighbors__are_those_of_all_stored_scores(exact):
    found, scores = neighbors_of(exact), scores_of(exact)
    assert found["index"].dtype == np.int32
    assert found["distance"].dtype == np.float32
    index, distance = nearest_neighbors(scores, 15)
    np.testing.assert_array_equal(found["index"], index)
    np.testing.assert_array_equal(found["distance"], distance)
    rows = np.random.default_rng(0).choice(len(scores), 300, replace=False)
    true_index, true_distance = by_brute_force(scores, 15, rows)
    np.testing.assert_allclose(distance[rows], true_distance, rtol=2e-6)
    assert (index[rows] == true_index).mean() > 0.999
    assert exact.step("neighbors").details["recall"] == 1
    left = {path.name for path in (exact.path / "neighbors").iterdir()}
    journals = {f"{name}.jsonl" for name in ("sorted", "leaves", "effort", "found", "blocks")}
    assert left == {"regions.npz", "regions.jsonl", *journals}


def test_neighbors__are_the_same_for_other_blocks_and_workers(few_steps, npy, whole, tmp_path):
    with open_workers(1) as single:
        store = run_few(npy, tmp_path / "run", single, **exact_up_to(whole), block_rows=3000)
    assert_same_neighbors(store, whole)


def test_neighbors__beyond_the_exact_ones_are_as_many_as_the_summary_says(
    few_steps, npy, client, tmp_path
):
    store = run_few(npy, tmp_path / "run", client, exact_up_to=0, recall=0.9)
    details = store.step("neighbors").details
    assert not details["is_exact"]
    assert 0.9 <= details["recall"] < 0.95
    # Rows are searched in half the bytes, which costs digits where a region is wide.
    true = nearest_neighbors(scores_of(store), 15)[1]
    found = neighbors_of(store)["distance"].values
    assert abs((found <= true[:, -1:] * 1.002).mean() - details["recall"]) < 0.03
    off = np.abs(found[:, 0] - true[:, 0])
    assert np.median(off) < 5e-3 * np.median(true[:, 0])


class StopHereError(Exception):
    """Stands for a kill at a known place."""


def stops_in(stopped):
    """Return how tasks are run, up to the first one of a pass."""
    run_tasks = Executor.run

    def run(executor, name, function, items, *, journal, n_rows):
        if name != stopped:
            return run_tasks(executor, name, function, items, journal=journal, n_rows=n_rows)
        few = dict(list(items.items())[:1])
        run_tasks(executor, name, function, few, journal=journal, n_rows=n_rows)
        raise StopHereError

    return run


def test_neighbors__go_on_after_a_stop_in_each_pass(
    few_steps, npy, whole, client, tmp_path, monkeypatch
):
    """One folder, stopped after the first task of each pass in turn."""
    for stopped in JOURNALS:
        with monkeypatch.context() as patch:
            patch.setattr(Executor, "run", stops_in(f"neighbors: {stopped}"))
            with pytest.raises(StopHereError):
                run_few(npy, tmp_path / "run", client, **exact_up_to(whole))
        assert RunStore.open(tmp_path / "run").step("neighbors").state == "partial"
    again = run_few(npy, tmp_path / "run", client, **exact_up_to(whole))
    assert_same_neighbors(again, whole)
    assert status(again.path, verify=True)["damaged"] == []
    # What was finished before was not done again: it has one line.
    for journal in JOURNALS.values():
        lines = (again.path / f"neighbors/{journal}.jsonl").read_text().splitlines()
        tasks = [json.loads(line)["index"] for line in lines[1:]]
        assert sorted(tasks) == list(range(len(tasks)))
        assert len(tasks) > 1


def test_neighbors__go_on_after_a_kill(few_steps, npy, exact, client, tmp_path):
    """Of a process of its own; the rest is as after a stop."""
    settings = {"pca.n_components": 10, "block_rows": 512, "compute.n_workers": 1}
    settings |= {"neighbors.exact_up_to": 10**6}
    words = [w for key, value in settings.items() for w in ("--set", f"{key}={value}")]
    program = KILLED_PROGRAM.format(few=FEW, killed="neighbors: search")
    command = [sys.executable, "-c", program, "run", npy, "--out", tmp_path / "run", *words]
    ended = subprocess.run(
        list(map(str, command)), cwd=PROJECT, check=False, capture_output=True, text=True
    )
    assert ended.returncode == 9, ended.stderr
    assert_same_neighbors(run_few(npy, tmp_path / "run", client, exact_up_to=10**6), exact)


def test_neighbors__damage_is_found(exact, tmp_path):
    place = copy_of(exact, tmp_path / "run").path
    shard = place / "neighbors.zarr/distance/c/1/0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.write_bytes(content)
    (damage,) = status(place, verify=True)["damaged"]
    assert damage.startswith("neighbors.zarr/distance, rows ")


@pytest.mark.parametrize("n", [2, 16])
def test_neighbors__of_fewer_images_than_neighbours(few_steps, client, tmp_path, n):
    images = np.random.default_rng(n).integers(0, 255, (n, 6)).astype(np.uint8)
    np.save(tmp_path / "few.npy", images)
    store = run_few(tmp_path / "few.npy", tmp_path / "few", client, n_components=1, k=20)
    found = neighbors_of(store)
    assert (found["index"].values[:, n - 1 :] == -1).all()
    assert np.isinf(found["distance"].values[:, n - 1 :]).all()
    others = np.sort(found["index"].values[:, : n - 1], axis=1)
    for number, row in enumerate(others):
        assert sorted([*row, number]) == list(range(n))


def test_neighbors__of_equal_images_are_the_first_ones(few_steps, client, tmp_path):
    images = np.full((3000, 6), 7, np.uint8)
    images[2000:] = 9
    np.save(tmp_path / "equal.npy", images)
    store = run_few(tmp_path / "equal.npy", tmp_path / "equal", client, n_components=1, k=3)
    found = neighbors_of(store)
    assert (found["distance"].values == 0).all()
    index = found["index"].values
    assert index[[0, 1, 3, 1999]].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 2], [0, 1, 2]]
    assert index[[2000, 2999]].tolist() == [[2001, 2002, 2003], [2000, 2001, 2002]]


def test_neighbors__that_are_not_wanted(few_steps, npy, client, tmp_path, capsys):
    store = run_few(npy, tmp_path / "run", client, enabled=False)
    assert status(store.path)["steps"]["neighbors"]["state"] == "complete"
    assert "index" not in neighbors_of(store)
    with pytest.raises(StoreError, match=r"has none: neighbors.enabled is false. Run it again"):
        _ = workflow.Run(store.path).neighbors
    assert main(["neighbors", str(store.path), "--of", "3"]) == 2
    assert "--set neighbors.enabled=true" in capsys.readouterr().err


def test_neighbors__are_left_out_once_a_sample_shows_that_they_take_too_long(
    few_steps, client, tmp_path, monkeypatch
):
    # Noise in all features: neighbours lie in many leaves.
    noise = np.random.default_rng(5).normal(size=(6_000, 30)).astype(np.float32)
    np.save(tmp_path / "noise.npy", noise)
    hard = {"exact_up_to": 0, "n_components": 25, "recall": 0.98}
    wanted = run_few(tmp_path / "noise.npy", tmp_path / "wanted", client, enabled=True, **hard)
    searched = wanted.step("neighbors").details["leaves_searched"]
    config = load_config(None, wanted.manifest.config, environment={}).config
    sizes = Sizes.of(steps.STEPS, open_images(tmp_path / "noise.npy"), config)
    sizes.dims["component"] = 25
    usual, needed = neighbors.seconds(sizes), neighbors.seconds(sizes, searched)
    assert needed > usual
    monkeypatch.setattr(neighbors, "AUTO_SECONDS", (usual + needed) / 2)
    store = run_few(tmp_path / "noise.npy", tmp_path / "run", client, **hard)
    details = store.step("neighbors").details
    assert not details["found"]
    assert "neighbors.enabled=true takes them" in details["reason"]
    assert not list((tmp_path / "run" / "neighbors").glob("*/"))


def test_neighbors__are_planned_with_memory_and_disk(npy):
    config = load_config(environment={}).config
    sizes = Sizes.of(steps.STEPS, open_images(npy), config)
    passes = {t.name: t for t in plan_tasks(steps.STEPS, sizes) if t.name.startswith("neighbors")}
    assert [name.partition(": ")[2] for name in passes] == [
        "sample",
        "sort",
        "leaves",
        "search",
        "gather",
    ]
    assert passes["neighbors: gather"].bytes_written == 21_000 * 15 * 8
    off = load_config(None, ["neighbors.enabled=false"], environment={}).config
    sizes = Sizes.of(steps.STEPS, open_images(npy), off)
    assert not [t for t in plan_tasks(steps.STEPS, sizes) if t.name.startswith("neighbors")]


def test_neighbors_command__lists_files_nearest_first(client, tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 6, 6, 3)).astype(np.uint8)
    images[31] = images[8]
    images[31, 0, 0, 0] ^= 1
    (tmp_path / "pictures").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{number:02d}.png")
    shape = {"ingest.shape": "6,6,3"}
    run = workflow.run(
        tmp_path / "pictures", tmp_path / "run", client=client, settings=shape, progress=False
    )
    assert main(["neighbors", str(run.path), "--of", "8", "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert found["path"].endswith("08.png")
    assert found["neighbors"][0]["sample"] == 31
    assert found["neighbors"][0]["path"].endswith("31.png")
    assert len(found["neighbors"]) == 15
    assert found["recall"] == 1
    stored = run.neighbors
    assert stored["index"].data[8].compute().tolist() == [n["sample"] for n in found["neighbors"]]
    assert main(["neighbors", str(run.path), "--of", "8"]) == 0
    assert "31.png" in capsys.readouterr().out.splitlines()[1]
    assert main(["neighbors", str(run.path), "--of", "40"]) == 2
    assert "an image of the run, 0 to 39; got 40" in capsys.readouterr().err
    assert json.loads((run.path / "summary.json").read_text())["neighbors"]["k"] == 15
