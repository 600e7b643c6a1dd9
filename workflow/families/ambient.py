"""The dimension around each community, at a scale beyond its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.families._graph_kernels import edges_out
from workflow.numerics import padded_columns, smallest_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Neighbours among the representatives that the dimension is read from, and the fewest that tell one.
N_AROUND, MIN_AROUND = 12, 4
#: Edges that must leave a community to tell how many others it touches; fewer tell of a tip, which
#: touches about one.
MIN_EDGES, MIN_TIP_EDGES, MAX_TIP_OTHERS = 400, 100, 1.1
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
    chosen = even_selection(n_rows)
    place = np.full(n_rows, -1)
    place[chosen] = np.arange(len(chosen))
    around, inverse = _around(centered, place, centered[chosen], n_around)
    return _dimension(inverse, inverse[chosen[around]])


def touching_dimension(graph: Graph, community: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimate the dimension around each community from how many others it touches.

    Parameters
    ----------
    graph : Graph
        The graph of the images.
    community : int64 array of shape (n_samples,)
        Community of each image; every number from 0 is used.

    Returns
    -------
    float64 array of shape (n_communities,)
        1 where its edges lead to two others, 2 where to six, and so on;
        infinite where fewer than 400 leave it, or 100 that nearly all lead to
        the same one.

    Notes
    -----
    A long thread of images that differ in much else, as of one texture in all
    brightnesses, is as wide as neighbours are far: distances read the
    dimension of its width, but its slices touch two others.  The number is
    that of equally likely ones [1]_, without the bias of few edges.

    References
    ----------
    .. [1] E. H. Simpson, "Measurement of diversity", Nature 163, 1949.
    """
    start = np.concatenate([[0], np.cumsum(np.bincount(community))])
    order = np.argsort(community, kind="stable")
    n_edges, n_pairs = edges_out(graph, community, order, start)
    pairs = n_edges * (n_edges - 1.0)
    others = np.divide(pairs, n_pairs, out=np.full(len(pairs), np.inf), where=n_pairs > 0)
    dimension = 1 + np.log(np.maximum(others / 2, 1)) / np.log(3)
    is_tip = (n_edges >= MIN_TIP_EDGES) & (others <= MAX_TIP_OTHERS)
    return np.where((n_edges >= MIN_EDGES) | is_tip, dimension, np.inf)


def even_selection(n_rows: int) -> NDArray[np.int64]:
    """Return which representatives neighbours are found among.

    Parameters
    ----------
    n_rows : int
        All representatives.

    Returns
    -------
    int64 array of shape (n_chosen,)
        Rising, evenly over all, at most `MAX_ROWS`.
    """
    n_chosen = min(n_rows, MAX_ROWS)
    return np.arange(n_chosen) * n_rows // max(n_chosen, 1)


class Selection(NamedTuple):
    """Representatives that neighbours are found among, for rows that come in parts.

    Attributes
    ----------
    center : float64 array of shape (n_components,) [score]
        Their mean, which is taken from all rows.
    rows : float64 array of shape (n_chosen, n_components) [score]
        Centred scores.
    inverse : float64 array of shape (n_chosen,)
        Inverse dimension that each reads; NaN where there are too few.
    """

    center: NDArray[np.float64]
    rows: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def of(cls, rows: NDArray[np.floating[Any]]) -> Selection:
        """Return the selection of chosen rows.

        Parameters
        ----------
        rows : float array of shape (n_chosen, n_components) [score]
            Scores of the chosen representatives.

        Returns
        -------
        Selection
            Of these rows.
        """
        exact = np.asarray(rows, np.float64)
        center = exact.mean(axis=0) if len(exact) else np.zeros(exact.shape[1])
        centered, n_around = exact - center, min(N_AROUND, len(exact) - 1)
        if n_around < MIN_AROUND:
            return cls(center, centered, np.full(len(exact), np.nan))
        return cls(
            center, centered, _around(centered, np.arange(len(exact)), centered, n_around)[1]
        )

    def dimension(
        self, rows: NDArray[np.floating[Any]], place: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return what `ambient_dimension` reads at some of all representatives.

        Parameters
        ----------
        rows : float array of shape (n_rows, n_components) [score]
            Their scores.
        place : int64 array of shape (n_rows,)
            Place of each in the selection, -1 where it is not chosen.

        Returns
        -------
        float64 array of shape (n_rows,)
            NaN where there are too few to tell.
        """
        if not np.isfinite(self.inverse).all() or not len(rows):
            return np.full(len(rows), np.nan)
        centered = np.asarray(rows, np.float64) - self.center
        around, inverse = _around(centered, place, self.rows, min(N_AROUND, len(self.rows) - 1))
        return _dimension(inverse, self.inverse[around])


def _dimension(
    inverse: NDArray[np.float64], inverse_around: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the median of what each row and those around it read."""
    reading = np.concatenate([inverse[:, None], inverse_around], axis=1)
    return np.asarray(1 / np.maximum(np.median(reading, axis=1), 1e-3))


def _around(
    centered: NDArray[np.float64],
    place: NDArray[np.int64],
    among: NDArray[np.float64],
    n_around: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the nearest chosen rows of each row, as places in `among`, and its inverse dimension."""
    n_more = padded_columns(len(among)) - len(among)
    padded = np.pad(among, ((0, n_more), (0, 0)))
    half_norms = np.pad(
        np.einsum("ij,ij->i", among, among) / 2, (0, n_more), constant_values=np.inf
    )
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
