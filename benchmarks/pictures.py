"""Images in which bounds rule out little: noise in every pixel, and windows of photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.internals import EDGE, UNIT, ZOOM, Films, photographs, show_frames
from workflow.rng import generator

#: Images made at a time.
BATCH = 20_000
#: Sources of the smooth images, how smooth [pixel], their contrast and the noise of a pixel.
N_SOURCES, SMOOTH, CONTRAST, PIXEL_NOISE = 300, 2.0, 40.0, 12.0
SIDE, CHANNELS = 16, 3


def natural_windows(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return windows of two photographs at random place, zoom and turn, noise of standard deviation 2: shape (n, 768)."""
    rng = generator(seed, "benchmarks/natural_windows")
    images = np.empty((n, SIDE * SIDE * CHANNELS), np.uint8)
    size = np.array([picture.shape[:2] for picture in photographs()])
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        photograph = rng.integers(len(size), size=count)
        middle = EDGE + rng.random((count, 2)) * (size[photograph] - 2 * EDGE)
        zoom, turn = rng.uniform(*ZOOM, count), rng.uniform(0, 2 * np.pi, count)
        pose = np.column_stack([middle, zoom * np.cos(turn), zoom * np.sin(turn), np.ones(count)])
        whole = np.rint(pose * UNIT).astype(np.int64)
        place = np.arange(count)
        frames = Films(place, place.astype(np.int32), photograph, whole)
        images[start : start + count] = show_frames(frames, rng)
    return images


def smooth_sources(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return smooth patterns, each source once in 300 images, noise of standard deviation 12 on every pixel: shape (n, 768)."""
    rng = generator(seed, "benchmarks/smooth_sources")
    pattern = rng.standard_normal((N_SOURCES, SIDE, SIDE, CHANNELS))
    pattern = gaussian_filter(pattern, (0, SMOOTH, SMOOTH, 0), mode="wrap")
    pattern *= CONTRAST / pattern.std()
    pattern = (128 + pattern.reshape(N_SOURCES, -1)).astype(np.float32)
    images = np.empty((n, pattern.shape[1]), np.uint8)
    for start in range(0, n, BATCH):
        count = min(BATCH, n - start)
        shown = PIXEL_NOISE * rng.standard_normal((count, pattern.shape[1]), dtype=np.float32)
        shown += pattern[rng.integers(N_SOURCES, size=count)]
        images[start : start + count] = np.clip(np.rint(shown), 0, 255)
    return images
