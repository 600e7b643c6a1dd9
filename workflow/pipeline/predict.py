"""Labels for new images, by the code that labelled the old ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import schema
from workflow.chunks import choose_block_rows
from workflow.errors import StoreError
from workflow.pipeline.carry import labelling, predict_labels
from workflow.pipeline.context import named_group
from workflow.pipeline.counts import reported_counts
from workflow.pipeline.model import stored_labels
from workflow.pipeline.partitions import partitions
from workflow.pipeline.stale import STEP_VERSIONS
from workflow.pipeline.tasks import Basis, PredictTask
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import Journal
from workflow.runstore.manifest import digest
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.config import Config
    from workflow.pipeline.executor import Executor
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore


def require_labels(store: RunStore) -> None:
    """Refuse a run that has no labels yet.

    Raises
    ------
    StoreError
        Naming the step that is missing.
    """
    for name in layout.STEPS[:-1]:
        if store.step(name).state != "complete":
            msg = f"the run must have labels; in {store.path} step {name} is {store.step(name).state}. Finish it with `run`."
            raise StoreError(msg)


def predict(
    store: RunStore, config: Config, executor: Executor, images: ImageStore, target: Path
) -> dict[str, Any]:
    """Write labels for images that the run has not seen.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    config : Config
        The settings of that run.
    executor : Executor
        Runs the tasks.
    images : ImageStore
        New images, of the shape and dtype of the run's.
    target : Path
        Where the labels are written: a Zarr group like ``labels.zarr``.

    Returns
    -------
    dict
        Number of images, noise share, number of clusters met.
    """
    mean, components, variance, centroids = store.read_model(
        "projection_mean", "projection_components", "projection_variance", "centroids"
    )
    attrs = store.model_attrs("projection")
    basis = {"mean": mean, "components": components, "variance": variance}
    labels = stored_labels(store)
    partial = target.with_name(f"{target.name}.partial")
    journal_file = partial.with_name(f"{partial.name}.jsonl")
    if not partial.is_dir():
        # The labels that it tells of were moved to their place already, or never were.
        journal_file.unlink(missing_ok=True)
    key = digest(
        {
            "images": zarr_io.fingerprint(images),
            "model": store.step("labels").key,
            "cut": store.manifest.cut,
            "labels": config.labels.model_dump(mode="json"),
            "version": STEP_VERSIONS["labels"],
            # What another version began lacks arrays of this one.
            "arrays": list(schema.LABELS),
        }
    )
    journal = Journal(journal_file, key)
    if not journal.entries:
        discard(partial)
    task = PredictTask(
        images=images,
        basis=Basis(executor.share(basis), attrs["whiten"]),
        dtype=attrs["dtype"],
        centroids=executor.share({"centroids": centroids}),
        labelling=labelling(
            executor, labels, config.labels, target=partial, paths=named_group(images)
        ),
    )
    block_rows = choose_block_rows(images.n_features, images.stored_rows)
    pieces = partitions(images.n_samples, block_rows)
    counts = reported_counts(predict_labels(executor, task, pieces, journal))
    discard(target)
    partial.replace(target)
    journal_file.unlink()
    return {
        "n_samples": images.n_samples,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / images.n_samples,
        "labels": str(target),
    }
