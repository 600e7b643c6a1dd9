"""Pair counts against loops and other cuttings, and the graph made of them."""

from __future__ import annotations

from collections import Counter
from functools import reduce
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.centroid_graph import (
    PairCounts,
    centroid_graph,
    count_pairs,
    merge_pair_counts,
)


def nearest_of(n_samples, n_centroids, seed=0):
    """Return three different centroids of each row, -1 where there are fewer."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(n_centroids), (n_samples, 1)), axis=1)[:, :3]
    missing = np.full((n_samples, 3 - order.shape[1]), -1)
    return np.concatenate([order, missing], axis=1).astype(np.int32)


def same(one, two):
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(getattr(two, name), array)
        assert getattr(two, name).dtype == array.dtype


def test_count_pairs__equals_a_loop():
    nearest = nearest_of(400, 7)
    first, others = Counter(), Counter()
    for row in nearest.tolist():
        for ranks in combinations(range(3), 2):
            pair = tuple(sorted(row[rank] for rank in ranks))
            (first if ranks == (0, 1) else others)[pair] += 1
    counts = count_pairs(nearest, 7)
    assert (np.diff(counts.key) > 0).all()
    for key, one, two in zip(counts.key, counts.first, counts.others, strict=True):
        pair = divmod(int(key), 7)
        assert (one, two) == (first[pair], others[pair])
    assert counts.first.sum() == 400
    assert counts.others.sum() == 800


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(0, 60),
    st.lists(st.integers(0, 60), max_size=4),
    st.integers(0, 99),
)
def test_pairs_and_graph__hold_for_any_cutting(n_centroids, n_samples, cuts, seed):
    nearest = nearest_of(n_samples, n_centroids, seed)
    whole = count_pairs(nearest, n_centroids)
    parts = [count_pairs(part, n_centroids) for part in np.split(nearest, sorted(cuts))]
    same(reduce(merge_pair_counts, parts), whole)
    same(reduce(merge_pair_counts, parts[::-1]), whole)
    same(merge_pair_counts(*parts[::-1]), whole)
    graph = centroid_graph(whole, n_centroids)
    two = graph._replace(weights=graph.weights_two).to_sparse().toarray()
    three = graph.to_sparse().toarray()
    assert two.sum() == (2 * n_samples if n_centroids >= 2 else 0)
    per_row = {1: 0, 2: 1}.get(n_centroids, 3)
    assert three.sum() == 2 * n_samples * per_row
    np.testing.assert_array_equal(two, two.T)
    np.testing.assert_array_equal(three, three.T)
    assert not two.diagonal().any()
    assert (three >= two).all()
    for node in range(n_centroids):
        neighbors = graph.indices[graph.indptr[node] : graph.indptr[node + 1]]
        assert (np.diff(neighbors) > 0).all()


def test_count_pairs__two_columns_count_the_first_pair_only():
    counts = count_pairs(nearest_of(50, 5)[:, :2], 5)
    assert counts.first.sum() == 50
    assert counts.others.sum() == 0


def test_count_pairs__keys_do_not_overflow():
    nearest = np.array([[99_999, 99_998, 0]], dtype=np.int32)
    counts = count_pairs(nearest, 100_000)
    assert counts.key.tolist() == [99_998, 99_999, 99_998 * 100_000 + 99_999]


def test_centroid_graph__has_a_node_for_every_centroid():
    graph = centroid_graph(count_pairs(np.array([[0, 2], [3, 4], [2, 0]]), 6), 6)
    assert graph.n_nodes == 6
    assert graph.rows().tolist() == [0, 2, 3, 4]
    assert graph.indices.tolist() == [2, 0, 4, 3]
    assert graph.indptr.dtype == np.int64
    assert graph.indices.dtype == np.int32


def test_from_arrays__gives_the_same():
    counts = count_pairs(nearest_of(100, 9), 9)
    same(PairCounts.from_arrays(counts.to_arrays()), counts)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"hold centroids -1 to 2; got shape \(1, 2\), 0 to 3"):
        count_pairs(np.array([[0, 3]]), 3)
    with pytest.raises(ValueError, match=r"of shape \(n_samples, 2 or 3\)"):
        count_pairs(np.array([0, 1]), 3)
    with pytest.raises(ValueError, match="pairs i < j of 3 centroids"):
        centroid_graph(count_pairs(nearest_of(100, 9), 9), 3)
