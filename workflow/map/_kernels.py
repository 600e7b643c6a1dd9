"""The map: inner loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.compiling import compiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

compiled = compiler(__file__)

#: The longest step of a point along an axis.
MAX_STEP = 5.0
#: Where landmarks around one come to lie, as a share of their distances; how far at most a row lies from its own.
FILL, REACH = 0.5, 3.0


@compiled
def spline(t: float, value: NDArray[np.float64], slope: NDArray[np.float64]) -> None:
    """Write the four cubic B-splines that are not 0 at a place `t` of a cell, and their slopes."""
    u = 1.0 - t
    value[0] = u * u * u / 6.0
    value[3] = t * t * t / 6.0
    value[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    value[2] = 1.0 - value[0] - value[1] - value[3]
    slope[0] = -0.5 * u * u
    slope[3] = 0.5 * t * t
    slope[1] = -2.0 * t + 1.5 * t * t
    slope[2] = -slope[0] - slope[1] - slope[3]


@compiled
def spread(
    position: NDArray[np.float64], low: NDArray[np.float64], spacing: float, n_x: int, n_y: int
) -> NDArray[np.float32]:
    """Return nodes with the weight of the points: each adds to the 4 x 4 nodes around it."""
    nodes = np.zeros((n_x, n_y), np.float64)
    x, y, slope = np.empty(4), np.empty(4), np.empty(4)
    for i in range(position.shape[0]):
        at_x = (position[i, 0] - low[0]) / spacing
        at_y = (position[i, 1] - low[1]) / spacing
        first_x, first_y = int(at_x), int(at_y)
        spline(at_x - first_x, x, slope)
        spline(at_y - first_y, y, slope)
        for a in range(4):
            for b in range(4):
                nodes[first_x + a, first_y + b] += x[a] * y[b]
    return nodes.astype(np.float32)


@compiled
def gather(
    grid: NDArray[np.float32],
    position: NDArray[np.float64],
    low: NDArray[np.float64],
    spacing: float,
    slope: NDArray[np.float64],
) -> float:
    """Write the slope of a gridded function at each point, and return the sum of its values."""
    x, y, slope_x, slope_y = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    total = 0.0
    for i in range(position.shape[0]):
        at_x = (position[i, 0] - low[0]) / spacing
        at_y = (position[i, 1] - low[1]) / spacing
        first_x, first_y = int(at_x), int(at_y)
        spline(at_x - first_x, x, slope_x)
        spline(at_y - first_y, y, slope_y)
        value, along_x, along_y = 0.0, 0.0, 0.0
        for a in range(4):
            row, row_slope = 0.0, 0.0
            for b in range(4):
                node = np.float64(grid[first_x + a, first_y + b])
                row += node * y[b]
                row_slope += node * slope_y[b]
            value += row * x[a]
            along_x += row * slope_x[a]
            along_y += row_slope * x[a]
        total += value
        slope[i, 0] = along_x / spacing
        slope[i, 1] = along_y / spacing
    return total


@compiled
def sum_pairs(position: NDArray[np.float64], slope: NDArray[np.float64]) -> float:
    """Write the slope of the field of all points at each, and return the sum of its values."""
    total = 0.0
    for i in range(position.shape[0]):
        along_x, along_y = 0.0, 0.0
        for j in range(position.shape[0]):
            dx = position[i, 0] - position[j, 0]
            dy = position[i, 1] - position[j, 1]
            value = 1.0 / (1.0 + dx * dx + dy * dy)
            total += value
            along_x -= 2.0 * value * value * dx
            along_y -= 2.0 * value * value * dy
        slope[i, 0] = along_x
        slope[i, 1] = along_y
    return total


@compiled
def step(
    indptr: NDArray[np.integer],
    indices: NDArray[np.int32],
    affinity: NDArray[np.float32],
    position: NDArray[np.float64],
    slope: NDArray[np.float64],
    pull: float,
    push: float,
    momentum: float,
    rate: float,
    edge: float,
    velocity: NDArray[np.float64],
    gain: NDArray[np.float64],
    moved: NDArray[np.float64],
) -> None:
    """Write where a step of gradient descent moves each point, around 0 and not beyond `edge`.

    Neighbours attract by `pull` times their affinity; the slope of the field of all points repels by `push`.
    """
    middle = np.zeros(2)
    for i in range(position.shape[0]):
        force_x, force_y = 0.0, 0.0
        for edge in range(indptr[i], indptr[i + 1]):
            j = indices[edge]
            dx = position[i, 0] - position[j, 0]
            dy = position[i, 1] - position[j, 1]
            strength = affinity[edge] / (1.0 + dx * dx + dy * dy)
            force_x += strength * dx
            force_y += strength * dy
        for axis in range(2):
            force = force_x if axis == 0 else force_y
            gradient = 4.0 * (pull * force + push * slope[i, axis])
            if (gradient > 0.0) != (velocity[i, axis] > 0.0):
                gain[i, axis] += 0.2
            else:
                gain[i, axis] = max(0.01, 0.8 * gain[i, axis])
            speed = momentum * velocity[i, axis] - rate * gain[i, axis] * gradient
            velocity[i, axis] = min(MAX_STEP, max(-MAX_STEP, speed))
            moved[i, axis] = position[i, axis] + velocity[i, axis]
            middle[axis] += moved[i, axis]
    middle /= position.shape[0]
    for i in range(position.shape[0]):
        for axis in range(2):
            moved[i, axis] = min(edge, max(-edge, moved[i, axis] - middle[axis]))


@compiled
def squared(landmarks: NDArray[np.floating], k: int, j: int) -> float:
    """Return the squared distance of two landmarks."""
    total = 0.0
    for c in range(landmarks.shape[1]):
        difference = np.float64(landmarks[j, c]) - np.float64(landmarks[k, c])
        total += difference * difference
    return total


@compiled
def offset(position: NDArray[np.float32], k: int, j: int) -> tuple[float, float]:
    """Return the way from one landmark to another on the map."""
    return (
        np.float64(position[j, 0]) - np.float64(position[k, 0]),
        np.float64(position[j, 1]) - np.float64(position[k, 1]),
    )


@compiled
def directions(
    landmarks: NDArray[np.floating],
    position: NDArray[np.float32],
    near: NDArray[np.int32],
    around: NDArray[np.float32],
) -> None:
    """Write what differences from each landmark are multiplied by, from the landmarks near it on the map."""
    n_components = landmarks.shape[1]
    sums = np.empty((2, n_components))
    for k in range(landmarks.shape[0]):
        sums[:] = 0.0
        for rank in range(near.shape[1]):
            j = near[k, rank]
            sq_length = squared(landmarks, k, j)
            if j == k or sq_length == 0.0:
                continue
            dx, dy = offset(position, k, j)
            # Landmarks that are far apart on the map although near in the scores do not pull.
            weight = 1.0 / ((1.0 + dx * dx + dy * dy) * sq_length)
            for c in range(n_components):
                difference = np.float64(landmarks[j, c]) - np.float64(landmarks[k, c])
                sums[0, c] += weight * dx * difference
                sums[1, c] += weight * dy * difference
        # Landmarks around would come to lie at half of their distances: cells touch.
        own, aim = 0.0, 0.0
        for rank in range(near.shape[1]):
            j = near[k, rank]
            if j == k:
                continue
            x, y = 0.0, 0.0
            for c in range(n_components):
                difference = np.float64(landmarks[j, c]) - np.float64(landmarks[k, c])
                x += sums[0, c] * difference
                y += sums[1, c] * difference
            own += x * x + y * y
            dx, dy = offset(position, k, j)
            aim += min(dx * dx + dy * dy, REACH * REACH)
        scale = FILL * np.sqrt(aim / own) if own > 0.0 else 0.0
        for c in range(n_components):
            around[k, 0, c] = np.float32(scale * sums[0, c])
            around[k, 1, c] = np.float32(scale * sums[1, c])


@compiled
def place(
    rows: NDArray[np.floating],
    nearest: NDArray[np.int32],
    landmarks: NDArray[np.floating],
    position: NDArray[np.float32],
    around: NDArray[np.float32],
    placed: NDArray[np.float32],
) -> None:
    """Write where rows lie, each beside its nearest landmark and at most `REACH` away."""
    for i in range(rows.shape[0]):
        k = nearest[i]
        x, y = 0.0, 0.0
        for c in range(rows.shape[1]):
            difference = np.float64(rows[i, c]) - np.float64(landmarks[k, c])
            x += around[k, 0, c] * difference
            y += around[k, 1, c] * difference
        length = np.sqrt(x * x + y * y)
        if length > REACH:
            x, y = x * REACH / length, y * REACH / length
        placed[i, 0] = np.float32(position[k, 0] + x)
        placed[i, 1] = np.float32(position[k, 1] + y)
