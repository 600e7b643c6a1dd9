"""How sure the clusters are: the same tree on redrawn counts, and the borders between clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.rng import generator
from workflow.threads import in_threads
from workflow.tree.certainty import Certainty
from workflow.tree.layers import Cut
from workflow.tree.methods import method_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.problem import Problem

#: A cluster is found again where one of a redrawn tree shares at least this much with it: the
#: images of both over those of either.
FOUND_AGAIN = 0.5
#: Every so many-th redrawn tree looks for its communities from scratch.
FROM_SCRATCH_EVERY = 5


def assess(problem: Problem, tree: ClusterTree, n_resamples: int) -> Certainty:
    """Build the tree again on redrawn counts, and test the borders of its clusters.

    Parameters
    ----------
    problem : Problem
        What the tree was made from.
    tree : ClusterTree
        The tree, made from `problem`.
    n_resamples : int
        Trees to build on redrawn counts, at least 1.

    Returns
    -------
    Certainty
        Of the clusters of the tree.

    Notes
    -----
    The counts of images and of pairs are sums over images, so those of another
    sample of the same images are nearly independent Poisson draws around them:
    a bootstrap without images.  It does not move the centroids.  The method and
    its cut stay as they were chosen; four of five redrawn trees improve the
    communities that were found, the fifth finds its own.  A cluster is found
    again after [1]_, by the Jaccard coefficient.  16,384 centroids take a
    tenth of a second for each redrawn tree, on two processors half of that.

    References
    ----------
    .. [1] C. Hennig, "Cluster-wise assessment of cluster stability",
       Computational Statistics & Data Analysis 52, 2007.
    """
    nodes = problem.nodes
    first = np.unique(nodes.node, return_index=True)[1]
    label = tree.label[first]
    method = method_of(tree.method)
    cut = Cut(tree.min_cluster_size, tree.min_prominence, tree.cluster_selection_method)
    # Made here, so that threads only read them.
    _ = problem.lengths, problem.boxes, problem.bridges, problem.community_of_nodes

    def redraw(draw: int) -> tuple[int, NDArray[np.bool_]]:
        rng = generator(0, "tree/resample", draw)
        drawn = problem.redraw(rng, from_scratch=draw % FROM_SCRATCH_EVERY == 0)
        found = drawn.labelling(method, cut)
        again = found_again(label, found.label, nodes.population)
        return len(found.selected), again

    numbers, again = zip(*in_threads(redraw, range(n_resamples)), strict=True)
    border, nearest = _weakest_borders(problem, label, tree.n_clusters)
    share = np.sum(again, axis=0) / n_resamples
    return Certainty(np.array(numbers, np.int64), share, border, nearest)


def found_again(
    label: NDArray[np.int32], other: NDArray[np.int32], images: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which clusters share enough images with one of another labelling.

    Parameters
    ----------
    label, other : int32 arrays of shape (n_nodes,)
        Clusters from 0, -1 for noise.
    images : int64 array of shape (n_nodes,) [images]
        Images of each node.

    Returns
    -------
    bool array of shape (n_clusters,)
        Whether a Jaccard coefficient of at least one half is reached.
    """
    n_clusters = int(label.max()) + 1
    n_others = int(other.max()) + 1
    both = (label >= 0) & (other >= 0)
    pair = label[both].astype(np.int64) * n_others + other[both]
    shared = np.bincount(pair, images[both], minlength=n_clusters * n_others)
    own = np.bincount(label[label >= 0], images[label >= 0], minlength=n_clusters)
    theirs = np.bincount(other[other >= 0], images[other >= 0], minlength=n_others)
    shared = shared.reshape(n_clusters, n_others)
    either = own[:, None] + theirs - shared
    return np.asarray((shared >= FOUND_AGAIN * either).any(axis=1))


def _weakest_borders(
    problem: Problem, label: NDArray[np.int32], n_clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the confidence of each cluster's weakest border, and the cluster behind it."""
    confidence, nearest = np.ones(n_clusters), np.full(n_clusters, -1, np.int32)
    if n_clusters < 2:
        return confidence, nearest
    borders = problem.rule.borders(label[problem.flows.nodes])
    ratio = np.minimum(borders.ratio, 1.0)
    for a, b in ((0, 1), (1, 0)):
        # The last to be written counts: the highest ratio.
        order = np.argsort(ratio, kind="stable")
        own, other, worst = borders.pair[order, a], borders.pair[order, b], 1.0 - ratio[order]
        for cluster, behind, sure in zip(own.tolist(), other.tolist(), worst.tolist(), strict=True):
            if sure < confidence[cluster]:
                confidence[cluster], nearest[cluster] = sure, behind
    alone = np.flatnonzero(nearest < 0)
    nearest[alone] = _nearest_middles(problem.nodes.position, label, n_clusters)[alone]
    return confidence, nearest


def _nearest_middles(
    position: NDArray[np.float64], label: NDArray[np.int32], n_clusters: int
) -> NDArray[np.int32]:
    """Return, for each cluster, the one whose mean centroid is nearest to its own."""
    member = label >= 0
    size = np.bincount(label[member], minlength=n_clusters)
    middle = np.zeros((n_clusters, position.shape[1]))
    np.add.at(middle, label[member], position[member])
    middle /= size[:, None]
    nearest = np.empty(n_clusters, np.int32)
    for cluster in range(n_clusters):
        gap = np.square(middle - middle[cluster]).sum(axis=1)
        gap[cluster] = np.inf
        nearest[cluster] = np.argmin(gap)
    return nearest
