"""How sure the clusters are: the same tree on redrawn counts, and the borders between clusters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workflow.rng import generator
from workflow.threads import in_threads
from workflow.tree.certainty import Certainty
from workflow.tree.contrast_tree import cluster_borders
from workflow.tree.layers import Cut, label_cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.makers import Makers
    from workflow.tree.nodes import Nodes

#: A cluster is found again where one of a redrawn tree shares at least this much with it: the
#: images of both over those of either.
FOUND_AGAIN = 0.5
#: Every so many-th redrawn tree looks for its communities from scratch.
WHOLE_EVERY = 5


def assess(makers: Makers, tree: ClusterTree, n_resamples: int) -> Certainty:
    """Build the tree again on redrawn counts, and test the borders of its clusters.

    Parameters
    ----------
    makers : Makers
        What the tree was made from.
    tree : ClusterTree
        The tree, made by `makers`.
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
    first = np.unique(makers.nodes.node, return_index=True)[1]
    label = tree.label[first]
    selection = tree.cluster_selection_method
    how = Cut(tree.min_cluster_size, tree.min_prominence, selection)
    # Made here, so that threads only read them.
    _ = makers.lengths, makers.boxes, makers.bridges, makers.community_of_nodes

    def redraw(draw: int) -> tuple[int, NDArray[np.bool_]]:
        drawn = _redrawn(makers, generator(0, "tree/resample", draw), whole=draw % WHOLE_EVERY == 0)
        linkage, _ = drawn.linked(tree.method)
        found = label_cut(drawn.leaves(linkage), how)[1]
        again = _found_again(label, found.label, makers.nodes.population, tree.n_clusters)
        return len(found.selected), again

    numbers, again = zip(*in_threads(redraw, range(n_resamples)), strict=True)
    border, nearest = _weakest_borders(makers, label, tree.n_clusters)
    share = np.sum(again, axis=0) / n_resamples
    return Certainty(np.array(numbers, np.int64), share, border, nearest)


def _redrawn(makers: Makers, rng: np.random.Generator, *, whole: bool) -> Makers:
    """Return makers on redrawn counts, with the communities that were found to start from."""
    nodes = makers.nodes
    pairs = rng.poisson(nodes.pairs)
    triples = pairs + rng.poisson(np.maximum(nodes.triples - nodes.pairs, 0))
    present = triples > 0
    redrawn: Nodes = nodes._replace(
        population=np.maximum(rng.poisson(nodes.population), 1),
        row=nodes.row[present],
        col=nodes.col[present],
        pairs=pairs[present],
        triples=triples[present],
    )
    # Coincident centroids share the images of their node in proportion.
    share = redrawn.population[nodes.node] / nodes.population[nodes.node]
    population = np.maximum(np.rint(makers.population * share), 1).astype(np.int64)
    start = None if whole else makers.community_of_nodes
    return replace(
        makers,
        nodes=redrawn,
        population=population,
        start=start,
        n_starts=1,
        original=makers,
        edges=present,
    )


def _found_again(
    label: NDArray[np.int32],
    other: NDArray[np.int32],
    images: NDArray[np.int64],
    n_clusters: int,
) -> NDArray[np.bool_]:
    """Return which clusters share enough images with one of another labelling."""
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
    makers: Makers, label: NDArray[np.int32], n_clusters: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Return the confidence of each cluster's weakest border, and the cluster behind it."""
    confidence, nearest = np.ones(n_clusters), np.full(n_clusters, -1, np.int32)
    if n_clusters < 2:
        return confidence, nearest
    kept = makers.kept
    borders = cluster_borders(
        kept, makers.nodes.position, makers.merges, label[kept.nodes], makers.size()
    )
    ratio = np.minimum(borders.ratio, 1.0)
    for a, b in ((0, 1), (1, 0)):
        # The last to be written counts: the highest ratio.
        order = np.argsort(ratio, kind="stable")
        own, other, worst = borders.pair[order, a], borders.pair[order, b], 1.0 - ratio[order]
        for cluster, behind, sure in zip(own.tolist(), other.tolist(), worst.tolist(), strict=True):
            if sure < confidence[cluster]:
                confidence[cluster], nearest[cluster] = sure, behind
    alone = np.flatnonzero(nearest < 0)
    nearest[alone] = _nearest_middles(makers.nodes.position, label, n_clusters)[alone]
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
