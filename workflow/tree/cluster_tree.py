"""The result of `build_tree`: hierarchy, condensed tree, labels and layers, storable as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from workflow.errors import StoreError
from workflow.numerics import ranks
from workflow.tree.certainty import Certainty
from workflow.tree.condensed_tree import CondensedTree
from workflow.tree.contrast.constants import DEFAULT_RATIO
from workflow.tree.density.spacing import image_spacing
from workflow.tree.linkage import Linkage
from workflow.tree.methods import method_of
from workflow.tree.nodes import edge_distances

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from workflow.graph import Graph

_DTYPES: dict[str, str] = {
    "node": "int32",
    "population": "int64",
    "left": "int32",
    "right": "int32",
    "distance": "float64",
    "size": "int64",
    "leaf_size": "int64",
    "leaf_distance": "float64",
    "score": "float64",
    "parent": "int32",
    "child": "int32",
    "lambda_val": "float64",
    "child_size": "int64",
    "selected": "int32",
    "label": "int32",
    "membership": "float32",
    "persistence": "float64",
    "layers": "int32",
    "layer_cuts": "float64",
    "n_clusters_by_threshold": "float64",
    "resampled_n_clusters": "int64",
    "recovery": "float64",
    "border": "float64",
    "nearest": "int32",
}
#: One cluster in so many may be none, and may have been missed: chosen on 100 made sets of 5 to 60 known
#: clusters, tried on 100 others (``python -m benchmarks.quality --sections intervals``).
FEWER, MORE = 20, 10
_OPTIONAL = frozenset({"score"})
#: What arrays and attributes were stored as before -> their present names.
_EARLIER = {"ladder": "n_clusters_by_threshold", "opinions": "n_clusters_by_method"}


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTree:
    """Clusters of the centroids and the tree they were cut from.

    Attributes
    ----------
    method : str
        Name of the method that made the tree (`workflow.tree.methods`).
    structure : str
        What the automatic test says of the images, whatever method and cut made
        the clusters: ``"clusters"``; ``"none"`` for one cluster;
        ``"untested"`` where there are too few images to tell.
    cluster_selection_method : str
        ``"eom"`` or ``"leaf"``: how clusters were chosen.
    min_cluster_size : int [images]
        Minimum images of a cluster in this cut.
    min_prominence : float
        Smallest prominence of a split in this cut.
    linkage : Linkage
        Merges of the distinct centroids, with sizes in images.
    condensed : CondensedTree
        The linkage condensed for this cut.
    node : int32 array of shape (n_centroids,)
        Leaf of each centroid; coincident centroids share one.
    population : int64 array of shape (n_centroids,) [images]
        Images of each centroid.
    selected : int32 array of shape (n_clusters,)
        Chosen clusters of the condensed tree, in the order of labels.
    label : int32 array of shape (n_centroids,)
        Cluster of each centroid, -1 for noise; 0 is the largest in images.
    membership : float32 array of shape (n_centroids,)
        Depth in its cluster, in [0, 1]; 0 for noise.
    persistence : float64 array of shape (n_clusters,)
        Share of each cluster that lies above its birth, in [0, 1].
    layers : int32 array of shape (n_layers, n_centroids)
        Nested labellings from coarse to fine; every cluster of a layer lies
        within one cluster of each coarser layer.
    layer_cuts : float64 array of shape (n_layers, 4)
        How to cut each layer: min cluster size, min prominence, 0 for
        ``"eom"`` or 1 for ``"leaf"``, largest lambda of a split.
    n_clusters_by_threshold : float64 array of shape (n_thresholds, 2)
        Threshold of the contrast test and number of clusters at it; empty
        where there are too few images for it.
    reason : str
        Why this method, as a clause.
    n_clusters_by_method : dict of str to int
        Number of clusters that each method finds, where that is known.
    certainty : Certainty
        How sure the clusters are; unknown for a tree that was cut elsewhere.
    n_clusters_tested : int, optional
        Number of clusters that the automatic test finds; None where it cannot tell.
    is_requested : bool
        Whether a method or a cut that was asked for made the clusters, and not
        the automatic test.
    n_clusters_small : int, optional
        Number of clusters that the contrast test finds where those of one average
        centroid count, too; None where it cannot tell, or their size was given.
    """

    method: str
    structure: str
    cluster_selection_method: str
    min_cluster_size: int
    min_prominence: float
    linkage: Linkage
    condensed: CondensedTree
    node: NDArray[np.int32]
    population: NDArray[np.int64]
    selected: NDArray[np.int32]
    label: NDArray[np.int32]
    membership: NDArray[np.float32]
    persistence: NDArray[np.float64]
    layers: NDArray[np.int32]
    layer_cuts: NDArray[np.float64]
    n_clusters_by_threshold: NDArray[np.float64]
    reason: str = ""
    n_clusters_by_method: dict[str, int] = field(default_factory=dict)
    certainty: Certainty = field(default_factory=Certainty.unknown)
    n_clusters_tested: int | None = None
    is_requested: bool = False
    n_clusters_small: int | None = None

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.selected)

    @property
    def n_clusters_interval(self) -> tuple[int, int]:
        """Between which numbers of clusters the right one is thought to lie, nine times of ten.

        The 5th and 95th percentile of the redrawn trees; where the contrast
        test decided also its numbers at the thresholds next to the one used;
        the number with small clusters.  Then one cluster in 20 fewer and one in
        10 more: redrawn counts tell chance, not that overlapping ones are missed.

        Returns
        -------
        tuple of int
            Lowest and highest number; 1 and 1 where there is no structure.
        """
        low, high = self.certainty.bounds(self.n_clusters)
        used = self._threshold_used()
        if used is not None:
            near = self.n_clusters_by_threshold[max(0, used - 1) : used + 2, 1].astype(int).tolist()
            low, high = min(low, *near), max(high, *near)
        if self.n_clusters > 1:
            high = max(high, self.n_clusters_small or 0)
            low, high = low - low // FEWER, high + -(-high // MORE)
        return low, high

    @property
    def plateau(self) -> tuple[float, float] | None:
        """Range of thresholds around the one used that give as many clusters.

        Returns
        -------
        tuple of float or None
            Lowest and highest threshold; None where the contrast test did not decide.
        """
        used = self._threshold_used()
        if used is None:
            return None
        low = high = used
        thresholds, counts = self.n_clusters_by_threshold.T
        same = counts == counts[used]
        while low > 0 and same[low - 1]:
            low -= 1
        while high + 1 < len(same) and same[high + 1]:
            high += 1
        return float(thresholds[low]), float(thresholds[high])

    @property
    def has_threshold(self) -> bool:
        """Whether the threshold of the contrast test decided the clusters."""
        return method_of(self.method).has_threshold

    def _threshold_used(self) -> int | None:
        """Return which of the thresholds decided, None where the contrast test did not."""
        used = np.flatnonzero(self.n_clusters_by_threshold[:, 0] == DEFAULT_RATIO)
        return int(used[0]) if self.has_threshold and len(used) else None

    def noise_graph(self, graph: Graph, centroids: ArrayLike, dimension: float) -> Graph:
        """Return the centroid graph with weights that are large where this kind of tree joins first.

        Along it noise is resolved (`workflow.labels.centroid_labels`).

        Parameters
        ----------
        graph : Graph
            The centroid graph.
        centroids : float array of shape (n_centroids, n_components) [unit of the scores]
            Centroids.
        dimension : float
            Intrinsic dimension of the images.

        Returns
        -------
        Graph
            The flows, or one over the spacing of images along each edge where
            the method joins by length.
        """
        if method_of(self.method).joins_by == "flow":
            return graph
        rows = graph.rows()
        length = edge_distances(np.asarray(centroids, np.float64), rows, graph.indices)
        images = self.population[rows], self.population[graph.indices]
        return graph._replace(weights=1 / image_spacing(length, *images, dimension))

    def renumbered(self, order: NDArray[np.integer[Any]]) -> Self:
        """Return the tree with its clusters in another order.

        Parameters
        ----------
        order : int array of shape (n_clusters,)
            Present number of each cluster, in the new order.

        Returns
        -------
        ClusterTree
            The same clusters and layers; layers keep their numbers.
        """
        rank = ranks(order)
        sure = self.certainty
        if len(sure.recovery):
            sure = replace(
                sure,
                recovery=sure.recovery[order],
                border=sure.border[order],
                nearest=rank[sure.nearest[order]],
            )
        return replace(
            self,
            selected=self.selected[order],
            label=rank[self.label],
            persistence=self.persistence[order],
            certainty=sure,
        )

    @property
    def n_centroids(self) -> int:
        """Number of centroids."""
        return len(self.node)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array by name.

        Returns
        -------
        dict of str to array
            Plain numeric arrays; with `attrs` they hold the whole tree.
        """
        parts: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        for part in (self.linkage, self.condensed, self.certainty):
            parts.update({f.name: getattr(part, f.name) for f in fields(part)})
        return {name: parts[name] for name in _DTYPES if parts[name] is not None}

    def attrs(self) -> dict[str, Any]:
        """Return what is not an array.

        Returns
        -------
        dict
            Values that JSON can hold.
        """
        return {
            "method": self.method,
            "structure": self.structure,
            "cluster_selection_method": self.cluster_selection_method,
            "min_cluster_size": self.min_cluster_size,
            "min_prominence": self.min_prominence,
            "n_clusters": self.n_clusters,
            "reason": self.reason,
            "n_clusters_by_method": self.n_clusters_by_method,
            "n_clusters_tested": self.n_clusters_tested,
            "is_requested": self.is_requested,
            "n_clusters_small": self.n_clusters_small,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], attrs: Mapping[str, Any]) -> Self:
        """Rebuild a tree from `to_arrays` and `attrs`.

        Parameters
        ----------
        arrays : mapping of str to array
            Arrays by name; others are ignored.
        attrs : mapping
            The other values.

        Returns
        -------
        ClusterTree
            Equal to the stored one in every bit.

        Raises
        ------
        StoreError
            If an array or a value is missing, or the arrays do not fit together.
        """
        arrays, attrs = (
            {_EARLIER.get(name, name): value for name, value in stored.items()}
            for stored in (arrays, attrs)
        )
        missing = sorted((set(_DTYPES) - _OPTIONAL) - set(arrays))
        missing += [k for k in ("method", "structure", "min_cluster_size") if k not in attrs]
        if missing:
            msg = f"a stored tree needs {', '.join(missing)}; got none. Run the tree step again."
            raise StoreError(msg)
        a = {k: np.asarray(arrays[k], dtype) for k, dtype in _DTYPES.items() if k in arrays}
        _check_shapes(a)
        linkage = Linkage(**_fields_of(Linkage, a))
        return cls(
            **_fields_of(cls, a),
            method=str(attrs["method"]),
            structure=str(attrs["structure"]),
            cluster_selection_method=str(attrs.get("cluster_selection_method", "eom")),
            min_cluster_size=int(attrs["min_cluster_size"]),
            min_prominence=float(attrs.get("min_prominence", 0.0)),
            linkage=linkage,
            condensed=CondensedTree(**_fields_of(CondensedTree, a), n_leaves=linkage.n_leaves),
            reason=str(attrs.get("reason", "")),
            n_clusters_by_method={
                str(k): int(v) for k, v in attrs.get("n_clusters_by_method", {}).items()
            },
            certainty=Certainty(**_fields_of(Certainty, a)),
            n_clusters_tested=attrs.get("n_clusters_tested"),
            is_requested=bool(attrs.get("is_requested", False)),
            n_clusters_small=attrs.get("n_clusters_small"),
        )


def _fields_of(part: type, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Return the stored arrays that are fields of a part of the tree, by field."""
    return {f.name: arrays[f.name] for f in fields(part) if f.name in arrays}


def _check_shapes(a: Mapping[str, NDArray[Any]]) -> None:
    """Raise unless arrays read from a store fit together."""
    n_leaves, n_centroids = len(a["leaf_size"]), len(a["node"])
    per_merge = ("left", "right", "distance", "size", *(k for k in ("score",) if k in a))
    per_row = ("parent", "child", "lambda_val", "child_size")
    fits = (
        n_leaves > 0
        and a["leaf_distance"].shape == (n_leaves,)
        and all(a[k].shape == (n_leaves - 1,) for k in per_merge)
        and len({a[k].shape for k in per_row}) == 1
        and all(a[k].shape == (n_centroids,) for k in ("population", "label", "membership"))
        and a["persistence"].shape == a["selected"].shape
        and all(a[k].shape in {a["selected"].shape, (0,)} for k in ("recovery", "border"))
        and a["recovery"].shape == a["border"].shape == a["nearest"].shape
        and a["layers"].shape == (len(a["layer_cuts"]), n_centroids)
        and a["layer_cuts"].shape[1:] == (4,)
        and 0 <= int(a["node"].min()) <= int(a["node"].max()) < n_leaves
    )
    below = np.arange(n_leaves, 2 * n_leaves - 1)
    if not fits or not all(((a[k] >= 0) & (a[k] < below)).all() for k in ("left", "right")):
        msg = (
            f"a stored tree must hold arrays that fit together; got {n_leaves} leaves, "
            f"{n_centroids} centroids and others. Run the tree step again."
        )
        raise StoreError(msg)
