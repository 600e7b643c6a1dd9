"""Duplicates of a run, against brute force; and what a run with very many of them looks like."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

import workflow
from tests.conftest import last_json, picture_set
from tests.runs.helpers import (
    LEAN,
    SETTINGS,
    assert_same_labels,
    labels_of,
    lean_run,
    make_run,
    without_families,
)
from workflow.commands import duplicates as command
from workflow.commands.duplicates import duplicates as listed_duplicates
from workflow.commands.predict import predict
from workflow.commands.status import status
from workflow.engine.progress import Progress
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore, zarr_io
from workflow.runstore.zarr_io import StoredRows
from workflow.steps import duplicates as grouping
from workflow.steps.overcluster import count_duplicates

SILENT = Progress(enabled=False)


def planted(n=4000, seed=0):
    """Images of which 30 % are copies of twelve, some pairs, and one image with slight changes."""
    images, source = picture_set(n=n, noise=20.0)
    rng = np.random.default_rng(seed)
    free = rng.permutation(n)
    heavy, free = free[:1200], free[1200:]
    of = heavy[:12][rng.integers(0, 12, 1200)]
    images[heavy], source[heavy] = images[of], source[of]
    pairs, free = free[:80].reshape(2, 40), free[80:]
    images[pairs[0]], source[pairs[0]] = images[pairs[1]], source[pairs[1]]
    slight = free[:90]
    images[slight], source[slight] = images[slight[0]], source[slight[0]]
    changed = np.arange(90)
    images[slight, changed % 6, changed % 5, changed % 3] ^= 1
    return images, source, slight


@pytest.fixture(scope="module")
def images():
    return planted()


@pytest.fixture(scope="module")
def finished(images, client, tmp_path_factory):
    folder = tmp_path_factory.mktemp("duplicates")
    np.save(folder / "images.npy", images[0])
    return make_run(folder / "images.npy", folder / "run", client)


def equal_rows(rows):
    """Return the groups of two or more equal rows, largest first, by comparing all with all."""
    flat = rows.reshape(len(rows), -1)
    left, groups = set(range(len(flat))), []
    for i in range(len(flat)):
        if i in left:
            same = np.flatnonzero((flat == flat[i]).all(axis=1)).tolist()
            left -= set(same)
            if len(same) > 1:
                groups.append(same)
    return sorted(groups, key=lambda g: (-len(g), g[0]))


def test_duplicates__are_those_of_brute_force(finished, images):
    found = listed_duplicates(finished.path, limit=1000)
    expected = equal_rows(images[0])
    assert [group["indices"] for group in found["groups"]] == expected
    assert {group["kind"] for group in found["groups"]} == {"exact"}
    assert [group["size"] for group in found["groups"]] == [len(group) for group in expected]
    assert len(expected) > 45
    assert found["n_groups"] == len(expected)
    assert found["n_images"] == sum(map(len, expected)) == found["n_copies"] + len(expected)
    assert not (finished.path / "wip" / "duplicates").exists()
    counted = read_summary(finished)["duplicates"]
    assert (counted["exact_groups"], counted["exact_images"]) == (
        found["n_groups"],
        found["n_images"],
    )
    json.dumps(found)


@pytest.mark.parametrize(("bucket_rows", "most"), [(40, 1024), (100, 3), (5000, 1)])
def test_duplicates__do_not_depend_on_the_buckets(finished, monkeypatch, bucket_rows, most):
    whole = listed_duplicates(finished.path, near=True, limit=30)
    monkeypatch.setattr(grouping, "BUCKET_ROWS", bucket_rows)
    monkeypatch.setattr(grouping, "MAX_BUCKETS", most)
    monkeypatch.setattr(command, "ROWS_AT_ONCE", 333)
    assert listed_duplicates(finished.path, near=True, limit=30) == whole


def test_duplicates__of_a_run_without_hashes_are_read_from_the_images(finished, images, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    whole = listed_duplicates(tmp_path / "run", limit=1000)
    shutil.rmtree(tmp_path / "run" / "pca" / "hashes.zarr")
    assert listed_duplicates(tmp_path / "run", limit=1000) == whole
    np.save(tmp_path / "images.npy", images[0])
    manifest = RunStore.open(tmp_path / "run").manifest
    manifest.images["path"] = str(tmp_path / "gone.npy")
    manifest.save(tmp_path / "run")
    with pytest.raises(StoreError, match=r"keeps no hashes, and .*gone\.npy is gone or altered"):
        listed_duplicates(tmp_path / "run")


def test_run__of_an_earlier_version_gets_hashes_with_other_components(images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0][:1500])
    settings = {"pca.n_components": 5}
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client, **settings)
    hashes = StoredRows.open(store.path / "pca" / "hashes.zarr", "hash").read(0, 1500)
    shutil.rmtree(store.path / "pca" / "hashes.zarr")
    journal = store.folder("pca") / "moments.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines[1:]:
        del line["hash_crc"], line["line_crc"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    lean_run(tmp_path / "images.npy", store.path, client, **{"pca.n_components": 6})
    again = StoredRows.open(store.path / "pca" / "hashes.zarr", "hash").read(0, 1500)
    np.testing.assert_array_equal(again, hashes)


def test_copies__appended_to_the_images_are_all_found(pictures, client, tmp_path):
    """A hundred images once more at the end, and three images several times more."""
    shown = 100 + np.random.default_rng(0).choice(1000, 100, replace=False)
    several = [7, 7, 7, 7, 1234, 1234, 99]
    images = pictures[0][:2500]
    np.save(tmp_path / "images.npy", np.concatenate([images, images[shown], images[several]]))
    run = workflow.Run(lean_run(tmp_path / "images.npy", tmp_path / "run", client).path)
    found = [group["indices"] for group in run.duplicates(limit=1000)["groups"]]
    assert found[:2] == [[7, 2600, 2601, 2602, 2603], [1234, 2604, 2605]]
    pairs = [[row, 2500 + copy] for copy, row in enumerate(shown.tolist())]
    assert found[2:] == sorted([*pairs, [99, 2606]])
    assert run.summary["duplicates"]["exact_groups"] == 103
    assert run.summary["duplicates"]["exact_images"] == 210
    labels = run.dataset.load()
    for first, *copies in found:
        for name in labels:
            for copy in copies:
                np.testing.assert_array_equal(labels[name][first], labels[name][copy], err_msg=name)


def test_duplicates__of_floats_are_equal_in_their_bytes(client, tmp_path):
    points = np.random.default_rng(0).normal(size=(1200, 5)).astype(np.float32)
    points[[7, 700]] = [0.0, 1.0, 2.0, 3.0, 4.0]
    points[300] = [-0.0, 1.0, 2.0, 3.0, 4.0]
    np.save(tmp_path / "points.npy", points)
    store = lean_run(tmp_path / "points.npy", tmp_path / "run", client)
    assert [g["indices"] for g in listed_duplicates(store.path)["groups"]] == [[7, 700]]


def test_verify__notices_a_damaged_and_an_exchanged_hash(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    place = tmp_path / "run" / "pca" / "hashes.zarr"
    rows = zarr_io.read_rows(place, "hash", 0, 512)
    zarr_io.write_rows(place, "hash", 0, rows[::-1].copy())
    damaged = status(tmp_path / "run", verify=True)["damaged"]
    assert "hashes.zarr/hash, rows 0 to 511: checksum differs" in damaged
    assert sum("hashes" in line for line in damaged) == 1
    zarr_io.shard_file(place, "hash", 0).unlink()
    with pytest.raises(StoreError, match="hash"):
        listed_duplicates(tmp_path / "run")


def test_duplicates__do_not_depend_on_the_blocks(finished, images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0])
    other = lean_run(tmp_path / "images.npy", tmp_path / "run", client, block_rows=700)
    one, two = (listed_duplicates(store.path, limit=1000) for store in (finished, other))
    assert one.pop("run") != two.pop("run")
    assert one == two


def test_duplicates__limit_keeps_the_largest(finished, monkeypatch):
    whole = listed_duplicates(finished.path, limit=1000)
    few = listed_duplicates(finished.path, limit=3)
    assert few["groups"] == whole["groups"][:3]
    assert (few["n_groups"], few["n_images"]) == (whole["n_groups"], whole["n_images"])
    monkeypatch.setattr(command, "MAX_LISTED", 4)
    short = listed_duplicates(finished.path, near=True, limit=1000)["groups"]
    full = {tuple(group["indices"][:4]): group["size"] for group in whole["groups"]}
    assert max(len(group["indices"]) for group in short) == 4
    assert full == {
        tuple(group["indices"]): group["size"] for group in short if group["kind"] == "exact"
    }


def test_duplicates__near_adds_cells_of_tiny_radius(finished, images):
    slight = set(images[2].tolist())
    found = listed_duplicates(finished.path, near=True, limit=1000)
    near = [group for group in found["groups"] if group["kind"] == "near"]
    assert found["near_groups"] == len(near) > 0
    assert found["near_images"] == sum(group["size"] for group in near)
    centroid = labels_of(finished)["centroid"].values
    for group in near:
        assert set(group["indices"]) <= slight
        assert len({int(c) for c in centroid[group["indices"]]}) == 1
        np.testing.assert_array_equal(
            group["indices"], np.flatnonzero(centroid == centroid[group["indices"][0]])
        )
    counted = count_duplicates(RunStore.open(finished.path))
    assert counted["near_cells"] == len(near)
    assert counted["near_images"] == found["near_images"]
    assert counted["exact_images"] == found["n_images"]


def test_duplicates__none_in_images_that_all_differ(client, tmp_path):
    np.save(tmp_path / "images.npy", picture_set(n=1200)[0])
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path, near=True)
    assert (found["groups"], found["n_groups"], found["near_groups"]) == ([], 0, 0)
    assert count_duplicates(store) == dict.fromkeys(
        ("exact_groups", "exact_images", "near_cells", "near_images"), 0
    )


def test_duplicates__all_images_equal(client, tmp_path):
    np.save(tmp_path / "images.npy", np.full((1500, 4, 4, 3), 7, np.uint8))
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path)
    assert (found["n_groups"], found["n_images"], found["n_copies"]) == (1, 1500, 1499)
    assert found["groups"][0]["indices"] == list(range(command.MAX_LISTED))
    assert count_duplicates(store)["exact_images"] == 1500


def test_run__with_many_duplicates_has_a_finite_tree(finished, images):
    for name in ("tree_distance", "tree_leaf_distance", "tree_lambda_val", "tree_persistence"):
        assert np.isfinite(finished.read_model(name)[0]).all(), name
    labels = labels_of(finished)
    for name in ("strength", "top_membership", "distance", "outlier_score"):
        assert np.isfinite(labels[name]).all()
    first, label = labels["top_label"].values[:, 0], labels["label"].values
    np.testing.assert_array_equal(first[label >= 0], label[label >= 0])
    assert adjusted_rand_score(images[1], labels["label_resolved"]) > 0.95
    for group in equal_rows(images[0]):
        assert len(np.unique(label[group])) == 1, "equal images have equal labels"


def test_predict__gives_equal_images_equal_memberships(finished, images, tmp_path):
    np.save(tmp_path / "again.npy", images[0][::-1])
    predict(finished.path, tmp_path / "again.npy", tmp_path / "p.zarr", progress=SILENT)
    again = {
        name: zarr_io.read_array(tmp_path / "p.zarr", name)[::-1]
        for name in without_families(labels_of(finished))
    }
    for name, array in without_families(labels_of(finished)).items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_command__prints_groups_and_files(on_client, run_cli, tmp_path):
    pictures, _ = picture_set(n=300, n_sources=3, shape=(8, 8, 3))
    pictures[200:240] = pictures[7]
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{index:03d}.png")
    quick = ("--set", "overcluster.n_centroids=30", "--set", "neighbors.enabled=false")
    words = ("run", tmp_path / "pictures", "--out", tmp_path / "run", "--set", "ingest.shape=8,8,3")
    assert run_cli(*words, *quick)[0] == 0
    status, out, err = run_cli("duplicates", tmp_path / "run", "--near")
    assert status == 0, err
    first, *_, exact, near = out.strip().splitlines()
    assert first.split("images: ")[1] == (
        "7, 200, 201, 202, 203, ...  (007.png, 200.png, 201.png, 202.png, 203.png, ...)"
    )
    assert exact == "1 group of exact duplicates: 41 of 300 images, 40 of them copies"
    assert near.startswith("0 centroids with nothing but near-duplicates: 0 images. Near-")
    status, out, _ = run_cli("duplicates", tmp_path / "run", "--json", "--limit", 1)
    found = last_json(out)
    assert found["groups"][0]["paths"][:2] == ["007.png", "200.png"]
    assert found == workflow.Run(tmp_path / "run").duplicates(limit=1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nowhere"], "must be a run folder"),
        (["{run}", "--limit", "0"], "must be at least 1 group"),
        (["{run}", "--limit", "few"], "few"),
        ([], "RUN"),
    ],
)
def test_command__a_mistake_is_one_line_and_exit_2(run_cli, finished, words, text):
    words = [word.format(run=finished.path) for word in words]
    status, out, err = run_cli("duplicates", *words)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert text in err


def test_command__refuses_a_run_without_labels(finished, tmp_path):
    with pytest.raises(ConfigError, match="at least 1 group"):
        listed_duplicates(tmp_path, limit=0)
    shutil.copytree(finished.path, tmp_path / "run")
    store = RunStore.open(tmp_path / "run")
    store.begin("labels", "other", {}, {}, [])
    with pytest.raises(StoreError, match="must have labels"):
        listed_duplicates(store.path)


def test_recut_and_other_noise__write_memberships_that_fit(finished, images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0])
    settings = {**SETTINGS, **LEAN, "labels.noise": "resolve"}
    run = workflow.run(
        tmp_path / "images.npy", tmp_path / "run", client=client, settings=settings, progress=False
    )
    resolved = run.dataset.load()
    np.testing.assert_array_equal(resolved["top_label"][:, 0], resolved["label"])
    assert (resolved["label"] >= 0).all()
    run.recut(n_clusters=3)
    recut = run.dataset.load()
    assert recut["top_label"].max() <= 2
    np.testing.assert_array_equal(recut["top_label"][:, 0], recut["label"])
    assert (recut["top_membership"].astype(np.float64).sum("rank") <= 1).all()
    predicted = run.predict(tmp_path / "images.npy").load()
    assert_same_labels(predicted, without_families(recut))
