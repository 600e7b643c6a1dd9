"""Numbers of centroids and rows, and the drawing of rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow.overcluster import (
    auto_n_centroids,
    draw_rows,
    sample_counts,
    sample_destinations,
    sample_size,
)
from workflow.rng import generator


@given(st.integers(1, 10**8))
def test_auto_n_centroids__is_legal(n_samples):
    chosen = auto_n_centroids(n_samples)
    assert 1 <= chosen <= min(n_samples, 16_384)
    assert chosen == min(max(1, n_samples // (15 if n_samples >= 5000 else 2)), 16_384)


def test_auto_n_centroids__refuses_no_rows():
    with pytest.raises(ValueError, match="`n_samples` must be at least 1; got 0"):
        auto_n_centroids(0)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.data())
def test_sample_counts__is_exact_and_proportional(sizes, data):
    total = sum(sizes)
    n_sample = data.draw(st.integers(0, total))
    counts = sample_counts(sizes, n_sample)
    assert counts.sum() == n_sample
    assert (counts <= sizes).all()
    if total:
        assert (np.abs(counts - np.array(sizes) * n_sample / total) < 1).all()


def test_sample_counts__refuses_more_than_there_are():
    with pytest.raises(ValueError, match="between 0 and the 5 rows of all blocks; got 6"):
        sample_counts([2, 3], 6)


def test_draw_rows__draws_different_rows_in_order():
    drawn = draw_rows(1000, 100, generator(0, "overcluster/sample", 3))
    assert np.unique(drawn).size == 100
    assert (np.diff(drawn) > 0).all()
    assert drawn.dtype == np.int64
    again = draw_rows(1000, 100, generator(0, "overcluster/sample", 3))
    np.testing.assert_array_equal(drawn, again)
    with pytest.raises(ValueError, match="between 0 and the 3 rows of the block; got 4"):
        draw_rows(3, 4, generator(0, "x"))


def test_sample_destinations__is_a_permutation_of_the_seed():
    np.testing.assert_array_equal(np.sort(sample_destinations(500, 1)), np.arange(500))
    assert (sample_destinations(500, 1) != sample_destinations(500, 2)).any()


def test_sample_size__bounds():
    assert sample_size(10, 3) == 10
    assert sample_size(10**7, 10) == 65_536
    assert sample_size(10**7, 10_000) == 640_000
