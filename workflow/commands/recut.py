"""recut: other labels from the stored tree, without the images."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import executor_for_bytes, images_of, require_labels, stored_config
from workflow.engine.partitions import partitions
from workflow.engine.summary import summarize, write_summary
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard, write_json
from workflow.runstore.journal import Journal
from workflow.steps.families import families_of
from workflow.steps.labels import (
    Labeller,
    LabelsSettings,
    choose_labels,
    label_images,
    label_model,
    ties_of,
    with_ids,
)
from workflow.steps.map import map_of
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.parts.beside import names_beside
from workflow.steps.parts.cluster_names import lost_names, lost_words, note_names
from workflow.steps.parts.cluster_numbers import number_clusters
from workflow.steps.parts.clusters.counts import reported_counts
from workflow.steps.parts.clusters.lineage import FILE, Lineage, change_words
from workflow.steps.parts.edits import present_cut, remember
from workflow.steps.report import write_report
from workflow.steps.tree import FAMILIES, cut_by_hand, note_doubtful, stored_tree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.progress import Progress

log = logging.getLogger(__name__)

#: The journal of the labels, checksums of their blocks.
JOURNAL = "blocks.jsonl"


def recut(
    run: Path | str,
    *,
    n_clusters: int | None = None,
    min_cluster_size: int | None = None,
    layer: int | Literal["families"] | None = None,
    configured: bool = False,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Cut the stored tree elsewhere and write the labels that follow, and the page; see `relabel`.

    Clusters that were merged or split by hand are left behind with the cut that
    they were of; `undo` brings both back.

    Parameters
    ----------
    run : path
        The run folder.
    n_clusters, min_cluster_size : int, optional
        How to cut: about so many clusters, none of fewer images.
    layer : int or "families", optional
        A layer of the tree, or the families below them all.
    configured : bool
        Whether the cut that `run` made is brought back instead.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        The new summary.

    Raises
    ------
    ConfigError
        If the tree cannot be cut so, or families are asked for and there are none.
    StoreError
        If the run has no labels.
    """
    wanted = {"n_clusters": n_clusters, "min_cluster_size": min_cluster_size, "layer": layer}
    asked: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labels(store)
        _check(asked, store, configured=configured)
        how = [f"--{name.replace('_', '-')} {value}" for name, value in asked.items()]
        done = " ".join(["recut", *(how or ["--configured"])])
        remember(store, done, cut=present_cut(store))
        n_records = len(store.manifest.lineage)
        summary = relabel(store, config, asked, done=done, client=client, progress=progress)
        if len(store.manifest.lineage) > n_records:
            log.info("%s", change_words(store.manifest.lineage[-1]))
        if words := lost_words(lost_names(store)):
            log.info("names %s", words)
        return summary


def relabel(
    store: RunStore,
    config: Config,
    asked: dict[str, Any],
    edits: Sequence[dict[str, Any]] = (),
    *,
    done: str,
    client: Client | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Give a run, whose lock is held, the labels of a cut that may be edited by hand, and the page.

    ``labels.zarr``, ``summary.json`` and the labels of the centroids are
    replaced together; the cut is recorded in the manifest, with whatever else
    was changed in it.  Then the page is written anew; until it is, the run says
    that it is not.  Of images and scores only what the page shows is read,
    beside each image's nearest centroids.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    config : Config
        Its settings.
    asked : dict
        The cut that is asked for; empty for the configured one.
    edits : sequence of dict
        What was merged and split by hand in this cut.
    done : str
        What is done by that, in words, for the lineage of the clusters.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    progress : Progress, optional
        Where it is shown.

    Returns
    -------
    dict
        The new summary.
    """
    n_bytes = NEAREST_BYTES * store.manifest.images["shape"][0]
    shared = store.path / layout.WIP / "shared-recut"
    with executor_for_bytes(shared, config, client, n_bytes, progress) as executor:
        _relabel(store, config, executor, asked, edits, done)
    write_report(steps.STEPS, store, config, images_of(store))
    store.finish("report")
    return write_summary(steps.STEPS, store)


def _check(asked: Mapping[str, Any], store: RunStore, *, configured: bool) -> None:
    """Refuse a cut that no tree of so many images has."""
    n_samples = store.manifest.images["shape"][0]
    if configured == bool(asked):
        got = "--configured and others" if asked else "none"
        msg = f"`recut` must be told how: --n-clusters, --min-cluster-size, --layer, or --configured alone; got {got}. Give one."
        raise ConfigError(msg)
    size = asked.get("min_cluster_size", 0)
    if size > n_samples:
        msg = f"`--min-cluster-size` must be at most the number of images; got {size} for {n_samples} images. Lower it."
        raise ConfigError(msg)
    layer = asked.get("layer", 0)
    if isinstance(layer, str) and (layer != FAMILIES or len(asked) > 1):
        given = ", ".join(f"{name}={value}" for name, value in asked.items())
        msg = f"a layer must be a number, or {FAMILIES} without another cut; got {given}. Give one of them."
        raise ConfigError(msg)
    found = store.step("families").details
    if layer == FAMILIES and not found.get("n_families"):
        state = found.get("families", "untested")
        advice = "`run` with --set families.enabled=true looks for them"
        if state == "none":
            advice = "No group of images is tighter than chance would have it: give another layer"
        msg = f"`--layer families` must have families to label images by; {store.path} has none (families: {state}). {advice}."
        raise ConfigError(msg)


def _relabel(
    store: RunStore,
    config: Config,
    executor: Executor,
    asked: dict[str, Any],
    edits: Sequence[dict[str, Any]],
    done: str,
) -> None:
    """Write the labels of a cut, then put all that follows from it in place in one move."""
    tree = cut_by_hand(stored_tree(store), asked)
    parts, settings = partitions(*rows_and_blocks(store)), config.section(LabelsSettings)
    numbered = number_clusters(executor, store, tree, settings.rule, parts, edits)
    chosen, found = choose_labels(store, numbered, settings.level, asked)
    chosen, lineage = with_ids(store, chosen, Lineage.of(store), ties_of(store), done=done)
    place = store.wip("recut")
    place.mkdir()
    # The present labels have the coordinates of the images, where there are any.
    present = store.path / layout.LABELS
    paths = present if names_beside(present) else None
    target = place / layout.LABELS
    labeller = Labeller.of(
        executor,
        chosen,
        settings.rule,
        target,
        paths,
        families=families_of(store),
        map=map_of(store),
    )
    journal = Journal(place / JOURNAL, store.step("labels").key)
    reports = label_images(executor, store, labeller, parts, journal)
    counts = reported_counts(reports)
    is_configured = not (asked or edits)
    if is_configured:
        store.step("labels").details |= found
        if not chosen.by_family:
            note_doubtful(store, numbered.tree, chosen.labels.label)
    found |= {
        "method": tree.method,
        "min_cluster_size": tree.min_cluster_size,
        "n_clusters": counts.n_clusters,
    }
    cut = {"requested": asked, "edits": list(edits), "found": found}
    store.manifest.cut = {} if is_configured else cut
    note_names(store, chosen.labels.label, are_families=chosen.by_family)
    moves = lineage.stage(store, place / FILE)
    # Until it is written anew, the page shows the cut before.
    store.step("report").state = "partial"
    model = store.stage_model("labels", label_model(chosen.labels), None, place)
    summary = summarize(steps.STEPS, store, counts.summary())
    write_json(place / layout.SUMMARY, summary)
    store.replace(
        [
            (place / layout.LABELS, store.path / layout.LABELS),
            (place / layout.SUMMARY, store.path / layout.SUMMARY),
            (place / JOURNAL, store.folder("labels") / JOURNAL),
            *model,
            *moves,
        ]
    )
    discard(place)
