"""Labels of rows from labels of centroids, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflow.graph import Graph
from workflow.labels import (
    CentroidLabels,
    centroid_labels,
    label_rows,
    resolve_noise,
)


def graph_of(n, edges):
    """Return a symmetric graph in compressed rows from {(i, j): weight}."""
    both = sorted(
        [(i, j, w) for (i, j), w in edges.items()] + [(j, i, w) for (i, j), w in edges.items()]
    )
    counts = np.bincount([i for i, _, _ in both], minlength=n) if both else np.zeros(n, int)
    return Graph(
        np.concatenate([[0], np.cumsum(counts)]),
        np.array([j for _, j, _ in both], dtype=np.int32),
        np.array([w for _, _, w in both], dtype=np.int64),
    )


def kruskal(label, edges, centroids):
    """Join components edge by edge, as the documentation says; then bridge what is left."""
    n = len(label)
    members = {i: [i] for i in range(n)}
    home = list(range(n))
    resolved = [int(v) for v in label]

    def length(i, j):
        return np.square(centroids[i] - centroids[j]).sum()

    for i, j in sorted(edges, key=lambda e: (-edges[e], length(*e), *e)):
        if edges[i, j] <= 0 or min(resolved[i], resolved[j]) >= 0:
            continue
        if resolved[i] < 0 and resolved[j] < 0:
            if home[i] != home[j]:
                gone = home[j]
                for k in members.pop(gone):
                    home[k] = home[i]
                    members[home[i]].append(k)
            continue
        lost, value = (i, resolved[j]) if resolved[i] < 0 else (j, resolved[i])
        for k in members[home[lost]]:
            resolved[k] = value
    labelled = [i for i in range(n) if label[i] >= 0]
    for group in members.values():
        if labelled and resolved[group[0]] < 0:
            _, _, j = min((length(i, j), i, j) for i in group for j in labelled)
            for k in group:
                resolved[k] = int(label[j])
    return resolved


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 14), st.integers(0, 10_000))
def test_resolve_noise__equals_joining_edge_by_edge(n, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 3, size=n)
    label[rng.random(n) < 0.5] = -1
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.3]
    edges = {pair: int(rng.integers(0, 4)) for pair in pairs}
    centroids = rng.normal(size=(n, 2))
    resolved = resolve_noise(label, graph_of(n, edges), centroids)
    assert resolved.tolist() == kruskal(label, edges, centroids)
    assert resolved.dtype == np.int32
    if (label >= 0).any():
        assert (resolved >= 0).all()
        np.testing.assert_array_equal(resolved[label >= 0], label[label >= 0])
    else:
        assert (resolved == -1).all()


def test_resolve_noise__follows_the_graph_and_not_the_nearest_centre():
    # A chain of noise leads from cluster 0 to right beside cluster 1.
    centroids = np.array([[0.0], [1.0], [2.0], [3.0], [3.5]])
    edges = {(0, 1): 5, (1, 2): 5, (2, 3): 5, (3, 4): 1}
    resolved = resolve_noise(np.array([0, -1, -1, -1, 1]), graph_of(5, edges), centroids)
    assert resolved.tolist() == [0, 0, 0, 0, 1]


def test_resolve_noise__bridges_a_whole_component_at_its_nearest_member():
    centroids = np.array([[0.0], [10.0], [2.0], [9.0], [7.9]])
    edges = {(2, 3): 1, (3, 4): 1}
    resolved = resolve_noise(np.array([0, 1, -1, -1, -1]), graph_of(5, edges), centroids)
    assert resolved.tolist() == [0, 1, 1, 1, 1]


def test_resolve_noise__many_lost_centroids():
    rng = np.random.default_rng(0)
    centroids = rng.normal(size=(900, 3))
    label = np.where(np.arange(900) < 50, np.arange(900) % 4, -1)
    resolved = resolve_noise(label, graph_of(900, {}), centroids)
    nearest = np.square(centroids[:, None] - centroids[:50]).sum(-1).argmin(1)
    np.testing.assert_array_equal(resolved, label[nearest])


def example():
    label = np.array([0, 0, 1, -1, 0])
    centroids = np.array([[0.0, 0], [1, 0], [9, 0], [3, 0], [0, 1]])
    graph = graph_of(5, {(0, 1): 3, (1, 3): 2, (2, 3): 1, (0, 4): 1})
    return label, graph, centroids


def test_centroid_labels__radius_and_offset():
    label, graph, centroids = example()
    made = centroid_labels(
        label,
        np.array([1.0, 0.5, 1.0, 0.0, 0.25]),
        graph,
        centroids=centroids,
        rms_radius=np.array([2.0, 3.0, 0.0, 7.0, 0.5]),
        population=np.array([10, 30, 5, 9, 1]),
    )
    assert made.label_resolved.tolist() == [0, 0, 1, 0, 0]
    # Centroid 4 has one row: median of its cluster; 2 has none to take, so the median of all.
    assert made.radius_sq.tolist() == [4.0, 9.0, 9.0, 9.0, 9.0]
    assert made.offset_sq.tolist() == [0.0, 0.0, 0.0, 4.0, 0.0]
    assert made.label.tolist() == label.tolist()
    again = CentroidLabels.from_arrays(made.to_arrays())
    for name, array in made.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)
    assert [array.dtype.name for array in made.to_arrays().values()] == ["int32"] * 2 + [
        "float32"
    ] * 3


def radii(rms_radius, population):
    """Return the reference radii of centroids of one cluster."""
    n = len(rms_radius)
    made = centroid_labels(
        np.zeros(n, int),
        np.ones(n),
        graph_of(n, {}),
        centroids=np.zeros((n, 2)),
        rms_radius=np.array(rms_radius),
        population=np.array(population),
    )
    return np.sqrt(made.radius_sq).tolist()


def test_centroid_labels__cuts_the_radius_of_wide_cells():
    # A cell of strays; one that is twice as wide as usual, in the outskirts, keeps its radius.
    assert radii([1, 1, 1, 2, 17], [30, 30, 30, 20, 3]) == [1, 1, 1, 2, 2]
    # Most rows are near-duplicates in one cell: those of the other cells are not strays.
    assert radii([0.001, 1, 1, 1.5], [900, 30, 30, 30]) == pytest.approx([0.001, 1, 1, 1.5])


@pytest.mark.parametrize("named", [True, False])
def test_centroid_labels__wide_cells_around_narrow_ones_are_noise(named):
    """Six narrow cells in a row, then two wide ones and a lone stray image; then other clusters."""
    place = np.array([0.0, 1, 2, 3, 4, 5, 20, 40, 60, 100, 101, 102, 200])
    label = np.array([0] * 9 + [1] * 3 + [-1 if named else 1])
    radius = np.array([0.5, 0.6, 0.5, 0.7, 0.5, 0.6, 8, 9, 0, 4, 0.5, 4, 4])
    indptr = np.array([0, 1, *range(3, 24, 2), 24])
    indices = np.array([1, *[j for i in range(1, 12) for j in (i - 1, i + 1)], 11])
    made = centroid_labels(
        label,
        np.ones(13),
        Graph(indptr, indices, np.ones(24)),
        centroids=place[:, None],
        rms_radius=radius,
        population=np.array([9] * 8 + [1] + [9] * 4),
    )
    # The other cluster is too small to be told apart from what is around it.
    expected = label.copy()
    if named:
        expected[6:9] = -1
    assert made.label.tolist() == expected.tolist()
    assert made.label_resolved[:9].tolist() == [0] * 9
    if named:
        assert made.offset_sq[6:9].tolist() == [15**2, 35**2, 55**2]


def test_centroid_labels__lone_images_far_from_their_cluster_are_noise():
    """Widths rise without a gap; of the two widest cells one has two images, the other thirty."""
    place = np.array([0.0, 2, 4, 6, 8, 11, 14.5, 19, 25, 33, -60])
    n = len(place)
    made = centroid_labels(
        np.array([0] * (n - 1) + [-1]),
        np.ones(n),
        Graph(
            np.array([0, 1, *range(3, 2 * n - 1, 2), 2 * n - 2]),
            np.array([1, *[j for i in range(1, n - 1) for j in (i - 1, i + 1)], n - 2]),
            np.ones(2 * n - 2),
        ),
        centroids=place[:, None],
        rms_radius=np.array([1, 1, 1, 1, 1, 1.5, 1.75, 2.2, 3, 0, 1]),
        population=np.array([30] * 9 + [2, 30]),
    )
    assert made.label.tolist() == [0] * 9 + [-1, -1]
    assert made.offset_sq[9] == 8**2


def test_centroid_labels__without_any_cluster():
    _, graph, centroids = example()
    made = centroid_labels(
        np.full(5, -1),
        np.zeros(5),
        graph,
        centroids=centroids,
        rms_radius=np.ones(5),
        population=np.full(5, 3),
    )
    assert made.label_resolved.tolist() == [-1] * 5
    assert made.offset_sq.tolist() == [0] * 5
    rows = label_rows(np.array([[0, 1]]), np.array([[1.0, 2.0]]), made, noise="resolve")
    assert rows.label.tolist() == [-1]
    assert rows.strength.tolist() == [0.0]


@pytest.mark.parametrize(
    ("noise", "limit"), [("keep", 0.75), ("keep", 0.6), ("keep", None), ("resolve", 0.75)]
)
def test_label_rows__equals_a_loop(noise, limit):
    rng = np.random.default_rng(0)
    label, graph, centroids = example()
    membership = np.array([1.0, 0.5, 0.75, 0.0, 0.25])
    made = centroid_labels(
        label,
        membership,
        graph,
        centroids=centroids,
        rms_radius=rng.random(5),
        population=np.full(5, 9),
    )
    points = rng.normal(size=(200, 2)) * 5
    squared = np.square(points[:, None] - centroids).sum(-1)
    nearest = np.argsort(squared, axis=1)[:, :3].astype(np.int32)
    q = np.take_along_axis(squared, nearest, axis=1).astype(np.float32)
    rows = label_rows(nearest, q, made, noise=noise, max_outlier_score=limit)
    for i in range(200):
        a, b = nearest[i, :2]
        resolved = made.label_resolved
        outside = q[i, 0] + made.offset_sq[a]
        expected = outside / (outside + made.radius_sq[a])
        assert rows.outlier_score[i] == pytest.approx(expected, rel=1e-5)
        if noise == "resolve":
            assert rows.label[i] == resolved[a]
        elif limit is None:
            assert rows.label[i] == label[a]
        else:
            here = min(limit, 0.7) if label[a] < 0 else limit
            assert rows.label[i] == (-1 if expected > here else resolved[a])
        assert rows.label_resolved[i] == resolved[a]
        margin = 1.0
        if resolved[a] != resolved[b]:
            margin = (q[i, 1] - q[i, 0]) / (q[i, 1] + q[i, 0])
        strength = 0 if rows.label[i] < 0 else membership[a] * margin
        assert rows.strength[i] == pytest.approx(strength, rel=1e-5)
        assert rows.distance[i] == pytest.approx(np.sqrt(q[i, 0]), rel=1e-6)
    np.testing.assert_array_equal(rows.centroid, nearest[:, 0])
    np.testing.assert_array_equal(rows.second_centroid, nearest[:, 1])
    assert [array.dtype.name for array in rows] == [
        "int32", "int32", "float32", "int32", "int32", "float32", "float32", "int32", "float32",
    ]  # fmt: skip
    part = label_rows(nearest[7:9], q[7:9], made, noise=noise, max_outlier_score=limit)
    for whole, few in zip(rows, part, strict=True):
        np.testing.assert_array_equal(whole[7:9], few)


def test_label_rows__noise_is_decided_row_by_row_where_the_tree_named_some():
    """A stray row in the cell of a cluster, and two rows of a noise cell, one near a cluster."""
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    resolved = np.array([0, 1, 0], np.int32)
    some = CentroidLabels(np.array([0, 1, -1], np.int32), resolved, one, one, zero)
    nearest = np.array([[0, 1], [0, 1], [2, 1], [2, 1]])
    q = np.array([[3.9, 50.0], [4.1, 50.0], [2.3, 50.0], [2.4, 50.0]], np.float32)
    assert some.has_noise
    assert label_rows(nearest, q, some).label.tolist() == [0, -1, 0, -1]
    assert label_rows(nearest, q, some, max_outlier_score=0.85).label.tolist() == [0, 0, 0, -1]
    off = label_rows(nearest, q, some, max_outlier_score=None)
    assert off.label.tolist() == [0, 0, -1, -1]
    assert off.strength[2:].tolist() == [0, 0]
    assert label_rows(nearest, q, some, noise="resolve").label.tolist() == [0, 0, 0, 0]
    none = CentroidLabels(resolved, resolved, one, one, zero)
    assert not none.has_noise
    assert label_rows(nearest, q, none).label.tolist() == [0, 0, 0, 0]


def test_label_rows__agrees_with_the_stored_score():
    limit, squared = 0.7, np.linspace(2.33, 2.34, 20_001, dtype=np.float32)
    labels = CentroidLabels(
        np.array([0, -1], np.int32),
        np.zeros(2, np.int32),
        *np.ones((2, 2), np.float32),
        np.zeros(2, np.float32),
    )
    nearest = np.tile([0, 1], (len(squared), 1))
    rows = label_rows(
        nearest, np.stack([squared, squared], axis=1), labels, max_outlier_score=limit
    )
    np.testing.assert_array_equal(rows.label < 0, rows.outlier_score > np.float32(limit))
    assert 0 < (rows.label < 0).sum() < len(squared)


def plain(label, radius_sq=0.0):
    one = np.ones(len(label), dtype=np.float32)
    label = np.array(label, dtype=np.int32)
    return CentroidLabels(label, label, one, one * np.float32(radius_sq), 0 * one)


def test_label_rows__edges_of_the_scores():
    nearest = np.array([[0, 1], [0, 1], [0, -1]])
    squared = np.array([[0.0, 0.0], [1e30, 1e30], [0.0, np.inf]], dtype=np.float32)
    rows = label_rows(nearest, squared, plain([0, 1]))
    assert rows.strength.tolist() == [0.0, 0.0, 1.0]
    assert rows.outlier_score[0] == 0
    assert 0.999 < rows.outlier_score[1] < 1
    assert rows.second_centroid.tolist() == [1, 1, -1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000))
def test_label_rows__scores_stay_in_range(seed):
    rng = np.random.default_rng(seed)
    squared = np.sort(10.0 ** rng.uniform(-30, 30, size=(40, 2)), axis=1).astype(np.float32)
    nearest = rng.permuted(np.tile(np.arange(4), (40, 1)), axis=1)[:, :2]
    rows = label_rows(nearest, squared, plain([0, 1, 1, -1], radius_sq=1.0))
    assert (rows.strength >= 0).all()
    assert (rows.strength <= 1).all()
    assert (rows.outlier_score >= 0).all()
    assert (rows.outlier_score < 1).all()


def test_refuses_what_does_not_fit():
    label, graph, centroids = example()
    with pytest.raises(ValueError, match="must be of the same centroids"):
        resolve_noise(label[:4], graph, centroids)
    with pytest.raises(ValueError, match=r"memberships lie in \[0, 1\]"):
        centroid_labels(
            label,
            np.full(5, 1.5),
            graph,
            centroids=centroids,
            rms_radius=np.ones(5),
            population=np.ones(5),
        )
    with pytest.raises(ValueError, match="`noise` must be 'keep' or 'resolve'"):
        label_rows(np.zeros((1, 2), int), np.zeros((1, 2)), plain([0]), noise="drop")
    for limit in (0.4, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"at least 0\.5 and below 1"):
            label_rows(np.zeros((1, 2), int), np.zeros((1, 2)), plain([0]), max_outlier_score=limit)
    with pytest.raises(ValueError, match="nearest two at least"):
        label_rows(np.zeros((1, 1), int), np.zeros((1, 1)), plain([0]))
