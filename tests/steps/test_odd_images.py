"""Outliers: one of each centroid, found block by block as by sorting everything; groups and copies apart."""

from __future__ import annotations

import numpy as np
import pytest

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import LEAN, SETTINGS, labels_of
from workflow.engine.summary import read_summary
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import open_images
from workflow.steps.browsing import odd_images
from workflow.steps.browsing.odd_images import find_outliers, strongest_outliers
from workflow.steps.projection import stored_scores
from workflow.steps.report import ContactSheets

N_LONE, N_GROUPS, N_ALIKE = 6, 4, 9


@pytest.fixture(scope="module")
def planted(client, tmp_path_factory):
    """Pictures, lone images unlike them, and small groups of nearly equal ones unlike them."""
    folder, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(5)
    images = picture_set(n=4000, seed=5)[0]
    lone = rng.integers(0, 256, (N_LONE, 6, 6, 3))
    middles = rng.integers(0, 256, (N_GROUPS, 6, 6, 3))
    alike = middles[np.repeat(np.arange(N_GROUPS), N_ALIKE)]
    alike = (alike + rng.normal(0, 2, alike.shape)).round().clip(0, 255)
    whole = np.concatenate([images, lone, alike]).astype(np.uint8)
    np.save(folder / "images.npy", whole)
    settings = {**SETTINGS, **LEAN, "overcluster.n_centroids": 14}
    run = workflow.run(
        folder / "images.npy", folder / "run", client=client, settings=settings, progress=False
    )
    return RunStore.open(run.path), whole


@pytest.mark.parametrize("read_rows", [300, 2**20])
@pytest.mark.parametrize("n", [3, 100])
def test_strongest_outliers__equal_a_search_through_everything(planted, monkeypatch, read_rows, n):
    store, _ = planted
    monkeypatch.setattr(odd_images, "READ_ROWS", read_rows)
    labels = labels_of(store)
    score, centroid = labels["outlier_score"].values, labels["centroid"].values
    best = [
        max(np.flatnonzero(centroid == c), key=lambda row: (score[row], -row))
        for c in np.unique(centroid)
    ]
    best = sorted(best, key=lambda row: (-score[row], row))[:n]
    found = strongest_outliers(store, n)
    kept = np.array([row for row in best if score[row] > 0])
    np.testing.assert_array_equal(found.row, kept)
    np.testing.assert_array_equal(found.outlier_score, score[kept])
    assert len(np.unique(found.centroid)) == len(found.row)


def test_find_outliers__tells_lone_images_from_small_groups(planted):
    """By definition: a group has another outlying image that is nearer than the centroid."""
    store, whole = planted
    lone, grouped, n_near = find_outliers(store, 48)
    labels, scores = labels_of(store), stored_scores(store).read(0, len(whole)).astype(np.float64)
    score, centroid = labels["outlier_score"].values, labels["centroid"].values
    best = strongest_outliers(store, 48)
    expected = {}
    for row in best.row.tolist():
        far = np.flatnonzero((centroid == centroid[row]) & (score > 0.5))
        far = sorted(set(far.tolist()) - {row}, key=lambda r: (-score[r], r))[:8]
        gaps = np.linalg.norm(scores[far] - scores[row], axis=1)
        expected[row] = np.count_nonzero(gaps < labels["distance"].values[row])
    assert {row for row, n in expected.items() if n == 0} == set(lone.row.tolist())
    assert [expected[row] for row in grouped.row.tolist()] == n_near.tolist()
    assert len(lone.row)
    assert len(grouped.row)


def test_sheets__show_each_odd_image_once(planted):
    store, whole = planted
    images = open_images(store.manifest.images["path"])
    sheets = ContactSheets(store, images, read_summary(store), n_clusters=2, n_images=4)
    found = find_outliers(store, 48)
    by_title = {sheet.title: sheet for sheet in sheets}
    np.testing.assert_array_equal(by_title["Strongest outliers"].images, whole[found.lone.row])
    if len(found.grouped.row):
        shown = by_title["Small groups far out"]
        np.testing.assert_array_equal(shown.images, whole[found.grouped.row])


def test_sheets__of_copies_hold_one_image_of_each_group(client, tmp_path):
    images = picture_set(n=2000, seed=6)[0]
    images[100:300] = images[0]
    images[300:340] = images[1]
    # Pairs share centroids with other images.
    images[1000:1060] = images[900:960]
    np.save(tmp_path / "images.npy", images)
    run = workflow.run(
        tmp_path / "images.npy",
        tmp_path / "run",
        client=client,
        settings={**SETTINGS, **LEAN, "overcluster.n_centroids": 400},
        progress=False,
    )
    store = RunStore.open(run.path)
    sheets = ContactSheets(
        store, open_images(tmp_path / "images.npy"), run.summary, n_clusters=1, n_images=4
    )
    copies = next(sheet for sheet in sheets if sheet.title == "Copies")
    _, first, count = np.unique(
        images.reshape(len(images), -1), axis=0, return_index=True, return_counts=True
    )
    order = np.lexsort((first, -count))[: np.count_nonzero(count > 1)]
    np.testing.assert_array_equal(copies.images, images[first[order][:48]])
    assert copies.caption == (
        f"one image of each group of equal images, 48 of 62; 2 to 201 images each; "
        f"all: overcluster duplicates {run.path}"
    )
    found = run.duplicates()
    assert found["n_groups"] == 62
    assert run.summary["duplicates"]["exact_groups"] == 62
