"""The parts of the tree against brute force and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.cluster.hierarchy import linkage as scipy_linkage
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist, pdist

from workflow.errors import ConfigError
from workflow.graph import Graph
from workflow.tree.condensed_tree import condense, prominences
from workflow.tree.density.bridges import bridge_edges
from workflow.tree.density.spacing import core_lengths, image_spacing
from workflow.tree.linkage import Linkage, minimum_spanning_tree, single_linkage
from workflow.tree.nodes import edge_distances, make_nodes
from workflow.tree.selection import label_leaves, select_excess_of_mass, select_leaves

seeds = st.integers(0, 2**32 - 1)


def random_linkage(seed: int, n: int) -> Linkage:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 3))
    row, col = np.triu_indices(n, 1)
    row, col, height = minimum_spanning_tree(n, row, col, edge_distances(points, row, col))
    first = np.full(n, np.inf)
    np.minimum.at(first, row, height)
    np.minimum.at(first, col, height)
    return single_linkage(row, col, height, rng.integers(1, 20, n), first * rng.uniform(0.5, 1, n))


def test_coincident_centroids_are_one_node_and_edges_add_up(complete_graph):
    points = np.array([[1.0, 0.0], [-0.0, 2.0], [1.0, 0.0], [0.0, 2.0]])
    nodes = make_nodes(points, np.array([3, 1, 4, 5]), complete_graph(4))
    assert nodes.position.tolist() == [[0.0, 2.0], [1.0, 0.0]]
    assert nodes.population.tolist() == [6, 7]
    assert nodes.node.tolist() == [1, 0, 1, 0]
    assert (nodes.row.tolist(), nodes.col.tolist(), nodes.weights.tolist()) == ([0], [1], [4])


def test_weights_of_three_keep_an_edge_without_a_first_pair():
    graph = Graph(np.array([0, 1, 2]), np.array([1, 0]), np.array([5, 5]), np.array([0, 0]))
    nodes = make_nodes(np.array([[0.0], [1.0]]), np.array([9, 9]), graph)
    assert (nodes.weights_two.tolist(), nodes.weights.tolist()) == ([0], [5])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"centroids": np.zeros(3)}, "shape"),
        ({"centroids": np.array([[0.0], [np.nan], [1.0]])}, "centroid 1"),
        ({"population": np.array([1, 0, 2])}, "at least 1; got 0 for centroid 1"),
        ({"population": np.ones(3)}, "integers"),
        ({"graph": Graph(np.zeros(3, int), np.empty(0, int), np.empty(0, int))}, "CSR"),
        ({"graph": Graph(np.array([0, 1, 1, 1]), np.array([1]), np.array([2]))}, "symmetric"),
        ({"graph": Graph(np.array([0, 1, 1, 1]), np.array([7]), np.array([2]))}, "CSR"),
    ],
)
def test_wrong_input_is_refused_with_the_reason(change, text, empty_graph):
    arguments = {
        "centroids": np.arange(3.0)[:, None],
        "population": np.array([1, 2, 3]),
        "graph": empty_graph(3),
    }
    with pytest.raises(ConfigError, match=text):
        make_nodes(**(arguments | change))


def test_distances_of_close_and_of_far_nodes_keep_their_digits():
    position = np.array([[1e6, 0.0], [1e6 + 1e-6, 0.0], [0.0, 0.0]])
    got = edge_distances(position, np.array([0, 0]), np.array([1, 2]))
    np.testing.assert_allclose(got, [position[1, 0] - 1e6, 1e6], rtol=1e-12)


def test_core_length_is_the_mean_over_the_nearest_neighbours(complete_graph):
    points = np.random.default_rng(0).standard_normal((12, 3))
    population = np.arange(1, 13)
    nodes = make_nodes(points, population, complete_graph(12))
    distance = edge_distances(nodes.position, nodes.row, nodes.col)
    full = np.sort(cdist(nodes.position, nodes.position), axis=1)
    for min_samples, used in ((1, 1), (4, 4), (0, 11)):
        expected = full[:, 1 : used + 1].mean(axis=1) * nodes.population ** (-1 / 2.5)
        got = core_lengths(nodes, distance, 2.5, min_samples)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_lone_node_has_no_core_length(empty_graph):
    nodes = make_nodes(np.array([[0.0], [1.0]]), np.array([1, 1]), empty_graph(2))
    assert core_lengths(nodes, np.empty(0), 1.0, 0).tolist() == [0.0, 0.0]


def test_spacing_of_images_follows_the_formula():
    got = image_spacing(np.array([2.0]), np.array([3]), np.array([7]), 1.5)
    np.testing.assert_allclose(got, 2.0 * 21 ** (-1 / 3))


@given(seeds, st.integers(2, 60), st.floats(0, 3))
@settings(max_examples=40, deadline=None)
def test_bridges_are_edges_of_the_euclidean_spanning_tree_between_pieces(seed, n, density):
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, 2)) + 1e3
    ends = np.sort(rng.integers(0, n, (int(density * n / 3), 2)), axis=1)
    ends = np.unique(ends[ends[:, 0] < ends[:, 1]], axis=0)
    row, col = bridge_edges(points, ends[:, 0], ends[:, 1])
    # Edges of the graph are free, so the spanning tree of this matrix is made of its bridges.
    matrix = cdist(points, points)
    matrix[ends[:, 0], ends[:, 1]] = matrix[ends[:, 1], ends[:, 0]] = 1e-12
    # Given as sparse: dense input takes such small entries for missing edges.
    expected = csgraph.minimum_spanning_tree(sparse.csr_array(matrix)).sum()
    bridges = edge_distances(points, row, col).sum()
    np.testing.assert_allclose(bridges, expected, atol=1e-9, rtol=1e-9)


def slow_bridges(points, group):
    """Kruskal's rule on all edges between groups; whole numbers have exact ties."""
    row, col = np.triu_indices(len(points), 1)
    length = np.square(points[row] - points[col]).sum(axis=1)
    group, found = group.copy(), set()
    for e in np.lexsort((col, row, length)):
        if group[row[e]] != group[col[e]]:
            found.add((int(row[e]), int(col[e])))
            group[group == group[row[e]]] = group[col[e]]
    return found


@given(seeds, st.integers(2, 150), st.integers(1, 25), st.integers(1, 40), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_bridges_are_those_of_all_distances_with_ties_and_in_many_axes(
    seed, n, axes, width, joined
):
    rng = np.random.default_rng(seed)
    points = np.unique(rng.integers(0, width, (n, axes)), axis=0).astype(float)
    n = len(points)
    group = rng.integers(0, max(1, int((1 - joined) * n)), n)
    order = np.lexsort((np.arange(n), group))
    same = group[order[1:]] == group[order[:-1]]
    row, col = np.sort(np.stack([order[:-1][same], order[1:][same]]), axis=0)
    got = np.stack(bridge_edges(points, row, col), axis=1)
    assert set(map(tuple, got.tolist())) == slow_bridges(points, group)
    # Fewer edges only need bridges beside those of more edges.
    fewer = rng.random(len(row)) < 0.7
    known = bridge_edges(points, row[fewer], col[fewer], got)
    expected = bridge_edges(points, row[fewer], col[fewer])
    assert set(zip(*map(np.ndarray.tolist, known), strict=True)) == set(
        zip(*map(np.ndarray.tolist, expected), strict=True)
    )
    assert set(map(tuple, got.tolist())) <= set(zip(*map(np.ndarray.tolist, known), strict=True))


@given(seeds, st.integers(2, 40))
@settings(max_examples=30, deadline=None)
def test_single_linkage_equals_scipy(seed, n):
    points = np.random.default_rng(seed).standard_normal((n, 3))
    row, col = np.triu_indices(n, 1)
    tree = minimum_spanning_tree(n, row, col, edge_distances(points, row, col))
    got = single_linkage(*tree, np.ones(n, np.int64), np.ones(n))
    expected = scipy_linkage(pdist(points), "single")
    assert got.left.tolist() == expected[:, 0].tolist()
    assert got.right.tolist() == expected[:, 1].tolist()
    np.testing.assert_allclose(got.distance, expected[:, 2], rtol=1e-12)
    assert got.size.tolist() == expected[:, 3].tolist()


def test_equal_lengths_are_told_apart_by_their_ends(complete_graph):
    row, col = np.triu_indices(5, 1)
    got = minimum_spanning_tree(5, row, col, np.ones(10))
    assert (got[0].tolist(), got[1].tolist()) == ([0, 0, 0, 0], [1, 2, 3, 4])


@given(seeds, st.integers(2, 60), st.integers(1, 80), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_condensed_tree_keeps_every_image_and_is_finite(seed, n, size, prominence):
    linkage = random_linkage(seed, n)
    tree = condense(linkage, size, prominence)
    leaves, clusters = slice(0, n), slice(n, None)
    assert np.isfinite(tree.lambda_val).all()
    assert (tree.lambda_val > 0).all()
    assert tree.child[leaves].tolist() == list(range(n))
    assert tree.child_size[leaves].sum() == linkage.n_images
    assert (tree.child_size[clusters] >= size).all()
    births, owner = tree.births(), tree.parent - n
    assert (tree.lambda_val >= births[owner] * (1 - 1e-12)).all()
    inside = np.bincount(owner, tree.child_size, minlength=tree.n_nodes)
    assert inside[tree.child[clusters] - n].tolist() == tree.child_size[clusters].tolist()
    kept = int((prominences(linkage, size) >= prominence).sum())
    assert tree.n_nodes == 2 * kept + 1
    assert len(select_leaves(tree)) == kept + 1


def best_total(tree, node: int) -> float:
    """Largest sum of stabilities of clusters at or below `node`, none inside another."""
    children = np.flatnonzero(tree.node_parents() == node)
    own = tree.stabilities()[node] if node else -np.inf
    return max(own, sum(best_total(tree, int(c)) for c in children)) if len(children) else own


@given(seeds, st.integers(10, 60))
@settings(max_examples=30, deadline=None)
def test_excess_of_mass_is_the_best_choice_of_clusters(seed, n):
    tree = condense(random_linkage(seed, n), 25)
    chosen = select_excess_of_mass(tree)
    if tree.n_nodes == 1:
        assert chosen == [0]
    else:
        np.testing.assert_allclose(tree.stabilities()[chosen].sum(), best_total(tree, 0))


def test_labels_are_numbered_by_images_then_by_centroid():
    linkage = Linkage(
        np.array([0, 2, 4, 6], np.int32),
        np.array([1, 3, 5, 7], np.int32),
        np.array([1.0, 1.0, 9.0, 9.5]),
        np.array([20, 20, 40, 90]),
        np.array([10, 10, 10, 10, 50]),
        np.full(5, 0.5),
    )
    linkage = Linkage(
        np.array([0, 2, 5, 4], np.int32),
        np.array([1, 3, 6, 7], np.int32),
        linkage.distance,
        linkage.size,
        linkage.leaf_size,
        linkage.leaf_distance,
    )
    tree = condense(linkage, 15)
    assert len(select_leaves(tree)) == 3
    got = label_leaves(tree, select_leaves(tree), np.array([3, 4, 0, 1, 2]))
    assert got.label.tolist() == [2, 2, 1, 1, 0]
    assert got.membership.min() >= 0
    assert got.membership.max() == 1
