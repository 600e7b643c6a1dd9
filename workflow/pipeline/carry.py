"""Labels of centroids carried to images: for the labels step, for a recut, and for new images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import schema
from workflow.labels import N_TOP, CentroidLabels, centroid_labels
from workflow.pipeline.partitions import partition_rows
from workflow.pipeline.tasks import Labelling, LabelsTask, PredictTask
from workflow.runstore import layout, zarr_io
from workflow.tree.core_distances import edge_distances, image_spacing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.config.models import LabelsSettings
    from workflow.pipeline.executor import Executor
    from workflow.pipeline.partitions import Partition
    from workflow.runstore import RunStore
    from workflow.runstore.files import Journal
    from workflow.tree import ClusterTree

#: Methods whose tree joins by length; the others join by flow.
TREES_OF_LENGTHS = ("density", "hdbscan")


def labels_of_centroids(store: RunStore, tree: ClusterTree) -> CentroidLabels:
    """Return everything about each centroid that its images need to know."""
    centroids, population, rms_radius, indptr, indices, weights = store.read_model(
        "centroids",
        "population",
        "rms_radius",
        "graph_indptr",
        "graph_indices",
        "graph_weights_three",
    )
    strength: NDArray[Any] = weights
    if tree.method in TREES_OF_LENGTHS:
        dimension = store.model_attrs("centroid_graph")["intrinsic_dimension"]
        strength = closeness(centroids, population, indptr, indices, dimension)
    return centroid_labels(
        tree.label,
        tree.membership,
        (indptr, indices, strength),
        centroids=centroids,
        rms_radius=rms_radius,
        population=population,
    )


def closeness(
    centroids: NDArray[Any],
    population: NDArray[np.int64],
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    dimension: float,
) -> NDArray[np.float64]:
    """Return one over the spacing of images along each edge: large where a tree of lengths joins first."""
    start = np.repeat(np.arange(len(centroids)), np.diff(indptr))
    length = edge_distances(centroids.astype(np.float64), start, indices)
    return 1 / image_spacing(length, population[start], population[indices], dimension)


def create_labels(target: Path, n_samples: int, block_rows: int, paths: Path | None) -> None:
    """Make the empty arrays of a labels store."""
    zarr_io.create_group(target)
    for name, spec in schema.LABELS.items():
        zarr_io.create_rows_array(
            target,
            name,
            n_rows=n_samples,
            tail_shape=(N_TOP,) * (len(spec.dims) - 1),
            dtype=spec.dtype,
            shard_rows=partition_rows(n_samples, block_rows),
            block_rows=block_rows,
            dims=spec.dims,
            attrs={"units": spec.unit, "long_name": spec.description},
        )
    if paths is not None:
        zarr_io.create_rows_array(
            target,
            "path",
            n_rows=n_samples,
            tail_shape=(),
            dtype=zarr_io.array_dtype(paths, "path"),
            shard_rows=partition_rows(n_samples, block_rows),
            block_rows=block_rows,
            dims=("sample",),
            attrs={"long_name": "file of the image"},
        )
        zarr_io.write_attrs(target, {"coordinates": "path"})
    # Nothing is added later but rows, so xarray may read all metadata at once.
    zarr_io.consolidate(target)


def labelling(
    executor: Executor,
    labels: CentroidLabels,
    settings: LabelsSettings,
    *,
    target: Path,
    paths: Path | None,
) -> Labelling:
    """Return how images get their labels from those of the centroids, as the settings say."""
    shared = executor.share(labels.to_arrays())
    return Labelling(shared, settings.noise, settings.outlier_limit, target, paths)


def carry_labels(
    executor: Executor,
    store: RunStore,
    how: Labelling,
    partitions: Sequence[Partition],
    journal: Journal,
) -> Mapping[int, dict[str, Any]]:
    """Write the labels of all images of a run; a journal with entries goes on."""
    if not journal.entries:
        last = partitions[-1].blocks[-1].stop
        create_labels(how.target, last, partitions[0].blocks[0].n_rows, how.paths)
    task = LabelsTask(layout.nearest(store.path), how)
    items = {partition.index: partition for partition in partitions}
    return executor.run("labels", task, items, journal=journal, n_rows=lambda p: p.n_rows)


def predict_labels(
    executor: Executor, task: PredictTask, partitions: Sequence[Partition], journal: Journal
) -> Mapping[int, dict[str, Any]]:
    """Write the labels of new images."""
    if not journal.entries:
        last = partitions[-1].blocks[-1].stop
        how = task.labelling
        create_labels(how.target, last, partitions[0].blocks[0].n_rows, how.paths)
    items = {partition.index: partition for partition in partitions}
    return executor.run("predict", task, items, journal=journal, n_rows=lambda p: p.n_rows)
