"""A whole run on real workers, held against the truth, other workers and the libraries."""

from __future__ import annotations

import json
import shutil

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import (
    SETTINGS,
    assert_same_labels,
    copy_of,
    labels_of,
    lean_run,
    make_run,
    only,
    without_families,
)
from workflow.commands.status import status
from workflow.engine.summary import read_summary
from workflow.report.sentences import headline
from workflow.runstore import RunStore, zarr_io

SUMMARY_KEYS = {
    "n_samples",
    "n_clusters",
    "noise_fraction",
    "n_centroids",
    "n_components",
    "structure",
    "seconds",
    "peak_rss_bytes",
}


@pytest.fixture(scope="module")
def npy(tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, pictures[0])
    return path


@pytest.fixture(scope="module")
def finished(npy, client, tmp_path_factory):
    return make_run(npy, tmp_path_factory.mktemp("finished") / "run", client)


def test_run__finds_the_sources(finished, pictures):
    labels, summary = labels_of(finished), read_summary(finished)
    assert adjusted_rand_score(pictures[1], labels["label_resolved"]) > 0.99
    assert summary["n_clusters"] == len(np.unique(labels["label"].values[labels["label"] >= 0]))
    assert summary["n_clusters"] == 8


def test_run__leaves_what_the_contract_names(finished):
    summary = read_summary(finished)
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["n_samples"] == 4000
    assert summary["noise_fraction"] == pytest.approx(
        float((labels_of(finished)["label"] < 0).mean())
    )
    assert (finished.path / "report.html").is_file()
    manifest = json.loads((finished.path / "manifest.json").read_text())
    assert manifest["format_version"] == 1
    assert all(step["state"] == "complete" for step in manifest["steps"].values())
    model = zarr.open_group(finished.path / "model.zarr", mode="r")
    for name in ("mean", "components", "explained_variance", "centroids", "population"):
        assert name in model
    assert {"centroid_label", "layers", "graph_indptr", "graph_indices"} <= set(model)


def test_run__labels_have_the_types_of_the_contract(finished):
    labels = labels_of(finished)
    kinds = {name: str(labels[name].dtype) for name in labels}
    assert kinds == {
        "label": "int32",
        "label_resolved": "int32",
        "strength": "float32",
        "centroid": "int32",
        "second_centroid": "int32",
        "distance": "float32",
        "outlier_score": "float32",
        "top_label": "int32",
        "top_membership": "float32",
        "family": "int32",
        "family_strength": "float32",
        "x": "float32",
        "y": "float32",
    }
    assert labels["label"].dims == ("sample",)
    assert labels["top_label"].dims == labels["top_membership"].dims == ("sample", "rank")
    assert labels.sizes["rank"] == 3
    assert labels["label_resolved"].min() >= 0
    assert labels["strength"].min() >= 0
    assert labels["strength"].max() <= 1


def test_run__components_are_those_of_scikit_learn(finished, pictures):
    mean, components = finished.read_model("mean", "components")
    flat = pictures[0].reshape(len(pictures[0]), -1).astype(np.float64)
    reference = PCA(len(components), svd_solver="full").fit(flat)
    np.testing.assert_allclose(mean, flat.mean(axis=0), rtol=1e-12)
    overlap = np.abs(np.sum(components[:7] * reference.components_[:7], axis=1))
    np.testing.assert_allclose(overlap, 1, atol=1e-9)


def test_run__assigns_the_nearest_centroid(finished, pictures):
    mean, components, centroids = finished.read_model("mean", "components", "centroids")
    scores = (pictures[0].reshape(len(pictures[0]), -1) - mean) @ components.T
    distance = np.linalg.norm(scores[:, None] - centroids[None].astype(np.float64), axis=2)
    labels = labels_of(finished)
    chosen = distance[np.arange(len(scores)), labels["centroid"]]
    np.testing.assert_allclose(chosen, distance.min(axis=1), rtol=1e-5)
    np.testing.assert_allclose(labels["distance"], chosen, rtol=1e-4, atol=1e-3)


def test_run__population_counts_the_labels(finished):
    (population,) = finished.read_model("population")
    counted = np.bincount(labels_of(finished)["centroid"].values, minlength=len(population))
    np.testing.assert_array_equal(population, counted)
    assert population.min() > 0


def test_run__reads_the_same_from_every_kind_of_images(finished, pictures, client, tmp_path):
    """All that comes later is made from moments, hashes, statistics and scores."""
    images = pictures[0]
    np.savez(tmp_path / "images.npz", images=images)
    group = zarr.create_group(tmp_path / "images.zarr")
    stored = group.create_array("images", shape=images.shape, chunks=(700, 6, 6, 3), dtype="uint8")
    stored[:] = images
    kinds = {
        "npz": tmp_path / "images.npz",
        "zarr": tmp_path / "images.zarr",
        "array": images,
        "dask": da.from_array(images, chunks=(900, 6, 6, 3)),
        "xarray": xr.DataArray(images, dims=("sample", "y", "x", "channel")),
    }
    for name, kind in kinds.items():
        with only("ingest", "pca", "projection"):
            again = make_run(kind, tmp_path / name, client)
        assert (again.read_model("moments_sum")[0] == finished.read_model("moments_sum")[0]).all()
        stored = (
            ("pca/hashes.zarr", "hash"),
            ("pca/statistics.zarr", "statistics"),
            ("projection/scores.zarr", "scores"),
        )
        for place, array in stored:
            found, expected = (zarr_io.read_array(s.path / place, array) for s in (again, finished))
            np.testing.assert_array_equal(found, expected, err_msg=f"{name}: {array}")


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float32", "float64"])
def test_run__takes_every_dtype(client, tmp_path, dtype):
    images, source = picture_set(n=1500, n_sources=4, dtype=dtype)
    np.save(tmp_path / "images.npy", images)
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client)
    assert adjusted_rand_score(source, labels_of(store)["label_resolved"]) > 0.99


def test_run__of_equal_images_is_one_cluster(client, tmp_path):
    np.save(tmp_path / "images.npy", np.full((500, 4, 4, 3), 7, np.uint8))
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client)
    labels = labels_of(store)
    assert (labels["label"] == 0).all()
    assert not labels["distance"].any()
    summary = read_summary(store)
    assert summary["structure"] in ("none", "untested")
    assert headline(summary) == "All 500 images are equal"


def test_run__of_many_duplicates_finds_them(client, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    which = rng.integers(0, 5, 6000)
    np.save(tmp_path / "images.npy", images[which])
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client)
    assert adjusted_rand_score(which, labels_of(store)["label"]) == 1
    summary = read_summary(store)
    assert (summary["n_centroids"], summary["duplicates"]["exact_groups"]) == (5, 5)


def test_python__gives_the_same_as_the_steps(finished, npy, client, tmp_path):
    run = workflow.run(npy, tmp_path / "run", client=client, settings=SETTINGS, progress=False)
    labels = labels_of(finished)["label"].values
    np.testing.assert_array_equal(run.labels.compute(), labels)
    assert run.n_clusters == read_summary(finished)["n_clusters"]
    assert isinstance(run.labels, da.Array)
    assert run.dataset.sizes["sample"] == 4000
    assert "4000" in repr(run)
    assert "<" in run._repr_html_()
    predicted = run.predict(np.load(npy))
    assert_same_labels(predicted.load(), without_families(labels_of(finished)))
    run.recut(n_clusters=4)
    assert run.n_clusters == 4
    assert run.report().is_file()


def test_status__verify_reads_a_run_that_was_moved(finished, tmp_path):
    """Of every file: test_alterations.py."""
    moved = copy_of(finished, tmp_path / "run").path
    assert status(moved, verify=True)["damaged"] == []
    shard = next(p for p in (moved / "labels.zarr/label/c").rglob("*") if p.is_file())
    altered = bytearray(shard.read_bytes())
    altered[len(altered) // 2] ^= 1
    shard.write_bytes(altered)
    assert status(moved, verify=True)["damaged"]


def test_profile_reference__agrees_with_ours(npy, finished, client, tmp_path, pictures):
    settings = {"pca.n_components": 7}
    store = lean_run(npy, tmp_path / "run", client, profile="reference", **settings)
    (components,), (reference,) = finished.read_model("components"), store.read_model("components")
    # Eight sources: seven directions stand out, the rest is noise.
    overlap = np.linalg.svd(components[:7] @ reference[:7].T, compute_uv=False)
    np.testing.assert_allclose(overlap, 1, atol=1e-3)
    ours = lean_run(npy, tmp_path / "ours", client, **settings)
    inertia = [s.step("overcluster").details["inertia"] for s in (ours, store)]
    assert inertia[0] <= 1.05 * inertia[1]
    assert adjusted_rand_score(pictures[1], labels_of(store)["label_resolved"]) > 0.7


def test_open__takes_a_run_folder_with_the_names_of_earlier_versions(finished, tmp_path):
    old = tmp_path / "run"
    shutil.copytree(finished.path, old)
    manifest, summary = old / "manifest.json", old / "summary.json"
    content = json.loads(manifest.read_text())
    content.pop("checksum")
    manifest.write_text(
        json.dumps(content)
        .replace('"overcluster.max_iter"', '"overcluster.max_rounds"')
        .replace('"n_iter"', '"n_rounds"')
        .replace('"n_centroids_requested"', '"n_centroids_asked"')
    )
    for path in (manifest, summary):
        path.write_text(
            path.read_text()
            .replace('"n_clusters_by_method"', '"tree_opinions"')
            .replace('"n_clusters_by_threshold"', '"ladder"')
        )

    run, same = workflow.Run(old), RunStore.open(old)
    assert read_summary(same) == read_summary(finished)
    assert same.manifest.config == finished.manifest.config
    for name, record in finished.manifest.steps.items():
        assert same.step(name).details == record.details
        assert same.step(name).settings == record.settings
    assert {step["state"] for step in status(old)["steps"].values()} == {"complete"}
    run.recut(n_clusters=5)
    assert run.summary["cut"] == {"n_clusters": 5}
    content = json.loads(manifest.read_text())
    content.pop("checksum")
    manifest.write_text(json.dumps(content).replace('"requested"', '"asked"'))
    assert RunStore.open(old).manifest.cut["requested"] == {"n_clusters": 5}
