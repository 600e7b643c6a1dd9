"""update: new images merged into the stored moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.chunks import choose_block_rows
from workflow.commands.base import (
    client_for,
    executor_for_bytes,
    is_known,
    open_new,
    readable_images,
    stored_config,
)
from workflow.engine.partitions import partitions
from workflow.engine.staleness import step_plans
from workflow.engine.summary import summarize
from workflow.errors import ConfigError, ImagesError
from workflow.pca import merge_moments, moments_to_arrays
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard, write_arrays, write_json
from workflow.runstore.manifest import digest
from workflow.steps.pca import (
    PcaSettings,
    PcaStep,
    checked_components,
    components_attrs,
    components_details,
    components_model,
    moments_model,
    n_merged,
    stored_moments,
    sum_moments,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.progress import Progress
    from workflow.ingest import ImagesInput
    from workflow.runstore.zarr_io import ImageStore


def update(
    run: Path | str,
    images: Any,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Merge the moments of new images into those of a run, and find the components anew.

    The new images get no labels, neither here nor by `run`; `predict` gives them labels.  The scores,
    centroids and labels stay as they are, on the components they were made with, until `run` does those
    steps again.  Returned are the number of images before and after and of all merged ones, which have no
    labels, the components and the share of variance kept.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        given = open_new(store, images, config)
        client = client_for(given, client)
        _require_new_images(store, given)
        work = store.path / layout.WIP / f"update-{given.digest}"
        shared = work / "shared"
        with executor_for_bytes(shared, config, client, given.n_bytes, progress) as executor:
            opened = readable_images(store, given, work, executor)
            found = _update(store, config, executor, opened, given)
        discard(work)
    return found


def _require_new_images(store: RunStore, given: ImagesInput) -> None:
    """Refuse images that the moments hold already, and a run without moments."""
    if is_known(store, given) or given.digest in [u["digest"] for u in store.manifest.updates]:
        msg = f"`update` must be given new images; those of {given.name} are in the moments already. Give others."
        raise ImagesError(msg)
    if store.step("pca").state != "complete":
        msg = f"`update` must find a run whose step pca is complete; in {store.path} it is {store.step('pca').state}. Run it first."
        raise ConfigError(msg)
    if store.manifest.config.get("profile") == "reference":
        msg = "`update` must find stored moments; a run of profile reference keeps none. Run with --set profile=default."
        raise ConfigError(msg)


def _update(
    store: RunStore, config: Config, executor: Executor, images: ImageStore, given: ImagesInput
) -> dict[str, Any]:
    """Sum the moments of the new images, merge them, and put the new components in place."""
    before, settings = stored_moments(store), config.section(PcaSettings)
    folder = store.folder("pca")
    place = folder / f"update-{len(store.manifest.updates):03d}"
    block_rows = choose_block_rows(images.n_features, images.stored_rows)
    content = {
        "images": given.digest,
        "block_rows": block_rows,
        "version": PcaStep.version,
        **({"normalize": True} if settings.normalize else {}),
    }
    parts = partitions(images.n_samples, block_rows)
    added, _ = sum_moments(
        executor,
        images,
        parts,
        folder=place,
        journal=store.journal("pca", place.name, key=digest(content), needs=(place,)),
        settings=settings,
    )
    merged, found = checked_components(
        executor,
        settings.features.reading(images),
        images.image_shape,
        parts,
        lambda: merge_moments(before, added),
        settings.n_components,
    )
    file = folder / f"{place.name}.npz"
    checksum = write_arrays(file, moments_to_arrays(added))
    store.manifest.updates.append(
        {
            "digest": given.digest,
            "path": given.name,
            "n_samples": images.n_samples,
            "normalize": settings.normalize,
            "file": file.name,
            "file_crc": checksum,
        }
    )
    record = store.step("pca")
    plans = step_plans(steps.STEPS, store, config)
    record.key = next(plan.key for plan in plans if plan.name == "pca")
    record.details |= components_details(found)
    staged = store.wip("update")
    arrays = moments_model(merged) | components_model(found)
    moves = store.stage_model("pca", arrays, components_attrs(found), staged)
    if (store.path / layout.SUMMARY).exists():
        write_json(staged / layout.SUMMARY, summarize(steps.STEPS, store))
        moves = [*moves, (staged / layout.SUMMARY, store.path / layout.SUMMARY)]
    # The manifest, with the update noted, is saved together with the moves.
    store.replace(moves)
    discard(staged)
    discard(place)
    return {
        "n_samples_before": before.n_samples,
        "n_samples_merged": n_merged(store),
        **components_details(found),
    }
