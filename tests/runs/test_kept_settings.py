"""A run folder keeps its settings; images persisted on a client are read there."""

import logging

import dask.array as da
import numpy as np
import pytest
from distributed import Client, LocalCluster

from tests.conftest import picture_set
from tests.runs.helpers import LEAN, SETTINGS, labels_of, make_run
from workflow.commands.run import run_workflow
from workflow.engine.progress import Progress
from workflow.errors import ComputeError
from workflow.steps import load_config

QUIET = Progress(enabled=False)


@pytest.fixture(scope="module")
def images():
    return picture_set(n=1500, n_sources=4, seed=2)[0]


def again(images, store, client, *assignments, **options):
    """Run on the folder with these settings alone."""
    loaded = load_config(None, assignments, environment={})
    return run_workflow(images, store.path, loaded, client=client, progress=QUIET, **options)


def test_run__keeps_the_settings_of_the_folder(images, client, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="workflow")
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "images.npy"
    store = make_run(path, tmp_path / "run", client, **LEAN, seed=3)
    before = labels_of(store)["label"].values
    caplog.clear()

    kept = again(path, store, client)
    assert kept.manifest.config["tree.n_resamples"] == 0
    assert kept.manifest.config["overcluster.n_centroids"] == SETTINGS["overcluster.n_centroids"]
    assert "keeps its settings: seed=3 (default 0)" in caplog.text
    assert "all steps are complete" in caplog.text
    caplog.clear()

    changed = again(path, store, client, "tree.n_resamples=20")
    assert "tree.n_resamples was 0, is 20 (--set)" in caplog.text
    assert "seed=3 (default 0)" in caplog.text
    assert changed.manifest.config["seed"] == 3
    np.testing.assert_array_equal(labels_of(changed)["label"].values, before)
    caplog.clear()

    fresh = again(path, store, client, "block_rows=512", fresh_settings=True)
    assert "keeps its settings" not in caplog.text
    assert "seed was 3, is 0 (default)" in caplog.text
    assert fresh.manifest.config["overcluster.n_centroids"] == "auto"


def test_run__works_on_the_client_that_holds_the_images(images, client, tmp_path):
    held = client.persist(da.from_array(images, chunks=(400, 6, 6, 3)))
    store = make_run(held, tmp_path / "held", None, **LEAN)
    given = make_run(images, tmp_path / "given", client, **LEAN)
    np.testing.assert_array_equal(labels_of(store)["label"], labels_of(given)["label"])
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as other,
        pytest.raises(ComputeError, match=r"`client` must be the one .* Pass that client"),
    ):
        make_run(held, tmp_path / "other", other)
