"""From centroids, populations and their graph to clusters: one function for every method."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workflow.errors import ConfigError
from workflow.tree.auto import Choice, choose
from workflow.tree.contrast.method import clusters_by_threshold, clusters_of_any_size
from workflow.tree.cutting import assemble, check_choices, is_testable
from workflow.tree.density.method import MIN_LOG_DENSITY_RISE
from workflow.tree.methods import AUTO, METHODS, method_of
from workflow.tree.nodes import make_nodes, real_array
from workflow.tree.problem import Problem
from workflow.tree.resampling import assess

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from workflow.graph import Graph
    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.method import Method
    from workflow.tree.nodes import Nodes


def build_tree(
    centroids: ArrayLike,
    population: ArrayLike,
    graph: Graph,
    *,
    dimension: float,
    method: str = "auto",
    min_cluster_size: int | str = "auto",
    min_samples: int | str = "auto",
    cluster_selection_method: str = "eom",
    min_log_density_rise: float = MIN_LOG_DENSITY_RISE,
    mean_distance: ArrayLike | None = None,
    n_resamples: int = 0,
    has_clusters: bool | None = None,
    community: ArrayLike | None = None,
) -> ClusterTree:
    """Build the hierarchy of the centroids and cut it into clusters.

    Parameters
    ----------
    centroids : float array of shape (n_centroids, n_components) [unit of the scores]
        Centroids, finite.
    population : int array of shape (n_centroids,) [images]
        Images of each centroid, at least 1.
    graph : Graph
        The centroid graph, zero diagonal: `weights` counts the images that have
        both ends among their nearest three centroids, `weights_two` those whose
        nearest two they are; without it they are taken to be equal.
    dimension : float
        Intrinsic dimension of the images, positive.
    method : {"auto", "contrast", "density", "hdbscan", "modularity"}
        How to build the tree.  ``"density"``: single linkage on the spacing of
        images.  ``"contrast"``: bottom-up, with a test of each join.
        ``"modularity"``: the cut of largest modularity of the dendrogram of the
        flows within and above communities.  ``"hdbscan"`` has the hdbscan library link the centroids as
        points; sizes are in images, which the library cannot weigh, so
        condensing and selecting are ours.  ``"auto"`` chooses between the first
        three (`workflow.tree.auto.choose`); the result says which, why, and
        how many clusters the others find.
    min_cluster_size : int or "auto" [images]
        Minimum images of a cluster; ``"auto"`` is five times the mean population,
        once that for ``"modularity"`` on too few images for a test.
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
    n_resamples : int
        Trees to build on redrawn counts, to tell how sure the clusters are
        (`ClusterTree.certainty`); 0 leaves that unknown.
    has_clusters : bool, optional
        What a test of the images themselves says, where there are too few for
        a test of the tree: with ``"auto"``, False leaves one cluster, and the
        structure is not ``"untested"``.
    community : int array of shape (n_centroids,), optional
        Communities that the images themselves have, where `graph` adds up the
        graph of the images between centroids instead of counting who has which
        centroids among the nearest (`workflow.families.ties_between`).

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
    16,384 centroids take less than a second without redrawn counts.
    """
    nodes = make_nodes(centroids, population, graph)
    images = np.asarray(population, np.int64)
    _check_numbers(dimension, min_log_density_rise, n_resamples)
    requested = None if method == AUTO else method_of(method)
    size = _whole_number("min_cluster_size", min_cluster_size)
    check_choices(cluster_selection_method, 1 if size is None else size)
    problem = Problem(
        nodes=nodes,
        population=images,
        dimension=dimension,
        min_cluster_size=size,
        min_samples=_whole_number("min_samples", min_samples),
        selection=cluster_selection_method,
        min_log_density_rise=min_log_density_rise,
        mean_distance=_mean_distances(mean_distance, nodes, images),
        testable=is_testable(images),
        has_clusters=has_clusters,
        given=_given_communities(community, nodes),
    )
    tree = _built(problem, requested)
    if not n_resamples:
        return tree
    return replace(tree, certainty=assess(problem, tree, n_resamples))


def _built(problem: Problem, requested: Method | None) -> ClusterTree:
    """Build the tree of a method, or of the one chosen, with what the test and other methods find."""
    tested = choose(problem)
    choice = tested if requested is None else Choice(requested, "it was asked for")
    method = choice.method
    tree = assemble(problem.leaves(method), choice.cut or method.cut(problem), method=method.name)
    by_test = problem.labelling(tested.method, tested.cut)
    same = np.array_equal(by_test.label[tree.node], tree.label)
    if problem.testable or problem.has_clusters is not None:
        n_tested = len(by_test.selected)
        structure = "clusters" if n_tested > 1 else "none"
        tree = replace(tree, structure=structure, n_clusters_tested=n_tested)
    tree = replace(tree, is_requested=not same)
    found = {
        other.name: len(problem.labelling(other).selected)
        for other in METHODS.values()
        if other is method or other.can_build(problem)
    }
    tree = replace(tree, reason=choice.reason, n_clusters_by_method=found)
    if not problem.testable or method.reads == "positions":
        return tree
    return replace(
        tree,
        n_clusters_by_threshold=clusters_by_threshold(problem),
        n_clusters_small=clusters_of_any_size(problem),
    )


def _check_numbers(dimension: float, rise: float, n_resamples: int) -> None:
    """Raise ConfigError unless the scalar arguments are legal."""
    if n_resamples < 0:
        msg = f"n_resamples must be at least 0; got {n_resamples}. Pass 0 to switch it off."
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


def _whole_number(name: str, value: int | str) -> int | None:
    """Return a number that may be automatic, then None."""
    if value == "auto":
        return None
    if isinstance(value, str) or value < 1:
        msg = f"{name} must be at least 1 or 'auto'; got {value!r}. Pass one of them."
        raise ConfigError(msg)
    return int(value)


def _given_communities(community: ArrayLike | None, nodes: Nodes) -> NDArray[np.int64] | None:
    """Return the community per node, the lowest of coincident centroids."""
    if community is None:
        return None
    names = np.unique(np.asarray(community), return_inverse=True)[1]
    if names.shape != nodes.node.shape:
        msg = (
            f"community must be of shape {nodes.node.shape}; got {names.shape}. "
            "Pass one number per centroid."
        )
        raise ConfigError(msg)
    found = np.full(nodes.n_nodes, len(names))
    np.minimum.at(found, nodes.node, names)
    return found


def _mean_distances(
    mean_distance: ArrayLike | None, nodes: Nodes, population: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the mean distance per node, averaged over coincident centroids by images."""
    if mean_distance is None:
        return None
    values = real_array("mean_distance", mean_distance)
    if values.shape != population.shape or not (np.isfinite(values) & (values >= 0)).all():
        msg = (
            f"mean_distance must be finite, not negative and of shape {population.shape}; got "
            f"shape {values.shape} or another value. Pass the mean distance per centroid."
        )
        raise ConfigError(msg)
    total = np.bincount(nodes.node, values * population, minlength=nodes.n_nodes)
    return total / nodes.population
