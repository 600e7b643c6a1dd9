"""The compiled loops against slow ones in plain Python and NumPy, join by join."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tests.tree.slow import pairs, problem, random_edges, slow_merges, slow_rule
from workflow.numerics import weighted_median
from workflow.tree._edges import is_symmetric, symmetric_csr, upper_edges
from workflow.tree._kernels import leaf_places, meeting_nodes, parents
from workflow.tree._pieces import core_level, crossing_of, join_untested, single_pieces
from workflow.tree.contrast import Contrast
from workflow.tree.contrast_tree import LADDER, cluster_borders
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.flow_dendrogram import flow_merges
from workflow.tree.flow_graph import keep_nodes
from workflow.tree.nodes import make_nodes

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 60), st.floats(0.05, 1.5), st.sampled_from([1, 2, 1_000]))
@settings(max_examples=80, deadline=None)
def test_merges_are_those_of_the_chain_with_dicts(seed, n, density, largest):
    row, col, weight = random_edges(seed, n, density, largest)
    got, expected = flow_merges(n, row, col, weight), slow_merges(n, row, col, weight)
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
    nodes, kept, merges = problem(seed, n, density, largest)
    slow = slow_rule(nodes, kept, min_images)
    pieces = slow.run_all(pairs(merges), rho)
    expected = np.empty(len(kept.nodes), int)
    for number, piece in enumerate(
        sorted(pieces, key=lambda p: (-slow.images(p), p["members"].min()))
    ):
        expected[piece["members"]] = number
    rule = Contrast(kept.flows, nodes.position[kept.nodes], merges, min_images)
    got = rule.run(rho, join_on=True)
    np.testing.assert_array_equal(got.label, expected)
    assert got.n_clusters == len(pieces)
    np.testing.assert_array_equal(
        Contrast(kept.flows, nodes.position[kept.nodes], merges, min_images).run(rho).label,
        expected,
    )
    slow.join_on(pieces)
    assert [(a, b) for a, b, _ in slow.joins] == [tuple(e) for e in got.ends.tolist()]
    np.testing.assert_allclose(got.ratio, [r for *_, r in slow.joins], rtol=1e-10)
    short = rule.run(rho)
    assert len(short.ends) == len(kept.nodes) - len(pieces)
    np.testing.assert_array_equal(short.ends, got.ends[: len(short.ends)])


@given(
    seeds,
    st.integers(2, 80),
    st.floats(0.2, 2),
    st.sampled_from([3, 200]),
    st.sampled_from([1, 20, 60, 400]),
    st.lists(st.floats(0.05, 3.0), min_size=1, max_size=6),
)
@settings(max_examples=80, deadline=None)
def test_pieces_counted_at_several_thresholds_are_those_of_each(
    seed, n, density, largest, min_images, thresholds
):
    nodes, kept, merges = problem(seed, n, density, largest)
    rule = Contrast(kept.flows, nodes.position[kept.nodes], merges, min_images)
    expected = [rule.run(rho).n_clusters for rho in thresholds]
    assert rule.count(np.array(thresholds)).tolist() == expected


@given(seeds, st.integers(4, 50), st.floats(0.3, 2), st.sampled_from([1, 40]))
@settings(max_examples=40, deadline=None)
def test_borders_are_tests_between_clusters_joined_inside(seed, n, density, min_images):
    nodes, kept, merges = problem(seed, n, density, 100)
    n_kept = len(kept.nodes)
    label = np.random.default_rng(seed).integers(-1, 3, n_kept).astype(np.int32)
    got = cluster_borders(kept, nodes.position, merges, label, min_images)
    slow = slow_rule(nodes, kept, min_images)
    found = {}
    for cluster in np.unique(label[label >= 0]).tolist():
        members = np.flatnonzero(label == cluster).tolist()
        piece_of, groups = {}, {}
        for m in members:
            groups[m] = [{"members": np.array([m]), "held": 0.0, "flow": 0.0, "tree": m}]
            piece_of[m] = m
        slow.joins = []
        for node, (a, b) in enumerate(pairs(merges), n_kept):
            a, b = piece_of.get(a), piece_of.get(b)  # noqa: PLW2901
            if a is not None and b is not None:
                groups[node] = slow.unite(groups.pop(a), groups.pop(b), -1.0)
                a = node  # noqa: PLW2901
            piece_of[node] = b if a is None else a
        parts = [p for group in groups.values() for p in group]
        found[cluster] = {
            "members": np.array(members),
            "held": sum(p["held"] for p in parts),
            "flow": sum(p["flow"] for p in parts),
        }
    expected = [
        (a, b, *slow.test(found[a], found[b])[:2])
        for a, b in itertools.combinations(sorted(found), 2)
        if slow.flow(found[a], found[b])
    ]
    assert [(a, b) for a, b, *_ in expected] == [tuple(p) for p in got.pair.tolist()]
    np.testing.assert_allclose(got.ratio, [e[2] for e in expected], rtol=1e-10)
    np.testing.assert_array_equal(got.flow, [e[3] for e in expected])


def test_borders_of_clusters_that_the_rule_found_are_thin(blobs):
    cells, _ = blobs
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    kept = keep_nodes(nodes)
    merges = flow_merges(len(kept.nodes), kept.row, kept.col, kept.weight)
    label = Contrast(kept.flows, nodes.position[kept.nodes], merges, 150).run(DEFAULT_RATIO).label
    images = np.bincount(label, kept.flows.population)
    assert (np.diff(images) <= 0).all()
    borders = cluster_borders(kept, nodes.position, merges, label, 150)
    assert len(borders.pair) > 0
    assert (borders.ratio < DEFAULT_RATIO).all()
    halves = np.where(label == 0, np.arange(len(label)) % 2 + label.max() + 1, label)
    mixed = cluster_borders(kept, nodes.position, merges, halves.astype(np.int32), 150)
    inside = (mixed.pair == [label.max() + 1, label.max() + 2]).all(axis=1)
    assert mixed.ratio[inside].item() > DEFAULT_RATIO


def test_fewer_clusters_at_a_lower_threshold(structureless):
    cells = structureless["normal"]
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    kept = keep_nodes(nodes)
    merges = flow_merges(len(kept.nodes), kept.row, kept.col, kept.weight)
    rule = Contrast(kept.flows, nodes.position[kept.nodes], merges, 30)
    found = [rule.run(rho).n_clusters for rho in (0.0, *LADDER, 100.0)]
    assert found[0] == 1
    assert found[-1] > 10


@given(seeds, st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_core_is_the_weighted_median(seed, n):
    nodes, kept, merges = problem(seed, max(n, 2), 1.0, 5)
    flows = kept.flows._replace(level=np.round(kept.flows.level))
    graph = Contrast(flows, nodes.position[kept.nodes], merges, 1).graph
    pieces, joins = single_pieces(graph)
    piece = 0
    for other in range(1, min(n, len(kept.nodes))):
        piece = join_untested(pieces, joins, piece, other)
    chosen = pieces.owner == piece
    expected = weighted_median(graph.level[chosen], graph.population[chosen])
    assert core_level(graph, pieces, piece) == core_level(graph, pieces, piece) == expected


def test_crossing_follows_the_formula(overcluster):
    rng = np.random.default_rng(4)
    images = rng.standard_normal((6_000, 4)) * 0.7
    images[:3_000, 0] += 4.0
    cells = overcluster(images, 200)
    nodes = make_nodes(cells.centroids, cells.population, cells.graph)
    kept = keep_nodes(nodes)
    merges = flow_merges(len(kept.nodes), kept.row, kept.col, kept.weight)
    graph = Contrast(kept.flows, nodes.position[kept.nodes], merges, 1).graph
    dense = sparse.csr_array((graph.weight, graph.indices, graph.indptr)).toarray()
    middle = graph.position[:, 0]
    a, b = np.flatnonzero(middle > 2), np.flatnonzero((middle <= 2) & (middle > -1))
    pieces, joins = single_pieces(graph)
    lead = []
    for members in (a, b):
        piece = int(members[0])
        for other in members[1:].tolist():
            piece = join_untested(pieces, joins, piece, other)
        lead.append(piece)
    core = min(weighted_median(graph.level[m], graph.population[m]) for m in (a, b))
    chance, error, border = 1.0, 0.0, 0.0
    for own, far in ((a, b), (b, a)):
        out, stay = dense[np.ix_(own, far)].sum(axis=1), dense[np.ix_(own, own)].sum(axis=1)
        both = np.where(out + stay > 1, out * (out - 1) / np.maximum(out + stay - 1, 1), 0)
        mean = both.sum() / out.sum()
        chance *= mean
        spread = ((both - mean * out) ** 2 + (2.0 * mean * out) ** 2).sum() / out.sum() ** 2
        error += (spread + 0.02 / out.sum()) / mean**2
        border += (out * graph.level[own]).sum() / out.sum() / 2
    drop = np.exp(0.5 * min(0.0, border - core))
    got = crossing_of(graph, pieces, *lead)
    assert got[0] == dense[np.ix_(a, b)].sum() > 0
    np.testing.assert_allclose(got[1], np.sqrt(chance) * drop, rtol=1e-12)
    np.testing.assert_allclose(got[2], np.sqrt(chance) * drop / 2 * np.sqrt(error), rtol=1e-12)
    assert crossing_of(graph, pieces, *lead[::-1]) == got
    assert not pieces.out.any()


@given(seeds, st.integers(2, 40), st.floats(0.1, 2))
@settings(max_examples=40, deadline=None)
def test_leaves_of_every_node_are_together_and_nodes_meet_above_both(seed, n, density):
    row, col, weight = random_edges(seed, n, density, 5)
    merges = flow_merges(n, row, col, weight)
    place = leaf_places(n, merges.left, merges.right)
    assert sorted(place.tolist()) == list(range(n))
    members = {i: {i} for i in range(n)}
    for node, (a, b) in enumerate(pairs(merges), n):
        members[node] = members[a] | members[b]
        own = place[list(members[node])]
        assert own.max() - own.min() == len(own) - 1
    a, b = np.triu_indices(n, 1)
    expected = [
        min((node for node, m in members.items() if {i, j} <= m), default=-1)
        for i, j in zip(a.tolist(), b.tolist(), strict=True)
    ]
    got = meeting_nodes(parents(n, merges.left, merges.right), a, b)
    assert got.tolist() == expected


@given(seeds, st.integers(1, 30), st.integers(0, 120), st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_upper_edges_are_sums_over_the_centroids_of_nodes(seed, n, n_entries, n_nodes):
    rng = np.random.default_rng(seed)
    ends, (two, more) = rng.integers(0, n, (2, n_entries)), rng.integers(0, 3, (2, n_entries))
    # Entries of both directions, in any order and more than once.
    row, col = np.concatenate([ends, ends[::-1]], axis=1)
    by_row = np.lexsort((rng.random(len(row)), row))
    indptr, indices = np.searchsorted(row[by_row], np.arange(n + 1)), col[by_row]
    weights = [np.tile(w, 2)[by_row] for w in (two, two + more)]
    node = rng.integers(0, n_nodes, n).astype(np.int32)
    got = upper_edges(indptr, indices, *weights, node, n_nodes)
    dense = []
    for weight in weights:
        assert is_symmetric(indptr, indices, weight, weights[0])
        own, other = np.repeat(node, np.diff(indptr)), node[indices]
        matrix = sparse.coo_array((weight, (own, other)), shape=(n_nodes, n_nodes)).toarray()
        dense.append(np.triu(matrix, 1))
    expected = np.nonzero(dense[1])
    for a, b in zip(got, (*expected, *(d[expected] for d in dense)), strict=True):
        np.testing.assert_array_equal(a, b)
    matrix = rng.integers(0, 2, (n, n))
    csr = sparse.csr_array(matrix)
    parts = (csr.indptr.astype(np.int64), csr.indices.astype(np.int64), csr.data)
    none, symmetric = np.zeros_like(csr.data), bool((matrix == matrix.T).all())
    assert is_symmetric(*parts, csr.data) == symmetric
    assert is_symmetric(*parts, none) == symmetric
    assert is_symmetric(*parts[:2], none, csr.data) == symmetric


@given(seeds, st.integers(1, 30), st.floats(0.1, 2))
@settings(max_examples=30, deadline=None)
def test_graph_of_both_directions_equals_scipy(seed, n, density):
    row, col, weight = random_edges(seed, n, density, 9)
    dense = sparse.coo_array((weight, (row, col)), shape=(n, n)).toarray()
    expected = sparse.csr_array((dense + dense.T).astype(float))
    for a, b in zip(
        symmetric_csr(n, row, col, weight),
        (expected.indptr, expected.indices, expected.data),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
