"""Sets of a known number of clusters, each near another, to see whether an interval holds the number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Dimensions, clusters, standard deviations between the skeletons of two clusters.
DIMENSIONS, CLUSTERS, APART = (2, 30), (5, 60), (3.8, 7.0)


def touching(n: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make clusters of unequal sizes and widths around points, lines and arcs, each near another one.

    Their number is drawn, and that of the images, between half of `n` and `n`.
    """
    rng = np.random.default_rng([7, seed])
    dimension, n_clusters = (
        int(np.rint(np.exp(rng.uniform(*np.log(bounds))))) for bounds in (DIMENSIONS, CLUSTERS)
    )
    n_images, apart = int(rng.integers(n // 2, n + 1)), rng.uniform(*APART)
    kinds = {"round": ["point"], "curved": ["line", "arc"], "mixed": ["point", "line", "arc"]}
    kind = kinds[str(rng.choice(list(kinds)))]
    width = rng.uniform(0.6, 1.4, n_clusters)
    share = np.maximum(
        rng.dirichlet(np.full(n_clusters, rng.choice([1.0, 3.0, 10.0]))), 0.3 / n_clusters
    )
    truth = rng.choice(n_clusters, n_images, p=share / share.sum())
    skeletons: list[NDArray[np.float64]] = []
    for cluster in range(n_clusters):
        shape = _skeleton(rng, str(rng.choice(kind)), dimension, width[cluster])
        skeletons.append(_placed(rng, shape, skeletons, width, apart))
    rows = width[truth, None] * rng.standard_normal((n_images, dimension))
    for cluster, points in enumerate(skeletons):
        member = np.flatnonzero(truth == cluster)
        place = rng.random(len(member)) * (len(points) - 1)
        before = place.astype(int)
        rest = (place - before)[:, None]
        after = np.minimum(before + 1, len(points) - 1)
        rows[member] += points[before] * (1 - rest) + points[after] * rest
    return rows.astype(np.float32), truth


def _skeleton(
    rng: np.random.Generator, kind: str, dimension: int, width: float
) -> NDArray[np.float64]:
    """Return points that the images of a cluster lie around, their middle at the origin."""
    if kind == "point":
        return np.zeros((1, dimension))
    one, two = np.linalg.qr(rng.standard_normal((dimension, 2)))[0].T
    if kind == "line":
        return np.linspace(-1, 1, 21)[:, None] * one * width * rng.uniform(2, 5)
    angle = np.linspace(0, rng.uniform(1.5, 3.5), 31)[:, None]
    points = width * rng.uniform(3, 6) * (np.cos(angle) * one + np.sin(angle) * two)
    return np.asarray(points - points.mean(axis=0))


def _placed(
    rng: np.random.Generator,
    shape: NDArray[np.float64],
    others: list[NDArray[np.float64]],
    width: NDArray[np.float64],
    apart: float,
) -> NDArray[np.float64]:
    """Return a skeleton moved next to one of the others, no nearer to any than `apart` mean widths."""
    own = width[len(others)]
    farther = 0.0
    while others:
        near = others[rng.integers(len(others))]
        direction = rng.standard_normal(shape.shape[1])
        direction /= np.linalg.norm(direction)
        farther += 0.02
        step = apart * own * (1.2 + farther * rng.random()) + np.abs(shape).max()
        points = shape + near[rng.integers(len(near))] + direction * step
        gaps = [np.linalg.norm(points[:, None] - other, axis=2).min() for other in others]
        if all(
            gap >= apart * (own + its) / 2
            for gap, its in zip(gaps, width[: len(others)], strict=True)
        ):
            return points
    return shape
