"""The search in panels against brute force and against one product for all centroids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from workflow.overcluster import NearestCentroids
from workflow.overcluster import _search_kernels as kernels
from workflow.overcluster import assignment as module
from workflow.overcluster import panels as panels_module
from workflow.overcluster._home_kernels import home_panels
from workflow.overcluster._kernels import pair_sq_distances
from workflow.overcluster._tiles import PANEL_CENTROIDS, TILE_ROWS, tile_scores
from workflow.overcluster.panels import RunningNearest


def falling(n_rows, n_features, seed=0, dtype=np.float32):
    """Rows with clumps whose variance falls along the features, as scores have it."""
    centers = np.random.default_rng(99).normal(size=(20, n_features))
    rng = np.random.default_rng(seed)
    rows = centers[rng.integers(0, 20, n_rows)] + rng.normal(size=(n_rows, n_features)) / 2
    return (rows * 100 * 0.93 ** np.arange(n_features)).astype(dtype)


def brute_force(rows, centroids, k):
    found = np.empty((len(rows), k), dtype=int)
    for i, row in enumerate(rows.astype(np.float64)):
        sq_distance = np.square(row - centroids.astype(np.float64)).sum(axis=1)
        found[i] = np.lexsort((np.arange(len(centroids)), sq_distance))[:k]
    return found


def by_product(search, rows, k):
    return replace(search, panels=None).query(rows, k=k)


def same(one, two):
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@pytest.mark.parametrize(
    ("n_centroids", "n_features", "k"),
    # From 1,025 on there are groups of panels, from 32,769 on more than a panel of groups.
    [
        (1500, 50, 3),
        (1023, 17, 1),
        (4100, 50, 2),
        (256, 3, 8),
        (700, 1, 2),
        (300, 2, 3),
        (33_000, 6, 2),
    ],
)
def test_query__equals_brute_force_and_the_product(n_centroids, n_features, k):
    rows, centroids = falling(403, n_features, 1), falling(n_centroids, n_features, 2)
    search = NearestCentroids.build(centroids)
    assert search.panels is not None or n_features == 1
    answer = search.query(rows, k=k)
    np.testing.assert_array_equal(answer[0], brute_force(rows, centroids, k))
    same(answer, by_product(search, rows, k))


@pytest.mark.parametrize("row_type", [np.float32, np.float64])
@pytest.mark.parametrize("centroid_type", [np.float32, np.float64])
def test_query__keeps_the_precision_of_both(row_type, centroid_type):
    rows, centroids = falling(100, 20, 1, row_type), falling(600, 20, 2, centroid_type)
    search = NearestCentroids.build(centroids)
    answer = search.query(rows)
    np.testing.assert_array_equal(answer[0], brute_force(rows, centroids, 3))
    same(answer, by_product(search, rows, 3))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(256, 500),
    st.integers(2, 40),
    st.integers(1, 8),
    st.sampled_from([1e-15, 1e-3, 1.0, 1e6, 1e12]),
    st.sampled_from([0.3, 0.9, 1.0]),
    st.integers(0, 1000),
)
def test_query__panels_change_no_bit(n_centroids, n_features, k, scale, decay, seed):
    rng = np.random.default_rng(seed)
    weight = scale * decay ** np.arange(n_features)
    centroids = (rng.normal(size=(n_centroids, n_features)) * weight).astype(np.float32)
    rows = (rng.normal(size=(61, n_features)) * weight).astype(np.float32)
    rows[:20] = centroids[rng.integers(0, n_centroids, 20)]
    rows[20:23] *= np.float32(3e3)
    search = NearestCentroids.build(centroids)
    same(search.query(rows, k=k), by_product(search, rows, k))


def test_query__ties_and_copies_go_to_the_lowest_index():
    rng = np.random.default_rng(0)
    centroids = rng.integers(0, 3, size=(900, 4)).astype(np.float32)
    rows = rng.integers(0, 3, size=(300, 4)).astype(np.float32) + np.float32(0.5)
    search = NearestCentroids.build(centroids)
    assert search.panels is not None
    np.testing.assert_array_equal(search.query(rows)[0], brute_force(rows, centroids, 3))
    equal = NearestCentroids.build(np.ones((400, 4), dtype=np.float32))
    assert (equal.query(rows)[0] == [0, 1, 2]).all()


def test_query__rows_far_out_are_answered_beside_others():
    rows, centroids = falling(300, 30, 1), falling(800, 30, 2)
    rows[::7] *= np.float32(1e6)
    rows[5] *= np.float32(1e15)
    search = NearestCentroids.build(centroids)
    answer = search.query(rows)
    same(answer, by_product(search, rows, 3))
    # So far out that all distances round to a few values, the reference adds in another order.
    is_near = np.arange(300) != 5
    expected = brute_force(rows[is_near], centroids, 3)
    np.testing.assert_array_equal(answer[0][is_near], expected)


def test_query__bits_do_not_depend_on_the_rows_in_a_call(monkeypatch):
    rows, search = falling(2000, 30, 1), NearestCentroids.build(falling(900, 30, 2))
    whole = search.query(rows)
    for part in (slice(0, 1), slice(5, 12), slice(255, 515), slice(1, None)):
        same(search.query(rows[part]), (whole[0][part], whole[1][part]))
    monkeypatch.setattr(module, "MAX_QUERIES", 77)
    same(search.query(rows), whole)


def test_sq_gaps__rule_out_most_panels_of_clumped_rows():
    search = NearestCentroids.build(falling(4096, 50, 2))
    rows = falling(256, 50, 1)
    n_left = []
    for panel in range(search.panels.ids.shape[0]):
        gaps = np.empty(256, dtype=np.float32)
        scale = np.float32(search.scale)
        scaled = (rows - search.shift.astype(np.float32)) * scale
        stop = search.panels.stops[0]
        tails = np.linalg.norm(scaled[:, stop:], axis=1)
        columns = np.ascontiguousarray(np.column_stack([scaled[:, :stop], tails]).T)
        kernels._sq_gaps(columns, search.panels.low[panel], search.panels.high[panel], gaps)
        far = search.query(rows)[1][:, 2] * scale**2
        n_left.append(int((gaps <= far).sum()))
    # The boxes rule out most panels of clumped rows, and never one that holds a nearest.
    assert 128 <= sum(n_left) < 0.3 * 256 * len(n_left)


def scaled_rows(search, rows):
    """Rows as the search compares them."""
    shift, stops = kernels.frozen(search.shift), kernels.frozen(search.panels.stops)
    return kernels.scale_rows(kernels.frozen(rows), shift, search.scale, stops)[0]


@pytest.mark.parametrize("n_rows", [1, 5, 12])
def test_near_batch__leaves_out_no_panel_that_is_near_a_row(n_rows):
    search = NearestCentroids.build(falling(4096, 50, 2))
    panels = search.panels
    rows = falling(2000, 50, 1)
    # Rows that lie together, as those of one home do.
    rows = rows[np.argsort(np.square(rows - rows[0]).sum(axis=1))[:n_rows]]
    scaled = scaled_rows(search, rows)
    columns = kernels._columns(scaled, np.arange(n_rows), panels.low.shape[1])
    farthest = (search.query(rows)[1][:, 2] * search.scale**2).astype(np.float32)
    near = kernels._near_batch(columns, farthest.max(), panels)
    assert (np.diff(near) > 0).all()
    gaps = np.empty(n_rows, dtype=np.float32)
    for panel in np.setdiff1d(np.arange(len(panels.ids)), near):
        kernels._sq_gaps(columns, panels.low[panel], panels.high[panel], gaps)
        assert (gaps > farthest).all()
    # Worth the looking: panels are far from all of them.
    assert len(near) < 0.9 * len(panels.ids)
    everything = kernels._near_batch(columns, np.float32(np.inf), panels)
    np.testing.assert_array_equal(everything, np.arange(len(panels.ids)))


@pytest.mark.parametrize("n_centroids", [900, 4096, 33_000])
def test_home_panels__are_nearly_the_nearest(n_centroids):
    search = NearestCentroids.build(falling(n_centroids, 20, 2))
    rows = falling(1000, 20, 1)
    scaled = scaled_rows(search, rows)
    home = home_panels(scaled, panels_module._frozen_panels(search.panels))
    members = (search.centroids - search.shift) * search.scale
    centers = np.stack([members[ids[ids >= 0]].mean(axis=0) for ids in search.panels.ids])
    sq_distance = np.square(scaled[:, None, 2:] - centers[None]).sum(axis=2)
    # How many panels are nearer than the one that was taken: a bad home costs time, no answer.
    rank = (sq_distance < sq_distance[np.arange(1000), home][:, None]).sum(axis=1)
    assert np.median(rank) == 0
    assert rank.mean() < 0.02 * len(centers)


def test_lay_out_panels__holds_every_centroid_once_and_inside_its_box():
    search = NearestCentroids.build(falling(1000, 20, 2))
    panels = search.panels
    held = panels.ids[panels.ids >= 0]
    np.testing.assert_array_equal(np.sort(held), np.arange(1000))
    assert panels.ids.shape == (32, PANEL_CENTROIDS)
    scaled = (search.centroids - search.shift) * search.scale
    stop = panels.stops[0]
    boxed = np.column_stack([scaled[:, :stop], np.linalg.norm(scaled[:, stop:], axis=1)])
    for panel, ids in enumerate(panels.ids):
        members = boxed[ids[ids >= 0]]
        assert (members >= panels.low[panel]).all()
        assert (members <= panels.high[panel]).all()


@njit
def one_tile(x, factors, limits, scores, rows, panel, stops):
    at = (rows[0], rows[1], rows[2], rows[3], panel)
    return tile_scores(x, factors, limits, scores, at, (stops[0], stops[1], stops[2]))


@pytest.mark.parametrize("n_features", [1, 2, 3, 7, 16, 50])
def test_tile_scores__bounds_at_every_stage(n_features):
    rows, centroids = falling(9, n_features, 1, np.float64), falling(64, n_features, 2, np.float64)
    rows, centroids = rows / 100, centroids / 100
    panels = module.lay_out_panels(centroids, 1e-6)
    x = np.zeros((9, 2 + n_features), dtype=np.float32)
    x[:, 2:] = rows
    for stage in (0, 1):
        tail = rows[:, panels.stops[stage] :]
        x[:, stage] = np.linalg.norm(tail, axis=1) * (1 + 1e-6)
    members = centroids[panels.ids[1]]
    exact = np.square(members).sum(axis=1) / 2 - rows @ members.T
    chosen = np.array([7, 0, 3, 3])
    scores = np.full((TILE_ROWS, PANEL_CENTROIDS), np.nan, dtype=np.float32)
    every = np.full(9, np.inf, dtype=np.float32)
    assert one_tile(x, panels.factors, every, scores, chosen, 1, panels.stops)
    np.testing.assert_allclose(scores, exact[chosen], rtol=1e-4, atol=1e-4)
    slack = 1e-6 * np.square(rows[chosen]).sum(axis=1)[:, None] + 1e-9
    assert (scores <= exact[chosen] + slack).all()
    # A tile is near if and only if one of its rows is.
    limits = (exact.min(axis=1) - 1e-3).astype(np.float32)
    assert not one_tile(x, panels.factors, limits, scores, chosen, 1, panels.stops)
    for row in (7, 0, 3):
        loose = limits.copy()
        loose[row] += np.float32(2e-3)
        assert one_tile(x, panels.factors, loose, scores, chosen, 1, panels.stops)


@pytest.mark.parametrize("n_features", [1, 5, 8, 50, 67])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pair_sq_distances__adds_in_the_order_that_is_promised(n_features, dtype):
    rows, centroids = falling(40, n_features, 1, dtype), falling(30, n_features, 2, dtype)
    row, centroid = (index.ravel() for index in np.indices((40, 30)))
    squares = np.square(rows[row].astype(np.float64) - centroids[centroid])
    whole = n_features // 8 * 8
    sums = np.zeros((row.size, 8))
    for start in range(0, whole, 8):
        sums += squares[:, start : start + 8]
    for half in (4, 2, 1):
        sums = sums[:, :half] + sums[:, half:]
    expected = sums[:, 0]
    for feature in range(whole, n_features):
        expected = expected + squares[:, feature]
    found = pair_sq_distances(rows, centroids, row, centroid)
    np.testing.assert_array_equal(found, expected)


def test_from_arrays__takes_arrays_that_cannot_be_written_and_compiles_nothing_more():
    rows, search = falling(50, 20, 1), NearestCentroids.build(falling(600, 20, 2))
    expected = search.query(rows)
    n_kinds = len(kernels.find_nearest.signatures)
    arrays = {name: array.copy() for name, array in search.to_arrays().items()}
    for array in arrays.values():
        array.flags.writeable = False
    again = NearestCentroids.from_arrays(arrays)
    rows.flags.writeable = False
    same(again.query(rows), expected)
    assert len(kernels.find_nearest.signatures) == n_kinds
    assert 1 <= n_kinds <= 2


def test_build__has_no_panels_where_they_would_not_help():
    assert NearestCentroids.build(falling(255, 8)).panels is None
    blurred = np.concatenate([falling(300, 5) * 1e-4 + 1e3, falling(300, 5) * 1e-4 - 1e3])
    search = NearestCentroids.build(blurred)
    assert search.panels is None
    assert search.factors.dtype == np.float64
    assert "panel_factors" not in search.to_arrays()


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
        pairs = np.repeat(np.arange(n_rows), added.size), np.tile(added, n_rows)
        expected = pair_sq_distances(rows, rows, *pairs).reshape(n_rows, -1).min(axis=1)
        np.testing.assert_array_equal(nearest.sq_distance, expected)
