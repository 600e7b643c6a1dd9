"""Components and all behind them found anew of all images: as by a run of them, with the ids of before."""

from __future__ import annotations

import json

import numpy as np
import pytest

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import copy_of, labels_of, make_run
from workflow.commands.run import read_summary
from workflow.commands.status import status
from workflow.commands.update import describe, undo_update, update
from workflow.commands.updating.forget import forget
from workflow.engine.progress import Progress
from workflow.errors import ConfigError
from workflow.runstore import RunStore, zarr_io

SILENT = Progress(enabled=False)
LEAN = {"tree.n_resamples": 0, "report.n_clusters_shown": 0}
N_OLD, N_ALL = 5200, 6600
BEHIND = ("projection/scores.zarr", "overcluster/nearest.zarr", "neighbors.zarr")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Images of six sources, the last of which comes late, in two files and in one."""
    folder, (rows, source) = tmp_path_factory.mktemp("images"), picture_set(n=N_ALL, seed=5)
    order = np.argsort(source == source.max(), kind="stable")
    for name, part in (("all", order), ("old", order[:N_OLD]), ("new", order[N_OLD:])):
        np.save(folder / f"{name}.npy", rows[part])
    return folder, rows[order]


@pytest.fixture(scope="module")
def old(images, client, tmp_path_factory):
    return make_run(images[0] / "old.npy", tmp_path_factory.mktemp("old") / "run", client, **LEAN)


@pytest.fixture(scope="module")
def whole(images, client, tmp_path_factory):
    return make_run(images[0] / "all.npy", tmp_path_factory.mktemp("all") / "run", client, **LEAN)


@pytest.fixture(scope="module")
def refitted(old, images, tmp_path_factory):
    store = copy_of(old, tmp_path_factory.mktemp("refitted") / "run")
    workflow.Run(store.path).name(1, "the second")
    found = update(store.path, images[0] / "new.npy", refit_components=True, progress=SILENT)
    return RunStore.open(store.path), found


def contents(run):
    """Return the bytes of the files of a run; who held the lock last does not count."""
    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(run)): p.read_bytes() for p in files}


def numbers_of(now, before):
    """Return what each number of a labelling is in another one that parts the images alike."""
    pairs = np.unique(np.stack([now, before]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    return dict(pairs.T.tolist())


def assert_as_a_run(store, whole):
    """Hold a run that was found anew against one of all images: the same bits, whatever the ids."""
    names = ("components", "projection_components", "centroids", "population", "graph_indices")
    for name in (*names, "graph_weights_two", "n_rounds_run", "tree_label"):
        if name in zarr_io.array_names(whole.model):
            np.testing.assert_array_equal(*store.read_model(name), *whole.read_model(name), name)
    for place in BEHIND:
        for name in zarr_io.array_names(whole.path / place):
            found, expected = (zarr_io.read_array(s.path / place, name) for s in (store, whole))
            np.testing.assert_array_equal(found, expected, err_msg=f"{place}/{name}")
    labels, expected = labels_of(store), labels_of(whole)
    for name in ("label", "family"):
        numbers_of(labels[name].values, expected[name].values)
    for name in ("strength", "outlier_score", "family_strength", "distance"):
        np.testing.assert_array_equal(labels[name], expected[name], err_msg=name)
    assert status(store.path, verify=True)["damaged"] == []


def test_refit__is_as_a_run_of_all_images(refitted, whole):
    store, found = refitted
    assert_as_a_run(store, whole)
    assert (found["n_samples_new"], found["n_samples"]) == (N_ALL - N_OLD, N_ALL)
    assert found["n_clusters"] == read_summary(whole)["n_clusters"]
    assert "found anew of all: 6,600 in" in describe(found)
    far = labels_of(store)["distance"].values[N_OLD:] > found["usual_distance"]
    assert found["n_far_out"] == far.sum()


def test_refit__keeps_ids_names_and_places(refitted, old):
    store, _ = refitted
    before, after = labels_of(old), labels_of(store).isel(sample=slice(0, N_OLD))
    for name in ("label", "family"):
        was, now = before[name].values, after[name].values
        for number in np.unique(was[was >= 0]):
            there, count = np.unique(now[was == number], return_counts=True)
            most = there[count.argmax()]
            if 2 * count.max() > max((was == number).sum(), (now == most).sum()) and most >= 0:
                assert most == number
    assert (before["label"].values == after["label"].values).mean() > 0.98
    assert json.loads((store.path / "summary.json").read_text())["cluster_names"] == {
        "1": "the second"
    }
    # The map needs no more turning to lie as the one before did.
    old_map, new_map = (
        np.column_stack([labels[axis] - labels[axis].mean() for axis in ("x", "y")])
        for labels in (before, after)
    )
    left, _, right = np.linalg.svd(new_map.T @ old_map)
    np.testing.assert_allclose(left @ right, np.eye(2), atol=0.3)
    assert store.manifest.updates[-1]["refitted"]


def test_refitted_run__has_neighbours_and_families_of_all(refitted, run_cli):
    store, _ = refitted
    run = workflow.Run(store.path)
    assert run.neighbors["index"].shape[0] == N_ALL
    family = run.dataset["family"].values
    assert (family[N_OLD:] >= 0).any() == (family[:N_OLD] >= 0).any()
    summary = json.loads((store.path / "summary.json").read_text())
    assert summary["segments"] == [N_OLD, N_ALL - N_OLD]
    assert "n_searched" not in summary
    assert "families are those of all." in (store.path / "report.html").read_text()
    assert run_cli("similar", store.path, N_ALL - 1)[0] == 0


def test_refit__without_new_images_is_undone_as_any_update(old, images, whole, tmp_path, run_cli):
    store = copy_of(old, tmp_path / "run")
    update(store.path, images[0] / "new.npy", progress=SILENT)
    before = contents(store.path)
    code, out, err = run_cli("update", store.path, "--refit-components")
    assert (code, err.count("Traceback")) == (0, 0)
    assert "No new images; components" in out
    assert_as_a_run(RunStore.open(store.path), whole)
    code, out, _ = run_cli("update", store.path, "--undo")
    assert "Found anew no longer: the run is as it was" in out
    assert contents(store.path) == before
    (images[0] / "new.npy").rename(images[0] / "away.npy")
    code, _, err = run_cli("update", store.path, "--refit-components")
    (images[0] / "away.npy").rename(images[0] / "new.npy")
    assert (code, "must read all images of the run" in err) == (2, True)
    assert contents(store.path) == before


def test_refitted_run__grows_and_forgets_what_came_after(refitted, images, tmp_path):
    store = copy_of(refitted[0], tmp_path / "run")
    labels = labels_of(store)
    for part in (images[1][:700] // 2, images[1][700:1100] // 3):
        update(store.path, part, progress=SILENT)
        assert status(store.path, verify=True)["damaged"] == []
    with pytest.raises(ConfigError, match="behind the last --refit-components"):
        forget(store.path, 1, progress=SILENT)
    forget(store.path, 2, progress=SILENT)
    assert status(store.path, verify=True)["damaged"] == []
    forget(store.path, 2, progress=SILENT)
    assert status(store.path, verify=True)["damaged"] == []
    for name, values in labels_of(RunStore.open(store.path)).items():
        np.testing.assert_array_equal(values, labels[name], err_msg=name)
    np.testing.assert_array_equal(workflow.Run(store.path).images[[0, -1]], images[1][[0, -1]])


def test_refit__killed_leaves_the_run_as_it_was(old, images, tmp_path, monkeypatch):
    store = copy_of(old, tmp_path / "run")
    before = contents(store.path)

    def stop(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("workflow.commands.update._put_in_place", stop)
    with pytest.raises(KeyboardInterrupt):
        update(store.path, images[0] / "new.npy", refit_components=True, progress=SILENT)
    monkeypatch.undo()
    # The same command begins again.
    found = update(store.path, images[0] / "new.npy", refit_components=True, progress=SILENT)
    assert found["n_samples"] == N_ALL
    undo_update(store.path)
    assert contents(store.path) == before
