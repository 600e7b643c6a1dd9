"""Method `auto`: which way to build the tree suits the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.tree.cluster_tree import ClusterTree
    from workflow.tree.nodes import Nodes

#: Most of the images outside of sparse regions that `density` may call noise and still be
#: believed, and where nothing can be tested.  Without theory: on separated blobs 0 to 0.03 are
#: so lost, on real images 0.06 to 0.8.
MOST_STRAY, MOST_STRAY_UNTESTED = 0.10, 0.05
#: Largest share of the images in one cluster for `density` to be believed untested.
LARGEST_SHARE = 0.9
#: Threshold of the lenient contrast test, a rung of every ladder.
LENIENT_RATIO = 0.9
#: Entropy that `density` may fall short of `contrast` by: small differences are all noise.
ENTROPY_MARGIN = 0.1


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


def is_within_ladder(tree: ClusterTree, contrast: ClusterTree) -> bool:
    """Return whether a tree has a number of clusters that the contrast test can agree with.

    Parameters
    ----------
    tree : ClusterTree
        Any tree.
    contrast : ClusterTree
        Tree of the contrast test, with its ladder.

    Returns
    -------
    bool
        Whether the number lies between those at the default threshold and at
        `LENIENT_RATIO`.
    """
    lenient = contrast.ladder[contrast.ladder[:, 0] == LENIENT_RATIO, 1]
    return bool(contrast.n_clusters <= tree.n_clusters <= lenient.max(initial=0.0))
