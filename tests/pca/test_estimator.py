"""The estimator on NumPy and Dask arrays, against scikit-learn."""

from __future__ import annotations

import pickle

import dask
import dask.array as da
import numpy as np
import pytest
from sklearn import decomposition
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from workflow.errors import ImagesError, NonFiniteError
from workflow.pca import PCA, delayed_moments, fixed_signs, moments_to_arrays


@pytest.fixture(scope="module")
def images():
    """Digits as images of 8 x 8."""
    return (load_digits().images * 15).astype(np.uint8)


def refuse_to_compute(*args, **kwargs):
    """Stand in for a scheduler."""
    pytest.fail("something was computed")


def assert_same_fit(left, right):
    """Equal to the last bit."""
    for name in ("components_", "mean_", "explained_variance_", "singular_values_"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))
    assert left.n_samples_seen_ == right.n_samples_seen_
    assert left.noise_variance_ == right.noise_variance_


@pytest.mark.parametrize("whiten", [False, True])
def test_pca__equals_scikit_learn(images, whiten):
    flat = images.reshape(len(images), -1).astype(float)
    found = PCA(12, whiten=whiten).fit(images)
    reference = decomposition.PCA(12, whiten=whiten, svd_solver="full").fit(flat)
    signs = (fixed_signs(reference.components_) * reference.components_).sum(axis=1)
    scores = reference.transform(flat) * signs
    np.testing.assert_allclose(found.transform(images), scores, atol=1e-9 * np.abs(scores).max())
    np.testing.assert_allclose(found.noise_variance_, reference.noise_variance_, rtol=1e-10)
    back = reference.inverse_transform(reference.transform(flat))
    np.testing.assert_allclose(found.inverse_transform(found.transform(images)), back, atol=1e-8)
    assert found.n_features_in_ == 64
    assert found.get_feature_names_out()[1] == "pca1"


@pytest.mark.parametrize(
    "chunks", [(1797, 8, 8), (256, 8, 8), (100, 3, 5), ((1796, 1), (8,), (4, 4))]
)
def test_pca__integers_give_the_same_bits_for_any_blocks(images, chunks):
    lazy = da.from_array(images, chunks=chunks)
    plain = PCA(9).fit(images)
    blocked = PCA(9).fit(lazy)
    assert_same_fit(blocked, plain)
    scores = blocked.transform(lazy)
    assert isinstance(scores, da.Array)
    assert scores.shape == (1797, 9)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores.compute(), plain.transform(images))
    back = blocked.inverse_transform(scores)
    assert back.shape == (1797, 64)
    np.testing.assert_array_equal(back.compute(), plain.inverse_transform(scores.compute()))


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_pca__floats_give_the_same_bits_under_any_scheduler(images, scheduler):
    rows = images.reshape(len(images), -1).astype(np.float32) / 255
    lazy = da.from_array(rows, chunks=(90, 64))
    with dask.config.set(scheduler=scheduler, num_workers=4):
        found = PCA(9).fit(lazy)
        scores = found.transform(lazy).compute()
    with dask.config.set(scheduler="synchronous"):
        assert_same_fit(found, PCA(9).fit(lazy))
    plain = PCA(9).fit(rows)
    np.testing.assert_allclose(found.components_, plain.components_, atol=1e-10)
    assert scores.dtype == plain.transform(rows).dtype == np.float32
    np.testing.assert_allclose(scores, plain.transform(rows), atol=1e-5)


def test_pca__building_computes_nothing(images):
    lazy = da.from_array(images, chunks=(300, 4, 8))
    found = PCA(3).fit(images)
    with dask.config.set(scheduler=refuse_to_compute):
        later = delayed_moments(lazy)
        scores = found.transform(lazy)
        back = found.inverse_transform(scores)
    assert (scores.shape, back.shape) == ((1797, 3), (1797, 64))
    state = later.compute(scheduler="synchronous")
    assert state.n_samples == 1797


def test_delayed_moments__no_task_holds_more_than_a_block(images):
    read = []

    def load(block_info=None):
        (a, b) = block_info[None]["array-location"][0]
        read.append((a, b))
        return images[a:b]

    lazy = da.map_blocks(load, chunks=((100,) * 17 + (97,), 8, 8), dtype=np.uint8, meta=images[:0])
    state = delayed_moments(lazy, shift=np.zeros(64, int)).compute(scheduler="synchronous")
    assert state.n_samples == 1797
    assert sorted(read) == [(a, min(a + 100, 1797)) for a in range(0, 1797, 100)]


def test_pca__unknown_number_of_samples(images):
    lazy = da.from_array(images, chunks=(400, 8, 8))
    bright = images.mean(axis=(1, 2)) > 70
    chosen = lazy[da.from_array(bright, chunks=400)]
    assert np.isnan(chosen.shape[0])
    found = PCA(4).fit(chosen)
    assert_same_fit(found, PCA(4).fit(images[bright]))
    np.testing.assert_array_equal(
        found.transform(chosen).compute(), found.transform(images[bright])
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_partial_fit__equals_fit_on_all(images, dtype):
    rows = images.astype(dtype)
    whole = PCA(8).fit(rows)
    parts = PCA(8).partial_fit(rows[:500]).partial_fit(da.from_array(rows[500:900], chunks=99))
    parts.partial_fit(rows[900:])
    assert parts.n_samples_seen_ == len(rows)
    if dtype == np.float32:
        np.testing.assert_allclose(parts.components_, whole.components_, atol=1e-10)
    else:
        assert_same_fit(parts, whole)
    assert_same_fit(parts.fit(rows), whole)


def test_partial_fit__a_refused_update_changes_nothing(images):
    found = PCA(3).fit(images[:100])
    before = moments_to_arrays(found.moments_)
    with pytest.raises(ValueError, match="moments of one kind; got IntegerMoments and FloatMom"):
        found.partial_fit(images[100:200].astype(np.float32))
    for X in (images[:, :7], da.from_array(images[:, :7])):
        with pytest.raises(ValueError, match="X has 56 features, but PCA is expecting 64"):
            found.partial_fit(X)
    for name, array in moments_to_arrays(found.moments_).items():
        np.testing.assert_array_equal(array, before[name])


def test_pca__wide_rows_are_kept_at_low_rank():
    rng = np.random.default_rng(0)
    strong = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 4200)) * 20
    rows = (strong + rng.normal(size=strong.shape) * 0.01).astype(np.float32)
    found = PCA(3, rank=12).fit(da.from_array(rows, chunks=(80, 4200)))
    reference = decomposition.PCA(3, svd_solver="full").fit(rows.astype(float))
    np.testing.assert_allclose(found.components_, fixed_signs(reference.components_), atol=1e-6)
    np.testing.assert_allclose(
        found.explained_variance_ratio_, reference.explained_variance_ratio_, rtol=1e-6
    )
    assert found.moments_.components.shape == (12, 4200)


def test_pca__whitening_leaves_no_variance_at_zero():
    rows = np.arange(40, dtype=np.uint8)[:, None] * np.array([1, 2, 0], np.uint8)
    scores = PCA(3, whiten=True).fit_transform(rows)
    np.testing.assert_allclose(scores[:, 0].std(ddof=1), 1.0)
    assert not np.any(scores[:, 1:])


def test_pca__names_the_row_of_a_bad_value_from_the_first_row(images):
    rows = images.astype(np.float32)
    rows[1234, 5, 6] = np.nan
    for X in (rows, da.from_array(rows, chunks=(100, 8, 8))):
        with pytest.raises(NonFiniteError, match="image 1234, feature 46"):
            PCA(2).fit(X)


def test_pca__names_the_row_within_its_block_where_sizes_are_unknown(images):
    rows = images.astype(np.float32)
    rows[1234, 5, 6] = np.nan
    lazy = da.from_array(rows, chunks=(100, 8, 8))
    with pytest.raises(NonFiniteError, match="image 34, feature 46") as caught:
        PCA(2).fit(lazy[da.ones(len(rows), chunks=100, dtype=bool)])
    assert "start of their block" in caught.value.__notes__[0]


def test_pca__refuses_wrong_input(images):
    with pytest.raises(ValueError, match="Reshape your data"):
        PCA().fit(np.zeros(4, np.uint8))
    with pytest.raises(ImagesError, match=r"first dimension .* got shape \(4,\)"):
        PCA().fit(da.zeros(4, dtype=np.uint8))
    for nothing in (images[:0], da.from_array(images[:0])):
        with pytest.raises(
            ValueError, match=r"1 row; got shape \(0, 64\)|minimum of 1 is required"
        ):
            PCA().fit(nothing)
    with pytest.raises(NotFittedError):
        PCA().transform(images)
    found = PCA(2).fit(images)
    with pytest.raises(ValueError, match="X has 56 features, but PCA is expecting 64"):
        found.transform(images[:, :7])
    with pytest.raises(ImagesError, match=r"shape \(n_samples, 2\); got float64 of shape \(5, 3\)"):
        found.inverse_transform(np.zeros((5, 3)))


def test_pca__follows_the_conventions(images):
    found = PCA(5, whiten=True, rank=100)
    assert found.get_params() == {"n_components": 5, "whiten": True, "rank": 100}
    copy = pickle.loads(pickle.dumps(clone(found).fit(images)))
    scores = make_pipeline(FunctionTransformer(), found).fit_transform(images)
    np.testing.assert_array_equal(copy.transform(images), scores)


def test_transform__a_row_is_alike_whatever_comes_with_it(images):
    found = PCA(7).fit(images)
    scores = found.transform(images)
    for row in (0, 1, 255, 256, 1796):
        np.testing.assert_array_equal(found.transform(images[row : row + 1]), scores[[row]])
