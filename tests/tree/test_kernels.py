"""The compiled loops against slow ones in plain Python and NumPy, join by join."""

from __future__ import annotations

import itertools
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.tree.slow import graph_of, pairs, problem, random_edges, slow_merges, slow_rule
from workflow.errors import ConfigError
from workflow.graph import Graph
from workflow.tree import DEFAULT_RATIO
from workflow.tree.contrast.method import THRESHOLDS
from workflow.tree.contrast.rule import ContrastRule
from workflow.tree.flows.dendrogram import flow_merges, nested_merges
from workflow.tree.flows.graph import make_flow_graph
from workflow.tree.nodes import make_nodes

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 60), st.floats(0.05, 1.5), st.sampled_from([1, 2, 1_000]))
@settings(max_examples=80, deadline=None)
def test_merges_are_those_of_the_chain_with_dicts(seed, n, density, largest):
    row, col, weight = random_edges(seed, n, density, largest)
    got = flow_merges(graph_of(n, row, col, weight))
    expected = slow_merges(n, row, col, weight)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@given(
    seeds,
    st.integers(2, 60),
    st.floats(0.2, 2),
    st.sampled_from([3, 200]),
    st.sampled_from([1, 20, 60, 400]),
    st.sampled_from([0.3, 0.8, 1.0, 20.0]),
)
@settings(max_examples=80, deadline=None)
def test_joins_are_those_of_the_rule_with_sets(seed, n, density, largest, min_images, rho):
    nodes, flows, merges = problem(seed, n, density, largest)
    slow = slow_rule(nodes, flows, min_images)
    clusters = slow.run_all(pairs(merges), rho)
    expected = np.empty(len(flows.nodes), int)
    for number, cluster in enumerate(
        sorted(clusters, key=lambda p: (-slow.images(p), p["members"].min()))
    ):
        expected[cluster["members"]] = number
    rule = ContrastRule(nodes, flows, merges, min_images)
    got = rule.run(rho, join_on=True)
    np.testing.assert_array_equal(got.label, expected)
    assert got.n_clusters == len(clusters)
    np.testing.assert_array_equal(
        ContrastRule(nodes, flows, merges, min_images).run(rho).label,
        expected,
    )
    slow.join_on(clusters)
    assert [(a, b) for a, b, _ in slow.joins] == [tuple(e) for e in got.ends.tolist()]
    np.testing.assert_allclose(got.ratio, [r for *_, r in slow.joins], rtol=1e-10)
    short = rule.run(rho)
    assert len(short.ends) == len(flows.nodes) - len(clusters)
    np.testing.assert_array_equal(short.ends, got.ends[: len(short.ends)])


@given(seeds, st.integers(4, 50), st.floats(0.3, 2), st.sampled_from([1, 40]))
@settings(max_examples=40, deadline=None)
def test_borders_are_tests_between_clusters_joined_inside(seed, n, density, min_images):
    nodes, flows, merges = problem(seed, n, density, 100)
    n_dense = len(flows.nodes)
    label = np.random.default_rng(seed).integers(-1, 3, n_dense).astype(np.int32)
    got = ContrastRule(nodes, flows, merges, min_images).borders(label)
    slow = slow_rule(nodes, flows, min_images)
    found = {}
    for cluster in np.unique(label[label >= 0]).tolist():
        members = np.flatnonzero(label == cluster).tolist()
        part_of, groups = {}, {}
        for m in members:
            groups[m] = [{"members": np.array([m]), "held": 0.0, "flow": 0.0, "tree": m}]
            part_of[m] = m
        slow.joins = []
        for node, (a, b) in enumerate(pairs(merges), n_dense):
            a, b = part_of.get(a), part_of.get(b)  # noqa: PLW2901
            if a is not None and b is not None:
                groups[node] = slow.unite(groups.pop(a), groups.pop(b), -1.0)
                a = node  # noqa: PLW2901
            part_of[node] = b if a is None else a
        parts = [p for group in groups.values() for p in group]
        found[cluster] = {
            "members": np.array(members),
            "held": sum(p["held"] for p in parts),
            "flow": sum(p["flow"] for p in parts),
        }
    expected = [
        (a, b, slow.test(found[a], found[b])[0])
        for a, b in itertools.combinations(sorted(found), 2)
        if slow.flow(found[a], found[b])
    ]
    assert [(a, b) for a, b, *_ in expected] == [tuple(p) for p in got.pair.tolist()]
    np.testing.assert_allclose(got.ratio, [e[2] for e in expected], rtol=1e-10)


def test_borders_of_clusters_that_the_rule_found_are_thin(blobs):
    cells, _ = blobs
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    flows = make_flow_graph(nodes)
    rule = ContrastRule(nodes, flows, flow_merges(flows.graph), 150)
    label = rule.run(DEFAULT_RATIO).label
    images = np.bincount(label, nodes.population[flows.nodes])
    assert (np.diff(images) <= 0).all()
    borders = rule.borders(label)
    assert len(borders.pair) > 0
    assert (borders.ratio < DEFAULT_RATIO).all()
    halves = np.where(label == 0, np.arange(len(label)) % 2 + label.max() + 1, label)
    mixed = rule.borders(halves.astype(np.int32))
    inside = (mixed.pair == [label.max() + 1, label.max() + 2]).all(axis=1)
    assert mixed.ratio[inside].item() > DEFAULT_RATIO


def test_fewer_clusters_at_a_lower_threshold(structureless):
    cells = structureless["normal"]
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    flows = make_flow_graph(nodes)
    rule = ContrastRule(nodes, flows, flow_merges(flows.graph), 30)
    found = [rule.run(rho).n_clusters for rho in (0.0, *THRESHOLDS, 100.0)]
    assert found[0] == 1
    assert found[-1] > 10


@given(seeds, st.integers(2, 60), st.floats(0.1, 2), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_nested_merges_join_communities_last(seed, n, density, n_communities):
    row, col, weight = random_edges(seed, n, density, 50)
    community = np.random.default_rng(seed).integers(0, n_communities, n)
    got = nested_merges(graph_of(n, row, col, weight), community)
    inside = community[row] == community[col]
    # The merges of the edges within communities, then their parts, then the communities.
    first = int((np.diff(got.distance, prepend=0) >= 0).sum())
    assert first == len(got.distance)
    owner = {i: {int(community[i])} for i in range(n)}
    is_mixed = []
    for node, (a, b) in enumerate(pairs(got), n):
        owner[node] = owner[a] | owner[b]
        is_mixed.append(len(owner[node]) > 1)
    n_inside = (
        n
        - sparse.csgraph.connected_components(
            graph_of(n, row[inside], col[inside], weight[inside]).to_sparse(), directed=False
        )[0]
    )
    names, number = np.unique(community, return_inverse=True)
    assert not any(is_mixed[: n - len(names)])
    assert all(is_mixed[n - len(names) :])
    assert n_inside <= n - len(names)
    n_components = sparse.csgraph.connected_components(
        sparse.coo_array((weight, (number[row], number[col])), shape=(len(names),) * 2),
        directed=False,
    )[0]
    assert len(got.left) == n - n_components


@given(seeds, st.integers(1, 30), st.integers(0, 120), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_edges_of_nodes_are_sums_over_their_centroids(seed, n, n_entries, n_places):
    rng = np.random.default_rng(seed)
    ends, (two, more) = rng.integers(0, n, (2, n_entries)), rng.integers(0, 3, (2, n_entries))
    # Entries of both directions, in any order and more than once.
    row, col = np.concatenate([ends, ends[::-1]], axis=1)
    by_row = np.lexsort((rng.random(len(row)), row))
    indptr, indices = np.searchsorted(row[by_row], np.arange(n + 1)), col[by_row]
    weights = [np.tile(w, 2)[by_row] for w in (two, two + more)]
    place = rng.integers(0, n_places, n)
    graph = Graph(indptr, indices, weights[1], weights[0])
    got = make_nodes(place[:, None].astype(float), np.ones(n, np.int64), graph)
    np.testing.assert_array_equal(got.position[got.node, 0], place)
    dense = []
    for weight in weights:
        own, other = np.repeat(got.node, np.diff(indptr)), got.node[indices]
        shape = (got.n_nodes, got.n_nodes)
        dense.append(np.triu(sparse.coo_array((weight, (own, other)), shape=shape).toarray(), 1))
    expected = np.nonzero(dense[1])
    for a, b in zip(
        (got.row, got.col, got.weights_two, got.weights),
        (*expected, *(d[expected] for d in dense)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


@given(seeds, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_graphs_that_are_not_symmetric_are_refused(seed, n):
    rng = np.random.default_rng(seed)
    matrix = rng.integers(0, 2, (n, n)) * rng.integers(0, 2)
    csr = sparse.csr_array(matrix)
    structure = (csr.indptr.astype(np.int64), csr.indices.astype(np.int64))
    none, is_symmetric = np.zeros_like(csr.data), bool((matrix == matrix.T).all())
    points, images = np.arange(n)[:, None], np.ones(n, np.int64)
    for weights in ((csr.data, csr.data), (csr.data, none), (none, csr.data)):
        with nullcontext() if is_symmetric else pytest.raises(ConfigError, match="symmetric"):
            make_nodes(points, images, Graph(*structure, *weights))


@given(seeds, st.integers(1, 30), st.floats(0.1, 2))
@settings(max_examples=30, deadline=None)
def test_graph_of_the_flows_equals_scipy(seed, n, density):
    row, col, weight = random_edges(seed, n, density, 9)
    expected = graph_of(n, row, col, weight)
    nodes = make_nodes(np.arange(n)[:, None], np.ones(n, np.int64), expected)
    got = make_flow_graph(nodes, set_aside=False).graph
    for a, b in zip(got[:3], expected[:3], strict=True):
        np.testing.assert_array_equal(a, b)
