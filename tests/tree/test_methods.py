"""The list of methods: each is whole, and the settings and the errors name the same ones."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from workflow.errors import ConfigError
from workflow.graph import Graph
from workflow.steps.tree import TreeSettings
from workflow.tree import METHODS, ClusterTree, build_tree, cut, method_names, method_of


def test_methods__are_the_words_of_the_settings():
    assert get_args(TreeSettings.model_fields["method"].annotation) == method_names()
    assert method_names() == ("auto", "contrast", "density", "hdbscan", "modularity")


@pytest.mark.parametrize("name", METHODS)
def test_methods__say_what_they_are(name):
    method = method_of(name)
    assert method.name == name
    assert method.title
    assert method.noise
    assert method.joins_by in {"flow", "length"}
    assert method.reads in {"flows", "edges", "positions"}


def test_method_of__an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"one of auto, contrast, .*, modularity; got 'ward'"):
        method_of("ward")


@pytest.mark.parametrize("name", METHODS)
def test_methods__build_trees_that_bear_their_name(name, blobs):
    cells, _ = blobs
    tree = build_tree(cells.centroids, cells.population, cells.graph, dimension=8.0, method=name)
    assert tree.method == name
    assert tree.reason == "it was asked for"
    assert tree.n_clusters_by_method[name] == tree.n_clusters
    assert tree.has_threshold == (tree.plateau is not None) == (name == "contrast")
    assert (len(tree.n_clusters_by_threshold) > 0) == (name != "hdbscan")


@pytest.mark.parametrize("name", METHODS)
def test_structure__is_what_the_automatic_test_says_whatever_method_was_asked_for(
    name, blobs, structureless, dimensions
):
    """Also after a cut: a partition that was asked for is no evidence."""
    of_sets = {"normal": (structureless["normal"], dimensions["normal"]), "blobs": (blobs[0], 8.0)}
    for which, (cells, dimension) in of_sets.items():
        data = {"graph": cells.graph, "dimension": dimension, "mean_distance": cells.mean_distance}
        auto = build_tree(cells.centroids, cells.population, **data)
        tree = build_tree(cells.centroids, cells.population, method=name, **data)
        assert not auto.is_requested
        assert auto.structure == ("none" if which == "normal" else "clusters")
        assert (tree.structure, tree.n_clusters_tested) == (auto.structure, auto.n_clusters)
        assert tree.is_requested == (not np.array_equal(tree.label, auto.label))
        other = cut(tree, n_clusters=3)
        assert (other.structure, other.n_clusters_tested) == (auto.structure, auto.n_clusters)
        assert other.is_requested
        again = ClusterTree.from_arrays(other.to_arrays(), other.attrs())
        assert (again.is_requested, again.n_clusters_tested) == (True, auto.n_clusters)


def test_noise_graph__follows_flows_or_the_spacing_of_images():
    points, population = np.array([[0.0], [1.0], [3.0]]), np.array([4, 9, 2])
    counts = np.array([[0, 5, 1], [5, 0, 2], [1, 2, 0]])
    row, col = np.nonzero(counts)
    graph = Graph(np.array([0, 2, 4, 6]), col, counts[row, col])
    flow = build_tree(points, population, graph, dimension=1.5, method="modularity")
    assert flow.noise_graph(graph, points, 1.5) is graph
    length = build_tree(points, population, graph, dimension=1.5, method="density")
    got = length.noise_graph(graph, points, 1.5)
    spacing = squareform(pdist(points)) * np.outer(population, population) ** (-1 / 3)
    np.testing.assert_allclose(got.weights, 1 / spacing[row, col])
    assert got.indices is graph.indices
