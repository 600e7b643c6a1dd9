"""The density method: against the hdbscan library, its invariants, and what it finds."""

from __future__ import annotations

import hdbscan
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from workflow.errors import ConfigError
from workflow.graph import Graph
from workflow.tree import build_tree

seeds = st.integers(0, 2**32 - 1)


def lumps(seed: int, n: int, n_components: int) -> np.ndarray:
    """Points with some structure and no ties."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform(-3, 3, (4, n_components))
    width = rng.uniform(0.2, 1.0, 4)
    label = rng.integers(0, 4, n)
    return centers[label] + rng.standard_normal((n, n_components)) * width[label, None]


def by_library(points: np.ndarray, size: int, **how) -> np.ndarray:
    """Labels of the library; where nothing splits it says noise and we say one cluster."""
    model = hdbscan.HDBSCAN(size, approx_min_span_tree=False, core_dist_n_jobs=1, **how)
    label = model.fit(points).labels_
    return label if label.max() >= 0 else np.zeros_like(label)


@given(
    seed=seeds,
    n=st.integers(12, 70),
    n_components=st.integers(1, 4),
    size=st.integers(2, 12),
    weight=st.integers(1, 50),
    selection=st.sampled_from(["eom", "leaf"]),
    is_complete=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_equal_weights_without_a_test_equal_the_library(
    seed,
    n,
    n_components,
    size,
    weight,
    selection,
    is_complete,
    complete_graph,
    empty_graph,
    same_partition,
):
    points = lumps(seed, n, n_components)
    tree = build_tree(
        points,
        np.full(n, weight),
        complete_graph(n) if is_complete else empty_graph(n),
        dimension=3.3,
        method="density",
        min_cluster_size=size * weight,
        min_samples=1,
        cluster_selection_method=selection,
        min_log_density_rise=0,
    )
    expected = by_library(points, size, min_samples=1, cluster_selection_method=selection)
    if weight == 1 or size > 1:
        assert same_partition(tree.label, expected)


@given(seed=seeds, n=st.integers(12, 70), size=st.integers(2, 12), samples=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_method_hdbscan_is_the_library_at_one_image_per_centroid(
    seed, n, size, samples, empty_graph, same_partition
):
    points = lumps(seed, n, 3)
    tree = build_tree(
        points,
        np.ones(n, np.int64),
        empty_graph(n),
        dimension=3.0,
        method="hdbscan",
        min_cluster_size=size,
        min_samples=samples,
    )
    assert same_partition(tree.label, by_library(points, size, min_samples=samples))
    model = hdbscan.HDBSCAN(
        size, min_samples=samples, approx_min_span_tree=False, core_dist_n_jobs=1
    ).fit(points)
    if model.labels_.max() >= 0:
        np.testing.assert_allclose(tree.membership, model.probabilities_, rtol=1e-6, atol=1e-7)


def test_hdbscan_counts_images(empty_graph):
    points = np.concatenate([np.arange(6.0), 100 + np.arange(6.0)])[:, None] ** 1.01
    population = np.where(np.arange(12) < 6, 100, 1)
    tree = build_tree(
        points, population, empty_graph(12), dimension=1.0, method="hdbscan", min_cluster_size=50
    )
    # Six images on the right are no cluster of 50, however many centroids they have.
    assert tree.label[6:].tolist() == [-1] * 6 or tree.n_clusters == 1


@pytest.fixture(scope="module")
def weighted(overcluster):
    images = lumps(8, 3_000, 3)
    return overcluster(images, 120)


def run(cells, **how):
    arguments = {"dimension": 3.0, "method": "density", "mean_distance": cells.mean_distance}
    return build_tree(cells.centroids, cells.population, cells.graph, **(arguments | how))


def test_scaled_weights_change_no_label(weighted):
    before = run(weighted, min_cluster_size=90)
    scaled = weighted._replace(
        population=weighted.population * 7,
        graph=Graph(*weighted.graph[:2], *(w * 7 for w in weighted.graph[2:])),
    )
    after = run(scaled, min_cluster_size=630)
    assert before.n_clusters > 1
    assert np.array_equal(before.label, after.label)
    np.testing.assert_allclose(before.membership, after.membership, rtol=1e-5)


@given(scale=st.floats(1e-6, 1e6))
@settings(max_examples=10, deadline=None)
def test_scaled_data_scale_lambda_by_the_inverse(weighted, scale):
    before = run(weighted, min_cluster_size=90)
    after = run(
        weighted._replace(
            centroids=weighted.centroids * scale, mean_distance=weighted.mean_distance * scale
        ),
        min_cluster_size=90,
    )
    assert np.array_equal(before.label, after.label)
    np.testing.assert_allclose(
        np.sort(after.condensed.lambda_val) * scale, np.sort(before.condensed.lambda_val), rtol=1e-6
    )


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_coincident_halves_change_nothing(weighted, seed):
    rng = np.random.default_rng(seed)
    n = len(weighted.centroids)
    split = int(rng.choice(np.flatnonzero(weighted.population > 1)))
    part = int(rng.integers(1, weighted.population[split]))
    dense = np.zeros((n + 1, n + 1), np.int64)
    rows = np.repeat(np.arange(n), np.diff(weighted.graph.indptr))
    dense[rows, weighted.graph.indices] = weighted.graph.weights
    share = dense[split] // 3
    dense[n], dense[:, n] = share, share
    dense[split] -= share
    dense[:, split] -= share
    dense[split, n] = dense[n, split] = 41
    dense[split, split] = dense[n, n] = 0
    row, col = np.nonzero(dense)
    graph = Graph(np.searchsorted(row, np.arange(n + 2)), col, dense[row, col])
    population = np.append(weighted.population, part)
    population[split] -= part
    before = run(weighted)
    after = build_tree(
        np.concatenate([weighted.centroids, weighted.centroids[split : split + 1]]),
        population,
        graph,
        dimension=3.0,
        method="density",
        mean_distance=np.append(weighted.mean_distance, weighted.mean_distance[split]),
        min_cluster_size=before.min_cluster_size,
    )
    assert np.array_equal(after.label[:n], before.label)
    assert after.label[n] == before.label[split]
    np.testing.assert_allclose(after.membership[:n], before.membership, rtol=1e-6)
    np.testing.assert_allclose(after.linkage.distance, before.linkage.distance, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_centroids_changes_nothing(weighted, seed):
    order = np.random.default_rng(seed).permutation(len(weighted.centroids))
    position = np.argsort(order)
    indptr, indices, *weights = weighted.graph
    rows = [np.arange(indptr[i], indptr[i + 1]) for i in order]
    graph = Graph(
        np.concatenate([[0], np.cumsum([len(r) for r in rows])]),
        position[indices[np.concatenate(rows)]],
        *(w[np.concatenate(rows)] for w in weights),
    )
    before = run(weighted)
    after = run(
        weighted._replace(
            centroids=weighted.centroids[order],
            population=weighted.population[order],
            mean_distance=weighted.mean_distance[order],
            graph=graph,
        ),
    )
    assert before.n_clusters > 1
    assert np.array_equal(after.label, before.label[order])
    assert np.array_equal(after.membership, before.membership[order])
    assert np.array_equal(after.linkage.distance, before.linkage.distance)


@pytest.mark.parametrize("has_radius", [False, True])
def test_a_heavy_lone_centroid_is_a_cluster(weighted, complete_graph, has_radius):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.standard_normal((60, 3)) * 0.5, [[40.0, 0.0, 0.0]]])
    dense = np.zeros((61, 61), np.int64)
    near = np.argsort(np.linalg.norm(points[:60, None] - points[None, :60], axis=2), axis=1)[:, 1:7]
    for i, others in enumerate(near):
        dense[i, others] = dense[others, i] = 3
    row, col = np.nonzero(dense)
    tree = build_tree(
        points,
        np.append(np.full(60, 30), 1_000),
        Graph(np.searchsorted(row, np.arange(62)), col, dense[row, col]),
        dimension=3.0,
        method="density",
        mean_distance=np.full(61, 0.2) if has_radius else None,
    )
    assert tree.n_clusters == 2
    assert tree.label[60] == 1
    assert (tree.label[:60] == 0).mean() > 0.8


@pytest.mark.parametrize("method", ["density", "hdbscan"])
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("is_coincident", [False, True])
def test_few_or_coincident_centroids_are_one_cluster(method, n, is_coincident, empty_graph):
    points = np.ones((n, 2)) if is_coincident else np.arange(2.0 * n).reshape(n, 2)
    tree = build_tree(points, np.full(n, 4), empty_graph(n), dimension=2.0, method=method)
    assert tree.label.tolist() == [0] * n
    assert (tree.membership > 0).all()
    assert tree.structure == "untested"
    assert all(np.isfinite(a).all() for a in tree.to_arrays().values())


def test_distances_that_underflow_leave_no_infinity(empty_graph):
    points = np.array([[0.0], [1e-200], [2e-200], [3e-200], [1.0], [1.0 + 2**-52]])
    for method in ("density", "hdbscan"):
        tree = build_tree(
            points, np.full(6, 3), empty_graph(6), dimension=1.0, method=method, min_cluster_size=5
        )
        assert np.isfinite(tree.condensed.lambda_val).all()
        assert tree.label.tolist() == [0, 0, 0, 0, 1, 1]


def test_blobs_are_found(blobs):
    cells, truth = blobs
    tree = run(cells, dimension=8.0)
    real = truth >= 0
    assert tree.n_clusters == 10
    assert tree.structure == "clusters"
    label = tree.label[cells.nearest]
    assert adjusted_rand_score(truth[real], label[real]) > 0.98
    assert (label[~real] < 0).mean() > 0.8


@pytest.mark.parametrize("name", ["normal", "plane", "uniform", "ring"])
def test_sets_without_structure_are_one_cluster_without_noise(name, structureless, dimensions):
    tree = run(structureless[name], dimension=dimensions[name])
    assert tree.n_clusters == 1
    assert (tree.label == 0).all()
    assert tree.structure == "none"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"method": "ward"}, "method must be one of"),
        ({"dimension": 0.0}, "dimension must be"),
        ({"dimension": float("nan")}, "dimension must be"),
        ({"min_cluster_size": 0}, "min_cluster_size must be at least 1"),
        ({"min_cluster_size": "big"}, "'auto'"),
        ({"min_samples": 0}, "min_samples"),
        ({"cluster_selection_method": "best"}, "eom, leaf"),
        ({"min_log_density_rise": -1.0}, "min_log_density_rise"),
        ({"mean_distance": np.array([1.0, np.inf])}, "mean_distance"),
    ],
)
def test_wrong_choices_are_refused(change, text, empty_graph):
    with pytest.raises(ConfigError, match=text):
        build_tree(np.eye(2), np.array([1, 1]), empty_graph(2), **({"dimension": 2.0} | change))
