"""The partition of largest modularity, against every partition and against what must hold."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse import csgraph

from tests.tree.slow import graph_of
from workflow.tree.flows.communities import find_communities, improved_communities, modularity


def as_graph(matrix):
    row, col = np.triu_indices(len(matrix), 1)
    weight = matrix[row, col]
    used = weight > 0
    return graph_of(len(matrix), row[used], col[used], weight[used])


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
    label = find_communities(as_graph(matrix), position, resolution=resolution)
    assert quality(matrix, label, resolution) >= best - 0.01 * abs(best) - 1e-12
    assert modularity(as_graph(matrix), label, resolution) == pytest.approx(
        quality(matrix, label, resolution)
    )


def test_find_communities__finds_cliques_on_a_ring():
    matrix = np.kron(np.eye(12, dtype=int), 5 * (1 - np.eye(6, dtype=int)))
    for clique in range(12):
        a, b = 6 * clique, (6 * clique + 9) % 72
        matrix[a, b] = matrix[b, a] = 1
    label = find_communities(as_graph(matrix), np.random.default_rng(0).normal(size=(72, 3)))
    assert sorted(canonical(label)) == canonical(np.arange(72) // 6)


def test_find_communities__are_connected_and_no_single_move_gains():
    rng = np.random.default_rng(3)
    matrix = random_graph(rng, 120, share=0.06)
    label = find_communities(as_graph(matrix), rng.normal(size=(120, 2)))
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
    label = find_communities(as_graph(matrix), position)
    shuffled = find_communities(as_graph(matrix[np.ix_(order, order)]), position[order])
    assert sorted(canonical(label)) == sorted(
        sorted(order[members].tolist()) for members in canonical(shuffled)
    )


def test_improved_communities__do_not_lose_modularity_and_keep_what_is_best():
    rng = np.random.default_rng(7)
    matrix = random_graph(rng, 120, share=0.06)
    graph, position = as_graph(matrix), rng.normal(size=(120, 2))
    best = find_communities(graph, position)
    again = improved_communities(graph, best)
    assert quality(matrix, again) >= quality(matrix, best) - 1e-12
    start = rng.integers(0, 12, 120)
    assert quality(matrix, improved_communities(graph, start)) > quality(matrix, start)


def test_find_communities__without_edges_every_node_is_alone():
    graph = as_graph(np.zeros((3, 3), int))
    assert find_communities(graph, np.zeros((3, 1))).tolist() == [0, 1, 2]
    assert improved_communities(graph, np.zeros(3, int)).tolist() == [0, 1, 2]
