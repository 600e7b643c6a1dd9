"""The map of a run: of images and of centroids, resumed, turned to the one before, and by `predict`."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.conftest import picture_set
from tests.runs.helpers import assert_same_labels, copy_of, labels_of, make_run, only
from workflow import steps
from workflow.commands.predict import predict
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.engine.executor import Executor
from workflow.engine.plan import Sizes, plan_tasks
from workflow.engine.progress import Progress
from workflow.runstore import RunStore, zarr_io
from workflow.runstore.zarr_io import open_images
from workflow.steps import load_config

SILENT = Progress(enabled=False)
#: Steps without the report, and settings without what these tests are not about.
NAMES = [step.name for step in steps.STEPS if step.name != "report"]
FEW = {"tree.n_resamples": 0, "families.enabled": False}
OF = {"images": {}, "centroids": {"map.images_up_to": 0, "overcluster.n_centroids": 150}}


def run_of(images, out, client, **settings):
    with only(*NAMES):
        return make_run(images, out, client, **{**FEW, **settings})


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Images of eight sources, some of them many times, and the source of each."""
    images, source = picture_set(n=2400)
    images[-40:], source[-40:] = images[7], source[7]
    path = tmp_path_factory.mktemp("given") / "images.npy"
    np.save(path, images)
    return path, images, source


@pytest.fixture(scope="module", params=OF)
def run(request, given, client, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    return run_of(given[0], out, client, **OF[request.param]), OF[request.param]


def places_of(store):
    """Return x and y of all images."""
    labels = labels_of(store)
    return np.column_stack([labels["x"].values, labels["y"].values])


def nearest_on(places, k=10):
    sq = np.square(places[:, None] - places[None]).sum(-1)
    np.fill_diagonal(sq, np.inf)
    return np.argpartition(sq, k, axis=1)[:, :k]


def test_map__keeps_the_images_of_a_source_together(run, given):
    places, source = places_of(run[0]), given[2]
    assert places.dtype == np.float32
    assert (source[nearest_on(places)] == source[:, None]).mean() >= 0.98
    assert len(np.unique(places[-40:], axis=0)) == 1  # equal images
    assert np.array_equal(places[-1], places[7])


def test_map__is_whole_and_described(run):
    store, _ = run
    assert not status(store.path, verify=True)["damaged"]
    with xr.open_zarr(store.path / "map.zarr") as stored:
        assert np.array_equal(stored["x"].values, places_of(store)[:, 0])
        assert stored["y"].attrs["long_name"].startswith("place of the image")


def test_predict__gives_the_images_of_the_run_their_places(run, given, tmp_path):
    store, images = run[0], given[1]
    rows = np.random.default_rng(0).permutation(len(images))[:300]
    predict(store.path, images[rows], tmp_path / "labels.zarr", progress=SILENT)
    found = [zarr_io.read_array(tmp_path / "labels.zarr", name) for name in "xy"]
    assert np.array_equal(np.column_stack(found), places_of(store)[rows])


def test_predict__places_new_images_beside_those_like_them(run, given, tmp_path):
    store, (_, images, source) = run[0], given
    rng = np.random.default_rng(5)
    near = (images[:200] + rng.normal(0, 2, images[:200].shape)).clip(0, 255).astype(np.uint8)
    predict(store.path, near, tmp_path / "labels.zarr", progress=SILENT)
    x, y = (zarr_io.read_array(tmp_path / "labels.zarr", name) for name in "xy")
    places = places_of(store)
    sq = np.square(np.column_stack([x, y])[:, None] - places[None]).sum(-1)
    assert (source[sq.argmin(1)] == source[:200]).mean() >= 0.98


def test_recut__keeps_the_map(run, client, tmp_path):
    store = copy_of(run[0], tmp_path / "run")
    before = places_of(store)
    with only(*NAMES, "report"):
        recut(store.path, n_clusters=3, client=client)
    assert np.array_equal(places_of(store), before)


def test_map__goes_on_after_a_kill_with_the_same_bits(run, given, client, tmp_path, monkeypatch):
    whole, settings = run
    done = []

    def first_task_only(self, name, function, items, *, journal, n_rows):
        if name != "map":
            return execute(self, name, function, items, journal=journal, n_rows=n_rows)
        done.append(len(items))
        some = dict(list(items.items())[:2]) if len(done) == 1 else items
        execute(self, name, function, some, journal=journal, n_rows=n_rows)
        if len(done) == 1:
            raise KeyboardInterrupt
        return journal.entries

    execute = Executor.run
    monkeypatch.setattr(Executor, "run", first_task_only)
    with pytest.raises(KeyboardInterrupt):
        run_of(given[0], tmp_path / "run", client, **settings)
    stopped = RunStore.open(tmp_path / "run")
    assert stopped.step("map").state == "partial"
    assert len(stopped.noted("map", "blocks")) == 2
    again = run_of(given[0], tmp_path / "run", client, **settings)
    assert_same_labels(labels_of(again), labels_of(whole))


def test_another_seed__is_turned_to_the_map_before(run, given, client, tmp_path):
    store, settings = copy_of(run[0], tmp_path / "run"), run[1]
    # The map before, as if it had come out turned by a right angle, mirrored and moved.
    old = places_of(store)[:, ::-1] * np.float32([1, -1]) + np.float32([40, 7])
    old = (old * np.float32([1, -1])).astype(np.float32)
    for name, axis in zip("xy", old.T, strict=True):
        zarr_io.write_rows(store.path / "map.zarr", name, 0, np.ascontiguousarray(axis))
    places = places_of(run_of(given[0], store.path, client, **settings, seed=3))
    assert not np.array_equal(places, old)
    assert np.square(places - old).sum() <= 0.1 * np.square(old - old.mean(axis=0)).sum()


def test_blocks__change_no_bit(run, given, client, tmp_path):
    store, settings = run
    other = run_of(given[0], tmp_path / "run", client, **settings, block_rows=700)
    assert_same_labels(labels_of(other)[["x", "y"]], labels_of(store)[["x", "y"]])


def test_without_a_map__labels_have_no_places(run, given, client, tmp_path):
    store, settings = run
    other = run_of(
        given[0],
        copy_of(store, tmp_path / "run").path,
        client,
        **settings,
        **{"map.enabled": False},
    )
    assert "x" not in labels_of(other)
    predict(other.path, given[1][:3], tmp_path / "labels.zarr", progress=SILENT)
    assert "x" not in zarr_io.array_names(tmp_path / "labels.zarr")
    assert not status(other.path, verify=True)["damaged"]


def test_verify__sees_a_damaged_place(run, tmp_path):
    store = copy_of(run[0], tmp_path / "run")
    y = zarr_io.read_array(store.path / "map.zarr", "y")
    zarr_io.write_rows(store.path / "map.zarr", "y", 0, y[:512] + np.float32(1))
    assert any("map.zarr/y" in line for line in status(store.path, verify=True)["damaged"])


def test_plan__tells_the_layout_and_the_places(given):
    for settings, n_passes in ({}, 2), ({"map.enabled": False}, 0):
        config = load_config(None, settings, environment={}).config
        sizes = Sizes.of(steps.STEPS, open_images(given[0]), config)
        passes = [task for task in plan_tasks(steps.STEPS, sizes) if task.name.startswith("map")]
        assert len(passes) == n_passes
