"""Families of a run by regions: against those of one task, whoever computes them, and after a kill."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from distributed import Client
from sklearn.metrics import adjusted_rand_score

from tests.families.conftest import sources
from workflow import steps
from workflow.commands.run import run_workflow
from workflow.commands.status import status
from workflow.engine.executor import Executor
from workflow.engine.plan import Sizes, plan_tasks
from workflow.engine.progress import Progress
from workflow.errors import ConfigError
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import open_images
from workflow.steps import families, load_config
from workflow.steps.families import FamiliesStep

FEW = ("ingest", "pca", "projection", "neighbors", "families")
#: Passes with several tasks here, in their order.
PASSES = ("places", "sorted-0-0", "solved-0", "sorted-1-0", "solved-1", "dimensions", "write")


class Killed(BaseException):
    """The end of a process, in the middle of a pass."""


@pytest.fixture
def few_steps():
    """Only the steps that families are made from."""
    every = list(steps.STEPS)
    steps.STEPS[:] = [step for step in every if step.name in FEW]
    yield
    steps.STEPS[:] = every


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Sources in a smooth cloud and many copies of one image; the source of each."""
    rows, source = sources(n_sources=60, n_single=2500, dimension=8)
    rows = np.concatenate([rows, np.repeat(rows[:1], 1200, axis=0)])
    order = np.random.default_rng(1).permutation(len(rows))
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, rows[order])
    return path, np.append(source, np.full(1200, -1))[order]


def run_few(images, out, client, *, block_rows=512, **settings):
    settings = {f"families.{name}": value for name, value in settings.items()}
    loaded = load_config(None, settings | {"block_rows": block_rows}, environment={})
    return run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))


def families_of(store):
    with xr.open_zarr(store.path / "families.zarr") as found:
        return found.load()


def test_families__by_regions_are_nearly_those_of_one_task(few_steps, images, client, tmp_path):
    path, source = images
    one = run_few(path, tmp_path / "one", client)
    several = run_few(path, tmp_path / "several", client, region_images=1500)
    real, details = source >= 0, several.step("families").details
    of_one, of_several = (families_of(store)["family"].values for store in (one, several))
    assert adjusted_rand_score(of_one[real], of_several[real]) > 0.95
    assert (of_several[real] >= 0).mean() > 0.9
    assert details["families"] == "found"
    assert details["n_families"] == of_several.max() + 1
    assert details["family_fraction"] == pytest.approx((of_several >= 0).mean())
    size, exemplars = several.read_model("family_size", "family_exemplars")
    assert np.array_equal(size, np.bincount(of_several[of_several >= 0]))
    assert (np.diff(size) <= 0).all()
    for number, rows in enumerate(exemplars):
        assert (of_several[rows[rows >= 0]] == number).all()
    strength = families_of(several)["family_strength"].values
    assert ((strength > 0) == (of_several >= 0)).all()
    assert {p.suffix for p in (several.path / "families").iterdir()} == {".jsonl", ".npz"}
    assert status(several.path, verify=True)["damaged"] == []


def test_families__by_regions_are_the_same_for_other_blocks_and_workers(
    few_steps, images, client, tmp_path
):
    one = run_few(images[0], tmp_path / "one", client, region_images=3000)
    with Client(n_workers=1, threads_per_worker=1, dashboard_address=":0") as single:
        other = run_few(images[0], tmp_path / "other", single, region_images=3000, block_rows=700)
    for name, array in families_of(one).items():
        np.testing.assert_array_equal(array, families_of(other)[name])


def test_families__by_regions_are_the_same_with_less_disk(
    few_steps, whole, images, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(families, "SORTED_BYTES", 250_000)
    store = run_few(images[0], tmp_path / "run", client, region_images=1500)
    assert (store.path / "families/sorted-1-2.jsonl").exists()
    for name, array in families_of(whole).items():
        np.testing.assert_array_equal(array, families_of(store)[name])


@pytest.fixture(scope="module")
def whole(images, client, tmp_path_factory):
    """A run by regions that nothing has stopped."""
    every = list(steps.STEPS)
    steps.STEPS[:] = [step for step in every if step.name in FEW]
    store = run_few(images[0], tmp_path_factory.mktemp("whole") / "run", client, region_images=1500)
    steps.STEPS[:] = every
    return store


@pytest.mark.parametrize("killed", PASSES)
def test_families__by_regions_go_on_after_a_kill(
    few_steps, whole, images, client, tmp_path, monkeypatch, killed
):
    run = Executor.run

    def stopped(self, name, function, items, *, journal, n_rows):
        if name != f"families: {killed}":
            return run(self, name, function, items, journal=journal, n_rows=n_rows)
        run(self, name, function, dict(list(items.items())[:1]), journal=journal, n_rows=n_rows)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "run", stopped)
        with pytest.raises(Killed):
            run_few(images[0], tmp_path / "run", client, region_images=1500)
    assert RunStore.open(tmp_path / "run").step("families").state == "partial"
    again = run_few(images[0], tmp_path / "run", client, region_images=1500)
    for name, array in families_of(whole).items():
        np.testing.assert_array_equal(array, families_of(again)[name])
    # What was finished before was not done again: it has one line.
    journal = "blocks" if killed == "write" else killed
    lines = (again.path / f"families/{journal}.jsonl").read_text().splitlines()
    tasks = [json.loads(line)["index"] for line in lines[1:]]
    assert sorted(tasks) == list(range(len(tasks)))
    assert len(tasks) > 1


def test_families__are_planned_by_regions_where_there_are_many(images):
    config = load_config(None, ["families.region_images=1000"], environment={}).config
    sizes = Sizes.of(steps.STEPS, open_images(images[0]), config)
    passes = [t for t in plan_tasks(steps.STEPS, sizes) if t.name.startswith("families")]
    planned = {t.name.partition(": ")[2] for t in passes}
    assert planned > {name.removesuffix("-0") for name in PASSES[:2]} | set(PASSES[-3:])
    one = load_config(environment={}).config
    sizes_one = Sizes.of(steps.STEPS, open_images(images[0]), one)
    passes = [t.name for t in plan_tasks(steps.STEPS, sizes_one) if t.name.startswith("families")]
    assert passes == ["families: find", "families: write"]
    assert FamiliesStep().growth(sizes) > 0


def test_families__by_modularity_are_refused_by_regions(few_steps, images, client, tmp_path):
    settings = {"enabled": True, "method": "modularity", "region_images": 1000}
    with pytest.raises(ConfigError, match=r"modularity needs all ties in one task, which .* 1000"):
        run_few(images[0], tmp_path / "run", client, **settings)
