"""Method `auto`: which way to build the tree suits the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.tree.layers import Cut
from workflow.tree.methods import CONTRAST, DENSITY, MODULARITY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.method import Method
    from workflow.tree.nodes import Nodes
    from workflow.tree.problem import Problem

#: Largest share of the images outside of sparse regions that `density` may call noise and still be
#: believed, and where nothing can be tested.  Without theory: on separated blobs 0 to 0.03 are
#: so lost, on real images 0.06 to 0.8.
MAX_STRAY, MAX_STRAY_UNTESTED = 0.10, 0.05
#: Largest share of the images in one cluster for `density` to be believed untested.
MAX_SHARE_UNTESTED = 0.9
#: Entropy that `density` may fall short of `contrast` by: small differences are all noise.
ENTROPY_MARGIN = 0.1

#: Rise of log density that counts as a trace of structure; half of what makes a cluster.
HINT_LOG_DENSITY_RISE = 1.0
#: Rise that clusters of `density` must have where `contrast` sees none: half as much again.
SURE_LOG_DENSITY_RISE = 3.0


class Choice(NamedTuple):
    """How to build the tree.

    Attributes
    ----------
    method : Method
        The method.
    reason : str
        Why, as a clause.
    cut : Cut, optional
        Another cut than the method's own.
    """

    method: Method
    reason: str
    cut: Cut | None = None


def choose(problem: Problem) -> Choice:
    """Choose between the methods.

    Parameters
    ----------
    problem : Problem
        Checked input.

    Returns
    -------
    Choice
        With too few images for a test: `density` where its clusters are
        apart, else `modularity`.  Otherwise `contrast` decides whether there
        is structure.  `density` is preferred where it tells as much and its
        noise lies where images are sparse: then clusters are apart, and it
        finds smaller ones.  Structure that leaves no trace at all in the
        density is not believed, nor clusters of `density` that are not much
        denser than their borders where `contrast` sees none.
    """
    nodes = problem.nodes
    density = problem.labelling(DENSITY).label
    apart = _lie_apart(problem, density)
    if not problem.testable:
        if problem.has_clusters is False:
            return Choice(
                MODULARITY,
                "communities of the images are tied to each other as those of a smooth cloud",
                Cut(problem.min_size(), np.finfo(np.float64).max, "leaf"),
            )
        few = "there are too few images for a test of the tree, and clusters"
        if problem.has_clusters is None:
            few = "there are too few images for a test, and clusters"
        if apart:
            return Choice(DENSITY, f"{few} lie apart")
        return Choice(MODULARITY, f"{few} do not lie apart")
    contrast = problem.labelling(CONTRAST).label
    n_contrast = int(contrast.max()) + 1
    if apart and n_contrast == 1:
        sure = DENSITY.cut_at(problem, SURE_LOG_DENSITY_RISE, problem.selection)
        apart = problem.labelling(DENSITY, sure).label.max() > 0
    # One giant cluster with many tiny ones beside it tells little about an image.
    if apart and _entropy(nodes, density) >= _entropy(nodes, contrast) - ENTROPY_MARGIN:
        return Choice(DENSITY, "clusters lie apart, with sparse images between them")
    if n_contrast == 1:
        return Choice(CONTRAST, "no border is crossed by fewer images than the parts it divides")
    hint = DENSITY.cut_at(problem, HINT_LOG_DENSITY_RISE, "leaf")
    if problem.labelling(DENSITY, hint).label.max() < 1:
        return Choice(
            CONTRAST,
            "borders are crossed by fewer images, but nothing is denser than they are",
            Cut(problem.min_size(), np.finfo(np.float64).max, "leaf"),
        )
    return Choice(
        CONTRAST, "clusters touch, and borders are crossed by fewer images than their insides"
    )


def _lie_apart(problem: Problem, label: NDArray[np.int32]) -> bool:
    """Return whether there are several clusters, and the noise is where images are sparse.

    Where clusters touch, `density` sees nothing but their peaks and takes dense images for noise.
    """
    nodes = problem.nodes
    if label.max() < 1:
        return False
    dense = nodes.population * ~problem.flows.is_sparse
    stray = dense[label < 0].sum() / dense.sum()
    if problem.testable:
        return bool(stray <= MAX_STRAY)
    images = np.bincount(label[label >= 0], nodes.population[label >= 0])
    return bool(stray <= MAX_STRAY_UNTESTED and images.max() <= MAX_SHARE_UNTESTED * images.sum())


def _entropy(nodes: Nodes, label: NDArray[np.int32]) -> float:
    """Return the entropy of the shares of images of clusters."""
    member = label >= 0
    images = np.bincount(label[member], nodes.population[member])
    share = images[images > 0] / images.sum()
    return float(-(share * np.log(share)).sum())
