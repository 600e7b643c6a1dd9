"""Cuts of a linkage, and nested layers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree.condensed_tree import CondensedTree, condense, prominences
from workflow.tree.selection import Labelling, label_leaves, select_excess_of_mass, select_leaves

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.linkage import Linkage

#: Ways to choose clusters from the condensed tree.
SELECTION_METHODS = ("eom", "leaf")
#: Lambda that no split exceeds.
UNLIMITED = float(np.finfo(np.float64).max)


class Leaves(NamedTuple):
    """The linkage and how centroids hang on it: what every cut starts from.

    Attributes
    ----------
    linkage : Linkage
        Merges of the distinct centroids.
    node : int32 array of shape (n_centroids,)
        Leaf of each centroid.
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.
    """

    linkage: Linkage
    node: NDArray[np.int32]
    population: NDArray[np.int64]


class Cut(NamedTuple):
    """How to cut a tree.

    Attributes
    ----------
    min_cluster_size : int [images]
        Minimum images of a cluster.
    min_prominence : float
        Smallest prominence of a split.
    selection : str
        ``"eom"`` or ``"leaf"``.
    max_lambda : float
        Splits at a larger lambda are undone: their sides are one cluster.
    """

    min_cluster_size: int
    min_prominence: float
    selection: str
    max_lambda: float = UNLIMITED


def label_cut(leaves: Leaves, how: Cut) -> tuple[CondensedTree, Labelling]:
    """Condense a linkage, choose clusters and label the leaves (not the centroids)."""
    condensed = condense(leaves.linkage, how.min_cluster_size, how.min_prominence)
    return condensed, _label(leaves, condensed, how)


def _label(leaves: Leaves, condensed: CondensedTree, how: Cut) -> Labelling:
    """Choose clusters from a condensed tree and label the leaves."""
    choose = select_excess_of_mass if how.selection == "eom" else select_leaves
    chosen = merge_deep(condensed, choose(condensed), how.max_lambda)
    first = np.full(leaves.linkage.n_leaves, len(leaves.node), np.int64)
    np.minimum.at(first, leaves.node, np.arange(len(leaves.node)))
    return label_leaves(condensed, chosen, first)


def nested_layers(leaves: Leaves, how: Cut) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return labellings from coarse to fine, each within the one before.

    Parameters
    ----------
    leaves : Leaves
        Linkage and centroids.
    how : Cut
        The default cut, which is one of the layers.

    Returns
    -------
    layers : int32 array of shape (n_layers, n_centroids)
        Labels, -1 for noise.
    cuts : float64 array of shape (n_layers, 4)
        The fields of a `Cut` for each layer; the selection by its index in
        `SELECTION_METHODS`.

    Notes
    -----
    With k clusters by default, at most k/4 and k/2 are had by undoing the
    deepest splits, and 2 k, 4 k and 8 k by lowering the required prominence.
    All are nested by construction but for clusters that only appear with a
    lower prominence among what was noise before: a layer with such is left out.
    """
    condensed, base = label_cut(leaves, how)
    n_clusters = len(base.selected)
    births = np.unique(condensed.births()[base.selected - condensed.n_leaves])
    steps = births[:: max(1, len(births) // 16)].tolist()
    # Cuts that only undo splits have the condensed tree of the default one.
    tried = [
        (other, _label(leaves, condensed, other))
        for other in (how._replace(max_lambda=birth) for birth in steps)
    ]
    rank = np.sort(prominences(leaves.linkage, how.min_cluster_size))[::-1]
    rank = rank[np.isfinite(rank)]
    counts = [
        n for n in (2 * n_clusters, 4 * n_clusters, 8 * n_clusters) if 2 <= n <= len(rank) + 1
    ]
    finer = [Cut(how.min_cluster_size, float(rank[n - 2]), "leaf") for n in counts]
    tried += [(other, label_cut(leaves, other)[1]) for other in finer]
    coarse, fine = [], []
    for other, labelling in tried:
        found = len(labelling.selected)
        if 1 < found < n_clusters and refines(base.label, labelling.label):
            coarse.append((found, labelling.label, other))
        elif found > n_clusters and refines(labelling.label, base.label):
            fine.append((found, labelling.label, other))
    layers = [(n_clusters, base.label, how)]
    for layer in sorted(fine, key=lambda layer: layer[0]):
        if layer[0] > layers[-1][0]:  # equal prominences give the same layer twice
            layers.append(layer)
    for share in (2, 4):
        below = [layer for layer in coarse if layer[0] * share <= n_clusters]
        if below:
            best = max(below, key=lambda layer: layer[0])
            layers = [best, *layers] if best[0] < layers[0][0] else layers
    labels = np.array([label[leaves.node] for _, label, _ in layers], np.int32)
    return labels, np.array([_as_row(cut_) for *_, cut_ in layers], np.float64)


def _as_row(how: Cut) -> tuple[float, ...]:
    """Return a cut as numbers."""
    size, prominence, selection, max_lambda = how
    return (size, prominence, SELECTION_METHODS.index(selection), max_lambda)


def merge_deep(condensed: CondensedTree, chosen: list[int], max_lambda: float) -> list[int]:
    """Replace clusters born above a lambda by the ancestor that was there at it; clusters count from 0 for the root, and come back rising."""
    births, parents = condensed.births().tolist(), condensed.node_parents().tolist()
    merged = set()
    for cluster in chosen:
        node = cluster
        while births[node] > max_lambda:
            node = parents[node]
        merged.add(node)
    return sorted(merged)


def refines(fine: NDArray[np.int32], coarse: NDArray[np.int32]) -> bool:
    """Return whether every cluster of `fine` lies within one cluster of `coarse`.

    Parameters
    ----------
    fine, coarse : int32 arrays of shape (n,)
        Labels, -1 for noise.

    Returns
    -------
    bool
        True if so; noise of `fine` may lie anywhere.
    """
    inside = fine >= 0
    if not inside.any():
        return True
    # Each cluster lies where its last leaf does, or it is spread.
    where = np.full(int(fine.max()) + 1, -1, np.int64)
    where[fine[inside]] = coarse[inside]
    together = where[fine[inside]] == coarse[inside]
    return bool((coarse[inside] >= 0).all() and together.all())
