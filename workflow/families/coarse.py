"""Whether images lie in a few large groups at all: the same test, of coarse communities."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workflow.families.ambient import ambient_dimension, representatives
from workflow.families.find import measure
from workflow.families.map_equation import map_communities
from workflow.families.neighbor_graph import N_NEIGHBORS, neighbor_graph
from workflow.families.smooth import log_odds, smooth_clouds
from workflow.graph import Graph
from workflow.tree._graph_kernels import contracted
from workflow.tree.flows.communities import modularity_communities

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

#: There are clusters where the log odds of leaving a coarse community are lower than in a smooth cloud by
#: this, on average over the images.  300 clouds without structure came to 0.73 at most (a Swiss roll,
#: whose edges help), four sets of labelled images to 1.27 and more.
MIN_EXCESS = 1.0
#: Where the images read less than this of the dimension around them from their own neighbours, they lie
#: in clumps about as large as the lists of neighbours, and hardly any tie leads from one to another.
MIN_DIMENSION_SHARE = 0.7
#: Neighbours of an image that join it to others where images lie in such clumps.
N_CLUMPED = 5
#: Weights of `ties_between` are whole numbers of this share of the heaviest tie of two images.
TIE_SHARE = 16


class CoarseTest(NamedTuple):
    """What the coarse communities of the graph of the images say.

    Attributes
    ----------
    has_clusters : bool, optional
        Whether they are told from those of a smooth cloud; None where there
        are too few images to tell.
    is_clumped : bool
        Whether the images lie in clumps as small as their lists of neighbours.
    excess : float
        How much lower the log odds of leaving them are than there.
    """

    has_clusters: bool | None
    is_clumped: bool
    excess: float


def coarse_test(
    index: NDArray[np.int32],
    distance: NDArray[np.float32],
    read_rows: Callable[[NDArray[np.int64]], NDArray[Any]],
) -> CoarseTest:
    """Test whether the images lie in a few large groups.

    Parameters
    ----------
    index, distance, read_rows : arrays and callable
        As for `workflow.families.find_families`.

    Returns
    -------
    CoarseTest
        The communities are those of largest modularity; each is compared with
        communities of its size and dimension in a smooth cloud.
    """
    graph = neighbor_graph(index, distance)
    fine = map_communities(graph)
    around = ambient_dimension(read_rows(representatives(fine)))
    if not np.isfinite(around).all():
        return CoarseTest(None, is_clumped=False, excess=0.0)
    community = modularity_communities(graph)
    size, conductance, _, _ = measure(graph, community)
    of_image = around[fine]
    dimension = np.array([np.median(of_image[community == c]) for c in range(len(size))])
    center, _ = smooth_clouds().at(dimension, size)
    excess = float(np.average(center - log_odds(conductance), weights=size))
    is_clumped = _own_dimension(distance) < MIN_DIMENSION_SHARE * np.median(of_image)
    return CoarseTest(excess >= MIN_EXCESS and len(size) > 1, bool(is_clumped), excess)


def _own_dimension(distance: NDArray[np.float32]) -> float:
    """Return the dimension that images read from their own neighbours."""
    length = distance[:, :N_NEIGHBORS].astype(np.float64)
    used = np.isfinite(length).all(axis=1) & (length[:, 0] > 0)
    if not used.any():
        return 0.0
    logs = np.log(length[used, -1:] / length[used, :-1]).sum(axis=1) / (length.shape[1] - 2)
    return float(1 / max(logs.mean(), 1e-9))


def ties_between(
    index: NDArray[np.int32],
    distance: NDArray[np.float32],
    centroid: NDArray[np.int32],
    n_centroids: int,
    *,
    is_clumped: bool = False,
) -> tuple[Graph, NDArray[np.int64]]:
    """Return the graph of the images added up between centroids, and its communities.

    Parameters
    ----------
    index, distance : arrays of shape (n_samples, n_neighbors)
        As for `neighbor_graph`.
    centroid : int32 array of shape (n_samples,)
        Nearest centroid of each image.
    n_centroids : int
        Number of centroids.
    is_clumped : bool
        Whether images lie in clumps as small as their lists of neighbours: only
        the nearest five join an image to others.

    Returns
    -------
    graph : Graph
        Weights int64, in sixteenths of the heaviest tie of two images; nothing
        on the diagonal.
    community : int64 array of shape (n_centroids,)
        Community of most images of each centroid; those of largest modularity
        on the graph of the images, which knows no centroids: another seed or
        number of them finds the same.
    """
    used = slice(0, N_CLUMPED if is_clumped else N_NEIGHBORS)
    graph = neighbor_graph(index[:, used], distance[:, used])
    found = modularity_communities(graph)
    images = np.zeros((n_centroids, int(found.max()) + 1), np.int64)
    np.add.at(images, (centroid, found), 1)
    between = contracted(graph, centroid.astype(np.int64), n_centroids)
    weights = np.rint(between.weights * (TIE_SHARE / (1 << 20))).astype(np.int64)
    row = between.rows()
    kept = (row != between.indices) & (weights > 0)
    passed = np.concatenate([[0], np.cumsum(kept)])
    ties = Graph(passed[between.indptr], between.indices[kept], weights[kept])
    return ties, images.argmax(axis=1)
