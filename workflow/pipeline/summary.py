"""What a run found, as ``summary.json`` and ``--json`` give it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.pipeline.counts import reported_counts, stored_counts
from workflow.pipeline.duplicates import count_duplicates
from workflow.runstore import layout
from workflow.runstore.files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.runstore import RunStore


def summarize(
    store: RunStore, *, reports: Mapping[int, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the summary of a run whose labels are complete.

    Parameters
    ----------
    store : RunStore
        The run.
    reports : mapping, optional
        What the tasks have reported that wrote labels which are about to
        replace the stored ones.

    Returns
    -------
    dict
        JSON-able; counts are of images unless the name says otherwise.
    """
    steps = store.manifest.steps
    counts = stored_counts(store) if reports is None else reported_counts(reports)
    n_samples = counts.n_samples
    n_centroids = steps["overcluster"].details["n_centroids"]
    seconds = {name: round(record.seconds, 3) for name, record in steps.items()}
    seconds["total"] = round(sum(seconds.values()), 3)
    found = steps["tree"].details | store.manifest.cut.get("found", {})
    return {
        "n_samples": n_samples,
        "n_clusters": counts.n_clusters,
        "noise_fraction": counts.n_noise / n_samples,
        "n_centroids": n_centroids,
        "n_components": steps["pca"].details["n_components"],
        "structure": found["structure"],
        "seconds": seconds,
        "peak_rss_bytes": max(r.counters.get("peak_rss_bytes", 0) for r in steps.values()),
        "cluster_sizes": counts.sizes[counts.sizes > 0].tolist(),
        "images_per_centroid": round(n_samples / n_centroids, 1),
        "variance_kept": steps["pca"].details["variance_kept"],
        "intrinsic_dimension": steps["centroid_graph"].details["intrinsic_dimension"],
        "tree_method": found["method"],
        "min_cluster_size": found["min_cluster_size"],
        **_certainty(store),
        "cut": store.manifest.cut.get("asked", "configured"),
        "n_unreadable": steps["ingest"].details.get("n_unreadable", 0),
        "duplicates": count_duplicates(store),
        "report": str(store.path / layout.REPORT),
    }


#: What the tree says of itself; the second part holds for the configured cut only.
OF_THE_TREE = ("tree_reason", "tree_opinions", "ladder")
OF_THE_CUT = ("n_clusters_interval", "n_resamples", "doubtful_clusters", "plateau")


def _certainty(store: RunStore) -> dict[str, Any]:
    """Return why this method, what the others say, and how sure the clusters are."""
    details = store.manifest.steps["tree"].details
    names = OF_THE_TREE if store.manifest.cut else (*OF_THE_TREE, *OF_THE_CUT)
    return {name: details[name] for name in names if name in details}


def read_summary(store: RunStore) -> dict[str, Any]:
    """Return what ``summary.json`` holds."""
    summary: dict[str, Any] = read_json(store.path / layout.SUMMARY)
    return summary
