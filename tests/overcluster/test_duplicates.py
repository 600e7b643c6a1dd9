"""Cells of duplicates, against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.overcluster import duplicate_cells
from workflow.overcluster.duplicates import NEAR_RADIUS


def slow(population, radius, farthest, scale):
    """Decide cell by cell, with the median found by listing the rows one by one."""
    exact, near = [], []
    for n, far in zip(population, farthest, strict=True):
        exact.append(n >= 2 and far <= np.finfo(np.float32).eps * scale)
    listed = sorted(
        r
        for n, r, e in zip(population, radius, exact, strict=True)
        for _ in range(n)
        if n >= 2 and not e
    )
    usual = listed[(len(listed) - 1) // 2] if listed else 0.0
    for n, r, e in zip(population, radius, exact, strict=True):
        near.append(bool(n >= 2 and not e and r < NEAR_RADIUS * usual))
    return exact, near


@given(st.integers(0, 100_000))
def test_duplicate_cells__equal_a_loop(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    population = rng.integers(0, 9, n)
    radius = rng.choice([0.0, 1e-8, 1e-3, 1.0, 3.0], n) * rng.random(n)
    found = duplicate_cells(population, radius, 2 * radius, 5.0)
    exact, near = slow(population, radius, 2 * radius, 5.0)
    assert found.is_exact.tolist() == exact
    assert found.is_near.tolist() == near
    assert not (found.is_exact & found.is_near).any()


def test_duplicate_cells__rounding_of_the_centroid_is_no_distance():
    population, radius = np.array([5, 5, 50]), np.array([2e-5, 2e-3, 40.0])
    scale = np.array([400.0, 400.0, 10.0])
    found = duplicate_cells(population, radius, radius, scale)
    assert found.is_exact.tolist() == [True, False, False]
    assert found.is_near.tolist() == [False, True, False]


def test_duplicate_cells__scaled_data_give_the_same():
    rng = np.random.default_rng(0)
    population, radius = rng.integers(1, 50, 40), rng.random(40) ** 6
    one = duplicate_cells(population, radius, 3 * radius, 10.0)
    other = duplicate_cells(population, 1024 * radius, 3072 * radius, 10_240.0)
    np.testing.assert_array_equal(one, other)
    assert one.is_near.any()


def test_duplicate_cells__refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="one value a cell"):
        duplicate_cells(np.ones(3, int), np.ones(2), np.ones(3), 1.0)
    with pytest.raises(ValueError, match="distances of 0 or more"):
        duplicate_cells(np.ones(2, int), np.array([1.0, np.nan]), np.ones(2), 1.0)
