"""Labels of centroids carried to rows."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial.distance import cdist

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

#: Label of what belongs to no cluster.
NOISE_LABEL = -1
#: Centroids compared with all labelled ones at a time: 256 x 16,384 float64 are 32 MiB.
PANEL_ROWS = 256


class GraphEdges(NamedTuple):
    """A symmetric graph of centroids in compressed rows, with a strength for each edge."""

    indptr: NDArray[np.integer[Any]]
    indices: NDArray[np.integer[Any]]
    weights: NDArray[Any]


@dataclass(frozen=True, slots=True)
class CentroidLabels:
    """What the rows of each centroid inherit from it.

    Attributes
    ----------
    label : int32 array of shape (n_centroids,)
        Cluster of the centroid, -1 for noise.
    label_resolved : int32 array of shape (n_centroids,)
        The same with noise resolved; -1 only where there is no cluster.
    membership : float32 array of shape (n_centroids,)
        How firmly the centroid belongs to its cluster, 0 to 1.
    radius_sq : float32 array of shape (n_centroids,)
        Squared reference radius of the labelled centroid it stands for
        [score squared].
    offset_sq : float32 array of shape (n_centroids,)
        Squared distance to that centroid, 0 for a labelled one [score squared].
    """

    label: NDArray[np.int32]
    label_resolved: NDArray[np.int32]
    membership: NDArray[np.float32]
    radius_sq: NDArray[np.float32]
    offset_sq: NDArray[np.float32]

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CentroidLabels:
        """Return the labels whose attributes these are."""
        return cls(**{field.name: np.asarray(arrays[field.name]) for field in fields(cls)})


class RowLabels(NamedTuple):
    """What is said of each row; every array has shape (n_samples,).

    Attributes
    ----------
    label : int32 array
        Cluster, -1 for noise unless noise is resolved.
    label_resolved : int32 array
        Cluster with noise resolved.
    strength : float32 array
        How firmly the row belongs to its cluster, 0 to 1.
    centroid, second_centroid : int32 array
        Nearest two centroids; -1 where there is no second.
    distance : float32 array
        Distance to the nearest centroid [score].
    outlier_score : float32 array
        From 0 at the centroid to just below 1 far out; 0.5 at its radius.
    """

    label: NDArray[np.int32]
    label_resolved: NDArray[np.int32]
    strength: NDArray[np.float32]
    centroid: NDArray[np.int32]
    second_centroid: NDArray[np.int32]
    distance: NDArray[np.float32]
    outlier_score: NDArray[np.float32]


def resolve_noise(
    label: NDArray[np.integer[Any]],
    indptr: NDArray[np.integer[Any]],
    indices: NDArray[np.integer[Any]],
    weights: NDArray[Any],
    centroids: NDArray[Any],
) -> NDArray[np.int32]:
    """Give every noise centroid the label of the first cluster it meets along the graph.

    Parameters
    ----------
    label : int array of shape (n_centroids,)
        Cluster of each centroid, negative for noise.
    indptr, indices : int arrays of shape (n_centroids + 1,) and (n_edges,)
        Symmetric graph in compressed rows.
    weights : array of shape (n_edges,)
        Strength of each edge, larger first; not positive means no edge.
    centroids : float array of shape (n_centroids, n_features)
        Centroids [score].

    Returns
    -------
    int32 array of shape (n_centroids,)
        Resolved labels; -1 only where no centroid has a label.

    Raises
    ------
    ValueError
        If the shapes do not agree.

    Notes
    -----
    Edges are taken strongest first (ties: shorter, then lower indices).  An
    edge between two noise components joins them; one between a noise
    component and a labelled centroid gives it that label: a minimum spanning
    forest rooted at the labelled centroids.  A component that no edge leads
    out of takes the label of the labelled centroid nearest to any of its
    members, as if bridged there.  For the order of a tree of lengths pass
    1 / length.  Cost: sorting the edges at noise.

    Examples
    --------
    >>> indptr, indices = np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1])
    >>> centroids = np.array([[0.0], [1.0], [9.0]])
    >>> resolve_noise(np.array([0, -1, 1]), indptr, indices, np.array([1, 1, 5, 5]), centroids)
    array([0, 1, 1], dtype=int32)
    """
    label = np.asarray(label)
    target = _targets(label, GraphEdges(indptr, indices, weights), centroids)
    return np.where(target >= 0, label[target], NOISE_LABEL).astype(np.int32)


def centroid_labels(
    label: NDArray[np.integer[Any]],
    membership: NDArray[np.floating[Any]],
    graph: GraphEdges | tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    *,
    centroids: NDArray[Any],
    rms_radius: NDArray[np.floating[Any]],
    population: NDArray[np.integer[Any]],
) -> CentroidLabels:
    """Gather what rows inherit from their centroid.

    Parameters
    ----------
    label : int array of shape (n_centroids,)
        Cluster of each centroid, negative for noise.
    membership : float array of shape (n_centroids,)
        How firmly each belongs to its cluster, 0 to 1.
    graph : GraphEdges or tuple
        ``(indptr, indices, weights)`` as for `resolve_noise`.
    centroids : float array of shape (n_centroids, n_features)
        Centroids [score].
    rms_radius : float array of shape (n_centroids,)
        Root mean square distance of its rows [score].
    population : int array of shape (n_centroids,)
        Rows of each cell.

    Returns
    -------
    CentroidLabels
        Arrays for `label_rows`.

    Raises
    ------
    ValueError
        If the shapes do not agree or a membership is not in [0, 1].

    Notes
    -----
    The radius of a labelled centroid is its own; where it is 0 or from one
    row, the median over its cluster weighted by population, else over all
    labelled centroids.  A noise centroid has the radius of the labelled one
    it resolves to, and the squared distance between the two as offset.
    """
    label = np.asarray(label)
    membership = np.asarray(membership, dtype=np.float32)
    sizes = {np.shape(rms_radius), np.shape(population), membership.shape, label.shape}
    if len(sizes) > 1 or not ((membership >= 0) & (membership <= 1)).all():
        msg = (
            "`membership`, `rms_radius` and `population` must have one value a centroid and "
            f"memberships lie in [0, 1]; got shapes {sorted(sizes)}. Take them from one run."
        )
        raise ValueError(msg)
    target = _targets(label, GraphEdges(*graph), centroids)
    resolved = np.where(target >= 0, label[target], NOISE_LABEL).astype(np.int32)
    radius = _reference_radius(label, np.asarray(rms_radius, np.float64), np.asarray(population))
    # With no cluster at all, every centroid stands for itself.
    stands_for = np.where(target >= 0, target, np.arange(label.size))
    c = np.asarray(centroids, dtype=np.float64)
    offset = c - c[stands_for]
    return CentroidLabels(
        label=np.maximum(label, NOISE_LABEL).astype(np.int32),
        label_resolved=resolved,
        membership=membership,
        radius_sq=(radius[stands_for] ** 2).astype(np.float32),
        offset_sq=np.einsum("ij,ij->i", offset, offset).astype(np.float32),
    )


def label_rows(
    nearest: NDArray[np.integer[Any]],
    sq_distance: NDArray[np.floating[Any]],
    labels: CentroidLabels,
    *,
    noise: Literal["keep", "resolve"] = "keep",
) -> RowLabels:
    """Label rows from their nearest two centroids.

    Parameters
    ----------
    nearest : int array of shape (n_samples, 2 or more)
        Nearest centroids by rising distance; -1 where there is none.
    sq_distance : float array of the same shape
        Squared distances [score squared].
    labels : CentroidLabels
        What each centroid hands on.
    noise : {"keep", "resolve"}, default "keep"
        Whether rows of noise centroids are labelled -1 or resolved.

    Returns
    -------
    RowLabels
        Seven arrays of shape (n_samples,).

    Raises
    ------
    ValueError
        If `noise` is another word or `nearest` has fewer than two columns.

    Notes
    -----
    With q1 <= q2 the squared distances, strength is the membership of the
    nearest centroid, times (q2 - q1) / (q2 + q1) where the second one leads
    to another cluster, noise resolved.  The outlier score is q / (q + r) with
    q the squared distance plus the offset of the centroid, r its squared
    radius.  Memory is a few numbers a row.

    Examples
    --------
    >>> one = np.ones(2, dtype=np.float32)
    >>> two = CentroidLabels(np.array([0, 1]), np.array([0, 1]), one, one, 0 * one)
    >>> rows = label_rows(np.array([[1, 0]]), np.array([[1.0, 3.0]]), two)
    >>> rows.label.tolist(), rows.strength.tolist(), rows.outlier_score.tolist()
    ([1], [0.5], [0.5])
    """
    if noise not in ("keep", "resolve") or nearest.ndim != 2 or nearest.shape[1] < 2:
        msg = (
            "`noise` must be 'keep' or 'resolve' and `nearest` have two columns or more; "
            f"got {noise!r} and shape {nearest.shape}. Search for the nearest two at least."
        )
        raise ValueError(msg)
    first, second = nearest[:, 0].astype(np.int32), nearest[:, 1].astype(np.int32)
    q1, q2 = (sq_distance[:, column].astype(np.float64) for column in (0, 1))
    resolved = labels.label_resolved[first]
    elsewhere = (second >= 0) & (labels.label_resolved[second] != resolved)
    q2 = np.where(elsewhere, q2, 1.0)
    both = np.where(elsewhere, q1 + q2, 1.0)
    # Two coincident centroids of different clusters leave no margin at all.
    margin = np.divide(q2 - q1, both, out=np.zeros_like(both), where=both > 0)
    margin = np.where(elsewhere, np.clip(margin, 0.0, 1.0), 1.0)
    outside = q1 + labels.offset_sq[first]
    total = outside + labels.radius_sq[first]
    score = np.divide(outside, total, out=np.zeros_like(total), where=total > 0)
    below_one = np.nextafter(np.float32(1), np.float32(0))
    return RowLabels(
        label=resolved if noise == "resolve" else labels.label[first],
        label_resolved=resolved,
        strength=(labels.membership[first] * margin).astype(np.float32),
        centroid=first,
        second_centroid=second,
        distance=np.sqrt(q1).astype(np.float32),
        outlier_score=np.minimum(score.astype(np.float32), below_one),
    )


def _targets(
    label: NDArray[np.integer[Any]], graph: GraphEdges, centroids: NDArray[Any]
) -> NDArray[np.int64]:
    """Return the labelled centroid that each one resolves to; -1 where none has a label."""
    n = label.size
    centroids = np.asarray(centroids, dtype=np.float64)
    indptr, indices, weights = (np.asarray(part) for part in graph)
    if (
        centroids.ndim != 2
        or centroids.shape[0] != n
        or indptr.shape != (n + 1,)
        or indices.shape != weights.shape
    ):
        msg = (
            "`label`, `centroids` and the graph must be of the same centroids; got shapes "
            f"{label.shape}, {centroids.shape}, indptr {indptr.shape}, indices {indices.shape}, "
            f"weights {weights.shape}. Take them from one run."
        )
        raise ValueError(msg)
    is_labelled = label >= 0
    target = np.where(is_labelled, np.arange(n), -1)
    if is_labelled.all() or not is_labelled.any():
        return target
    start = np.repeat(np.arange(n), np.diff(indptr))
    used = (start < indices) & (weights > 0) & ~(is_labelled[start] & is_labelled[indices])
    start, end, strength = start[used], indices[used].astype(np.intp), weights[used]
    difference = centroids[start] - centroids[end]
    sq_length = np.einsum("ij,ij->i", difference, difference)
    order = np.lexsort((end, start, sq_length, -strength.astype(np.float64)))
    _follow_edges(target, start[order], end[order])
    lost = np.flatnonzero(target < 0)
    if lost.size:
        shape = (n, n)
        edges = sparse.coo_array((np.ones(start.size), (start, end)), shape=shape)
        component = csgraph.connected_components(edges, directed=False)[1]
        target[lost] = _nearest_labelled(centroids, np.flatnonzero(is_labelled), lost, component)
    return target


def _follow_edges(
    target: NDArray[np.int64], start: NDArray[np.intp], end: NDArray[np.intp]
) -> None:
    """Fill in targets along the forest that sorted edges make, rooted at known targets."""
    n = target.size
    known = np.flatnonzero(target >= 0)
    # A node more, tied to every known target before any other edge, turns the forest into a tree.
    # Ranks instead of strengths: no two edges are equal, so the tree is unique.
    rank = np.concatenate([np.full(known.size, 0.5), np.arange(1.0, start.size + 1)])
    rows = np.concatenate([np.full(known.size, n), start])
    columns = np.concatenate([known, end])
    ends = (rows.astype(np.int32), columns.astype(np.int32))  # SciPy before 1.17.1 takes only these
    edges = sparse.csr_array((rank, ends), shape=(n + 1, n + 1))
    tree = csgraph.minimum_spanning_tree(edges)
    order, predecessor = csgraph.breadth_first_order(tree, n, directed=False)
    for node in order[1:]:
        if target[node] < 0:
            target[node] = target[predecessor[node]]


def _nearest_labelled(
    centroids: NDArray[np.float64],
    labelled: NDArray[np.intp],
    lost: NDArray[np.intp],
    component: NDArray[np.int32],
) -> NDArray[np.intp]:
    """Return, for lost centroids, the labelled one nearest to any member of their component."""
    nearest = np.empty(lost.size, dtype=np.intp)
    sq_distance = np.empty(lost.size)
    for first in range(0, lost.size, PANEL_ROWS):
        panel = slice(first, first + PANEL_ROWS)
        found = cdist(centroids[lost[panel]], centroids[labelled], "sqeuclidean")
        column = found.argmin(axis=1)
        nearest[panel] = labelled[column]
        sq_distance[panel] = found[np.arange(column.size), column]
    order = np.lexsort((lost, sq_distance, component[lost]))
    _, first_of, inverse = np.unique(component[lost[order]], return_index=True, return_inverse=True)
    result = np.empty_like(nearest)
    result[order] = nearest[order][first_of][inverse]
    return result


def _reference_radius(
    label: NDArray[np.integer[Any]],
    radius: NDArray[np.float64],
    population: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Return radii with those that say nothing replaced by a median."""
    says_something = (radius > 0) & (population >= 2)
    is_labelled = label >= 0
    everywhere = says_something & (is_labelled if is_labelled.any() else True)
    overall = _weighted_median(radius[everywhere], population[everywhere])
    result = radius.copy()
    for cluster in np.unique(label[~says_something]):
        inside = says_something & (label == cluster) & is_labelled
        floor = _weighted_median(radius[inside], population[inside]) if inside.any() else overall
        result[~says_something & (label == cluster)] = floor
    return result


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.integer[Any]]) -> float:
    """Return the smallest value with at least half the weight up to it; 0 for no value."""
    if values.size == 0:
        return 0.0
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(2 * cumulative, cumulative[-1])])
