"""What to look at where the answer is one cluster, and whether clusters follow brightness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.graph import Graph
from workflow.overcluster import NearestCentroids, cell_sums
from workflow.steps.overcluster import N_NEAREST
from workflow.steps.parts.sample import stored_sample
from workflow.steps.projection import stored_transform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.overcluster import CellSums
    from workflow.runstore import RunStore
    from workflow.steps.parts.cluster_numbers import Labelled
    from workflow.tree import ClusterTree

#: Of a useful partition the largest cluster holds at most this share of the images.
MAX_SHARE = 0.9
#: Rows of the sample that are tried with whitened scores, and rows for each centroid of the trial.
TRIAL_ROWS, ROWS_PER_CENTROID = 20_000, 15


def offered_partitions(
    store: RunStore, layers: Sequence[Labelled], n_samples: int
) -> list[dict[str, Any]]:
    """Return the useful layers of the tree, coarse to fine, each with its sizes.

    Useful is one with several clusters of which none holds nearly all images.
    The layer of largest modularity, of the images between centroids, is the
    suggested one.
    """
    graph = Graph(*store.read_model("graph_indptr", "graph_indices", "graph_weights_three"))
    offers = [
        {
            "layer": number,
            "n_clusters": len(layer.sizes),
            "largest": int(layer.sizes[0]),
            "smallest": int(layer.sizes[-1]),
            "noise_fraction": round(1 - int(layer.sizes.sum()) / n_samples, 4),
            "modularity": round(modularity(graph, layer.labels.label_resolved), 4),
        }
        for number, layer in enumerate(layers)
        if len(layer.sizes) > 1 and layer.sizes[0] <= MAX_SHARE * n_samples
    ]
    best = max((offer["modularity"] for offer in offers), default=0.0)
    return [offer | {"is_suggested": offer["modularity"] == best} for offer in offers]


def suggested_layer(offers: Sequence[dict[str, Any]]) -> int | None:
    """Return the layer that is suggested, None without one."""
    return next((offer["layer"] for offer in offers if offer["is_suggested"]), None)


def modularity(graph: Graph, label: NDArray[np.integer[Any]]) -> float:
    """Return the share of the flow inside of clusters, less what chance would leave there; 0 without flow."""
    from workflow.tree.flows import communities

    if not graph.weights.any():
        return 0.0
    # Noise is a cluster of its own.
    community = (label - label.min()).astype(np.int64)
    flows = graph._replace(weights=graph.weights.astype(np.float64))
    return communities.modularity(flows, community, 1.0)


class BrightnessOf:
    """How far a partition of images follows their mean brightness, from the centroids alone.

    The mean of an image is linear in its scores, so its variance, and how much
    of it lies between clusters, follow from the means of the cells.
    """

    def __init__(self, store: RunStore, *, is_whitened: bool) -> None:
        components, variance = store.read_model("projection_components", "projection_variance")
        deviation = np.sqrt(np.maximum(variance, 0))
        slope = components.mean(axis=1)
        self._variance = float(np.square(slope * deviation).sum())
        if is_whitened:
            slope, deviation = slope * deviation, np.ones_like(deviation)
        transform = stored_transform(store)
        if transform is not None:
            slope = np.linalg.lstsq(transform.T, slope)[0]
            deviation = np.linalg.norm(transform * deviation, axis=1)
        #: Brightness that one unit of each score adds [pixel value], and spread of the scores.
        self._slope, self._deviation = slope, deviation

    def shares(
        self,
        label: NDArray[np.integer[Any]],
        mean: NDArray[np.float64],
        population: NDArray[np.integer[Any]],
        *,
        is_whitened: bool = False,
    ) -> dict[str, float] | None:
        """Return what share of the brightness is told by the label, and of the separation by brightness.

        Parameters
        ----------
        label : int array of shape (n_centroids,)
            Cluster of each centroid, -1 for noise.
        mean : float array of shape (n_centroids, n_components) [score]
            Mean of the images of each centroid.
        population : int array of shape (n_centroids,) [images]
            Images of each centroid.
        is_whitened : bool
            Whether `mean` is of the scores of the run, each divided by its spread.

        Returns
        -------
        dict or None
            ``explained``: share of the variance of mean brightness that lies
            between clusters.  ``along``: share of the squared distances of the
            clusters from their common mean that lies along brightness, both 0
            to 1.  None where there is no brightness or no separation.
        """
        slope = self._slope * self._deviation if is_whitened else self._slope
        variance = self._variance
        member = label >= 0
        n_clusters = int(label.max(initial=-1)) + 1
        images = np.bincount(label[member], population[member], minlength=n_clusters)
        middle = np.zeros((n_clusters, mean.shape[1]))
        np.add.at(middle, label[member], mean[member] * population[member, None])
        middle /= np.maximum(images, 1)[:, None]
        middle -= (images @ middle) / max(1, images.sum())
        apart = images @ np.square(middle).sum(axis=1)
        by_brightness = images @ np.square(middle @ slope)
        steepness = np.square(slope).sum()
        if not (variance > 0 and apart > 0 and steepness > 0):
            return None
        return {
            "explained": round(min(1.0, float(by_brightness / images.sum() / variance)), 3),
            "along": round(min(1.0, float(by_brightness / steepness / apart)), 3),
        }


def whitened_trial(
    store: RunStore, seed: int, brightness: BrightnessOf | None
) -> dict[str, Any] | None:
    """Cluster some rows of the sample with whitened scores; return what the test finds there.

    None where they are too few for the test.
    """
    # scikit-learn comes with the estimator, and is slow to import.
    from workflow.overcluster import Overcluster
    from workflow.tree import build_tree

    sample = stored_sample(store)
    rows = sample.read(0, min(sample.n_samples, TRIAL_ROWS)).astype(np.float32)
    deviation = rows.std(axis=0, dtype=np.float64)
    rows = (rows / np.where(deviation > 0, deviation, 1)).astype(np.float32)
    n_centroids = len(rows) // ROWS_PER_CENTROID
    if n_centroids < 2:
        return None
    centroids = Overcluster(n_centroids, seed=seed).fit(rows).cluster_centers_
    nearest, cells = _assigned(rows, centroids)
    occupied = cells.population > 0
    if not occupied.all():
        centroids = centroids[occupied]
        nearest, cells = _assigned(rows, centroids)
    graph = centroid_graph(count_pairs(nearest, len(centroids)), len(centroids))
    tree = build_tree(
        centroids,
        cells.population,
        graph,
        dimension=intrinsic_dimension(rows),
        mean_distance=cells.distance / cells.population,
    )
    if tree.structure == "untested":
        return None
    found: dict[str, Any] = {"n_samples": len(rows), "n_clusters": tree.n_clusters}
    label = tree.label if tree.n_clusters > 1 else _best_layer(tree, graph)
    if brightness is not None and label is not None:
        shares = brightness.shares(label, centroids, cells.population, is_whitened=True)
        found["brightness"] = shares
    return found


def _assigned(
    rows: NDArray[np.float32], centroids: NDArray[Any]
) -> tuple[NDArray[np.int32], CellSums]:
    """Return the nearest centroids of rows, and the sums of the cells."""
    nearest, sq_distance = NearestCentroids.build(centroids).query(rows, k=N_NEAREST)
    return nearest, cell_sums(rows, 0, nearest, sq_distance, len(centroids))


def _best_layer(tree: ClusterTree, graph: Graph) -> NDArray[np.int32] | None:
    """Return the layer of largest modularity, None where there is one cluster in all."""
    layers = [layer for layer in tree.layers if layer.max() > 0]
    return max(layers, key=lambda layer: modularity(graph, layer), default=None)
