"""What the pipeline's tests share."""

from __future__ import annotations

import contextlib
import shutil

import numpy as np
import xarray as xr

from workflow import steps
from workflow.commands.run import run_workflow
from workflow.config import known_keys
from workflow.engine.progress import Progress
from workflow.runstore import RunStore

#: Small and quick: few centroids, a dozen blocks.
SETTINGS = {"overcluster.n_centroids": 60, "block_rows": 512}
#: For tests that are about other things than neighbours, families, the map, certainty and the pictures of the page.
LEAN = {
    "neighbors.enabled": False,
    "map.enabled": False,
    "tree.n_resamples": 0,
    "report.n_clusters_shown": 0,
}


def make_run(images, out, client, *, defaults=SETTINGS, **settings):
    """Run the whole workflow."""
    known = {key for key, _ in known_keys(steps.config_class())}
    small = {key: value for key, value in defaults.items() if key in known}
    loaded = steps.load_config(None, {**small, **settings}, environment={})
    return run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))


@contextlib.contextmanager
def only(*names):
    """Let runs have these steps alone, for tests that are about no others."""
    every = list(steps.STEPS)
    steps.STEPS[:] = [step for step in every if step.name in names]
    try:
        yield
    finally:
        steps.STEPS[:] = every


def lean_run(images, out, client, **settings):
    """Run the steps up to the labels, without what most tests are not about."""
    with only(*[step.name for step in steps.STEPS if step.name != "report"]):
        lean = {key: value for key, value in LEAN.items() if not key.startswith("report")}
        return make_run(images, out, client, **{**lean, **settings})


def copy_of(store, place):
    """Return a copy of a finished run, to be changed."""
    shutil.copytree(store.path, place)
    return RunStore.open(place)


def labels_of(store):
    """Return the labels of a run, read by xarray."""
    with xr.open_zarr(store.path / "labels.zarr") as labels:
        return labels.load()


def without_families(labels):
    """Return labels as new images have them: families are found among the images of a run."""
    return labels.drop_vars(["family", "family_strength"], errors="ignore")


def with_numbers_of(labels, like):
    """Return labels with the numbers that `like` has for the same clusters."""
    pairs = np.unique(np.stack([labels["label"].values, like["label"].values]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    number = dict(pairs.T.tolist()) | {-1: -1}
    changed = {
        name: labels[name].copy(data=np.vectorize(number.get, otypes=["i4"])(labels[name].values))
        for name in ("label", "label_resolved", "top_label")
    }
    return labels.assign(changed)


def assert_same_labels(first, second):
    """Hold two labels stores against each other, bit for bit."""
    assert set(first) == set(second)
    for name in first:
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(first[name].values, second[name].values, err_msg=name)
