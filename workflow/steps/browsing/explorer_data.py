"""The images that one can walk among on the map of the page, and what lies between clusters."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.numerics import ranks, ranks_in_groups
from workflow.runstore import layout, zarr_io
from workflow.steps.base import is_picture
from workflow.steps.browsing.map_data import drawn_ranges
from workflow.steps.browsing.members import values_at
from workflow.steps.browsing.own_columns import columns_at
from workflow.steps.browsing.previews import Previews
from workflow.steps.parts.clusters.counts import stored_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.report import ExplorerData
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore

#: Images shown one by one, and how many of them with a picture: at most so many, and so many bytes.
MAX_SHOWN, MAX_PICTURES, PICTURE_BYTES = 65_536, 16_384, 24 * 2**20
#: Clusters that get a picture from the images themselves where none was kept of them.
MAX_FETCHED = 400
#: Neighbouring clusters of each that are told.
N_NEIGHBORS = 6
#: What is held of an image that is shown, with its file name [bytes].
ROW_BYTES = 400


def explorer_bytes(image_bytes: int) -> int:
    """Return what is held of the images that are shown [bytes]."""
    return ROW_BYTES * MAX_SHOWN + 3 * min(PICTURE_BYTES, MAX_PICTURES * image_bytes)


def explorer_data(
    store: RunStore, images: ImageStore | None, centroid_label: NDArray[np.int32]
) -> ExplorerData | None:
    """Return the images that the map shows one by one.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    images : ImageStore or None
        The images; None shows pictures that were kept only.
    centroid_label : int32 array of shape (n_centroids,)
        Label of each centroid.

    Returns
    -------
    ExplorerData or None
        None where no map was made.  All images where there are few, otherwise those with a picture and
        others evenly among the blocks that the map is drawn from.
    """
    from workflow.report import ExplorerData

    stored = set(zarr_io.array_names(store.path / layout.LABELS))
    if "x" not in stored:
        return None
    image_shape = tuple(store.manifest.images["shape"][1:])
    previews = Previews(store) if is_picture(image_shape) else None
    rows = np.concatenate([np.arange(*block) for block in drawn_ranges(store)])
    kept = np.empty(0, np.int64)
    if previews is not None:
        drawn = np.intersect1d(previews.rows, rows, assume_unique=True)
        kept = _evenly(drawn, MAX_SHOWN // 2)
    rows = np.union1d(kept, _evenly(rows, MAX_SHOWN - len(kept)))
    pictured = kept
    if previews is not None and images is not None:
        label = values_at(store, ["label"], kept)["label"]
        lacking = _exemplars(store, label, centroid_label)
        pictured, rows = np.union1d(kept, lacking), np.union1d(rows, lacking)
    names = ["x", "y", "label", "centroid", "strength", "outlier_score"]
    values = values_at(store, [*names, "family", "path"], rows)
    n_bytes = math.prod(image_shape) * np.dtype(store.manifest.images["dtype"]).itemsize
    n_pictures = min(len(pictured), MAX_PICTURES, max(1, PICTURE_BYTES // n_bytes))
    is_pictured = np.isin(rows, pictured)
    # By size, which the numbers of a first run go by.
    rank = ranks(np.argsort(-stored_counts(store).sizes, kind="stable"))[values["label"]]
    first = _by_importance(is_pictured, rank, values["strength"])[:n_pictures]
    order = np.concatenate([first, np.delete(np.arange(len(rows)), first)])
    pictures = None
    if previews is not None and len(first):
        pictures = previews.with_images(rows[first], images, image_shape)
    layers, *graph = store.read_model(
        "layers", "graph_indptr", "graph_indices", "graph_weights_three"
    )
    neighbors, flow = flows_between(*graph, label=centroid_label)
    path = values.get("path")
    return ExplorerData(
        index=rows[order],
        places=np.column_stack([values["x"], values["y"]])[order],
        cluster=values["label"][order],
        centroid=values["centroid"][order],
        strength=values["strength"][order],
        outlier_score=values["outlier_score"][order],
        family=values["family"][order] if "family" in values else None,
        path=None if path is None else [str(path[one]) for one in order],
        pictures=pictures,
        layers=layers,
        neighbors=neighbors,
        flow=flow,
        columns=columns_at(store, rows[order]),
    )


def _evenly(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return up to `n` of the rows, evenly among them."""
    return rows[np.linspace(0, len(rows) - 1, min(n, len(rows))).astype(np.int64)]


def _exemplars(
    store: RunStore, kept_label: NDArray[Any], centroid_label: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return the image nearest to the largest centroid of each cluster that no picture was kept of."""
    exemplar, population = store.read_model("exemplar", "population")
    order = np.lexsort((-population, centroid_label))
    clusters, first = np.unique(centroid_label[order], return_index=True)
    lacks = (clusters >= 0) & ~np.isin(clusters, kept_label)
    rows = exemplar[order[first[lacks]], 0][:MAX_FETCHED]
    return np.unique(rows[rows >= 0])


def _by_importance(
    is_pictured: NDArray[np.bool_], rank_of: NDArray[np.int32], strength: NDArray[np.float32]
) -> NDArray[np.intp]:
    """Return the pictured images: the strongest of each cluster, lowest rank first, then the second, ..."""
    here = np.flatnonzero(is_pictured)
    # Noise comes after the clusters.
    cluster = np.where(rank_of[here] < 0, np.iinfo(np.int32).max, rank_of[here])
    order = np.lexsort((here, -strength[here], cluster))
    rank = ranks_in_groups(cluster[order])
    return here[order[np.lexsort((cluster[order], rank))]]


def flows_between(
    indptr: NDArray[Any],
    indices: NDArray[Any],
    weights: NDArray[Any],
    *,
    label: NDArray[np.int32],
    n: int = N_NEIGHBORS,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return for each cluster those with the most images between, and how many these are.

    Parameters
    ----------
    indptr, indices, weights : arrays
        Graph of the centroids as CSR, both ways; weights are images between two.
    label : int32 array of shape (n_centroids,)
        Cluster of each, -1 for noise, which lies between none.
    n : int
        How many are told.

    Returns
    -------
    tuple of arrays of shape (n_clusters, n)
        The neighbours, -1 where there are fewer, and the images.
    """
    n_clusters = int(label.max(initial=-1)) + 1
    neighbors = np.full((n_clusters, n), -1, np.int32)
    flow = np.zeros((n_clusters, n), np.int64)
    one = np.repeat(label, np.diff(indptr)).astype(np.int64)
    other = label[indices].astype(np.int64)
    crosses = (one >= 0) & (other >= 0) & (one != other)
    pairs, number = np.unique(one[crosses] * n_clusters + other[crosses], return_inverse=True)
    images = np.bincount(number, weights[crosses], len(pairs)).astype(np.int64)
    one, other = np.divmod(pairs, max(1, n_clusters))
    order = np.lexsort((other, -images, one))
    rank = ranks_in_groups(one[order])
    order, rank = order[rank < n], rank[rank < n]
    neighbors[one[order], rank], flow[one[order], rank] = other[order], images[order]
    return neighbors, flow
