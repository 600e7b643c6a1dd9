"""Few images: their neighbours stand in for the counts of the centroid graph, which tell too little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.families import coarse_test, ties_between
from workflow.families.neighbor_graph import N_NEIGHBORS
from workflow.overcluster import NearestCentroids
from workflow.runstore import layout, zarr_io
from workflow.steps.families import FEW_IMAGES
from workflow.steps.map import all_rows
from workflow.steps.neighbors import has_neighbors
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.graph import Graph
    from workflow.runstore import RunStore


class FewImages(NamedTuple):
    """The neighbours of few images, and what the coarse test says of them.

    Attributes
    ----------
    neighbor, distance : arrays of shape (n_samples, n_neighbors)
        As `neighbors.zarr` holds them.
    nearest : int32 array of shape (n_samples,)
        Nearest centroid.
    coarse : mapping
        The fields of `workflow.families.CoarseTest`; empty where nothing was tested.
    """

    neighbor: NDArray[np.int32]
    distance: NDArray[np.float32]
    nearest: NDArray[np.int32]
    coarse: Mapping[str, Any]

    def ties(self, n_centroids: int) -> tuple[Graph, NDArray[np.int64]]:
        """Return the graph of the images, added up between centroids, and its communities."""
        is_clumped = self.coarse["is_clumped"]
        return ties_between(
            self.neighbor, self.distance, self.nearest, n_centroids, is_clumped=is_clumped
        )


def few_images(store: RunStore) -> FewImages | None:
    """Return the neighbours of the images of a run, where there are few; found anew of an updated run."""
    n, coarse = store.manifest.images["shape"][0], store.step("families").details.get("coarse")
    if not coarse or n >= FEW_IMAGES:
        return None
    nearest = zarr_io.read_rows(layout.nearest(store.path), "nearest", 0, n)[:, 0]
    if has_neighbors(store):
        place = store.path / layout.NEIGHBORS
        index, distance = (zarr_io.read_rows(place, name, 0, n) for name in ("index", "distance"))
        return FewImages(index, distance, nearest, coarse)
    scores = all_rows(stored_scores(store))
    index, distance = _neighbors(scores)
    found = coarse_test(index, distance, lambda rows: scores[rows])
    return FewImages(index, distance, nearest, found._asdict())


def _neighbors(scores: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return the nearest neighbours of rows among them, and their distances."""
    k = min(N_NEIGHBORS, len(scores) - 1)
    index, sq_distance = NearestCentroids.build(scores).query(scores, k=k + 1)
    # A row is its own neighbour, unless copies of it come before it: then the last one goes.
    is_other = index != np.arange(len(scores))[:, None]
    is_other[is_other.all(axis=1), -1] = False
    found, distance = index[is_other].reshape(-1, k), np.sqrt(sq_distance[is_other].reshape(-1, k))
    return found.astype(np.int32), distance.astype(np.float32)
