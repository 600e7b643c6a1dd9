"""Films among the demo's images: windows of the photographs that drift from frame to frame."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.ingest.photographs import photographs
from workflow.rng import generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Images for each film, the most films, and the frames of the shortest and the longest.
IMAGES_PER_FILM, MAX_FILMS, MIN_FRAMES, MAX_FRAMES = 4_000, 300, 30, 300
#: Standard deviation of a step: place [pixel], logarithm of zoom and of brightness, turn [rad].
STEP_SD = (0.7, 0.7, 0.01, 0.01, 0.01)
#: Pixels of the photograph for a pixel of a frame, at first, and the least way to its edge [pixel].
ZOOM, EDGE = (1.5, 3.5), 60
#: Places that a film may begin at: the first of enough contrast, or that of most.  Sky and ground out of
#: focus are all alike.
N_PLACES, CONTRAST = 8, 30
#: Poses are whole numbers of this part, so that no rounding of theirs shows in an image; pixels are
#: interpolated at so many places.
UNIT, FINE = 1_024, 64
#: Pixels of a side of an image.
SIDE = 16
#: Largest whole number of which two are added up to the noise of a value: standard deviation 2.
NOISE = 2


class Films(NamedTuple):
    """The frames of all films, in the order of their rows.

    Attributes
    ----------
    row : int64 array of shape (n_frames,)
        Image that the frame is.
    film : int32 array of shape (n_frames,)
        Film that it belongs to.
    photograph : int64 array of shape (n_frames,)
        Photograph that it is a window of.
    pose : int64 array of shape (n_frames, 5)
        Middle of the window, down and to the right [1/1024 pixel]; pixels of
        the photograph down and to the right for a pixel down [1/1024]; gain [1/1024].
    """

    row: NDArray[np.int64]
    film: NDArray[np.int32]
    photograph: NDArray[np.int64]
    pose: NDArray[np.int64]

    def within(self, start: int, stop: int) -> Films:
        """Return the frames among images `start` to `stop`."""
        here = slice(*np.searchsorted(self.row, (start, stop)))
        return Films(self.row[here], self.film[here], self.photograph[here], self.pose[here])


def film_count(n_images: int) -> int:
    """Return how many films there are among so many images."""
    return min(MAX_FILMS, n_images // IMAGES_PER_FILM)


@lru_cache(maxsize=2)
def plan_films(n_images: int, seed: int) -> Films:
    """Return where the frames of all films are, and what they show; not to be written to.

    Parameters
    ----------
    n_images : int
        Images in all.
    seed : int
        Another seed draws other films.

    Returns
    -------
    Films
        Frames of a film lie anywhere among the images.
    """
    rng = generator(seed, "demo/films")
    n_films = film_count(n_images)
    # As many of 30 to 95 frames as of 95 to 300.
    length = MIN_FRAMES * (MAX_FRAMES / MIN_FRAMES) ** rng.random(n_films)
    film = np.repeat(np.arange(n_films, dtype=np.int32), length.astype(np.int64))
    first = np.searchsorted(film, np.arange(n_films))
    walk = np.cumsum(rng.standard_normal((len(film), 5)) * STEP_SD, axis=0)
    photograph, start = _beginnings(rng, n_films)
    state = start[film] + walk - walk[first][film]
    zoom, turn = np.exp(state[:, 2]), state[:, 4]
    pose = np.stack(
        [state[:, 0], state[:, 1], zoom * np.cos(turn), zoom * np.sin(turn), np.exp(state[:, 3])],
        axis=1,
    )
    # One of each of so many pieces of all images, in no order.
    edge = np.arange(len(film) + 1) * n_images // max(len(film), 1)
    row = edge[:-1] + (rng.random(len(film)) * np.diff(edge)).astype(np.int64)
    order = rng.permutation(len(film))
    whole = np.rint(pose * UNIT).astype(np.int64)
    return Films(row, film[order], photograph[film[order]], whole[order])


def _beginnings(
    rng: np.random.Generator, n_films: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the photograph and the first state of each film: where there is enough contrast."""
    pictures = photographs()
    photograph = rng.integers(len(pictures), size=(n_films, N_PLACES))
    size = np.array([picture.shape[:2] for picture in pictures])[photograph]
    drawn = rng.random((n_films, N_PLACES, 4))
    state = np.zeros((n_films, N_PLACES, 5))
    state[..., :2] = EDGE + drawn[..., :2] * (size - 2 * EDGE)
    state[..., 2] = np.log(ZOOM[0]) + drawn[..., 2] * np.log(ZOOM[1] / ZOOM[0])
    state[..., 4] = drawn[..., 3] * 2 * np.pi
    contrast = np.empty((n_films, N_PLACES))
    for film, candidate in np.ndindex(n_films, N_PLACES):
        y, x = state[film, candidate, :2].astype(int)
        around = pictures[photograph[film, candidate]][y - SIDE : y + SIDE, x - SIDE : x + SIDE]
        contrast[film, candidate] = around.std(axis=(0, 1)).mean()
    chosen = np.arange(n_films), np.minimum(contrast, CONTRAST).argmax(axis=1)
    return photograph[chosen], state[chosen]


def show_frames(frames: Films, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the images of frames.

    Parameters
    ----------
    frames : Films
        Some of the frames.
    rng : numpy.random.Generator
        Where their noise comes from.

    Returns
    -------
    uint8 array of shape (n_frames, 768)
        Made of whole numbers alone.
    """
    pictures, shown = photographs(), np.zeros((len(frames.row), SIDE, SIDE, 3), np.int64)
    # Twice the way from the middle of the window, which lies between pixels.
    way = 2 * np.arange(SIDE) - (SIDE - 1)
    middle_y, middle_x, along, across, gain = frames.pose.T[:, :, None, None]
    y = 2 * middle_y + along * way[:, None] - across * way
    x = 2 * middle_x + across * way[:, None] + along * way
    for number, picture in enumerate(pictures):
        here = np.flatnonzero(frames.photograph == number)
        below, share_y = _split(y[here], picture.shape[0])
        right, share_x = _split(x[here], picture.shape[1])
        for step_y, step_x in np.ndindex(2, 2):
            weight = np.abs(1 - step_y - share_y / FINE) * np.abs(1 - step_x - share_x / FINE)
            corner = picture[below + step_y, right + step_x].astype(np.int64)
            shown[here] += corner * np.rint(weight * FINE**2).astype(np.int64)[..., None]
    shown = (shown * gain[..., None] + FINE**2 * UNIT // 2) // (FINE**2 * UNIT)
    shown += rng.integers(-NOISE, NOISE + 1, size=(2, *shown.shape)).sum(axis=0)
    images: NDArray[np.uint8] = np.clip(shown, 0, 255).astype(np.uint8)
    return images.reshape(len(images), SIDE * SIDE * 3)


def _split(place: NDArray[np.int64], n_pixels: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pixel that places of half a unit lie on or behind, and the way beyond it [1/64]."""
    held = np.clip(place, 0, (n_pixels - 1) * 2 * UNIT - 1)
    return held // (2 * UNIT), held % (2 * UNIT) * FINE // (2 * UNIT)
