"""New images become part of a run, with labels: as if all had come at once; killed or undone, the run is as before."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import copy_of, labels_of, lean_run, make_run
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.commands.run import read_summary
from workflow.commands.similar import similar
from workflow.commands.status import status
from workflow.commands.update import undo_update, update
from workflow.commands.updating.forget import forget
from workflow.engine.progress import Progress
from workflow.errors import ConfigError, StoreError
from workflow.report.summary import describe_summary
from workflow.runstore import RunStore, zarr_io

SILENT = Progress(enabled=False)
N_OLD, N_ALL = 5200, 6600


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All images, and the same in two parts."""
    folder, (images, source) = tmp_path_factory.mktemp("images"), picture_set(n=N_ALL, seed=5)
    for name, part in (("all", images), ("old", images[:N_OLD]), ("new", images[N_OLD:])):
        np.save(folder / f"{name}.npy", part)
    return folder, images, source


@pytest.fixture(scope="module")
def old(files, client, tmp_path_factory):
    lean = {"tree.n_resamples": 0, "report.n_clusters_shown": 0}
    return make_run(files[0] / "old.npy", tmp_path_factory.mktemp("old") / "run", client, **lean)


@pytest.fixture(scope="module")
def updated(old, files, tmp_path_factory):
    store = copy_of(old, tmp_path_factory.mktemp("updated") / "run")
    found = update(store.path, files[0] / "new.npy", progress=SILENT)
    return RunStore.open(store.path), found


def contents(run):
    """Return the digest of each file of a run; who held the lock last does not count."""
    files = sorted(p for p in run.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(run)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def test_update__is_as_if_all_had_come_at_once(updated, files, client, tmp_path):
    store, found = updated
    whole = lean_run(files[0] / "all.npy", tmp_path / "whole", client)
    names = ["moments_count", "moments_sum", "moments_second", "mean", "components"]
    for name in names:
        np.testing.assert_array_equal(*store.read_model(name), *whole.read_model(name))
    assert (found["n_samples_before"], found["n_samples"]) == (N_OLD, N_ALL)
    labels = labels_of(store)
    assert adjusted_rand_score(labels["label"], labels_of(whole)["label"]) >= 0.98
    assert adjusted_rand_score(labels["label"], files[2]) >= 0.98
    np.testing.assert_array_equal(labels["segment"], np.arange(N_ALL) >= N_OLD)


def test_update__counts_follow_from_the_rows(updated, old):
    store, _ = updated
    nearest = zarr_io.read_array(store.path / "overcluster" / "nearest.zarr", "nearest")
    sq_distance = zarr_io.read_array(store.path / "overcluster" / "nearest.zarr", "sq_distance")
    scores = zarr_io.read_array(store.path / "projection" / "scores.zarr", "scores")
    assert len(nearest) == len(scores) == N_ALL
    population, mean, largest, exemplar = store.read_model(
        "population", "centroid_mean", "max_distance", "exemplar"
    )
    np.testing.assert_array_equal(population, np.bincount(nearest[:, 0], minlength=60))
    for centroid in (0, 31, 59):
        here = np.flatnonzero(nearest[:, 0] == centroid)
        np.testing.assert_allclose(mean[centroid], scores[here].mean(axis=0), rtol=1e-5, atol=1e-4)
        assert largest[centroid] == np.sqrt(sq_distance[here, 0].astype(float)).max()
        order = here[np.argsort(sq_distance[here, 0], kind="stable")]
        np.testing.assert_array_equal(exemplar[centroid], order[:4])
    indptr, indices, weights = store.read_model(
        "graph_indptr", "graph_indices", "graph_weights_two"
    )
    row = np.repeat(np.arange(60), np.diff(indptr))
    pairs = np.sort(nearest[:, :2], axis=1)
    for at in (0, len(row) // 2, len(row) - 1):
        pair = sorted((row[at], indices[at]))
        assert weights[at] == (pairs == pair).all(axis=1).sum()
    before = labels_of(old)
    after = labels_of(store).isel(sample=slice(0, N_OLD))
    for name in ("centroid", "distance", "x", "y", "family", "family_strength"):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_updated_run__is_read_as_one(updated, files):
    store, _ = updated
    run, images = workflow.Run(store.path), files[1]
    assert status(store.path, verify=True)["damaged"] == []
    assert {s["state"] for s in status(store.path)["steps"].values()} == {"complete"}
    np.testing.assert_array_equal(
        run.images[[3, N_OLD - 1, N_OLD, N_ALL - 1]], images[[3, N_OLD - 1, N_OLD, -1]]
    )
    members = run.members(2, n=N_ALL)
    np.testing.assert_array_equal(members["images"], images[members["sample"]])
    assert (members["sample"] >= N_OLD).any()
    assert (run.dataset["family"][N_OLD:] == -1).all()
    assert run.dataset["segment"].values[-1] == 1
    scores = zarr_io.read_array(store.path / "projection" / "scores.zarr", "scores")
    near = [
        one["index"] for one in similar(store.path, of=5, limit=6, progress=SILENT)["neighbors"]
    ]
    apart = np.linalg.norm(scores.astype(float) - scores[5], axis=1)
    np.testing.assert_array_equal(near, np.argsort(apart, kind="stable")[1:7])
    with pytest.raises(StoreError, match=r"`update --undo`"):
        _ = run.neighbors
    summary = read_summary(store)
    assert (summary["n_samples"], summary["segments"]) == (N_ALL, [N_OLD, N_ALL - N_OLD])
    assert f"are those of the first {N_OLD:,}" in describe_summary(summary)
    assert f"are those of the first {N_OLD:,}" in (store.path / "report.html").read_text()


def test_updated_run__is_recut_as_another(updated, tmp_path):
    store = copy_of(updated[0], tmp_path / "run")
    recut(store.path, n_clusters=3, progress=SILENT)
    labels = labels_of(RunStore.open(store.path))
    assert len(np.unique(labels["label_resolved"])) == 3
    assert labels["segment"].values.sum() == N_ALL - N_OLD
    assert status(store.path, verify=True)["damaged"] == []


def test_undo__brings_every_byte_back(old, files, tmp_path):
    store = copy_of(old, tmp_path / "run")
    (store.path / "notes.txt").write_text("somebody's own")
    before = contents(store.path)
    middle = None
    for part in (files[1][N_OLD:5800] // 2, files[0] / "new.npy"):
        update(store.path, part, progress=SILENT)
        middle = middle or contents(store.path)
    recut(store.path, n_clusters=2, progress=SILENT)
    found = undo_update(store.path)
    assert found == {"n_samples_before": N_ALL + 600, "n_samples": 5800, "n_samples_removed": 1400}
    assert contents(store.path) == middle
    assert len(labels_of(store)["label"]) == 5800
    undo_update(store.path)
    assert contents(store.path) == before
    with pytest.raises(ConfigError, match="Nothing is changed"):
        undo_update(store.path)


class StopHereError(BaseException):
    """Stands for a kill at a known place."""


@pytest.mark.parametrize("place", ["map", "replace", "moves"])
def test_update__killed_leaves_the_run_before_or_after(
    place, old, updated, files, tmp_path, monkeypatch
):
    store = copy_of(old, tmp_path / "run")
    before = contents(store.path)

    def stop(*_args, **_kwargs):
        raise StopHereError

    with monkeypatch.context() as patch:
        if place == "map":
            patch.setattr("workflow.steps.map.PlaceTask.__call__", stop)
        elif place == "replace":
            patch.setattr("workflow.commands.update._put_in_place", stop)
        else:
            moves = RunStore._finish_moves
            patch.setattr(
                RunStore,
                "_finish_moves",
                lambda self: stop() if self.path == store.path else moves(self),
            )
        # A kill leaves what is there where it is.
        patch.setattr("workflow.commands.update.discard", lambda _: None)
        with pytest.raises(StopHereError):
            update(store.path, files[0] / "new.npy", progress=SILENT)
    left = RunStore.open(store.path)
    if place == "moves":
        with pytest.raises(ConfigError, match=r"must be written by `report`"):
            make_run(files[0] / "old.npy", left.path, None)
        report(left.path)
        assert {s["state"] for s in status(left.path)["steps"].values()} == {"complete"}
    else:
        shutil.rmtree(store.path / "wip")
        assert contents(store.path) == before
        update(store.path, files[0] / "new.npy", progress=SILENT)
    for name, values in labels_of(updated[0]).items():
        np.testing.assert_array_equal(values, labels_of(left)[name], err_msg=name)


def test_update__gives_the_same_bits_on_workers_and_for_other_partitions(
    old, updated, files, client, tmp_path
):
    """Bytes are summed exactly; a row has the score and the centroids that it has alone."""
    store = copy_of(old, tmp_path / "run")
    for part in (files[1][N_OLD : N_OLD + 777], files[1][N_OLD + 777 :]):
        update(store.path, part, client=client, progress=SILENT)
    labels, expected = labels_of(store), labels_of(updated[0])
    for name in ("centroid", "distance", "label", "outlier_score"):
        np.testing.assert_array_equal(labels[name], expected[name], err_msg=name)
    assert sorted(set(labels["segment"].values.tolist())) == [0, 1, 2]
    for name in ("population", "graph_weights_three", "moments_second", "exemplar"):
        np.testing.assert_array_equal(
            *RunStore.open(store.path).read_model(name), *updated[0].read_model(name)
        )
    assert status(store.path, verify=True)["damaged"] == []


def test_update__copies_a_folder_of_pictures_and_keeps_their_names(photos, photo_run, tmp_path):
    store = copy_of(photo_run, tmp_path / "run")
    (tmp_path / "more").mkdir()
    for index, image in enumerate(photos[1][:7] // 2):
        Image.fromarray(image).save(tmp_path / "more" / f"{index}.png")
    update(store.path, tmp_path / "more", progress=SILENT)
    labels = labels_of(store)
    n_old = len(photos[1])
    assert labels["path"].values[n_old:].tolist() == [f"{index}.png" for index in range(7)]
    assert labels["path"].values[3] == labels_of(photo_run)["path"].values[3]
    images = workflow.Run(store.path).images
    np.testing.assert_array_equal(images[n_old + 2], photos[1][2] // 2)
    assert status(store.path, verify=True)["damaged"] == []


def test_update__refuses_in_one_line_what_it_cannot_take(updated, files, client, run_cli, tmp_path):
    store, new = updated[0], files[0] / "new.npy"
    np.save(tmp_path / "other.npy", np.zeros((5, 4, 4, 3), np.uint8))
    np.save(tmp_path / "none.npy", np.zeros((0, 6, 6, 3), np.uint8))
    refused = [
        ([store.path, new], "in the run already"),
        ([store.path, files[0] / "old.npy"], "in the run already"),
        ([store.path, tmp_path / "other.npy"], r"like those of the run, (6, 6, 3)"),
        ([store.path, tmp_path / "none.npy"], "one image or more"),
        ([store.path], "either images or --undo"),
        ([store.path, new, "--undo"], "either images or --undo"),
    ]
    before = contents(store.path)
    for words, text in refused:
        code, _, err = run_cli("update", *map(str, words))
        assert (code, err.count("\n")) == (2, 1), err
        assert text in err
    with store.lock():
        assert "one command at a time" in run_cli("update", store.path, tmp_path / "other.npy")[2]
    assert contents(store.path) == before
    with pytest.raises(ConfigError, match=r"of a run without updates only.*--undo"):
        make_run(files[0] / "old.npy", store.path, client, **{"overcluster.n_centroids": 50})
    again = make_run(files[0] / "old.npy", store.path, client)
    assert again.manifest.images["shape"][0] == N_ALL


@pytest.fixture(scope="module")
def without_last(files, client, tmp_path_factory):
    """A run of the images of all sources but one, and the rows of those."""
    folder = tmp_path_factory.mktemp("without")
    here = np.flatnonzero(files[2] != files[2].max())
    np.save(folder / "old.npy", files[1][here])
    return lean_run(folder / "old.npy", folder / "run", client, **{"map.enabled": True}), here


def test_births__a_source_held_out_becomes_a_cluster_of_its_own(without_last, files, tmp_path):
    store, (_, images, source) = copy_of(without_last[0], tmp_path / "run"), files
    here = without_last[1]
    out = np.setdiff1d(np.arange(N_ALL), here)
    n_before = len(store.read_model("centroids")[0])
    found = update(store.path, images[out], progress=SILENT)
    assert 0 < found["n_born"] <= np.ceil(n_before * len(out) / len(here))
    labels = labels_of(store)["label"].values
    new, counts = np.unique(labels[len(here) :], return_counts=True)
    assert counts.max() >= 0.99 * len(out)
    assert not np.isin(labels[: len(here)], new[counts.argmax()]).any()
    assert adjusted_rand_score(labels, source[np.concatenate([here, out])]) >= 0.98
    np.testing.assert_array_equal(labels[: len(here)], labels_of(without_last[0])["label"])
    assert new[counts.argmax()] == labels[: len(here)].max() + 1
    read = RunStore.open(store.path)
    centroids, position = read.read_model("centroids", "map_position")
    assert len(centroids) == len(position) == n_before + found["n_born"]
    scores = zarr_io.read_array(store.path / "projection" / "scores.zarr", "scores")
    nearest = zarr_io.read_array(store.path / "overcluster" / "nearest.zarr", "nearest")
    some = np.r_[0:200, len(here) : len(here) + 200]
    apart = np.linalg.norm(scores[some, None].astype(float) - centroids[None], axis=2)
    np.testing.assert_array_equal(nearest[some], np.argsort(apart, axis=1, kind="stable")[:, :3])
    assert status(store.path, verify=True)["damaged"] == []
    # Others of the same source are no news; then all is as it was.
    assert update(store.path, images[out[:300]], progress=SILENT)["n_born"] == 0
    assert status(store.path, verify=True)["damaged"] == []
    undo_update(store.path)
    # Centroids that were born for images that are forgotten go with them, and so does their cluster.
    assert forget(store.path, 1, progress=SILENT)["n_centroids"] == n_before
    store = RunStore.open(store.path)
    for name in ("centroids", "population", "map_position"):
        np.testing.assert_array_equal(*store.read_model(name), *without_last[0].read_model(name))
    np.testing.assert_array_equal(labels_of(store)["label"], labels_of(without_last[0])["label"])
    assert "gone" in set(workflow.Run(store.path).lineage["change"])
    assert status(store.path, verify=True)["damaged"] == []


def test_update__of_families_is_refused(old, files, tmp_path):
    store = copy_of(old, tmp_path / "run")
    recut(store.path, layer="families", progress=SILENT)
    with pytest.raises(ConfigError, match=r"must have clusters as labels.*`recut --configured`"):
        update(store.path, files[0] / "new.npy", progress=SILENT)


def test_births__none_for_images_like_the_runs(updated):
    assert updated[1]["n_born"] == 0


def test_update__of_few_images_finds_sources_old_and_new(client, tmp_path):
    """Where the tree cannot test, the neighbours of the images do, those that came among them."""
    old, before = picture_set(n=1200, n_sources=4, seed=2)
    new, came = picture_set(n=400, n_sources=4, seed=9)
    store = lean_run(old, tmp_path / "run", client, **{"neighbors.enabled": True})
    assert adjusted_rand_score(labels_of(store)["label"], before) >= 0.98
    assert update(store.path, new, progress=SILENT)["n_born"] > 0
    truth = np.concatenate([before, came + 4])
    assert adjusted_rand_score(labels_of(store)["label_resolved"], truth) >= 0.95


def test_forget__is_as_if_the_images_had_never_come(old, files, tmp_path):
    store, images = copy_of(old, tmp_path / "run"), files[1]
    plain = copy_of(old, tmp_path / "plain")
    update(store.path, images[N_OLD:5901], progress=SILENT)
    last = files[0] / "last.npy"
    np.save(last, images[5901:])
    for one in (store, plain):
        update(one.path, last, progress=SILENT)
    before = labels_of(store)
    found = forget(store.path, 1, progress=SILENT)
    assert (found["n_samples_removed"], found["n_samples"]) == (701, N_ALL - 701)
    store, plain = RunStore.open(store.path), RunStore.open(plain.path)
    names = ("moments_count", "moments_sum", "moments_second", "population", "max_distance")
    graph = ("exemplar", "graph_indptr", "graph_indices", "graph_weights_two")
    for name in (*names, *graph, "graph_weights_three", "components", "centroid_label"):
        np.testing.assert_array_equal(*store.read_model(name), *plain.read_model(name), name)
    mean, expected = store.read_model("centroid_mean") + plain.read_model("centroid_mean")
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)
    labels, expected = labels_of(store), labels_of(plain)
    assert set(labels.coords) == set(expected.coords)
    for name, values in expected.drop_vars(["x", "y"]).items():
        np.testing.assert_array_equal(labels[name], values, err_msg=name)
    np.testing.assert_array_equal(labels["segment"], expected["segment"])
    stays = np.r_[:N_OLD, 5901:N_ALL]
    for name in ("x", "y"):
        np.testing.assert_array_equal(labels[name], before[name][stays], err_msg=name)
    assert status(store.path, verify=True)["damaged"] == []
    run = workflow.Run(store.path)
    np.testing.assert_array_equal(run.images[[4, N_OLD]], images[[4, 5901]])
    changes = run.lineage
    assert changes["done"].iloc[-1] == "forget"
    assert set(changes["change"][changes["done"] == "forget"]) == {"shrank"}
    assert not [p for p in store.path.rglob("before") if p.is_dir()]
    with pytest.raises(ConfigError, match="`forget RUN 1`"):
        undo_update(store.path)


def test_forget__the_last_one_leaves_a_run_without_updates(old, updated, tmp_path, run_cli):
    store = copy_of(updated[0], tmp_path / "run")
    assert run_cli("forget", store.path, 2)[0] == run_cli("forget", store.path, 0)[0] == 2
    code, out, _ = run_cli("forget", store.path, 1)
    assert code == 0
    assert "1,400 images forgotten" in out
    assert not (store.path / "segments").exists()
    assert "segment" not in labels_of(store)
    for name, values in labels_of(old).items():
        np.testing.assert_array_equal(values, labels_of(store)[name], err_msg=name)
    assert status(store.path, verify=True)["damaged"] == []
    assert "forget" in (store.path / "report.html").read_text()
    code, _, err = run_cli("forget", store.path, 1)
    assert (code, "must find an update" in err) == (2, True)


def test_forget__killed_leaves_the_run_as_it_was(updated, tmp_path, monkeypatch):
    store = copy_of(updated[0], tmp_path / "run")
    before = contents(store.path)

    def stop(*_args, **_kwargs):
        raise StopHereError

    with monkeypatch.context() as patch:
        patch.setattr("workflow.commands.updating.forget._put_in_place", stop)
        with pytest.raises(StopHereError):
            forget(store.path, 1, progress=SILENT)
    shutil.rmtree(store.path / "wip")
    assert contents(store.path) == before
