"""Duplicates of a run, against brute force; and what a run with very many of them looks like."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist
from sklearn.datasets import load_sample_images
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
from workflow.steps.overcluster import count_duplicates
from workflow.steps.parts import duplicates as grouping
from workflow.steps.parts import near_duplicates

SILENT = Progress(enabled=False)
#: Runs with neighbours, which near duplicates are found by.
near_run = partial(lean_run, **{"neighbors.enabled": True})


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


def scores_of(run):
    """Return the scores of a run."""
    place = StoredRows.open(run.path / "projection" / "scores.zarr", "scores")
    return place.read(0, place.n_samples).astype(np.float64)


def linked_within(rows, radius):
    """Return the sets of two or more rows that hang together, by comparing all with all."""
    apart = cdist(rows, rows)
    _, of = connected_components(apart <= radius)
    sets = [np.flatnonzero(of == one) for one in np.flatnonzero(np.bincount(of) > 1)]
    return [(rows.tolist(), apart[np.ix_(rows, rows)].max()) for rows in sets]


def of_kind(found, kind):
    """Return the groups of a kind."""
    return [group for group in found["groups"] if group["kind"] == kind]


def test_near__groups_are_those_of_brute_force(finished, images):
    found = listed_duplicates(finished.path, near=True, limit=1000)
    near = of_kind(found, "near")
    assert sorted(images[2].tolist()) in [group["indices"] for group in near]
    rows = scores_of(finished)
    expected = linked_within(rows, found["within"])
    assert max(diameter for _, diameter in expected) < 2 * found["within"]
    by_first = {rows[0]: (rows, diameter) for rows, diameter in expected}
    exact = [group["indices"] for group in of_kind(found, "exact")]
    for group in near:
        rows, diameter = by_first[group["indices"][0]]
        assert group["indices"] == rows
        assert group["diameter"] == pytest.approx(diameter, abs=1e-6)
        assert group["chain"] == group["size"] == len(rows)
        assert rows not in exact
    assert len(near) + sum(rows in exact for rows, _ in expected) == len(expected)
    assert (found["near_groups"], found["near_images"]) == (
        len(near),
        sum(group["size"] for group in near),
    )
    json.dumps(found)


def test_near__does_not_depend_on_the_buckets(finished, monkeypatch):
    whole = listed_duplicates(finished.path, within=30.0, limit=1000)
    assert whole["near_groups"] > 0
    monkeypatch.setattr(near_duplicates, "BUCKET_ROWS", 7)
    assert listed_duplicates(finished.path, within=30.0, limit=1000) == whole


def test_near__a_chain_is_cut_and_said_so(client, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(0, 100, (1200, 5))
    points[:200] = 0
    points[:200, 0] = 2000 + np.arange(200)
    np.save(tmp_path / "points.npy", points.astype(np.float32))
    run = workflow.Run(near_run(tmp_path / "points.npy", tmp_path / "run", client).path)
    found = run.duplicates(within=1.5, limit=1000)
    listed = [index for group in found["groups"] for index in group["indices"]]
    assert set(listed) <= set(range(200))
    assert len(listed) == len(set(listed)) > 150
    assert {group["chain"] for group in found["groups"]} == {200}
    assert all(group["diameter"] <= 3 for group in found["groups"])
    assert command.describe(found).splitlines()[0].endswith("cut from a chain of 200")


def test_near__images_with_more_copies_than_neighbours_are_one_group(client, tmp_path):
    images, _ = picture_set(n=1200, noise=40.0)
    images[:90] = images[0]
    images[30:60, 0, 0, 0] ^= 1
    images[60:90, 1, 1, 1] ^= 2
    np.save(tmp_path / "images.npy", images)
    run = workflow.Run(near_run(tmp_path / "images.npy", tmp_path / "run", client).path)
    found = run.duplicates(within=5.0)
    assert [group["indices"] for group in of_kind(found, "near")] == [list(range(90))]
    assert [group["size"] for group in of_kind(found, "exact")] == [30, 30, 30]


def windows(size=16, step=16, contrast=25):
    """Windows of scikit-learn's photographs that show something, and the same a pixel aside."""
    here, aside = [], []
    for photo in load_sample_images().images:
        for y in range(0, photo.shape[0] - size, step):
            for x in range(0, photo.shape[1] - size, step):
                window = photo[y : y + size, x : x + size]
                if window.std(axis=(0, 1)).mean() >= contrast:
                    here.append(window)
                    aside.append(photo[y : y + size, x + 1 : x + 1 + size])
    return np.array(here), np.array(aside)


def test_near__finds_planted_noise_and_brightness(client, tmp_path):
    rng = np.random.default_rng(0)
    photos, _ = windows()
    noisy, brighter, many = np.split(rng.permutation(len(photos))[:121], [60, 120])
    changed = [
        photos[noisy] + rng.normal(0, 2, (60, 16, 16, 3)),
        1.02 * photos[brighter],
        photos[many] + rng.normal(0, 2, (100, 16, 16, 3)),
    ]
    planted = np.clip(np.rint(np.concatenate(changed)), 0, 255).astype(np.uint8)
    np.save(tmp_path / "images.npy", np.concatenate([photos, planted]))
    run = workflow.Run(near_run(tmp_path / "images.npy", tmp_path / "run", client).path)
    found = run.duplicates(near=True, limit=1000)
    first = len(photos) + np.arange(120)
    pairs = [[one, other] for one, other in zip([*noisy, *brighter], first, strict=True)]
    group = [*many, *range(first[-1] + 1, len(photos) + 220)]
    listed = [group["indices"] for group in found["groups"]]
    assert sorted(group) in listed
    assert sum(pair in listed for pair in pairs) >= 0.99 * len(pairs)
    assert found["near_groups"] == len(listed) <= 1.01 * (len(pairs) + 1)
    # The page says it without being asked.
    run.report()
    assert run.summary["near_duplicates"] == {
        "within": found["within"],
        "groups": found["near_groups"],
        "images": found["near_images"],
    }
    page = (run.path / "report.html").read_text()
    assert f"{len(listed)} groups of near-duplicates hold {found['near_images']} images." in page
    assert (
        f"one image of each group of near-duplicates, 48 of {len(listed)}; 2 to 101 images each; "
        f"all: overcluster duplicates {run.path} --near"
    ) in page
    assert not status(run.path, verify=True)["damaged"]


def test_near__finds_windows_a_pixel_aside_as_well_as_a_search_in_pixels(client, tmp_path):
    photos, aside = windows()
    chosen = np.random.default_rng(0).permutation(len(photos))[:60]
    images = np.concatenate([photos, aside[chosen]])
    np.save(tmp_path / "images.npy", images)
    store = near_run(tmp_path / "images.npy", tmp_path / "run", client)
    pairs = {(int(i), len(photos) + at) for at, i in enumerate(chosen)}

    def hits(rows):
        """Return which of the links to the nearest, shortest first, join a window and its neighbour."""
        apart = cdist(rows, rows)
        np.fill_diagonal(apart, np.inf)
        nearest = apart.argmin(axis=1)
        links = {tuple(sorted((i, int(j)))): apart[i, j] for i, j in enumerate(nearest)}
        return np.array([link in pairs for link in sorted(links, key=links.get)])

    ours, pixels = hits(scores_of(store)), hits(images.reshape(len(images), -1).astype(np.float64))
    assert ours.sum() >= min(0.9 * len(pairs), pixels.sum())
    for n_links in (20, 40, 80):
        assert ours[:n_links].sum() >= pixels[:n_links].sum()


def test_near__without_a_dip_asks_for_a_radius(client, tmp_path, run_cli):
    np.save(tmp_path / "points.npy", np.random.default_rng(0).normal(size=(2000, 5)))
    store = make_run(tmp_path / "points.npy", tmp_path / "run", client)
    status, out, err = run_cli("duplicates", store.path, "--near")
    assert status == 0, err
    assert "no dip in the distances to the nearest image" in out.splitlines()[-1]
    assert "give --within D" in out.splitlines()[-1]
    found = listed_duplicates(store.path, near=True)
    assert (found["within"], found["near_groups"], found["groups"]) == (None, None, [])
    rows = scores_of(store)
    nearest = np.sort(cdist(rows, rows), axis=1)[:, 1]
    for share, distance in found["nearest_distances"].items():
        assert distance / 1.07 < np.quantile(nearest, float(share)) < distance * 1.07


def test_near__without_neighbours_says_which_setting_makes_them(client, tmp_path, run_cli):
    np.save(tmp_path / "images.npy", picture_set(n=600)[0])
    settings = {"neighbors.enabled": False}
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client, **settings)
    assert listed_duplicates(store.path)["n_groups"] == 0
    status, out, err = run_cli("duplicates", store.path, "--near")
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert "--set neighbors.enabled=true" in err


def test_duplicates__none_in_images_that_all_differ(client, tmp_path):
    np.save(tmp_path / "images.npy", picture_set(n=1200)[0])
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path, near=True)
    assert (found["groups"], found["n_groups"], found["near_groups"]) == ([], 0, None)
    assert count_duplicates(store) == dict.fromkeys(
        ("exact_groups", "exact_images", "near_cells", "near_images"), 0
    )


def test_duplicates__all_images_equal(client, tmp_path):
    np.save(tmp_path / "images.npy", np.full((1500, 4, 4, 3), 7, np.uint8))
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client)
    found = listed_duplicates(store.path, near=True)
    assert (found["n_groups"], found["n_images"], found["n_copies"]) == (1, 1500, 1499)
    assert command.describe(found).endswith("no image has neighbours that differ from it")
    assert listed_duplicates(store.path, within=1.0)["near_groups"] == 0
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
    for name, array in without_families(labels_of(finished)).items():
        again = zarr_io.read_array(tmp_path / "p.zarr", name)[::-1]
        np.testing.assert_array_equal(again, array, err_msg=name)


def test_command__prints_groups_and_files(on_client, run_cli, tmp_path):
    pictures, _ = picture_set(n=300, n_sources=3, shape=(8, 8, 3))
    pictures[200:240] = pictures[7]
    (tmp_path / "pictures").mkdir()
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{index:03d}.png")
    quick = ("--set", "overcluster.n_centroids=30")
    words = ("run", tmp_path / "pictures", "--out", tmp_path / "run", "--set", "ingest.shape=8,8,3")
    assert run_cli(*words, *quick)[0] == 0
    status, out, err = run_cli("duplicates", tmp_path / "run", "--near")
    assert status == 0, err
    first, *_, exact, near = out.strip().splitlines()
    assert first.split("images: ")[1] == (
        "7, 200, 201, 202, 203, ...  (007.png, 200.png, 201.png, 202.png, 203.png, ...)"
    )
    assert exact == "1 group of exact duplicates: 41 of 300 images, 40 of them copies"
    assert near.startswith("near-duplicates: no dip ")
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
        (["{run}", "--within", "0"], "must be a distance above 0"),
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
    numbers = np.unique(recut["label"])
    assert len(numbers) == 3
    assert np.isin(recut["top_label"], [-1, *numbers]).all()
    np.testing.assert_array_equal(recut["top_label"][:, 0], recut["label"])
    assert (recut["top_membership"].astype(np.float64).sum("rank") <= 1).all()
    predicted = run.predict(tmp_path / "images.npy").load()
    assert_same_labels(predicted, without_families(recut))
