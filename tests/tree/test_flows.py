"""The methods on the flows between centroids, and the choice between methods."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from tests.tree.slow import graph_of
from workflow.graph import Graph
from workflow.numerics import weighted_median
from workflow.tree import DEFAULT_RATIO, ClusterTree, build_tree, cut
from workflow.tree.contrast.method import THRESHOLDS
from workflow.tree.flows.dendrogram import flow_merges
from workflow.tree.flows.graph import node_levels, sparse_nodes
from workflow.tree.modularity.method import critical_resolutions, join_components
from workflow.tree.nodes import make_nodes

seeds = st.integers(0, 2**32 - 1)


def random_graph(seed: int, n: int, n_edges: int):
    rng = np.random.default_rng(seed)
    dense = np.zeros((n, n), np.int64)
    ends = rng.integers(0, n, (n_edges, 2))
    dense[ends[:, 0], ends[:, 1]] = rng.integers(1, 40, n_edges)
    dense = np.triu(dense + dense.T, 1)
    row, col = np.nonzero(dense)
    return row, col, dense[row, col]


def brute_merges(n, row, col, weight):
    """Greedy agglomeration by the smallest p_a p_b / p_ab over all pairs."""
    flow = np.zeros((n, n))
    flow[row, col] = flow[col, row] = weight
    clusters = {frozenset([i]): None for i in range(n)}
    degree = flow.sum(axis=1)
    found = []
    while True:
        best = None
        names = sorted(clusters, key=min)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                between = flow[np.ix_(sorted(a), sorted(b))].sum()
                if between > 0:
                    d = degree[sorted(a)].sum() * degree[sorted(b)].sum() / between
                    if best is None or d < best[0]:
                        best = (d, a, b)
        if best is None:
            return found
        _, a, b = best
        del clusters[a], clusters[b]
        clusters[a | b] = None
        found.append((best[0] / weight.sum(), a | b))


@given(seeds, st.integers(2, 14), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_chain_finds_the_merges_of_the_greedy_rule(seed, n, n_edges):
    row, col, weight = random_graph(seed, n, n_edges)
    # Distinct weights: ties may be resolved either way.
    weight = weight * 1_000 + np.random.default_rng(seed).permutation(len(weight))
    got = flow_merges(graph_of(n, row, col, weight))
    expected = brute_merges(n, row, col, weight)
    members = {i: frozenset([i]) for i in range(n)}
    for node, (a, b) in enumerate(zip(got.left.tolist(), got.right.tolist(), strict=True), n):
        members[node] = members[a] | members[b]
    assert {members[n + i] for i in range(len(got.left))} == {m for _, m in expected}
    np.testing.assert_allclose(np.sort([d for d, _ in expected]), got.distance, rtol=1e-9)
    assert (np.diff(got.distance) >= 0).all()


def antichains(node: int, n: int, left, right):
    """Every cut of the subtree at `node`, as lists of nodes."""
    yield [node]
    if node >= n:
        for a in antichains(left[node - n], n, left, right):
            for b in antichains(right[node - n], n, left, right):
                yield a + b


@given(seeds, st.integers(2, 8), st.integers(3, 30), st.floats(0.05, 5))
@settings(max_examples=40, deadline=None)
def test_critical_resolutions_give_the_cut_of_largest_modularity(seed, n, n_edges, resolution):
    row, col, weight = random_graph(seed, n, n_edges)
    if not len(row):
        return
    graph = graph_of(n, row, col, weight)
    merges = join_components(n, flow_merges(graph))
    critical = critical_resolutions(graph, merges)
    left, right = merges.left.tolist(), merges.right.tolist()
    members = {i: [i] for i in range(n)}
    for node, (a, b) in enumerate(zip(left, right, strict=True), n):
        members[node] = members[a] + members[b]
    degree = np.bincount(np.concatenate([row, col]), np.tile(weight, 2), minlength=n)

    def modularity(nodes):
        label = np.empty(n, int)
        for i, node in enumerate(nodes):
            label[members[node]] = i
        inside = weight[label[row] == label[col]].sum() / weight.sum()
        shares = np.bincount(label, degree) / degree.sum()
        return inside - resolution * np.square(shares).sum()

    chosen, stack = [], [2 * n - 2]
    while stack:
        node = stack.pop()
        if node >= n and critical[node - n] <= resolution:
            stack += [left[node - n], right[node - n]]
        else:
            chosen.append(node)
    best = max(modularity(nodes) for nodes in antichains(2 * n - 2, n, left, right))
    np.testing.assert_allclose(modularity(chosen), best, atol=1e-12)


def test_weighted_median_is_that_of_repeated_values():
    rng = np.random.default_rng(0)
    values, weights = rng.standard_normal(31), rng.integers(1, 9, 31)
    expected = np.sort(np.repeat(values, weights))[(weights.sum() - 1) // 2]
    assert weighted_median(values, weights) == expected


def test_levels_follow_the_formula():
    row, col, weight = np.array([0, 0]), np.array([1, 2]), np.array([3, 1])
    level = node_levels(np.array([4, 9, 2, 5]), row, col, weight, np.array([1.0, 5.0]))
    mean = np.array([2.0, 1.0, 5.0, 5.0])  # the last has no flow: the largest
    np.testing.assert_allclose(level, np.log([4, 9, 2, 5]) - 2 * np.log(mean))


def test_nothing_is_set_aside_for_less_than_half_a_percent():
    level, population = np.array([0.0, 0.0, -9.0]), np.array([500, 500, 4])
    assert not sparse_nodes(level, population).any()
    assert sparse_nodes(level, np.array([500, 500, 6])).tolist() == [False, False, True]


def test_the_rule_and_its_linkage_agree(blobs):
    cells, _ = blobs
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    tree = run(cells, "contrast")
    linkage, by_threshold = tree.linkage, tree.n_clusters_by_threshold
    assert by_threshold[:, 0].tolist() == list(THRESHOLDS) == sorted(THRESHOLDS)
    assert linkage.size[-1] == nodes.population.sum()
    assert (np.diff(linkage.distance) >= 0).all()
    assert np.isfinite(linkage.distance).all()
    first_merge = np.full(2 * nodes.n_nodes - 1, np.inf)
    for side in (linkage.left, linkage.right):
        np.minimum.at(first_merge, side, linkage.distance)
    assert (linkage.leaf_distance <= first_merge[: nodes.n_nodes]).all()
    assert (linkage.leaf_distance > 0).all()
    assert tree.n_clusters == dict(by_threshold.tolist())[DEFAULT_RATIO] == 10
    # What is set aside as sparse is the noise.
    length = np.linalg.norm(nodes.position[nodes.row] - nodes.position[nodes.col], axis=1)
    level = node_levels(nodes.population, nodes.row, nodes.col, nodes.weights, length)
    is_sparse = sparse_nodes(level, nodes.population)
    assert np.array_equal(tree.label < 0, is_sparse[nodes.node])


def run(cells, method, dimension=8.0, **how) -> ClusterTree:
    return build_tree(
        cells.centroids,
        cells.population,
        cells.graph,
        dimension=dimension,
        method=method,
        mean_distance=cells.mean_distance,
        **how,
    )


@pytest.mark.parametrize(
    ("method", "least"), [("contrast", 0.97), ("modularity", 0.9), ("auto", 0.98)]
)
def test_blobs_are_found(blobs, method, least):
    cells, truth = blobs
    tree = run(cells, method)
    real = truth >= 0
    label = tree.label[cells.nearest]
    assert adjusted_rand_score(truth[real], label[real]) > least
    assert tree.structure == "clusters"
    assert tree.method == ("density" if method == "auto" else method)
    assert (tree.membership[tree.label >= 0] > 0).all()
    assert (tree.membership[tree.label < 0] == 0).all()


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("normal", "contrast"),
        ("plane", "contrast"),
        ("uniform", "contrast"),
        ("normal", "auto"),
        ("plane", "auto"),
        ("uniform", "auto"),
        ("ring", "auto"),  # alone, the contrast test cuts this ring in two
    ],
)
def test_sets_without_structure_are_one_cluster_without_noise(
    name, method, structureless, dimensions
):
    tree = run(structureless[name], method, dimensions[name])
    assert (tree.structure, tree.n_clusters) == ("none", 1)
    assert len(tree.n_clusters_by_threshold) > 0
    assert (tree.label == 0).all()


def test_touching_clusters_are_left_to_the_flows(overcluster):
    rng = np.random.default_rng(2)
    label = rng.integers(0, 6, 24_000)
    images = rng.standard_normal((24_000, 12))
    images[np.arange(24_000), label] += 4.6
    cells = overcluster(images, 480)
    dense = run(cells, "density", 12.0)
    tree = run(cells, "auto", 12.0)
    assert tree.method in {"contrast", "modularity"}
    assert len(tree.n_clusters_by_threshold) > 0
    assert tree.n_clusters == 6
    reached = adjusted_rand_score(label, tree.label[cells.nearest])
    assert reached > 0.9 > adjusted_rand_score(label, dense.label[cells.nearest])


def test_too_few_images_are_untested(overcluster):
    rng = np.random.default_rng(1)
    images = rng.standard_normal((600, 6))
    tree = run(overcluster(images, 200), "auto", 6.0)
    assert (tree.method, tree.structure) == ("modularity", "untested")
    assert (tree.label >= 0).all()
    images[:200] += 12.0
    apart = run(overcluster(images, 200), "auto", 6.0)
    assert (apart.method, apart.structure, apart.n_clusters) == ("density", "untested", 2)


@pytest.mark.parametrize("method", ["contrast", "modularity"])
def test_other_numbers_and_layers_can_be_had(blobs, method):
    cells, _ = blobs
    tree = run(cells, method)
    for n_clusters in (1, 2, 5, tree.n_clusters):
        assert cut(tree, n_clusters=n_clusters).n_clusters == n_clusters
    for index, layer in enumerate(tree.layers):
        assert np.array_equal(cut(tree, layer=index).label, layer)
    again = ClusterTree.from_arrays(tree.to_arrays(), tree.attrs())
    for name, array in again.to_arrays().items():
        assert np.array_equal(array, tree.to_arrays()[name])
    assert np.array_equal(
        cut(again, min_cluster_size=900).label, cut(tree, min_cluster_size=900).label
    )


@pytest.mark.parametrize("method", ["contrast", "modularity", "auto"])
def test_the_order_of_centroids_changes_nothing(blobs, method):
    cells, _ = blobs
    order = np.random.default_rng(5).permutation(len(cells.centroids))
    position = np.argsort(order)
    indptr, indices, *weights = cells.graph
    rows = np.concatenate([np.arange(indptr[i], indptr[i + 1]) for i in order])
    graph = Graph(
        np.concatenate([[0], np.cumsum(np.diff(indptr)[order])]),
        position[indices[rows]],
        *(w[rows] for w in weights),
    )
    moved = cells._replace(
        centroids=cells.centroids[order],
        population=cells.population[order],
        mean_distance=cells.mean_distance[order],
        graph=graph,
    )
    assert np.array_equal(run(moved, method).label, run(cells, method).label[order])


@pytest.mark.parametrize("method", ["contrast", "modularity"])
@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("is_coincident", [False, True])
def test_no_flows_at_all_are_legal(method, n, is_coincident, empty_graph):
    points = np.ones((n, 2)) if is_coincident else np.arange(2.0 * n).reshape(n, 2)
    tree = build_tree(points, np.full(n, 4), empty_graph(n), dimension=2.0, method=method)
    assert tree.label.min() >= 0
    assert all(np.isfinite(a).all() for k, a in tree.to_arrays().items() if k != "score")


def test_components_without_flow_between_them_are_clusters(empty_graph):
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.standard_normal((40, 2)), rng.standard_normal((40, 2)) + 30])
    dense = np.zeros((80, 80), np.int64)
    for start in (0, 40):
        gaps = np.linalg.norm(
            points[start : start + 40, None] - points[None, start : start + 40], axis=2
        )
        for i, others in enumerate(np.argsort(gaps, axis=1)[:, 1:7]):
            dense[start + i, start + others] = dense[start + others, start + i] = 5
    row, col = np.nonzero(dense)
    graph = Graph(np.searchsorted(row, np.arange(81)), col, dense[row, col])
    tree = build_tree(points, np.full(80, 100), graph, dimension=2.0, method="contrast")
    assert tree.n_clusters == 2
    assert len(set(tree.label[:40].tolist())) == 1
