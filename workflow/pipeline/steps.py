"""One short adapter per step: read the run store, call the mathematics, write the run store."""

from __future__ import annotations

import functools
import importlib
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.errors import ConfigError, ImagesError
from workflow.overcluster import auto_n_centroids, sample_counts
from workflow.pca import merge_moments, principal_components
from workflow.pipeline.carry import carry_labels, labelling, labels_of_centroids
from workflow.pipeline.graph import DimensionTask, GraphTask, do
from workflow.pipeline.images import ingest_images
from workflow.pipeline.model import (
    components_attrs,
    components_details,
    components_model,
    label_model,
    moments_model,
    stored_tree,
    tree_details,
    tree_model,
    with_dims,
)
from workflow.pipeline.moments import moments_pass, update_states
from workflow.pipeline.overclustering import (
    PAIRS,
    assign,
    draw_sample,
    fit,
    n_rows,
    pairs_file,
)
from workflow.pipeline.page import write_report
from workflow.pipeline.partitions import flat_checksums, partition_rows
from workflow.pipeline.plan import kept_images
from workflow.pipeline.stale import STEP_VERSIONS
from workflow.pipeline.tasks import Basis, ProjectionItem, ProjectionTask
from workflow.runstore import layout, zarr_io
from workflow.runstore.manifest import digest
from workflow.runstore.store import discard
from workflow.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from workflow.pca import MomentState, PrincipalComponents
    from workflow.pipeline.context import Context
    from workflow.runstore.files import Journal

log = logging.getLogger(__name__)

#: Standard deviations whose squares stay well inside float32.
SMALLEST_SPREAD, LARGEST_SPREAD = 1e-12, 1e12
#: Unreadable files that the manifest names; the store of the images lists them all.
MAX_LISTED = 1000


def run_ingest(context: Context) -> None:
    """Copy images that cannot be read in place into the run folder; note what they are."""
    store, given = context.store, context.given
    if given.source is not None:
        report = ingest_images(given, store.path / layout.IMAGES, context.executor)
        store.step("ingest").details = {
            "n_unreadable": report.n_unreadable,
            "unreadable": list(report.unreadable[:MAX_LISTED]),
        }
    images = context.images
    store.manifest.images |= {
        "shape": [int(length) for length in images.shape],
        "dtype": str(images.dtype),
        "block_rows": context.block_rows,
    }


def run_pca(context: Context) -> None:
    """Find the principal components; the pixels are read once."""
    store, settings = context.store, context.config.pca
    if context.config.profile == "reference":
        reference = _reference()
        context.executor.ignore_warning(reference.HARMLESS_WARNING)
        with context.executor.as_dask_scheduler():
            found = reference.components(context.images, context.block_rows, settings.n_components)
    else:
        state = _moments(context)
        found = _components(state, settings.n_components)
        store.write_model("pca", moments_model(state))
    store.write_model("pca", components_model(found), components_attrs(found))
    store.step("pca").details = components_details(found)


def _components(state: MomentState, n_components: float | str) -> PrincipalComponents:
    """Find the components; refuse images whose squared scores float32 cannot hold."""
    try:
        found = principal_components(state, n_components)
        widest = math.sqrt(found.explained_variance[0])
    except OverflowError:
        widest = math.inf
    if widest and not SMALLEST_SPREAD < widest < LARGEST_SPREAD:
        msg = f"images must spread between {SMALLEST_SPREAD:g} and {LARGEST_SPREAD:g} along their first component; got {widest:.3g}. Scale them, for example to standard deviation 1."
        raise ImagesError(msg)
    return found


def _reference() -> ModuleType:
    """Import the literal way when it is asked for: dask-ml takes half a second."""
    return importlib.import_module("workflow.pipeline.reference")


def _moments(context: Context) -> MomentState:
    """Return the moments of all images; they outlive a changed number of components."""
    state, reports = moments_pass(
        context.executor,
        context.images,
        context.partitions,
        folder=context.store.folder("pca") / "parts",
        journal=_moments_journal(context),
        max_full_features=context.config.pca.max_full_features,
    )
    context.count("pca", reports)
    # Images merged by `update` stay in, in the order in which they came.
    try:
        return functools.reduce(merge_moments, update_states(context.store), state)
    except ValueError:
        msg = "`pca.max_full_features` must stay as it was when images were merged by `update`: moments of another kind cannot be merged. Set it back, or start a run in a new folder."
        raise ConfigError(msg) from None


def _moments_journal(context: Context) -> Journal:
    """Return the journal of the first pass: it depends on the images, not on the components."""
    limit = context.config.pca.max_full_features
    images = context.store.manifest.images["digest"]
    content = {
        "images": images,
        "max_full_features": limit,
        "block_rows": context.block_rows,
        "version": STEP_VERSIONS["pca"],
    }
    parts = context.store.folder("pca") / "parts"
    return context.store.journal("pca", "moments", key=digest(content), needs=(parts,))


def run_projection(context: Context) -> None:
    """Write the scores of all images; the pixels are read once more."""
    store, settings = context.store, context.config
    mean, components, variance = store.read_model("mean", "components", "explained_variance")
    basis = {"mean": mean, "components": components, "variance": variance}
    store.write_model(
        "projection",
        with_dims({f"projection_{name}": array for name, array in basis.items()}),
        {"whiten": settings.pca.whiten, "dtype": settings.projection.dtype},
    )
    target, kept = layout.scores(store.path), layout.kept_images(store.path)
    journal = store.journal("projection", "blocks", needs=(target, kept))
    if not journal.entries:
        discard(target)
        discard(kept)
        kept.mkdir()
        zarr_io.create_rows_array(
            target,
            "scores",
            n_rows=context.n_samples,
            tail_shape=(len(components),),
            dtype=settings.projection.dtype,
            shard_rows=partition_rows(context.n_samples, context.block_rows),
            block_rows=context.block_rows,
            dims=("sample", "component"),
            compressor=None,
        )
    task = ProjectionTask(
        context.images,
        Basis(context.executor.share(basis), settings.pca.whiten),
        settings.projection.dtype,
        target,
        kept,
    )
    checksums = context.split(_image_checksums(context))
    image_bytes = context.images.n_features * context.images.dtype.itemsize
    n_pictures = kept_images(context.n_samples, image_bytes)
    n_kept = context.split(sample_counts(context.block_sizes, n_pictures).tolist())
    items = {
        p.index: ProjectionItem(p, expected, n)
        for p, expected, n in zip(context.partitions, checksums, n_kept, strict=True)
    }
    reports = context.executor.run("projection", task, items, journal=journal, n_rows=n_rows)
    context.count("projection", reports)


def _image_checksums(context: Context) -> list[Any]:
    """Return the checksum each block had when it was first read; None where it was not."""
    entries = _moments_journal(context).entries
    if not entries:
        return [None] * len(context.block_sizes)
    return flat_checksums(entries)


def run_overcluster(context: Context) -> None:
    """Find many centroids and each image's nearest three."""
    store, settings = context.store, context.config.overcluster
    n_centroids = settings.n_centroids
    if n_centroids == "auto":
        n_centroids = auto_n_centroids(context.n_samples)
    if n_centroids > context.n_samples:
        msg = f"`overcluster.n_centroids` must be at most the number of images; got {n_centroids} for {context.n_samples} images. Lower it, or leave it auto."
        raise ConfigError(msg)
    sample = draw_sample(context, n_centroids)
    if context.config.profile == "reference":
        reference = _reference()
        with context.executor.as_dask_scheduler():
            centroids = reference.centroids(
                context.scores, context.block_rows, n_centroids, context.config.seed
            )
        details: dict[str, Any] = {"n_rows_used": context.n_samples, "n_rounds": 1}
    else:
        fitted = fit(context, sample, n_centroids)
        row_bytes = sample.n_features * sample.dtype.itemsize
        context.count("overcluster", {0: {"bytes_read": fitted.n_rows_used * row_bytes}})
        centroids = fitted.centroids.astype(np.float32)
        details = {"n_rows_used": int(fitted.n_rows_used), "n_rounds": int(fitted.n_rounds)}
    place = store.wip("model-overcluster")
    sums, part = assign(context, centroids, place)
    assert sums.staged is not None
    details |= {
        "n_centroids": len(sums.is_occupied),
        "n_centroids_asked": n_centroids,
        "inertia": sums.inertia,
    }
    store.replace(store.adopt_model("overcluster", sums.staged, details))
    discard(place)
    record = store.step("overcluster")
    record.checksums[f"overcluster/{PAIRS}"] = sums.pairs_crc
    record.details = details | {"assign_part": part}


def run_centroid_graph(context: Context) -> None:
    """Make the graph of the centroids from the counts of the last pass."""
    store = context.store
    # What the last pass left was needed until its step was recorded as complete.
    discard(store.folder("overcluster") / "parts")
    record = store.step("overcluster")
    checksum = record.checksums[f"overcluster/{PAIRS}"]
    sample = zarr_io.StoredRows.open(layout.sample(store.path), "sample")
    place = store.wip("model-centroid_graph")
    staged, dimension = context.executor.map(
        do,
        [
            GraphTask(pairs_file(store), checksum, record.details["n_centroids"], place),
            DimensionTask(sample, context.config.centroid_graph.dimension_rows),
        ],
    )
    details = {"intrinsic_dimension": dimension, "n_edges": staged.n_edges}
    store.replace(store.adopt_model("centroid_graph", staged.arrays, details))
    discard(place)
    store.step("centroid_graph").details = details


def run_tree(context: Context) -> None:
    """Find the clusters in the centroid graph."""
    store, settings = context.store, context.config.tree
    centroids, population, mean_distance, indptr, indices, two, three = store.read_model(
        "centroids",
        "population",
        "mean_distance",
        "graph_indptr",
        "graph_indices",
        "graph_weights_two",
        "graph_weights_three",
    )
    graph = {
        "auto": (indptr, indices, two, three),
        "two": (indptr, indices, two),
        "three": (indptr, indices, three),
    }[settings.flows]
    method = "hdbscan" if context.config.profile == "reference" else settings.method
    tree = build_tree(
        centroids,
        population,
        graph,
        method=method,
        min_cluster_size=settings.min_cluster_size,
        min_samples=settings.min_samples,
        cluster_selection_method=settings.cluster_selection_method,
        dimension=store.model_attrs("centroid_graph")["intrinsic_dimension"],
        mean_distance=mean_distance,
        n_resamples=settings.n_resamples,
    )
    store.write_model("tree", tree_model(tree), tree.attrs())
    store.step("tree").details = tree_details(tree)
    store.manifest.cut = {}


def run_labels(context: Context) -> None:
    """Carry the labels of the centroids to the images."""
    store = context.store
    labels = labels_of_centroids(store, stored_tree(store))
    store.write_model("labels", label_model(labels))
    target = store.path / layout.WIP / layout.LABELS
    journal = store.journal("labels", "blocks", needs=(target,))
    if not journal.entries:
        target = store.wip(layout.LABELS)
    settings, paths = context.config.labels, context.paths()
    how = labelling(context.executor, labels, settings, target=target, paths=paths)
    reports = carry_labels(context.executor, store, how, context.partitions, journal)
    context.count("labels", reports)
    store.replace([(target, store.path / layout.LABELS)])


def run_report(context: Context) -> None:
    """Write the page that a person looks at."""
    write_report(context.store, context.config, context.images)


STEPS: dict[str, Callable[[Context], None]] = {
    "ingest": run_ingest,
    "pca": run_pca,
    "projection": run_projection,
    "overcluster": run_overcluster,
    "centroid_graph": run_centroid_graph,
    "tree": run_tree,
    "labels": run_labels,
    "report": run_report,
}
