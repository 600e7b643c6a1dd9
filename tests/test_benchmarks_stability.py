"""The benchmark of stability makes sets of a known number of clusters, and counts what holds."""

import numpy as np
import pytest

from benchmarks import stability
from benchmarks.quality.clustering import scores_of
from benchmarks.quality.sets import labelled_sets
from benchmarks.stability import CLUSTERS, DIMENSIONS, IMAGES, coverage, made, stable


@pytest.mark.parametrize("seed", [0, 3])
def test_made__has_as_many_clusters_as_its_truth_says(seed):
    rows, truth = made(seed)
    again, _ = made(seed)
    np.testing.assert_array_equal(rows, again)
    assert np.isfinite(rows).all()
    assert IMAGES[0] <= len(rows) <= IMAGES[1]
    assert DIMENSIONS[0] <= rows.shape[1] <= DIMENSIONS[1]
    sizes = np.bincount(truth)
    assert CLUSTERS[0] <= len(sizes) <= CLUSTERS[1]
    assert sizes.min() > 0.15 * sizes.mean()


def test_coverage__counts_intervals_that_hold_the_true_number():
    assert coverage(range(3)).strip().startswith("3 of 3 intervals hold the true number")


def test_stable__digits_are_the_same_for_rounding_seeds_and_centroids(monkeypatch):
    for name in ("N_ROUNDINGS", "N_SEEDS", "N_FINER"):
        monkeypatch.setattr(stability, name, 2)
    images, truth = labelled_sets()["digits"].make(1_797, 0)
    lines = list(stable(scores_of(images), truth))
    assert [line.split(" | ")[0] for line in lines] == [
        "2 roundings",
        "2 seeds",
        "1,796 centroids for 898",
    ]
    for line in lines:
        assert float(line.rsplit("| ", 1)[1].split(",")[0]) > 0.95
