"""The inner loop that makes the demo's images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)


@compiled
def show_sources(
    labels: NDArray[np.int32],
    weights: NDArray[np.float32],
    sources: NDArray[np.float32],
    strip: NDArray[np.float32],
    place: NDArray[np.int64],
    colour: NDArray[np.float32],
    images: NDArray[np.uint8],
) -> None:
    """Write the images that show a source: its shifts, weighted, with noise and colour.

    Every sum is exact in float32, so its order changes nothing.
    """
    n_features, n_channels = images.shape[1], colour.shape[1]
    shade = np.empty(n_features, np.float32)
    for image in range(labels.size):
        if labels[image] < 0:
            continue
        for pixel in range(0, n_features, n_channels):
            for channel in range(n_channels):
                shade[pixel + channel] = colour[image, channel]
        shifts, noise = sources[labels[image]], strip[place[image] : place[image] + n_features]
        for shift in range(shifts.shape[0]):
            weight, values = weights[image, shift], shifts[shift]
            for feature in range(n_features):
                shade[feature] += weight * values[feature]
        for feature in range(n_features):
            value = np.rint(shade[feature] + noise[feature])
            images[image, feature] = np.uint8(min(max(value, np.float32(0)), np.float32(255)))
