"""Method `contrast`: clusters are real where crossings between them are thinner than those inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree._edges import renumbered_csr
from workflow.tree._kernels import leaf_places, subtree_sums
from workflow.tree._ladder import count_pieces
from workflow.tree._pieces import Graph
from workflow.tree._rule import run_rule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree._pieces import Joins, Pieces
    from workflow.tree.crossing import Flows
    from workflow.tree.flow_dendrogram import Merges


class Outcome(NamedTuple):
    """What the rule found.

    Attributes
    ----------
    label : int32 array of shape (n_nodes,)
        Cluster of each node: 0 has the most images, then the lowest node.
    n_clusters : int
        Number of clusters.
    ends : int64 array of shape (n_joins, 2)
        Sides of the joins in the order they were made; join i makes node
        ``n_nodes + i``.
    ratio : float64 array of shape (n_joins,)
        Ratio of the test of each join, `workflow.tree.crossing.UNTESTED` without one.
    """

    label: NDArray[np.int32]
    n_clusters: int
    ends: NDArray[np.int64]
    ratio: NDArray[np.float64]


class Contrast:
    """The rule on one graph: joins pieces bottom-up along a dendrogram.

    Parameters
    ----------
    flows : Flows
        The graph.
    position : float64 array of shape (n_nodes, n_components)
        Where the nodes are; decides only where nothing flows.
    merges : Merges
        Dendrogram of the nodes.
    min_images : int
        Smaller pieces are joined without a test.

    Notes
    -----
    Where two groups of pieces meet at a merge, each pair that touches is
    tested, and the pair with the highest ratio is joined while that is at
    least the threshold.  A group smaller than `min_images` is one piece; it is
    given to the piece with the largest flow without a test.  A test costs the
    edges of the smaller piece and those of the border of the larger one.
    """

    def __init__(
        self, flows: Flows, position: NDArray[np.float64], merges: Merges, min_images: int
    ) -> None:
        place = leaf_places(len(position), merges.left, merges.right)
        order = np.argsort(place)
        csr = renumbered_csr((flows.indptr, flows.indices, flows.weight), order, place)
        self.graph = Graph(
            *csr, flows.level[order], flows.population[order], position[order], order
        )
        self.place = place
        self.population = flows.population
        self.merges = merges
        self.min_images = min_images
        self.total = int(flows.population.sum())

    def run(self, rho: float, *, join_on: bool = False) -> Outcome:
        """Return the clusters at a threshold and how they came about.

        Parameters
        ----------
        rho : float
            Least ratio of a join.
        join_on : bool
            Whether to record how the clusters would be joined further: the
            highest ratio first, at last those without any flow, at ratio 0.

        Returns
        -------
        Outcome
            Clusters at `rho` whether or not joins go on.
        """
        left, right = _rooted(self.merges, self.population)
        owner, pieces, joins = self.join(left, right, rho, join_on=join_on)
        label = numbered(owner, self.population)
        n_made = int(joins.made[0])
        ends = np.stack([joins.left[:n_made], joins.right[:n_made]], axis=1)
        ratio = joins.ratio[:n_made]
        if join_on:
            more = _without_flow(self.graph, pieces, n_made)
            ends, ratio = np.concatenate([ends, more]), np.append(ratio, np.zeros(len(more)))
        return Outcome(label, int(label.max()) + 1, ends, ratio)

    def join(
        self, left: NDArray[np.int64], right: NDArray[np.int64], rho: float, *, join_on: bool
    ) -> tuple[NDArray[np.int64], Pieces, Joins]:
        """Return the piece of each node, all pieces and all joins along the merges of a forest."""
        limits = (self.min_images, self.total, self._most_tests, rho)
        sides = self._renamed(left), self._renamed(right)
        owner, pieces, joins = run_rule(self.graph, *sides, limits, join_on)
        return owner[self.place], pieces, joins

    def count(self, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return how many clusters there are at each threshold; what they share is done once."""
        left, right = _rooted(self.merges, self.population)
        limits = (self.min_images, self.total, self._most_tests)
        return count_pieces(
            self.graph, self._renamed(left), self._renamed(right), limits, thresholds
        )

    @property
    def _most_tests(self) -> int:
        """Room for tests: each pair of pieces has an edge of the graph for itself."""
        n_pieces = min(len(self.graph.population), self.total // max(1, self.min_images))
        return min(len(self.graph.indices) // 2, n_pieces * (n_pieces - 1) // 2) + 1

    def _renamed(self, nodes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return nodes of the dendrogram with its leaves named by their places."""
        n_leaves = len(self.place)
        return np.where(nodes < n_leaves, self.place[np.minimum(nodes, n_leaves - 1)], nodes)


def numbered(owner: NDArray[np.int64], population: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return labels by falling images, then by the lowest node.

    Parameters
    ----------
    owner : int64 array of shape (n_nodes,)
        Any name of the cluster of each node.
    population : int64 array of shape (n_nodes,) [images]
        Images of each node.

    Returns
    -------
    int32 array of shape (n_nodes,)
        Labels from 0.
    """
    _, first, name = np.unique(owner, return_index=True, return_inverse=True)
    images = np.zeros(len(first), np.int64)
    np.add.at(images, name, population)
    number = np.empty(len(first), np.int32)
    number[np.lexsort((first, -images))] = np.arange(len(first))
    return number[name]


def _rooted(
    merges: Merges, population: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return both sides of merges, the trees of a forest joined last, the largest first."""
    left, right = merges.left, merges.right
    images = subtree_sums(population, left, right)
    is_root = np.ones(len(images), bool)
    is_root[left] = is_root[right] = False
    roots = np.flatnonzero(is_root)
    roots = roots[np.argsort(-images[roots], kind="stable")]
    tops = np.concatenate([roots[:1], np.arange(len(images), len(images) + len(roots) - 2)])
    return (
        np.concatenate([left, tops[: len(roots) - 1]]).astype(np.int64),
        np.concatenate([right, roots[1:]]).astype(np.int64),
    )


def _without_flow(graph: Graph, pieces: Pieces, n_made: int) -> NDArray[np.int64]:
    """Return joins of the pieces that are left, the largest first, then by the lowest node."""
    n_nodes = len(pieces.owner)
    lowest = np.full(n_nodes, n_nodes)
    np.minimum.at(lowest, pieces.owner, graph.name)
    left = np.flatnonzero(pieces.tree >= 0)
    tree = pieces.tree[left[np.lexsort((lowest[left], -pieces.images[left]))]]
    first = n_nodes + n_made
    tops = np.concatenate([tree[:1], np.arange(first, first + len(tree) - 2)])
    return np.stack([tops[: len(tree) - 1], tree[1:]], axis=1).astype(np.int64)
