"""Between the records of the mathematics and the arrays of ``model.zarr``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import schema
from workflow.labels import CentroidLabels
from workflow.pca import MomentState, moments_from_arrays, moments_to_arrays
from workflow.runstore import zarr_io
from workflow.tree import ClusterTree, cut

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.pca import PrincipalComponents
    from workflow.runstore import RunStore

#: What the fields of moments are called in ``model.zarr``.
STORED_MOMENTS = {"n_samples": "count", "total": "sum"}
#: Arrays and the names of their dimensions, as `RunStore.write_model` takes them.
ModelArrays = dict[str, tuple["NDArray[Any]", tuple[str, ...]]]


def with_dims(arrays: Mapping[str, Any]) -> ModelArrays:
    """Return arrays in the types and with the dimensions of the schema."""
    return {
        name: (np.asarray(array, dtype=schema.MODEL[name].dtype), schema.MODEL[name].dims)
        for name, array in arrays.items()
    }


def moments_model(state: MomentState) -> ModelArrays:
    """Return moments as arrays of the model."""
    model: ModelArrays = {}
    for name, value in moments_to_arrays(state).items():
        array, stored = np.asarray(value), STORED_MOMENTS.get(name, name)
        dims = tuple(f"moments_{stored}_{axis}" for axis in range(array.ndim))
        model[schema.MOMENTS_PREFIX + stored] = (array, dims)
    return model


def components_model(found: PrincipalComponents) -> ModelArrays:
    """Return principal components as arrays of the model."""
    names = (
        "mean",
        "components",
        "explained_variance",
        "explained_variance_ratio",
        "singular_values",
        "spectrum",
    )
    return with_dims({name: getattr(found, name) for name in names})


def components_attrs(found: PrincipalComponents) -> dict[str, Any]:
    """Return what is said of principal components beside their arrays."""
    return {"n_samples": found.n_samples, "total_variance": float(found.total_variance)}


def components_details(found: PrincipalComponents) -> dict[str, Any]:
    """Return what the manifest says of principal components."""
    return {
        "n_components": len(found.components),
        "variance_kept": float(found.variance_kept),
        "n_samples": found.n_samples,
    }


def stored_moments(store: RunStore) -> MomentState:
    """Return the moments of a run."""
    names = {stored: name for name, stored in STORED_MOMENTS.items()}
    arrays = _prefixed(store, schema.MOMENTS_PREFIX)
    return moments_from_arrays({names.get(name, name): array for name, array in arrays.items()})


def tree_model(tree: ClusterTree) -> ModelArrays:
    """Return a tree as arrays of the model."""
    model: ModelArrays = {}
    for name, value in tree.to_arrays().items():
        array = np.asarray(value)
        if name == "layers":
            model |= with_dims({name: array})
            continue
        dims = tuple(f"tree_{name}_{axis}" for axis in range(array.ndim))
        model[schema.TREE_PREFIX + name] = (array, dims)
    return model


def tree_details(tree: ClusterTree) -> dict[str, Any]:
    """Return what the manifest and the summary say of a tree."""
    doubtful = np.flatnonzero(tree.certainty.is_doubtful)
    return {
        "method": tree.method,
        "n_clusters": tree.n_clusters,
        "min_cluster_size": tree.min_cluster_size,
        "structure": tree.structure,
        "tree_reason": tree.reason,
        "tree_opinions": tree.opinions,
        "n_clusters_interval": list(tree.n_clusters_interval),
        "n_resamples": len(tree.certainty.resampled_n_clusters),
        "doubtful_clusters": doubtful.tolist(),
        "ladder": [[rho, int(count)] for rho, count in tree.ladder.tolist()],
        "plateau": list(tree.plateau) if tree.plateau else None,
    }


def stored_tree(store: RunStore) -> ClusterTree:
    """Return the tree of a run."""
    arrays = _prefixed(store, schema.TREE_PREFIX)
    arrays["layers"] = store.read_model("layers")[0]
    return ClusterTree.from_arrays(arrays, store.model_attrs("tree"))


def shown_tree(store: RunStore) -> ClusterTree:
    """Return the tree of a run with the clusters that its labels show, which may be another cut."""
    tree, asked = stored_tree(store), store.manifest.cut.get("asked")
    return cut(tree, **asked) if asked else tree


def label_model(labels: CentroidLabels) -> ModelArrays:
    """Return the labels of the centroids as arrays of the model."""
    return with_dims(
        {
            "centroid_label": labels.label,
            "centroid_label_resolved": labels.label_resolved,
            "centroid_membership": labels.membership,
            "centroid_radius_sq": labels.radius_sq,
            "centroid_offset_sq": labels.offset_sq,
        }
    )


def stored_labels(store: RunStore) -> CentroidLabels:
    """Return the labels of the centroids of a run."""
    label, resolved, membership, radius_sq, offset_sq = store.read_model(
        "centroid_label",
        "centroid_label_resolved",
        "centroid_membership",
        "centroid_radius_sq",
        "centroid_offset_sq",
    )
    return CentroidLabels(
        label=label,
        label_resolved=resolved,
        membership=membership,
        radius_sq=radius_sq,
        offset_sq=offset_sq,
    )


def _prefixed(store: RunStore, prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names start with a prefix, without it."""
    names = [name for name in zarr_io.array_names(store.model) if name.startswith(prefix)]
    arrays = store.read_model(*names)
    return {name.removeprefix(prefix): a for name, a in zip(names, arrays, strict=True)}
