"""Clusters numbered by their images, largest first: those of the tree, of its layers, of another cut."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow.graph import Graph
from workflow.labels import CentroidLabels, centroid_labels, cluster_of_rows, order_by_size
from workflow.runstore import layout, zarr_io
from workflow.steps.parts.edits import edited

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import Executor, StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.runstore import RunStore
    from workflow.tree import ClusterTree


class Rule(NamedTuple):
    """How images get their labels, as the settings say.

    Attributes
    ----------
    noise : {"keep", "resolve"}
        What becomes of noise.
    max_outlier_score : float or None
        Largest outlier score that is not noise; None where centroids decide.
    """

    noise: Literal["keep", "resolve"]
    max_outlier_score: float | None


class Labelled(NamedTuple):
    """Labels of the centroids, and the images of each cluster.

    Attributes
    ----------
    labels : CentroidLabels
        What each centroid passes on.
    sizes : int64 array of shape (n_clusters,) [images]
        Images with each label, falling.
    """

    labels: CentroidLabels
    sizes: NDArray[np.int64]


class Numbered(NamedTuple):
    """A tree whose clusters are numbered by their images.

    Attributes
    ----------
    tree : ClusterTree
        The tree.
    clusters : Labelled
        Its clusters.
    layers : list of Labelled
        Its layers; none where clusters were edited by hand.
    """

    tree: ClusterTree
    clusters: Labelled
    layers: list[Labelled]


def number_clusters(
    executor: Executor,
    store: RunStore,
    tree: ClusterTree,
    rule: Rule,
    partitions: Sequence[Partition],
    edits: Sequence[Mapping[str, Any]] = (),
) -> Numbered:
    """Give the clusters of a tree, and of each of its layers, numbers by falling number of images.

    Clusters of equal size are ordered by their lowest centroid, so that numbers
    depend on the clusters alone.  Images are only looked at where some of
    them may be noise by their own distance.  With edits by hand the clusters are
    those after them, and the tree and its layers stay without numbers.
    """
    from workflow.tree import cut

    of_centroids = CentroidLabeller.of(store)
    if edits:
        labels = of_centroids.label(tree, edits)
        (count,) = _count_images(executor, store, [labels], rule, partitions)
        order = order_by_size(labels.label, count)
        return Numbered(tree, Labelled(labels.renumbered(order), count[order]), [])
    trees = [tree, *(cut(tree, layer=layer) for layer in range(len(tree.layers)))]
    found = [of_centroids.label(one) for one in trees]
    sizes = _count_images(executor, store, found, rule, partitions)
    orders = [
        order_by_size(one.label, count[: one.n_clusters])
        for one, count in zip(trees, sizes, strict=True)
    ]
    labelled = [
        Labelled(labels.renumbered(order), count[order])
        for labels, count, order in zip(found, sizes, orders, strict=True)
    ]
    layers = [one.renumbered(order).label for one, order in zip(trees[1:], orders[1:], strict=True)]
    stacked = np.array(layers, np.int32).reshape(tree.layers.shape)
    numbered = replace(tree.renumbered(orders[0]), layers=stacked)
    return Numbered(numbered, labelled[0], labelled[1:])


@dataclass(frozen=True, slots=True)
class CentroidLabeller:
    """What the labels of centroids follow from, beside a tree."""

    centroids: NDArray[np.float32]
    population: NDArray[np.int64]
    rms_radius: NDArray[np.float64]
    graph: Graph
    dimension: float

    @classmethod
    def of(cls, store: RunStore) -> CentroidLabeller:
        """Read it from a run."""
        centroids, population, rms_radius, indptr, indices, weights = store.read_model(
            "centroids",
            "population",
            "rms_radius",
            "graph_indptr",
            "graph_indices",
            "graph_weights_three",
        )
        dimension = store.model_attrs("centroid_graph")["intrinsic_dimension"]
        return cls(centroids, population, rms_radius, Graph(indptr, indices, weights), dimension)

    def label(self, tree: ClusterTree, edits: Sequence[Mapping[str, Any]] = ()) -> CentroidLabels:
        """Return everything about each centroid that its images need to know."""
        graph = tree.noise_graph(self.graph, self.centroids, self.dimension)
        labels = centroid_labels(
            tree.label,
            tree.membership,
            graph,
            centroids=self.centroids,
            rms_radius=self.rms_radius,
            population=self.population,
        )
        if not edits:
            return labels
        return edited(labels, tree, edits, graph, self.centroids, self.graph)


def _count_images(
    executor: Executor,
    store: RunStore,
    found: Sequence[CentroidLabels],
    rule: Rule,
    partitions: Sequence[Partition],
) -> list[NDArray[np.int64]]:
    """Return the images of each cluster of several labellings of the centroids."""
    (population,) = store.read_model("population")
    by_distance = [
        index
        for index, labels in enumerate(found)
        if labels.has_noise and rule.noise == "keep" and rule.max_outlier_score is not None
    ]
    counts: list[NDArray[np.int64]] = []
    for labels in found:
        label = labels.label_resolved if rule.noise == "resolve" else labels.label
        images = np.zeros(int(labels.label_resolved.max(initial=-1)) + 1, np.int64)
        np.add.at(images, label[label >= 0], population[label >= 0])
        counts.append(images)
    if by_distance:
        shared = {
            f"{index}_{name}": array
            for index in by_distance
            for name, array in found[index].to_arrays().items()
        }
        task = CountTask(layout.nearest(store.path), executor.share(shared), rule)
        counted = executor.reduce(task, list(partitions), _add)
        for index, images in counted.items():
            counts[index] = images
    return counts


@dataclass(frozen=True, slots=True)
class CountTask:
    """Counts the images of each cluster of several labellings, in the rows of a partition."""

    nearest: Path
    labels: StoredArrays
    rule: Rule

    def __call__(self, partition: Partition) -> dict[int, NDArray[np.int64]]:
        """Return the counts of each labelling, by its number."""
        counts: dict[int, NDArray[np.int64]] = {}
        for nearest, sq_distance in self._blocks(partition):
            here = {
                index: _count(
                    cluster_of_rows(nearest, sq_distance, labels, **self.rule._asdict()), labels
                )
                for index, labels in _labellings(self.labels).items()
            }
            counts = _add(counts, here) if counts else here
        return counts

    def _blocks(self, partition: Partition) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Yield the nearest centroids of each block, and how far they are."""
        for rows in partition.blocks:
            yield (
                zarr_io.read_rows(self.nearest, "nearest", *rows),
                zarr_io.read_rows(self.nearest, "sq_distance", *rows),
            )


def _labellings(stored: StoredArrays) -> dict[int, CentroidLabels]:
    """Return the labellings that tasks share, by number."""
    arrays = stored.load()
    numbers = sorted({int(name.partition("_")[0]) for name in arrays})
    return {
        number: CentroidLabels.from_arrays(
            {n.partition("_")[2]: a for n, a in arrays.items() if n.startswith(f"{number}_")}
        )
        for number in numbers
    }


def _count(label: NDArray[np.int32], labels: CentroidLabels) -> NDArray[np.int64]:
    """Return how many rows have each label."""
    n_clusters = int(labels.label_resolved.max(initial=-1)) + 1
    return np.bincount(label[label >= 0], minlength=n_clusters).astype(np.int64)


def _add(
    left: dict[int, NDArray[np.int64]], right: dict[int, NDArray[np.int64]]
) -> dict[int, NDArray[np.int64]]:
    """Add counts of disjoint images."""
    return {index: images + right[index] for index, images in left.items()}
