"""Shares of the few nearest clusters, and of noise, in each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.labels.centroids import CentroidLabels

#: Clusters listed for each row: as many as nearest centroids are stored, for each may lead elsewhere.
N_TOP = 3
#: Outlier score from which a row is noise.
MAX_OUTLIER_SCORE = 0.8
#: The same in the cell of a noise centroid, one and a half radii out: there the tree doubts it, too.
#: At 0.5 nine of ten images of such cells around a hundred blobs were noise; at 0.7, 19 of 20.
MAX_NOISE_CELL_SCORE = 0.7
#: Noise weighs at least so much less than the cluster of a row with a label, and so much more where
#: the row has none: more than rounding three shares to float32 can take from one and give the other.
CLEARLY = 2.0**-20


def top_memberships(
    nearest: NDArray[np.integer[Any]],
    sq_distance: NDArray[np.floating[Any]],
    labels: CentroidLabels,
    is_noise: NDArray[np.bool_],
    *,
    max_outlier_score: float = MAX_OUTLIER_SCORE,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Share each row among the clusters of its nearest centroids and noise.

    Parameters
    ----------
    nearest : int array of shape (n_samples, n_nearest)
        Nearest centroids by rising distance, the first three of which count;
        -1 where there is none.
    sq_distance : float array of the same shape
        Squared distances [score squared].
    labels : CentroidLabels
        What each centroid passes on.
    is_noise : bool array of shape (n_samples,)
        Rows that are labelled noise.
    max_outlier_score : float, default 0.8
        Outlier score at which a row of a labelled centroid is as near to noise
        as to its cluster, from 0.5 to below 1; see `score_limits`.

    Returns
    -------
    top_label : int32 array of shape (n_samples, 3)
        Clusters by falling share, noise resolved; -1 where there are fewer.
    top_membership : float32 array of shape (n_samples, 3)
        Their shares, 0 to 1; what is missing to 1 is the share of noise.

    See Also
    --------
    workflow.labels.label_rows : Gives these with everything else about a row.

    Notes
    -----
    This is noise clustering with fuzzifier 2 ([1]_), over the clusters that
    the row can meet.  With q_j the squared distances to the three centroids
    plus their offsets, q_1 that of the nearest, r_1 the squared radius that
    belongs to it and T the largest score there that is not noise:

    1. A cluster is as far as the nearest of its centroids here, not nearer for
       having more of them around, and never nearer than the row's own cluster:
       q_C = max(min q_j, q_1).
    2. Noise is one more cluster, q_N = r_1 T / (1 - T) from everywhere.  So a
       row is farther from its cluster than from noise exactly where its
       outlier score is above T.  Unlike in [1]_ that distance is not the same
       for all rows, but goes with the radius around each.
    3. Shares are in proportion to 1 / q_C and 1 / q_N.

    The largest share of all is that of the row's label: its cluster has the
    first, ties included, and noise weighs a millionth less at least where the
    row is not noise, a millionth more where it is.  Where the outlier score
    alone decides about noise, that changes nothing but what is nearly equal.

    Between two labelled cells the clusters' shares keep their proportions;
    noise's share changes with the radius, as the outlier score does.  Shares
    jump where another centroid becomes the third, for only three are known.
    They are rounded towards 0, so that their sum stays at most 1.  Cost: some
    sixty operations and two hundred bytes a row; no row depends on another.

    References
    ----------
    .. [1] R. N. Dave, "Characterization and detection of noise in clustering",
       Pattern Recognition Letters 12(11), 657-664, 1991.

    Examples
    --------
    >>> from workflow.labels import CentroidLabels
    >>> zero, one = np.zeros(2, np.float32), np.ones(2, np.float32)
    >>> two = CentroidLabels(np.array([0, 1]), np.array([0, 1]), one, one, zero)
    >>> nearest, sq_distance = np.array([[1, 0]]), np.array([[1.0, 1.5]])
    >>> clusters, shares = top_memberships(nearest, sq_distance, two, np.array([False]))
    >>> clusters.tolist(), shares.tolist()
    ([[1, 0, -1]], [[0.52173912525177, 0.3478260636329651, 0.0]])
    """
    n_samples, first = nearest.shape[0], nearest[:, 0]
    own_q = sq_distance[:, 0].astype(np.float64) + labels.offset_sq[first]
    top_label = np.full((n_samples, N_TOP), -1, dtype=np.int32)
    # Weights 1 / q in units of the first, so that neither 0 nor the largest numbers do harm.
    weight = np.zeros((n_samples, N_TOP))
    for column in range(min(N_TOP, nearest.shape[1])):
        index = nearest[:, column]
        cluster = np.where(index >= 0, labels.label_resolved[index], np.int32(-1))
        q = sq_distance[:, column].astype(np.float64) + labels.offset_sq[index]
        part = np.where(cluster >= 0, _ratio(own_q, q), 0.0)
        for earlier in range(column):
            again = (cluster == top_label[:, earlier]) & (cluster >= 0)
            # Farther from the row, but with a smaller offset.
            weight[again, earlier] = np.maximum(weight[again, earlier], part[again])
            cluster[again], part[again] = -1, 0.0
        top_label[:, column], weight[:, column] = cluster, part
    _sort_falling(top_label, weight)
    radius_sq = labels.radius_sq[first].astype(np.float64)
    limit = score_limits(labels, max_outlier_score)[first].astype(np.float64)
    noise_q = radius_sq * (limit / (1 - limit))
    noise = _noise_weight(own_q, noise_q, is_noise)
    # The smallest first: the first is 1, and what it alone cannot hold must not be lost.
    total = noise + weight[:, 2] + weight[:, 1] + weight[:, 0]
    share = np.divide(weight, total[:, None], out=weight, where=total[:, None] > 0)
    return top_label, _rounded_down(share)


def score_limits(labels: CentroidLabels, max_outlier_score: float) -> NDArray[np.float32]:
    """Return the largest outlier score of a row that is not noise, for each centroid.

    Parameters
    ----------
    labels : CentroidLabels
        What each centroid passes on.
    max_outlier_score : float
        The limit of labelled centroids, from 0.5 to below 1; that of noise
        centroids is 0.7 at most.

    Returns
    -------
    float32 array of shape (n_centroids,)
        As scores are stored, so that the two always agree.
    """
    in_noise = min(max_outlier_score, MAX_NOISE_CELL_SCORE)
    return np.where(labels.label < 0, np.float32(in_noise), np.float32(max_outlier_score))


def _noise_weight(
    own_q: NDArray[np.float64], noise_q: NDArray[np.float64], is_noise: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the weight of noise in units of the row's cluster, on the label's side of 1."""
    # Infinitely far from a cluster without extent; but at its very place a row is all the cluster's.
    weight = np.where(own_q > 0, np.inf, 0.0)
    np.divide(own_q, noise_q, out=weight, where=(noise_q > 0) & np.isfinite(own_q))
    return np.where(is_noise, np.maximum(weight, 1 + CLEARLY), np.minimum(weight, 1 - CLEARLY))


def _sort_falling(cluster: NDArray[np.int32], weight: NDArray[np.float64]) -> None:
    """Sort the clusters behind the first by falling weight, in place; those that are none, last."""
    swapped = (cluster[:, 2] >= 0) & ((cluster[:, 1] < 0) | (weight[:, 2] > weight[:, 1]))
    cluster[swapped, 1:] = cluster[swapped, 2:0:-1]
    weight[swapped, 1:] = weight[swapped, 2:0:-1]


def _ratio(smaller: NDArray[np.float64], larger: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient of two numbers, 1 where the second is not larger: both 0, or infinite."""
    return np.divide(smaller, larger, out=np.ones_like(smaller), where=larger > smaller)


def _rounded_down(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return numbers that are not negative as float32, never larger than they are."""
    rounded = values.astype(np.float32)
    too_large = rounded > values
    rounded[too_large] = np.nextafter(rounded[too_large], np.float32(0))
    return rounded
