"""Families of a whole run: in the labels, after a cut by hand, with other settings, and without any."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import workflow
from tests.families.conftest import sources
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.errors import ConfigError
from workflow.runstore import RunStore

FEW = {"tree.n_resamples": 0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return the path of images of 40 sources and lone ones, and the source of each."""
    rows, source = sources(dimension=8)
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, rows)
    return path, source


@pytest.fixture(scope="module")
def found(images, client, tmp_path_factory):
    """Run the workflow on them."""
    out = tmp_path_factory.mktemp("found") / "run"
    return workflow.run(images[0], out, client=client, settings=FEW, progress=False)


def summary_of(run):
    """Return the summary of a run."""
    return json.loads((run.path / "summary.json").read_text())


def test_run__labels_hold_the_families(found, images):
    source, labels, summary = images[1], found.dataset, summary_of(found)
    family, strength = labels["family"].values, labels["family_strength"].values
    assert (family.dtype, strength.dtype) == (np.int32, np.float32)
    assert (family[source >= 0] >= 0).mean() >= 0.9
    assert (family[source < 0] >= 0).mean() <= 0.05
    assert ((strength > 0) == (family >= 0)).all()
    assert summary["families"] == "found"
    assert summary["n_families"] == family.max() + 1
    assert summary["family_fraction"] == pytest.approx((family >= 0).mean())


def test_run__the_model_holds_what_is_said_of_each(found):
    names = ("family_size", "family_conductance", "family_expected", "family_exemplars")
    size, conductance, expected, exemplars = RunStore.open(found.path).read_model(*names)
    family = found.dataset["family"].values
    assert np.array_equal(size, np.bincount(family[family >= 0]))
    assert (conductance < expected).all()
    for number, rows in enumerate(exemplars):
        assert (family[rows[rows >= 0]] == number).all()


def test_recut__keeps_the_families(found, client):
    before = found.dataset["family"].values
    recut(found.path, n_clusters=3, client=client)
    after = xr.open_zarr(found.path / "labels.zarr")
    assert np.array_equal(after["family"].values, before)
    assert not status(found.path, verify=True)["damaged"]


def test_run__without_families_labels_hold_none(images, client, tmp_path):
    settings = FEW | {"families.enabled": False}
    run = workflow.run(
        images[0], tmp_path / "run", client=client, settings=settings, progress=False
    )
    assert "family" not in run.dataset
    summary = summary_of(run)
    assert (summary["families"], summary["n_families"]) == ("untested", 0)


def test_run__refuses_families_without_neighbors(images, client, tmp_path):
    settings = {"families.enabled": True, "neighbors.k": 10}
    with pytest.raises(ConfigError, match=r"needs 15 neighbours of each image; neighbors.k is 10"):
        workflow.run(images[0], tmp_path / "run", client=client, settings=settings, progress=False)
