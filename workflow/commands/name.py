"""name: what a person calls a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import images_of, require_clusters, stored_config
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard, write_json
from workflow.steps.labels import labels_are_families
from workflow.steps.parts.cluster_names import (
    KEY,
    change_names,
    checked_name,
    cluster_names,
    named,
    note_names,
)
from workflow.steps.parts.edits import remember, said_by_hand
from workflow.steps.report import put_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workflow.config import Config
    from workflow.runstore.zarr_io import ImageStore


def name(
    run: Path | str,
    cluster: int,
    name: str | None,
    *,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Name a cluster of the labels in force, or take its name away.

    The name stays with the images: where clusters are others later, it is shown
    at the one that holds most of them, if it is mostly made of them.

    Parameters
    ----------
    run : path
        The run folder.
    cluster : int
        The cluster.
    name : str or None
        One line of at most 100 characters; empty or None takes the name away.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.

    Returns
    -------
    dict
        JSON-able: ``changed``, what was done in one line, and ``names``, those of
        all clusters, by number.

    Raises
    ------
    ConfigError
        If the cluster is not there, or the name is no such line, or another
        cluster has it; or labels are families.
    StoreError
        If the run has no labels, or cannot be written.

    Notes
    -----
    Nothing of any image is read, unless the page must be drawn anew.
    """
    text = checked_name("" if name is None else name)
    store = RunStore.open(run, rows=False)
    config = stored_config(store, overrides)
    with store.lock():
        label = require_clusters(store, config, [cluster], "name")
        cluster = int(cluster)
        names, entries = cluster_names(store), store.manifest.names
        holder = next((c for c, other in names.items() if other == text and c != cluster), None)
        if text and holder is not None:
            msg = f"a name must be of one cluster; {text!r} is that of cluster {holder}. Give another name, or make them one: `merge {holder} {cluster}`."
            raise ConfigError(msg)
        before = names.get(cluster)
        if text == (before or ""):
            changed = (
                f"cluster {cluster} is named {text} already"
                if text
                else f"cluster {cluster} has no name"
            )
            return {"changed": changed, "names": _as_keys(names)}
        if text:
            entry = named(store, label, [cluster], text)
            same = [
                p for p, other in enumerate(entries) if other["centroids"] == entry["centroids"]
            ]
            done, undo = f"named cluster {cluster} {text}", change_names(store, [entry], same)
        else:
            places = [p for p, other in enumerate(entries) if other["name"] == before]
            done = f"took the name {before} from cluster {cluster}"
            undo = change_names(store, [], places)
        remember(store, done, names=undo)
        write_names(store, config)
        instead = f", which was {before}" if text and before else ""
        return {"changed": f"{done}{instead}", "names": _as_keys(cluster_names(store))}


def names(run: Path | str) -> dict[str, Any]:
    """Return the names of the clusters of a run, and what was done by hand.

    Parameters
    ----------
    run : path
        The run folder.

    Returns
    -------
    dict
        JSON-able: ``names`` by number of the cluster, ``names_not_found`` of those
        that no cluster has now, and ``done``, what `undo` takes back, the last first.
    """
    return said_by_hand(RunStore.open(run, rows=False))


def describe(found: Mapping[str, Any]) -> str:
    """Return what `names` has found, for a person."""
    lines = [f"{cluster:>7}  {text}" for cluster, text in found["names"].items()]
    lines = lines or ["no cluster has a name"]
    if found["names_not_found"]:
        lines.append(f"not found now: {', '.join(found['names_not_found'])}")
    if found["done"]:
        lines += ["done by hand, the last first (`undo` takes it back):"]
        lines += [f"  {words}" for words in found["done"]]
    return "\n".join(lines)


def write_names(store: RunStore, config: Config) -> None:
    """Put names that have changed into the summary, in one move with the manifest, and into the page."""
    (label,) = store.read_model("centroid_label")
    note_names(store, label, are_families=labels_are_families(store))
    summary, found = read_summary(store), store.step("labels").details.get(KEY)
    summary.pop(KEY, None)
    place = store.wip("names")
    place.mkdir()
    write_json(place / layout.SUMMARY, summary | ({KEY: found} if found else {}))
    has_page = store.step("report").state == "complete"
    if has_page:
        # Until it has the names, the run says that it has not.
        store.step("report").state = "partial"
    store.replace([(place / layout.SUMMARY, store.path / layout.SUMMARY)])
    discard(place)
    if has_page:
        put_names(steps.STEPS, store, config, lambda: _all_images(store))
        store.finish("report")


def _all_images(store: RunStore) -> ImageStore | None:
    """Return the images for a page that is drawn anew, which shows rows of all kinds."""
    if store.kept is not None:
        store.kept.fetch_rows()
    return images_of(store)


def _as_keys(names: Mapping[int, str]) -> dict[str, str]:
    """Return names as JSON has them."""
    return {str(cluster): text for cluster, text in names.items()}
