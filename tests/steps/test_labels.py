"""Noise decided image by image in whole runs: against the truth, the counts, other settings, new images."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import workflow
from tests.runs.helpers import (
    LEAN,
    assert_same_labels,
    copy_of,
    labels_of,
    make_run,
)
from workflow.commands.predict import predict
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.runstore import RunStore
from workflow.runstore.manifest import Manifest
from workflow.steps import load_config
from workflow.steps.parts.clusters.counts import (
    MAX_LISTED,
    count_labels,
    reported_counts,
    stored_counts,
    sum_counts,
)


def noisy_blobs(n=24_000, n_clusters=20, n_features=12, noise=0.05, seed=0):
    """Blobs in uniform noise over their box; the noise has source -1."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-10, 10, (n_clusters, n_features))
    source = rng.integers(0, n_clusters, n)
    source[rng.random(n) < noise] = -1
    points = centres[source] + rng.normal(0, 0.6, (n, n_features))
    stray = source < 0
    points[stray] = rng.uniform(points.min(axis=0), points.max(axis=0), (stray.sum(), n_features))
    return points.astype(np.float32), source


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Return the path of noisy blobs, and their sources."""
    points, source = noisy_blobs()
    path = tmp_path_factory.mktemp("blobs") / "blobs.npy"
    np.save(path, points)
    return path, source


@pytest.fixture(scope="module")
def found(blobs, client, tmp_path_factory):
    """Run the workflow on noisy blobs."""
    out = tmp_path_factory.mktemp("found") / "run"
    settings = {"block_rows": 4096, "neighbors.enabled": False}
    return workflow.run(blobs[0], out, client=client, settings=settings, progress=False)


def test_run__tells_noise_from_clusters(found, blobs):
    label, is_stray = found.labels.compute(), blobs[1] < 0
    hits = np.count_nonzero((label < 0) & is_stray)
    assert hits / np.count_nonzero(label < 0) >= 0.95
    assert hits / np.count_nonzero(is_stray) >= 0.95
    rows = found.dataset.load()
    np.testing.assert_array_equal(rows["label"] < 0, rows["outlier_score"] > 0.8)
    np.testing.assert_array_equal(
        rows["label"].where(rows["label"] >= 0, rows["label_resolved"]), rows["label_resolved"]
    )
    assert (rows["strength"].values[label < 0] == 0).all()


def counted(rows):
    """Return noise share and sizes from labels."""
    label = rows["label"].values
    return (label < 0).mean(), np.bincount(label[label >= 0])


def assert_summary_fits(run):
    """Hold the summary of a run against its labels."""
    share, sizes = counted(labels_of(run))
    summary = read_summary(RunStore.open(run.path))
    assert summary["noise_fraction"] == share
    assert summary["cluster_sizes"] == sizes.tolist()
    assert summary["n_clusters"] == np.count_nonzero(sizes)
    assert summary["duplicates"].keys() == {
        "exact_groups", "exact_images", "near_cells", "near_images",
    }  # fmt: skip


def test_summary__counts_images(found, blobs):
    assert_summary_fits(found)
    store = RunStore.open(found.path)
    # As with a journal that tells of no sizes.
    counts = stored_counts(store)
    journal = store.folder("labels") / "blocks.jsonl"
    intact = journal.read_text()
    lines = [json.loads(line) for line in intact.splitlines()]
    try:
        journal.write_text(
            "".join(
                json.dumps({k: v for k, v in line.items() if k not in ("sizes", "line_crc")}) + "\n"
                for line in lines
            )
        )
        again = stored_counts(store)
    finally:
        journal.write_text(intact)
    assert again.n_noise == counts.n_noise > 0
    np.testing.assert_array_equal(again.sizes, counts.sizes)
    assert counts.n_samples == len(blobs[1])


def test_predict__of_the_runs_own_images_equals_its_labels(found, blobs, tmp_path):
    result = predict(found.path, blobs[0], tmp_path / "labels.zarr")
    with workflow.Run(found.path).dataset as rows:
        predicted = found.predict(blobs[0], tmp_path / "again.zarr").load()
        assert_same_labels(predicted, rows.load())
    summary = found.summary
    assert result["noise_fraction"] == summary["noise_fraction"]
    assert result["n_clusters"] == summary["n_clusters"]


def copied(found, place):
    """Return a copy of the run, to be changed."""
    return workflow.Run(copy_of(RunStore.open(found.path), place).path)


def test_settings__off_and_resolve(found, blobs, client, tmp_path):
    place = copied(found, tmp_path / "run").path
    settings = {"labels.max_outlier_score": "off"}
    off = workflow.run(blobs[0], place, client=client, settings=settings, progress=False)
    store, rows = RunStore.open(off.path), off.dataset.load()
    centroid_label, resolved = store.read_model("centroid_label", "centroid_label_resolved")
    assert (centroid_label < 0).any()
    np.testing.assert_array_equal(rows["label"], centroid_label[rows["centroid"]])
    assert_summary_fits(off)
    for name in ("outlier_score", "centroid"):
        np.testing.assert_array_equal(rows[name], found.dataset[name])
    settings |= {"labels.noise": "resolve", "labels.max_outlier_score": 0.6}
    run = workflow.run(blobs[0], place, client=client, settings=settings, progress=False)
    # Other images count for a cluster now, so numbers may be others.
    pairs = np.unique(np.stack([run.dataset["label"], resolved[rows["centroid"]]]), axis=1)
    assert pairs.shape[1] == len(np.unique(resolved)) == run.n_clusters
    assert run.summary["noise_fraction"] == 0
    assert_summary_fits(run)
    run.recut(n_clusters=5)
    assert_summary_fits(run)


def test_recut__of_a_run_with_noise(found, blobs, tmp_path):
    run = copied(found, tmp_path / "run")
    run.recut(min_cluster_size=900)
    assert_summary_fits(run)
    assert status(run.path, verify=True)["damaged"] == []
    rows = run.dataset.load()
    assert_same_labels(run.predict(blobs[0]).load(), rows)


def test_run__without_structure_has_no_noise(client, tmp_path):
    points = np.random.default_rng(0).normal(size=(8000, 5)).astype(np.float32)
    np.save(tmp_path / "images.npy", points)
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client, block_rows=4096)
    assert read_summary(store)["structure"] == "none"
    rows = labels_of(store)
    assert (rows["label"] == 0).all()
    assert (rows["outlier_score"] > 0.8).any(), "some lie far out, and are not noise all the same"
    assert read_summary(store)["noise_fraction"] == 0


def test_status__of_labels_of_another_version(pictures, client, tmp_path):
    np.save(tmp_path / "images.npy", pictures[0][:1500])
    store = make_run(tmp_path / "images.npy", tmp_path / "run", client, **LEAN)
    journal = store.folder("labels") / "blocks.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines[1:]:
        line["crc"] = [block[:7] for block in line["crc"]]
        del line["sizes"], line["n_noise"], line["line_crc"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = read_summary(store)
    del summary["duplicates"]
    (store.path / "summary.json").write_text(json.dumps(summary))
    manifest = Manifest.load(store.path)
    manifest.steps["labels"].key = lines[0]["key"]
    # That version noted no checksums of journals.
    del manifest.steps["labels"].checksums["labels/blocks.jsonl"]
    manifest.save(store.path)
    damaged = status(store.path, verify=True)["damaged"]
    assert [line.split(":")[0] for line in damaged] == ["labels.zarr", "summary.json"]
    assert all("another version wrote it" in line for line in damaged)


@given(st.lists(st.lists(st.integers(-1, 9000), max_size=30), min_size=1, max_size=6))
def test_counts__survive_the_journal(blocks):
    arrays = [np.array(block, np.int32) for block in blocks]
    reports = {
        index: json.loads(json.dumps(count_labels(label).report()))
        for index, label in enumerate(arrays)
    }
    for report in reports.values():
        assert len(report["sizes"]) <= MAX_LISTED
    total, whole = reported_counts(reports), count_labels(np.concatenate(arrays))
    assert total.n_noise == whole.n_noise
    np.testing.assert_array_equal(total.sizes, whole.sizes)
    assert total.n_samples == sum(map(len, blocks))
    assert total.n_clusters == len({v for block in blocks for v in block if v >= 0})
    assert sum_counts([]).n_samples == 0


@pytest.mark.parametrize(
    ("given_value", "value", "limit"),
    [("0.8", 0.8, 0.8), ("0.5", 0.5, 0.5), ("off", "off", None), ("'off'", "off", None)],
)
def test_config__largest_outlier_score(given_value, value, limit):
    text = [f"labels.max_outlier_score={given_value}"]
    settings = load_config(None, text, environment={}).config.labels
    assert (settings.max_outlier_score, settings.rule.max_outlier_score) == (value, limit)


@pytest.mark.parametrize("bad", ["0.49", "1", "on", "auto", "true", "-1"])
def test_config__refuses_other_outlier_scores(bad):
    with pytest.raises(ConfigError, match=r"from 0\.5 to below 1, or off"):
        load_config(None, [f"labels.max_outlier_score={bad}"], environment={})


def test_tree__of_another_method_leaves_nothing_of_the_first(pictures, client, tmp_path):
    """The trees of some methods hold arrays that those of others lack."""
    kinds = [{**LEAN, "tree.method": method} for method in ("modularity", "density")]
    fresh = [
        make_run(pictures[0], tmp_path / kind["tree.method"], client, **kind) for kind in kinds
    ]
    names = [{path.name for path in store.model.iterdir()} for store in fresh]
    assert "tree_score" in names[0] ^ names[1]
    for kind, other, wanted in zip(kinds[::-1], fresh, names[::-1], strict=True):
        again = copy_of(other, tmp_path / f"again-{kind['tree.method']}")
        again = make_run(pictures[0], again.path, client, **kind)
        assert {path.name for path in again.model.iterdir()} == wanted
        assert status(again.path, verify=True)["damaged"] == []
        recut(again.path, n_clusters=2)
