"""The partition of largest modularity, against every partition and against what must hold."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph

from workflow.tree.communities import Graph, find_communities, modularity


def edges_of(matrix):
    row, col = np.triu_indices(len(matrix), 1)
    weight = matrix[row, col]
    used = weight > 0
    return row[used], col[used], weight[used]


def random_graph(rng, n, share=0.5, highest=9):
    matrix = np.triu(rng.integers(1, highest, (n, n)) * (rng.random((n, n)) < share), 1)
    return matrix + matrix.T


def quality(matrix, label, resolution=1.0):
    total = matrix.sum()
    same = label[:, None] == label
    chance = np.outer(matrix.sum(0), matrix.sum(0)) / total
    return ((matrix - resolution * chance) * same).sum() / total


def partitions(n, used=0, head=()):
    if len(head) == n:
        yield np.array(head)
        return
    for label in range(used + 1):
        yield from partitions(n, max(used, label + 1), (*head, label))


def canonical(label):
    return [np.flatnonzero(label == k).tolist() for k in np.unique(label)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("resolution", [0.7, 1.0, 2.0])
def test_find_communities__reaches_the_best_of_all_partitions(seed, resolution):
    rng = np.random.default_rng(seed)
    matrix = random_graph(rng, 7)
    position = rng.normal(size=(7, 2))
    best = max(quality(matrix, label, resolution) for label in partitions(7))
    label = find_communities(*edges_of(matrix), position, resolution=resolution)
    assert quality(matrix, label, resolution) >= best - 0.01 * abs(best) - 1e-12
    graph = Graph.of(sparse.csr_array(matrix), matrix.sum(0).astype(float))
    assert modularity(graph, label, resolution) == pytest.approx(quality(matrix, label, resolution))


def test_find_communities__finds_cliques_on_a_ring():
    matrix = np.kron(np.eye(12, dtype=int), 5 * (1 - np.eye(6, dtype=int)))
    for clique in range(12):
        a, b = 6 * clique, (6 * clique + 9) % 72
        matrix[a, b] = matrix[b, a] = 1
    label = find_communities(*edges_of(matrix), np.random.default_rng(0).normal(size=(72, 3)))
    assert sorted(canonical(label)) == canonical(np.arange(72) // 6)


def test_find_communities__are_connected_and_no_single_move_gains():
    rng = np.random.default_rng(3)
    matrix = random_graph(rng, 120, share=0.06)
    label = find_communities(*edges_of(matrix), rng.normal(size=(120, 2)))
    reached = quality(matrix, label)
    for members in canonical(label):
        inside = sparse.csr_array(matrix[np.ix_(members, members)])
        assert csgraph.connected_components(inside)[0] == 1
    for node in range(120):
        for other in range(label.max() + 2):
            moved = label.copy()
            moved[node] = other
            assert quality(matrix, moved) <= reached + 1e-9


def test_find_communities__do_not_depend_on_the_numbers_of_the_nodes():
    rng = np.random.default_rng(5)
    matrix = random_graph(rng, 200, share=0.05)
    position, order = rng.normal(size=(200, 2)), rng.permutation(200)
    label = find_communities(*edges_of(matrix), position)
    shuffled = find_communities(*edges_of(matrix[np.ix_(order, order)]), position[order])
    assert sorted(canonical(label)) == sorted(
        sorted(order[members].tolist()) for members in canonical(shuffled)
    )


def test_graphs_of_pieces_and_of_another_order_equal_products_of_matrices():
    rng = np.random.default_rng(7)
    matrix = random_graph(rng, 60, share=0.2)
    graph = Graph.of(sparse.csr_array(matrix), matrix.sum(0).astype(float))
    order, piece = rng.permutation(60), np.append(np.arange(9), rng.integers(0, 9, 51))
    belongs = np.eye(9)[piece]
    threes = belongs @ np.kron(np.eye(3), np.ones((3, 1)))
    for got, expected in (
        (graph.permuted(order), matrix[np.ix_(order, order)]),
        (graph.contracted(piece), belongs.T @ matrix @ belongs),
        (graph.contracted(piece).contracted(np.arange(9) // 3), threes.T @ matrix @ threes),
    ):
        csr = sparse.csr_array(expected.astype(float))
        for a, b in zip(got[:3], (csr.indptr, csr.indices, csr.data), strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(got.strength, expected.sum(axis=0))


def test_find_communities__without_edges_every_node_is_alone():
    none = np.empty(0, np.int64)
    assert find_communities(none, none, none, np.zeros((3, 1))).tolist() == [0, 1, 2]
