"""Images made from what scikit-learn ships, with a truth that is known: a source for `ingest`.

An image shows one of `N_SOURCES` sources, shifted by less than a pixel,
brightened, tinted and noisy; a few are clutter that belongs to none.  The
sources are windows of two photographs and handwritten digits in colours, of
very unequal frequency.

Some are frames of films, which no source shows: windows that drift over the
photographs (`workflow.ingest.demo_films`).  For the photographs, see
`workflow.ingest.photographs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workflow.ingest._demo_kernels import show_sources
from workflow.ingest.demo_films import Films, film_count, plan_films, show_frames
from workflow.ingest.photographs import datasets, photographs
from workflow.rng import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that are always made together: any range of rows gives the same images.
BLOCK_ROWS = 4_096
N_WINDOWS, N_GLYPHS = 24, 12
N_SOURCES = N_WINDOWS + N_GLYPHS
SIDE, N_CHANNELS = 16, 3
N_FEATURES = SIDE * SIDE * N_CHANNELS
#: Share of images that belong to no source.
CLUTTER_SHARE = 0.04
#: Frequency of the k-th source is k to this power; the last one has about 0.3 % of the images.
POWER = -1.3
#: Photographs are shrunk by this before windows are cut, so that a window shows something.
SHRINK = 3
#: Standard deviations of shift [pixel], gain [1], brightness and tint [pixel value].
SHIFT_SD, GAIN_SD, BRIGHTNESS_SD, TINT_SD = 0.3, 0.08, 7.0, 3.0
#: Shifts are in sixteenths of a pixel and gains in 64ths: integers that float32 sums exactly, in any order.
SHIFT_UNIT, GAIN_UNIT = 16, 64
#: Noise is cut out of a strip of so many values.
NOISE_VALUES = 1 << 20


@dataclass(frozen=True, slots=True)
class DemoSource:
    """Images that are made where they are read; a `Source`.

    Parameters
    ----------
    n_images : int
        How many; the first ones are the same for any number, but for the films.
    seed : int
        Another seed draws other images of the same sources.

    Notes
    -----
    Made in blocks of `BLOCK_ROWS` from (seed, block), with sums that float32
    holds exactly: the same images for any cutting, worker and BLAS.
    """

    name: ClassVar[str] = "the demo images"
    n_images: int = 200_000
    seed: int = 0

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return self.n_images

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        return (SIDE, SIDE, N_CHANNELS)

    @property
    def n_features(self) -> int:
        """Numbers in one image."""
        return N_FEATURES

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(np.uint8)

    @property
    def n_sources(self) -> int:
        """Number of sources; clutter and films are none."""
        return N_SOURCES

    @property
    def n_films(self) -> int:
        """Number of films."""
        return film_count(self.n_images)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the images are made from."""
        return {"kind": "demo", "version": 2, "n_images": self.n_images, "seed": self.seed}

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Make images `start` to `stop` as rows, of shape (stop - start, 768)."""
        images = np.empty((stop - start, N_FEATURES), np.uint8)
        for block in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            first, last = _overlap(block, start, stop)
            made = _make_block(self.seed, block)
            origin = block * BLOCK_ROWS
            images[first - start : last - start] = made[first - origin : last - origin]
            frames = self._frames(block)
            here = (frames.row >= first) & (frames.row < last)
            if here.any():
                rng = generator(self.seed, "demo/frame", block)
                images[frames.row[here] - start] = show_frames(frames, rng)[here]
        return images

    def film(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the film of images `start` to `stop`.

        Parameters
        ----------
        start, stop : int
            First image, and the one after the last.

        Returns
        -------
        int32 array of shape (stop - start,)
            Number of the film that each is a frame of; -1 for none.
        """
        frames = plan_films(self.n_images, self.seed).within(start, stop)
        found = np.full(stop - start, -1, np.int32)
        found[frames.row - start] = frames.film
        return found

    def _frames(self, block: int) -> Films:
        """Return the frames of a block."""
        films = plan_films(self.n_images, self.seed)
        return films.within(block * BLOCK_ROWS, (block + 1) * BLOCK_ROWS)

    def truth(self, start: int, stop: int) -> NDArray[np.int32]:
        """Return the source of images `start` to `stop`; -1 for clutter and frames of films.

        Parameters
        ----------
        start, stop : int
            First image, and the one after the last.

        Returns
        -------
        int32 array of shape (stop - start,)
            Number of the source that each was made from.
        """
        labels = np.empty(stop - start, np.int32)
        for block in range(start // BLOCK_ROWS, -(-stop // BLOCK_ROWS)):
            first, last = _overlap(block, start, stop)
            origin = block * BLOCK_ROWS
            drawn = _draw_labels(self.seed, block)
            labels[first - start : last - start] = drawn[first - origin : last - origin]
        labels[plan_films(self.n_images, self.seed).within(start, stop).row - start] = -1
        return labels


def _overlap(block: int, start: int, stop: int) -> tuple[int, int]:
    """Return the rows of a block that are asked for."""
    return max(start, block * BLOCK_ROWS), min(stop, (block + 1) * BLOCK_ROWS)


def _draw_labels(seed: int, block: int) -> NDArray[np.int32]:
    """Return the sources of a block; their numbers are not in the order of their frequency."""
    frequency = np.arange(1, N_SOURCES + 1, dtype=np.float64) ** POWER
    cumulated = np.cumsum(frequency) / frequency.sum() * (1 - CLUTTER_SHARE)
    drawn = generator(seed, "demo/source", block).random(BLOCK_ROWS)
    rank = np.searchsorted(cumulated, drawn, side="right")
    # Windows and digits are found among the frequent and the rare ones alike.
    source_of_rank = np.append(generator(0, "demo/rank").permutation(N_SOURCES), -1)
    return source_of_rank[rank].astype(np.int32)


@lru_cache(maxsize=1)
def _make_block(seed: int, block: int) -> NDArray[np.uint8]:
    """Return the images of a block as rows; not to be written to."""
    labels = _draw_labels(seed, block)
    rng = generator(seed, "demo/image", block)
    weights = _shift_weights(rng)
    gain = _clipped(rng, GAIN_SD, BLOCK_ROWS) + 1
    weights *= np.rint(gain * GAIN_UNIT)[:, None].astype(np.float32)
    weights /= SHIFT_UNIT**2 * GAIN_UNIT
    brightness = _clipped(rng, BRIGHTNESS_SD, (BLOCK_ROWS, 1)) + 128 * (1 - gain[:, None])
    colour = np.rint(brightness + _clipped(rng, TINT_SD, (BLOCK_ROWS, N_CHANNELS)))
    place = rng.integers(NOISE_VALUES - N_FEATURES, size=BLOCK_ROWS)
    images = np.empty((BLOCK_ROWS, N_FEATURES), np.uint8)
    colour = colour.astype(np.float32)
    show_sources(labels, weights, _shifted_sources(), _noise(), place, colour, images)
    clutter = np.flatnonzero(labels < 0)
    images[clutter] = _clutter(rng, len(clutter))
    images.flags.writeable = False
    return images


def _clipped(rng: np.random.Generator, sd: float, shape: Any) -> NDArray[np.float64]:
    """Draw from a normal distribution cut at two and a half standard deviations."""
    drawn: NDArray[np.float64] = np.clip(rng.standard_normal(shape), -2.5, 2.5) * sd
    return drawn


def _shift_weights(rng: np.random.Generator) -> NDArray[np.float32]:
    """Return how much of each of the nine whole shifts an image has, in units of SHIFT_UNIT**2.

    Shifts between whole pixels are linear interpolations; with whole shifts
    alone a source would fall into nine heaps.
    """
    shift = np.rint(_clipped(rng, SHIFT_SD, (BLOCK_ROWS, 2)) * SHIFT_UNIT)
    before, after = np.clip(-shift, 0, None), np.clip(shift, 0, None)
    parts = np.stack([before, SHIFT_UNIT - before - after, after], axis=2)
    products = parts[:, 0, :, None] * parts[:, 1, None, :]
    weights: NDArray[np.float32] = products.reshape(BLOCK_ROWS, 9).astype(np.float32)
    return weights


@lru_cache(maxsize=1)
def _noise() -> NDArray[np.float32]:
    """Return a strip of whole-numbered noise, standard deviation about 7."""
    drawn = generator(0, "demo/noise").integers(-6, 7, size=(4, NOISE_VALUES), dtype=np.int8)
    strip: NDArray[np.float32] = drawn.sum(axis=0, dtype=np.int8).astype(np.float32)
    return strip


@lru_cache(maxsize=1)
def _shifted_sources() -> NDArray[np.float32]:
    """Return the sources in nine whole shifts, of shape (N_SOURCES, 9, N_FEATURES), whole numbers."""
    wide = np.concatenate([_windows(), _glyphs()])
    shifted = [
        wide[:, y : y + SIDE, x : x + SIDE].reshape(N_SOURCES, 1, -1)
        for y in range(3)
        for x in range(3)
    ]
    return np.concatenate(shifted, axis=1).astype(np.float32)


def _windows() -> NDArray[np.uint8]:
    """Return windows of the photographs, a pixel wider on each side, far apart from each other."""
    wide = SIDE + 2
    candidates = []
    for photograph in photographs():
        height, width = (n // SHRINK * SHRINK for n in photograph.shape[:2])
        cells = photograph[:height, :width].astype(np.int64)
        cells = cells.reshape(height // SHRINK, SHRINK, width // SHRINK, SHRINK, N_CHANNELS)
        small = (cells.sum(axis=(1, 3)) // SHRINK**2).astype(np.uint8)
        views = np.lib.stride_tricks.sliding_window_view(small, (wide, wide), axis=(0, 1))
        views = views[::4, ::4].transpose(0, 1, 3, 4, 2)
        candidates.append(views.reshape(-1, wide, wide, N_CHANNELS))
    windows = np.concatenate(candidates)
    flat = windows.reshape(len(windows), -1).astype(np.int64)
    # Sky and out-of-focus ground are all alike: brightened, one is as good as another.
    contrast = flat.std(axis=1)
    flat, windows = flat[contrast > 30], windows[contrast > 30]
    chosen = [int(flat.std(axis=1).argmax())]
    nearest = ((flat - flat[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < N_WINDOWS:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, ((flat - flat[chosen[-1]]) ** 2).sum(axis=1))
    return np.asarray(windows[chosen])


def _glyphs() -> NDArray[np.uint8]:
    """Return handwritten digits, coloured, on coloured ground, a pixel wider on each side."""
    digits = datasets().load_digits()
    palette = generator(0, "demo/palette").permutation(
        np.array(
            [(r, g, b) for r in (30, 130, 230) for g in (30, 130, 230) for b in (30, 130, 230)]
        )
    )
    glyphs = []
    for index in range(N_GLYPHS):
        drawn = digits.images[np.flatnonzero(digits.target == index % 10)[index]]
        ink = np.pad(np.kron(drawn, np.ones((2, 2))), 1)[..., None] / 16
        ground, colour = palette[2 * index], palette[2 * index + 1]
        glyphs.append(np.rint(ground + ink * (colour - ground)))
    return np.stack(glyphs).astype(np.uint8)


def _clutter(rng: np.random.Generator, n_images: int) -> NDArray[np.uint8]:
    """Return images that belong to no source, spread so widely that they are no cluster.

    Random places of the photographs, turned over and in other colours, mixed
    with fields of random colour.  Plain noise would not do: on the principal
    components all of it is one point.
    """
    fields = rng.integers(0, 256, size=(n_images, 4, 4, N_CHANNELS)).astype(np.float32)
    rise = np.linspace(0, 3, SIDE)
    spread = np.clip(1 - abs(rise[:, None] - np.arange(4)), 0, 1)
    spread = np.rint(spread * SHIFT_UNIT).astype(np.float32)
    fields = np.einsum("yi,xj,nijc->nyxc", spread, spread, fields, optimize=True) / SHIFT_UNIT**2
    patches = np.empty((n_images, SIDE, SIDE, N_CHANNELS), np.float32)
    pictures = photographs()
    for index in range(n_images):
        photograph = pictures[rng.integers(len(pictures))]
        step = int(rng.integers(1, 6))
        y, x = (int(rng.integers(n - step * SIDE)) for n in photograph.shape[:2])
        patch = photograph[y : y + step * SIDE : step, x : x + step * SIDE : step]
        flip = rng.choice([-1, 1], size=2)
        patches[index] = patch[:: flip[0], :: flip[1], rng.permutation(N_CHANNELS)]
    share = rng.integers(4, 9, size=(n_images, 1, 1, 1)).astype(np.float32) / 8
    mixed = patches * (1 - share) + fields * share
    images: NDArray[np.uint8] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return images.reshape(n_images, N_FEATURES)
