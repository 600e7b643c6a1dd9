"""Labels from a stored tree: the default cut, another size, a given number, a layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from workflow.errors import ConfigError
from workflow.tree.certainty import Certainty
from workflow.tree.cluster_tree import ClusterTree
from workflow.tree.condensed_tree import prominences
from workflow.tree.layers import SELECTION_METHODS, Cut, Leaves, label_cut, nested_layers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.linkage import Linkage

#: Below so many images, or images per centroid, no statement about structure is made.
MIN_TESTABLE_IMAGES, MIN_TESTABLE_PER_CENTROID = 5_000, 7


def assemble(leaves: Leaves, how: Cut, *, method: str) -> ClusterTree:
    """Cut a linkage and gather everything in a `ClusterTree`.

    Parameters
    ----------
    leaves : Leaves
        Linkage and centroids.
    how : Cut
        The default cut.
    method : str
        Name of the method that made the linkage.

    Returns
    -------
    ClusterTree
        With labels of the default cut and its layers; whether they are
        structure is for a test to say.
    """
    condensed, labelling = label_cut(leaves, how)
    layers, cuts = nested_layers(leaves, how)
    return ClusterTree(
        method=method,
        structure="untested",
        cluster_selection_method=how.selection,
        min_cluster_size=how.min_cluster_size,
        min_prominence=how.min_prominence,
        linkage=leaves.linkage,
        condensed=condensed,
        node=leaves.node,
        population=leaves.population,
        selected=labelling.selected,
        label=labelling.label[leaves.node],
        membership=labelling.membership[leaves.node],
        persistence=labelling.persistence,
        layers=layers,
        layer_cuts=cuts,
        n_clusters_by_threshold=np.empty((0, 2)),
    )


def is_testable(population: NDArray[np.int64]) -> bool:
    """Return whether there are enough images to tell structure from chance.

    Parameters
    ----------
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.

    Returns
    -------
    bool
        False below 5,000 images or 7 images per centroid.
    """
    n_images = int(population.sum())
    enough_each = n_images >= MIN_TESTABLE_PER_CENTROID * len(population)
    return n_images >= MIN_TESTABLE_IMAGES and enough_each


def cut(
    tree: ClusterTree,
    *,
    n_clusters: int | None = None,
    min_cluster_size: int | None = None,
    cluster_selection_method: str | None = None,
    layer: int | None = None,
) -> ClusterTree:
    """Label the centroids anew from a stored tree.

    Parameters
    ----------
    tree : ClusterTree
        Tree to cut.
    n_clusters : int, optional
        Number of clusters: the most prominent splits that give it.  Where
        clusters of the present size are too few, smaller ones are allowed.
    min_cluster_size : int, optional [images]
        Minimum images of a cluster; as in `tree` if not given.
    cluster_selection_method : {"eom", "leaf"}, optional
        As in `tree` if not given.  Given with `n_clusters`, it must be
        ``"leaf"``: a number is met by the leaves of the pruned tree.
    layer : int, optional
        One of the tree's layers, 0 the coarsest; excludes the others.

    Returns
    -------
    ClusterTree
        The same tree with other labels; layers and the clusters by threshold stay.

    Raises
    ------
    ConfigError
        If a value is out of range, two contradict each other, or no cut has
        `n_clusters` clusters; the text names the nearest possible numbers.

    Notes
    -----
    O(n_leaves log n_leaves): a fraction of a second for 16,384 centroids.
    """
    leaves = Leaves(tree.linkage, tree.node, tree.population)
    selection = cluster_selection_method or tree.cluster_selection_method
    size = tree.min_cluster_size if min_cluster_size is None else min_cluster_size
    check_choices(selection, size)
    if layer is not None:
        others = (n_clusters, min_cluster_size, cluster_selection_method)
        how = _layer_cut(tree, layer, excluded=any(o is not None for o in others))
    elif n_clusters is not None:
        if cluster_selection_method == "eom":
            msg = (
                "n_clusters must come without cluster_selection_method 'eom'; got both. "
                "Leave one of them out."
            )
            raise ConfigError(msg)
        how = _numbered_cut(tree.linkage, n_clusters, size, fixed=min_cluster_size is not None)
    else:
        how = Cut(size, tree.min_prominence, selection)
    condensed, labelling = label_cut(leaves, how)
    return dataclasses.replace(
        tree,
        is_requested=True,
        cluster_selection_method=how.selection,
        min_cluster_size=how.min_cluster_size,
        min_prominence=how.min_prominence,
        condensed=condensed,
        selected=labelling.selected,
        label=labelling.label[tree.node],
        membership=labelling.membership[tree.node],
        persistence=labelling.persistence,
        certainty=Certainty.unknown(),
    )


def check_choices(selection: str, min_cluster_size: int) -> None:
    """Raise ConfigError unless both are legal."""
    if selection not in SELECTION_METHODS:
        msg = (
            f"cluster_selection_method must be one of {', '.join(SELECTION_METHODS)}; "
            f"got {selection!r}. Choose one of them."
        )
        raise ConfigError(msg)
    if min_cluster_size < 1:
        msg = (
            f"min_cluster_size must be at least 1 image; got {min_cluster_size}. Pass a larger one."
        )
        raise ConfigError(msg)


def _layer_cut(tree: ClusterTree, layer: int, *, excluded: bool) -> Cut:
    """Return how to cut one of the stored layers."""
    n_layers = len(tree.layer_cuts)
    if excluded or not 0 <= layer < n_layers:
        got = "other choices beside it" if excluded else str(layer)
        msg = f"layer must be 0 to {n_layers - 1} and come alone; got {got}. Pass only a layer."
        raise ConfigError(msg)
    size, prominence, selection, max_lambda = tree.layer_cuts[layer].tolist()
    return Cut(int(size), prominence, SELECTION_METHODS[int(selection)], max_lambda)


def _numbered_cut(linkage: Linkage, n_clusters: int, size: int, *, fixed: bool) -> Cut:
    """Return the cut with `n_clusters` clusters at the largest size that allows it."""
    reachable: set[int] = {1}
    if n_clusters == 1:
        return Cut(size, np.finfo(np.float64).max, "leaf")
    while n_clusters > 1:
        rank = np.sort(prominences(linkage, size))[::-1]
        rank = rank[np.isfinite(rank)]
        # Equal prominences come or go together; the last of a tie counts.
        last_of_tie = np.append(rank[1:] < rank[:-1], np.ones(min(1, len(rank)), bool))
        reachable.update((np.flatnonzero(last_of_tie) + 2).tolist())
        if n_clusters in reachable:
            return Cut(size, float(rank[n_clusters - 2]), "leaf")
        if fixed or size == 1:
            break
        size //= 2
    below = max((c for c in reachable if c < n_clusters), default=None)
    above = min((c for c in reachable if c > n_clusters), default=None)
    near = " and ".join(str(c) for c in (below, above) if c is not None)
    msg = (
        f"n_clusters must be a number that the tree can give; got {n_clusters}. Near it are {near}."
    )
    raise ConfigError(msg)
