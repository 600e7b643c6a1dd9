"""merge: clusters that are one by a person's say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.base import require_clusters, stored_config
from workflow.commands.recut import relabel
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.runstore import RunStore
from workflow.steps.parts.cluster_names import change_names, cluster_names, named
from workflow.steps.parts.edits import (
    changed_words,
    cluster_words,
    merge_of,
    present_cut,
    remember,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from distributed import Client

    from workflow.engine.progress import Progress


def merge(
    run: Path | str,
    clusters: Sequence[int],
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make one cluster of some, in the labels in force.

    All else that is said of images stays.  The new cluster has the number of the one that
    most of its images are of, else a new one.  A name of one of the clusters goes to it: that of the largest named.

    Parameters
    ----------
    run : path
        The run folder.
    clusters : sequence of int
        Two or more clusters.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``changed``, what was done in one line; the number of the new
        ``cluster``, its ``n_images``, and ``n_clusters`` of the run.

    Raises
    ------
    ConfigError
        If there are fewer than two, or one is not there, or labels are families.
    StoreError
        If the run has no labels, or cannot be written.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        label = require_clusters(store, config, clusters, "merge")
        # A number given twice is one cluster.
        chosen = sorted({int(cluster) for cluster in clusters})
        if len(chosen) < 2:
            got = f"{chosen[0]} alone" if chosen else "none"
            msg = f"`merge` must be told two clusters or more; got {got}. Give the others, too."
            raise ConfigError(msg)
        names, cut = cluster_names(store), present_cut(store)
        words = f"merged clusters {cluster_words(chosen, names)}"
        edit = merge_of(label, chosen)
        sizes = read_summary(store)["cluster_sizes"]
        named_ones = [cluster for cluster in chosen if cluster in names]
        largest = max(named_ones, key=lambda cluster: sizes[cluster], default=None)
        name = None if largest is None else names[largest]
        changed = {}
        if name is not None:
            of_all = named(store, label, chosen, name)
            changed = {"names": change_names(store, [of_all])}
        remember(store, words, n_edits=len(cut["edits"]), **changed)
        summary = relabel(
            store,
            config,
            cut["requested"],
            [*cut["edits"], edit],
            done=words,
            client=client,
            progress=progress,
        )
        (now,) = store.read_model("centroid_label")
        cluster = int(now[edit["merge"][0]])
        n_images = summary["cluster_sizes"][cluster]
        what = f"{words}: cluster {cluster} now, {format_count(n_images, 'image')}"
        return {
            "changed": changed_words(store, what, names),
            "cluster": cluster,
            "n_images": n_images,
            "n_clusters": summary["n_clusters"],
        }
