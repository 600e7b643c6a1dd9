"""The three estimators against scikit-learn's own checks, and the same refusals for Dask arrays."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from workflow.errors import ConfigError, NonFiniteError
from workflow.graph import Graph
from workflow.overcluster import Overcluster
from workflow.pca import PCA
from workflow.tree import CentroidTree

ESTIMATORS = [PCA(2), Overcluster(10), CentroidTree()]
WITH_FEATURES = [PCA(2), Overcluster(10)]


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)


def lazy(rows):
    return da.from_array(rows, chunks=(60, 3))


def apply(estimator, X):
    """Transform or predict, and compute."""
    method = getattr(estimator, "transform", None) or estimator.predict
    return np.asarray(method(X))


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (PCA(), {}),
        (
            Overcluster(),
            {
                "check_clustering": "wants the three clusters of 50 rows; the default is 25 "
                "centroids, many more than clusters on purpose"
            },
        ),
        (Overcluster(n_centroids=3), {}),
        (CentroidTree(), {}),
        (CentroidTree(method="density", min_cluster_size=2), {}),
    ],
)
def test_estimators__pass_the_checks_of_scikit_learn(estimator, expected):
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert set(failed) == set(expected), failed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("whiten", [False, True])
def test_transform__names_the_row_of_a_value_that_is_not_finite(rows, value, whiten):
    # A feature without variance has no weight in any component.
    model = PCA(2, whiten=whiten).fit(np.column_stack([rows, np.ones(200, np.float32)]))
    for feature in (3, 5):
        bad = np.ones((200, 6), np.float32)
        bad[150, feature] = value
        for X in (bad, da.from_array(bad, chunks=(60, 3)), bad.reshape(200, 2, 3)):
            with pytest.raises(NonFiniteError, match=f"image 150, feature {feature}. Repair"):
                apply(model, X)
    unknown = lazy(bad)[da.ones(200, chunks=60, dtype=bool)]
    with pytest.raises(NonFiniteError, match="image 30, feature 5") as caught:
        apply(model, unknown)
    assert "start of their block" in caught.value.__notes__[0]


def test_transform__of_finite_rows_that_are_too_large_is_refused(rows):
    model = PCA(2).fit(rows.astype(np.float64))
    with pytest.raises(ValueError, match=r"range of float64; got -?1.7e\+308 first at image 0"):
        model.transform(1.7e308 * np.sign(model.components_[:1]))


@pytest.mark.parametrize("estimator", WITH_FEATURES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_dask__fit_and_use_refuse_what_is_not_finite(rows, estimator, value):
    bad = rows.copy()
    bad[150, 3] = value
    with pytest.raises(ValueError, match="finite"):
        clone(estimator).fit(lazy(bad))
    model = clone(estimator).fit(lazy(rows))
    with pytest.raises(ValueError, match="finite"):
        apply(model, lazy(bad))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_complex_numbers_are_refused(rows, estimator):
    with pytest.raises(ValueError, match="Complex data not supported"):
        clone(estimator).fit(rows + 1j)
    with pytest.raises(ValueError, match="`X` must hold real numbers; got complex"):
        clone(estimator).fit(lazy(rows + 1j))
    with pytest.raises(ValueError, match="got a masked array"):
        clone(estimator).fit(np.ma.masked_greater(rows, 1))


@pytest.mark.parametrize("estimator", WITH_FEATURES)
def test_complex_numbers_are_refused_after_the_fit(rows, estimator):
    model = clone(estimator).fit(rows)
    with pytest.raises(ValueError, match="Complex data not supported"):
        apply(model, rows + 1j)
    with pytest.raises(ValueError, match="`X` must hold real numbers; got complex"):
        apply(model, lazy(rows + 1j))


def test_inverse_transform__refuses_what_is_no_score(rows):
    model = PCA(2).fit(rows)
    with pytest.raises(ValueError, match=r"real numbers of shape \(n_samples, 2\); got complex128"):
        model.inverse_transform(np.full((3, 2), 1j))
    for X in (np.full((3, 2), np.nan), da.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            np.asarray(model.inverse_transform(X))


def test_tree__nothing_that_belongs_to_the_centroids_is_rounded_silently(rows):
    with pytest.raises(ConfigError, match="mean_distance must hold real numbers; got complex128"):
        CentroidTree().fit(rows, mean_distance=np.full(200, 1 + 1j))
    pair = (np.r_[0, 1, np.full(199, 2)], np.array([1, 0]))
    for weights in (np.array([2.5, 2.5]), np.array([1 + 1j, 1 + 1j])):
        with pytest.raises(
            ConfigError, match=rf"whole numbers; got others as weights \({weights.dtype}\)"
        ):
            CentroidTree().fit(rows, graph=Graph(*pair, weights))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_dask__gives_what_numpy_gives(rows, estimator):
    whole_numbers = np.round(rows * 100).astype(np.int64)
    for X in (rows, whole_numbers):
        model, same = (
            clone(estimator).fit(X),
            clone(estimator).fit(da.from_array(X, chunks=(200, 2))),
        )
        for name in ("components_", "cluster_centers_", "labels_"):
            if hasattr(model, name):
                np.testing.assert_array_equal(getattr(same, name), getattr(model, name))
        assert same.n_features_in_ == 5
        if hasattr(model, "transform") or hasattr(model, "predict"):
            np.testing.assert_array_equal(apply(same, lazy(X)), apply(model, X))


@pytest.mark.parametrize("estimator", WITH_FEATURES)
def test_features_are_compared_by_number_and_name(rows, estimator):
    frame = pd.DataFrame(rows, columns=list("abcde"))
    model = clone(estimator).fit(frame)
    assert model.feature_names_in_.tolist() == list("abcde")
    np.testing.assert_array_equal(apply(model, frame), apply(clone(estimator).fit(rows), rows))
    with pytest.raises(ValueError, match="must be in the same order"):
        apply(model, frame[list("edcba")])
    for X in (rows[:, :4], lazy(rows[:, :4])):
        with (
            pytest.warns(UserWarning, match="valid feature names"),
            pytest.raises(ValueError, match=r"X has 4 features, but .* is expecting 5 features"),
        ):
            apply(model, X)


def test_tree__notes_the_names_of_its_features(rows):
    model = CentroidTree().fit(pd.DataFrame(rows, columns=list("abcde")))
    assert model.feature_names_in_.tolist() == list("abcde")
    assert model.n_features_in_ == 5


def test_set_output__gives_named_scores(rows):
    model = PCA(2).set_output(transform="pandas").fit(rows)
    plain = PCA(2).fit(rows).transform(rows)
    for X in (rows, lazy(rows)):
        frame = model.transform(X)
        assert frame.columns.tolist() == ["pca0", "pca1"]
        np.testing.assert_array_equal(frame.to_numpy(), plain)
    np.testing.assert_array_equal(
        model.inverse_transform(frame), PCA(2).fit(rows).inverse_transform(plain)
    )
