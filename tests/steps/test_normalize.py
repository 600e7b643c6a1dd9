"""Images divided by their lengths: a run of them is a run of rows that were divided beforehand."""

import numpy as np
import pytest

import workflow
from tests.conftest import picture_set
from tests.runs.helpers import (
    assert_same_labels,
    labels_of,
    lean_run,
    make_run,
    only,
)
from workflow.commands.status import status
from workflow.row_norms import unit_rows
from workflow.runstore import RunStore

NORMALIZE = {"pca.normalize": True}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Pictures of eight sources, each as bright as it happens to be, and one that is black."""
    found = picture_set(n=2500)[0].astype(np.float64)
    found *= np.random.default_rng(0).uniform(0.1, 1, (len(found), 1, 1, 1))
    found = found.astype(np.uint8)
    found[7] = 0
    place = tmp_path_factory.mktemp("normalize")
    np.save(place / "images.npy", found)
    np.save(place / "unit.npy", unit_rows(found.reshape(len(found), -1)).reshape(found.shape))
    return place


@pytest.fixture(scope="module")
def finished(images, client):
    return lean_run(images / "images.npy", images / "run", client, **NORMALIZE)


def test_run__has_the_bits_of_a_run_on_rows_divided_beforehand(images, finished, client):
    beforehand = lean_run(images / "unit.npy", images / "beforehand", client)
    for name in ("moments_scatter", "components", "centroids"):
        found, expected = finished.read_model(name)[0], beforehand.read_model(name)[0]
        np.testing.assert_array_equal(found, expected, err_msg=name)
    assert_same_labels(labels_of(finished), labels_of(beforehand))


def test_run__finds_the_sources_whatever_their_brightness_and_says_what_it_did(images, finished):
    sources = picture_set(n=2500)[1]
    labels = labels_of(finished)["label"].values
    assert finished.step("pca").details["n_zero"] == 1
    for source in range(8):
        own = labels[sources == source]
        assert np.mean(own == np.bincount(own[own >= 0]).argmax()) > 0.95
    assert not status(finished.path, verify=True)["damaged"]


def test_predict__gives_the_labels_of_the_run_and_of_brighter_copies(images, finished, tmp_path):
    run = workflow.Run(finished.path)
    found = run.predict(images / "images.npy", tmp_path / "p.zarr").load()
    assert_same_labels(found, labels_of(finished))
    darker = np.load(images / "images.npy")[:50]
    brighter = run.predict((darker // 2 * 2).astype(np.uint8), tmp_path / "b.zarr").load()
    same = brighter["label"].values == found["label"].values[:50]
    assert same.mean() > 0.9


def test_reference__takes_the_same_rows(images, client, tmp_path):
    found = []
    for name, settings in (("images", NORMALIZE), ("unit", {})):
        with only("ingest", "pca"):
            made = make_run(
                images / f"{name}.npy",
                tmp_path / name,
                client,
                profile="reference",
                **{"pca.n_components": 5, **settings},
            )
        found.append(made.read_model("explained_variance")[0])
    # The solver draws at random.
    np.testing.assert_allclose(*found, rtol=0.05)


def test_update__merges_rows_divided_alike(images, client, tmp_path):
    more = picture_set(n=600, seed=3)[0]
    made = lean_run(images / "images.npy", tmp_path / "run", client, **NORMALIZE)
    workflow.Run(made.path).update(more)
    other = lean_run(images / "unit.npy", tmp_path / "other", client)
    workflow.Run(other.path).update(unit_rows(more.reshape(600, -1)).reshape(more.shape))
    np.testing.assert_allclose(
        RunStore.open(made.path).read_model("moments_scatter")[0],
        RunStore.open(other.path).read_model("moments_scatter")[0],
        rtol=1e-12,
    )


def test_run__with_another_setting_is_done_again_and_at_the_default_is_as_before(
    images, client, tmp_path
):
    with only("ingest", "pca", "projection"):
        made = make_run(images / "images.npy", tmp_path / "run", client)
        key = made.step("pca").key
        again = make_run(images / "images.npy", tmp_path / "run", client, **NORMALIZE)
        assert again.step("pca").key != key
        back = make_run(images / "images.npy", tmp_path / "run", client, **{"pca.normalize": False})
        assert back.step("pca").key == key
