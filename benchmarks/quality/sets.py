"""The problems of the quality benchmark: sets of images whose clusters are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform
from sklearn.datasets import load_digits, make_circles, make_moons

from benchmarks.internals import EDGE, STEP_SD, UNIT, ZOOM, Films, photographs, show_frames
from workflow.ingest import DemoSource
from workflow.rng import generator

#: Truth of an image that belongs to no cluster.
NOISE = -1
#: Centres to choose the next one from: the one farthest from all others is taken.
N_CANDIDATES = 64
#: Gap between blobs in sums of their widths: so much, and so much for each root of a dimension.
GAP, GAP_PER_ROOT = 4.0, 0.4
#: Minimum of images in a blob; there are fewer blobs where there are not enough images.
MIN_BLOB = 40
#: Images of a source that drifts: logarithm of their number, its standard deviation, bounds; share of lone images.
TRACK_MEAN, TRACK_SD, TRACK_BOUNDS, LONE_SHARE = 3.2, 0.6, (8, 120), 0.23
#: Images that are shown at once.
SHOWN_ROWS = 4_096
#: Mean size of true groups up to which they are taken for sources: families are looked for, not clusters.
MAX_SOURCE = 50
#: Stored sets that the page names as left out when they are not given.
KNOWN_FILES = ("crawlfamilies", "fashion900", "mnist", "signdigits")
#: The set that others are made from by deforming its images.
DEFORMED_FROM = "mnist"
#: Standard deviations of a deformation: angle [rad], scale, shear, shift [pixel].
ANGLE, STRETCH, SHEAR, SHIFT = 0.12, 0.08, 0.08, 0.7


@dataclass(frozen=True)
class ImageSet:
    """A labelled set of images, made or read when it is used."""

    name: str
    what: str
    #: ``make(n, seed)`` gives rows of shape (n, ...) and the truth of shape (n,), `NOISE` for images of no cluster.
    make: Callable[[int, int], tuple[NDArray[Any], NDArray[np.integer[Any]]]]
    #: Images there are; None where any number can be made.
    max_images: int | None = None
    #: Whether the truth is the source of each image, so that families are compared with it, too.
    has_sources: bool = False

    def size(self, n_wanted: int | None) -> int:
        """Return the number of images that a wanted number gives; None means all that are stored."""
        if self.max_images is None:
            if n_wanted is None:
                msg = f"a made set needs a number of images; got none for {self.name}. Give one."
                raise ValueError(msg)
            return n_wanted
        return self.max_images if n_wanted is None else min(n_wanted, self.max_images)


def labelled_sets() -> dict[str, ImageSet]:
    """Return the labelled sets that need no file: made ones, the demo's, scikit-learn's digits."""
    found = [
        ImageSet("blobs", "20 blobs in 20 d, 5 % noise", blobs(20, 20, 0.05)),
        ImageSet("blobs-many", "100 blobs in 20 d, 5 % noise", blobs(100, 20, 0.05)),
        ImageSet("blobs-noisy", "30 blobs in 10 d, 25 % noise", blobs(30, 10, 0.25)),
        ImageSet("blobs-flat", "12 blobs in 2 d, 5 % noise", blobs(12, 2, 0.05)),
        ImageSet("moons", "two half moons, blurred", partial(_planar, make_moons, {"noise": 0.05})),
        ImageSet(
            "circles",
            "two circles, one inside the other",
            partial(_planar, make_circles, {"noise": 0.03, "factor": 0.5}),
        ),
        ImageSet("demo", "the images of the demo, clutter among them", _demo),
        ImageSet(
            "tracks",
            "windows of photographs: sources that drift, 23 % lone ones",
            _tracks,
            has_sources=True,
        ),
        ImageSet("digits", "scikit-learn's handwritten digits, 8 x 8", _digits, max_images=1_797),
    ]
    return {one.name: one for one in found}


def stored_sets(folder: Path, n_copies: int) -> dict[str, ImageSet]:
    """Return the sets of a folder of ``.npz`` files, and one made of deformed copies of them.

    A file holds ``labels`` and ``images`` (or ``vectors``); where it holds
    ``native``, the images before they were brought to another size, these are taken.
    """
    found = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as arrays:
            n_images, n_true = len(arrays["labels"]), len(np.unique(arrays["labels"]))
        found[path.stem] = ImageSet(
            path.stem,
            f"{n_images:,} stored images",
            partial(_stored, path),
            max_images=n_images,
            has_sources=n_images <= MAX_SOURCE * n_true,
        )
    source = found.get(DEFORMED_FROM)
    if source is not None and source.max_images is not None and n_copies > 1:
        name = f"{DEFORMED_FROM}-deformed"
        found[name] = ImageSet(
            name,
            f"{DEFORMED_FROM} and {n_copies - 1} affine deformations of each image",
            partial(_deformed, folder / f"{DEFORMED_FROM}.npz", n_copies),
            max_images=n_copies * source.max_images,
        )
    return found


def structureless_sets() -> dict[str, ImageSet]:
    """Return connected sets: there is nothing to split."""
    one: list[tuple[str, str, Callable[..., Any]]] = [
        *((f"gaussian-{d}d", f"Gaussian in {d} d", partial(_gaussian, d)) for d in (2, 5, 10, 20, 50)),
        ("gaussian-stretched", "Gaussian in 50 d, widths from 3 to 0.1", _stretched),
        *((f"uniform-{d}d", f"uniform cube in {d} d", partial(_uniform, d)) for d in (2, 10, 30)),
        ("student-10d", "Student t with 4 degrees of freedom in 10 d", _student),
        ("sphere", "shell of a sphere in 10 d", _sphere),
        ("ring", "thin ring", _ring),
        ("filament", "thin straight filament", _filament),
        ("swiss-roll", "Swiss roll", _swiss_roll),
        ("gradient-2d", "density falling 100-fold, 2 d", partial(_gradient, 2)),
        ("gradient-10d", "density falling 100-fold, 10 d", partial(_gradient, 10)),
    ]  # fmt: skip
    return {name: ImageSet(name, what, partial(_one_piece, draw)) for name, what, draw in one}


def blobs(
    n_clusters: int, dimension: int, noise: float
) -> Callable[[int, int], tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Return a maker of separated Gaussian blobs in uniform noise.

    Widths differ up to threefold, sizes fall as a power of the rank, and
    the gap between two blobs is at least four times the sum of their widths.
    """
    return partial(_blobs, n_clusters, dimension, noise)


def _blobs(
    n_clusters: int, dimension: int, noise: float, n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = generator(seed, "quality/blobs")
    n_clusters = max(2, min(n_clusters, int(n * (1 - noise)) // MIN_BLOB))
    width = rng.uniform(0.3, 0.9, n_clusters)
    center = _spread_centers(n_clusters, dimension, rng)
    apart = np.linalg.norm(center[:, None] - center[None], axis=2)
    wanted = (GAP + GAP_PER_ROOT * np.sqrt(dimension)) * (width[:, None] + width[None])
    pair = np.triu_indices(n_clusters, 1)
    center *= (wanted[pair] / apart[pair]).max()
    n_noise = round(n * noise)
    floor = min(MIN_BLOB / (n - n_noise), 1 / n_clusters)
    share = np.arange(1, n_clusters + 1) ** -0.8
    share = floor + (1 - n_clusters * floor) * share / share.sum()
    truth = np.full(n, NOISE, np.int64)
    truth[n_noise:] = rng.choice(n_clusters, n - n_noise, p=share / share.sum())
    # Shuffled: what stands first must not be noise.
    truth = truth[rng.permutation(n)]
    rows = center[truth] + rng.standard_normal((n, dimension)) * width[truth][:, None]
    low, high = center.min(axis=0) - 2, center.max(axis=0) + 2
    rows[truth == NOISE] = rng.uniform(low, high, (n_noise, dimension))
    return rows.astype(np.float32), truth


def _spread_centers(
    n_centers: int, dimension: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draw centres from a cube one by one, each the candidate farthest from those before it."""
    center = rng.uniform(-1, 1, (1, dimension))
    while len(center) < n_centers:
        candidate = rng.uniform(-1, 1, (N_CANDIDATES, dimension))
        gap = np.linalg.norm(candidate[:, None] - center[None], axis=2).min(axis=1)
        center = np.vstack([center, candidate[gap.argmax()]])
    return center


def _planar(
    make: Callable[..., Any], how: dict[str, float], n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rows, truth = make(n, random_state=seed, **how)
    return rows.astype(np.float32), truth


def _demo(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    source = DemoSource(n, seed=seed)
    return source.read(0, n).reshape(n, *source.image_shape), source.truth(0, n)


def _tracks(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Make windows of photographs that drift, turn and change in brightness as frames of a film do, and lone ones."""
    rng = generator(seed, "quality/tracks")
    n_lone = round(LONE_SHARE * n)
    size = np.clip(rng.lognormal(TRACK_MEAN, TRACK_SD, n // TRACK_BOUNDS[0] + 1), *TRACK_BOUNDS)
    source = np.repeat(np.arange(len(size)), size.astype(int))[: n - n_lone]
    truth = np.concatenate([source, np.full(n_lone, NOISE)])
    # Each lone window is a beginning, too.
    first = np.concatenate([np.unique(source, return_index=True)[1], np.arange(n - n_lone, n)])
    film = np.repeat(np.arange(len(first)), np.diff(first, append=n))
    walk = np.cumsum(rng.standard_normal((n, len(STEP_SD))) * STEP_SD, axis=0)
    walk -= walk[first][film]
    photograph = rng.integers(len(photographs()), size=len(first))
    edges = np.array([picture.shape[:2] for picture in photographs()])[photograph] - EDGE
    middle = rng.uniform(EDGE, edges)[film] + walk[:, :2]
    zoom = rng.uniform(*ZOOM, len(first))[film] * np.exp(walk[:, 2])
    turn, gain = walk[:, 4], np.exp(walk[:, 3])
    state = np.column_stack([middle, zoom * np.cos(turn), zoom * np.sin(turn), gain])
    pose = np.rint(state * UNIT).astype(np.int64)
    frames = Films(np.arange(n), film.astype(np.int32), photograph[film], pose)
    images = np.concatenate(
        [show_frames(frames.within(k, k + SHOWN_ROWS), rng) for k in range(0, n, SHOWN_ROWS)]
    )
    order = rng.permutation(n)
    return images[order], truth[order]


def _digits(n: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images, truth = load_digits(return_X_y=True)
    return _some(images.astype(np.uint8), truth, n, seed)


def _stored(path: Path, n: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return _some(*_read(path), n, seed)


@lru_cache(maxsize=1)
def _read(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read images and labels of a file."""
    with np.load(path) as arrays:
        names = [name for name in ("native", "images", "vectors") if name in arrays.files]
        if not names or "labels" not in arrays.files:
            msg = f"a set must hold `labels` and `images` or `vectors`; {path.name} holds {', '.join(arrays.files)}. Name its arrays so."
            raise ValueError(msg)
        return arrays[names[0]], arrays["labels"]


def _some(
    images: NDArray[Any], truth: NDArray[Any], n: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Draw some of the images; all of them stay in their order."""
    if n >= len(images):
        return images, truth
    kept = np.sort(generator(seed, "quality/some").choice(len(images), n, replace=False))
    return images[kept], truth[kept]


def _deformed(
    path: Path, n_copies: int, n: int, seed: int
) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    images, truth = _read(path)
    rng = generator(seed, "quality/deformed")
    copies = [images] + [_deform(images, rng) for _ in range(n_copies - 1)]
    return _some(np.concatenate(copies), np.tile(truth, n_copies), n, seed)


def _deform(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, stretch, shear and shift each image a little, about its middle."""
    made = np.empty_like(images)
    middle = (np.array(images.shape[1:3]) - 1) / 2
    for index, image in enumerate(images):
        angle, shear = rng.normal(0, ANGLE), rng.normal(0, SHEAR)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag(1 + rng.normal(0, STRETCH, 2)) @ np.array([[1, shear], [0, 1]])
        offset = middle - matrix @ middle + rng.normal(0, SHIFT, 2)
        made[index] = affine_transform(image, matrix, offset=offset, order=1)
    return made


def _one_piece(
    draw: Callable[[int, np.random.Generator], NDArray[np.float64]], n: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    return draw(n, generator(seed, "quality/one-piece")).astype(np.float32), np.zeros(n, np.int64)


def _gaussian(dimension: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.standard_normal((n, dimension))


def _stretched(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.standard_normal((n, 50)) * np.geomspace(3, 0.1, 50)


def _uniform(dimension: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.random((n, dimension))


def _student(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    # One length for all coordinates of a row: round, as the multivariate t is.
    return rng.standard_normal((n, 10)) / np.sqrt(rng.chisquare(4, (n, 1)) / 4)


def _sphere(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rows = rng.standard_normal((n, 10))
    length = 1 + 0.05 * rng.standard_normal((n, 1))
    rows *= length / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def _thickened(curve: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Give a curve in a few of 10 dimensions a round section of width 0.02."""
    rows = 0.02 * rng.standard_normal((len(curve), 10))
    rows[:, : curve.shape[1]] += curve
    return rows


def _ring(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    angle = 2 * np.pi * rng.random(n)
    return _thickened(np.stack([np.cos(angle), np.sin(angle)], axis=1), rng)


def _filament(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return _thickened(4 * rng.random((n, 1)), rng)


def _swiss_roll(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    angle = 1.5 * np.pi * (1 + 2 * rng.random(n))
    roll = np.stack([angle * np.cos(angle), angle * np.sin(angle), 10 * rng.random(n)], axis=1)
    return _thickened(roll / 10, rng)


def _gradient(dimension: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    rows = rng.random((n, dimension))
    # Density 100**x on [0, 1], by the inverse of its integral.
    rows[:, 0] = np.log1p(99 * rows[:, 0]) / np.log(100)
    return rows
