"""From centroids, populations and their graph to clusters: one face for every method."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workflow.errors import ConfigError
from workflow.tree.chooser import is_density_believable, separates_more
from workflow.tree.contrast_tree import contrast_linkage
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.cutting import assemble, check_choices, is_testable
from workflow.tree.density import MIN_LOG_DENSITY_RISE, density_linkage
from workflow.tree.flow_tree import RESOLUTION, flow_linkage
from workflow.tree.layers import SELECTION_METHODS, Cut, Leaves
from workflow.tree.library import library_linkage
from workflow.tree.nodes import make_nodes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.nodes import Nodes

#: Names of `method`.
METHODS = ("auto", "contrast", "density", "hdbscan", "modularity")
#: Fewest centroids of average size that a cluster has, unless its size is given.
CENTROIDS_PER_CLUSTER = 5
#: The hdbscan library's own default.
LIBRARY_MIN_SAMPLES = 5


def build_tree(
    centroids: ArrayLike,
    population: ArrayLike,
    graph: tuple[ArrayLike, ...],
    *,
    dimension: float,
    method: str = "auto",
    min_cluster_size: int | str = "auto",
    min_samples: int | str = "auto",
    cluster_selection_method: str = "eom",
    min_log_density_rise: float = MIN_LOG_DENSITY_RISE,
    mean_distance: ArrayLike | None = None,
) -> ClusterTree:
    """Build the hierarchy of the centroids and cut it into clusters.

    Parameters
    ----------
    centroids : float array of shape (n_centroids, n_components) [unit of the scores]
        Centroids, finite.
    population : int array of shape (n_centroids,) [images]
        Images of each centroid, at least 1.
    graph : tuple of arrays
        ``(indptr, indices, weights)`` or ``(indptr, indices, weights,
        weights_of_three)``: symmetric CSR with zero diagonal of the images whose
        two nearest centroids are i and j, and of the same over the three pairs
        of the nearest three.
    dimension : float
        Intrinsic dimension of the images, positive.
    method : {"auto", "density", "hdbscan"}
        How to build the tree; ``"auto"`` is ``"density"``.  ``"hdbscan"`` has
        the hdbscan library link the centroids as points; sizes are in images,
        which the library cannot weigh, so condensing and selecting are ours.
    min_cluster_size : int or "auto" [images]
        Fewest images of a cluster; ``"auto"`` is five times the mean population.
    min_samples : int or "auto"
        ``"density"``: neighbours in the graph, nearest first, averaged in a
        core length; ``"auto"`` is all.  ``"hdbscan"``: the library's
        parameter, in centroids; ``"auto"`` is 5.
    cluster_selection_method : {"eom", "leaf"}
        Excess of mass, or the leaves of the condensed tree.
    min_log_density_rise : float
        ``"density"`` only: a side of a split counts where its images are this
        much denser than the split on average, in log density; 0 counts every side
        that is large enough, as HDBSCAN does.
    mean_distance : float array of shape (n_centroids,), optional [unit of the scores]
        Mean distance of the images of a centroid to it; lets ``"density"``
        see how dense a lone heavy centroid is.

    Returns
    -------
    ClusterTree
        Hierarchy, labels, memberships and layers.  Without structure there is
        one cluster, label 0, and no noise.

    Raises
    ------
    ConfigError
        If an array or a choice is not as above.

    Notes
    -----
    Nothing depends on the order of the centroids but the order of clusters of
    equal size; a centroid given as two coincident halves changes nothing.
    16,384 centroids take one to two seconds.
    """
    nodes = make_nodes(centroids, population, graph)
    images = np.asarray(population, np.int64)
    _check_numbers(method, dimension, min_log_density_rise)
    _check_size(min_cluster_size)
    check_choices(cluster_selection_method, 1)
    samples = _samples(min_samples)
    distance = _mean_distances(mean_distance, nodes, images)

    def size(n_centroids: float = CENTROIDS_PER_CLUSTER) -> int:
        """Return the smallest cluster in images; that of `n_centroids` unless it is given."""
        if not isinstance(min_cluster_size, str):
            return int(min_cluster_size)
        return max(2, round(n_centroids * int(images.sum()) / len(images)))

    def density() -> ClusterTree:
        linkage = density_linkage(
            nodes, dimension=dimension, min_samples=samples or 0, mean_distance=distance
        )
        how = Cut(size(), min_log_density_rise / dimension, cluster_selection_method)
        return assemble(Leaves(linkage, nodes.node, images), how, method="density")

    def contrast() -> tuple[ClusterTree, NDArray[np.bool_]]:
        linkage, ladder, is_sparse = contrast_linkage(nodes, size())
        how = Cut(size(), -math.log(DEFAULT_RATIO), "leaf")
        leaves = Leaves(linkage, nodes.node, images)
        return assemble(leaves, how, method="contrast", ladder=ladder), is_sparse

    def by_modularity() -> ClusterTree:
        how = Cut(size(1), -math.log(RESOLUTION), "leaf")
        leaves = Leaves(flow_linkage(nodes), nodes.node, images)
        return assemble(leaves, how, method="modularity")

    def library() -> ClusterTree:
        linkage = library_linkage(nodes, samples or LIBRARY_MIN_SAMPLES)
        how = Cut(size(), 0.0, cluster_selection_method)
        return assemble(Leaves(linkage, nodes.node, images), how, method="hdbscan")

    def automatic() -> ClusterTree:
        """Choose between the others; the rules are those of the docstring."""
        dense = density()
        first = np.unique(nodes.node, return_index=True)[1]
        label = dense.label[first]
        if is_testable(images):
            other, is_sparse = contrast()
            if not separates_more(nodes, label, other.label[first]):
                return other
            believable = is_density_believable(nodes, label, is_sparse, testable=True)
        else:
            other = by_modularity()
            none_sparse = np.zeros(nodes.n_nodes, bool)
            believable = is_density_believable(nodes, label, none_sparse, testable=False)
        return dense if believable else other

    makers = {
        "auto": automatic,
        "contrast": lambda: contrast()[0],
        "density": density,
        "hdbscan": library,
        "modularity": by_modularity,
    }
    return makers[method]()


def _check_numbers(method: str, dimension: float, rise: float) -> None:
    """Raise ConfigError unless the scalar arguments are legal."""
    if method not in METHODS:
        msg = f"method must be one of {', '.join(METHODS)}; got {method!r}. Choose one of them."
        raise ConfigError(msg)
    if not (math.isfinite(dimension) and dimension > 0):
        msg = (
            f"dimension must be finite and above 0; got {dimension}. "
            "Pass the intrinsic dimension of the images."
        )
        raise ConfigError(msg)
    if not (math.isfinite(rise) and rise >= 0):
        msg = f"min_log_density_rise must be at least 0; got {rise}. Pass 0 to switch it off."
        raise ConfigError(msg)


def _check_size(size: int | str) -> None:
    """Raise ConfigError unless the smallest cluster is a number or automatic."""
    if isinstance(size, str):
        if size != "auto":
            msg = f"min_cluster_size must be a number of images or 'auto'; got {size!r}. Pass one."
            raise ConfigError(msg)
    else:
        check_choices(SELECTION_METHODS[0], size)


def _samples(min_samples: int | str) -> int | None:
    """Return `min_samples` as a number, None for automatic."""
    if min_samples == "auto":
        return None
    if isinstance(min_samples, str) or min_samples < 1:
        msg = f"min_samples must be at least 1 or 'auto'; got {min_samples!r}. Pass one of them."
        raise ConfigError(msg)
    return int(min_samples)


def _mean_distances(
    mean_distance: ArrayLike | None, nodes: Nodes, population: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the mean distance per node, averaged over coincident centroids by images."""
    if mean_distance is None:
        return None
    values = np.asarray(mean_distance, np.float64)
    if values.shape != population.shape or not (np.isfinite(values) & (values >= 0)).all():
        msg = (
            f"mean_distance must be finite, not negative and of shape {population.shape}; got "
            f"shape {values.shape} or another value. Pass the mean distance per centroid."
        )
        raise ConfigError(msg)
    total = np.bincount(nodes.node, values * population, minlength=nodes.n_nodes)
    return total / nodes.population
