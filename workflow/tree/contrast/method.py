"""Method `contrast`: the rule's joins as a tree, cut where the test refuses them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.contrast.constants import DEFAULT_RATIO, UNTESTED
from workflow.tree.contrast.rule import ContrastRule
from workflow.tree.flows.graph import joins_to_linkage
from workflow.tree.layers import Cut
from workflow.tree.method import Method

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.linkage import Linkage
    from workflow.tree.problem import Problem

#: Thresholds at which clusters are counted; the default is one of them.
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, DEFAULT_RATIO, 0.9, 0.95, 1.0)


class Contrast(Method):
    """Bottom-up joins, each tested: clusters are real where fewer images cross than inside."""

    name = "contrast"
    title = "contrast"
    joins_by = "flow"
    reads = "flows"
    noise = "centroids much sparser than the median image; where they hold few images, none"
    has_threshold = True

    def can_build(self, problem: Problem) -> bool:
        """Return whether there are enough images for the test."""
        return problem.testable

    def build(self, problem: Problem) -> Linkage:
        """Run the contrast rule and return its joins as a tree.

        Parameters
        ----------
        problem : Problem
            Checked input.

        Returns
        -------
        Linkage
            Heights are one over the ratio of the test, scores minus its log:
            splits with a score of at least ``-log(DEFAULT_RATIO)`` are the rule's
            clusters.  Nodes set aside as noise are joined last.

        Notes
        -----
        Each image flows among its nearest centroids.  Bottom-up along the
        dendrogram of the flows a join of two clusters is refused where the
        crossing between them is less concentrated on their border cells than
        the crossings of the joins inside each were.  After the rule has stopped
        the clusters are joined on, the highest ratio first, so that fewer
        clusters can be had later.
        """
        found = problem.rule.run(DEFAULT_RATIO, join_on=True)
        return joins_to_linkage(problem.nodes, problem.flows, found.ends, found.ratio, UNTESTED)

    def cut(self, problem: Problem) -> Cut:
        """Return the cut where the test refuses joins."""
        return Cut(problem.min_size(), -math.log(DEFAULT_RATIO), "leaf")


def clusters_by_threshold(problem: Problem) -> NDArray[np.float64]:
    """Return thresholds of the contrast rule and the number of clusters at each, (n_thresholds, 2); a plateau is a number to trust."""
    found = [(threshold, problem.rule.run(threshold).n_clusters) for threshold in THRESHOLDS]
    return np.array(found, np.float64)


def clusters_of_any_size(problem: Problem) -> int | None:
    """Return the number of clusters that the test leaves where one average centroid is enough for a cluster; None where the size was given."""
    if problem.min_cluster_size is not None:
        return None
    rule = ContrastRule(problem.nodes, problem.flows, problem.merges, problem.min_size(1))
    return rule.run(DEFAULT_RATIO).n_clusters
