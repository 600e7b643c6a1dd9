import pickle

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from tests.ingest.helpers import ThreadRunner, files_of
from workflow.ingest import DemoSource, demo, ingest
from workflow.ingest.photographs import PHOTOGRAPHS

N_IMAGES = 12_000


@pytest.fixture(scope="module")
def made():
    """Some demo images and their sources."""
    source = DemoSource(N_IMAGES)
    return source.read(0, N_IMAGES), source.truth(0, N_IMAGES)


def test_demo__any_cutting_gives_the_same_images(made):
    # Films lie elsewhere among another number of images.
    source = pickle.loads(pickle.dumps(DemoSource(N_IMAGES)))
    images, truth = made
    assert len(pickle.dumps(source)) < 200
    edge = demo.BLOCK_ROWS
    for start, stop in [(edge - 3, edge + 2), (0, 1), (10_000, 10_001), (5000, 5000), (9, 9000)]:
        np.testing.assert_array_equal(source.read(start, stop), images[start:stop])
        np.testing.assert_array_equal(source.truth(start, stop), truth[start:stop])
        film = source.film(0, N_IMAGES)
        np.testing.assert_array_equal(source.film(start, stop), film[start:stop])


def test_demo__threads_of_blas_change_nothing(made):
    with threadpool_limits(limits=4, user_api="blas"):
        # A block is kept until another one is made.
        DemoSource(N_IMAGES).read(8192, 8193)
        again = DemoSource(N_IMAGES).read(0, 4096)
    np.testing.assert_array_equal(again, made[0][:4096])


def test_demo__seeds_draw_other_images_of_the_same_sources(made):
    images, truth = made
    other = DemoSource(N_IMAGES, seed=1)
    found, sources = other.read(0, N_IMAGES), other.truth(0, N_IMAGES)
    assert (found != images).mean() > 0.5
    for source in (0, demo.N_SOURCES - 1):
        means = [a[t == source].mean(axis=0) for a, t in ((images, truth), (found, sources))]
        assert abs(means[0] - means[1]).mean() < 5


def test_demo__sources_are_of_very_unequal_size(made):
    truth = made[1]
    assert truth.dtype == np.int32
    share = np.bincount(truth + 1, minlength=demo.N_SOURCES + 1) / N_IMAGES
    assert len(share) == DemoSource().n_sources + 1
    # Clutter, and three films.
    assert 0.03 < share[0] - (DemoSource(N_IMAGES).film(0, N_IMAGES) >= 0).mean() < 0.05
    assert share[1:].min() > 0.002
    assert share[1:].max() > 0.25
    photographs, digits = share[1 : 1 + demo.N_WINDOWS], share[1 + demo.N_WINDOWS :]
    assert photographs.sum() > 0.1
    assert digits.sum() > 0.1


def test_demo__sources_are_clusters_and_clutter_is_not(made):
    images, truth = made
    with threadpool_limits(limits=1):
        scores = PCA(50, svd_solver="covariance_eigh").fit_transform(
            images.reshape(N_IMAGES, -1).astype(np.float32)
        )
        nearest = NearestNeighbors(n_neighbors=2).fit(scores).kneighbors(scores)[1][:, 1]
        has_source, is_frame = truth >= 0, DemoSource(N_IMAGES).film(0, N_IMAGES) >= 0
        assert (truth[nearest] == truth)[has_source].mean() > 0.999
        means = np.stack([scores[truth == k].mean(axis=0) for k in range(demo.N_SOURCES)])
        within = np.array(
            [
                np.sqrt(((scores[truth == k] - means[k]) ** 2).sum(axis=1).mean())
                for k in range(demo.N_SOURCES)
            ]
        )
        between = np.linalg.norm(means[:, None] - means, axis=2)
        np.fill_diagonal(between, np.inf)
        assert (between.min(axis=1) / within).min() > 3
        few = np.flatnonzero(~is_frame)[:6000]
        labels = HDBSCAN(min_cluster_size=10, min_samples=5, copy=True).fit_predict(scores[few])
    some = has_source[few]
    assert adjusted_rand_score(truth[few][some], labels[some]) > 0.98
    # None of the clusters is made of clutter for the most part, and most clutter is in none.
    assert abs(labels.max() + 1 - demo.N_SOURCES) <= 2
    assert (labels[~some] < 0).mean() > 0.5


def test_demo__frames_of_a_film_are_alike_and_drift():
    source = DemoSource(40_000)
    images, film = source.read(0, 40_000).astype(np.float32), source.film(0, 40_000)
    assert source.n_films == 10
    length = np.bincount(film[film >= 0])
    assert len(length) == 10
    assert (length.min() >= 30, length.max() <= 300) == (True, True)
    assert (source.truth(0, 40_000)[film >= 0] == -1).all()
    # Frames come in no order, anywhere among the images.
    assert np.ptp(np.flatnonzero(film == 0)) > 20_000
    mean = np.stack([images[film == k].mean(axis=0) for k in range(10)])
    frames = np.flatnonzero(film >= 0)
    nearest = NearestNeighbors(n_neighbors=1).fit(mean).kneighbors(images[frames])[1][:, 0]
    assert (nearest == film[frames]).mean() > 0.95
    # No two frames are equal: each has noise, standard deviation 2, and its own place.
    shown = images[film == int(length.argmax())]
    apart = NearestNeighbors(n_neighbors=2).fit(shown).kneighbors(shown)[0][:, 1]
    assert apart.min() > 2 * np.sqrt(2 * 768) * 0.9
    other = DemoSource(40_000, seed=1).film(0, 40_000)
    assert not np.array_equal(film, other)


@pytest.mark.parametrize("n", [1, 3_999, 4_000])
def test_demo__few_images_have_few_films(n):
    source = DemoSource(n)
    assert source.n_films == n // 4_000
    assert source.read(0, n).shape == (n, 768)
    assert source.film(0, n).max() == n // 4_000 - 1


def test_demo__ingested_by_any_runner(tmp_path):
    source = DemoSource(9000)
    ingest(source, tmp_path / "serial.zarr", block_rows=2048)
    ingest(source, tmp_path / "threads.zarr", block_rows=2048, runner=ThreadRunner())
    assert files_of(tmp_path / "serial.zarr") == files_of(tmp_path / "threads.zarr")


def test_demo__names_the_photographers():
    assert len(PHOTOGRAPHS) == 2
    assert all("CC BY 2.0" in line and "flickr.com" in line for line in PHOTOGRAPHS)
