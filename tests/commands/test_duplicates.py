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
    SETTINGS,
    assert_same_labels,
    labels_of,
    make_run,
    without_families,
)
from workflow.commands import duplicates
from workflow.commands.duplicates import duplicates as listed_duplicates
from workflow.commands.predict import predict
from workflow.engine.progress import Progress
from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore, zarr_io
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
    scores = zarr_io.read_array(finished.path / "projection" / "scores.zarr", "scores")
    expected = equal_rows(scores)
    assert [group["indices"] for group in found["groups"]] == expected
    assert {group["kind"] for group in found["groups"]} == {"exact"}
    assert [group["size"] for group in found["groups"]] == [len(group) for group in expected]
    assert equal_rows(images[0]) == expected, "other images have other scores"
    assert len(expected) > 45
    assert found["n_groups"] == len(expected)
    assert found["n_images"] == sum(map(len, expected)) == found["n_copies"] + len(expected)
    assert not (finished.path / "wip" / "duplicates").exists()
    json.dumps(found)


@pytest.mark.parametrize(("bucket_rows", "most"), [(40, 1024), (100, 3), (5000, 1)])
def test_duplicates__do_not_depend_on_the_buckets(finished, monkeypatch, bucket_rows, most):
    whole = listed_duplicates(finished.path, near=True, limit=30)
    monkeypatch.setattr(duplicates, "BUCKET_ROWS", bucket_rows)
    monkeypatch.setattr(duplicates, "MAX_BUCKETS", most)
    assert listed_duplicates(finished.path, near=True, limit=30) == whole


def test_duplicates__do_not_depend_on_the_blocks(finished, images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0])
    other = make_run(tmp_path / "images.npy", tmp_path / "run", client, block_rows=700)
    one, two = (listed_duplicates(store.path, limit=1000) for store in (finished, other))
    assert one.pop("run") != two.pop("run")
    assert one == two


def test_duplicates__limit_keeps_the_largest(finished, monkeypatch):
    whole = listed_duplicates(finished.path, limit=1000)
    few = listed_duplicates(finished.path, limit=3)
    assert few["groups"] == whole["groups"][:3]
    assert (few["n_groups"], few["n_images"]) == (whole["n_groups"], whole["n_images"])
    monkeypatch.setattr(duplicates, "MAX_LISTED", 4)
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
    assert 12 <= counted["exact_cells"] <= found["n_groups"]
    assert 1200 <= counted["exact_images"] <= found["n_images"]


def test_duplicates__none_in_images_that_all_differ(client, tmp_path):
    np.save(tmp_path / "images.npy", picture_set(n=1200)[0])
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path, near=True)
    assert (found["groups"], found["n_groups"], found["near_groups"]) == ([], 0, 0)
    assert count_duplicates(store) == dict.fromkeys(
        ("exact_cells", "exact_images", "near_cells", "near_images"), 0
    )


def test_duplicates__all_images_equal(client, tmp_path):
    np.save(tmp_path / "images.npy", np.full((1500, 4, 4, 3), 7, np.uint8))
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path)
    assert (found["n_groups"], found["n_images"], found["n_copies"]) == (1, 1500, 1499)
    assert found["groups"][0]["indices"] == list(range(duplicates.MAX_LISTED))
    assert count_duplicates(store)["exact_images"] == 1500


def test_fingerprint__rows_that_differ_in_one_word_differ():
    rng = np.random.default_rng(0)
    words = np.repeat(rng.integers(0, 2**32, (1, 9), dtype=np.uint32), 5000, axis=0)
    words[:, 4] = np.arange(5000)
    for start, factor in (duplicates.FIRST, duplicates.SECOND):
        assert factor % 2 == 1
        assert len(np.unique(duplicates._fingerprint(words, start, factor))) == 5000


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
        name: zarr_io.read_array(tmp_path / "p.zarr", name)[::-1] for name in labels_of(finished)
    }
    for name, array in labels_of(finished).items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_command__prints_groups_and_files(run_cli, tmp_path):
    pictures, _ = picture_set(n=300, n_sources=3, shape=(8, 8, 3))
    pictures[200:240] = pictures[7]
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{index:03d}.png")
    quick = ("--set", "overcluster.n_centroids=30", "--set", "compute.n_workers=1")
    words = ("run", tmp_path / "pictures", "--out", tmp_path / "run", "--set", "ingest.shape=8,8,3")
    assert run_cli(*words, *quick)[0] == 0
    status, out, err = run_cli("duplicates", tmp_path / "run", "--near")
    assert status == 0, err
    first, *_, exact, near = out.strip().splitlines()
    assert first.split("images: ")[1] == (
        "7, 200, 201, 202, 203, ...  (007.png, 200.png, 201.png, 202.png, 203.png, ...)"
    )
    assert exact == "1 groups of exact duplicates: 41 of 300 images, 40 of them copies"
    assert near.startswith("0 cells of near-duplicates")
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


def test_command__refuses_a_run_without_labels_or_scores(finished, tmp_path):
    with pytest.raises(ConfigError, match="at least 1 group"):
        listed_duplicates(tmp_path, limit=0)
    shutil.copytree(finished.path, tmp_path / "run")
    store = RunStore.open(tmp_path / "run")
    (store.path / "projection" / "scores.zarr").rename(tmp_path / "moved.zarr")
    with pytest.raises(StoreError, match="scores"):
        listed_duplicates(store.path)
    assert not (store.path / "wip" / "duplicates").exists()
    store.begin("labels", "other", {}, {}, [])
    with pytest.raises(StoreError, match="must have labels"):
        listed_duplicates(store.path)


def test_recut_and_other_noise__write_memberships_that_fit(finished, images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0])
    settings = {**SETTINGS, "labels.noise": "resolve"}
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
