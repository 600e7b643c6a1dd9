"""Neighbours by comparing all with all, and clouds with and without sources."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors


def neighbors_of(rows, k=15):
    """Index and distance of the nearest neighbours by (distance, index), -1 and inf where missing."""
    n = len(rows)
    index, distance = np.full((n, k), -1, np.int32), np.full((n, k), np.inf, np.float32)
    n_wanted = min(k + 1, n)
    found = NearestNeighbors(n_neighbors=n_wanted, algorithm="brute").fit(rows)
    lengths, columns = found.kneighbors(rows)
    for i in range(n):
        others = columns[i] != i
        ends, ways = columns[i][others][:k], lengths[i][others][:k].astype(np.float32)
        order = np.lexsort((ends, ways))
        index[i, : len(ends)], distance[i, : len(ends)] = ends[order], ways[order]
    return index, distance


def reader(rows):
    """Return what reads some rows."""
    return lambda chosen: rows[chosen]


def sources(n_sources=40, per_source=30, n_single=1500, dimension=5, width=0.03, seed=0):
    """Sources of images in a smooth cloud of lone ones (-1), in an order of their own."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((n_sources, dimension))
    rows = np.repeat(centers, per_source, axis=0)
    rows = rows + width * rng.standard_normal(rows.shape)
    rows = np.concatenate([rows, rng.standard_normal((n_single, dimension))])
    source = np.concatenate([np.repeat(np.arange(n_sources), per_source), np.full(n_single, -1)])
    order = rng.permutation(len(rows))
    return rows[order].astype(np.float32), source[order]


def structureless(kind, n, dimension, seed):
    """Return a cloud without sources."""
    rng = np.random.default_rng([seed, dimension])
    rows = rng.standard_normal((n, dimension))
    thin = 0.02 * rows
    along = rng.random(n)
    if kind == "uniform":
        rows = rng.random((n, dimension))
    elif kind == "student":
        rows /= np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    elif kind == "ring":
        rows = thin
        rows[:, 0] += np.cos(2 * np.pi * along)
        rows[:, 1] += np.sin(2 * np.pi * along)
    elif kind == "roll":
        rows = np.pad(thin, ((0, 0), (0, max(0, 3 - dimension))))
        angle = 1.5 * np.pi * (1 + 2 * along)
        rows[:, 0] += angle * np.cos(angle) / 10
        rows[:, 1] += angle * np.sin(angle) / 10
        rows[:, 2] += rng.random(n)
    elif kind == "filament":
        rows = thin
        rows[:, 0] += 4 * along
    elif kind == "stretched":
        rows *= np.geomspace(3, 0.1, dimension)
    elif kind == "sphere":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    elif kind == "faces":
        rows = rng.random((n, dimension))
        rows[np.arange(n), rng.integers(0, dimension, n)] = rng.integers(0, 2, n)
    elif kind == "exponential":
        rows = rng.exponential(size=(n, dimension))
    return rows.astype(np.float32)


KINDS = (
    "normal",
    "uniform",
    "student",
    "ring",
    "roll",
    "filament",
    "stretched",
    "sphere",
    "faces",
    "exponential",
)
