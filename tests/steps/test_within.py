"""The metric within: scores whitened by the covariance within cells, in a run and in what reads it."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import (
    LEAN,
    SETTINGS,
    assert_same_labels,
    labels_of,
    lean_run,
    make_run,
)
from workflow.commands.status import status
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import fit_centroids
from workflow.runstore import zarr_io
from workflow.steps.parts.within import MAX_ITER, ROWS_PER_CENTROID, transform_of
from workflow.steps.projection import stored_scores

WITHIN = {"projection.metric": "within"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("within") / "images.npy"
    np.save(path, picture_set(n=2500)[0])
    return path


@pytest.fixture(scope="module")
def finished(images, client):
    return make_run(images, images.parent / "run", client, **WITHIN)


def test_transform__makes_the_covariance_within_cells_the_identity():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(6000, 4)) * [2, 1, 0.7, 0.5] + rng.normal(size=(6000, 1))).astype("f4")
    n_centroids = len(rows) // ROWS_PER_CENTROID
    fitted = fit_centroids(
        ArrayRows(rows), n_centroids, seed=0, mapper=SerialMapper(), max_iter=MAX_ITER
    )
    left = rows - fitted.centroids[cdist(rows, fitted.centroids).argmin(axis=1)]
    transform = transform_of(rows)
    found = transform @ (left.T.astype(float) @ left / len(rows)) @ transform.T
    np.testing.assert_allclose(found, np.eye(4), atol=0.05)


@pytest.mark.parametrize("n_rows", [2, 500])
def test_transform__of_equal_rows_leaves_them(n_rows):
    np.testing.assert_array_equal(transform_of(np.full((n_rows, 3), 7, np.float32)), np.eye(3))


def test_scores__are_those_on_the_components_transformed(finished):
    (transform,) = finished.read_model("projection_transform")
    raw = zarr_io.read_array(finished.path / "projection" / "scores.zarr", "scores")
    read = stored_scores(finished).read(100, 900)
    np.testing.assert_allclose(read, raw[100:900] @ transform.T, rtol=1e-4, atol=1e-4)
    distance = zarr_io.read_rows(finished.path / "neighbors.zarr", "distance", 100, 900)
    rows = stored_scores(finished).read(0, 2500).astype(float)
    nearest = np.sort(cdist(rows[100:900], rows), axis=1)[:, 1]
    np.testing.assert_allclose(distance[:, 0], nearest, rtol=1e-4)


@pytest.mark.parametrize("settings", [{}, {"projection.dtype": "float16"}, {"pca.whiten": True}])
def test_predict__gives_the_labels_of_the_run(images, client, tmp_path, settings):
    made = lean_run(images, tmp_path / "run", client, **WITHIN, **settings)
    found = workflow.Run(made.path).predict(images, tmp_path / "p.zarr").load()
    assert_same_labels(found, labels_of(made))


def test_run__without_workers_gives_the_same_bits(images, finished, tmp_path):
    settings = {**SETTINGS, **WITHIN, "compute.n_workers": 1}
    alone = workflow.run(images, tmp_path / "run", settings=settings, progress=False)
    assert_same_labels(alone.dataset.load(), labels_of(finished))


def test_run__with_another_metric_keeps_components_and_goes_back(images, client, tmp_path):
    store = make_run(images, tmp_path / "run", client, **LEAN)
    euclidean = labels_of(store)
    again = make_run(images, tmp_path / "run", client, **LEAN, **WITHIN)
    assert again.step("pca").seconds == store.step("pca").seconds
    assert not np.array_equal(labels_of(again)["distance"], euclidean["distance"])
    assert {step["state"] for step in status(again.path)["steps"].values()} == {"complete"}
    assert not status(again.path, verify=True)["damaged"]
    back = make_run(images, tmp_path / "run", client, **LEAN, **{"projection.metric": "euclidean"})
    assert_same_labels(labels_of(back), euclidean)
    assert not status(back.path, verify=True)["damaged"]
