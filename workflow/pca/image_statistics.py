"""Brightness, contrast and sharpness of each image: what dark, flat and blurred ones are known by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.compiling import frozen
from workflow.pca._image_kernels import byte_statistics, float_statistics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Rows of float16 that are converted at a time.
TILE_ROWS = 4_096
#: Channels of bytes whose sums of squares are taken in whole numbers.
MOST_CHANNELS = 4


class ImageStatistics(NamedTuple):
    """What is noted of each image; float32 arrays of shape (n_images,).

    Attributes
    ----------
    brightness : float32 array
        Mean of the values [pixel value].
    contrast : float32 array
        Standard deviation over the pixels, the root mean square of that of each channel [pixel value].
    sharpness : float32 array
        Root mean square of the Laplacian over that of the gradient: 1 for independent pixels, near 0 for a
        smooth slope, NaN where there is no gradient or no pixel with four neighbours.
    """

    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    sharpness: NDArray[np.float32]


def image_statistics(rows: NDArray[Any], image_shape: Sequence[int]) -> ImageStatistics:
    """Return brightness, contrast and sharpness of images.

    Parameters
    ----------
    rows : ndarray of shape (n_images, n_features)
        Images as uint8, uint16, float16, float32 or float64, flattened.
    image_shape : sequence of int
        (height, width) or (height, width, channels).

    Returns
    -------
    ImageStatistics
        Three float32 arrays of shape (n_images,).

    Raises
    ------
    ValueError
        If the rows are not images of that shape.

    Notes
    -----
    Contrast counts colours that are equally bright, and no colour that fills the
    image.  With g the mean over the channels, G the mean squared difference between
    pixels side by side plus that between pixels one above the other, and
    L = g(left) + g(right) + g(above) + g(below) - 4 g over the pixels that
    have all four, sharpness is sqrt(mean(L**2) / (5 G)).  Both are in the unit
    of the pixels, so it does not change with brightness or contrast, nor,
    unlike the Laplacian over the contrast, with how the light falls: it tells how
    fine the detail is.  Of independent pixels mean(L**2) is 5 G.

    Sums over bytes, of up to four channels, are exact.  Those of other numbers
    are taken in float64, pixel by pixel; NaN and infinity give NaN.

    Examples
    --------
    >>> rows = np.array([[0, 0, 0, 0, 9, 0, 0, 0, 0], [7] * 9], np.uint8)
    >>> found = image_statistics(rows, (3, 3))
    >>> found.brightness.tolist(), (found.contrast**2).round().tolist()
    ([1.0, 7.0], [8.0, 0.0])
    """
    height, width, channels = (*image_shape, 1)[:3]
    if rows.ndim != 2 or rows.shape[1] != height * width * channels:
        msg = f"`rows` must be images of shape {tuple(image_shape)}, flattened; got shape {rows.shape}. Flatten images with `reshape(len(rows), -1)`."
        raise ValueError(msg)
    if rows.dtype == np.float16 and len(rows) > TILE_ROWS:
        parts = [rows[start : start + TILE_ROWS] for start in range(0, len(rows), TILE_ROWS)]
        found_of = [image_statistics(part, image_shape) for part in parts]
        return ImageStatistics(*map(np.concatenate, zip(*found_of, strict=True)))
    if rows.dtype == np.float16:
        # No type of the inner loops.
        rows = rows.astype(np.float32)
    shape = int(height), int(width), int(channels)
    found = np.empty((3, len(rows)), np.float32)
    if rows.dtype == np.uint8 and channels <= MOST_CHANNELS:
        byte_statistics(frozen(rows), shape, _masks(height, width), found)
    else:
        float_statistics(frozen(rows), shape, found)
    return ImageStatistics(*found)


def _masks(height: int, width: int) -> NDArray[np.int16]:
    """Return masks of the pixels with one on their right, with four around, and with one below."""
    masks = np.zeros((3, height, width), np.int16)
    masks[0, :, :-1] = masks[1, 1:-1, 1:-1] = masks[2, :-1] = -1
    return frozen(masks.reshape(3, -1))
