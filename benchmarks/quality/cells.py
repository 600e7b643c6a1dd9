"""What is measured: one cell for each set, size, seed and method, section by section."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.agreement import Labels, agreement, n_clusters, stability
from benchmarks.quality.clustering import (
    Metric,
    Scores,
    cluster_rows,
    cluster_scores,
    families_of,
    scores_of,
)
from benchmarks.quality.peers import OURS, PEERS, Level, Peer, Problem, installed, timed
from benchmarks.quality.sets import ImageSet, blobs, labelled_sets, stored_sets, structureless_sets
from benchmarks.quality.touching import touching
from workflow.overcluster import auto_n_centroids

#: What a peer may raise at data or libraries it was not made for; the benchmark goes on.
PEER_ERRORS = (
    ArithmeticError, ImportError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
#: Sets whose quality is drawn against the number of images and of centroids.
CURVES = ("blobs", "mnist")
#: Blobs in the section on noise.
N_NOISY_BLOBS = 20
#: Images above which everything is measured with one seed only.
MANY_IMAGES = 100_000
#: How far scores are moved for the stability over rounding, in their standard deviation.
ROUNDING = 1e-6
#: Sets of a known number of clusters, their first seed, and how often the graph is drawn anew for the interval.
TOUCHING, FIRST_TOUCHING, N_RESAMPLES = "touching", 100, 20
#: How finely a peer may cut: the clusters, or the finest that it tells.
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True)
class Scale:
    """How large the problems are."""

    #: Images of a made set; maximum of a stored set, None for all; copies of MNIST with its deformed images.
    n_made: int
    n_stored: int | None
    n_copies: int
    #: Seeds of every measurement, and of those without structure.
    n_seeds: int
    n_null_seeds: int
    #: Runs that are compared: with moved scores, other seeds, twice as many centroids.  Sets with an interval.
    n_runs: tuple[int, int, int]
    n_intervals: int
    #: Without structure: minimum of images, images per centroid, minimum of centroids even if it takes more images.
    n_null: int
    null_ratios: tuple[int, ...]
    min_null_centroids: int
    #: Blobs in noise.
    noise_dimensions: tuple[int, ...]
    noise_shares: tuple[float, ...]
    #: Numbers on the axes of the curves.
    curve_images: tuple[int, ...]
    curve_centroids: tuple[int, ...]


SCALES = {
    "tiny": Scale(
        1_500, 1_000, 1, 1, 1, (1, 2, 1), 1, 1_500, (10,), 50, (8,), (0.1,), (600, 1_200), (100, 200)
    ),
    "small": Scale(
        20_000, None, 10, 3, 10, (5, 5, 3), 100, 20_000, (10, 100, 1_000), 50,
        (8, 20), (0.05, 0.1, 0.3),
        (1_000, 3_000, 10_000, 30_000), (200, 500, 1_000, 2_000, 4_000),
    ),
    "full": Scale(
        70_000, None, 10, 3, 10, (20, 10, 5), 100, 40_000, (10, 30, 100, 300, 1_000), 100,
        (8, 10, 20, 50), (0.05, 0.1, 0.2, 0.3),
        (1_000, 3_000, 10_000, 30_000, 100_000, 300_000), (250, 500, 1_000, 2_000, 4_000, 8_000),
    ),
}  # fmt: skip


class Cell(NamedTuple):
    """One measurement that can be made: its key, and what makes it."""

    key: dict[str, Any]
    solve: Callable[[], dict[str, Any]]


class Bench:
    """All measurements of one scale; stored sets come from `data`, peers are those installed by default."""

    def __init__(
        self, scale: Scale, data: Path | None = None, methods: list[Peer] | None = None
    ) -> None:
        self.scale = scale
        stored = stored_sets(data, scale.n_copies) if data is not None else {}
        self.labelled = labelled_sets() | stored
        self.structureless = structureless_sets()
        self.noisy = {
            f"blobs-{d}d-noise-{share:.0%}": ImageSet(
                f"blobs-{d}d-noise-{share:.0%}", "", blobs(N_NOISY_BLOBS, d, share)
            )
            for d in scale.noise_dimensions
            for share in scale.noise_shares
        }
        self.touching = ImageSet(TOUCHING, "clusters of a known number, near each other", touching)
        self.methods = installed() if methods is None else methods

    @property
    def sets(self) -> dict[str, ImageSet]:
        """Every set that a section may use."""
        return self.labelled | self.structureless | self.noisy | {TOUCHING: self.touching}

    @property
    def sections(self) -> dict[str, Callable[[], Iterator[Cell]]]:
        """The sections of the page, in its order."""
        return {
            "labelled": lambda: self._by_seed(_whole),
            "families": lambda: self._by_seed(_related),
            "structureless": self._structureless,
            "stability": self._stability,
            "intervals": self._intervals,
            "noise": self._noise,
            "peers": self._peers,
            "metrics": self._metrics,
            "curves": self._curves,
        }

    def _size(self, one: ImageSet) -> int:
        """Return the number of images of a labelled set."""
        return one.size(self.scale.n_made if one.max_images is None else self.scale.n_stored)

    def _by_seed(self, solve: Callable[[ImageSet, int, int], dict[str, Any]]) -> Iterator[Cell]:
        for one in self.labelled.values():
            n = self._size(one)
            for seed in range(self.scale.n_seeds if n <= MANY_IMAGES else 1):
                yield Cell({"set": one.name, "n": n, "seed": seed}, partial(solve, one, n, seed))

    def _structureless(self) -> Iterator[Cell]:
        for one, ratio, seed in product(
            self.structureless.values(), self.scale.null_ratios, range(self.scale.n_null_seeds)
        ):
            n = max(self.scale.n_null, self.scale.min_null_centroids * ratio)
            key = {"set": one.name, "n": n, "ratio": ratio, "seed": seed}
            with_families = ratio == self.scale.null_ratios[0]
            yield Cell(key, partial(_null, one, n, seed, n // ratio, with_families=with_families))

    def _stability(self) -> Iterator[Cell]:
        for one in self.labelled.values():
            n = self._size(one)
            n_runs = self.scale.n_runs if n <= MANY_IMAGES else (1, 2, 1)
            yield Cell({"set": one.name, "n": n}, partial(_stable, one, n, n_runs))

    def _intervals(self) -> Iterator[Cell]:
        one, n = self.touching, self.scale.n_made
        for seed in range(FIRST_TOUCHING, FIRST_TOUCHING + self.scale.n_intervals):
            yield Cell({"set": one.name, "n": n, "seed": seed}, partial(_interval, one, n, seed))

    def _metrics(self) -> Iterator[Cell]:
        for one in self.labelled.values():
            n = self._size(one)
            for metric in get_args(Metric) if n <= MANY_IMAGES else ():
                key = {"set": one.name, "n": n, "metric": metric}
                yield Cell(key, partial(_measured, one, n, metric))

    def _noise(self) -> Iterator[Cell]:
        for one, seed in product(self.noisy.values(), range(self.scale.n_seeds)):
            n = self.scale.n_made
            yield Cell({"set": one.name, "n": n, "seed": seed}, partial(_noisy, one, n, seed))

    def _peers(self) -> Iterator[Cell]:
        for one, level, peer in product(self.labelled.values(), LEVELS, self.methods):
            n = self._size(one)
            # The centroids are coarser than families.
            if level == "families" and (not one.has_sources or peer.given == "ours"):
                continue
            if peer.max_images is None or n <= peer.max_images:
                key = {"set": one.name, "n": n, "level": level, "method": peer.name}
                yield Cell(key, partial(_compared, one, n, level, peer.name))

    def _curves(self) -> Iterator[Cell]:
        for one in (self.labelled[name] for name in CURVES if name in self.labelled):
            sizes = sorted({one.size(n) for n in self.scale.curve_images})
            points = [("n", n, auto_n_centroids(n)) for n in sizes]
            points += [("n_centroids", self._size(one), k) for k in self.scale.curve_centroids]
            for (axis, n, k), seed in product(points, range(self.scale.n_seeds)):
                key = {"set": one.name, "axis": axis, "n": n, "n_centroids": k, "seed": seed}
                yield Cell(key, partial(_curve, one, n, seed, k))


@lru_cache(maxsize=1)
def _scored(one: ImageSet, n: int, seed: int) -> tuple[Scores, NDArray[Any]]:
    """Return scores and truth of a set; the last one is kept for the cells that follow."""
    images, truth = one.make(n, seed)
    return scores_of(images), truth


@lru_cache(maxsize=1)
def _problem(one: ImageSet, n: int) -> Problem:
    """Return what peers solve; the last one is kept for the next of them."""
    return Problem(*_scored(one, n, 0), seed=0)


def _whole(one: ImageSet, n: int, seed: int) -> dict[str, Any]:
    """Time everything from images to labels, and compare the labels with the truth."""
    images, truth = one.make(n, seed)
    started = time.process_time()
    found = cluster_rows(images, seed)
    seconds = time.process_time() - started
    return agreement(truth, found.labels.label) | {
        "seconds": seconds,
        "structure": found.tree.structure,
        "method": found.tree.method,
        "n_centroids": len(found.centroids),
        "n_components": found.centroids.shape[1],
    }


def _related(one: ImageSet, n: int, seed: int) -> dict[str, Any]:
    """Compare families with the truth."""
    scores, truth = _scored(one, n, seed)
    started = time.process_time()
    found = families_of(scores)
    seconds = time.process_time() - started
    return agreement(truth, found.family) | {"seconds": seconds, "families": found.state}


def _null(
    one: ImageSet, n: int, seed: int, n_centroids: int, *, with_families: bool
) -> dict[str, Any]:
    """Say how many clusters, and families, are seen where there is one piece."""
    scores, _ = _scored(one, n, seed)
    found = cluster_scores(scores, seed, n_centroids)
    family = families_of(scores).family if with_families else None
    return {
        "family_share": None if family is None else float((family >= 0).mean()),
        "n_found": n_clusters(found.labels.label),
        "structure": found.tree.structure,
        "method": found.tree.method,
        "noise_share": float((found.labels.label < 0).mean()),
    }


def _stable(one: ImageSet, n: int, n_runs: tuple[int, int, int]) -> dict[str, Any]:
    """Compare labels of the same images: scores moved as by rounding, other seeds, twice as many centroids."""
    scores, truth = _scored(one, n, 0)
    n_roundings, n_seeds, n_finer = n_runs
    n_centroids = auto_n_centroids(n)

    def labels(these: Scores, seed: int, k: int = n_centroids) -> Labels:
        return cluster_scores(these, seed, min(k, n)).labels.label

    seeds = [labels(scores, seed) for seed in range(n_seeds)]
    moved = [seeds[0], *(labels(_moved(scores, draw), 0) for draw in range(n_roundings))]
    finer = [labels(scores, seed, 2 * n_centroids) for seed in range(n_finer)]
    changes = {
        "rounding": (moved, combinations(moved, 2)),
        "seeds": (seeds, combinations(seeds, 2)),
        "centroids": (finer, product(seeds[:n_finer], finer)),
    }
    return {
        change: {
            "n_found": [n_clusters(run) for run in runs],
            "ari": [agreement(truth, run)["ari"] for run in runs],
            "ami": [stability(*pair)["ami"] for pair in pairs],
        }
        for change, (runs, pairs) in changes.items()
    }


def _moved(scores: Scores, draw: int) -> Scores:
    """Return scores with errors as large as those of rounding may become."""
    rng = np.random.default_rng(draw)
    error = ROUNDING * scores.rows.std(axis=0) * rng.standard_normal(scores.rows.shape)
    return Scores((scores.rows + error).astype(np.float32), scores.parts)


def _interval(one: ImageSet, n: int, seed: int) -> dict[str, Any]:
    """Give the interval of the number of clusters."""
    images, truth = one.make(n, seed)
    found = cluster_scores(scores_of(images), n_resamples=N_RESAMPLES)
    low, high = found.tree.n_clusters_interval
    label = found.labels.label
    return {"n_true": n_clusters(truth), "n_found": n_clusters(label), "low": low, "high": high}


def _measured(one: ImageSet, n: int, metric: Metric) -> dict[str, Any]:
    """Compare labels, and families, with distances of another metric with the truth."""
    images, truth = one.make(n, 0)
    scores = scores_of(images, metric)
    family = agreement(truth, families_of(scores).family) if one.has_sources else None
    return agreement(truth, cluster_scores(scores).labels.label) | {"families": family}


def _noisy(one: ImageSet, n: int, seed: int) -> dict[str, Any]:
    """Measure noise that is found, and what becomes of the rest once noise is resolved."""
    scores, truth = _scored(one, n, seed)
    labels = cluster_scores(scores, seed).labels
    resolved = agreement(truth, labels.label_resolved)
    return agreement(truth, labels.label) | {"ari_resolved": resolved["ari"]}


def _compared(one: ImageSet, n: int, level: Level, method: str) -> dict[str, Any]:
    """Time a method from scores to labels; say so where it fails."""
    peer, problem = PEERS[method], _problem(one, n)
    try:
        labels, seconds = timed(peer, problem, level)
    except PEER_ERRORS as err:
        if method == OURS:
            raise
        return {"error": f"{type(err).__name__}: {err}", "versions": peer.versions}
    return agreement(problem.truth, labels) | {"seconds": seconds, "versions": peer.versions}


def _curve(one: ImageSet, n: int, seed: int, n_centroids: int) -> dict[str, Any]:
    """Compare labels from a number of centroids with the truth."""
    scores, truth = _scored(one, n, seed)
    return agreement(truth, cluster_scores(scores, seed, n_centroids).labels.label)


def chosen(cells: Iterator[Cell], sets: tuple[str, ...]) -> Iterator[Cell]:
    """Yield the cells of some sets; of all where none is named."""
    return (cell for cell in cells if not sets or cell.key["set"] in sets)
