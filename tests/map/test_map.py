"""The layout against sums over all pairs, what it keeps of sets with a known answer, and odd input."""

import numpy as np
import pytest

from workflow.graph import Graph
from workflow.map import Places, Turn, flow_affinities, isolated, lay_out, neighbor_affinities
from workflow.map.field import field_of
from workflow.rng import generator


def nearest(rows, k):
    """Return the k nearest other rows of each, by brute force."""
    sq = np.square(rows[:, None] - rows[None]).sum(-1)
    np.fill_diagonal(sq, np.inf)
    return np.argsort(sq, axis=1, kind="stable")[:, :k].astype(np.int32)


def map_of(rows, k=8, seed=0):
    """Lay rows out by their nearest ones."""
    index = nearest(rows, min(k, len(rows) - 1))
    return lay_out(neighbor_affinities(index), rows, generator(seed, "map"))


def blobs(n_groups, n_rows, seed=0, n_features=8, apart=12.0):
    """Return groups of rows, and the group of each."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(n_groups), n_rows)
    return (apart * rng.normal(size=(n_groups, n_features)))[of] + rng.normal(
        size=(len(of), n_features)
    ), of


@pytest.mark.parametrize(("n", "extent"), [(100, 20.0), (600, 2.0), (3000, 40.0)])
def test_field__is_the_sum_over_all_pairs(n, extent):
    position = extent * (np.random.default_rng(0).random(size=(n, 2)) - 0.5)
    difference = position[:, None] - position[None]
    kernel = 1 / (1 + np.square(difference).sum(-1))
    total, slope = field_of(position)
    assert total == pytest.approx(kernel.sum(), rel=2e-3)
    expected = -2 * (difference * np.square(kernel)[..., None]).sum(1)
    assert np.abs(slope - expected).mean() <= 0.05 * np.abs(expected).mean()


def test_affinities__are_shares_averaged_over_both_ends():
    index = np.array([[1, 2], [0, -1], [1, 0], [3, 2]], np.int32)
    shares = np.array([[0, 0.5, 0.5, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 1, 0]])
    found = neighbor_affinities(index)
    np.testing.assert_allclose(found.to_sparse().toarray(), (shares + shares.T) / 8)
    flows = np.array([[0, 3, 1], [3, 0, 0], [1, 0, 0]])
    graph = Graph(np.array([0, 2, 3, 4]), np.array([1, 2, 0, 0]), np.array([3, 1, 3, 1]))
    shares = flows / flows.sum(1, keepdims=True)
    found = flow_affinities(graph).to_sparse().toarray()
    np.testing.assert_allclose(found, (shares + shares.T) / 6, rtol=1e-6)
    assert isolated(neighbor_affinities(np.array([[1], [0], [2]], np.int32))).tolist() == [2]


def test_layout__keeps_neighbors_and_groups():
    rows, of = blobs(6, 60)
    position = map_of(rows)
    near = nearest(position, 10)
    assert (of[near] == of[:, None]).mean() >= 0.99
    true = nearest(rows, 10)
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(near, true, strict=True)])
    assert recall >= 0.4


def test_layout__is_the_same_to_the_bit_and_nearly_so_with_another_seed():
    rows, _ = blobs(4, 40)
    first = map_of(rows)
    assert np.array_equal(first, map_of(rows))
    other = map_of(rows, seed=1)
    other = Turn.between(other, first).apply(other)
    assert np.sqrt(np.square(other - first).sum(1).mean()) <= 0.5 * first.std()


def test_layout__an_outlier_leaves_the_others_their_room():
    rows, of = blobs(4, 50)
    rows = np.concatenate([rows, [np.full(8, 1e6)]])
    position = map_of(rows)[:-1]
    middles = np.array([np.median(position[of == group], axis=0) for group in range(4)])
    extent = np.ptp(map_of(rows), axis=0).max()
    apart = [np.linalg.norm(middles[a] - middles[b]) for a in range(4) for b in range(a)]
    assert min(apart) >= 0.05 * extent


ODD = {
    "two": np.array([[0.0, 0.0], [1.0, 0.0]]),
    "three": np.eye(3),
    "one component": np.arange(60.0)[:, None] ** 2,
    "on a line": np.outer(np.arange(300.0), np.ones(4)),
    "apart": blobs(2, 150, apart=1e6)[0],
    "equal": np.zeros((40, 3)),
}


@pytest.mark.parametrize("name", ODD)
def test_layout__of_odd_sets_is_a_map(name):
    rows = ODD[name]
    position = map_of(rows)
    assert np.abs(position).max() < 300
    if name != "equal":
        assert len(np.unique(position.round(3), axis=0)) == len(rows)
    if name == "apart":
        assert (nearest(position, 1)[:, 0] // 150 == np.arange(300) // 150).all()


def test_layout__one_point_and_nothing_that_attracts():
    alone = neighbor_affinities(np.full((1, 1), -1, np.int32))
    assert lay_out(alone, np.ones((1, 3)), generator(0, "map")).tolist() == [[0, 0]]
    far = lay_out(
        neighbor_affinities(np.full((5, 2), -1, np.int32)), np.eye(5), generator(0, "map")
    )
    assert np.isfinite(far).all()


@pytest.fixture(scope="module")
def places():
    rows, _ = blobs(5, 30)
    landmarks = rows.astype(np.float32)
    return Places.build(landmarks, map_of(rows).astype(np.float32))


def test_places__a_landmark_lies_on_itself(places):
    own = np.arange(len(places.landmarks), dtype=np.int32)
    assert np.array_equal(places.place(places.landmarks, own), places.position)


def test_places__of_rows_do_not_depend_on_other_rows(places):
    rng = np.random.default_rng(1)
    rows = (places.landmarks + 0.2 * rng.normal(size=places.landmarks.shape)).astype(np.float32)
    of = np.argmin(np.square(rows[:, None] - places.landmarks[None]).sum(-1), 1).astype(np.int32)
    whole = places.place(rows, of)
    for row in range(0, len(rows), 7):
        assert np.array_equal(places.place(rows[row : row + 1], of[row : row + 1])[0], whole[row])
    away = np.linalg.norm(whole - places.position[of], axis=1)
    assert 0 < np.median(away) < 1
    assert away.max() <= 3.0001


def test_places__lie_on_the_side_of_the_landmark_they_are_near_to(places):
    index = nearest(places.position, 1)[:, 0]
    own = np.arange(len(index), dtype=np.int32)
    way = places.position[index] - places.position
    rows = (0.7 * places.landmarks + 0.3 * places.landmarks[index]).astype(np.float32)
    moved = places.place(rows, own) - places.position
    assert ((way * moved).sum(1) > 0).mean() >= 0.8


def test_places__of_one_and_of_equal_landmarks():
    one = Places.build(np.ones((1, 3), np.float32), np.zeros((1, 2), np.float32))
    rows = np.array([[1, 1, 1], [5, 5, 5]], np.float32)
    assert one.place(rows, np.zeros(2, np.int32)).tolist() == [[0, 0], [0, 0]]
    equal = Places.build(np.ones((9, 3), np.float32), np.arange(18, dtype=np.float32).reshape(9, 2))
    assert np.array_equal(equal.place(rows, np.array([3, 3], np.int32)), equal.position[[3, 3]])


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_turn__undoes_a_rotation_a_reflection_and_a_shift(mirror):
    rng = np.random.default_rng(3)
    new = rng.normal(size=(50, 2))
    c, s = np.cos(2.0), np.sin(2.0)
    old = new @ np.array([[c, s], [-s, c]]) * [1.0, mirror] + [3.0, -7.0]
    np.testing.assert_allclose(Turn.between(new, old).apply(new), old, atol=1e-9)


def test_turn__changes_no_bit_where_nothing_is_to_turn():
    new = np.random.default_rng(3).normal(size=(50, 2))
    assert np.array_equal(Turn.between(new, new).apply(new), new)
    assert np.array_equal(Turn.between(new[:0], new[:0]).apply(new), new)
