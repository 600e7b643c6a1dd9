"""update: new images become part of a run, with labels; and how the last update is undone."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
from workflow.commands.updating.drift import drifted
from workflow.commands.updating.forgotten import forgotten_rows, take_again
from workflow.commands.updating.grown import Grown, own_source
from workflow.commands.updating.passes import already_there
from workflow.commands.updating.refit import Refit, require_images
from workflow.engine.segments import added, is_updated, segment_folder
from workflow.engine.summary import write_summary
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.labels import NOISE_LABEL
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.runstore.growth import link_tree
from workflow.runstore.manifest import Manifest
from workflow.steps.labels import labels_are_families
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.parts.clusters.counts import stored_counts
from workflow.steps.parts.drift import UpdateSettings
from workflow.steps.parts.far_out import stored_usual_distance
from workflow.steps.report import write_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.progress import Progress
    from workflow.ingest import ImagesInput
    from workflow.runstore.zarr_io import ImageStore

log = logging.getLogger(__name__)

#: What an answer and the manifest say of how unlike the others new images are.
DRIFT = (
    "n_copies",
    "n_born",
    "variance_kept_new",
    "variance_kept_before",
)
#: What an update replaces, beside the folders of the steps; other files in a run folder are somebody's own.
REPLACED = (
    layout.COLUMNS,
    layout.FAMILIES,
    layout.FORGOTTEN,
    layout.LABELS,
    layout.MAP,
    layout.MODEL,
    layout.NEIGHBORS,
    layout.REPORT,
    layout.SUMMARY,
)


def update(
    run: Path | str,
    images: Any = None,
    *,
    again: bool = False,
    refit_components: bool = False,
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
    images : path or array, optional
        New images, of the shape and dtype of the run's; or a source that the run has read before,
        of which those are new that it has gained.  By default the source that the run was made from.
    again : bool
        Whether all of the images are added, whatever the run has.
    refit_components : bool
        Whether components, scores, neighbours, families and centroids are then found anew of all images, also
        where none are new.  Ids, names and places on the map follow the images that were there.
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
        of the ``segment`` (of the last one, where nothing is new), clusters before and now
        (``n_clusters_before``, ``n_clusters``), the share of noise, the components and variance of the merged moments; and how unlike the others the new images are:
        how many equal an image that was there (``n_copies``), lie far out (``n_far_out``) or are noise
        (``n_noise_new``), the centroids that were born (``n_born``), the shares of the variance that the
        components keep (``variance_kept_new``, ``variance_kept_before``), and in what of these they have
        ``drifted`` by the settings of the section ``update``; ``refitted`` where all was found anew.  Where nothing is new, ``n_samples_new``
        is 0, and ``n_forgotten`` says how many images `forget` has taken out of the source.

    Raises
    ------
    StoreError
        If the run has no labels, or another command writes it.
    ConfigError
        If its labels are families, or it keeps no moments; if components are to be found anew, and images of
        the run are gone.
    ImagesError
        If the images are there already, or not like those of the run; if the source has lost images
        that the run has read, or holds others in their place.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labelled(store, config, "update")
        given = own_source(store, config) if images is None else open_new(store, images, config)
        is_place = images is None or isinstance(images, str | Path)
        grown = Grown.of(store, given) if is_place and not again else None
        is_as_read = grown is not None and grown.is_as_read
        if is_as_read and not refit_components:
            return _nothing_new(store, given)
        if grown is None and not again and _is_there(store, given):
            raise already_there()
        old = images_of(store) if refit_components else None
        if refit_components:
            require_images(store, old)
        client = client_for(given, client)
        work = store.wip("update")
        n_bytes = given.n_bytes + NEAREST_BYTES * store.manifest.images["shape"][0]
        if old is not None:
            n_bytes += math.prod(old.shape) * old.dtype.itemsize
        try:
            with executor_for_bytes(work / "shared", config, client, n_bytes, progress) as executor:
                new: ImagesInput | None = given
                if grown is not None:
                    new = None if is_as_read else grown.gained(executor, work / "compared")
                if new is not None or old is not None:
                    opened = None
                    if new is not None:
                        opened = readable_images(store, new, work / "segment", executor)
                    record = _record(new or given, opened, again=again)
                    updated, found = _made(
                        store, config, executor, opened, record, grown, old, again=again
                    )
        except BaseException:
            discard(work)
            raise
        if new is None and old is None:
            discard(store.path / layout.WIP)
            return _nothing_new(store, given)
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
        before = segment / layout.BEFORE
        if not before.is_dir():
            msg = f"`update --undo` must find the run as it was before the update; {store.path} has let go of it when images were forgotten. Take the images of the update out with `forget RUN {len(records)}`."
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


def _link_run(store: RunStore, target: Path, without: Sequence[str] = ()) -> None:
    """Make a folder of links to all of a run that is replaced, but for some of it."""
    target.mkdir()
    for source in [*replaced(store.path), store.path / layout.MANIFEST]:
        if source.name not in without:
            link_tree(source, target / source.name)


def run_beside(store: RunStore, shadow: Path, *, without: Sequence[str]) -> RunStore:
    """Make a run of links beside the run, to be changed; it reads the images of the run."""
    _link_run(store, shadow, without)
    if (store.path / layout.IMAGES).exists():
        (shadow / layout.IMAGES).symlink_to(store.path / layout.IMAGES)
    return RunStore(shadow, Manifest.load(shadow))


def require_labelled(store: RunStore, config: Config, command: str) -> None:
    """Refuse a run without labels, whose labels are families, or that keeps no moments."""
    require_labels(store)
    if store.manifest.config.get("profile") == "reference":
        msg = f"`{command}` must find stored moments; a run of profile reference keeps none. Run with --set profile=default."
        raise ConfigError(msg)
    if labels_are_families(store):
        msg = f"`{command}` must have clusters as labels; those of {store.path} are families, which are found among all images at once. Bring clusters back: {clusters_back(config)}."
        raise ConfigError(msg)


def _is_there(store: RunStore, given: ImagesInput) -> bool:
    """Return whether images are known to be those of the run or of an update, by their fingerprint."""
    return is_known(store, given) or given.digest in [u["digest"] for u in store.manifest.updates]


def _nothing_new(store: RunStore, given: ImagesInput) -> dict[str, Any]:
    """Return what `update` finds where a source has gained no images."""
    counts, forgotten = stored_counts(store), forgotten_rows(store, zarr_io.full_name(given.name))
    return {
        "segment": len(added(store)),
        "n_samples_before": counts.n_samples,
        "n_samples_new": 0,
        "n_forgotten": sum(n_samples for _, n_samples in forgotten),
        "n_samples": counts.n_samples,
        "n_clusters_before": counts.n_clusters,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / counts.n_samples,
        "n_born": 0,
        "n_far_out": 0,
        "drifted": [],
    }


def _record(given: ImagesInput, images: ImageStore | None, *, again: bool) -> dict[str, Any]:
    """Return what the manifest is to say of the images that come, None or some."""
    known = {"digest": given.digest if images else "", "path": given.name}
    fingerprint = given.fingerprint if images else {}
    return {
        **known,
        "n_samples": images.n_samples if images else 0,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": {**known, **fingerprint, **({"again": True} if again else {})},
    }


def _made(
    store: RunStore,
    config: Config,
    executor: Executor,
    images: ImageStore | None,
    record: dict[str, Any],
    grown: Grown | None,
    old: ImageStore | None,
    *,
    again: bool,
) -> tuple[RunStore, dict[str, Any]]:
    """Make the updated run beside the run, of links to its files; return it, and what is found.

    With the `old` images it is refitted.
    """
    place = store.path / layout.WIP / "update"
    segment, shadow, before = place / "segment", place / "run", place / "segment" / layout.BEFORE
    segment.mkdir(parents=True, exist_ok=True)
    _link_run(store, before)
    if images is not None and (store.path / layout.COLUMNS).exists():
        log.warning(
            "the columns that were kept are those of the images before: give them again, for all images, with `report --columns`"
        )
    updated = run_beside(store, shadow, without=(layout.COLUMNS,) if images is not None else ())
    if grown is not None and images is not None:
        grown.note(updated, record)
    if again:
        take_again(updated, record["path"])
    block_rows = store.manifest.images["block_rows"]
    fixed = config.model_copy(update={"block_rows": block_rows})
    was, n_centroids = stored_counts(store), len(store.read_model("population")[0])
    unlike: dict[str, Any] = {
        "noise_fraction_before": was.n_noise / was.n_samples,
        "n_centroids_before": n_centroids,
    }
    usual, details = stored_usual_distance(store), {}
    if images is None:
        updated.manifest.updates.append(record)
    else:
        addition = Addition(updated, fixed, executor, images, place / "added")
        details = addition.add(record, again=again)
        unlike |= {name: details.pop(name) for name in DRIFT}
    if old is not None:
        parts = [old] if images is None else [old, images]
        Refit(updated, fixed, executor).refit(zarr_io.JoinedImages.of(parts))
        usual = stored_usual_distance(updated)
        unlike |= {"n_born": 0, "refitted": True}
    counts = stored_counts(updated)
    label, distance = (
        zarr_io.read_rows(updated.path / layout.LABELS, name, was.n_samples, counts.n_samples)
        for name in ("label", "distance")
    )
    unlike["n_noise_new"] = int(np.count_nonzero(label == NOISE_LABEL))
    unlike["n_far_out"] = None if usual is None else int(np.count_nonzero(distance > usual))
    found = {"n_samples_new": record["n_samples"], "usual_distance": usual, **details, **unlike}
    found["drifted"] = drifted(found, config.section(UpdateSettings)) if old is None else []
    record |= {**unlike, "drifted": found["drifted"]}
    found |= {
        "segment": len(added(updated)),
        "n_samples_before": was.n_samples,
        "n_samples": counts.n_samples,
        "n_clusters_before": was.n_clusters,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / counts.n_samples,
    }
    # Until it is written anew, the page is that of before.
    updated.step("report").state = "partial"
    write_summary(steps.STEPS, updated)
    return updated, found


def _put_in_place(store: RunStore, updated: RunStore) -> None:
    """Let the updated run take the place of the run, in one move."""
    work, number = updated.path.parent, len(added(updated))
    store.manifest = updated.manifest
    moves = [(place, store.path / place.name) for place in replaced(updated.path)]
    is_kept = (updated.path / layout.COLUMNS).exists()
    if (store.path / layout.COLUMNS).exists() and not is_kept:
        moves.append((store.path / layout.COLUMNS, work / layout.COLUMNS))
    store.replace([*moves, (work / "segment", segment_folder(store, number))])


def write_page(store: RunStore, config: Config) -> None:
    """Write the page of an updated run, and its summary."""
    write_report(steps.STEPS, store, config, images_of(store))
    store.finish("report")
    write_summary(steps.STEPS, store)


def describe(found: Mapping[str, Any]) -> str:
    """Return what an update did, for a person."""
    if not found["n_samples_new"] and not found.get("refitted"):
        if found["n_forgotten"]:
            return "Nothing new: the run has all of the source but what was forgotten. `update RUN SOURCE --again` would add all of its images. Nothing is changed."
        return f"Nothing new: all {format_count(found['n_samples'], 'image')} are in the run. Nothing is changed."
    came = "No new images"
    if found["n_samples_new"]:
        new = format_count(found["n_samples_new"], "image")
        came = f"{new} added to {found['n_samples_before']:,}"
    if found.get("refitted"):
        came += "; components, centroids, neighbours and families found anew of all"
    after = format_count(found["n_clusters"], "cluster")
    born, copies = found["n_born"], found.get("n_copies")
    more = [
        f"{format_count(born, 'centroid')} born for images that none explained." if born else "",
        f"{copies:,} of them equal an image that was there." if copies else "",
        "`update --undo` takes it back.",
    ]
    return (
        f"{came}: {found['n_samples']:,} in {after} ({found['n_clusters_before']:,} before), "
        f"{found['noise_fraction']:.1%} noise. {' '.join(filter(None, more))}"
    )


def describe_undo(found: Mapping[str, Any]) -> str:
    """Return what undoing an update did, for a person."""
    gone = format_count(found["n_samples_removed"], "image")
    done = f"{gone} taken back" if found["n_samples_removed"] else "Found anew no longer"
    return f"{done}: the run is as it was, of {format_count(found['n_samples'], 'image')}."
