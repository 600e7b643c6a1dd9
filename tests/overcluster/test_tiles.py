"""The code written for the registers against the plain way beside it."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from workflow.overcluster.search import PanelSearch, center_centroids
from workflow.overcluster.search._tiles import (
    PANEL_CENTROIDS,
    TILE_ROWS,
    Tile,
    plain_sq_distance_of,
    plain_tile_scores,
    sq_distance_of,
    tile_scores,
)

ROWS = np.array([7, 0, 3, 8, 5, 2])


@njit
def written_tile(x, factors, limits, scores, rows, tile, stops):
    return tile_scores(x, factors, limits, scores, rows, tile, stops)


@njit
def plain_tile(x, factors, limits, scores, rows, tile, stops):
    return plain_tile_scores(x, factors, limits, scores, rows, tile, stops)


@njit
def written_distances(rows, others):
    return np.array([[sq_distance_of(rows, i, others, j) for j in range(30)] for i in range(40)])


@njit
def plain_distances(rows, others):
    return np.array(
        [[plain_sq_distance_of(rows, i, others, j) for j in range(30)] for i in range(40)]
    )


def both(x, factors, limits, tile, stops):
    """Return what the two ways return, and the scores that they write."""
    found = []
    for way in (written_tile, plain_tile):
        scores = np.full((TILE_ROWS, PANEL_CENTROIDS), np.nan, dtype=np.float32)
        found.append((way(x, factors, limits, scores, ROWS, tile, stops), scores))
    return found


@pytest.mark.parametrize("n_features", [1, 3, 7, 50])
@pytest.mark.parametrize("tile", [Tile(0, 4, 1), Tile(2, 6, 0), Tile(3, 4, 1), Tile(1, 3, 0)])
def test_tile_scores__equal_the_plain_ones_to_the_bit_where_nothing_is_rounded(n_features, tile):
    rng = np.random.default_rng(n_features)
    x, factors = (
        rng.integers(-20, 20, size).astype(np.float32)
        for size in ((9, 2 + n_features), (2, 3 + n_features, PANEL_CENTROIDS))
    )
    stops = np.array([-(-n_features // 4), -(-n_features // 2), n_features])
    answers = []
    for limit in (-3e3, -1e3, -300, -100, -30, 0, np.inf):
        limits = rng.integers(-20, 20, 9).astype(np.float32) + np.float32(limit)
        written, plain = both(x, factors, limits, tile, stops)
        assert written[0] == plain[0]
        np.testing.assert_array_equal(written[1], plain[1])
        answers.append(plain[0])
    assert not answers[0]
    assert answers[-1]


@pytest.mark.parametrize("n_features", [1, 2, 3, 7, 16, 50])
def test_tile_scores__bound_the_exact_ones_at_every_stage(n_features):
    rng = np.random.default_rng(n_features)
    centroids = rng.normal(size=(64, n_features)) * 0.93 ** np.arange(n_features)
    centered = center_centroids(centroids)
    panels = PanelSearch.build(centered).panels
    rows = rng.normal(size=(9, n_features)) * 0.5
    x = np.zeros((9, 2 + n_features), dtype=np.float32)
    x[:, 2:] = rows
    for stage in (0, 1):
        x[:, stage] = np.linalg.norm(rows[:, panels.stops[stage] :], axis=1) * (1 + 1e-6)
    members = centered.scaled[panels.ids[1]]
    exact = np.square(members).sum(axis=1) / 2 - rows @ members.T
    tile = Tile(0, 4, 1)
    chosen = ROWS[:4]
    slack = 1e-5 * np.square(rows[chosen]).sum(axis=1)[:, None] + 1e-9
    for near, scores in both(x, panels.factors, np.full(9, np.inf, "f4"), tile, panels.stops):
        assert near == 0b1111
        np.testing.assert_allclose(scores, exact[chosen], rtol=1e-4, atol=1e-4)
        assert (scores <= exact[chosen] + slack).all()
    # Of each row a bit says whether it is near.
    limits = (exact.min(axis=1) - 1e-3).astype(np.float32)
    assert [found for found, _ in both(x, panels.factors, limits, tile, panels.stops)] == [0, 0]
    for bit, row in enumerate(chosen):
        loose = limits.copy()
        loose[row] += np.float32(2e-3)
        assert [found for found, _ in both(x, panels.factors, loose, tile, panels.stops)] == [
            1 << bit
        ] * 2


@pytest.mark.parametrize("n_features", [1, 5, 8, 50, 67])
@pytest.mark.parametrize("types", ["ff", "dd", "fd"])
def test_sq_distance_of__equals_the_plain_one_to_the_bit(n_features, types):
    rng = np.random.default_rng(n_features)
    rows, others = (
        (rng.normal(size=(n, n_features)) * 100).astype(dtype)
        for n, dtype in zip((40, 30), types, strict=True)
    )
    written = written_distances(rows, others)
    assert written.tobytes() == plain_distances(rows, others).tobytes()
    exact = np.square(rows[:, None].astype(float) - others).sum(axis=2)
    np.testing.assert_allclose(written, exact, rtol=1e-14)
