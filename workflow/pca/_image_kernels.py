"""Sums over each image of a block: what brightness, contrast and sharpness follow from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

compiled = compiler(__file__)


@compiled
def integer_statistics(
    rows: NDArray[Any], shape: tuple[int, int, int], found: NDArray[np.float32]
) -> None:
    """Fill brightness, contrast and sharpness of images of whole numbers; all sums are exact.

    The sum over the channels, and second differences of it, must fit 32 bits.
    """
    height, width, channels = shape
    n_pixels = height * width
    grey = np.empty(n_pixels, np.int32)
    for i in range(rows.shape[0]):
        row = rows[i]
        if channels == 1:
            for p in range(n_pixels):
                grey[p] = row[p]
        elif channels == 3:
            for p in range(n_pixels):
                grey[p] = np.int32(row[3 * p]) + np.int32(row[3 * p + 1]) + np.int32(row[3 * p + 2])
        else:
            for p in range(n_pixels):
                value = np.int32(0)
                for channel in range(channels):
                    value += np.int32(row[p * channels + channel])
                grey[p] = value
        total, squares = np.int64(0), np.int64(0)
        for p in range(n_pixels):
            # From 32 bits, so that the compiler multiplies several at a time.
            value = np.int32(grey[p])
            total += value
            squares += np.int64(value) * np.int64(value)
        across, down, roughness = np.int64(0), np.int64(0), np.int64(0)
        for y in range(height):
            for p in range(y * width, (y + 1) * width - 1):
                first = np.int32(grey[p + 1] - grey[p])
                across += np.int64(first) * np.int64(first)
        for p in range(n_pixels - width):
            first = np.int32(grey[p + width] - grey[p])
            down += np.int64(first) * np.int64(first)
        for y in range(1, height - 1):
            for p in range(y * width + 1, (y + 1) * width - 1):
                second = np.int32(
                    grey[p - 1] + grey[p + 1] + grey[p - width] + grey[p + width] - 4 * grey[p]
                )
                roughness += np.int64(second) * np.int64(second)
        mean = total / n_pixels
        variance = max(squares / n_pixels - mean * mean, 0.0)
        _fill(found, i, shape, mean, variance, (float(across), float(down), float(roughness)))


@compiled
def float_statistics(
    rows: NDArray[Any], shape: tuple[int, int, int], found: NDArray[np.float32]
) -> None:
    """Fill brightness, contrast and sharpness of images of any numbers, in float64."""
    height, width, channels = shape
    n_pixels = height * width
    grey = np.empty(n_pixels, np.float64)
    for i in range(rows.shape[0]):
        row = rows[i]
        for p in range(n_pixels):
            value = 0.0
            for channel in range(channels):
                value += row[p * channels + channel]
            grey[p] = value
        # About the first pixel: of a flat image all sums are 0.
        total = 0.0
        for p in range(n_pixels):
            total += grey[p] - grey[0]
        shift = total / n_pixels
        squares = 0.0
        for p in range(n_pixels):
            deviation = grey[p] - grey[0] - shift
            squares += deviation * deviation
        across, down, roughness = 0.0, 0.0, 0.0
        for y in range(height):
            for p in range(y * width, (y + 1) * width - 1):
                across += (grey[p + 1] - grey[p]) ** 2
        for p in range(n_pixels - width):
            down += (grey[p + width] - grey[p]) ** 2
        for y in range(1, height - 1):
            for p in range(y * width + 1, (y + 1) * width - 1):
                second = (grey[p - 1] + grey[p + 1]) + (grey[p - width] + grey[p + width])
                second -= 4.0 * grey[p]
                roughness += second * second
        variance = squares / n_pixels
        _fill(found, i, shape, grey[0] + shift, variance, (across, down, roughness))


@compiled
def _fill(
    found: NDArray[np.float32],
    i: int,
    shape: tuple[int, int, int],
    mean: float,
    variance: float,
    differences: tuple[float, float, float],
) -> None:
    """Note the statistics of one image, from sums over its channels and of squared differences of those."""
    height, width, channels = shape
    across, down, roughness = differences
    found[0, i] = mean / channels
    found[1, i] = np.sqrt(variance) / channels
    found[2, i] = np.nan
    n_inner = (height - 2) * (width - 2)
    if across + down > 0.0 and n_inner > 0:
        slope = across / (height * (width - 1)) + down / ((height - 1) * width)
        found[2, i] = np.sqrt(roughness / n_inner / (5.0 * slope))
