"""Clusters merged and split by hand: edits of a cut, done again on its labels whenever they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.labels.noise import NOISE_LABEL, noise_targets
from workflow.steps.parts.cluster_names import cluster_names, lost_names, lost_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from workflow.graph import Graph
    from workflow.labels import CentroidLabels
    from workflow.runstore import RunStore
    from workflow.tree import ClusterTree
    from workflow.tree.splitting import ShownTree, Split

#: Clusters that a line names.
MAX_CLUSTERS = 12
# A cluster is meant by one of its centroids: what a number means may change with every edit, centroids only with the tree.
MERGE, SPLIT = "merge", "split"
# How a cluster is split that the tree does not part.
BY, FLOW = "by", "flow"


def merge_of(label: NDArray[np.int32], clusters: Sequence[int]) -> dict[str, Any]:
    """Return the edit that merges some clusters of present labels of the centroids."""
    return {MERGE: [_lowest(label, cluster) for cluster in clusters]}


def split_of(
    tree: ClusterTree, label: NDArray[np.int32], cluster: int, flows: Graph
) -> dict[str, Any] | None:
    """Return the edit that splits a cluster where the tree parts it next, else where the fewest images lie between; None of one that cannot be split."""
    from workflow.tree.splitting import halves, next_split

    members = label == cluster
    split = next_split(tree, members)
    if split is not None:
        return {SPLIT: _lowest(label, cluster), **split._asdict()}
    if halves(flows, tree.population, members) is None:
        return None
    return {SPLIT: _lowest(label, cluster), BY: FLOW}


def is_by_flow(edit: Mapping[str, Any]) -> bool:
    """Whether an edit splits a cluster that the tree does not part."""
    return edit.get(BY) == FLOW


def _lowest(label: NDArray[np.int32], cluster: int) -> int:
    """Return the lowest centroid of a cluster."""
    return int((label == cluster).argmax())


def edited(
    labels: CentroidLabels,
    tree: ClusterTree,
    edits: Sequence[Mapping[str, Any]],
    graph: Graph,
    centroids: NDArray[np.float32],
    flows: Graph,
) -> CentroidLabels:
    """Return the labels of the centroids after some edits by hand.

    Which centroids are noise, their memberships and their radii stay: all images
    outside of the clusters that were merged or split keep what is said of them.
    Of a cluster that is split, centroids that the tree leaves out of its parts go
    to one along the graph, as noise does when it is resolved.

    Parameters
    ----------
    labels : CentroidLabels
        Those of the cut.
    tree : ClusterTree
        The tree, with the clusters of the cut.
    edits : sequence of mapping
        What `merge_of` and `split_of` return, in the order in which it was done.
    graph : Graph
        What noise is resolved along.
    centroids : float32 array of shape (n_centroids, n_components) [score]
        Centroids.
    flows : Graph
        Images between centroids.

    Returns
    -------
    CentroidLabels
        Clusters have numbers from 0 without gaps, in no order that means something.
    """
    label = labels.label.copy()
    for edit in edits:
        if MERGE in edit:
            merged = label[edit[MERGE]]
            label[np.isin(label, merged)] = merged[0]
        else:
            _split(label, tree, edit, graph, centroids, flows)
    member = label >= 0
    label[member] = np.unique(label[member], return_inverse=True)[1]
    target = noise_targets(labels.label, graph, centroids)
    resolved = np.where(target >= 0, label[target], NOISE_LABEL).astype(np.int32)
    return replace(labels, label=label, label_resolved=resolved)


def _split(
    label: NDArray[np.int32],
    tree: ClusterTree,
    edit: Mapping[str, Any],
    graph: Graph,
    centroids: NDArray[np.float32],
    flows: Graph,
) -> None:
    """Split a cluster, in place; its first part keeps the number."""
    from workflow.tree.splitting import clusters_below, halves

    members = label == label[edit[SPLIT]]
    if is_by_flow(edit):
        half = halves(flows, tree.population, members)
        assert half is not None
        parts = half.astype(np.int32)
    else:
        parts = np.where(members, clusters_below(tree, _split_named(edit)), NOISE_LABEL)
        parts = parts[noise_targets(parts, graph, centroids)]
    part = np.unique(parts[members], return_inverse=True)[1]
    label[members] = np.where(part > 0, label.max() + part, label[members])


def _split_named(edit: Mapping[str, Any]) -> Split:
    """Return the split that an edit names."""
    from workflow.tree.splitting import Split

    return Split(edit["min_cluster_size"], edit["min_prominence"])


def edited_tree(
    tree: ClusterTree, edits: Sequence[Mapping[str, Any]], label: NDArray[np.int32]
) -> ShownTree:
    """Return the tree of a cut as it shows the clusters after some edits."""
    from workflow.tree.splitting import tree_of_partition

    splits = [_split_named(edit) for edit in edits if SPLIT in edit and not is_by_flow(edit)]
    return tree_of_partition(tree, splits, label)


def present_cut(store: RunStore) -> dict[str, Any]:
    """Return what the labels of a run follow from: the cut that was asked for, and its edits."""
    cut = store.manifest.cut
    return {"requested": cut.get("requested", {}), "edits": cut.get("edits", [])}


def cluster_words(clusters: Sequence[int], names: Mapping[int, str]) -> str:
    """Return clusters by number, with their names, the first dozen of them."""
    words = [f"{c} ({names[c]})" if c in names else str(c) for c in clusters[:MAX_CLUSTERS]]
    if len(clusters) > MAX_CLUSTERS:
        words.append(f"{len(clusters) - MAX_CLUSTERS:,} more")
    return " and ".join([*([", ".join(words[:-1])] if words[1:] else []), words[-1]])


def changed_words(store: RunStore, what: str, names: Mapping[int, str]) -> str:
    """Return in one line what was done, and which names are not found any more."""
    lost = [name for name in lost_names(store) if name in names.values()]
    return "; ".join(filter(None, [what, lost_words(lost)]))


def remember(store: RunStore, done: str, **before: Any) -> None:
    """Note what is done by hand, in words, and what takes it back; saved with what it changes."""
    store.manifest.history.append({"done": done, **before})


def said_by_hand(store: RunStore) -> dict[str, Any]:
    """Return the names of the clusters of a run, those that no cluster has now, and what was done, the last first."""
    return {
        "names": {str(cluster): name for cluster, name in cluster_names(store).items()},
        "names_not_found": lost_names(store),
        "done": [entry["done"] for entry in reversed(store.manifest.history)],
    }
