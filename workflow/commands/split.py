"""split: a cluster parted where the stored tree parts it next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.commands.base import require_clusters, stored_config
from workflow.commands.recut import relabel
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.graph import Graph
from workflow.runstore import RunStore
from workflow.steps.parts.cluster_names import cluster_names
from workflow.steps.parts.edits import (
    changed_words,
    cluster_words,
    is_by_flow,
    present_cut,
    remember,
    split_of,
)
from workflow.steps.tree import cut_by_hand, stored_tree

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.engine.progress import Progress


def split(
    run: Path | str,
    cluster: int,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Part a cluster of the labels in force at the next split that the tree has in it.

    Its images stay in its parts, and noise stays noise. A cluster that the tree does not
    part, or only into a part of less than a tenth, is divided in two where the fewest images lie between.

    Parameters
    ----------
    run : path
        The run folder.
    cluster : int
        The cluster.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``changed``, what was done in one line; the numbers of the
        parts (``clusters``), largest first, whether the tree has a border there (``is_border``), ``n_images`` of each, and ``n_clusters`` of the
        run.  A part with most of the images has the number of before.

    Raises
    ------
    ConfigError
        If the cluster is not there, or cannot be divided, or labels are families.
    StoreError
        If the run has no labels, or cannot be written.
    """
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        label = require_clusters(store, config, [cluster], "split")
        cluster = int(cluster)
        names, cut = cluster_names(store), present_cut(store)
        flows = Graph(*store.read_model("graph_indptr", "graph_indices", "graph_weights_three"))
        tree = cut_by_hand(stored_tree(store), cut["requested"])
        edit = split_of(tree, label, cluster, flows)
        if edit is None:
            n_centroids = format_count(int(np.count_nonzero(label == cluster)), "centroid")
            msg = f"`split` must be told a cluster of several centroids; cluster {cluster} has {n_centroids}, and no two parts of a tenth or more. A run with more centroids (--set overcluster.n_centroids=N) tells more apart."
            raise ConfigError(msg)
        words = f"split cluster {cluster_words([cluster], names)}"
        remember(store, words, n_edits=len(cut["edits"]))
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
        # Parts whose images are all noise have none, and come last.
        sizes = dict(enumerate(summary["cluster_sizes"]))
        parts = np.unique(now[label == cluster]).tolist()
        parts.sort(key=lambda part: -sizes.get(part, 0))
        n_images = [sizes.get(part, 0) for part in parts]
        sized = [f"{part} ({format_count(sizes.get(part, 0), 'image')})" for part in parts]
        what = f"{words}: now {' and '.join(sized)}"
        if is_by_flow(edit):
            what += "; the tree has no border there, so that the fewest images lie between them"
        return {
            "changed": changed_words(store, what, names),
            "clusters": parts,
            "is_border": not is_by_flow(edit),
            "n_images": n_images,
            "n_clusters": summary["n_clusters"],
        }
