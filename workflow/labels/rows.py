"""Labels of rows from the labels of their nearest centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow.labels.memberships import MAX_OUTLIER_SCORE, score_limits, top_memberships
from workflow.labels.noise import NOISE_LABEL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.labels.centroids import CentroidLabels


class RowLabels(NamedTuple):
    """What is said of each row; arrays have shape (n_samples,) unless they say otherwise.

    Attributes
    ----------
    label : int32 array
        Cluster, -1 for noise unless noise is resolved.
    label_resolved : int32 array
        Cluster with noise resolved.
    strength : float32 array
        How firmly the row belongs to its cluster, 0 to 1; 0 for noise.
    centroid, second_centroid : int32 array
        Nearest two centroids; -1 where there is no second.
    distance : float32 array
        Distance to the nearest centroid [score].
    outlier_score : float32 array
        From 0 at the centroid to just below 1 far out; 0.5 at its radius.
    top_label : int32 array of shape (n_samples, 3)
        The clusters with the largest shares, by falling share, noise resolved;
        -1 where there are fewer.
    top_membership : float32 array of shape (n_samples, 3)
        Their shares; what is missing to 1 is the share of noise.
    """

    label: NDArray[np.int32]
    label_resolved: NDArray[np.int32]
    strength: NDArray[np.float32]
    centroid: NDArray[np.int32]
    second_centroid: NDArray[np.int32]
    distance: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    top_label: NDArray[np.int32]
    top_membership: NDArray[np.float32]


def label_rows(
    nearest: NDArray[np.integer[Any]],
    sq_distance: NDArray[np.floating[Any]],
    labels: CentroidLabels,
    *,
    noise: Literal["keep", "resolve"] = "keep",
    max_outlier_score: float | None = MAX_OUTLIER_SCORE,
) -> RowLabels:
    """Label rows from their nearest centroids.

    Parameters
    ----------
    nearest : int array of shape (n_samples, 2 or more)
        Nearest centroids by rising distance; -1 where there is none.
    sq_distance : float array of the same shape
        Squared distances [score squared].
    labels : CentroidLabels
        What each centroid passes on.
    noise : {"keep", "resolve"}, default "keep"
        Whether noise is labelled -1 or resolved.
    max_outlier_score : float or None, default 0.8
        Largest outlier score of a row that is not noise, from 0.5 to below 1,
        and 0.7 at most in the cell of a noise centroid; None to label each row
        as its nearest centroid.

    Returns
    -------
    RowLabels
        Seven arrays of shape (n_samples,) and two of shape (n_samples, 3).

    Raises
    ------
    ValueError
        If `noise` is another word, `max_outlier_score` is out of its range or
        `nearest` has fewer than two columns.

    See Also
    --------
    top_memberships : How a row is shared among clusters and noise.

    Notes
    -----
    The outlier score is q / (q + r) with q the squared distance plus the
    offset of the centroid, r its squared radius: above 0.8 a row is farther
    than two radii.  Where some centroids are noise and some are not,
    a row is noise if its score is above the limit: one cell can hold images
    of a cluster and stray ones.
    Where no centroid is noise, no row is.

    With q1 <= q2 the squared distances, strength is the membership of the
    nearest centroid, times (q2 - q1) / (q2 + q1) where the second one leads
    to another cluster, noise resolved; 0 for noise.  Of all shares, noise's
    included, that of ``label`` is the largest; the first of ``top_label`` is
    always ``label_resolved``.  Memory is a few numbers a row.

    Examples
    --------
    >>> from workflow.labels import CentroidLabels
    >>> one = np.ones(2, dtype=np.float32)
    >>> two = CentroidLabels(np.array([0, 1]), np.array([0, 1]), one, one, 0 * one)
    >>> rows = label_rows(np.array([[1, 0]]), np.array([[1.0, 3.0]]), two)
    >>> rows.label.tolist(), rows.strength.tolist(), rows.outlier_score.tolist()
    ([1], [0.5], [0.5])
    """
    _check_arguments(nearest, noise, max_outlier_score)
    first, second = nearest[:, 0].astype(np.int32), nearest[:, 1].astype(np.int32)
    resolved = labels.label_resolved[first]
    score = _outlier_score(sq_distance[:, 0], labels, first)
    label = _cluster(first, score, labels, noise, max_outlier_score)
    is_noise = label < 0
    margin = _margin(sq_distance, (second >= 0) & (labels.label_resolved[second] != resolved))
    top_label, top_membership = top_memberships(
        nearest,
        sq_distance,
        labels,
        is_noise,
        max_outlier_score=MAX_OUTLIER_SCORE if max_outlier_score is None else max_outlier_score,
    )
    strength = np.where(is_noise, 0.0, labels.membership[first] * margin)
    return RowLabels(
        label=label,
        label_resolved=resolved,
        strength=strength.astype(np.float32),
        centroid=first,
        second_centroid=second,
        distance=np.sqrt(sq_distance[:, 0].astype(np.float64)).astype(np.float32),
        outlier_score=score,
        top_label=top_label,
        top_membership=top_membership,
    )


def cluster_of_rows(
    nearest: NDArray[np.integer[Any]],
    sq_distance: NDArray[np.floating[Any]],
    labels: CentroidLabels,
    *,
    noise: Literal["keep", "resolve"] = "keep",
    max_outlier_score: float | None = MAX_OUTLIER_SCORE,
) -> NDArray[np.int32]:
    """Return the label of rows alone, as `label_rows` gives it.

    Parameters
    ----------
    nearest : int array of shape (n_samples, 2 or more)
        Nearest centroids by rising distance; -1 where there is none.
    sq_distance : float array of the same shape
        Squared distances [score squared].
    labels : CentroidLabels
        What each centroid passes on.
    noise : {"keep", "resolve"}, default "keep"
        As for `label_rows`.
    max_outlier_score : float or None, default 0.8
        As for `label_rows`.

    Returns
    -------
    int32 array of shape (n_samples,)
        Cluster, -1 for noise unless noise is resolved.

    Raises
    ------
    ValueError
        As `label_rows` does.
    """
    _check_arguments(nearest, noise, max_outlier_score)
    first = nearest[:, 0].astype(np.int32)
    score = _outlier_score(sq_distance[:, 0], labels, first)
    return _cluster(first, score, labels, noise, max_outlier_score)


def _cluster(
    first: NDArray[np.int32],
    score: NDArray[np.float32],
    labels: CentroidLabels,
    noise: str,
    max_outlier_score: float | None,
) -> NDArray[np.int32]:
    """Return the label of rows by their nearest centroid and their outlier score."""
    if noise == "keep" and labels.has_noise and max_outlier_score is not None:
        limit = score_limits(labels, max_outlier_score)[first]
        return np.where(score > limit, np.int32(NOISE_LABEL), labels.label_resolved[first])
    of_centroids = labels.label if noise == "keep" else labels.label_resolved
    return of_centroids[first]


def _check_arguments(
    nearest: NDArray[np.integer[Any]], noise: str, max_outlier_score: float | None
) -> None:
    """Refuse what `label_rows` cannot work with."""
    if noise not in ("keep", "resolve") or nearest.ndim != 2 or nearest.shape[1] < 2:
        msg = (
            "`noise` must be 'keep' or 'resolve' and `nearest` have two columns or more; "
            f"got {noise!r} and shape {nearest.shape}. Search for the nearest two at least."
        )
        raise ValueError(msg)
    if max_outlier_score is not None and not 0.5 <= max_outlier_score < 1:
        msg = (
            "`max_outlier_score` must be at least 0.5 and below 1, or None; "
            f"got {max_outlier_score!r}. Leave it at {MAX_OUTLIER_SCORE}."
        )
        raise ValueError(msg)


def _outlier_score(
    sq_distance: NDArray[np.floating[Any]], labels: CentroidLabels, first: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return q / (q + r), 0 where both are 0, always below 1."""
    outside = sq_distance.astype(np.float64) + labels.offset_sq[first]
    total = outside + labels.radius_sq[first]
    score = np.zeros_like(total)
    score[np.isinf(total)] = 1.0
    np.divide(outside, total, out=score, where=(total > 0) & np.isfinite(total))
    below_one = np.nextafter(np.float32(1), np.float32(0))
    return np.minimum(score.astype(np.float32), below_one)


def _margin(
    sq_distance: NDArray[np.floating[Any]], elsewhere: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return how far from the border a row lies, 0 to 1; 1 where the second centroid is no other."""
    q1, q2 = (sq_distance[:, column].astype(np.float64) for column in (0, 1))
    both = q1 + q2
    # Two coincident centroids of different clusters leave no margin at all.
    margin = np.divide(q2 - q1, both, out=np.zeros_like(both), where=elsewhere & (both > 0))
    return np.where(elsewhere, np.clip(margin, 0.0, 1.0), 1.0)
