"""New images merged into the stored moments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.chunks import choose_block_rows
from workflow.errors import ConfigError, ImagesError
from workflow.pca import merge_moments, moments_to_arrays, principal_components
from workflow.pipeline.model import (
    components_attrs,
    components_details,
    components_model,
    moments_model,
    stored_moments,
)
from workflow.pipeline.moments import moments_pass
from workflow.pipeline.partitions import partitions
from workflow.pipeline.stale import STEP_VERSIONS, step_plans
from workflow.runstore.files import write_arrays
from workflow.runstore.manifest import digest
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from workflow.config import Config
    from workflow.pipeline.executor import Executor
    from workflow.pipeline.images import ImagesInput
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore


def require_new_images(store: RunStore, given: ImagesInput) -> None:
    """Refuse images that the moments hold already.

    Raises
    ------
    ImagesError
        If they were merged before.
    ConfigError
        If the run keeps no moments.
    """
    known = [store.manifest.images.get("digest"), *(u["digest"] for u in store.manifest.updates)]
    if given.digest in known:
        msg = f"`update` must be given new images; those of {given.name} are in the moments already. Give others."
        raise ImagesError(msg)
    if store.step("pca").state != "complete":
        msg = f"`update` must find a run whose step pca is complete; in {store.path} it is {store.step('pca').state}. Run it first."
        raise ConfigError(msg)
    if store.manifest.config.get("profile") == "reference":
        msg = "`update` must find stored moments; a run of profile reference keeps none. Run with --set profile=default."
        raise ConfigError(msg)


def require_same_kind(store: RunStore, images: ImageStore, name: str) -> None:
    """Refuse images of another shape or dtype than those of the run.

    Raises
    ------
    ImagesError
        Naming both.
    """
    known = store.manifest.images
    expected = f"{tuple(known['shape'][1:])} of {known['dtype']}"
    got = f"{tuple(images.shape[1:])} of {images.dtype}"
    if expected != got:
        msg = f"new images must be like those of the run, {expected}; {name} holds {got}. Convert them first."
        raise ImagesError(msg)


def update_moments(
    store: RunStore, config: Config, executor: Executor, images: ImageStore, given: ImagesInput
) -> dict[str, Any]:
    """Merge the moments of new images into those of a run, and find the components anew.

    The scores, centroids and labels stay as they are, on the components they
    were made with, until `run` does those steps again.

    Returns
    -------
    dict
        Number of images before and after, components, share of variance kept.
    """
    before = stored_moments(store)
    folder = store.folder("pca")
    place = folder / f"update-{len(store.manifest.updates):03d}"
    block_rows = choose_block_rows(images.n_features, images.stored_rows)
    content = {"images": given.digest, "block_rows": block_rows, "version": STEP_VERSIONS["pca"]}
    added, _ = moments_pass(
        executor,
        images,
        partitions(images.n_samples, block_rows),
        folder=place,
        journal=store.journal("pca", place.name, key=digest(content), needs=(place,)),
        max_full_features=config.pca.max_full_features,
    )
    merged = merge_moments(before, added)
    found = principal_components(merged, config.pca.n_components)
    file = folder / f"{place.name}.npz"
    checksum = write_arrays(file, moments_to_arrays(added))
    store.manifest.updates.append(
        {
            "digest": given.digest,
            "path": given.name,
            "n_samples": images.n_samples,
            "file": file.name,
            "file_crc": checksum,
        }
    )
    record = store.step("pca")
    record.key = next(plan.key for plan in step_plans(store, config) if plan.name == "pca")
    record.details = components_details(found)
    staged = store.wip("update")
    arrays = moments_model(merged) | components_model(found)
    # The manifest, with the update noted, is saved together with the moves.
    store.replace(store.stage_model("pca", arrays, components_attrs(found), staged))
    discard(staged)
    discard(place)
    return {"n_samples_before": before.n_samples, **components_details(found)}
