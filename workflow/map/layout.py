"""Points laid out in two dimensions by t-SNE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.map._kernels import step
from workflow.map.field import field_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.graph import Graph


class Phase(NamedTuple):
    """Some rounds of gradient descent with the same settings."""

    n_iter: int
    exaggeration: float
    momentum: float


#: First attraction is exaggerated, so that groups come together before they take their room.
PHASES = (Phase(250, 12.0, 0.5), Phase(500, 1.0, 0.8))
#: So few points lie where the components have them: each attracts nearly all.
FEW_POINTS = 16
#: How far from the middle points can come, for the root of their number, and at most.  Maps of connected
#: points end at half of it; what nothing attracts stops there, and the grid of the field stays small.
EDGE, MAX_EDGE = 4.0, 300.0
#: Standard deviation of the start; its farthest points, in standard deviations; its noise, as a share.
#: From a smaller start, 1e-4, noise decides where groups come to lie: another seed, another map.
START, START_LIMIT, START_NOISE = 0.01, 3.0, 0.01


def lay_out(
    affinities: Graph,
    scores: NDArray[Any],
    rng: np.random.Generator,
    *,
    on_iteration: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Lay points out so that those of high affinity lie together.

    Parameters
    ----------
    affinities : Graph
        Affinities of a total of 1, each edge in the rows of both ends.
    scores : float array of shape (n_points, n_components)
        The first two components are the start, and of up to 16 points the result [score].
    rng : numpy.random.Generator
        Draws what the start needs where scores are equal or on one line.
    on_iteration : callable, optional
        Called with the number of rounds that are done.

    Returns
    -------
    float64 array of shape (n_points, 2)
        Positions around 0; neighbours are about 1 apart.

    Notes
    -----
    t-SNE [1]_ with a start, a rate and an exaggeration that keep the large groups where the first two
    components have them [2]_.  750 rounds; a round takes time in proportion to the edges and to the
    area of the map, 6 ms for 16,000 points and 15 ms for 70,000.  All sums are in a fixed order, so the
    result is the same to the last bit on every run.

    References
    ----------
    .. [1] L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9, 2008.
    .. [2] D. Kobak and P. Berens, "The art of using t-SNE for single-cell transcriptomics", Nature
       Communications 10, 2019.
    """
    n = len(scores)
    position = _components(scores)
    if n <= FEW_POINTS:
        position *= np.sqrt(n) / max(np.abs(position).max(), 1e-30)
        return position
    position = START * (position + START_NOISE * (2.0 * rng.random((n, 2)) - 1.0))
    edge = min(MAX_EDGE, EDGE * float(np.sqrt(n)))
    moved, done = np.empty_like(position), 0
    for phase in PHASES:
        velocity, gain = np.zeros_like(position), np.ones_like(position)
        for _ in range(phase.n_iter):
            total, slope = field_of(position)
            step(
                affinities.indptr,
                affinities.indices,
                affinities.weights,
                position,
                slope,
                phase.exaggeration,
                # Minus half of the slope of 1 / (1 + r^2) is the force; a point does not repel itself.
                0.5 / max(total - n, 1e-9 * n),
                phase.momentum,
                n / phase.exaggeration,
                edge,
                velocity,
                gain,
                moved,
            )
            position, moved = moved, position
            done += 1
            if on_iteration is not None:
                on_iteration(done)
    return position


def _components(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return the first two components around 0, in deviations of the first, with far points brought near."""
    first = np.zeros((len(scores), 2))
    first[:, : min(2, scores.shape[1])] = scores[:, :2]
    first -= np.median(first, axis=0)
    # The median of the deviations: outliers do not count.
    scale = 1.4826 * float(np.median(np.abs(first[:, 0])))
    return (first / scale if scale > 0 else first).clip(-START_LIMIT, START_LIMIT)
