"""Whether there are large groups at all, and the graph of the images between centroids."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_mutual_info_score

from tests.families.conftest import KINDS, neighbors_of, reader, structureless
from workflow.families import coarse_test, neighbor_graph, ties_between


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "dimension"), [(400, 3), (1500, 5), (1500, 20)])
def test_coarse_test__a_smooth_cloud_has_no_clusters(kind, n, dimension):
    rows = structureless(kind, n, dimension, 7)
    assert coarse_test(*neighbors_of(rows), reader(rows)).has_clusters is False


def test_coarse_test__digits_have_clusters_and_are_not_clumped():
    rows = load_digits().data
    found = coarse_test(*neighbors_of(rows), reader(rows))
    assert found.has_clusters
    assert not found.is_clumped


@pytest.mark.parametrize("n", [1, 5, 30])
def test_coarse_test__too_few_images_tell_nothing(n):
    rows = np.random.default_rng(0).standard_normal((n, 3))
    assert coarse_test(*neighbors_of(rows), reader(rows)).has_clusters is None


def test_ties_between__adds_up_the_graph_of_the_images():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 3))
    centroid = rng.integers(0, 40, 300).astype(np.int32)
    index, distance = neighbors_of(rows)
    member = np.zeros((300, 40))
    member[np.arange(300), centroid] = 1
    expected = member.T @ neighbor_graph(index, distance).to_sparse().toarray() @ member
    np.fill_diagonal(expected, 0)
    ties, _ = ties_between(index, distance, centroid, 40)
    np.testing.assert_array_equal(ties.to_sparse().toarray(), np.rint(expected * 16 / (1 << 20)))


@pytest.mark.parametrize("is_clumped", [False, True])
def test_ties_between__communities_know_no_centroids(is_clumped):
    """Other centroids, and twice as many, get the same communities but for the images at their borders."""
    rows = load_digits().data
    index, distance = neighbors_of(rows)
    found = []
    for seed, n_centroids in ((0, 450), (1, 450), (0, 900)):
        drawn = np.random.default_rng(seed).permutation(len(rows))[:n_centroids]
        centroid = cdist(rows, rows[drawn]).argmin(axis=1).astype(np.int32)
        ties, community = ties_between(
            index, distance, centroid, n_centroids, is_clumped=is_clumped
        )
        assert ties.n_nodes == len(community) == n_centroids
        found.append(community[centroid])
    for other in found[1:]:
        assert adjusted_mutual_info_score(found[0], other) > 0.93
