"""Other labels from the stored tree, without the images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.errors import ConfigError
from workflow.pipeline.carry import carry_labels, labelling, labels_of_centroids
from workflow.pipeline.model import label_model, stored_tree
from workflow.pipeline.partitions import partitions
from workflow.pipeline.summary import summarize
from workflow.runstore import layout
from workflow.runstore.files import Journal, write_json
from workflow.runstore.store import discard
from workflow.tree import cut

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workflow.config import Config
    from workflow.pipeline.executor import Executor
    from workflow.pipeline.tasks import Labelling
    from workflow.runstore import RunStore

#: The journal of the labels, checksums of their blocks.
JOURNAL = "blocks.jsonl"


def recut_labels(
    store: RunStore,
    config: Config,
    executor: Executor,
    *,
    n_clusters: int | None = None,
    min_cluster_size: int | None = None,
    layer: int | None = None,
    paths: Path | None = None,
) -> dict[str, Any]:
    """Cut the stored tree elsewhere and write the labels that follow.

    ``labels.zarr``, ``summary.json`` and the labels of the centroids are
    replaced together; the cut is recorded in the manifest.  Nothing of the
    images, scores or centroids is read but each image's nearest centroids.

    Returns
    -------
    dict
        The new summary.

    Raises
    ------
    ConfigError
        If the tree cannot be cut so.
    """
    asked = {
        name: value
        for name, value in (
            ("n_clusters", n_clusters),
            ("min_cluster_size", min_cluster_size),
            ("layer", layer),
        )
        if value is not None
    }
    if not asked:
        msg = "`recut` must be told how; got none of --n-clusters, --min-cluster-size, --layer. Give one."
        raise ConfigError(msg)
    n_samples = store.manifest.images["shape"][0]
    if min_cluster_size is not None and min_cluster_size > n_samples:
        msg = f"`--min-cluster-size` must be at most the number of images; got {min_cluster_size} for {n_samples} images. Lower it."
        raise ConfigError(msg)
    tree = cut(
        stored_tree(store), n_clusters=n_clusters, min_cluster_size=min_cluster_size, layer=layer
    )
    labels = labels_of_centroids(store, tree)
    place = store.wip("recut")
    place.mkdir()
    how = labelling(executor, labels, config.labels, target=place / layout.LABELS, paths=paths)
    reports = _carry(store, executor, how)
    store.manifest.cut = {
        "asked": asked,
        "found": {
            "method": tree.method,
            "structure": tree.structure,
            "min_cluster_size": tree.min_cluster_size,
            "n_clusters": tree.n_clusters,
        },
    }
    model = store.stage_model("labels", label_model(labels), None, place)
    summary = summarize(store, reports=reports)
    write_json(place / layout.SUMMARY, summary)
    store.replace(
        [
            (place / layout.LABELS, store.path / layout.LABELS),
            (place / layout.SUMMARY, store.path / layout.SUMMARY),
            (place / JOURNAL, store.folder("labels") / JOURNAL),
            *model,
        ]
    )
    discard(place)
    return summary


def _carry(store: RunStore, executor: Executor, how: Labelling) -> Mapping[int, dict[str, Any]]:
    """Write the labels of all images; return what the tasks have reported."""
    images = store.manifest.images
    pieces = partitions(images["shape"][0], images["block_rows"])
    journal = Journal(how.target.parent / JOURNAL, store.step("labels").key)
    return carry_labels(executor, store, how, pieces, journal)
