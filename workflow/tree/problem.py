"""What every method starts from: checked input, and what several of them derive from it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree.contrast.rule import ContrastRule
from workflow.tree.density._kernels import boxes_of
from workflow.tree.density.bridges import bridge_edges
from workflow.tree.flows.communities import N_STARTS, find_communities, improved_communities
from workflow.tree.flows.dendrogram import nested_merges
from workflow.tree.flows.graph import make_flow_graph
from workflow.tree.layers import Leaves, label_cut
from workflow.tree.nodes import edge_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.density._kernels import Boxes
    from workflow.tree.flows.dendrogram import Merges
    from workflow.tree.flows.graph import FlowGraph
    from workflow.tree.layers import Cut
    from workflow.tree.linkage import Linkage
    from workflow.tree.method import Method
    from workflow.tree.nodes import Nodes
    from workflow.tree.selection import Labelling

#: Minimum centroids of average size that a cluster has, unless its size is given.
CENTROIDS_PER_CLUSTER = 5
#: Resolution of the communities; 1 is the modularity of Newman and Girvan.
RESOLUTION = 1.0
#: The same where nothing can be tested: on small sets of labelled images 1 to 2 came nearest to
#: the labels.
UNTESTED_RESOLUTION = 1.5


class Redrawn(NamedTuple):
    """From which problem another one was redrawn: they share all that lies at the positions.

    Attributes
    ----------
    original : Problem
        Problem on the same nodes, with all edges of the redrawn one and maybe more.
    edges : bool array of shape (n_edges_of_the_original,)
        Which of its edges are left.
    community : int64 array of shape (n_nodes,), optional
        Communities to improve; None to look for new ones.
    """

    original: Problem
    edges: NDArray[np.bool_]
    community: NDArray[np.int64] | None


@dataclass(frozen=True)
class Problem:
    """Checked input of the tree; what several methods need is made from it once, when first used.

    Attributes
    ----------
    nodes : Nodes
        Distinct centroids and their graph.
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.
    dimension : float
        Intrinsic dimension of the images.
    min_cluster_size : int, optional [images]
        Minimum images of a cluster; from the mean population if None.
    min_samples : int, optional
        Neighbours that smooth the density; the method's own if None.
    selection : str
        ``"eom"`` or ``"leaf"``.
    min_log_density_rise : float
        How much denser than a split its sides must be, in log density.
    mean_distance : float64 array of shape (n_nodes,), optional [unit of the scores]
        Mean distance of the images of a node to it.
    testable : bool
        Whether there are enough images to tell structure from chance.
    has_clusters : bool, optional
        Where there are not: what a test of the images themselves says.
    given : int64 array of shape (n_nodes,), optional
        Communities that the images themselves have.
    redrawn : Redrawn, optional
        Where redrawn counts come from.
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
    has_clusters: bool | None = None
    given: NDArray[np.int64] | None = None
    redrawn: Redrawn | None = None

    @cached_property
    def lengths(self) -> NDArray[np.float64]:
        """The lengths of the edges [unit of the scores]."""
        if self.redrawn is not None:
            return self.redrawn.original.lengths[self.redrawn.edges]
        return edge_distances(self.nodes.position, self.nodes.row, self.nodes.col)

    @cached_property
    def boxes(self) -> Boxes:
        """The boxes around the nodes."""
        if self.redrawn is not None:
            return self.redrawn.original.boxes
        return boxes_of(self.nodes.position)

    @cached_property
    def bridges(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The edges between the components of the graph."""
        nodes, known = self.nodes, None
        if self.redrawn is not None:
            known = np.stack(self.redrawn.original.bridges, axis=1)
        return bridge_edges(nodes.position, nodes.row, nodes.col, known, lambda: self.boxes)

    @cached_property
    def flows(self) -> FlowGraph:
        """The graph of the flows; without its sparse nodes where enough images say so."""
        return make_flow_graph(self.nodes, self.lengths, set_aside=self.testable)

    @property
    def resolution(self) -> float:
        """Resolution of the communities."""
        return RESOLUTION if self.testable or self.given is not None else UNTESTED_RESOLUTION

    @cached_property
    def community(self) -> NDArray[np.int64]:
        """The communities of the flows, per node of their graph."""
        graph, dense = self.flows.graph, self.flows.nodes
        if self.redrawn is not None and self.redrawn.community is not None:
            start = self.redrawn.community[dense]
            return improved_communities(graph, start, resolution=self.resolution)
        if self.redrawn is None and self.given is not None:
            return self.given[dense]
        return find_communities(
            graph,
            self.nodes.position[dense],
            resolution=self.resolution,
            n_starts=N_STARTS if self.redrawn is None else 1,
        )

    @cached_property
    def community_of_nodes(self) -> NDArray[np.int64]:
        """The community of every node; those set aside are communities of their own."""
        community = np.arange(self.nodes.n_nodes) + len(self.community)
        community[self.flows.nodes] = self.community
        return community

    @cached_property
    def merges(self) -> Merges:
        """The dendrogram of the flows within and above the communities."""
        return nested_merges(self.flows.graph, self.community)

    @cached_property
    def rule(self) -> ContrastRule:
        """The contrast rule along that dendrogram."""
        return ContrastRule(self.nodes, self.flows, self.merges, self.min_size())

    def min_size(self, n_centroids: int = CENTROIDS_PER_CLUSTER) -> int:
        """Return the minimum images of a cluster: those of so many average centroids, at least 2, unless given."""
        if self.min_cluster_size is not None:
            return self.min_cluster_size
        n_images = int(self.population.sum())
        return max(2, round(n_images * n_centroids / len(self.population)))

    @cached_property
    def _linkages(self) -> dict[str, Linkage]:
        """Linkages that were made, by method."""
        return {}

    def linkage(self, method: Method) -> Linkage:
        """Return the linkage of the nodes by a method, made once."""
        if method.name not in self._linkages:
            self._linkages[method.name] = method.build(self)
        return self._linkages[method.name]

    def leaves(self, method: Method) -> Leaves:
        """Return the linkage of a method with the centroids on it."""
        return Leaves(self.linkage(method), self.nodes.node, self.population)

    def labelling(self, method: Method, cut: Cut | None = None) -> Labelling:
        """Return the clusters of the nodes (not the centroids) that a method finds, at its own cut or another."""
        return label_cut(self.leaves(method), cut or method.cut(self))[1]

    def redraw(self, rng: np.random.Generator, *, from_scratch: bool) -> Problem:
        """Return the problem on redrawn counts, without edges that drew no image; `from_scratch` forgets the communities."""
        nodes = self.nodes
        weights_two = rng.poisson(nodes.weights_two)
        weights = weights_two + rng.poisson(np.maximum(nodes.weights - nodes.weights_two, 0))
        present = weights > 0
        drawn: Nodes = nodes._replace(
            population=np.maximum(rng.poisson(nodes.population), 1),
            row=nodes.row[present],
            col=nodes.col[present],
            weights_two=weights_two[present],
            weights=weights[present],
        )
        # Coincident centroids share the images of their node in proportion.
        share = drawn.population[nodes.node] / nodes.population[nodes.node]
        population = np.maximum(np.rint(self.population * share), 1).astype(np.int64)
        known = None if from_scratch else self.community_of_nodes
        redrawn = Redrawn(self, present, known)
        return replace(self, nodes=drawn, population=population, redrawn=redrawn)
