"""The contract of a search, for each of them: the answers of brute force in float64, to the bit."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from workflow.overcluster import search as package
from workflow.overcluster.search import (
    SEARCHES,
    NearestCentroids,
    PanelSearch,
    ProductSearch,
    RunningNearest,
    center_centroids,
)
from workflow.overcluster.search import panels as panels_module
from workflow.overcluster.search.base import answer_in_batches

every_search = pytest.mark.parametrize("kind", SEARCHES, ids=lambda kind: kind.name)


def sq_distances(rows, centroids):
    """Squared distances in float64, added up in the order that is promised."""
    squares = np.square(rows[:, None].astype(np.float64) - centroids[None].astype(np.float64))
    whole = squares.shape[2] // 8 * 8
    sums = np.zeros((*squares.shape[:2], 8))
    for start in range(0, whole, 8):
        sums += squares[:, :, start : start + 8]
    for half in (4, 2, 1):
        sums = sums[:, :, :half] + sums[:, :, half:]
    total = sums[:, :, 0]
    for feature in range(whole, squares.shape[2]):
        total = total + squares[:, :, feature]
    return total


def brute_force(rows, centroids, k):
    nearest = np.full((len(rows), k), -1, np.int32)
    sq_distance = np.full((len(rows), k), np.inf, np.float32)
    n_found = min(k, len(centroids))
    for start in range(0, len(rows), 16):
        part = slice(start, start + 16)
        exact = sq_distances(rows[part], centroids)
        nearest[part, :n_found] = np.argsort(exact, axis=1, kind="stable")[:, :n_found]
        sq_distance[part, :n_found] = np.sort(exact, axis=1)[:, :n_found]
    return nearest, sq_distance


def same(one, two):
    for left, right in zip(one, two, strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def normal(n_rows, n_features, seed=0, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n_rows, n_features)) * scale + offset).astype(np.float32)


def falling(n_rows, n_features, seed=0, dtype=np.float32):
    """Rows with clumps whose variance falls along the features, as scores have it."""
    centers = np.random.default_rng(99).normal(size=(20, n_features))
    rng = np.random.default_rng(seed)
    rows = centers[rng.integers(0, 20, n_rows)] + rng.normal(size=(n_rows, n_features)) / 2
    return (rows * 100 * 0.93 ** np.arange(n_features)).astype(dtype)


def built(kind, centroids):
    return kind.build(center_centroids(centroids))


@every_search
@pytest.mark.parametrize("make", [normal, falling])
@pytest.mark.parametrize(
    ("n_centroids", "n_features", "k"),
    # From 1,025 on there are groups of panels.
    [(1500, 50, 3), (1023, 17, 1), (4100, 8, 2), (256, 3, 40), (700, 1, 2), (5, 2, 3), (1, 1, 1)],
)
def test_query__equals_brute_force(kind, make, n_centroids, n_features, k):
    rows, centroids = make(103, n_features, 1), make(n_centroids, n_features, 2)
    answer = built(kind, centroids).query(rows, k)
    same(answer, brute_force(rows, centroids, k))
    assert answer[0].dtype == np.int32
    assert answer[1].dtype == np.float32


@every_search
def test_query__equals_brute_force_among_many_centroids(kind):
    # From 32,769 on there is more than a panel of groups.
    rows, centroids = falling(60, 6, 1), falling(33_000, 6, 2)
    same(built(kind, centroids).query(rows, 2), brute_force(rows, centroids, 2))


@every_search
@pytest.mark.parametrize("row_type", [np.float32, np.float64])
@pytest.mark.parametrize("centroid_type", [np.float32, np.float64])
def test_query__keeps_the_precision_of_both(kind, row_type, centroid_type):
    rows, centroids = falling(100, 20, 1, row_type), falling(600, 20, 2, centroid_type)
    same(built(kind, centroids).query(rows, 3), brute_force(rows, centroids, 3))


@every_search
@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.integers(1, 8),
    st.sampled_from([1e-17, 1e-3, 1.0, 1e6, 1e13]),
    st.sampled_from([0.0, 1.0, 1e3]),
    st.sampled_from([0.3, 0.9, 1.0]),
    st.integers(0, 1000),
)
def test_query__equals_brute_force_at_any_scale(
    kind, n_centroids, n_features, k, scale, offset, decay, seed
):
    rng = np.random.default_rng(seed)
    weight = scale * decay ** np.arange(n_features)
    centroids, rows = (
        ((rng.normal(size=(n, n_features)) + offset) * weight).astype(np.float32)
        for n in (n_centroids, 40)
    )
    rows[:15] = centroids[rng.integers(0, n_centroids, 15)]
    rows[15:18] *= np.float32(30)
    same(built(kind, centroids).query(rows, k), brute_force(rows, centroids, k))


@every_search
@pytest.mark.parametrize("n_centroids", [40, 900])
def test_query__ties_go_to_the_lowest_index(kind, n_centroids):
    rng = np.random.default_rng(3)
    centroids = rng.integers(0, 3, size=(n_centroids, 4)).astype(np.float32)
    rows = rng.integers(0, 3, size=(200, 4)).astype(np.float32) + np.float32(0.5)
    same(built(kind, centroids).query(rows, 3), brute_force(rows, centroids, 3))


@every_search
def test_query__of_duplicates_the_first_are_nearest(kind):
    search = built(kind, np.ones((400, 4), dtype=np.float32))
    assert (search.query(np.zeros((5, 4), np.float32), 3)[0] == [0, 1, 2]).all()
    centroids = normal(800, 50, 4, offset=30.0)
    nearest, sq_distance = built(kind, centroids).query(centroids, 1)
    np.testing.assert_array_equal(nearest[:, 0], np.arange(800))
    assert (sq_distance == 0).all()


@every_search
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_query__is_exact_where_products_cancel(kind, dtype):
    centers = np.repeat([[1e3], [-1e3]], 200, axis=0)
    centroids = (centers + np.random.default_rng(0).normal(size=(400, 5))).astype(dtype)
    rows = centroids[::3] + np.array(1e-3, dtype=dtype)
    same(built(kind, centroids).query(rows, 3), brute_force(rows, centroids, 3))


@every_search
def test_query__rows_far_out_are_answered_beside_others(kind):
    rows, centroids = falling(300, 30, 1), falling(800, 30, 2)
    rows[::7] *= np.float32(1e6)
    rows[5] *= np.float32(1e14)
    search = built(kind, centroids)
    same(search.query(rows, 3), brute_force(rows, centroids, 3))
    same(search.query(rows[::7], 3), brute_force(rows[::7], centroids, 3))


@every_search
def test_query__marks_missing_centroids(kind):
    search = built(kind, np.array([[1.0], [2.0]]))
    nearest, sq_distance = search.query(np.array([[1.25]]), 4)
    assert nearest.tolist() == [[0, 1, -1, -1]]
    assert sq_distance.tolist() == [[0.0625, 0.5625, np.inf, np.inf]]


@every_search
def test_query__of_no_rows_is_empty(kind):
    nearest, sq_distance = built(kind, normal(300, 3)).query(np.empty((0, 3), np.float32), 2)
    assert nearest.shape == sq_distance.shape == (0, 2)


@every_search
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_query__refuses_rows_that_are_not_finite(kind, value):
    rows = normal(50, 3).astype(np.float64)
    rows[7, 1] = value
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=r"`rows` must hold finite values.*Repair"),
    ):
        built(kind, normal(300, 3)).query(rows, 1)


@every_search
def test_query__bits_do_not_depend_on_the_rows_in_a_call(kind, monkeypatch):
    rows, search = falling(5000, 30, 1), built(kind, falling(900, 30, 2))
    whole = search.query(rows, 3)
    for part in (slice(0, 1), slice(5, 12), slice(2047, 2050), slice(1, None)):
        same(search.query(rows[part], 3), (whole[0][part], whole[1][part]))
    monkeypatch.setattr(panels_module, "BATCH_ROWS", 77)
    same(search.query(rows, 3), whole)


@every_search
def test_query__bits_do_not_depend_on_blas_threads(kind):
    rows, search = normal(3000, 40, 1), built(kind, normal(1500, 40, 2))
    with threadpool_limits(limits=1, user_api="blas"):
        one = search.query(rows, 3)
    with threadpool_limits(limits=2, user_api="blas"):
        same(search.query(rows, 3), one)


@every_search
def test_from_arrays__gives_the_same_search_from_arrays_that_cannot_be_written(kind):
    rows, search = falling(50, 20, 1), built(kind, falling(600, 20, 2))
    arrays = {name: array.copy() for name, array in search.to_arrays().items()}
    for array in arrays.values():
        array.flags.writeable = False
    same(kind.from_arrays(arrays).query(rows, 3), search.query(rows, 3))


class BruteForce:
    """A third search."""

    name: ClassVar[str] = "brute-force"

    def __init__(self, centroids):
        self.centroids = centroids

    @classmethod
    def build(cls, centered):
        return cls(centered.centroids)

    def to_arrays(self):
        return {"centroids": self.centroids}

    @classmethod
    def from_arrays(cls, arrays):
        return cls(arrays["centroids"])

    def query(self, rows, k):
        def answer(batch, n_found):
            return brute_force(batch, self.centroids, n_found)

        return answer_in_batches(answer, rows, k, len(self.centroids), 100)


def test_nearest_centroids__a_third_search_is_a_class_and_a_line(monkeypatch):
    rows, centroids = falling(50, 5, 1), falling(300, 5, 2)
    expected = NearestCentroids.build(centroids).query(rows)
    third = {BruteForce: lambda centered: len(centered.centroids) == 300}
    monkeypatch.setattr(package.nearest, "SEARCHES", third | SEARCHES)
    found = NearestCentroids.build(centroids)
    assert isinstance(found.search, BruteForce)
    again = NearestCentroids.from_arrays(found.to_arrays())
    same(again.query(rows), expected)
    assert isinstance(NearestCentroids.build(centroids[:299]).search, PanelSearch)


def test_nearest_centroids__choose_by_the_data():
    def choice(centroids):
        return type(NearestCentroids.build(centroids).search)

    assert choice(falling(256, 8)) is PanelSearch
    assert choice(falling(255, 8)) is ProductSearch
    # float32 would blur the spacing of centroids that lie close together far out.
    close = np.concatenate([normal(200, 5, 1, 1e-2, 1e2), normal(200, 5, 2, 1e-2, -1e2)])
    assert choice(close) is ProductSearch
    assert center_centroids(close).dtype == np.float64
    assert center_centroids(normal(1000, 40)).dtype == np.float32


def test_nearest_centroids__stay_in_panels_where_few_are_blurred():
    # Sources far apart with noise of one size: float32 blurs the centroids of a source among each
    # other, and tells them from all others.
    sources = normal(40, 30, 1, scale=1e3)
    centroids, rows = (sources[np.arange(n) % 40] + normal(n, 30, n) for n in (600, 100))
    centered, found = center_centroids(centroids), NearestCentroids.build(centroids)
    assert centered.dtype == np.float64
    assert isinstance(found.search, PanelSearch)
    same(found.query(rows), brute_force(rows, centroids, 3))


def test_nearest_centroids__take_half_precision_and_give_all_arrays():
    search = NearestCentroids.build(np.array([[1.0], [2.0]], dtype=np.float16))
    assert search.query(np.array([[2.0]], dtype=np.float16), k=1)[0].tolist() == [[1]]
    rows, search = falling(50, 6, 1), NearestCentroids.build(falling(300, 6, 2))
    same(NearestCentroids.from_arrays(search.to_arrays()).query(rows), search.query(rows))


def test_nearest_centroids__refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`centroids` must be finite.*Fit centroids"):
        NearestCentroids.build(np.array([[np.nan]]))
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        NearestCentroids.build(np.empty((0, 3)))
    search = NearestCentroids.build(np.eye(3))
    with pytest.raises(ValueError, match=r"`rows` must be of shape \(n_samples, 3\)"):
        search.query(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"got shape \(2, 3\) and k=0"):
        search.query(np.ones((2, 3)), k=0)


def test_panels__hold_every_centroid_once_and_inside_its_box():
    centered = center_centroids(falling(1000, 20, 2))
    panels = PanelSearch.build(centered).panels
    assert panels.ids.shape == (32, 32)
    np.testing.assert_array_equal(np.sort(panels.ids[panels.ids >= 0]), np.arange(1000))
    first = centered.scaled[:, : panels.stops[0]]
    tails = np.linalg.norm(centered.scaled[:, panels.stops[0] :], axis=1)
    boxed = np.column_stack([first, tails])
    for panel, ids in enumerate(panels.ids):
        members = boxed[ids[ids >= 0]]
        assert (members >= panels.low[panel]).all()
        assert (members <= panels.high[panel]).all()


def test_panels__boxes_rule_out_most_of_clumped_rows():
    centered = center_centroids(falling(4096, 50, 2))
    search = PanelSearch.build(centered)
    rows = falling(256, 50, 1)
    scaled = (rows - centered.shift) * centered.scale
    stop = search.panels.stops[0]
    boxed = np.column_stack([scaled[:, :stop], np.linalg.norm(scaled[:, stop:], axis=1)])
    below = search.panels.low[None] - boxed[:, None]
    above = boxed[:, None] - search.panels.high[None]
    sq_gap = np.square(np.maximum(np.maximum(below, above), 0)).sum(axis=2)
    reach = search.query(rows, 3)[1][:, 2:] * centered.scale**2
    share = (sq_gap <= reach).mean()
    assert 1 / 256 <= share < 0.3


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 400),
    st.integers(1, 40),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1e-15, 1.0, 1e12]),
    st.sampled_from([0.0, 1e3, 1e8]),
    st.integers(0, 1000),
)
def test_running_nearest__equals_brute_force(n_rows, n_features, dtype, scale, offset, seed):
    rng = np.random.default_rng(seed)
    rows = ((falling(n_rows, n_features, seed) + offset) * scale).astype(dtype)
    rows[rng.integers(0, n_rows)] = rows[0]
    nearest = RunningNearest(rows)
    assert np.isinf(nearest.sq_distance).all()
    added = np.empty(0, dtype=int)
    for size in (1, 2, 70):
        more = rng.integers(0, n_rows, size)
        nearest.add(more)
        added = np.concatenate([added, more])
        expected = sq_distances(rows, rows[added]).min(axis=1)
        np.testing.assert_array_equal(nearest.sq_distance, expected)
