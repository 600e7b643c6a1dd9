"""Cutting a tree again, its layers, its way to disk and back, and the estimator."""

from __future__ import annotations

import json

import hdbscan
import numpy as np
import pytest
from sklearn.base import clone

from workflow.errors import ConfigError, StoreError
from workflow.tree import CentroidTree, ClusterTree, build_tree, cut
from workflow.tree.layers import refines


@pytest.fixture(scope="module")
def tree(blobs):
    cells, _ = blobs
    return build_tree(
        cells.centroids,
        cells.population,
        cells.graph,
        dimension=8.0,
        method="density",
        mean_distance=cells.mean_distance,
    )


def test_any_number_of_clusters_can_be_had(tree):
    for n_clusters in (1, 2, 5, 9, 10, 13, 40):
        got = cut(tree, n_clusters=n_clusters)
        assert got.n_clusters == n_clusters == len(np.unique(got.label[got.label >= 0]))
        assert (got.structure, got.is_requested) == (tree.structure, True)
    assert (cut(tree, n_clusters=1).label == 0).all()


def test_the_found_number_gives_the_found_clusters(tree):
    assert np.array_equal(cut(tree, n_clusters=tree.n_clusters).label, tree.label)


def test_impossible_numbers_name_their_neighbours(tree):
    with pytest.raises(ConfigError, match=r"got 401\. Near it are 400"):
        cut(tree, n_clusters=401)
    with pytest.raises(ConfigError, match=r"got 0\. Near it are 1"):
        cut(tree, n_clusters=0)
    sizes = cut(tree, min_cluster_size=600)
    with pytest.raises(ConfigError, match=f"Near it are {sizes.n_clusters}"):
        cut(tree, n_clusters=300, min_cluster_size=600)


def test_equal_splits_come_together(empty_graph):
    points = np.array([[0.0], [1.0], [2.0], [3.0]])
    four = build_tree(
        points,
        np.ones(4, int),
        empty_graph(4),
        dimension=1.0,
        min_cluster_size=1,
        min_log_density_rise=0,
    )
    with pytest.raises(ConfigError, match=r"got 2\. Near it are 1 and 4"):
        cut(four, n_clusters=2)


def test_cut_by_size_equals_a_tree_built_with_that_size(tree, blobs):
    cells, _ = blobs
    for size in (60, 400, 1_500):
        built = build_tree(
            cells.centroids,
            cells.population,
            cells.graph,
            dimension=8.0,
            method="density",
            min_cluster_size=size,
            cluster_selection_method="leaf",
            mean_distance=cells.mean_distance,
        )
        got = cut(tree, min_cluster_size=size, cluster_selection_method="leaf")
        assert np.array_equal(got.label, built.label)
        assert np.array_equal(got.condensed.lambda_val, built.condensed.lambda_val)
    images = np.bincount(got.label[got.label >= 0], got.population[got.label >= 0])
    assert images.min() >= 1_500
    assert (np.diff(images) <= 0).all()


def test_contradicting_choices_are_refused(tree):
    with pytest.raises(ConfigError, match="come alone"):
        cut(tree, layer=0, n_clusters=3)
    with pytest.raises(ConfigError, match="layer must be 0 to"):
        cut(tree, layer=99)
    with pytest.raises(ConfigError, match="'eom'"):
        cut(tree, n_clusters=3, cluster_selection_method="eom")
    with pytest.raises(ConfigError, match="at least 1 image"):
        cut(tree, min_cluster_size=0)


def test_layers_are_nested_and_can_be_cut(tree):
    assert 2 <= len(tree.layers) <= 6
    for index, layer in enumerate(tree.layers):
        assert np.array_equal(cut(tree, layer=index).label, layer)
    for coarse, fine in zip(tree.layers[:-1], tree.layers[1:], strict=True):
        assert fine.max() > coarse.max()
        assert refines(fine, coarse)
    assert any(np.array_equal(layer, tree.label) for layer in tree.layers)


def test_refines_sees_a_cluster_that_is_spread():
    assert refines(np.array([0, 0, 1, -1]), np.array([0, 0, 0, 1]))
    assert not refines(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]))
    assert not refines(np.array([0, 0]), np.array([-1, -1]))


def test_a_tree_survives_the_way_to_disk_in_every_bit(tree):
    arrays = {name: array.copy() for name, array in tree.to_arrays().items()}
    again = ClusterTree.from_arrays(arrays, json.loads(json.dumps(tree.attrs())))
    assert again.attrs() == tree.attrs()
    assert set(again.to_arrays()) == set(arrays)
    for name, array in again.to_arrays().items():
        assert array.dtype == arrays[name].dtype
        assert array.dtype.kind in "if"
        assert np.array_equal(array, arrays[name])
    assert np.array_equal(cut(again, n_clusters=7).label, cut(tree, n_clusters=7).label)


def test_a_tree_stored_under_earlier_names_is_read(tree):
    arrays, attrs = dict(tree.to_arrays()), tree.attrs()
    arrays["ladder"] = arrays.pop("n_clusters_by_threshold") + 1
    attrs["opinions"] = attrs.pop("n_clusters_by_method") | {"density": 77}
    again = ClusterTree.from_arrays(arrays, attrs)
    assert np.array_equal(again.n_clusters_by_threshold, tree.n_clusters_by_threshold + 1)
    assert again.n_clusters_by_method["density"] == 77


def test_damaged_stores_are_refused(tree):
    arrays, attrs = tree.to_arrays(), tree.attrs()
    with pytest.raises(StoreError, match="lambda_val"):
        ClusterTree.from_arrays({k: v for k, v in arrays.items() if k != "lambda_val"}, attrs)
    with pytest.raises(StoreError, match="fit together"):
        ClusterTree.from_arrays(arrays | {"label": arrays["label"][1:]}, attrs)
    with pytest.raises(StoreError, match="fit together"):
        ClusterTree.from_arrays(arrays | {"left": arrays["left"] + 10_000}, attrs)
    with pytest.raises(StoreError, match="method"):
        ClusterTree.from_arrays(arrays, {k: v for k, v in attrs.items() if k != "method"})


def test_estimator_follows_scikit_learn(blobs, tree):
    cells, _ = blobs
    model = clone(CentroidTree(method="density", dimension=8.0))
    assert model.get_params()["dimension"] == 8.0
    model.fit(
        cells.centroids,
        population=cells.population,
        graph=cells.graph,
        mean_distance=cells.mean_distance,
    )
    assert np.array_equal(model.labels_, tree.label)
    assert np.array_equal(model.probabilities_, tree.membership)
    assert model.n_clusters_ == 10 == len(model.cluster_persistence_)
    assert model.recut(n_clusters=4).n_clusters_ == 4 == model.labels_.max() + 1


def test_estimator_on_bare_points_equals_the_library(same_partition):
    points = np.random.default_rng(1).standard_normal((80, 2)) + np.repeat(
        [[0, 0], [9, 9]], 40, axis=0
    )
    model = CentroidTree(
        method="density", min_samples=1, min_cluster_size=5, min_log_density_rise=0
    )
    expected = hdbscan.HDBSCAN(5, min_samples=1, core_dist_n_jobs=1).fit_predict(points)
    assert same_partition(model.fit_predict(points), expected)


def test_estimator_takes_csr_arrays(blobs, tree):
    cells, _ = blobs
    indptr, indices, weights, weights_two = cells.graph
    for arrays in ((indptr, indices, weights_two, weights), (indptr, indices, weights)):
        model = CentroidTree(method="density", dimension=8.0)
        model.fit(
            cells.centroids,
            population=cells.population,
            graph=arrays,
            mean_distance=cells.mean_distance,
        )
        assert np.array_equal(model.labels_, tree.label)
    with pytest.raises(ConfigError, match="got 1 arrays"):
        CentroidTree().fit(cells.centroids, graph=(indptr,))
