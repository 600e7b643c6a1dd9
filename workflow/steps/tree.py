"""tree: the hierarchy of the centroids, and the clusters chosen from it."""

from __future__ import annotations

import logging
import math
import shlex
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from workflow.config.fields import AutoInt, Section
from workflow.engine.step import Step
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.graph import Graph
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard
from workflow.schema import ArraySpec
from workflow.steps.base import described, numbered_dims, prefixed, read_prefixed
from workflow.steps.parts.edits import edited_tree, present_cut
from workflow.steps.parts.few_images import few_images

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.plan import Sizes
    from workflow.engine.staleness import StepPlan
    from workflow.runstore import RunStore
    from workflow.steps.base import ModelArrays
    from workflow.tree import ClusterTree
    from workflow.tree.splitting import ShownTree

log = logging.getLogger(__name__)

#: Names of the tree's own arrays in ``model.zarr`` start so.
PREFIX = "tree_"
#: What the leading process holds of a centroid in the tree [bytes].
CENTROID_BYTES = 16_000
#: Arrays of ``model.zarr`` with names of their own.
ARRAYS = {
    "layers": ArraySpec(("layer", "centroid"), "int32", "cluster", "nested labels, coarse to fine"),
}
#: The level below the layers of the tree, as `recut --layer` and `labels.level` call it.
FAMILIES = "families"
#: What the summary says of the tree, and of the clusters of the configured cut only.
OF_THE_TREE = (
    "tree_reason",
    "n_clusters_by_method",
    "n_clusters_by_threshold",
    "n_clusters_by_layer",
)
OF_THE_CUT = ("n_clusters_interval", "n_resamples", "doubtful_clusters", "plateau")


class TreeSettings(Section):
    """Hierarchy of the centroids and the clusters chosen from it."""

    method: Literal["auto", "contrast", "density", "hdbscan", "modularity"] = "auto"
    """Rule that finds the clusters."""
    min_cluster_size: AutoInt = "auto"
    """Fewest images of a cluster."""
    min_samples: AutoInt = "auto"
    """Neighbours that make a core distance; auto: all in the graph for density, 5 for hdbscan."""
    flows: Literal["auto", "two", "three"] = "auto"
    """Whether an image counts for its nearest two centroids or all pairs of its nearest three; auto: the method's own."""
    cluster_selection_method: Literal["eom", "leaf"] = "eom"
    """Excess of mass, or the leaves of the condensed tree."""
    n_resamples: int = Field(default=20, ge=0, le=10_000)
    """Trees on redrawn counts that tell how sure the clusters are; 0 leaves that unknown."""


class TreeStep(Step):
    """Find the clusters in the centroid graph, on the leading process."""

    name = "tree"
    version = 4
    section = TreeSettings
    settings = (
        "profile",
        "tree.method",
        "tree.min_cluster_size",
        "tree.min_samples",
        "tree.flows",
        "tree.cluster_selection_method",
        "tree.n_resamples",
    )
    reads = ("overcluster", "centroid_graph", "families")
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Build the tree and choose the clusters."""
        # Workers never build trees, and need not import what that takes.
        from workflow.tree import build_tree

        store, settings = context.store, context.config.section(TreeSettings)
        centroids, population, mean_distance, indptr, indices, two, three = store.read_model(
            "centroids",
            "population",
            "mean_distance",
            "graph_indptr",
            "graph_indices",
            "graph_weights_two",
            "graph_weights_three",
        )
        graph = {
            "auto": Graph(indptr, indices, three, two),
            "two": Graph(indptr, indices, two),
            "three": Graph(indptr, indices, three),
        }[settings.flows]
        has_clusters, community, few = None, None, few_images(store)
        if few is not None and few.coarse.get("has_clusters") is not None:
            has_clusters = few.coarse["has_clusters"]
            graph, community = few.ties(len(centroids))
        method = "hdbscan" if context.config.profile == "reference" else settings.method
        tree = build_tree(
            centroids,
            population,
            graph,
            method=method,
            min_cluster_size=settings.min_cluster_size,
            min_samples=settings.min_samples,
            cluster_selection_method=settings.cluster_selection_method,
            dimension=store.model_attrs("centroid_graph")["intrinsic_dimension"],
            mean_distance=mean_distance,
            n_resamples=settings.n_resamples,
            has_clusters=has_clusters,
            community=community,
        )
        write_tree(store, tree)
        if store.manifest.cut:
            log.info("the cut by hand is undone: it was one of the tree before")
        # What was done by hand was done to the centroids of that tree.
        store.manifest.cut, store.manifest.history = {}, []

    def outputs(self, run: Path) -> list[Path]:
        """Return the tree."""
        return [layout.model_array(run, name) for name in ("zarr.json", "tree_label")]

    def check(self, sizes: Sizes) -> None:
        """Refuse clusters that must be larger than the images are many."""
        size = sizes.config.section(TreeSettings).min_cluster_size
        if size != "auto" and size > sizes.n_samples:
            msg = f"`tree.min_cluster_size` must be at most the number of images; got {size} for {sizes.n_samples} images. Lower it, or leave it auto."
            raise ConfigError(msg)

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with centroids, their neighbours, and the redrawn copies."""
        n_centroids = sizes.dims["centroid"]
        n_images = sizes.n_samples / n_centroids
        # The more images a centroid has, the more neighbours: 1.9 times as many at 3,000 as at 30.
        neighbours = 1 + 0.45 * max(0.0, math.log10(n_images / 30))
        each = 4e-5 + 4e-6 * sizes.config.section(TreeSettings).n_resamples
        return 0.15 + each * n_centroids * neighbours

    def client_bytes(self, sizes: Sizes) -> int:
        """Return what is held of the centroids."""
        return CENTROID_BYTES * sizes.dims["centroid"]

    def describe(self, store: RunStore) -> str:
        """Return how many clusters the tree has."""
        found = store.step(self.name).details
        clusters = format_count(found["n_clusters"], "cluster")
        return f"{clusters} of at least {found['min_cluster_size']:,} images ({found['method']})"

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return the method, why it was chosen, what others find, and how sure the clusters are."""
        details, cut = store.step(self.name).details, store.manifest.cut
        found = details | cut.get("found", {})
        names = OF_THE_TREE if cut else (*OF_THE_TREE, *OF_THE_CUT)
        structure = details["structure"]
        if structure == "none" and store.step("families").details.get("families") == "found":
            structure = "families"
        return {
            "structure": structure,
            "tree_method": found["method"],
            "min_cluster_size": found["min_cluster_size"],
            "is_requested": bool(cut) or details.get("is_requested", False),
            "n_clusters_tested": details.get("n_clusters_tested"),
            "cut": _cut_summary(cut) or "configured",
            **{name: details[name] for name in names if name in details},
        }


def _cut_summary(cut: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cut that was asked for, and how many edits by hand came after it."""
    n_edits = len(cut.get("edits", []))
    return {**cut.get("requested", {}), **({"edits": n_edits} if n_edits else {})}


def tree_model(tree: ClusterTree) -> ModelArrays:
    """Return a tree as arrays of the model."""
    arrays = dict(tree.to_arrays())
    layers = described(ARRAYS, {"layers": arrays.pop("layers")})
    return numbered_dims(prefixed(PREFIX, arrays)) | layers


def write_tree(store: RunStore, tree: ClusterTree) -> None:
    """Put a tree into the model, and what is said of it into the manifest; arrays that only the last tree had go."""
    arrays = tree_model(tree)
    stale = [
        name
        for name in zarr_io.array_names(store.model)
        if name.startswith(PREFIX) and name not in arrays
    ]
    checksums = store.step(TreeStep.name).checksums
    for noted in [n for n in checksums if n.split("/")[1] in stale]:
        del checksums[noted]
    store.write_model(TreeStep.name, arrays, tree.attrs())
    for name in stale:
        discard(store.model / name)
    store.step(TreeStep.name).details = tree_details(tree)


def tree_details(tree: ClusterTree) -> dict[str, Any]:
    """Return what the manifest and the summary say of a tree."""
    doubtful = np.flatnonzero(tree.certainty.is_doubtful)
    return {
        "method": tree.method,
        "n_clusters": tree.n_clusters,
        "min_cluster_size": tree.min_cluster_size,
        "structure": tree.structure,
        "n_clusters_tested": tree.n_clusters_tested,
        "is_requested": tree.is_requested,
        "tree_reason": tree.reason,
        "n_clusters_by_method": tree.n_clusters_by_method,
        "n_clusters_interval": list(tree.n_clusters_interval),
        "n_resamples": len(tree.certainty.resampled_n_clusters),
        "doubtful_clusters": doubtful.tolist(),
        "n_clusters_by_threshold": [
            [rho, int(count)] for rho, count in tree.n_clusters_by_threshold.tolist()
        ],
        "n_clusters_by_layer": [int(layer.max(initial=-1)) + 1 for layer in tree.layers],
        "plateau": list(tree.plateau) if tree.plateau else None,
    }


def stored_tree(store: RunStore) -> ClusterTree:
    """Return the tree of a run."""
    from workflow.tree import ClusterTree

    arrays = read_prefixed(store, TreeStep.name, PREFIX)
    arrays["layers"] = store.read_model("layers")[0]
    return ClusterTree.from_arrays(arrays, store.model_attrs("tree"))


def cut_by_hand(tree: ClusterTree, asked: Mapping[str, Any]) -> ClusterTree:
    """Return a tree with the clusters asked for; the tree itself where none are, or the families below it."""
    from workflow.tree import cut

    return cut(tree, **asked) if asked and asked.get("layer") != FAMILIES else tree


def ids_of_clusters(tree: ClusterTree, label: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the id that labels of the centroids have for each cluster of a tree; -1 where all of it is noise."""
    both = (tree.label >= 0) & (label >= 0)
    ids = np.full(tree.n_clusters, -1, np.int64)
    ids[tree.label[both]] = label[both]
    return ids


def note_doubtful(store: RunStore, tree: ClusterTree, label: NDArray[np.int32]) -> None:
    """Note the ids of the doubtful clusters of a tree, from the labels of the centroids."""
    doubtful = ids_of_clusters(tree, label)[np.flatnonzero(tree.certainty.is_doubtful)]
    store.step(TreeStep.name).details["doubtful_clusters"] = doubtful.tolist()


def shown_clusters(store: RunStore) -> ShownTree:
    """Return the condensed tree of a run down to the clusters that its labels show, which may be edited by hand."""
    from workflow.tree.splitting import ShownTree

    asked, edits = present_cut(store).values()
    tree = cut_by_hand(stored_tree(store), asked)
    (label,) = store.read_model("centroid_label")
    if edits:
        return edited_tree(tree, edits, label)
    return ShownTree(tree.condensed, tree.selected.astype(np.int64), ids_of_clusters(tree, label))


def undo_cut(store: RunStore, given: Iterable[str]) -> None:
    """Undo the cut by hand of a run where settings are given; a run that goes on as it is keeps it."""
    if store.manifest.cut and any(not key.startswith("compute.") for key in given):
        store.manifest.cut["is_undone"] = True


def tell_kept_cut(store: RunStore, plans: Iterable[StepPlan]) -> None:
    """Say that a cut by hand is kept, where the tree is, too."""
    is_new = any(plan.is_due for plan in plans if plan.name == TreeStep.name)
    if store.manifest.cut and not store.manifest.cut.get("is_undone") and not is_new:
        log.info(
            "the cut by hand is kept; `overcluster recut %s --configured` brings the configured one back",
            shlex.quote(str(store.path)),
        )
