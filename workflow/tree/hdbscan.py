"""Method `hdbscan`: single linkage of the centroids as points, made by the hdbscan library."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from workflow.tree._tree_kernels import subtree_sums
from workflow.tree.layers import Cut
from workflow.tree.linkage import Linkage, leaf_heights, single_linkage
from workflow.tree.method import Method
from workflow.tree.nodes import edge_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.nodes import Nodes
    from workflow.tree.problem import Problem


#: The library's own default of its parameter `min_samples`.
DEFAULT_MIN_SAMPLES = 5


class Hdbscan(Method):
    """Single linkage of the centroids as points, made by the hdbscan library."""

    name = "hdbscan"
    title = "hdbscan on the centroids"
    joins_by = "length"
    reads = "positions"
    noise = "centroids that the library leaves out of its clusters"

    def can_build(self, problem: Problem) -> bool:
        """Return that the library is asked only by name: to import it takes a second or two, and its count decides nothing."""
        return False

    def build(self, problem: Problem) -> Linkage:
        """Return the linkage of `library_linkage`."""
        return library_linkage(problem.nodes, problem.min_samples or DEFAULT_MIN_SAMPLES)

    def cut(self, problem: Problem) -> Cut:
        """Return the library's cut, where the size alone decides."""
        return Cut(problem.min_size(), 0.0, problem.selection)


def library_linkage(nodes: Nodes, min_samples: int) -> Linkage:
    """Return the single linkage that the hdbscan library makes of the centroids.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids; the graph is not used.
    min_samples : int
        The library's parameter, in centroids; lowered to what fits.

    Returns
    -------
    Linkage
        Heights are the library's mutual reachabilities [unit of the scores];
        sizes are images, which the library cannot count.

    Notes
    -----
    The exact spanning tree is requested, so labels at one image per centroid
    equal those of ``hdbscan.HDBSCAN(approx_min_span_tree=False)``.  As there,
    equal heights are ordered by the order of the centroids.
    """
    n_nodes = nodes.n_nodes
    if n_nodes < 3:  # the library wants three points
        row, col = np.arange(n_nodes - 1), np.arange(1, n_nodes)
        height = edge_distances(nodes.position, row, col)
    else:
        # In the order the centroids came: the library breaks ties of its heights by it.
        order = np.unique(nodes.node, return_index=True)[1].argsort(kind="stable")
        # Imported when it is needed: that takes a second, and most runs never do.
        model = importlib.import_module("hdbscan").HDBSCAN(
            min_cluster_size=2,
            min_samples=min(min_samples, n_nodes - 1),
            approx_min_span_tree=False,
            gen_min_span_tree=False,
            core_dist_n_jobs=1,
        )
        with threadpool_limits(limits=1):
            merges = model.fit(nodes.position[order]).single_linkage_tree_.to_numpy()
        # The library's heights may underflow to 0; one over them must stay finite.
        merges[:, 2] = np.maximum(merges[:, 2], 1e-14 * np.ptp(nodes.position, axis=0).max())
        merges[:, :2] = np.append(order, np.arange(n_nodes, 2 * n_nodes))[merges[:, :2].astype(int)]
        return _from_library(merges, nodes.population)
    leaves = leaf_heights(n_nodes, row, col, height, np.zeros(n_nodes))
    return single_linkage(row, col, height, nodes.population, leaves)


def _from_library(merges: NDArray[np.float64], population: NDArray[np.int64]) -> Linkage:
    """Count the images under each merge of the library's tree."""
    n_leaves = len(population)
    left, right = merges[:, 0].astype(np.int32), merges[:, 1].astype(np.int32)
    distance = np.maximum.accumulate(merges[:, 2])
    first = np.full(2 * n_leaves - 1, np.inf)
    for side in (left, right):
        np.minimum.at(first, side, distance)
    sizes = subtree_sums(population, left.astype(np.int64), right.astype(np.int64))[n_leaves:]
    return Linkage(left, right, distance, sizes, population, first[:n_leaves])
