"""A small set of images, and settings that make runs of it quick."""

import numpy as np
import pytest

from tests.conftest import picture_set

#: Few centroids, and all steps; few images need no workers.
WHOLE = ("--set", "overcluster.n_centroids=40")
#: Without what these tests are not about.
QUICK = (*WHOLE, "--set", "neighbors.enabled=false", "--set", "tree.n_resamples=0")


@pytest.fixture
def images(tmp_path):
    path = tmp_path / "images.npy"
    np.save(path, picture_set(n=1200, n_sources=4)[0])
    return path
