"""Scores against float64, alone and in company, and where they cannot be."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from workflow.errors import ImagesError, NonFiniteError
from workflow.projection import TILE_ROWS, project


def basis(n_features, n_components, seed=0):
    """Orthonormal rows."""
    rng = np.random.default_rng(seed)
    square, _ = np.linalg.qr(rng.normal(size=(n_features, n_components)))
    return square.T.copy()


def pictures(n_rows, n_features, dtype, seed=1):
    """Correlated rows over the range of a type."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(n_rows, 6)) @ rng.normal(size=(6, n_features))
    unit = 0.5 + 0.12 * smooth + 0.1 * rng.normal(size=(n_rows, n_features))
    unit = np.clip(unit, 0, 1)
    if np.dtype(dtype).kind == "u":
        return np.rint(unit * np.iinfo(dtype).max).astype(dtype)
    return unit.astype(dtype)


def reference(rows, mean, components):
    """Scores in float64."""
    return (rows.astype(np.float64) - mean) @ components.T


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 30, 768, 3000])
def test_project__equals_float64(dtype, n_features):
    rows = pictures(700, n_features, dtype)
    mean = rows.astype(np.float64).mean(axis=0)
    components = basis(n_features, min(20, n_features))
    found = project(rows, mean, components)
    expected = reference(rows, mean, components)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * expected.std()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_project__a_large_mean_costs_no_digits(dtype):
    rng = np.random.default_rng(2)
    rows = (1e6 + rng.normal(size=(300, 200)) * 2).astype(dtype)
    mean = rows.astype(np.float64).mean(axis=0)
    components = basis(200, 10)
    expected = reference(rows, mean, components)
    found = project(rows, mean, components)
    assert np.abs(found - expected).max() <= 1e-5 * expected.std()


def test_project__bright_integers_cost_no_digits():
    rng = np.random.default_rng(3)
    rows = (65000 + rng.integers(0, 9, (300, 200))).astype(np.uint16)
    mean = rows.mean(axis=0)
    components = basis(200, 10)
    expected = reference(rows, mean, components)
    found = project(rows, mean, components)
    assert np.abs(found - expected).max() <= 1e-5 * expected.std()


@given(
    n_rows=st.integers(1, 2 * TILE_ROWS + 3),
    n_components=st.sampled_from([1, 2, 3, 5, 16, 50]),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float16, np.float32, np.float64]),
    data=st.data(),
)
@settings(deadline=None, max_examples=60)
def test_project__a_row_is_alike_whatever_comes_with_it(n_rows, n_components, dtype, data):
    rows = pictures(n_rows, 300, dtype)
    mean = rows.astype(np.float64).mean(axis=0)
    components = basis(300, n_components)
    whole = project(rows, mean, components)
    np.testing.assert_array_equal(project(rows[:1], mean, components), whole[:1])
    start = data.draw(st.integers(0, n_rows - 1))
    stop = data.draw(st.integers(start + 1, n_rows))
    np.testing.assert_array_equal(project(rows[start:stop], mean, components), whole[start:stop])


def test_project__every_place_among_others_gives_the_same_bits():
    row = pictures(1, 768, np.uint8)
    mean = np.full(768, 120.3)
    found = project(np.repeat(row, TILE_ROWS + 7, axis=0), mean, basis(768, 50))
    assert (found == found[0]).all()


def test_project__bits_do_not_depend_on_the_number_of_threads():
    rows = pictures(1500, 768, np.uint8)
    mean, components = rows.mean(axis=0), basis(768, 50)
    found = []
    for limit in (1, 2):
        with threadpool_limits(limit, user_api="blas"):
            found.append(project(rows, mean, components))
    np.testing.assert_array_equal(*found)


def test_project__whitened_scores_have_unit_variance():
    rows = pictures(900, 40, np.uint8)
    mean, components = rows.mean(axis=0), basis(40, 4)
    variance = reference(rows, mean, components).var(axis=0, ddof=1)
    found = project(rows, mean, components, whiten_scale=variance)
    np.testing.assert_allclose(found.std(axis=0, ddof=1), 1.0, rtol=1e-5)
    variance[2] = 0.0
    dropped = project(rows, mean, components, whiten_scale=variance)
    assert not np.any(dropped[:, 2])
    np.testing.assert_array_equal(np.delete(dropped, 2, 1), np.delete(found, 2, 1))


def test_project__float16():
    rows = pictures(600, 40, np.uint8)
    mean, components = rows.mean(axis=0), basis(40, 4)
    small = project(rows, mean, components, dtype=np.float16)
    assert small.dtype == np.float16
    np.testing.assert_allclose(small, reference(rows, mean, components), rtol=1e-3, atol=1e-3)


def test_project__refuses_scores_beyond_float16():
    rows = np.zeros((TILE_ROWS + 9, 2), np.uint16)
    rows[TILE_ROWS + 3] = 65535
    components = np.array([[0.6, 0.8]])
    with pytest.raises(
        NonFiniteError,
        match=f"within 65504 for float16; got 65535 first at image {TILE_ROWS + 3}, ",
    ):
        project(rows, np.zeros(2), components, dtype=np.float16)
    assert project(rows, np.zeros(2), components)[-6, 0] == pytest.approx(91749.0)


def test_project__refuses_scores_beyond_float32():
    for large in (1e18, 1e39, 1e300):
        rows = np.array([[1.0, 1.0], [1.0, -large], [1e300, 1.0]])
        match = rf"within 1e\+17 for float32; got -{re.escape(f'{large:g}')} first at image 1, feature 1"
        with pytest.raises(NonFiniteError, match=match):
            project(rows, np.zeros(2), np.eye(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, TILE_ROWS + 5])
def test_project__names_the_first_value_that_is_not_finite(value, row):
    rows = np.zeros((TILE_ROWS * 2, 3), np.float32)
    rows[row, 1:] = value
    rows[-1] = np.nan
    with pytest.raises(NonFiniteError, match=f"image {row}, feature 1") as caught:
        project(rows, np.zeros(3), basis(3, 2), whiten_scale=np.zeros(2))
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.row, again.feature) == (row, 1)


def test_project__no_rows():
    assert project(np.empty((0, 3), np.uint8), np.zeros(3), basis(3, 2)).shape == (0, 2)


def test_project__input_is_left_alone():
    rows = pictures(5, 6, np.float32)
    mean, components = rows.astype(float).mean(axis=0), basis(6, 2)
    copies = rows.copy(), mean.copy(), components.copy()
    project(rows, mean, components, whiten_scale=np.ones(2))
    for array, copy in zip((rows, mean, components), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_project__refuses_wrong_input():
    rows, mean, components = pictures(4, 6, np.uint8), np.zeros(6), basis(6, 2)
    with pytest.raises(ImagesError, match=r"one of uint8, .* got int64. Convert"):
        project(rows.astype(np.int64), mean, components)
    with pytest.raises(ValueError, match=r"same n_features; got shapes \(4, 5\), \(6,\)"):
        project(rows[:, :5], mean, components)
    with pytest.raises(ValueError, match="same n_features; got shapes"):
        project(rows.reshape(4, 2, 3), mean, components)
    with pytest.raises(ValueError, match=r"each of 2 components; got shape \(3,\)"):
        project(rows, mean, components, whiten_scale=np.ones(3))
    with pytest.raises(ValueError, match="`dtype` must be float32 or float16; got float64"):
        project(rows, mean, components, dtype=np.float64)
