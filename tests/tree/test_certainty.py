"""How sure clusters are said to be, against what is known of the images and against redrawn images."""

import numpy as np
import pytest

from workflow import threads
from workflow.errors import ConfigError
from workflow.tree import ClusterTree, build_tree, cut
from workflow.tree.resampling import found_again


def run(cells, n_resamples=20, dimension=8.0, **how) -> ClusterTree:
    return build_tree(
        cells.centroids,
        cells.population,
        cells.graph,
        dimension=dimension,
        mean_distance=cells.mean_distance,
        n_resamples=n_resamples,
        **how,
    )


@pytest.mark.parametrize("method", ["density", "contrast", "modularity"])
def test_separate_blobs_are_sure(blobs, method):
    cells, _ = blobs
    tree = run(cells, method=method)
    sure = tree.certainty
    assert sure.resampled_n_clusters.shape == (20,)
    assert sure.recovery.shape == sure.border.shape == sure.nearest.shape == (tree.n_clusters,)
    low, high = sure.bounds(tree.n_clusters)
    assert low <= tree.n_clusters <= high <= tree.n_clusters + 2
    assert (sure.recovery >= 0.9).mean() > 0.85
    assert not sure.is_doubtful[0]
    assert np.median(sure.border) > 0.7
    assert (sure.nearest != np.arange(tree.n_clusters)).all()
    assert (sure.nearest >= 0).all()


def test_a_cluster_cut_where_nothing_divides_it_is_doubtful(blobs):
    """Of two cuts of the same tree the one that splits by chance is found again less often."""
    cells, _ = blobs
    fair = run(cells, method="density")
    forced = run(cells, method="density", min_log_density_rise=0.0, min_cluster_size=30)
    assert forced.n_clusters > fair.n_clusters
    assert forced.certainty.recovery.min() < 0.9
    assert forced.certainty.is_doubtful.any()
    assert np.ptp(forced.certainty.resampled_n_clusters) > np.ptp(
        fair.certainty.resampled_n_clusters
    )


def test_redrawn_counts_scatter_as_redrawn_images_do(overcluster):
    """The number of clusters over bootstraps of the images lies within what the counts say."""
    rng = np.random.default_rng(2)
    label = rng.integers(0, 4, 12_000)
    images = rng.standard_normal((12_000, 6))
    images[np.arange(12_000), label] += 6.0
    cells = overcluster(images, 240)
    tree = run(cells, dimension=6.0)
    low, high = tree.certainty.bounds(tree.n_clusters)
    for seed in range(4):
        again = np.random.default_rng(seed).integers(0, len(images), len(images))
        other = run(overcluster(images[again], 240), n_resamples=0, dimension=6.0)
        assert low - 1 <= other.n_clusters <= high + 1
    assert tree.n_clusters == 4


def test_one_cluster_is_one_again(structureless, dimensions):
    for name, cells in structureless.items():
        tree = run(cells, n_resamples=5, dimension=dimensions[name])
        assert tree.certainty.resampled_n_clusters.tolist() == [1] * 5
        assert tree.certainty.recovery.tolist() == [1.0]
        assert tree.certainty.nearest.tolist() == [-1]


def test_found_again_is_the_jaccard_coefficient():
    rng = np.random.default_rng(0)
    label, other = rng.integers(-1, 4, 60), rng.integers(-1, 5, 60)
    other[label == 2] = 1
    images = rng.integers(1, 9, 60)
    expected = []
    for k in range(4):
        shares = [
            images[(label == k) & (other == j)].sum() / images[(label == k) | (other == j)].sum()
            for j in range(other.max() + 1)
        ]
        expected.append(max(shares) >= 0.5)
    found = found_again(label.astype(np.int32), other.astype(np.int32), images)
    assert found.tolist() == expected


def test_certainty_is_the_same_again_is_stored_and_ends_with_another_cut(blobs):
    cells, _ = blobs
    tree, again = run(cells, n_resamples=5), run(cells, n_resamples=5)
    for name, array in tree.to_arrays().items():
        assert np.array_equal(array, again.to_arrays()[name])
    stored = ClusterTree.from_arrays(tree.to_arrays(), tree.attrs())
    assert np.array_equal(stored.certainty.recovery, tree.certainty.recovery)
    assert stored.reason == tree.reason
    assert stored.n_clusters_by_method == tree.n_clusters_by_method
    assert set(tree.n_clusters_by_method) == {"contrast", "density", "modularity"}
    assert len(cut(tree, n_clusters=3).certainty.recovery) == 0
    assert len(run(cells, n_resamples=0).certainty.border) == 0


def test_a_negative_number_is_refused(blobs):
    with pytest.raises(ConfigError, match="n_resamples must be at least 0; got -1"):
        run(blobs[0], n_resamples=-1)


@pytest.mark.parametrize("method", ["density", "contrast", "modularity"])
def test_certainty_is_the_same_for_any_number_of_threads(blobs, method, monkeypatch):
    cells, _ = blobs
    found = []
    for n_processors in (1, 4):
        monkeypatch.setattr(threads, "n_processors", lambda n=n_processors: n)
        found.append(run(cells, method=method))
    one, several = found
    np.testing.assert_array_equal(one.label, several.label)
    for name in ("resampled_n_clusters", "recovery", "border", "nearest"):
        np.testing.assert_array_equal(
            getattr(one.certainty, name), getattr(several.certainty, name)
        )
