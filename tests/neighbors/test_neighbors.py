"""Neighbours against brute force in float64, copies among them."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from tests.neighbors.references import by_brute_force
from workflow.neighbors import (
    Boxes,
    box_of,
    build_regions,
    group_table,
    make_bucket,
    merge_equal,
    nearest_neighbors,
    numbered_rows,
    search_bucket,
    search_chosen,
)
from workflow.neighbors.regions import REGION_ROWS


def swiss_roll(n, rng):
    t = rng.uniform(1, 5, n)
    return np.column_stack([t * np.cos(3 * t), t * np.sin(3 * t), rng.uniform(0, 3, n)])


SETS = {
    "normal": lambda rng: rng.normal(size=(3000, 20)) * np.linspace(3, 0.1, 20),
    "one feature": lambda rng: rng.normal(size=(500, 1)),
    "many features": lambda rng: rng.normal(size=(300, 300)),
    "two scales": lambda rng: np.concatenate(
        [rng.normal(size=(1000, 8)), 1e-4 * rng.normal(size=(1500, 8)) + 5]
    ),
    "far outlier": lambda rng: np.concatenate([rng.normal(size=(800, 5)), np.full((1, 5), 1e6)]),
    "swiss roll": lambda rng: swiss_roll(2500, rng),
    "digits": lambda rng: load_digits().data,
    "tiny numbers": lambda rng: 1e-25 * rng.normal(size=(400, 4)),
    "huge numbers": lambda rng: 1e25 * rng.normal(size=(400, 4)),
}


@pytest.mark.parametrize("name", SETS)
def test_nearest_neighbors__equal_brute_force(name):
    X = SETS[name](np.random.default_rng(3)).astype(np.float32)
    index, distance = nearest_neighbors(X, 15)
    true_index, true_distance = by_brute_force(X, 15)
    np.testing.assert_allclose(distance, true_distance, rtol=2e-6)
    # Numbers differ only where float32 cannot tell the distances apart.
    other = index != true_index
    assert other.mean() < 0.01
    found = np.sqrt(((X[:, None].astype(float) - X[index]) ** 2).sum(axis=2))
    np.testing.assert_allclose(found, true_distance, rtol=2e-6)
    assert (np.diff(np.sort(index, axis=1), axis=1) > 0).all()
    assert (index != np.arange(len(X))[:, None]).all()


def test_nearest_neighbors__equal_scikit_learn_in_several_buckets():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(40, 12)) * 4
    X = (centers[rng.integers(0, 40, 40_000)] + rng.normal(size=(40_000, 12))).astype(np.float32)
    assert build_regions(X, 10).n_regions == 10
    assert len(X) > 9 * REGION_ROWS
    index, distance = nearest_neighbors(X, 5)
    tree = NearestNeighbors(n_neighbors=6, algorithm="kd_tree").fit(X.astype(np.float64))
    true_distance, true_index = tree.kneighbors()
    np.testing.assert_allclose(distance, true_distance[:, :5], rtol=2e-6)
    assert (index == true_index[:, :5]).mean() > 0.9999


def test_nearest_neighbors__is_the_same_for_rows_in_another_order():
    X = np.random.default_rng(1).normal(size=(9000, 6)).astype(np.float32)
    order = np.random.default_rng(2).permutation(len(X))
    index, distance = nearest_neighbors(X, 10)
    other_index, other_distance = nearest_neighbors(X[order], 10)
    np.testing.assert_array_equal(other_distance, distance[order])
    np.testing.assert_array_equal(order[other_index], index[order])


def test_nearest_neighbors__distances_are_symmetric_to_the_bit():
    X = np.random.default_rng(5).normal(size=(2000, 31)).astype(np.float32)
    index, distance = nearest_neighbors(X, 15)
    of_pair = {(i, j): d for i in range(len(X)) for j, d in zip(index[i], distance[i], strict=True)}
    both = [(d, of_pair[j, i]) for (i, j), d in of_pair.items() if (j, i) in of_pair]
    assert len(both) > 1000
    assert all(one == other for one, other in both)


@pytest.mark.parametrize("n", [1, 2, 4, 15, 16])
def test_nearest_neighbors__fewer_rows_than_neighbours(n):
    X = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    index, distance = nearest_neighbors(X, 15)
    true_index, true_distance = by_brute_force(X, n - 1) if n > 1 else (np.empty((1, 0)),) * 2
    np.testing.assert_array_equal(index[:, : n - 1], true_index[:, :15])
    np.testing.assert_allclose(distance[:, : n - 1], true_distance[:, :15], rtol=2e-6)
    assert (index[:, n - 1 :] == -1).all()
    assert np.isinf(distance[:, n - 1 :]).all()


def test_nearest_neighbors__of_equal_rows_are_the_first_ones():
    index, distance = nearest_neighbors(np.full((30_000, 4), 7.5, np.float32), 3)
    assert (distance == 0).all()
    assert index[:5].tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2]]
    assert (index[4:] == [0, 1, 2]).all()


@pytest.mark.parametrize("n_kinds", [1, 2, 40, 700])
def test_nearest_neighbors__equal_brute_force_among_copies(n_kinds):
    # Small whole numbers: distances tie, within copies and between kinds, exactly.
    rng = np.random.default_rng(n_kinds)
    kinds = rng.integers(0, 4, (n_kinds, 5))
    X = kinds[rng.integers(0, n_kinds, 1500)].astype(np.float32)
    X[rng.random(X.shape) < 0.5] *= -1
    X[X == 0] *= rng.choice([-1, 1], (X == 0).sum())
    index, distance = nearest_neighbors(X, 15)
    true_index, true_distance = by_brute_force(X, 15)
    np.testing.assert_array_equal(index, true_index)
    np.testing.assert_allclose(distance, true_distance, rtol=1e-6)


def test_nearest_neighbors__refuses_what_has_no_neighbours():
    for X, k in ((np.empty((0, 3)), 1), (np.empty(3), 1), (np.ones((3, 1)), 0)):
        with pytest.raises(ValueError, match="must have rows and columns"):
            nearest_neighbors(X, k)


def test_build_regions__copies_draw_no_borders():
    rng = np.random.default_rng(0)
    half = np.concatenate([np.zeros((10_000, 3)), rng.normal(size=(10_000, 3))]).astype(np.float32)
    regions = build_regions(half, 8)
    size = np.bincount(regions.route(regions.scaled(half[10_000:])))
    assert len(size) == 8
    assert size.min() > 1000


def test_search_bucket__of_one_region_that_holds_half_of_all_rows():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(9000, 5)).astype(np.float32)
    region = np.where(np.arange(9000) % 2, 0, 1 + np.arange(9000) % 7)
    buckets, rows = [], []
    for first in (0, 1, 5):
        span = range(first, {0: 1, 1: 5, 5: 8}[first])
        members = np.flatnonzero(np.isin(region, span))
        distinct = numbered_rows(X, 0).take(members)
        bucket, place = make_bucket(distinct, region[members], span)
        assert np.diff(bucket.start).max() <= 32
        buckets.append(bucket)
        rows.append((members, place))
    boxes = Boxes(*map(np.concatenate, zip(*map(box_of, buckets), strict=True)))
    index, _ = nearest_neighbors(X, 8)
    for home, (members, place) in enumerate(rows):
        found = search_bucket(home, boxes, buckets.__getitem__, 8, 1.0)
        np.testing.assert_array_equal(found.number[place, 0], members)
        np.testing.assert_array_equal(found.number[place, 1:], index[members])


def test_search_chosen__is_the_same_however_regions_are_put_into_buckets():
    X = np.round(np.random.default_rng(7).normal(size=(12_000, 5)) * 4).astype(np.float32)
    regions = build_regions(X, 3)
    distinct, _ = merge_equal([numbered_rows(X, 0)], 9)
    region = regions.route(regions.scaled(distinct.rows))

    def found(spans):
        buckets, lowest = [], []
        for span in spans:
            members = np.flatnonzero(np.isin(region, span))
            bucket, _ = make_bucket(distinct.take(members), region[members], span)
            buckets.append(bucket)
            lowest.append(bucket.copies[bucket.copy_start[:-1]])
        groups = group_table(
            np.concatenate([bucket.group_centers for bucket in buckets]),
            np.concatenate([bucket.group_spread for bucket in buckets]),
            np.concatenate([np.diff(bucket.group_start) for bucket in buckets]),
            np.array([len(bucket.group_centers) for bucket in buckets]),
        )
        parts = [
            search_chosen(home, groups, buckets.__getitem__, 8, 1.0, n_leaves=1024)
            for home in range(len(buckets))
        ]
        order = np.argsort(np.concatenate(lowest))
        assert max(len(bucket.group_centers) for bucket in buckets) > 3
        return [np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)]

    number, distance = found([range(3)])
    other_number, other_distance = found([range(1), range(1, 3)])
    np.testing.assert_array_equal(number, other_number)
    np.testing.assert_array_equal(distance, other_distance)
    assert (np.diff(np.sort(number, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("kind", ["clusters", "noise"])
def test_nearest_neighbors__beyond_the_exact_ones_as_many_as_wanted(kind):
    rng = np.random.default_rng(8)
    centers = rng.normal(size=(300, 20)) * (3 if kind == "clusters" else 0)
    X = (centers[rng.integers(0, 300, 20_000)] + rng.normal(size=(20_000, 20))).astype(np.float32)
    true, _ = nearest_neighbors(X, 15)
    index, distance = nearest_neighbors(X, 15, recall=0.9)
    share = (index[:, :, None] == true[:, None, :]).any(axis=2).mean()
    assert 0.87 < share < 1
    # What is found is what it says, and nearest first.
    apart = np.sqrt(((X[:, None].astype(float) - X[index]) ** 2).sum(axis=2))
    np.testing.assert_allclose(distance, apart, rtol=2e-6)
    assert (np.diff(distance, axis=1) >= 0).all()


def test_nearest_neighbors__thousands_of_copies_of_a_few_rows():
    rng = np.random.default_rng(9)
    X = np.concatenate([rng.normal(size=(500, 4)), np.ones((20_000, 4)), np.zeros((20_000, 4))])
    X = X[rng.permutation(len(X))].astype(np.float32)
    for recall in (None, 0.9):
        index, distance = nearest_neighbors(X, 15, recall=recall)
        for value in (0, 1):
            copies = np.flatnonzero((value == X).all(axis=1))
            assert (distance[copies] == 0).all()
            np.testing.assert_array_equal(index[copies[0]], copies[1:16])
            np.testing.assert_array_equal(index[copies[100:]], copies[None, :15].repeat(19_900, 0))
