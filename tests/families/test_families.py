"""Families on clouds with known sources, on clouds without any, and on bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from tests.families.conftest import KINDS, neighbors_of, reader, sources, structureless
from workflow.families import Modularity, find_families, method_of, neighbor_graph
from workflow.families.ambient import ambient_dimension, touching_dimension
from workflow.families.methods import MapEquation
from workflow.families.smooth import against_smooth, benjamini_hochberg


def families_of(rows, **how):
    """Return the families of rows."""
    return find_families(*neighbors_of(rows), reader(rows), **how)


def test_neighbor_graph__weights_are_those_of_a_plain_loop():
    rows = np.random.default_rng(0).standard_normal((60, 3))
    index, distance = neighbors_of(rows)
    dense = np.zeros((60, 60))
    scale = distance[:, 6].astype(float)
    for i in range(60):
        for j, d in zip(index[i], distance[i].astype(float), strict=True):
            dense[i, j] += np.exp(-(d**2) / (scale[i] * scale[j])) / 2
    graph = neighbor_graph(index, distance)
    unit = float(1 << 20)
    np.testing.assert_allclose(graph.to_sparse().toarray() / unit, dense + dense.T, atol=2 / unit)
    assert (graph.to_sparse() != graph.to_sparse().T).nnz == 0
    assert np.array_equal(graph.weights, np.rint(graph.weights))


@pytest.mark.parametrize("seed", range(3))
def test_find_families__finds_sources_and_leaves_lone_images_alone(seed):
    rows, source = sources(seed=seed)
    found = families_of(rows)
    real, member = source >= 0, found.family >= 0
    assert found.state == "found"
    assert member[real].mean() >= 0.9
    assert member[~real].mean() <= 0.05
    both = real & member
    assert adjusted_rand_score(source[both], found.family[both]) >= 0.95
    assert 38 <= found.n_families <= 44


def test_find_families__what_it_says_of_each_family():
    rows, _ = sources()
    index, distance = neighbors_of(rows)
    found = find_families(index, distance, reader(rows))
    assert np.array_equal(np.bincount(found.family[found.family >= 0]), found.size)
    assert (np.diff(found.size) <= 0).all()
    assert ((found.conductance < found.expected) & (found.p < 0.05)).all()
    assert (found.strength[found.family < 0] == 0).all()
    assert (found.strength <= 1).all()
    weights = neighbor_graph(index, distance).to_sparse().toarray()
    for number, exemplars in enumerate(found.exemplars):
        members = np.flatnonzero(found.family == number)
        assert set(exemplars[exemplars >= 0]) <= set(members)
        # Nobody outside a family of isolated sources: all weight inside is that among members.
        inside = weights[np.ix_(members, members)].sum(axis=1)
        if found.conductance[number] == 0 and len(members) == found.size[number]:
            assert inside[members == exemplars[0]][0] == inside.max()


@pytest.mark.parametrize("kind", KINDS)
def test_find_families__none_in_a_smooth_cloud(kind):
    rows = structureless(kind, 4000, 5, 3)
    assert (families_of(rows).family >= 0).mean() <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dimension", [2, 3, 10, 20, 50])
def test_find_families__none_in_a_large_smooth_cloud(kind, dimension):
    rows = structureless(kind, 20_000, dimension, 5)
    assert (families_of(rows).family >= 0).mean() <= 0.01


def test_find_families__none_in_a_thread_as_wide_as_neighbors_are_far():
    """One texture in all brightnesses: distances read the dimension of the noise."""
    rng = np.random.default_rng(2)
    rows = rng.normal(0, 35, (8000, 1)) + rng.normal(0, 20, (8000, 36))
    assert (families_of(rows.astype(np.float32)).family >= 0).mean() <= 0.01


def test_touching_dimension__against_a_plain_loop():
    rows, _ = sources()
    graph = neighbor_graph(*neighbors_of(rows))
    community = MapEquation().find(graph)
    found, loop = touching_dimension(graph, community), {}
    for node in range(graph.n_nodes):
        for other in graph.indices[graph.indptr[node] : graph.indptr[node + 1]]:
            if community[other] != community[node]:
                loop.setdefault(community[node], []).append(community[other])
    assert np.isfinite(found).any()
    for number, dimension in enumerate(found):
        others = np.unique(loop.get(number, []), return_counts=True)[1]
        n = others.sum()
        n_pairs = (others * (others - 1)).sum()
        equally_likely = n * (n - 1) / n_pairs if n_pairs else np.inf
        if n < 400 and not (n >= 100 and equally_likely <= 1.1):
            assert dimension == np.inf
        else:
            assert dimension == pytest.approx(1 + np.log(max(equally_likely / 2, 1)) / np.log(3))


def test_find_families__nothing_depends_on_further_columns_of_neighbors():
    rows, _ = sources(n_sources=10, n_single=300)
    fifteen, twenty = families_of(rows), find_families(*neighbors_of(rows, 20), reader(rows))
    assert np.array_equal(fifteen.family, twenty.family)
    assert np.array_equal(fifteen.p, twenty.p)


def test_find_families__another_method():
    rows, source = sources()
    found = families_of(rows, method=Modularity(10.0))
    both = (source >= 0) & (found.family >= 0)
    assert both.sum() >= 0.8 * (source >= 0).sum()
    assert adjusted_rand_score(source[both], found.family[both]) >= 0.9


def test_method_of__names_what_there_is():
    with pytest.raises(ValueError, match=r"one of map-equation, modularity; got 'louvain'"):
        method_of("louvain", 1.0)


@pytest.mark.parametrize("n", [1, 2, 5, 15])
def test_find_families__too_few_images_are_untested(n):
    found = families_of(np.random.default_rng(0).standard_normal((n, 4)))
    assert found.state == "untested"
    assert found.family.tolist() == [-1] * n


@pytest.mark.parametrize("n", [200, 3000])
def test_find_families__equal_images_are_no_error(n):
    assert families_of(np.zeros((n, 3), np.float32)).state == "untested"


def test_find_families__exact_copies_are_a_family():
    cloud = np.random.default_rng(0).standard_normal((1500, 3)).astype(np.float32)
    rows = np.concatenate([cloud, np.repeat(cloud[:1], 800, axis=0)])
    found = families_of(rows)
    copies = found.family[1500:]
    assert (copies == copies[0]).mean() >= 0.9
    assert copies[0] >= 0
    assert (found.family[1:1500] >= 0).mean() <= 0.02


def test_find_families__refuses_too_few_neighbors():
    rows, _ = sources(n_sources=3, n_single=50)
    with pytest.raises(ValueError, match=r"need 15 neighbours of each image; got 10 of 140 images"):
        find_families(*neighbors_of(rows, 10), reader(rows))
    index, distance = neighbors_of(rows)
    with pytest.raises(ValueError, match=r"must both be of shape"):
        find_families(index, distance[:, :9], reader(rows))
    with pytest.raises(ValueError, match=r"rows of the 140 images or -1"):
        find_families(index + 100, distance, reader(rows))


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_ambient_dimension__of_a_cloud_with_thickness(dimension):
    # Eight more components in which the cloud is thin: at a scale beyond, they do not count.
    rng = np.random.default_rng(dimension)
    rows = np.concatenate(
        [rng.random((2000, dimension)), 1e-4 * rng.standard_normal((2000, 8))], axis=1
    )
    assert np.median(ambient_dimension(rows)) == pytest.approx(dimension, rel=0.2)


def test_against_smooth__is_monotone():
    size, dimension = np.full(50, 30), np.full(50, 4.0)
    _, p = against_smooth(np.linspace(0.01, 0.9, 50), size, dimension)
    assert (np.diff(p) >= 0).all()
    expected, _ = against_smooth(np.full(5, 0.2), np.full(5, 30), np.array([1.0, 2, 4, 8, 16]))
    assert (np.diff(expected) > 0).all()


def test_benjamini_hochberg__against_scipy():
    from scipy.stats import false_discovery_control

    rng = np.random.default_rng(0)
    for _ in range(20):
        p = np.concatenate([rng.random(30), rng.random(5) * 1e-3])
        expected = false_discovery_control(p) <= 0.05
        assert np.array_equal(benjamini_hochberg(p, 0.05), expected)
