"""Components against scikit-learn and by their invariants."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn import decomposition
from sklearn.datasets import load_digits

from workflow.errors import ConfigError, ImagesError
from workflow.pca import (
    FloatMoments,
    block_moments,
    choose_kind,
    feature_shift,
    fixed_signs,
    merge_moments,
    principal_components,
    variance_share,
)


@pytest.fixture(scope="module")
def digits():
    """Digits of 64 pixels; some pixels never vary."""
    return (load_digits().data * 15).astype(np.uint8)


def moments(rows, kind=None, rank=256):
    """Moments of all rows as one block."""
    kind = kind or choose_kind(rows.dtype, rows.shape[1])
    return block_moments(rows, kind=kind, shift=feature_shift(rows), rank=rank)


@pytest.mark.parametrize("kind", ["integer", "float", "low_rank"])
@pytest.mark.parametrize("n_components", [1, 10, 40])
def test_principal_components__equal_scikit_learn(digits, kind, n_components):
    rows = digits.astype(np.float64) if kind == "float" else digits
    found = principal_components(moments(rows, kind), n_components)
    reference = decomposition.PCA(n_components, svd_solver="full").fit(digits.astype(np.float64))
    expected = fixed_signs(reference.components_)
    np.testing.assert_allclose(found.components, expected, atol=1e-9)
    np.testing.assert_allclose(found.mean, reference.mean_, rtol=1e-12)
    np.testing.assert_allclose(found.explained_variance, reference.explained_variance_, rtol=1e-10)
    np.testing.assert_allclose(
        found.explained_variance_ratio, reference.explained_variance_ratio_, rtol=1e-10
    )
    np.testing.assert_allclose(found.singular_values, reference.singular_values_, rtol=1e-10)
    np.testing.assert_allclose(found.total_variance, digits.var(axis=0, ddof=1).sum(), rtol=1e-12)
    np.testing.assert_array_equal(found.spectrum[:n_components], found.explained_variance)
    assert found.n_components == n_components
    assert found.n_samples == len(digits)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["integer", "low_rank"])
def test_principal_components__a_share_is_kept_by_the_fewest(digits, share, kind):
    found = principal_components(moments(digits, kind), share)
    assert found.variance_kept >= share
    assert found.variance_kept - found.explained_variance_ratio[-1] < share
    expected = decomposition.PCA(share, svd_solver="full").fit(digits.astype(float)).n_components_
    assert found.n_components == expected


def test_principal_components__auto_rule(digits):
    found = principal_components(moments(digits), "auto")
    kept = np.cumsum(principal_components(moments(digits), 64).explained_variance_ratio)
    assert found.n_components == min(50, int((kept < 0.99).sum()) + 1)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (500, 80), dtype=np.uint8)
    assert principal_components(moments(noise)).n_components == 50
    line = np.arange(90, dtype=np.uint8)[:, None] * np.array([1, 2, 0], np.uint8)
    assert principal_components(moments(line)).n_components == 2
    assert principal_components(moments(line[:, :1])).n_components == 1


def test_principal_components__bits_do_not_depend_on_the_blocks(digits):
    shift = feature_shift(digits[:10])
    whole = principal_components(block_moments(digits, kind="integer", shift=shift), 20)
    cut = [
        block_moments(piece, kind="integer", shift=shift)
        for piece in (digits[900:], digits[:300], digits[300:900])
    ]
    parts = principal_components(merge_moments(merge_moments(*cut[:2]), cut[2]), 20)
    other_shift = principal_components(
        block_moments(digits, kind="integer", shift=np.zeros(64, int)), 20
    )
    for found in (parts, other_shift):
        np.testing.assert_array_equal(found.components, whole.components)
        np.testing.assert_array_equal(found.spectrum, whole.spectrum)
        np.testing.assert_array_equal(found.mean, whole.mean)


@pytest.mark.parametrize("kind", ["integer", "float", "low_rank"])
@pytest.mark.parametrize("n_components", ["auto", 0.5, 3])
@pytest.mark.parametrize("n_rows", [1, 2, 50])
def test_principal_components__equal_rows_have_one_component(kind, n_components, n_rows):
    rows = np.full((n_rows, 7), 91, np.uint8)
    if kind == "float":
        rows = rows * np.float32(0.1)
    found = principal_components(moments(rows, kind), n_components)
    assert found.components.tolist() == [[1.0, 0, 0, 0, 0, 0, 0]]
    assert found.explained_variance.tolist() == [0.0]
    assert found.explained_variance_ratio.tolist() == [1.0]
    assert found.singular_values.tolist() == [0.0]
    assert found.total_variance == 0.0
    assert found.variance_kept == 1.0
    np.testing.assert_allclose(found.mean, rows[0], rtol=1e-15)


@pytest.mark.parametrize("kind", ["integer", "float", "low_rank"])
def test_principal_components__two_rows(kind):
    rows = np.array([[0, 4, 0], [3, 0, 0]], np.float32 if kind == "float" else np.uint8)
    found = principal_components(moments(rows, kind), 1)
    np.testing.assert_allclose(found.components, [[-0.6, 0.8, 0.0]], atol=1e-15)
    np.testing.assert_allclose(found.explained_variance, [12.5], rtol=1e-14)
    np.testing.assert_allclose(found.variance_kept, 1.0)


def test_principal_components__one_feature():
    rows = np.array([[1], [2], [6]], np.uint8)
    found = principal_components(moments(rows))
    assert found.components.tolist() == [[1.0]]
    np.testing.assert_allclose(found.explained_variance, [7.0], rtol=1e-15)


def test_principal_components__fewer_rows_than_features_leave_zeros():
    rows = np.random.default_rng(1).normal(size=(5, 9)).astype(np.float32)
    found = principal_components(moments(rows), 5)
    assert np.all(found.spectrum[:4] > 0)
    assert not np.any(found.spectrum[4:])
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(found.explained_variance.sum(), found.total_variance, rtol=1e-12)


def test_fixed_signs__ties_in_the_last_bits_decide_nothing():
    tie = np.array([0.5, -0.5, 0.1])
    for delta in (-1e-12, 0.0, 1e-12):
        for sign in (-1.0, 1.0):
            fixed = fixed_signs(sign * (tie + np.array([delta, 0, 0]))[None])
            assert fixed[0, 0] > 0
    assert fixed_signs(np.array([[0.1, -0.9]])).tolist() == [[-0.1, 0.9]]


@pytest.mark.parametrize("wrong", [0, -3, 1.0, 0.0, 1.5, True, "most", None, np.nan])
def test_principal_components__refuses_what_is_no_number_of_components(wrong):
    state = moments(np.eye(3, dtype=np.uint8))
    with pytest.raises(ConfigError, match=r'whole number from 1, a share .* "auto"; got'):
        principal_components(state, wrong)


def test_principal_components__refuses_more_than_there_are():
    state = moments(np.eye(4, 3, dtype=np.uint8))
    with pytest.raises(ConfigError, match=r"got 4 components for 4 samples of 3 features\. Lower"):
        principal_components(state, 4)
    assert principal_components(state, np.int64(3)).n_components == 3
    rng = np.random.default_rng(2)
    low = moments(rng.normal(size=(50, 30)), "low_rank", rank=8)
    with pytest.raises(ConfigError, match="got 9 components for 8 directions of low-rank"):
        principal_components(low, 9)
    with pytest.raises(ConfigError, match=r"got 0.99 where they keep 0\.[0-9]+"):
        principal_components(low, 0.99)
    assert principal_components(low, "auto").n_components == 8
    with pytest.raises(ImagesError, match="at least 1 image; got moments of 0"):
        principal_components(FloatMoments(0, np.zeros(2), np.zeros((2, 2))))


@pytest.mark.parametrize("kind", ["integer", "float", "low_rank"])
def test_variance_share__is_that_of_the_rows(digits, kind):
    rows, basis = digits[:300], principal_components(moments(digits[300:]), 12)
    state = moments(rows if kind == "integer" else rows.astype(float), kind)
    apart = rows - basis.mean
    expected = np.square(apart @ basis.components.T).sum() / np.square(apart).sum()
    found = variance_share(state, basis.mean, basis.components)
    assert found == pytest.approx(expected, rel=1e-6)


def test_principal_components__survive_pickling(digits):
    found = principal_components(moments(digits), 3)
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.components, found.components)
    assert again.variance_kept == found.variance_kept
