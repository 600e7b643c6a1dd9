"""k-means++ by proposals against the plain sequential draw."""

from __future__ import annotations

import numpy as np
import pytest

from workflow.overcluster.seeding import distance_cap, kmeans_plus_plus


def sequential(rows, n_seeds, rng):
    """k-means++ as in the paper, one draw after another, but by distance."""
    chosen = [rng.integers(len(rows))]
    while len(chosen) < n_seeds:
        distance = np.sqrt(np.square(rows[:, None] - rows[chosen]).sum(-1).min(1))
        chosen.append(rng.choice(len(rows), p=distance / distance.sum()))
    return np.array(chosen)


def potential(rows, chosen):
    return np.square(rows[:, None] - rows[chosen]).sum(-1).min(1).mean()


def test_kmeans_plus_plus__has_the_potential_of_the_sequential_draw():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) * np.exp(rng.normal(size=(300, 1)))
    ours = [
        potential(rows, kmeans_plus_plus(rows, np.ones(300), 40, np.inf, rng)) for _ in range(60)
    ]
    theirs = [potential(rows, sequential(rows, 40, rng)) for _ in range(60)]
    uniform = [potential(rows, rng.choice(300, 40, replace=False)) for _ in range(60)]
    error = np.hypot(np.std(ours), np.std(theirs)) / np.sqrt(60)
    assert abs(np.mean(ours) - np.mean(theirs)) < 4 * error
    assert np.mean(uniform) > np.mean(ours) + 8 * error


def test_kmeans_plus_plus__chooses_every_distinct_row_once():
    rows = np.repeat(np.random.default_rng(1).normal(size=(50, 4)), 5, axis=0) + 1e3
    chosen = kmeans_plus_plus(rows, np.ones(250), 100, np.inf, np.random.default_rng(0))
    assert chosen.size == 50
    assert np.unique(rows[chosen], axis=0).shape == (50, 4)


def test_kmeans_plus_plus__never_draws_a_row_without_weight():
    rows = np.arange(100.0)[:, None]
    weights = (np.arange(100) % 2).astype(float)
    chosen = kmeans_plus_plus(rows, weights, 80, np.inf, np.random.default_rng(0))
    assert sorted(chosen.tolist()) == list(range(1, 100, 2))


def test_kmeans_plus_plus__cap_keeps_outliers_from_taking_the_seeds():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(5000, 2))
    rows[:100] *= 1e4
    capped, free = (
        (kmeans_plus_plus(rows, np.ones(5000), 60, cap, np.random.default_rng(0)) < 100).sum()
        for cap in (1.0, np.inf)
    )
    assert free > 50
    assert capped < 25


def test_distance_cap__is_a_multiple_of_a_quantile_of_positive_distances():
    assert distance_cap(np.array([0.0, 0.0, 2.0])) == pytest.approx(64.0)
    assert distance_cap(np.zeros(3)) == np.inf
