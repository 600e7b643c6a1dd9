"""Sums over each image of a block: what brightness, contrast and sharpness follow from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

compiled = compiler(__file__)


#: Pixels whose squared second differences, of up to four bytes each, add up to less than 2**31.
SQUARES = 128
#: The same of squared sums and first differences.
MORE_SQUARES = 2_048
#: Pixels that are handled together: what was just written is slow to read in other pieces.
TOGETHER = 4_096


@compiled
def byte_statistics(
    rows: NDArray[np.uint8],
    shape: tuple[int, int, int],
    masks: NDArray[np.int16],
    found: NDArray[np.float32],
) -> None:
    """Fill brightness, contrast and sharpness of images of bytes, of up to four channels; all sums are exact.

    `masks` have all bits for pixels with one on their right, with four around, and with one below.  Every
    loop does one thing, on 16 bits, and no index is below 0: so it becomes vector instructions.
    """
    height, width, channels = shape
    n = height * width
    n_together = max(1, TOGETHER // n)
    greys = np.zeros((n_together, n + 2 * width), np.int16)
    for start in range(0, rows.shape[0], n_together):
        stop = min(start + n_together, rows.shape[0])
        for i in range(start, stop):
            _sum_channels(rows[i], channels, greys[i - start][width : width + n])
        for i in range(start, stop):
            row, grey = rows[i], greys[i - start]
            here, below = grey[width : width + n], grey[2 * width : 2 * width + n]
            left, right = grey[width - 1 : width - 1 + n], grey[width + 1 : width + 1 + n]
            squares, across, down, roughness = 0, 0, 0, 0
            for p in range(0, n * channels, MORE_SQUARES):
                squares += _squares(row[p : min(p + MORE_SQUARES, n * channels)])
            for p in range(0, n, MORE_SQUARES):
                q = min(p + MORE_SQUARES, n)
                across += _squared_steps(here[p:q], right[p:q], masks[0, p:q])
                down += _squared_steps(here[p:q], below[p:q], masks[2, p:q])
            for p in range(0, n, SQUARES):
                q = min(p + SQUARES, n)
                roughness += _roughness(
                    here[p:q], left[p:q], right[p:q], grey[p:q], below[p:q], masks[1, p:q]
                )
            total, of_means = 0, 0.0
            for channel in range(channels):
                of_channel = 0
                for p in range(channel, n * channels, MORE_SQUARES * channels):
                    q = min(p + MORE_SQUARES * channels, n * channels)
                    of_channel += _total(row[p:q], channels)
                total += of_channel
                of_means += float(of_channel) * float(of_channel) / n
            variance = max(squares - of_means, 0.0) / (n * channels)
            differences = float(across), float(down), float(roughness)
            _fill(found, i, shape, total / (n * channels), variance, differences)


@compiled
def _sum_channels(row: NDArray[np.uint8], channels: int, grey: NDArray[np.int16]) -> None:
    """Fill the sum over the channels of each pixel."""
    if channels == 3:
        for p in range(grey.shape[0]):
            grey[p] = np.int16(
                np.int16(row[3 * p]) + np.int16(row[3 * p + 1]) + np.int16(row[3 * p + 2])
            )
        return
    for p in range(grey.shape[0]):
        grey[p] = np.int16(row[p * channels])
    for channel in range(1, channels):
        for p in range(grey.shape[0]):
            grey[p] = np.int16(grey[p] + np.int16(row[p * channels + channel]))


@compiled
def _total(values: NDArray[np.uint8], step: int) -> int:
    """Return the sum of every so many-th value, from the first on."""
    total = np.int32(0)
    if step == 3:
        for p in range((values.shape[0] + 2) // 3):
            total = np.int32(total + values[3 * p])
        return int(total)
    for p in range(0, values.shape[0], step):
        total = np.int32(total + values[p])
    return int(total)


@compiled
def _squares(values: NDArray[np.uint8]) -> int:
    """Return the sum of squares."""
    total = np.int32(0)
    for p in range(values.shape[0]):
        total = np.int32(total + np.int32(values[p]) * np.int32(values[p]))
    return int(total)


@compiled
def _squared_steps(
    here: NDArray[np.int16], there: NDArray[np.int16], mask: NDArray[np.int16]
) -> int:
    """Return the sum of squared differences to a neighbour."""
    total = np.int32(0)
    for p in range(here.shape[0]):
        step = np.int16(np.int16(there[p] - here[p]) & mask[p])
        total = np.int32(total + np.int32(step) * np.int32(step))
    return int(total)


@compiled
def _roughness(
    here: NDArray[np.int16],
    left: NDArray[np.int16],
    right: NDArray[np.int16],
    above: NDArray[np.int16],
    below: NDArray[np.int16],
    mask: NDArray[np.int16],
) -> int:
    """Return the sum of squared second differences."""
    total = np.int32(0)
    for p in range(here.shape[0]):
        around = left[p] + right[p] + above[p] + below[p]
        second = np.int16(np.int16(around - 4 * here[p]) & mask[p])
        total = np.int32(total + np.int32(second) * np.int32(second))
    return int(total)


@compiled
def float_statistics(
    rows: NDArray[Any], shape: tuple[int, int, int], found: NDArray[np.float32]
) -> None:
    """Fill brightness, contrast and sharpness of images of any numbers, in float64, pixel by pixel."""
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
        total, squares = 0.0, 0.0
        for channel in range(channels):
            # About the first pixel: of a flat image all sums are 0.
            origin, shift = float(row[channel]), 0.0
            for p in range(n_pixels):
                shift += row[p * channels + channel] - origin
            shift /= n_pixels
            for p in range(n_pixels):
                deviation = row[p * channels + channel] - origin - shift
                squares += deviation * deviation
            total += origin + shift
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
        variance = squares / (n_pixels * channels)
        _fill(found, i, shape, total / channels, variance, (across, down, roughness))


@compiled
def _fill(
    found: NDArray[np.float32],
    i: int,
    shape: tuple[int, int, int],
    mean: float,
    variance: float,
    differences: tuple[float, float, float],
) -> None:
    """Note the statistics of one image, from sums of squared differences of the sum over its channels."""
    height, width, _ = shape
    across, down, roughness = differences
    found[0, i] = mean
    found[1, i] = np.sqrt(variance)
    found[2, i] = np.nan
    n_inner = (height - 2) * (width - 2)
    if across + down > 0.0 and n_inner > 0:
        slope = across / (height * (width - 1)) + down / ((height - 1) * width)
        found[2, i] = np.sqrt(roughness / n_inner / (5.0 * slope))
