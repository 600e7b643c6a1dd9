"""Intrinsic dimension on surfaces of known dimension."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.centroid_graph import intrinsic_dimension


def surface(dimension, n_features=30, n_samples=6000, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((n_samples, dimension)) @ rng.normal(size=(dimension, n_features))


@pytest.mark.parametrize(("n_dimensions", "tolerance"), [(1, 0.1), (2, 0.15), (5, 0.5)])
def test_intrinsic_dimension__of_a_flat_surface(n_dimensions, tolerance):
    found = intrinsic_dimension(surface(n_dimensions), max_queries=2000)
    assert found == pytest.approx(n_dimensions, abs=tolerance)


def test_intrinsic_dimension__of_a_curved_surface():
    t = np.random.default_rng(0).random((4000, 2)) * 6
    roll = np.stack([t[:, 0] * np.cos(t[:, 0]), t[:, 0] * np.sin(t[:, 0]), 5 * t[:, 1]], axis=1)
    assert intrinsic_dimension(roll) == pytest.approx(2, abs=0.2)


def test_intrinsic_dimension__ignores_duplicates_order_scale_and_place():
    rows = surface(3, n_samples=1500)
    found = intrinsic_dimension(rows)
    assert intrinsic_dimension(np.repeat(rows, 3, axis=0)) == found
    assert intrinsic_dimension(rows[::-1]) == found
    assert intrinsic_dimension(rows * 1e6) == pytest.approx(found, rel=1e-9)
    assert intrinsic_dimension(rows + 1e3) == pytest.approx(found, rel=1e-6)


def test_intrinsic_dimension__ratios_equal_brute_force():
    rows = np.random.default_rng(1).normal(size=(300, 4))
    squared = np.square(rows[:, None] - rows).sum(-1)
    two = np.sqrt(np.sort(squared, axis=1)[:, 1:3])
    log_ratio = np.sort(np.log(two[:, 1] / two[:, 0]))[:270]
    exceeded = -np.log(1 - np.arange(1, 271) / 301)
    slope = np.linalg.lstsq(log_ratio[:, None], exceeded, rcond=None)[0][0]
    # Two empty features more, since the estimate never exceeds their number.
    assert intrinsic_dimension(np.pad(rows, ((0, 0), (0, 2)))) == pytest.approx(slope, rel=1e-9)
    assert intrinsic_dimension(rows) == 4


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.zeros((100, 5)), 1.0),
        (np.empty((0, 3)), 1.0),
        (np.array([[0.0, 1.0], [2.0, 3.0]]), 1.0),
        (np.eye(10), 10.0),
        (np.random.default_rng(0).integers(0, 3, (500, 2)).astype(float), 2.0),
    ],
)
def test_intrinsic_dimension__degenerate_rows(rows, expected):
    assert intrinsic_dimension(rows) == expected


def test_intrinsic_dimension__bounds_its_work():
    rows = surface(2, n_samples=3000)
    few = intrinsic_dimension(rows, max_queries=500, max_rows=1000)
    assert few == pytest.approx(2, abs=0.4)


def test_intrinsic_dimension__refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`rows` must be finite and of shape"):
        intrinsic_dimension(np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        intrinsic_dimension(np.zeros(3))
