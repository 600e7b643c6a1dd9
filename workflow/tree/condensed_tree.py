"""Condensed tree: the linkage reduced to the splits between parts large and prominent enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree._condensing_kernels import Splits, highest_means, leave_clusters

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.linkage import Linkage


#: Less than any difference of scores that means something.
TIE_BREAK = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class CondensedTree:
    """Clusters, their splits, and where each leaf leaves them; one row per child.

    Attributes
    ----------
    parent : int32 array of shape (n_rows,)
        Cluster that the child is part of; the root is `n_leaves`, others follow.
    child : int32 array of shape (n_rows,)
        A leaf (below `n_leaves`) or a cluster.
    lambda_val : float64 array of shape (n_rows,) [1 / unit of the linkage]
        Where the child leaves the parent: one over the height; finite.
    child_size : int64 array of shape (n_rows,) [images]
        Images of the child.
    n_leaves : int
        Number of leaves.

    Notes
    -----
    The columns are those of the hdbscan library, with sizes in images.
    Every leaf has one row, and these come first, in the order of leaves.
    """

    parent: NDArray[np.int32]
    child: NDArray[np.int32]
    lambda_val: NDArray[np.float64]
    child_size: NDArray[np.int64]
    n_leaves: int

    @property
    def n_nodes(self) -> int:
        """Number of clusters, the root among them."""
        return len(self.child) - self.n_leaves + 1

    def node_parents(self) -> NDArray[np.int64]:
        """Return the parent of each cluster, counted from 0 for the root; -1 for the root."""
        parents = np.full(self.n_nodes, -1, np.int64)
        below = slice(self.n_leaves, None)
        parents[self.child[below] - self.n_leaves] = self.parent[below] - self.n_leaves
        return parents

    def births(self) -> NDArray[np.float64]:
        """Return the lambda at which each cluster appears; 0 for the root."""
        births = np.zeros(self.n_nodes)
        below = slice(self.n_leaves, None)
        births[self.child[below] - self.n_leaves] = self.lambda_val[below]
        return births

    def stabilities(self) -> NDArray[np.float64]:
        """Return the excess of mass of each cluster: images times lambda gained, summed."""
        births = self.births()
        owner = self.parent - self.n_leaves
        gain = (self.lambda_val - births[owner]) * self.child_size
        return np.bincount(owner, gain, minlength=self.n_nodes).astype(np.float64)


def log_peaks(linkage: Linkage, min_cluster_size: int) -> NDArray[np.float64]:
    """Return the log lambda of the densest large enough part within each node.

    Parameters
    ----------
    linkage : Linkage
        Tree of merges.
    min_cluster_size : int
        Images of a large enough part.

    Returns
    -------
    float64 array of shape (2 * n_leaves - 1,)
        Largest mean, over the images of a part of at least
        `min_cluster_size` images within the node, of the log lambda at which
        their leaf dissolves; minus infinity where there is no such part.
        The mean over a whole part tells a cluster from a ripple of the
        density where the single largest lambda does not.
    """
    rise = -np.log(linkage.leaf_distance)
    return highest_means(linkage.left, linkage.right, linkage.node_sizes(), rise, min_cluster_size)


def prominences(linkage: Linkage, min_cluster_size: int) -> NDArray[np.float64]:
    """Return how real each merge is as a split into two clusters.

    Parameters
    ----------
    linkage : Linkage
        Tree of merges.
    min_cluster_size : int
        Minimum images of either side.

    Returns
    -------
    float64 array of shape (n_leaves - 1,)
        Rise of the lower of the two log peaks above the log lambda of the
        merge, or the linkage's own score; minus infinity where a side is too
        small.  `condense` keeps exactly the merges at or above
        `min_prominence`, so N clusters are the N - 1 most prominent splits.
    """
    size = linkage.node_sizes()
    fits = (size[linkage.left] >= min_cluster_size) & (size[linkage.right] >= min_cluster_size)
    if linkage.score is not None:
        # Many splits have the largest score there is; of these the highest merge counts first,
        # so that every number of clusters can be had.
        order = np.arange(len(linkage.score)) / max(1, len(linkage.score))
        return np.where(
            fits & np.isfinite(linkage.score), linkage.score + TIE_BREAK * order, -np.inf
        )
    peak = log_peaks(linkage, min_cluster_size)
    lower = np.minimum(peak[linkage.left], peak[linkage.right])
    # Rounding of the means must not turn a rise of nothing into a fall.
    return np.where(fits, np.maximum(lower + np.log(linkage.distance), 0.0), -np.inf)


def _splits(linkage: Linkage, min_cluster_size: int, min_prominence: float) -> Splits:
    """Return which merges are splits, and which sides leave their cluster at the others."""
    is_split = prominences(linkage, min_cluster_size) >= min_prominence
    if linkage.score is not None:
        leavers = np.zeros_like(is_split), linkage.score == np.inf
    else:
        peak = log_peaks(linkage, min_cluster_size)
        needed = min_prominence - np.log(linkage.distance)

        def leaves(side: NDArray[np.int32]) -> NDArray[np.bool_]:
            if min_prominence > 0:
                stays = peak[side] >= needed
            else:
                stays = linkage.node_sizes()[side] >= min_cluster_size
            return ~stays & ~is_split

        leavers = leaves(linkage.left), leaves(linkage.right)
    return Splits(linkage.left, linkage.right, 1.0 / linkage.distance, is_split, *leavers)


def condense(linkage: Linkage, min_cluster_size: int, min_prominence: float = 0.0) -> CondensedTree:
    """Condense a linkage: keep the splits whose two sides are clusters.

    Parameters
    ----------
    linkage : Linkage
        Tree of merges, sizes in images.
    min_cluster_size : int
        Minimum images of a cluster; a single leaf that has them is one.
    min_prominence : float
        Smallest prominence (`prominences`) of a split; at 0 the size alone
        decides, unless the linkage brings scores.

    Returns
    -------
    CondensedTree
        A side that is no cluster leaves its parent at the split, leaf by leaf.

    Notes
    -----
    O(n_leaves).  At `min_prominence` 0 and
    leaves of one image this is the condensed tree of [1]_; a positive one
    cancels features of low persistence as in [2]_, with the log of the density
    averaged over a part in place of its maximum.

    References
    ----------
    .. [1] R. J. G. B. Campello, D. Moulavi and J. Sander, "Density-based
       clustering based on hierarchical density estimates", PAKDD 2013.
    .. [2] F. Chazal, L. J. Guibas, S. Y. Oudot and P. Skraba,
       "Persistence-based clustering in Riemannian manifolds", J. ACM 60(6), 2013.
    """
    n_leaves = linkage.n_leaves
    splits = _splits(linkage, min_cluster_size, min_prominence)
    members = leave_clusters(splits, linkage.node_sizes())
    left_at = np.where(members.left_at > 0, members.left_at, 1.0 / linkage.leaf_distance)
    below = np.arange(n_leaves + 1, n_leaves + 1 + len(members.parent))
    return CondensedTree(
        parent=np.concatenate([members.owner, members.parent]).astype(np.int32),
        child=np.concatenate([np.arange(n_leaves), below]).astype(np.int32),
        lambda_val=np.concatenate([left_at, members.birth]),
        child_size=np.concatenate([linkage.leaf_size, members.images]),
        n_leaves=n_leaves,
    )
