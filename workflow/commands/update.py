"""update: new images become part of a run, with labels; and how the last update is undone."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import (
    client_for,
    clusters_back,
    executor_for_bytes,
    images_of,
    is_known,
    open_new,
    readable_images,
    require_labels,
    stored_config,
)
from workflow.commands.updating.adding import Addition
from workflow.engine.segments import added, is_updated, segment_folder
from workflow.engine.summary import write_summary
from workflow.errors import ConfigError, ImagesError
from workflow.formatting import format_count
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard
from workflow.runstore.growth import link_tree
from workflow.runstore.manifest import Manifest
from workflow.steps.labels import labels_are_families
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.parts.clusters.counts import stored_counts
from workflow.steps.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.progress import Progress
    from workflow.ingest import ImagesInput
    from workflow.runstore.zarr_io import ImageStore

log = logging.getLogger(__name__)

#: The run as it was, in the folder of a segment.
BEFORE = "before"
#: What an update replaces, beside the folders of the steps; other files in a run folder are somebody's own.
REPLACED = (
    layout.COLUMNS,
    layout.FAMILIES,
    layout.LABELS,
    layout.MAP,
    layout.MODEL,
    layout.REPORT,
    layout.SUMMARY,
)


def update(
    run: Path | str,
    images: Any,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make new images part of a run: they get scores, nearest centroids, places on the map and labels.

    Moments, populations and the counts of the centroid graph are those of all
    images, as if they had come at once; the components that scores are made
    with and the centroids stay.  The tree is made anew of the graph, and the
    labels of old and new images follow.  Neighbours and families stay as they
    were found, among the images of before.  Until the end, when all is put in
    place at once, the run is as it was.

    Parameters
    ----------
    run : path
        A run with labels.
    images : path or array
        New images, of the shape and dtype of the run's.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        Images before, new and now (``n_samples_before``, ``n_samples_new``, ``n_samples``), the number
        of the ``segment``, clusters before and now (``n_clusters_before``, ``n_clusters``), the share
        of noise, the centroids that were born (``n_born``), the new images that lay far out (``n_far_out``), and the components and variance of the merged moments.

    Raises
    ------
    StoreError
        If the run has no labels, or another command writes it.
    ConfigError
        If its labels are families, or it keeps no moments.
    ImagesError
        If the images are there already, or not like those of the run.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labelled(store, config, "update")
        given = open_new(store, images, config)
        if is_known(store, given) or given.digest in [u["digest"] for u in store.manifest.updates]:
            msg = f"`update` must be given new images; those of {given.name} are in the run already. Give others."
            raise ImagesError(msg)
        client = client_for(given, client)
        work = store.wip("update")
        n_bytes = given.n_bytes + NEAREST_BYTES * store.manifest.images["shape"][0]
        try:
            with executor_for_bytes(work / "shared", config, client, n_bytes, progress) as executor:
                opened = readable_images(store, given, work / "segment", executor)
                updated, found = _made(store, config, executor, opened, given)
        except BaseException:
            discard(work)
            raise
        _put_in_place(store, updated)
        discard(store.path / layout.WIP)
        write_page(store, config)
    return found


def undo_update(run: Path | str, *, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Take the last update back: the run is what it was before, to the last bit.

    Parameters
    ----------
    run : path
        The run folder.

    Returns
    -------
    dict
        Images before and now (``n_samples_before``, ``n_samples``), and how many were taken back
        (``n_samples_removed``).

    Raises
    ------
    ConfigError
        If no update gave images of the run labels.
    """
    store = RunStore.open(run)
    with store.lock():
        n_before, records = store.manifest.images.get("shape", [0])[0], added(store)
        if not records:
            msg = f"`update --undo` must find an update that gave labels; {store.path} has none. Nothing is changed."
            raise ConfigError(msg)
        segment = segment_folder(store, len(records))
        before = segment / BEFORE
        if not before.is_dir():
            msg = f"`update --undo` must find the run as it was before the update; {store.path} has let go of it, as it held images that were forgotten. Take the images of the update out with `forget RUN {len(records)}`."
            raise ConfigError(msg)
        gone = store.wip("gone")
        gone.mkdir()
        store.manifest = Manifest.load(before)
        kept = replaced(before)
        names = {place.name for place in kept}
        late = [place for place in replaced(store.path) if place.name not in names]
        store.replace(
            [
                *((place, store.path / place.name) for place in kept),
                *((place, gone / place.name) for place in late),
            ]
        )
        discard(segment)
        if not is_updated(store):
            discard(store.path / layout.SEGMENTS)
        discard(store.path / layout.WIP)
    n_samples = store.manifest.images["shape"][0]
    return {
        "n_samples_before": n_before,
        "n_samples": n_samples,
        "n_samples_removed": n_before - n_samples,
    }


def replaced(run: Path) -> list[Path]:
    """Return what there is in a run folder of all that an update replaces."""
    names = [*(step.name for step in steps.STEPS), *REPLACED]
    return [run / name for name in names if (run / name).exists()]


def require_labelled(store: RunStore, config: Config, command: str) -> None:
    """Refuse a run without labels, whose labels are families, or that keeps no moments."""
    require_labels(store)
    if store.manifest.config.get("profile") == "reference":
        msg = f"`{command}` must find stored moments; a run of profile reference keeps none. Run with --set profile=default."
        raise ConfigError(msg)
    if labels_are_families(store):
        msg = f"`{command}` must have clusters as labels; those of {store.path} are families, which are found among all images at once. Bring clusters back: {clusters_back(config)}."
        raise ConfigError(msg)


def _made(
    store: RunStore, config: Config, executor: Executor, images: ImageStore, given: ImagesInput
) -> tuple[RunStore, dict[str, Any]]:
    """Make the updated run beside the run, of links to its files; return it, and what is found."""
    place = store.path / layout.WIP / "update"
    segment, shadow, before = place / "segment", place / "run", place / "segment" / BEFORE
    segment.mkdir(parents=True, exist_ok=True)
    for target in (shadow, before):
        target.mkdir()
        for source in [*replaced(store.path), store.path / layout.MANIFEST]:
            link_tree(source, target / source.name)
    columns = shadow / layout.COLUMNS
    if columns.exists():
        discard(columns)
        log.warning(
            "the columns that were kept are those of the images before: give them again, for all images, with `report --columns`"
        )
    for name in (layout.IMAGES, layout.NEIGHBORS):
        if (store.path / name).exists():
            (shadow / name).symlink_to(store.path / name)
    updated = RunStore(shadow, Manifest.load(shadow))
    n_clusters_before = stored_counts(store).n_clusters
    record = {
        "digest": given.digest,
        "path": given.name,
        "n_samples": images.n_samples,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": {"digest": given.digest, "path": given.name, **given.fingerprint},
    }
    block_rows = store.manifest.images["block_rows"]
    fixed = config.model_copy(update={"block_rows": block_rows})
    details = Addition(updated, fixed, executor, images, place / "added").add(record)
    counts = stored_counts(updated)
    # Until it is written anew, the page is that of before.
    updated.step("report").state = "partial"
    write_summary(steps.STEPS, updated)
    return updated, {
        "segment": len(added(updated)),
        "n_samples_before": counts.n_samples - images.n_samples,
        "n_samples_new": images.n_samples,
        "n_samples": counts.n_samples,
        "n_clusters_before": n_clusters_before,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / counts.n_samples,
        **details,
    }


def _put_in_place(store: RunStore, updated: RunStore) -> None:
    """Let the updated run take the place of the run, in one move."""
    work, number = updated.path.parent, len(added(updated))
    store.manifest = updated.manifest
    moves = [(place, store.path / place.name) for place in replaced(updated.path)]
    if (store.path / layout.COLUMNS).exists():
        moves.append((store.path / layout.COLUMNS, work / layout.COLUMNS))
    store.replace([*moves, (work / "segment", segment_folder(store, number))])


def write_page(store: RunStore, config: Config) -> None:
    """Write the page of an updated run, and its summary."""
    write_report(steps.STEPS, store, config, images_of(store))
    store.finish("report")
    write_summary(steps.STEPS, store)


def describe(found: Mapping[str, Any]) -> str:
    """Return what an update did, for a person."""
    new, now = format_count(found["n_samples_new"], "image"), found["n_samples"]
    before, after = found["n_clusters_before"], format_count(found["n_clusters"], "cluster")
    born = found["n_born"]
    born_words = (
        f" {format_count(born, 'centroid')} born for images that none explained." if born else ""
    )
    return (
        f"{new} added to {found['n_samples_before']:,}: {now:,} in {after} "
        f"({before:,} before), {found['noise_fraction']:.1%} noise.{born_words} `update --undo` takes them back."
    )


def describe_undo(found: Mapping[str, Any]) -> str:
    """Return what undoing an update did, for a person."""
    gone = format_count(found["n_samples_removed"], "image")
    return (
        f"{gone} taken back: the run is as it was, of {format_count(found['n_samples'], 'image')}."
    )
