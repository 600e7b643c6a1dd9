"""Fitting against scikit-learn, other mappers, interrupted runs and awkward data."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs

from workflow.mapper import ArrayRows, SerialMapper, merge_groups, pairwise
from workflow.overcluster import NearestCentroids, RoundState, fit_centroids, fitting


def normal(n_rows, n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(n_rows, n_features)).astype(np.float32)


def fit(rows, n_centroids, seed=0, **options):
    options.setdefault("mapper", SerialMapper())
    return fit_centroids(ArrayRows(rows), n_centroids, seed=seed, **options)


class Threads(SerialMapper):
    """Maps in four threads, and merges groups of the results."""

    def map(self, function, items):
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(function, items))

    def reduce(self, function, items, merge, finish=None):
        merged = [pairwise(group, merge) for group in merge_groups(self.map(function, items), 3)]
        return finish(pairwise(merged, merge))


def same(one, two):
    np.testing.assert_array_equal(one.centroids, two.centroids)
    np.testing.assert_array_equal(one.population, two.population)
    assert one.inertia == two.inertia
    assert one.history == two.history
    assert one.n_rows_used == two.n_rows_used


def check_cells(rows, fitted):
    """Every centroid is the nearest of a row; population and inertia are those of the rows."""
    squared = np.square(rows[:, None].astype(float) - fitted.centroids).sum(-1)
    population = np.bincount(squared.argmin(1), minlength=len(fitted.centroids))
    np.testing.assert_array_equal(population, fitted.population)
    assert population.min() >= 1
    np.testing.assert_allclose(squared.min(1).sum(), fitted.inertia, rtol=1e-5, atol=1e-9)
    assert np.unique(fitted.centroids, axis=0).shape == fitted.centroids.shape


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(fitting, "MIN_BATCH_ROWS", 500)


@pytest.fixture
def candidates(monkeypatch):
    monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)


@pytest.mark.parametrize("path", ["memory", "candidates"])
def test_fit__inertia_is_that_of_scikit_learn(path, monkeypatch):
    if path == "candidates":
        monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
    rows, _ = make_blobs(6000, 8, centers=60, random_state=0)
    rows = rows.astype(np.float32)
    reference = KMeans(60, n_init=3, random_state=0).fit(rows).inertia_
    assert fit(rows, 60).inertia < 1.04 * reference
    rows = normal(6000, 8)
    reference = KMeans(150, n_init=1, random_state=0).fit(rows).inertia_
    fitted = fit(rows, 150)
    assert fitted.inertia < 1.03 * reference
    check_cells(rows, fitted)


def test_fit__doubling_batches_come_near_whole_rounds(small_batches):
    rows = normal(8000, 6)
    doubled = fit(rows, 40)
    n_rows = [line["n_rows"] for line in doubled.history]
    assert n_rows[0] == 1280
    assert set(n_rows) == {1280, 2560, 5120, 8000}
    assert n_rows[-1] == 8000
    assert n_rows == sorted(n_rows)
    reference = KMeans(40, n_init=1, random_state=0).fit(rows).inertia_
    assert doubled.inertia < 1.03 * reference
    assert doubled.n_rows_used == sum(n_rows) + n_rows[0]


def test_fit__rests_although_centroids_go_on_changing_places():
    # Sources far apart, the same noise in all features: some centroids always find a better place.
    rng = np.random.default_rng(2)
    sources = rng.normal(size=(70, 30)) * 20
    rows = (sources[rng.integers(70, size=9600)] + rng.normal(size=(9600, 30))).astype(np.float32)
    fitted = fit(rows, 300)
    *earlier, last, check = (line["inertia_per_row"] for line in fitted.history)
    assert fitted.history[-2]["n_swapped"] > 300 * fitting.MAX_RELOCATED_SHARE
    assert 1 - last / earlier[-1] < fitting.MIN_GAIN
    assert check <= last
    assert fitted.inertia < 1.01 * KMeans(300, n_init=1, random_state=0).fit(rows).inertia_


@pytest.mark.parametrize("path", ["memory", "candidates"])
def test_fit__bits_do_not_depend_on_the_mapper(path, small_batches, monkeypatch):
    if path == "candidates":
        monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
    rows = normal(20_000, 5)
    same(fit(rows, 100, max_iter=8), fit(rows, 100, mapper=Threads(), max_iter=8))


@pytest.mark.parametrize("path", ["memory", "candidates"])
def test_fit__resumes_with_the_same_bits_after_every_round(path, small_batches, monkeypatch):
    if path == "candidates":
        monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
    rows, states = normal(6000, 4), []
    whole = fit(rows, 50, on_round=states.append)
    assert not any(state.is_seeding for state in states)
    assert states[-1].is_finished
    for number, state in enumerate(states):
        stored = {name: array.copy() for name, array in state.to_arrays().items()}
        assert all(isinstance(array, np.ndarray) and array.ndim for array in stored.values())
        rest = []
        again = fit(rows, 50, resume=RoundState.from_arrays(stored), on_round=rest.append)
        same(again, whole)
        assert len(rest) == len(states) - number - 1


def test_fit__resumes_from_a_state_whose_counters_have_no_names():
    rows, states = normal(600, 4), []
    whole = fit(rows, 20, on_round=states.append)
    arrays = states[1].to_arrays()
    names = ("n_samples", "n_features", "n_centroids", "seed", "n_batch", "n_passes", "n_checks")
    *first, n_checks = (arrays.pop(name)[0] for name in names)
    arrays["counters"] = np.array([*first, 1, n_checks])
    same(fit(rows, 20, resume=RoundState.from_arrays(arrays)), whole)


def test_fit__refuses_the_state_of_another_fit():
    states = []
    fit(normal(100, 2), 5, on_round=states.append)
    with pytest.raises(ValueError, match=r"`resume` must come from a fit with the same rows"):
        fit(normal(101, 2), 5, resume=states[0])


@pytest.mark.parametrize("seed", range(10))
def test_fit__a_rare_cluster_gets_a_centroid(seed):
    rng = np.random.default_rng(seed + 50)
    rows = rng.normal(size=(30_000, 4)).astype(np.float32)
    rows[:12] = 0.3 * rows[:12] + np.array([7.0, 0, 0, 0], dtype=np.float32)
    rows = rows[rng.permutation(len(rows))]
    fitted = fit(rows, 250, seed=seed, max_iter=4)
    is_rare = np.abs(fitted.centroids[:, 0] - 7) < 1
    assert is_rare.any()
    assert 12 <= fitted.population[is_rare].sum() <= 15


def test_fit__outliers_do_not_take_most_centroids():
    rows = normal(20_000, 6)
    rows[::100] *= 1e3
    fitted = fit(rows, 200, max_iter=10)
    is_outlier = np.abs(fitted.centroids).max(axis=1) > 20
    assert is_outlier.sum() < 80


@pytest.mark.parametrize(
    ("rows", "n_centroids", "expected"),
    [
        (np.zeros((50, 3)), 7, 1),
        (np.array([[0.0], [1.0]]), 2, 2),
        (np.array([[0.0], [1.0]]), 1, 1),
        (np.array([[5.0]]), 1, 1),
        (np.repeat(normal(9, 2), 20, axis=0), 30, 9),
        (normal(40, 3), 40, 40),
        (normal(500, 1), 20, 20),
        (np.repeat(normal(60, 2), 3, axis=0) + 500, 59, 59),
        (np.concatenate([np.zeros((900, 2)), normal(30, 2)]), 20, 20),
        (normal(300, 4).astype(np.float16), 10, 10),
        (normal(300, 4).astype(np.float64) + 1e6, 10, 10),
    ],
)
@pytest.mark.parametrize("path", ["memory", "candidates"])
def test_fit__awkward_rows(rows, n_centroids, expected, path, monkeypatch):
    if path == "candidates":
        monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 0)
    fitted = fit(rows, n_centroids)
    assert len(fitted.centroids) == expected
    assert fitted.centroids.dtype == (np.float64 if rows.dtype == np.float64 else np.float32)
    check_cells(rows, fitted)


def test_fit__replaces_empty_centroids():
    rows = normal(2000, 3)
    states = []
    fit(rows, 30, on_round=states.append)
    arrays = states[0].to_arrays()
    # Half of the seeds coincide, so that half of the cells are empty in the next pass.
    arrays["centroids"] = np.repeat(arrays["centroids"][:15], 2, axis=0)
    fitted = fit(rows, 30, resume=RoundState.from_arrays(arrays))
    assert fitted.history[0]["n_replaced"] == 15
    assert len(fitted.centroids) == 30
    check_cells(rows, fitted)


def test_fit__settles_on_the_whole_sample_after_the_last_round(small_batches):
    rows = normal(6000, 3)
    fitted = fit(rows, 30, max_iter=1)
    assert [line["n_rows"] for line in fitted.history] == [960, 6000]
    check_cells(rows, fitted)


def test_fit__tasks_pickle_small():
    calls = []

    class Recorder(SerialMapper):
        def map(self, function, items):
            calls.extend(len(pickle.dumps(item)) for item in items)
            return super().map(function, items)

        def reduce(self, function, items, merge, finish=None):
            calls.extend(len(pickle.dumps(item)) for item in items)
            return super().reduce(function, items, merge, finish)

    fit(normal(10_000, 4), 40, mapper=Recorder(), max_iter=3)
    assert calls
    assert max(calls) < 1000


def test_fit__refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="got 5 centroids for 4 samples"):
        fit(normal(4, 2), 5)
    with pytest.raises(ValueError, match="`max_iter` must be at least 1; got 0"):
        fit(normal(4, 2), 2, max_iter=0)
    broken = normal(40, 2)
    broken[7, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"`sample` must hold finite values.* at its row 7. Repair"
    ):
        fit(broken, 40)


def test_fit__population_is_that_of_a_new_search():
    rows = normal(3000, 5)
    fitted = fit(rows, 80)
    nearest, sq_distance = NearestCentroids.build(fitted.centroids).query(rows, k=1)
    np.testing.assert_array_equal(np.bincount(nearest[:, 0], minlength=80), fitted.population)
    np.testing.assert_allclose(sq_distance.sum(dtype=float), fitted.inertia, rtol=1e-12)
