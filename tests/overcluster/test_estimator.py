"""The estimator on NumPy and Dask arrays."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.metrics import adjusted_rand_score

from workflow.overcluster import Overcluster


@pytest.fixture(scope="module")
def blobs():
    rows, truth = make_blobs(3000, 5, centers=8, cluster_std=0.5, random_state=1)
    return rows.astype(np.float32), truth


def test_overcluster__finds_blobs(blobs):
    rows, truth = blobs
    model = Overcluster(n_centroids=8, seed=1).fit(rows)
    assert adjusted_rand_score(truth, model.labels_) > 0.99
    np.testing.assert_array_equal(model.predict(rows), model.labels_)
    np.testing.assert_array_equal(np.bincount(model.labels_), model.population_)
    squared = np.square(rows - model.cluster_centers_[model.labels_]).sum()
    assert model.inertia_ == pytest.approx(squared, rel=1e-5)
    assert model.n_iter_ >= 1
    assert model.labels_.dtype == np.int32


def test_overcluster__dask_equals_numpy_for_one_block(blobs):
    rows, _ = blobs
    one = Overcluster(n_centroids=40).fit(rows)
    two = Overcluster(n_centroids=40).fit(da.from_array(rows, chunks=(3000, 2)))
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)
    np.testing.assert_array_equal(one.labels_, two.labels_.compute())
    assert one.inertia_ == pytest.approx(two.inertia_, rel=1e-12)


def test_overcluster__dask_does_not_depend_on_the_scheduler(blobs):
    rows = da.from_array(blobs[0], chunks=(700, -1))
    with dask.config.set(scheduler="synchronous"):
        one = Overcluster(n_centroids=40).fit(rows)
    with dask.config.set(scheduler="threads", num_workers=4):
        two = Overcluster(n_centroids=40).fit(rows)
    np.testing.assert_array_equal(one.cluster_centers_, two.cluster_centers_)
    assert one.inertia_ == two.inertia_
    np.testing.assert_array_equal(two.population_, np.bincount(two.labels_.compute()))


def test_overcluster__predict_is_lazy_on_dask(blobs):
    model = Overcluster(n_centroids=10).fit(blobs[0])

    def forbidden(*_args, **_kwargs):
        raise AssertionError

    with dask.config.set(scheduler=forbidden):
        lazy = model.predict(da.from_array(blobs[0], chunks=(1000, -1)))
    assert lazy.shape == (3000,)
    assert lazy.dtype == np.int32
    np.testing.assert_array_equal(lazy.compute(), model.labels_)


def test_overcluster__auto_and_parameters(blobs):
    model = clone(Overcluster(seed=3, max_iter=2)).fit(blobs[0])
    assert model.get_params() == {"n_centroids": "auto", "seed": 3, "max_iter": 2}
    assert model.cluster_centers_.shape == (1500, 5)
    assert model.n_features_in_ == 5
    assert model.fit_predict(blobs[0]).shape == (3000,)


def test_overcluster__refuses_what_does_not_fit(blobs):
    with pytest.raises(NotFittedError):
        Overcluster().predict(blobs[0])
    with pytest.raises(ValueError, match="`n_centroids` must be an integer or 'auto'; got 'many'"):
        Overcluster(n_centroids="many").fit(blobs[0])
    with pytest.raises(ValueError, match="got 9 centroids for 4 samples"):
        Overcluster(n_centroids=9).fit(blobs[0][:4])
    unknown = da.from_array(blobs[0], chunks=(1000, -1))
    unknown = unknown[unknown[:, 0] > 0]
    with pytest.raises(ValueError, match="known chunk sizes"):
        Overcluster().fit(unknown)
    model = Overcluster(n_centroids=3).fit(blobs[0])
    with pytest.raises(ValueError, match="features"):
        model.predict(blobs[0][:, :2])
