"""Method `auto`: which way to build the tree suits the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workflow.tree.layers import Cut
from workflow.tree.makers import Choice

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.makers import Makers
    from workflow.tree.nodes import Nodes

#: Most of the images outside of sparse regions that `density` may call noise and still be
#: believed, and where nothing can be tested.  Without theory: on separated blobs 0 to 0.03 are
#: so lost, on real images 0.06 to 0.8.
MOST_STRAY, MOST_STRAY_UNTESTED = 0.10, 0.05
#: Largest share of the images in one cluster for `density` to be believed untested.
LARGEST_SHARE = 0.9
#: Entropy that `density` may fall short of `contrast` by: small differences are all noise.
ENTROPY_MARGIN = 0.1

#: Rise of log density that counts as a trace of structure; half of what makes a cluster.
HINT_LOG_DENSITY_RISE = 1.0
#: Rise that clusters of `density` must have where `contrast` sees none: half as much again.
SURE_LOG_DENSITY_RISE = 3.0


def choose(makers: Makers) -> Choice:
    """Choose between the methods.

    Parameters
    ----------
    makers : Makers
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
    nodes, is_sparse = makers.nodes, makers.kept.is_sparse
    density = makers.labelling("density").label
    apart = is_density_believable(nodes, density, is_sparse, testable=makers.testable)
    if not makers.testable:
        if apart:
            return Choice("density", "there are too few images for a test, and clusters lie apart")
        return Choice(
            "modularity", "there are too few images for a test, and clusters do not lie apart"
        )
    contrast = makers.labelling("contrast").label
    n_contrast = int(contrast.max()) + 1
    if apart and n_contrast == 1:
        sure = makers.density_cut(SURE_LOG_DENSITY_RISE, makers.selection)
        apart = makers.labelling("density", sure).label.max() > 0
    if apart and separates_more(nodes, density, contrast):
        return Choice("density", "clusters lie apart, with sparse images between them")
    if n_contrast == 1:
        return Choice("contrast", "no border is crossed by fewer images than the parts it divides")
    hint = makers.labelling("density", makers.density_cut(HINT_LOG_DENSITY_RISE, "leaf")).label
    if hint.max() < 1:
        return Choice(
            "contrast",
            "borders are crossed by fewer images, but nothing is denser than they are",
            Cut(makers.size(), np.finfo(np.float64).max, "leaf"),
        )
    return Choice(
        "contrast", "clusters touch, and borders are crossed by fewer images than their insides"
    )


def is_density_believable(
    nodes: Nodes, label: NDArray[np.int32], is_sparse: NDArray[np.bool_], *, testable: bool
) -> bool:
    """Return whether the noise of the density method is where images are sparse.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids.
    label : int32 array of shape (n_nodes,)
        Clusters found by the density method.
    is_sparse : bool array of shape (n_nodes,)
        Nodes much sparser than the median image.
    testable : bool
        Whether there are enough images for a test; asks for more if not.

    Returns
    -------
    bool
        False for one cluster, and where it takes dense images for noise, as
        it does where clusters touch: there it sees nothing but their peaks.
    """
    if label.max() < 1:
        return False
    dense = nodes.population * ~is_sparse
    stray = dense[label < 0].sum() / dense.sum()
    if testable:
        return bool(stray <= MOST_STRAY)
    images = np.bincount(label[label >= 0], nodes.population[label >= 0])
    return bool(stray <= MOST_STRAY_UNTESTED and images.max() <= LARGEST_SHARE * images.sum())


def separates_more(nodes: Nodes, label: NDArray[np.int32], other: NDArray[np.int32]) -> bool:
    """Return whether one labelling tells at least as much about an image as another.

    Parameters
    ----------
    nodes : Nodes
        Distinct centroids.
    label, other : int32 arrays of shape (n_nodes,)
        Labellings, -1 for noise, which is left out.

    Returns
    -------
    bool
        Whether the entropy of the clusters of `label` is not much smaller.  One
        giant cluster with many tiny ones beside it tells little.
    """
    return _entropy(nodes, label) >= _entropy(nodes, other) - ENTROPY_MARGIN


def _entropy(nodes: Nodes, label: NDArray[np.int32]) -> float:
    """Return the entropy of the shares of images of clusters."""
    member = label >= 0
    images = np.bincount(label[member], nodes.population[member])
    share = images[images > 0] / images.sum()
    return float(-(share * np.log(share)).sum())
