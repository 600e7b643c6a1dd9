"""Whether there are large groups at all, and the graph of the images between centroids."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

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
    ties = ties_between(index, distance, centroid, 40)
    np.testing.assert_array_equal(ties.to_sparse().toarray(), np.rint(expected * 16 / (1 << 20)))
