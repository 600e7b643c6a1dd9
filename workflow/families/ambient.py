"""The dimension around each community, at a scale beyond its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.numerics import padded_columns, smallest_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Neighbours among the representatives that the dimension is read from, and the fewest that tell one.
N_AROUND, MIN_AROUND = 12, 4
#: Representatives that neighbours are found among; of more an even selection.
MAX_ROWS = 16_384
#: Communities whose neighbours are found at a time: 128 x 16,384 float64 are 16 MiB.
BATCH_ROWS = 128


def representatives(community: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one image of each community: the first.

    Parameters
    ----------
    community : int64 array of shape (n_samples,)
        Community of each image; every number from 0 is used.

    Returns
    -------
    int64 array of shape (n_communities,)
        Rows of the images.  Central ones would lie evenly, and read high.
    """
    return np.unique(community, return_index=True)[1]


def ambient_dimension(rows: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Estimate the dimension around each community from the distances of their representatives.

    Parameters
    ----------
    rows : float array of shape (n_communities, n_components) [score]
        Scores of the representatives.

    Returns
    -------
    float64 array of shape (n_communities,)
        The median of what the representative and its nearest twelve read; NaN
        where there are too few communities.

    Notes
    -----
    A family lowers the dimension that its images read from their own
    neighbours, and a thin sheet or thread raises it: at the distance of the
    next communities neither does.  Each reads the inverse dimension of [1]_.

    References
    ----------
    .. [1] D. MacKay and Z. Ghahramani, "Comments on maximum likelihood
       estimation of intrinsic dimension by E. Levina and P. Bickel", 2005.
    """
    n_rows = len(rows)
    n_around = min(N_AROUND, n_rows - 1)
    if n_around < MIN_AROUND:
        return np.full(n_rows, np.nan)
    centered = np.asarray(rows, np.float64)
    centered = centered - centered.mean(axis=0)
    chosen = np.arange(n_rows)
    if n_rows > MAX_ROWS:
        chosen = np.arange(MAX_ROWS) * n_rows // MAX_ROWS
    around, inverse = _around(centered, chosen, n_around)
    reading = np.concatenate([inverse[:, None], inverse[chosen[around]]], axis=1)
    return np.asarray(1 / np.maximum(np.median(reading, axis=1), 1e-3))


def _around(
    centered: NDArray[np.float64], chosen: NDArray[np.int64], n_around: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest chosen rows of each row, as places in `chosen`, and its inverse dimension."""
    among = centered[chosen]
    n_more = padded_columns(len(among)) - len(among)
    padded = np.pad(among, ((0, n_more), (0, 0)))
    half_norms = np.pad(
        np.einsum("ij,ij->i", among, among) / 2, (0, n_more), constant_values=np.inf
    )
    place = np.full(len(centered), -1)
    place[chosen] = np.arange(len(chosen))
    around = np.empty((len(centered), n_around), np.int64)
    inverse = np.empty(len(centered))
    for start in range(0, len(centered), BATCH_ROWS):
        batch = np.arange(start, min(start + BATCH_ROWS, len(centered)))
        score = half_norms - centered[batch] @ padded.T
        itself = np.flatnonzero(place[batch] >= 0)
        score[itself, place[batch[itself]]] = np.inf
        nearest = smallest_columns(score, n_around)[0]
        difference = among[nearest] - centered[batch, None]
        length = np.sort(np.sqrt(np.einsum("ijk,ijk->ij", difference, difference)), axis=1)
        length = np.maximum(length, 1e-9 * np.maximum(length[:, -1:], 1e-30))
        logs = np.log(length[:, -1:] / length[:, :-1])
        around[batch], inverse[batch] = nearest, logs.sum(axis=1) / (n_around - 2)
    return around, inverse
