"""One maker of the tree per method, and the automatic choice between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.chooser import is_density_believable, is_within_ladder, separates_more
from workflow.tree.contrast_tree import contrast_linkage
from workflow.tree.crossing import DEFAULT_RATIO
from workflow.tree.cutting import assemble, is_testable
from workflow.tree.density import density_linkage
from workflow.tree.flow_dendrogram import flow_merges
from workflow.tree.flow_graph import keep_nodes
from workflow.tree.flow_tree import RESOLUTION, UNTESTED_RESOLUTION, modularity_linkage
from workflow.tree.layers import Cut, Leaves, label_cut
from workflow.tree.library import library_linkage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.flow_dendrogram import Merges
    from workflow.tree.flow_graph import Kept
    from workflow.tree.nodes import Nodes
    from workflow.tree.spanning_tree import Linkage

#: Fewest centroids of average size that a cluster has, unless its size is given.
CENTROIDS_PER_CLUSTER = 5
#: But never more than this share of all images.
LARGEST_SHARE = 0.05
#: The same where nothing can be tested: small sets have small clusters.
CENTROIDS_PER_CLUSTER_UNTESTED = 1
#: Rise of log density that counts as a trace of structure; half of what makes a cluster.
HINT_LOG_DENSITY_RISE = 1.0
#: The hdbscan library's own default.
LIBRARY_MIN_SAMPLES = 5


@dataclass(frozen=True)
class Makers:
    """Checked input of the tree; each method makes it in one way.

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
    """

    nodes: Nodes
    population: NDArray[np.int64]
    dimension: float
    min_cluster_size: int | None
    min_samples: int | None
    selection: str
    min_log_density_rise: float
    mean_distance: NDArray[np.float64] | None

    @cached_property
    def testable(self) -> bool:
        """Whether there are enough images to tell structure from chance."""
        return is_testable(self.population)

    @cached_property
    def kept(self) -> Kept:
        """The graph of the flows; without its sparse nodes where enough images say so."""
        return keep_nodes(self.nodes, peel=self.testable)

    @cached_property
    def merges(self) -> Merges:
        """The dendrogram of the flows."""
        return flow_merges(len(self.kept.nodes), self.kept.row, self.kept.col, self.kept.weight)

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

    def density(self) -> ClusterTree:
        """Build the tree of method `density`."""
        linkage = density_linkage(
            self.nodes,
            dimension=self.dimension,
            min_samples=self.min_samples or 0,
            mean_distance=self.mean_distance,
        )
        how = Cut(self.density_size(), self.min_log_density_rise / self.dimension, self.selection)
        return assemble(self.leaves(linkage), how, method="density")

    def hdbscan(self) -> ClusterTree:
        """Build the tree of method `hdbscan`."""
        linkage = library_linkage(self.nodes, self.min_samples or LIBRARY_MIN_SAMPLES)
        how = Cut(self.size(), 0.0, self.selection)
        return assemble(self.leaves(linkage), how, method="hdbscan")

    def contrast(self) -> ClusterTree:
        """Build the tree of method `contrast`."""
        linkage, ladder = contrast_linkage(self.nodes, self.kept, self.merges, self.size())
        how = Cut(self.size(), -math.log(DEFAULT_RATIO), "leaf")
        return assemble(self.leaves(linkage), how, method="contrast", ladder=ladder)

    def modularity(self) -> ClusterTree:
        """Build the tree of method `modularity`."""
        linkage = modularity_linkage(self.nodes, self.kept, self.merges)
        if self.testable:
            how = Cut(self.size(), -math.log(RESOLUTION), "leaf")
        else:
            size = self.size(CENTROIDS_PER_CLUSTER_UNTESTED)
            how = Cut(size, -math.log(UNTESTED_RESOLUTION), "leaf")
        return assemble(self.leaves(linkage), how, method="modularity")

    def auto(self) -> ClusterTree:
        """Choose between the trees of the other methods.

        Returns
        -------
        ClusterTree
            With too few images for a test: that of `density` where its
            clusters are apart, else that of `modularity`, untested.
            Otherwise `contrast` decides whether there is structure.  `density`
            is preferred where it tells as much and its noise lies where images
            are sparse: then clusters are apart, and it finds smaller ones.
            Structure that leaves no trace at all in the density is not believed:
            along a thin curve the test of `contrast` is fooled at times.
            Where clusters touch, the cut of largest modularity is taken if its
            number of clusters lies between those of the strict and the lenient
            test, for it is the steadier of the two, else that of `contrast`.
        """
        density = self.density()
        first = np.unique(self.nodes.node, return_index=True)[1]
        label, is_sparse = density.label[first], self.kept.is_sparse
        if not self.testable:
            apart = is_density_believable(self.nodes, label, is_sparse, testable=False)
            return density if apart else self.modularity()
        contrast = self.contrast()
        apart = is_density_believable(self.nodes, label, is_sparse, testable=True)
        if apart and separates_more(self.nodes, label, contrast.label[first]):
            return density
        if contrast.n_clusters == 1:
            return contrast
        hint = Cut(density.min_cluster_size, HINT_LOG_DENSITY_RISE / self.dimension, "leaf")
        if len(label_cut(self.leaves(density.linkage), hint)[1].selected) == 1:
            return replace(density, ladder=contrast.ladder)
        modularity = self.modularity()
        if not is_within_ladder(modularity, contrast):
            return contrast
        return replace(modularity, ladder=contrast.ladder)
