"""Where the answer is one cluster: partitions to look at, whitening tried, brightness named."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import adjusted_rand_score

import workflow
from tests.runs.helpers import labels_of
from workflow.graph import Graph
from workflow.runstore import RunStore
from workflow.steps.browsing.suggestions import BrightnessOf, modularity

SETTINGS = {"block_rows": 2048, "tree.n_resamples": 4, "neighbors.enabled": False}


def run_on(images, folder, client, **settings):
    """Run the workflow on images."""
    if not (folder / "images.npy").exists():
        np.save(folder / "images.npy", images)
    settings = {**SETTINGS, **settings}
    return workflow.run(
        folder / "images.npy", folder / "run", client=client, settings=settings, progress=False
    )


@pytest.fixture(scope="module")
def bright(client, tmp_path_factory):
    """Images of one texture, brighter and darker: a continuum."""
    rng = np.random.default_rng(1)
    values = rng.normal(128, 25, (8_000, 1, 1)) + rng.normal(0, 14, (8_000, 6, 6))
    images = values.clip(0, 255).astype(np.uint8)
    return images, run_on(images, tmp_path_factory.mktemp("bright"), client)


def test_run__of_one_cluster_offers_partitions_and_stores_the_suggested_one(bright):
    images, run = bright
    store, summary = RunStore.open(run.path), run.summary
    assert (summary["structure"], summary["n_clusters"]) == ("none", 1)
    offers = summary["partitions"]
    assert [offer["is_suggested"] for offer in offers].count(True) == 1
    suggested = labels_of(store)["label_suggested"]
    assert suggested.dtype == np.int32
    page = (run.path / "report.html").read_text()
    for offer in offers:
        assert f"overcluster recut {run.path} --layer {offer['layer']}" in page
        run.recut(layer=offer["layer"])
        labels = labels_of(store)
        assert "label_suggested" not in labels
        label = labels["label"].values
        _, sizes = np.unique(label[label >= 0], return_counts=True)
        assert (len(sizes), sizes.max(), sizes.min()) == (
            offer["n_clusters"],
            offer["largest"],
            offer["smallest"],
        )
        assert sizes.max() <= 0.9 * len(images)
        if offer["is_suggested"]:
            given = label
            pairs = np.unique(np.column_stack([label, suggested]), axis=0)
            assert len(pairs) == len(np.unique(label)) == len(np.unique(suggested))
    again = run.recut(configured=True).summary
    # With the ids that the recut gave.
    np.testing.assert_array_equal(labels_of(store)["label_suggested"], given)
    assert again["partitions"] == offers


def test_run__names_partitions_that_follow_brightness(bright):
    """Against the pixels: which share of the variance of the mean of an image the labels tell."""
    images, run = bright
    brightness = images.reshape(len(images), -1).mean(axis=1)
    label = labels_of(RunStore.open(run.path))["label_suggested"].values
    means = np.array([brightness[label == c].mean() for c in range(label.max() + 1)])
    between = ((means[label] - brightness.mean()) ** 2)[label >= 0].mean()
    shares = run.summary["brightness"]
    assert shares["explained"] == pytest.approx(between / brightness.var(), abs=0.03)
    assert shares["along"] > 0.95
    assert "follow brightness" in (run.path / "report.html").read_text()


def test_brightness__of_parts_that_differ_elsewhere(bright, client, tmp_path):
    """Parts of equal brightness: half of the pixels up, half of them down."""
    rng = np.random.default_rng(1)
    side = np.sign(rng.normal(size=4_000))
    pattern = np.where(np.arange(36).reshape(6, 6) % 2 == 0, 30, -30)
    images = 128 + side[:, None, None] * pattern + rng.normal(0, 8, (4_000, 6, 6))
    run = run_on(images.clip(0, 255).astype(np.uint8), tmp_path, client)
    assert run.n_clusters == 2
    assert run.summary["brightness"]["along"] < 0.05
    assert "follow brightness" not in (run.path / "report.html").read_text()


@pytest.mark.parametrize("settings", [{"pca.whiten": True}, {"projection.metric": "within"}])
def test_brightness__of_whitened_scores_against_the_pixels(bright, client, tmp_path, settings):
    images, _ = bright
    white = run_on(images, tmp_path, client, **settings)
    store, brightness = RunStore.open(white.path), images.reshape(len(images), -1).mean(axis=1)
    mean, population = store.read_model("centroid_mean", "population")
    cell = white.dataset["centroid"].values
    of_cells = np.bincount(cell, brightness) / population
    part = np.digitize(of_cells, np.quantile(of_cells, [0.3, 0.8]))
    shares = BrightnessOf(store, is_whitened="pca.whiten" in settings).shares(
        part, mean, population
    )
    means = np.array([brightness[part[cell] == c].mean() for c in range(3)])
    between = ((means[part[cell]] - brightness.mean()) ** 2).mean()
    assert shares["explained"] == pytest.approx(between / brightness.var(), abs=0.02)


def test_run__says_where_whitened_scores_show_groups(client, tmp_path):
    """Four groups along two directions of little variance, under one of much."""
    rng = np.random.default_rng(2)
    n = 12_000
    source = rng.integers(0, 4, n)
    points = rng.normal(size=(n, 6)) * [60, 60, 60, 1, 1, 1]
    points[:, 3] += np.where(source % 2, 4, -4)
    points[:, 4] += np.where(source // 2, 4, -4)
    settings = {"pca.n_components": 6}
    run = run_on(points.astype(np.float32), tmp_path, client, **settings)
    assert run.n_clusters == 1
    assert run.summary["whitened"]["n_clusters"] == 4
    assert "they fall into 4 separate groups" in (run.path / "report.html").read_text()
    again = run_on(points.astype(np.float32), tmp_path, client, **settings, **{"pca.whiten": True})
    assert adjusted_rand_score(source, again.labels.compute()) > 0.9


def test_modularity__against_its_definition():
    rng = np.random.default_rng(0)
    dense = np.triu(rng.poisson(0.8, (30, 30)), 1)
    dense += dense.T
    matrix, label = sparse.csr_array(dense), rng.integers(-1, 3, 30)
    graph = Graph(matrix.indptr, matrix.indices, matrix.data)
    total = dense.sum()
    expected = sum(
        dense[np.ix_(label == c, label == c)].sum() / total - (dense[label == c].sum() / total) ** 2
        for c in range(-1, 3)
    )
    assert modularity(graph, label) == pytest.approx(expected)
