"""Minimum spanning tree of a sparse graph, and its single linkage with sizes in images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree._tree_kernels import joining_edges, linked, subtree_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Linkage:
    """A binary tree over weighted leaves; merge i makes node ``n_leaves + i``.

    Attributes
    ----------
    left, right : int32 arrays of shape (n_leaves - 1,)
        The two nodes of each merge: leaves are 0 to n_leaves - 1.
    distance : float64 array of shape (n_leaves - 1,)
        Height of each merge, positive, never falling.
    size : int64 array of shape (n_leaves - 1,) [images]
        Images under each merge.
    leaf_size : int64 array of shape (n_leaves,) [images]
        Images of each leaf.
    leaf_distance : float64 array of shape (n_leaves,)
        Height below which the leaf itself dissolves, positive and not above
        its first merge: what a lone heavy leaf lives until.
    score : float64 array of shape (n_leaves - 1,), optional
        How real each merge is as a split, never rising from a merge to one
        inside it; minus infinity where it was never tested.  Plus infinity
        marks a merge whose right side, a leaf, is noise.  Without scores the
        heights decide (`workflow.tree.condensed_tree.prominences`).
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    distance: NDArray[np.float64]
    size: NDArray[np.int64]
    leaf_size: NDArray[np.int64]
    leaf_distance: NDArray[np.float64]
    score: NDArray[np.float64] | None = None

    @property
    def n_leaves(self) -> int:
        """Number of leaves."""
        return len(self.leaf_size)

    @property
    def n_images(self) -> int:
        """Number of images under the root."""
        return int(self.leaf_size.sum())

    def node_sizes(self) -> NDArray[np.int64]:
        """Return the images of every node, leaves first."""
        return np.concatenate([self.leaf_size, self.size])


def minimum_spanning_tree(
    n_nodes: int,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    length: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the edges of the minimum spanning tree, shortest first.

    Parameters
    ----------
    n_nodes : int
        Number of nodes of a connected graph.
    row, col : int64 arrays of shape (n_edges,)
        Ends of the edges, ``row < col``, no edge twice.
    length : float64 array of shape (n_edges,)
        Lengths, positive.

    Returns
    -------
    row, col : int64 arrays of shape (n_nodes - 1,)
        Ends of the edges of the tree.
    length : float64 array of shape (n_nodes - 1,)
        Their lengths, never falling.

    Notes
    -----
    Kruskal's rule.  Of equal lengths the one with the lower, then the higher
    end counts first: no two edges are equal, so the tree is the only one.
    """
    by_ends = np.argsort(row * n_nodes + col, kind="stable")
    order = by_ends[np.argsort(length[by_ends], kind="stable")]
    used = order[joining_edges(n_nodes, row[order], col[order])]
    return row[used], col[used], length[used]


def single_linkage(
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    distance: NDArray[np.float64],
    leaf_size: NDArray[np.int64],
    leaf_distance: NDArray[np.float64],
) -> Linkage:
    """Return the tree of merges along the edges of a spanning tree.

    Parameters
    ----------
    row, col : int64 arrays of shape (n_leaves - 1,)
        Edges of a spanning tree, in the order of merging.
    distance : float64 array of shape (n_leaves - 1,)
        Their lengths, never falling.
    leaf_size : int64 array of shape (n_leaves,) [images]
        Images of each leaf.
    leaf_distance : float64 array of shape (n_leaves,)
        Height below which each leaf dissolves.

    Returns
    -------
    Linkage
        Single linkage with sizes in images.

    Notes
    -----
    Union-find with path halving.
    """
    left, right = linked(len(leaf_size), row, col)
    size = subtree_sums(leaf_size, left, right)[len(leaf_size) :]
    return Linkage(
        left.astype(np.int32),
        right.astype(np.int32),
        distance.astype(np.float64),
        size,
        leaf_size,
        leaf_distance,
    )


def leaf_heights(
    n_leaves: int,
    row: NDArray[np.int64],
    col: NDArray[np.int64],
    height: NDArray[np.float64],
    inner: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the height at which each leaf dissolves: its inner spacing, or its first merge.

    Parameters
    ----------
    n_leaves : int
        Number of leaves.
    row, col : int64 arrays of shape (n_leaves - 1,)
        Edges of the spanning tree.
    height : float64 array of shape (n_leaves - 1,)
        Their lengths.
    inner : float64 array of shape (n_leaves,)
        Spacing inside each leaf; 0 where it is not known.

    Returns
    -------
    float64 array of shape (n_leaves,)
        Positive, finite, not above the first merge.
    """
    first = np.full(n_leaves, np.inf)
    np.minimum.at(first, row, height)
    np.minimum.at(first, col, height)
    if n_leaves == 1:
        first[:] = 1.0
    # A thousandth bounds the weight of a node whose images all coincide.
    return np.where(inner > 0, np.clip(inner, 1e-3 * first, first), first)
