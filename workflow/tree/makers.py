"""From checked input to the linkage of each method, and where it is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree._boxes import boxes_of
from workflow.tree.bridges import bridge_edges
from workflow.tree.communities import N_STARTS, find_communities, improved_communities
from workflow.tree.contrast_tree import contrast_ladder, contrast_linkage
from workflow.tree.core_distances import edge_distances
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.cutting import assemble
from workflow.tree.density import density_linkage
from workflow.tree.flow_dendrogram import nested_merges
from workflow.tree.flow_graph import keep_nodes
from workflow.tree.flow_tree import RESOLUTION, UNTESTED_RESOLUTION, modularity_linkage
from workflow.tree.layers import Cut, Leaves, label_cut
from workflow.tree.library import library_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree._boxes import Boxes
    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.flow_dendrogram import Merges
    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.selection import Labelling
    from workflow.tree.spanning_tree import Linkage

#: Fewest centroids of average size that a cluster has, unless its size is given.
CENTROIDS_PER_CLUSTER = 5
#: But never more than this share of all images.
LARGEST_SHARE = 0.05
#: The same where nothing can be tested: small sets have small clusters.
CENTROIDS_PER_CLUSTER_UNTESTED = 1
#: More centroids are not given to the hdbscan library only to hear what it says: with 4,096 that
#: took longer than everything else about the tree.
MOST_NODES_OF_LIBRARY = 2_000
#: The hdbscan library's own default.
LIBRARY_MIN_SAMPLES = 5


class Choice(NamedTuple):
    """How to build the tree.

    Attributes
    ----------
    method : str
        ``"contrast"``, ``"density"``, ``"modularity"`` or ``"hdbscan"``.
    reason : str
        Why, as a clause.
    how : Cut, optional
        Another cut than the method's own.
    """

    method: str
    reason: str
    how: Cut | None = None


@dataclass(frozen=True)
class Makers:
    """Checked input of the tree; each method links the nodes in one way.

    Attributes
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.
    dimension : float
        Intrinsic dimension of the images.
    min_cluster_size : int, optional [images]
        Fewest images of a cluster; from the mean population if None.
    min_samples : int, optional
        Neighbours that smooth the density; the method's own if None.
    selection : str
        ``"eom"`` or ``"leaf"``.
    min_log_density_rise : float
        How much denser than a split its sides must be, in log density.
    mean_distance : float64 array of shape (n_nodes,), optional
        Mean distance of the images of a node to it.
    testable : bool
        Whether there are enough images to tell structure from chance.
    start : int64 array of shape (n_nodes,), optional
        Communities to improve instead of looking for new ones.
    n_starts : int
        Orders of visit in the search for communities.
    original : Makers, optional
        Makers on the same nodes with all of these edges, and maybe more.
    edges : bool array, optional
        Which of the edges of the original there are.
    """

    nodes: Nodes
    population: NDArray[np.int64]
    dimension: float
    min_cluster_size: int | None
    min_samples: int | None
    selection: str
    min_log_density_rise: float
    mean_distance: NDArray[np.float64] | None
    testable: bool
    start: NDArray[np.int64] | None = None
    n_starts: int = N_STARTS
    original: Makers | None = None
    edges: NDArray[np.bool_] | None = None

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """The lengths of the edges [unit of the scores]."""
        if self.original is not None and self.edges is not None:
            return self.original.lengths[self.edges]
        return edge_distances(self.nodes.position, self.nodes.row, self.nodes.col)

    @cached_property
    def boxes(self) -> Boxes:
        """The boxes around the nodes."""
        return boxes_of(self.nodes.position) if self.original is None else self.original.boxes

    @cached_property
    def bridges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The edges between the pieces of the graph."""
        nodes = self.nodes
        known = None if self.original is None else np.stack(self.original.bridges, axis=1)
        return bridge_edges(nodes.position, nodes.row, nodes.col, known, lambda: self.boxes)

    @cached_property
    def kept(self) -> Kept:
        """The graph of the flows; without its sparse nodes where enough images say so."""
        return keep_nodes(self.nodes, self.lengths, peel=self.testable)

    @cached_property
    def resolution(self) -> float:
        """Resolution of the communities."""
        return RESOLUTION if self.testable else UNTESTED_RESOLUTION

    @cached_property
    def community(self) -> NDArray[np.int64]:
        """The communities of the flows."""
        kept = self.kept
        if self.start is not None:
            known = self.start[kept.nodes]
            return improved_communities(
                kept.row, kept.col, kept.weight, known, resolution=self.resolution
            )
        return find_communities(
            kept.row,
            kept.col,
            kept.weight,
            self.nodes.position[kept.nodes],
            resolution=self.resolution,
            n_starts=self.n_starts,
        )

    @cached_property
    def community_of_nodes(self) -> NDArray[np.int64]:
        """The community of every node; those set aside are communities of their own."""
        community = np.arange(self.nodes.n_nodes) + len(self.community)
        community[self.kept.nodes] = self.community
        return community

    @cached_property
    def merges(self) -> Merges:
        """The dendrogram of the flows within and above the communities."""
        kept = self.kept
        return nested_merges(kept.row, kept.col, kept.weight, self.community)

    def size(self, n_centroids: int = CENTROIDS_PER_CLUSTER) -> int:
        """Return the fewest images of a cluster: those of so many centroids, unless given."""
        if self.min_cluster_size is not None:
            return self.min_cluster_size
        n_images = int(self.population.sum())
        return max(2, round(n_images * n_centroids / len(self.population)))

    def density_size(self) -> int:
        """Return the fewest images of a cluster for a method that sees inside a centroid."""
        # Of a few centroids each may be a cluster, such as cells of duplicates, and five of
        # them could be everything.
        if self.min_cluster_size is not None:
            return self.min_cluster_size
        return max(2, min(self.size(), round(int(self.population.sum()) * LARGEST_SHARE)))

    def leaves(self, linkage: Linkage) -> Leaves:
        """Return a linkage with the centroids on it."""
        return Leaves(linkage, self.nodes.node, self.population)

    def density_cut(self, rise: float, selection: str) -> Cut:
        """Return the cut of `density` where clusters are so much denser than their splits."""
        return Cut(self.density_size(), rise / self.dimension, selection)

    @cached_property
    def _linked(self) -> dict[str, tuple[Linkage, Cut]]:
        """Linkages that were made."""
        return {}

    def linked(self, method: str) -> tuple[Linkage, Cut]:
        """Return the linkage of a method, and where it is cut; made once."""
        if method not in self._linked:
            self._linked[method] = self._link(method)
        return self._linked[method]

    def _link(self, method: str) -> tuple[Linkage, Cut]:
        """Link the nodes in the way of a method."""
        if method == "density":
            linkage = density_linkage(
                self.nodes,
                dimension=self.dimension,
                min_samples=self.min_samples or 0,
                mean_distance=self.mean_distance,
                length=self.lengths,
                bridges=self.bridges,
            )
            return linkage, self.density_cut(self.min_log_density_rise, self.selection)
        if method == "hdbscan":
            linkage = library_linkage(self.nodes, self.min_samples or LIBRARY_MIN_SAMPLES)
            return linkage, Cut(self.size(), 0.0, self.selection)
        if method == "contrast":
            linkage = contrast_linkage(self.nodes, self.kept, self.merges, self.size())
            return linkage, Cut(self.size(), -math.log(DEFAULT_RATIO), "leaf")
        linkage = modularity_linkage(
            self.nodes, self.kept, self.merges, self.community, self.resolution
        )
        n_centroids = CENTROIDS_PER_CLUSTER if self.testable else CENTROIDS_PER_CLUSTER_UNTESTED
        return linkage, Cut(self.size(n_centroids), -math.log(self.resolution), "leaf")

    @cached_property
    def ladder(self) -> NDArray[np.float64]:
        """Number of clusters at each threshold of the contrast test."""
        return contrast_ladder(self.nodes, self.kept, self.merges, self.size())

    def labelling(self, method: str, how: Cut | None = None) -> Labelling:
        """Return the clusters of the nodes that a method finds."""
        linkage, own = self.linked(method)
        return label_cut(self.leaves(linkage), how or own)[1]

    def tree(self, choice: Choice) -> ClusterTree:
        """Build the tree that was chosen, with what the other methods say."""
        linkage, own = self.linked(choice.method)
        tree = assemble(self.leaves(linkage), choice.how or own, method=choice.method)
        has_ladder = self.testable and choice.method != "hdbscan"
        return replace(
            tree,
            reason=choice.reason,
            opinions=self.opinions(),
            ladder=self.ladder if has_ladder else tree.ladder,
        )

    def opinions(self) -> dict[str, int]:
        """Return how many clusters each method finds; the library where that takes seconds."""
        methods = ["contrast"] if self.testable else []
        methods += ["density", "modularity"]
        if self.nodes.n_nodes <= MOST_NODES_OF_LIBRARY:
            methods.append("hdbscan")
        return {method: len(self.labelling(method).selected) for method in methods}
