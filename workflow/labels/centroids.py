"""What the rows of each centroid inherit from it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.labels.noise import NOISE_LABEL, noise_targets
from workflow.numerics import edge_lengths, ranks, weighted_median

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.graph import Graph

#: Largest radius of a cell against the median of its cluster.  No theory gives the number: 1.5 to 3
#: separate noise from blobs about equally well, and at density 1/16 a plane's cells are twice as wide.
MAX_WIDTH = 2.0
#: Cells of a cluster are of two kinds when so large a factor lies between the widths of the ones and of
#: the others; clusters of digits and photographs leave 1.4 at most, stray images around them 2.6 and more.
WIDTH_GAP = 2.0
#: The narrow ones are a cluster if there are so many, with as many images as so many average cells.
MIN_CELLS = 5
#: Cells of so few images say little by their radius: wide ones are noise where they lie.
FEW_IMAGES = 3


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

    @property
    def has_noise(self) -> bool:
        """Whether the tree found both clusters and noise."""
        return bool((self.label < 0).any() and (self.label >= 0).any())

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name.

        Returns
        -------
        dict of str to array
            What `from_arrays` takes.
        """
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> CentroidLabels:
        """Return the labels whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to array
            Attributes by name.

        Returns
        -------
        CentroidLabels
            Equal to what `to_arrays` was called on.
        """
        return cls(**{field.name: np.asarray(arrays[field.name]) for field in fields(cls)})

    def renumbered(self, order: NDArray[np.integer[Any]]) -> CentroidLabels:
        """Return the same labels with the clusters in another order.

        Parameters
        ----------
        order : int array of shape (n_clusters,)
            Present number of each cluster, in the new order.

        Returns
        -------
        CentroidLabels
            Noise stays -1.
        """
        return self._mapped(ranks(order))

    def with_ids(self, ids: NDArray[np.integer[Any]]) -> CentroidLabels:
        """Return the same labels with other numbers for the clusters.

        Parameters
        ----------
        ids : int array of shape (n_clusters,)
            New number of each cluster.

        Returns
        -------
        CentroidLabels
            Noise stays -1.
        """
        return self._mapped(np.append(ids, NOISE_LABEL).astype(np.int32))

    def _mapped(self, number: NDArray[np.int32]) -> CentroidLabels:
        """Return the labels with the numbers of a table, whose last entry is that of noise."""
        return replace(self, label=number[self.label], label_resolved=number[self.label_resolved])


def order_by_size(
    label: NDArray[np.integer[Any]], sizes: NDArray[np.integer[Any]]
) -> NDArray[np.int64]:
    """Return the clusters by falling size, those of equal size by their lowest centroid.

    Parameters
    ----------
    label : int array of shape (n_centroids,)
        Cluster of each centroid, -1 for noise.
    sizes : int array of shape (n_clusters,) [images]
        Images of each cluster.

    Returns
    -------
    int64 array of shape (n_clusters,)
        Number of each cluster, the largest first.
    """
    lowest = np.full(len(sizes) + 1, len(label))
    np.minimum.at(lowest, label, np.arange(len(label)))
    return np.lexsort((lowest[:-1], -sizes))


def centroid_labels(
    label: NDArray[np.integer[Any]],
    membership: NDArray[np.floating[Any]],
    graph: Graph,
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
    graph : Graph
        As for `resolve_noise`.
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
    labelled centroids.  Where the cells of a cluster are of two kinds, and
    the wide ones are at least twice as wide as the others, these are noise:
    strays that no cluster of their own took in; so is a cell of three rows or
    less that is twice as wide as the median.  The radius is at most twice the median of its cluster: a cell
    that is wider holds stray rows, and by their own radius none would be far
    out.  (The median weighted by population or by cells, the larger: many rows
    can be at nearly one place.)  A noise centroid has the radius of the labelled one
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
    radius, population = np.asarray(rms_radius, np.float64), np.asarray(population)
    if (label < 0).any():
        label = np.where(_is_stray(label, radius, population, graph, centroids), NOISE_LABEL, label)
    target = noise_targets(label, graph, centroids)
    resolved = np.where(target >= 0, label[target], NOISE_LABEL).astype(np.int32)
    radius = _reference_radius(label, radius, population)
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


def _is_stray(
    label: NDArray[np.integer[Any]],
    radius: NDArray[np.float64],
    population: NDArray[np.integer[Any]],
    graph: Graph,
    centroids: NDArray[Any],
) -> NDArray[np.bool_]:
    """Return which cells are far wider than their cluster: with no others between, or of few images."""
    gap = _nearest_neighbour(graph, centroids)
    # A cell of one image, or of copies, has no radius but is as wide as what is around it.
    width = np.maximum(radius, np.where(np.isfinite(gap), gap / 2, 0))
    enough = MIN_CELLS * population.mean()
    stray = np.zeros(label.size, np.bool_)
    order = np.lexsort((width, label))
    order = order[(label[order] >= 0) & (width[order] > 0)]
    bounds = np.flatnonzero(np.diff(label[order])) + 1
    for cells in np.split(order, bounds):
        usual = weighted_median(width[cells], population[cells])
        stray[cells] = (population[cells] <= FEW_IMAGES) & (width[cells] > MAX_WIDTH * usual)
        if len(cells) <= MIN_CELLS:
            continue
        ratio = width[cells[MIN_CELLS:]] / width[cells[MIN_CELLS - 1 : -1]]
        held = np.cumsum(population[cells])[MIN_CELLS - 1 : -1]
        ratio[held < enough] = 0
        widest = int(ratio.argmax())
        if ratio[widest] >= WIDTH_GAP:
            stray[cells[MIN_CELLS + widest :]] = True
    return stray


def _nearest_neighbour(graph: Graph, centroids: NDArray[Any]) -> NDArray[np.float64]:
    """Return the distance of each centroid to the nearest that it shares an edge with."""
    gap = np.full(len(centroids), np.inf)
    length = edge_lengths(centroids, graph.rows(), graph.indices)
    has_edges = np.diff(graph.indptr) > 0
    gap[has_edges] = np.minimum.reduceat(length, graph.indptr[:-1][has_edges])
    return gap


def _reference_radius(
    label: NDArray[np.integer[Any]],
    radius: NDArray[np.float64],
    population: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Return radii with those that say nothing replaced by a median, and those of stray rows cut."""
    says_something = (radius > 0) & (population >= 2)
    is_labelled = label >= 0
    everywhere = says_something & (is_labelled if is_labelled.any() else True)
    overall = weighted_median(radius[everywhere], population[everywhere])
    result = radius.copy()
    for cluster in np.unique(label):
        here = label == cluster
        inside = here & says_something & is_labelled
        usual = overall
        if inside.any():
            usual = weighted_median(radius[inside], population[inside])
            # The larger of two medians: half of a cluster may be near-duplicates, in few cells.
            by_cell = weighted_median(radius[inside], np.ones(np.count_nonzero(inside), np.int64))
            result[inside] = np.minimum(radius[inside], MAX_WIDTH * max(usual, by_cell))
        result[here & ~says_something] = usual
    return result
