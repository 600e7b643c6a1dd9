"""Near-duplicates: the dip of the nearest distances, and groups of bounded diameter, against brute force."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from workflow.neighbors import nearest_neighbors
from workflow.neighbors.near import count_distances, find_dip, near_groups, quantile_of


def counted(distances):
    """Return the counts of one distance for each image."""
    return count_distances(np.asarray(distances, np.float32)[:, None])


def nearest(rows):
    """Return the distance of each row to the nearest other one."""
    return nearest_neighbors(rows.astype(np.float32), 1)[1][:, 0]


@pytest.mark.parametrize(
    ("n_near", "apart"), [(8, 30), (30, 4), (100, 30), (5000, 4), (5000, 1000)]
)
def test_dip__lies_between_near_duplicates_and_the_rest(n_near, apart):
    rng = np.random.default_rng(n_near)
    near = 10 * rng.lognormal(0, 0.05, n_near)
    others = 10 * apart * rng.lognormal(0, 0.2, 20_000) * 1.6
    found = find_dip(counted(np.concatenate([near, others])))
    assert (near <= found).mean() > 0.99
    assert (others <= found).sum() <= 0.01 * n_near


@pytest.mark.parametrize("dimension", [2, 5, 20])
@pytest.mark.parametrize("seed", range(5))
def test_dip__is_none_in_a_cloud(dimension, seed):
    rng = np.random.default_rng(seed)
    assert find_dip(counted(nearest(rng.normal(size=(3000, dimension))))) is None
    assert find_dip(counted(nearest(rng.random((3000, dimension))))) is None


def test_dip__is_none_without_distances():
    assert find_dip(count_distances(np.full((5, 3), np.inf, np.float32))) is None
    assert find_dip(count_distances(np.zeros((5, 3), np.float32))) is None
    assert quantile_of(count_distances(np.zeros((5, 3), np.float32)), 0.5) == 0


def test_distances__copies_are_passed_over():
    distance = np.array([[0, 0, 3], [0, 0, 0], [5, 6, 7], [0, np.inf, np.inf]], np.float32)
    assert count_distances(distance).sum() == 2
    assert quantile_of(count_distances(distance), 0.1) == pytest.approx(3, rel=0.07)


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_groups__are_as_wide_as_they_may_be_and_no_wider(scale):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(300, 3)) * scale).astype(np.float32)
    one, other = np.triu_indices(300, 1)
    apart = cdist(rows.astype(float), rows.astype(float))
    found = near_groups(rows, one, other, apart[one, other], 0.6)
    members = {first: np.flatnonzero(found.first == first) for first in np.unique(found.first)}
    for first, rows_of in members.items():
        assert first == rows_of[0]
        assert found.diameter[first] == pytest.approx(apart[np.ix_(rows_of, rows_of)].max())
    assert found.diameter.max() <= 1.2
    is_link = apart[one, other] <= 0.6
    for i, j in zip(found.first[one[is_link]], found.first[other[is_link]], strict=True):
        assert i == j or apart[np.ix_(members[i], members[j])].max() > 1.2
    shuffled = rng.permutation(len(one))
    again = near_groups(rows, other[shuffled], one[shuffled], apart[one, other][shuffled], 0.6)
    np.testing.assert_array_equal(again.first, found.first)


def test_groups__very_large_ones_keep_to_the_bound():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(0, 0.1, (1500, 8)), rng.normal(0, 1, (1500, 8))])
    index, distance = nearest_neighbors(rows.astype(np.float32), 15)
    one = np.repeat(np.arange(3000), 15)
    found = near_groups(rows.astype(np.float32), one, index.ravel(), distance.ravel(), 1.0)
    sizes = np.bincount(found.first)
    assert sizes.max() >= 1500
    for first in np.flatnonzero(sizes > 1):
        members = rows[found.first == first]
        assert cdist(members, members).max() <= found.diameter[first] * (1 + 1e-6) <= 2.000002
