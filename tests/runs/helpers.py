"""What the pipeline's tests share."""

from __future__ import annotations

import numpy as np
import xarray as xr

from workflow.commands.run import run_workflow
from workflow.engine.progress import Progress
from workflow.steps import load_config

#: Small and quick: few centroids, a dozen blocks.
SETTINGS = {"overcluster.n_centroids": 60, "block_rows": 512}


def make_run(images, out, client, **settings):
    """Run the whole workflow."""
    loaded = load_config(None, {**SETTINGS, **settings}, environment={})
    return run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))


def labels_of(store):
    """Return the labels of a run, read by xarray."""
    with xr.open_zarr(store.path / "labels.zarr") as labels:
        return labels.load()


def without_families(labels):
    """Return labels as new images have them: families are found among the images of a run."""
    return labels.drop_vars(["family", "family_strength"], errors="ignore")


def assert_same_labels(first, second):
    """Hold two labels stores against each other, bit for bit."""
    assert set(first) == set(second)
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)
