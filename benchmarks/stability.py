"""How stable the clusters are, and how often the interval holds the true number of them.

``python -m benchmarks.stability [--data DIR] [--sets A,B] [--made 100] [--first 100]`` prints the tables of
docs/quality.md: over rounding, seeds and twice as many centroids; and over made sets of a known number.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.agreement import agreement, stability
from benchmarks.quality.clustering import Scores, cluster_scores, scores_of
from benchmarks.quality.sets import labelled_sets, stored_sets
from workflow.overcluster import auto_n_centroids

#: Runs of each kind, and how far scores are moved, in their standard deviation.
N_SEEDS, N_ROUNDINGS, N_FINER, ROUNDING = 10, 20, 3, 1e-6
#: Images of a set that is made.
N_MADE = 20_000
#: Sets that are measured unless others are named.
SETS = ("mnist", "digits", "crawlfamilies", "fashion900", "signdigits")
#: Made sets: dimensions, clusters, images; standard deviations between skeletons of two clusters.
DIMENSIONS, CLUSTERS, IMAGES, APART = (2, 30), (5, 60), (10_000, 20_000), (3.8, 7.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of .npz files with images and labels")
    parser.add_argument("--sets", default=",".join(SETS), help="sets, with commas between")
    parser.add_argument("--made", type=int, default=100, help="made sets of a known number")
    parser.add_argument("--first", type=int, default=100, help="seed of the first of them")
    given = parser.parse_args()
    sets = labelled_sets() | (stored_sets(given.data, 1) if given.data else {})
    print("| set | runs | found | ARI | AMI of two, smallest and median |")
    print("| --- | --- | --- | --- | --- |")
    for name in given.sets.split(","):
        if name in sets:
            one = sets[name]
            images, truth = one.make(one.max_images or N_MADE, 0)
            for line in stable(scores_of(images), truth):
                print(f"| {name} | {line} |", flush=True)
    print(coverage(range(given.first, given.first + given.made)))


def stable(scores: Scores, truth: NDArray[np.integer]) -> Iterator[str]:
    """Yield a row of the table for rounding, seeds and twice as many centroids."""
    n_centroids = auto_n_centroids(len(scores.rows))
    finer = min(2 * n_centroids, len(scores.rows))
    rounded = [_cluster(_moved(scores, draw), 0, n_centroids) for draw in range(N_ROUNDINGS)]
    yield f"{N_ROUNDINGS} roundings | " + _row(rounded, itertools.pairwise(rounded), truth)
    by_seed = [_cluster(scores, seed, n_centroids) for seed in range(N_SEEDS)]
    pairs = zip(by_seed, by_seed[1:] + by_seed[:1], strict=True)
    yield f"{N_SEEDS} seeds | " + _row(by_seed, pairs, truth)
    more = [_cluster(scores, seed, finer) for seed in range(N_FINER)]
    yield f"{finer:,} centroids for {n_centroids:,} | " + _row(
        more, zip(by_seed, more, strict=False), truth
    )


def coverage(seeds: range) -> str:
    """Return how many intervals hold the true number, and how wide they are."""
    held, widths = [], []
    for seed in seeds:
        rows, truth = made(seed)
        tree = cluster_scores(scores_of(rows), n_resamples=20).tree
        low, high = tree.n_clusters_interval
        n_true = int(truth.max()) + 1
        held.append(low <= n_true <= high)
        widths.append((high - low) / n_true)
    return f"\n{sum(held)} of {len(held)} intervals hold the true number; median width {np.median(widths):.2f} of it"


def made(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Make clusters of unequal sizes and widths around points, lines and arcs, each near another one; rows and truth."""
    rng = np.random.default_rng([7, seed])
    dimension, n_clusters = (
        int(np.rint(np.exp(rng.uniform(*np.log(bounds))))) for bounds in (DIMENSIONS, CLUSTERS)
    )
    n_images, apart = int(rng.integers(IMAGES[0], IMAGES[1] + 1)), rng.uniform(*APART)
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


def _moved(scores: Scores, draw: int) -> Scores:
    """Return scores with errors as large as those of rounding may become."""
    rng = np.random.default_rng(draw)
    error = ROUNDING * scores.rows.std(axis=0) * rng.standard_normal(scores.rows.shape)
    return Scores((scores.rows + error).astype(np.float32), scores.parts)


def _cluster(scores: Scores, seed: int, n_centroids: int) -> NDArray[np.int32]:
    """Return the labels of the images."""
    return cluster_scores(scores, seed, n_centroids).labels.label


def _row(runs, pairs, truth) -> str:
    """Return numbers found, ARI to the truth, and the smallest and median AMI of pairs of runs."""
    found = [int(labels.max()) + 1 for labels in runs]
    aris = [agreement(truth, labels)["ari"] for labels in runs]
    amis = [stability(*pair)["ami"] for pair in pairs]
    numbers = f"{min(found)}" if min(found) == max(found) else f"{min(found)} to {max(found)}"
    return (
        f"{numbers} | {min(aris):.3f} to {max(aris):.3f} | {min(amis):.3f}, {np.median(amis):.3f}"
    )


if __name__ == "__main__":
    main()
