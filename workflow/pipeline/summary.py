"""What a run found, as ``summary.json`` and ``--json`` give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.pipeline.model import stored_labels
from workflow.runstore import layout
from workflow.runstore.files import read_json

if TYPE_CHECKING:
    from workflow.labels import CentroidLabels
    from workflow.runstore import RunStore


def summarize(
    store: RunStore, noise: str, *, labels: CentroidLabels | None = None
) -> dict[str, Any]:
    """Return the summary of a run whose labels are complete.

    Parameters
    ----------
    store : RunStore
        The run.
    noise : str
        The setting ``labels.noise``.
    labels : CentroidLabels, optional
        Labels that are about to replace the stored ones.

    Returns
    -------
    dict
        JSON-able; counts are of images unless the name says otherwise.
    """
    if labels is None:
        labels = stored_labels(store)
    (population,) = store.read_model("population")
    label = labels.label_resolved if noise == "resolve" else labels.label
    sizes = np.bincount(label[label >= 0], weights=population[label >= 0]).astype(int)
    n_samples = int(population.sum())
    steps = store.manifest.steps
    seconds = {name: round(record.seconds, 3) for name, record in steps.items()}
    seconds["total"] = round(sum(seconds.values()), 3)
    found = steps["tree"].details | store.manifest.cut.get("found", {})
    return {
        "n_samples": n_samples,
        "n_clusters": int(np.count_nonzero(sizes)),
        "noise_fraction": float(population[label < 0].sum() / n_samples),
        "n_centroids": len(population),
        "n_components": steps["pca"].details["n_components"],
        "structure": found["structure"],
        "seconds": seconds,
        "peak_rss_bytes": max(r.counters.get("peak_rss_bytes", 0) for r in steps.values()),
        "cluster_sizes": sizes[sizes > 0].tolist(),
        "images_per_centroid": round(n_samples / len(population), 1),
        "variance_kept": steps["pca"].details["variance_kept"],
        "intrinsic_dimension": steps["centroid_graph"].details["intrinsic_dimension"],
        "tree_method": found["method"],
        "min_cluster_size": found["min_cluster_size"],
        "cut": store.manifest.cut.get("asked", "configured"),
        "n_unreadable": steps["ingest"].details.get("n_unreadable", 0),
        "report": str(store.path / layout.REPORT),
    }


def read_summary(store: RunStore) -> dict[str, Any]:
    """Return what ``summary.json`` holds."""
    summary: dict[str, Any] = read_json(store.path / layout.SUMMARY)
    return summary
