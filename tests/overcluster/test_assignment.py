"""The search against brute force, and its bits against other calls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from workflow.numerics import smallest_columns
from workflow.overcluster import NearestCentroids


def brute_force(rows, centroids, k):
    found, squared = [], []
    for row in rows.astype(np.float64):
        sq_distance = np.square(row - centroids.astype(np.float64)).sum(axis=1)
        order = np.lexsort((np.arange(len(centroids)), sq_distance))[:k]
        found.append(order)
        squared.append(sq_distance[order])
    return np.array(found), np.array(squared)


def normal(n_rows, n_features, seed=0, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n_rows, n_features)) * scale + offset).astype(np.float32)


@pytest.mark.parametrize(
    ("n_centroids", "n_features", "n_rows", "k"),
    [(1000, 50, 300, 3), (300, 2, 500, 1), (5, 1, 100, 2), (257, 10, 2049, 3), (700, 4, 50, 8)],
)
def test_query__equals_brute_force(n_centroids, n_features, n_rows, k):
    rows, centroids = normal(n_rows, n_features, 1), normal(n_centroids, n_features, 2)
    nearest, sq_distance = NearestCentroids.build(centroids).query(rows, k=k)
    expected, squared = brute_force(rows, centroids, k)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_allclose(sq_distance, squared, rtol=1e-6)
    assert nearest.dtype == np.int32
    assert sq_distance.dtype == np.float32


@pytest.mark.parametrize("n_centroids", [40, 600])
def test_query__ties_go_to_the_lowest_index(n_centroids):
    rng = np.random.default_rng(3)
    centroids = rng.integers(0, 4, size=(n_centroids, 3)).astype(np.float32)
    rows = rng.integers(0, 4, size=(200, 3)).astype(np.float32)
    nearest, sq_distance = NearestCentroids.build(centroids).query(rows, k=3)
    expected, squared = brute_force(rows, centroids, 3)
    np.testing.assert_array_equal(nearest, expected)
    np.testing.assert_array_equal(sq_distance, squared.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([1e-18, 1e-3, 1.0, 1e6, 1e17]),
    st.sampled_from([0.0, 1.0, 1e3]),
    st.integers(0, 1000),
)
def test_query__equals_brute_force_at_any_scale(n_centroids, n_features, k, scale, offset, seed):
    centroids = normal(n_centroids, n_features, seed, scale, offset * scale)
    rows = normal(20, n_features, seed + 1, scale, offset * scale)
    nearest, _ = NearestCentroids.build(centroids).query(rows, k=k)
    expected, _ = brute_force(rows, centroids, k)
    np.testing.assert_array_equal(nearest[:, : expected.shape[1]], expected)


@pytest.mark.parametrize("n_centroids", [30, 1000])
def test_query__bits_do_not_depend_on_the_rows_in_a_call(n_centroids):
    rows, search = normal(3000, 20, 1), NearestCentroids.build(normal(n_centroids, 20, 2))
    nearest, sq_distance = search.query(rows)
    for part in (slice(0, 1), slice(5, 12), slice(2047, 2050), slice(100, None)):
        one, squared = search.query(rows[part])
        np.testing.assert_array_equal(one, nearest[part])
        np.testing.assert_array_equal(squared, sq_distance[part])


def test_query__bits_do_not_depend_on_blas_threads():
    rows, search = normal(3000, 40, 1), NearestCentroids.build(normal(1500, 40, 2))
    with threadpool_limits(limits=1, user_api="blas"):
        one = search.query(rows)
    with threadpool_limits(limits=2, user_api="blas"):
        two = search.query(rows)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


def test_build__takes_double_products_where_single_would_blur_the_spacing():
    close = np.concatenate([normal(200, 5, 1, 1e-2, 1e2), normal(200, 5, 2, 1e-2, -1e2)])
    assert NearestCentroids.build(close).factors.dtype == np.float64
    assert NearestCentroids.build(normal(1000, 40)).factors.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_query__is_exact_where_products_cancel(dtype):
    centers = np.repeat([[1e3], [-1e3]], 200, axis=0)
    centroids = (centers + np.random.default_rng(0).normal(size=(400, 5))).astype(dtype)
    rows = centroids[::3] + np.array(1e-3, dtype=dtype)
    nearest, _ = NearestCentroids.build(centroids).query(rows)
    np.testing.assert_array_equal(nearest, brute_force(rows, centroids, 3)[0])


def test_query__single_products_stay_exact_with_a_wild_row():
    centroids = normal(500, 30, 1)
    rows = normal(20, 30, 2)
    rows[3] *= 1e6
    rows[4] *= 1e17
    search = NearestCentroids.build(centroids)
    assert search.factors.dtype == np.float32
    np.testing.assert_array_equal(search.query(rows)[0], brute_force(rows, centroids, 3)[0])


def test_query__distance_to_an_equal_row_is_zero():
    centroids = normal(800, 50, 4, offset=30.0)
    nearest, sq_distance = NearestCentroids.build(centroids).query(centroids)
    np.testing.assert_array_equal(nearest[:, 0], np.arange(800))
    assert (sq_distance[:, 0] == 0).all()


def test_query__marks_missing_centroids():
    nearest, sq_distance = NearestCentroids.build(np.array([[1.0], [2.0]])).query(np.array([[1.2]]))
    assert nearest.tolist() == [[0, 1, -1]]
    assert sq_distance[0, 2] == np.inf


def test_query__accepts_no_rows_and_half_precision():
    search = NearestCentroids.build(np.array([[1.0], [2.0]], dtype=np.float16))
    assert search.query(np.empty((0, 1)))[0].shape == (0, 3)
    assert search.query(np.array([[2.0]], dtype=np.float16), k=1)[0].tolist() == [[1]]


def test_from_arrays__gives_the_same_search():
    rows, search = normal(50, 6, 1), NearestCentroids.build(normal(300, 6, 2))
    again = NearestCentroids.from_arrays(search.to_arrays())
    np.testing.assert_array_equal(again.query(rows)[1], search.query(rows)[1])


def test_build_and_query__refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`centroids` must be finite.*Fit centroids"):
        NearestCentroids.build(np.array([[np.nan]]))
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        NearestCentroids.build(np.empty((0, 3)))
    search = NearestCentroids.build(np.eye(3))
    with pytest.raises(ValueError, match=r"`rows` must be of shape \(n_samples, 3\)"):
        search.query(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"`rows` must hold finite values.*Repair"):
        search.query(np.array([[0.0, np.inf, 0.0]]))


@pytest.mark.parametrize("n_columns", [10, 256, 1008])
def test_smallest_columns__equals_a_sort(n_columns):
    values = np.random.default_rng(0).normal(size=(40, n_columns)).astype(np.float32)
    before = values.copy()
    columns, found = smallest_columns(values, 4)
    np.testing.assert_array_equal(columns, np.argsort(values, axis=1)[:, :4])
    np.testing.assert_array_equal(found, np.sort(values, axis=1)[:, :4])
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("n_columns", [5, 16 * 6, 16 * 7, 1008, 1024])
def test_smallest_columns__are_those_of_a_sort_among_equals_and_infinities(n_columns):
    rng = np.random.default_rng(n_columns)
    scores = rng.normal(size=(40, n_columns))
    scores[:20] = np.round(scores[:20])
    scores[:, 0] = np.inf
    n_smallest = min(6, n_columns - 1)
    found, _ = smallest_columns(scores, n_smallest)
    assert all(len(set(row)) == n_smallest for row in found.tolist())
    lowest = np.sort(np.take_along_axis(scores, found, axis=1), axis=1)
    np.testing.assert_array_equal(lowest, np.sort(scores, axis=1)[:, :n_smallest])
