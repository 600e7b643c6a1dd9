"""Method `density`: single linkage of the centroid graph on the spacing of images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.density.bridges import bridge_edges
from workflow.tree.density.spacing import core_lengths, image_spacing, mutual_reachability
from workflow.tree.layers import Cut
from workflow.tree.linkage import Linkage, leaf_heights, minimum_spanning_tree, single_linkage
from workflow.tree.method import Method
from workflow.tree.nodes import edge_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.nodes import Nodes
    from workflow.tree.problem import Problem

#: A side of a split is a cluster when its images are on average this much denser than the
#: split, in log density.  Without theory: 1.5 to 3 gave the same clusters on blobs in 2 to
#: 20 dimensions and one cluster on normal, uniform and curved sets; 1 split a Swiss roll.
MIN_LOG_DENSITY_RISE = 2.0


#: The minimum is never above this share of all images: of a few centroids each may be a cluster, such
#: as cells of duplicates, and five of them could be everything.
MAX_MIN_SIZE_SHARE = 0.05


class Density(Method):
    """Single linkage on the spacing of images, with clusters denser than the splits between them."""

    name = "density"
    title = "density"
    joins_by = "length"
    reads = "edges"
    noise = "centroids that lie sparser than the clusters beside them"

    def build(self, problem: Problem) -> Linkage:
        """Return the linkage of `density_linkage`."""
        return density_linkage(
            problem.nodes,
            dimension=problem.dimension,
            min_samples=problem.min_samples or 0,
            mean_distance=problem.mean_distance,
            length=problem.lengths,
            bridges=problem.bridges,
        )

    def cut(self, problem: Problem) -> Cut:
        """Return the cut at the rise of density that was requested."""
        return self.cut_at(problem, problem.min_log_density_rise, problem.selection)

    def cut_at(self, problem: Problem, rise: float, selection: str) -> Cut:
        """Return the cut whose clusters are so much denser than their splits, in log density."""
        size = problem.min_cluster_size
        if size is None:
            largest = round(int(problem.population.sum()) * MAX_MIN_SIZE_SHARE)
            size = max(2, min(problem.min_size(), largest))
        return Cut(size, rise / problem.dimension, selection)


def density_linkage(
    nodes: Nodes,
    *,
    dimension: float,
    min_samples: int = 0,
    mean_distance: NDArray[np.float64] | None = None,
    length: NDArray[np.float64] | None = None,
    bridges: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Linkage:
    """Return the single linkage of the centroids with images, not centroids, as the measure.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    dimension : float
        Intrinsic dimension of the images.
    min_samples : int
        Neighbours averaged in a core length, nearest first; 0 for all.
    mean_distance : float64 array of shape (n_nodes,), optional [unit of the scores]
        Mean distance of the images of a node to it.  Tells how dense a lone
        node is inside, which its distance to others cannot.
    length : float64 array of shape (n_edges,), optional [unit of the scores]
        Lengths of all edges, if they are known.
    bridges : tuple of int64 arrays of shape (n_bridges,), optional
        Both ends of the edges between components of the graph, if they are known.

    Returns
    -------
    Linkage
        Heights are mutual reachabilities [unit of the scores].

    Notes
    -----
    O(n_edges log n_edges + bridges); 16,384 centroids take a fifth of a second.
    The edges are those of the graph and the bridges between its components; the
    length of an edge is the geometric mean of the spacings of images that
    either end gives it.  Deviates from HDBSCAN [1]_ in the core length, which
    is a mean over neighbours in the graph, put on the scale of the edges.

    References
    ----------
    .. [1] R. J. G. B. Campello, D. Moulavi and J. Sander, "Density-based
       clustering based on hierarchical density estimates", PAKDD 2013.
    """
    distance = edge_distances(nodes.position, nodes.row, nodes.col) if length is None else length
    core = core_lengths(nodes, distance, dimension, min_samples)
    if bridges is None:
        bridges = bridge_edges(nodes.position, nodes.row, nodes.col)
    bridge_row, bridge_col = bridges
    row = np.concatenate([nodes.row, bridge_row])
    col = np.concatenate([nodes.col, bridge_col])
    bridge = edge_distances(nodes.position, bridge_row, bridge_col)
    spacing = image_spacing(
        np.concatenate([distance, bridge]), nodes.population[row], nodes.population[col], dimension
    )
    reach = mutual_reachability(spacing, core, row, col)
    row, col, height = minimum_spanning_tree(nodes.n_nodes, row, col, reach)
    inner = inner_spacing(nodes, core, dimension, mean_distance)
    if mean_distance is not None:
        gap = np.full(nodes.n_nodes, np.inf)
        for ends, gaps in (
            ((nodes.row, nodes.col), distance),
            ((bridge_row, bridge_col), bridge),
        ):
            np.minimum.at(gap, ends[0], gaps)
            np.minimum.at(gap, ends[1], gaps)
        # Where images lie farther from their centroid than the next one does, as in many
        # dimensions, how near they lie says nothing of a cluster of its own.
        inner = np.where(mean_distance < gap, inner, np.maximum(inner, core))
    leaf_distance = leaf_heights(nodes.n_nodes, row, col, height, inner)
    return single_linkage(row, col, height, nodes.population, leaf_distance)


def inner_spacing(
    nodes: Nodes,
    core: NDArray[np.float64],
    dimension: float,
    mean_distance: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the spacing of images inside each node, on the scale of the core lengths.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids.
    core : float64 array of shape (n_nodes,) [unit of the scores]
        Core lengths.
    dimension : float
        Intrinsic dimension of the images.
    mean_distance : float64 array of shape (n_nodes,), optional [unit of the scores]
        Mean distance of the images of a node to it.

    Returns
    -------
    float64 array of shape (n_nodes,) [unit of the scores]
        ``ratio * mean_distance * population ** (-1 / dimension)``, where the
        ratio makes it equal to the core length for the median node.  Without a
        mean distance the core length; for a node without neighbours as if its
        cell were as wide as the median one.  Next to nothing for a cell of
        duplicates.  0 where no node has neighbours.
    """
    per_image = np.exp(-np.log(nodes.population.astype(np.float64)) / dimension)
    has_core = core > 0
    if not has_core.any():
        return core
    typical = float(np.median(core[has_core] / per_image[has_core]))
    inner = np.where(has_core, core, typical * per_image)
    if mean_distance is None:
        return inner
    known = has_core & (mean_distance > 0)
    if known.any():
        ratio = float(np.median(core[known] / (mean_distance[known] * per_image[known])))
        inner = np.where(mean_distance > 0, ratio * mean_distance * per_image, inner)
    # One image tells nothing of its surroundings; several at no distance are duplicates.
    is_duplicates = (mean_distance == 0) & (nodes.population > 1)
    return np.where(is_duplicates, np.finfo(np.float64).tiny, inner)
