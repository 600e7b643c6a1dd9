"""The map equation against its definition, all partitions of small graphs, and igraph's Infomap."""

from __future__ import annotations

import numpy as np
import pytest

from tests.families.conftest import neighbors_of, sources
from workflow.families import neighbor_graph
from workflow.families.map_equation import code_length, map_communities
from workflow.graph import Graph


def graph_of(matrix):
    """Return a dense symmetric matrix as a graph."""
    row, col = np.nonzero(matrix)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(matrix)))])
    return Graph(indptr, col.astype(np.int32), matrix[row, col].astype(float))


def definition(matrix, module):
    """Return the two-level code length as the paper writes it: entropies of codebooks and their use."""
    flow, total = matrix.sum(axis=1), matrix.sum()
    exits, length = [], 0.0
    for number in np.unique(module):
        own = module == number
        leaving = matrix[own][:, ~own].sum() / total
        words = np.append(flow[own] / total, leaving)
        words = words[words > 0]
        length -= (words * np.log2(words / words.sum())).sum()
        exits.append(leaving)
    exits = np.array([e for e in exits if e > 0])
    return length - (exits * np.log2(exits / exits.sum())).sum()


def partitions(n):
    """Yield every partition of n nodes as labels."""
    labels = [0] * n

    def extend(i, n_labels):
        if i == n:
            yield np.array(labels)
            return
        for label in range(n_labels + 1):
            labels[i] = label
            yield from extend(i + 1, max(n_labels, label + 1))

    yield from extend(1, 1)


def random_matrix(rng, n):
    """Return a connected random weighted graph."""
    matrix = np.triu(rng.integers(0, 8, (n, n)) * (rng.random((n, n)) < 0.5), 1)
    matrix[np.arange(n - 1), np.arange(1, n)] += 1
    return matrix + matrix.T


def test_code_length__is_the_definition():
    rng = np.random.default_rng(0)
    for n in (3, 8, 30):
        matrix = random_matrix(rng, n)
        module = rng.integers(0, 4, n)
        module = np.unique(module, return_inverse=True)[1]
        assert code_length(graph_of(matrix), module) == pytest.approx(definition(matrix, module))


def test_map_communities__are_the_shortest_of_all_partitions_of_small_graphs():
    rng = np.random.default_rng(1)
    excess = []
    for _ in range(12):
        matrix = random_matrix(rng, 7)
        graph = graph_of(matrix)
        shortest = min(definition(matrix, module) for module in partitions(7))
        excess.append(code_length(graph, map_communities(graph)) / shortest - 1)
    # Local moves may stop short of the best, but not far from it, and seldom.
    assert max(excess) < 0.03
    assert np.count_nonzero(np.array(excess) > 1e-9) <= 3


def test_map_communities__two_cliques_with_a_bridge():
    matrix = np.zeros((10, 10))
    matrix[:5, :5] = matrix[5:, 5:] = 1
    matrix[4, 5] = matrix[5, 4] = 1
    np.fill_diagonal(matrix, 0)
    assert map_communities(graph_of(matrix)).tolist() == [0] * 5 + [1] * 5


def test_map_communities__without_edges_each_node_is_alone():
    assert map_communities(graph_of(np.zeros((3, 3)))).tolist() == [0, 1, 2]
    assert map_communities(graph_of(np.zeros((0, 0)))).tolist() == []


def test_map_communities__the_same_every_time():
    graph = neighbor_graph(*neighbors_of(sources(n_sources=10, n_single=200)[0]))
    first = map_communities(graph)
    assert np.array_equal(first, map_communities(graph))
    assert first[0] == 0
    assert np.array_equal(np.unique(first), np.arange(first.max() + 1))


def test_map_communities__at_most_one_per_cent_longer_than_igraph():
    igraph = pytest.importorskip("igraph")
    for seed in range(3):
        rows = sources(width=0.2, seed=seed)[0]
        graph = neighbor_graph(*neighbors_of(rows))
        once = graph.rows() < graph.indices
        edges = np.stack([graph.rows()[once], graph.indices[once]], axis=1)
        other = igraph.Graph(n=graph.n_nodes, edges=edges.tolist())
        found = other.community_infomap(edge_weights=graph.weights[once].tolist(), trials=5)
        ours = code_length(graph, map_communities(graph))
        theirs = code_length(graph, np.array(found.membership))
        assert ours <= 1.01 * theirs
