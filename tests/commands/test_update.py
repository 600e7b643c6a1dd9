"""New images become part of a run, with labels: as if all had come at once; killed or undone, the run is as before."""

from __future__ import annotations

import hashlib
import json
import shutil
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from PIL import Image
from sklearn.metrics import adjusted_rand_score

import workflow
from tests.conftest import picture_set, spawn_cli
from tests.runs.helpers import copy_of, labels_of, lean_run, make_run
from workflow.commands.export import export
from workflow.commands.gallery import gallery
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.commands.run import read_summary
from workflow.commands.similar import similar
from workflow.commands.status import status
from workflow.commands.update import undo_update, update
from workflow.commands.updating.drift import describe_drift, drifted
from workflow.commands.updating.forget import forget
from workflow.commands.updating.watch import describe_round, watch
from workflow.engine.progress import Progress
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.report.summary import describe_summary
from workflow.rng import generator
from workflow.runstore import RunStore, zarr_io
from workflow.steps.parts.drift import UpdateSettings
from workflow.steps.parts.duplicates import CountKnown

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


def test_update__counts_follow_from_the_rows(updated, old, files):
    store, found = updated
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
    mean, components = store.read_model("projection_mean", "projection_components")
    for rows, name in ((slice(0, N_OLD), "before"), (slice(N_OLD, N_ALL), "new")):
        apart = files[1][rows].reshape(-1, 108) - mean
        share = np.square(apart @ components.T).sum() / np.square(apart).sum()
        assert found[f"variance_kept_{name}"] == pytest.approx(share, rel=1e-5)
    label = labels_of(store)["label"].values
    assert found["n_noise_new"] == np.count_nonzero(label[N_OLD:] == -1)
    assert (found["drifted"], found["n_copies"]) == ([], 0)
    before = labels_of(old)
    after = labels_of(store).isel(sample=slice(0, N_OLD))
    for name in ("centroid", "distance", "x", "y", "family", "family_strength"):
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_updated_run__is_read_as_one(updated, files, tmp_path):
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
        one["sample"] for one in similar(store.path, of=5, limit=6, progress=SILENT)["neighbors"]
    ]
    apart = np.linalg.norm(scores.astype(float) - scores[5], axis=1)
    np.testing.assert_array_equal(near, np.argsort(apart, kind="stable")[1:7])
    with pytest.raises(StoreError, match=r"`update --undo`"):
        _ = run.neighbors
    kept = store.path / "segments" / "001" / "before" / "model.zarr" / "population"
    (chunk,) = (file for file in kept.rglob("*") if file.is_file() and file.name != "zarr.json")
    whole = chunk.read_bytes()
    chunk.unlink()
    chunk.write_bytes(whole[:-9] + bytes(9))
    (damage,) = status(store.path, verify=True)["damaged"]
    chunk.write_bytes(whole)
    assert damage.startswith("segments/001/before/model.zarr/population")
    export(store.path, tmp_path / "labels.csv")
    table, labels = pd.read_csv(tmp_path / "labels.csv"), labels_of(store)
    for name in ("label", "x", "segment"):
        np.testing.assert_array_equal(table[name].to_numpy(labels[name].dtype), labels[name])
    is_out = labels["outlier_score"].values > 0.8
    found = gallery(store.path, "outliers", limit=N_ALL)
    assert sorted(one["index"] for one in found["images"]) == np.flatnonzero(is_out).tolist()
    assert gallery(store.path, "dark")["n_samples"] == N_ALL
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


def kill_at(mark, process):
    """Kill a process as soon as a file is there, which it makes."""
    while not mark.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("place", ["passes", "replace", "moves"])
def test_update__killed_leaves_the_run_before_or_after(
    place, old, updated, files, tmp_path, monkeypatch
):
    store = copy_of(old, tmp_path / "run")
    before = contents(store.path)

    def stop(*_args, **_kwargs):
        raise StopHereError

    with monkeypatch.context() as patch:
        if place == "replace":
            patch.setattr("workflow.commands.update._put_in_place", stop)
        elif place == "moves":
            moves = RunStore._finish_moves
            patch.setattr(
                RunStore,
                "_finish_moves",
                lambda self: stop() if self.path == store.path else moves(self),
            )
        # A kill leaves what is there where it is.
        patch.setattr("workflow.commands.update.discard", lambda _: None)
        if place == "passes":
            process = spawn_cli("update", store.path, files[0] / "new.npy")
            kill_at(store.path / "wip" / "update" / "added" / "scores.zarr", process)
        else:
            with pytest.raises(StopHereError):
                update(store.path, files[0] / "new.npy", progress=SILENT)
    left = RunStore.open(store.path)
    if place == "moves":
        with pytest.raises(ConfigError, match=r"must be written by `report`"):
            make_run(files[0] / "old.npy", left.path, None)
        report(left.path)
        assert {s["state"] for s in status(left.path)["steps"].values()} == {"complete"}
    else:
        is_left = {name: mark for name, mark in contents(left.path).items() if name[:4] != "wip/"}
        assert is_left == before
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
    # Files of two folders have no common place.
    export(store.path, tmp_path / "folders", limit=3)
    for file in (tmp_path / "folders").rglob("*.png"):
        np.testing.assert_array_equal(np.array(Image.open(file)), images[int(file.stem)])
    assert status(store.path, verify=True)["damaged"] == []


def test_update__refuses_in_one_line_what_it_cannot_take(updated, files, client, run_cli, tmp_path):
    store, new = updated[0], files[0] / "new.npy"
    np.save(tmp_path / "other.npy", np.zeros((5, 4, 4, 3), np.uint8))
    np.save(tmp_path / "none.npy", np.zeros((0, 6, 6, 3), np.uint8))
    refused = [
        ([store.path, files[0] / "again.npy"], "--again"),
        ([store.path, tmp_path / "other.npy"], r"like those of the run, (6, 6, 3)"),
        ([store.path, tmp_path / "none.npy"], "one image or more"),
        ([store.path, new, "--undo"], "must be given no images"),
        ([store.path, "--again", "--undo"], "must be given no images"),
    ]
    shutil.copy2(new, files[0] / "again.npy")
    before = contents(store.path)
    for words in ([store.path], [store.path, new], [store.path, files[0] / "old.npy"]):
        code, out, _ = run_cli("update", *map(str, words))
        assert (code, out.startswith("Nothing new: all 6,600 images")) == (0, True)
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


LEAN = {"progress": SILENT, "overrides": {"report.n_clusters_shown": 0}}


def write_npy(path, images):
    np.save(path, images)


def write_hdf5(path, images):
    with h5py.File(path, "w") as file:
        file["images"] = images


def write_zarr(path, images):
    if not path.exists():
        zarr.create_array(path, shape=(0, *images.shape[1:]), chunks=(100, 6, 6, 3), dtype="u1")
    array = zarr.open_array(path)
    array.resize(images.shape)
    array[:] = images


@pytest.mark.parametrize(
    ("name", "write"), [("it.npy", write_npy), ("it.h5", write_hdf5), ("it.zarr", write_zarr)]
)
def test_update__of_a_source_that_has_grown_reads_what_is_new(
    name, write, files, client, run_cli, tmp_path, monkeypatch
):
    images, place = files[1][:640], tmp_path / name
    write(place, images[:450])
    lean = {"overcluster.n_centroids": 30}
    store = lean_run(place, tmp_path / "run", client, **lean)
    before = contents(store.path)
    write(place, images[:600])
    assert update(store.path, **LEAN)["n_samples_new"] == 150
    write(place, images)
    monkeypatch.chdir(tmp_path)
    assert update(store.path, name, **LEAN)["n_samples_new"] == 40
    np.testing.assert_array_equal(workflow.Run(store.path).images[:], images)
    assert status(store.path, verify=True)["damaged"] == []
    after = contents(store.path)
    assert update(store.path, **LEAN)["n_samples_new"] == 0
    for changed, text in (
        (np.concatenate([images[:5], images[:635]]), "differs in images 0 to 449"),
        (np.concatenate([images[:620], images]), "differs in images 600 to 639"),
        (images[:600], "holds 600 images, and the run has read 640"),
    ):
        write(place, changed)
        code, _, err = run_cli("update", store.path)
        assert (code, err.count("\n"), text in err) == (2, 1, True), err
    assert contents(store.path) == after
    # The same values, written at another time, are the same images.
    write(place, images)
    assert update(store.path, place, **LEAN)["n_samples_new"] == 0
    with pytest.raises(ImagesError, match=r"has all of these already.*--again"):
        update(store.path, images[100:140], **LEAN)
    assert update(store.path, place, again=True, **LEAN)["n_copies"] == 640
    for _ in range(3):
        undo_update(store.path)
    assert contents(store.path) == before


def write_pictures(folder, images):
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / name)


def test_update__of_a_folder_that_has_grown_takes_new_files_behind(client, run_cli, tmp_path):
    images, _ = picture_set(n=150, seed=7)
    named = {f"{index:03d}.png": image for index, image in enumerate(images)}
    early = {name: image for name, image in named.items() if int(name[:3]) % 3}
    place = tmp_path / "photos"
    write_pictures(place, early)
    (place / "000.png").write_bytes((place / "001.png").read_bytes()[:60])
    lean = {"overcluster.n_centroids": 20}
    store = lean_run(place, tmp_path / "run", client, **{"ingest.shape": [6, 6, 3]}, **lean)
    assert update(store.path, **LEAN)["n_samples_new"] == 0
    # One of them could not be read, as it was not yet whole.
    write_pictures(place, named)
    assert update(store.path, **LEAN)["n_samples_new"] == 50
    paths = labels_of(store)["path"].values.tolist()
    assert paths == [*early, *(name for name in named if name not in early)]
    read = workflow.Run(store.path).images
    np.testing.assert_array_equal(read[:], np.stack([named[path] for path in paths]))
    assert update(store.path, place, **LEAN)["n_samples_new"] == 0
    after = contents(store.path)
    write_pictures(place, {"007.png": images[8]})
    code, _, err = run_cli("update", store.path)
    assert (code, err.count("\n"), "differs in 007.png (image 4)" in err) == (2, 1, True), err
    (place / "007.png").unlink()
    code, _, err = run_cli("update", store.path)
    assert (code, err.count("\n"), "holds no 007.png any more" in err) == (2, 1, True), err
    assert contents(store.path) == after
    write_pictures(place, {"007.png": named["007.png"]})
    rounds = watch(store.path, every=0.01, n_rounds=5, **LEAN)
    assert next(rounds)["n_samples_new"] == 0
    write_pictures(place, {"new.png": 255 - images[0]})
    found = next(rounds)
    assert found["n_samples_new"] == 1
    assert "1 image added to 150" in describe_round(found)
    # What is wrong for a while ends nothing.
    place.rename(tmp_path / "away")
    told = describe_round(next(rounds))
    assert "must find the source" in told
    assert told.count("\n") == 0
    (tmp_path / "away").rename(place)
    with store.lock():
        assert "one command at a time" in next(rounds)["error"]
    assert describe_round(next(rounds)).endswith(": nothing new")
    assert list(rounds) == []
    forget(store.path, 2, progress=SILENT)
    # The run of before would know nothing of what is forgotten.
    with pytest.raises(ConfigError, match="`forget RUN 1`"):
        undo_update(store.path)
    forget(store.path, 1, progress=SILENT)
    code, out, err = run_cli("update", store.path)
    assert (code, "but what was forgotten" in out) == (0, True), err
    code, out, err = run_cli("watch", store.path, "--rounds", "1", "--json")
    assert code == 0, err
    assert json.loads(out)["n_forgotten"] == 51
    code, _, err = run_cli("watch", store.path, "--every", "soon")
    assert (code, err.count("\n"), "such as 10min" in err) == (2, 1, True), err
    code, _, err = run_cli("watch", store.path, tmp_path / "none")
    assert (code, err.count("\n")) == (2, 1), err
    assert not [p for p in store.path.rglob("*") if p.is_file() and b"003.png" in p.read_bytes()]


def test_copies__are_counted_by_their_hashes(tmp_path):
    hashes = generator(0, "hashes").integers(0, 3, (500, 2), dtype=np.uint64)
    zarr_io.write_array(tmp_path / "one", "hash", hashes[:100], dims=("sample", "half"))
    zarr_io.write_array(tmp_path / "two", "hash", hashes[90:], dims=("sample", "half"))
    hashes[300:, 1] += 2
    zarr_io.write_array(tmp_path / "three", "hash", hashes[290:], dims=("sample", "half"))
    one, two, three = (
        zarr_io.StoredRows.open(tmp_path / name, "hash") for name in ("one", "two", "three")
    )
    known = set(map(tuple, hashes[:100].tolist()))
    assert CountKnown(one)(two) == 410
    assert CountKnown(one)(three) == sum(tuple(row) in known for row in hashes[290:].tolist())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"variance_kept_new": 0.8}, ["variance_kept"]),
        ({"n_far_out": 9}, []),
        ({"n_far_out": 12}, ["far_out"]),
        ({"n_noise_new": 40, "n_born": 8}, ["noise", "births"]),
        ({"n_samples_new": 1, "n_far_out": 1}, ["far_out"]),
    ],
)
def test_drift__is_told_from_the_settings_on(changes, expected):
    alike = {
        "n_samples_new": 100,
        "variance_kept_new": 0.9,
        "variance_kept_before": 0.95,
        "n_far_out": 3,
        "n_noise_new": 12,
        "noise_fraction_before": 0.1,
        "n_born": 2,
        "n_centroids_before": 60,
    }
    found = alike | changes
    found["drifted"] = drifted(found, UpdateSettings())
    assert found["drifted"] == expected
    assert describe_drift(found).count(";") == max(0, len(expected) - 1)
    wide = UpdateSettings(min_variance_kept=0, max_far_out=1, max_noise_rise=1, max_births=1)
    assert drifted(found, wide) == []


@pytest.fixture(scope="module")
def without_last(files, client, tmp_path_factory):
    """A run of the images of all sources but one, and the rows of those."""
    folder = tmp_path_factory.mktemp("without")
    here = np.flatnonzero(files[2] != files[2].max())
    np.save(folder / "old.npy", files[1][here])
    return lean_run(folder / "old.npy", folder / "run", client, **{"map.enabled": True}), here


def test_births__a_source_held_out_becomes_a_cluster_of_its_own(
    without_last, files, tmp_path, run_cli
):
    store, (_, images, source) = copy_of(without_last[0], tmp_path / "run"), files
    here = without_last[1]
    out = np.setdiff1d(np.arange(N_ALL), here)
    n_before = len(store.read_model("centroids")[0])
    np.save(tmp_path / "out.npy", images[out])
    words = ("--json", "--exit-code", "--set", "update.max_births=0")
    code, said, _ = run_cli("update", store.path, tmp_path / "out.npy", *words)
    found = json.loads(said)
    assert (code, found["drifted"]) == (3, ["variance_kept", "births"])
    assert "have drifted: variance kept, births." in (store.path / "report.html").read_text()
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
    assert update(store.path, images[out[:300]], again=True, progress=SILENT)["n_born"] == 0
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
    first = labels_of(store)["label"]
    assert adjusted_rand_score(first, before) >= 0.98
    assert update(store.path, new, progress=SILENT)["n_born"] > 0
    truth = np.concatenate([before, came + 4])
    assert adjusted_rand_score(labels_of(store)["label_resolved"], truth) >= 0.95
    # Without them the neighbours that the run has are those of all its images again.
    forget(store.path, 1, progress=SILENT)
    np.testing.assert_array_equal(labels_of(store)["label"], first)


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


def test_forget__what_it_took_out_comes_back_only_when_asked_for(files, client, tmp_path):
    images, place = files[1][:640], tmp_path / "it.npy"
    np.save(place, images[:450])
    store = lean_run(place, tmp_path / "run", client, **{"overcluster.n_centroids": 30})
    np.save(place, images[:600])
    update(store.path, **LEAN)
    forget(store.path, 1, progress=SILENT)
    found = update(store.path, **LEAN)
    assert (found["n_samples_new"], found["n_forgotten"]) == (0, 150)
    np.save(place, images)
    assert update(store.path, **LEAN)["n_samples_new"] == 40
    np.testing.assert_array_equal(workflow.Run(store.path).images[450:], images[600:])
    update(store.path, place, again=True, **LEAN)
    assert workflow.Run(store.path).images.shape[0] == 450 + 40 + 640
