"""Statistics of cells against loops, and against other cuttings."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import numpy as np
import pytest

from workflow.overcluster import CellSums, NearestCentroids, cell_sums, merge_cell_sums

N_CENTROIDS = 30


@pytest.fixture(scope="module")
def assigned():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 5)).astype(np.float32)
    rows[500:520] = rows[0]
    centroids = np.concatenate([rows[: N_CENTROIDS - 1], [[99.0] * 5]])
    nearest, sq_distance = NearestCentroids.build(centroids).query(rows)
    return rows, nearest, sq_distance


def sums_of_blocks(assigned, bounds):
    rows, nearest, squared = assigned
    parts = [
        cell_sums(rows[a:b], a, nearest[a:b], squared[a:b], N_CENTROIDS)
        for a, b in pairwise(bounds)
    ]
    return reduce(merge_cell_sums, parts)


def test_cell_sums__equals_a_loop(assigned):
    rows, nearest, squared = assigned
    sums = sums_of_blocks(assigned, [0, 1000])
    for cell in range(N_CENTROIDS):
        inside = np.flatnonzero(nearest[:, 0] == cell)
        own = squared[inside, 0].astype(np.float64)
        assert sums.population[cell] == inside.size
        np.testing.assert_allclose(sums.total[cell], rows[inside].sum(0, np.float64), rtol=1e-12)
        np.testing.assert_allclose(sums.sq_distance[cell], own.sum(), rtol=1e-12)
        np.testing.assert_allclose(sums.distance[cell], np.sqrt(own).sum(), rtol=1e-12)
        assert sums.max_distance[cell] == (np.sqrt(own.max()) if own.size else 0)
        order = inside[np.lexsort((inside, own))][:4]
        assert sums.exemplar[cell].tolist() == order.tolist() + [-1] * (4 - order.size)
    assert sums.population[-1] == 0
    assert sums.rms_radius[-1] == 0
    assert sums.n_samples == 1000


@pytest.mark.parametrize("bounds", [[0, 1, 1000], [0, 300, 301, 999, 1000], [0, 0, 500, 1000]])
def test_merge_cell_sums__does_not_depend_on_the_cutting(assigned, bounds):
    whole, cut = sums_of_blocks(assigned, [0, 1000]), sums_of_blocks(assigned, bounds)
    for name in ("population", "max_distance", "exemplar", "exemplar_sq_distance"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
    for name in ("total", "sq_distance", "distance", "mean", "rms_radius"):
        np.testing.assert_allclose(getattr(cut, name), getattr(whole, name), rtol=1e-9, atol=1e-12)
    again = sums_of_blocks(assigned, bounds)
    np.testing.assert_array_equal(cut.total, again.total)


def test_merge_cell_sums__exemplars_do_not_depend_on_the_order(assigned):
    rows, nearest, squared = assigned
    # Rows that are as near as others, so that the lower row must win from either side.
    halves = [
        cell_sums(rows[a:b], a, nearest[a:b], np.round(squared[a:b]), N_CENTROIDS)
        for a, b in ((0, 510), (510, 1000))
    ]
    one, other = merge_cell_sums(*halves), merge_cell_sums(*halves[::-1])
    whole = cell_sums(rows, 0, nearest, np.round(squared), N_CENTROIDS)
    for found in (one, other):
        np.testing.assert_array_equal(found.exemplar, whole.exemplar)
        np.testing.assert_array_equal(found.exemplar_sq_distance, whole.exemplar_sq_distance)


def test_from_arrays__gives_the_same_sums(assigned):
    sums = sums_of_blocks(assigned, [0, 1000])
    again = CellSums.from_arrays(sums.to_arrays())
    for name, array in sums.to_arrays().items():
        np.testing.assert_array_equal(getattr(again, name), array)


def test_cell_sums__refuses_what_does_not_fit(assigned):
    with pytest.raises(
        ValueError, match=r"hold a centroid 0 to 1 for each of 1 rows; got -1 to -1"
    ):
        cell_sums(np.ones((1, 2)), 0, np.array([-1]), np.array([0.0]), 2)
    one = cell_sums(np.ones((1, 2)), 0, np.array([0]), np.array([0.0]), 2)
    with pytest.raises(ValueError, match="must have the same shape"):
        merge_cell_sums(one, sums_of_blocks(assigned, [0, 1000]))
