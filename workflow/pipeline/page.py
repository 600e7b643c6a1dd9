"""Gather what the report shows, and write ``report.html``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.pipeline.model import shown_tree, stored_tree
from workflow.pipeline.sheets import Sheets
from workflow.pipeline.summary import summarize
from workflow.report import (
    Certainty,
    CondensedTree,
    Ladder,
    ReportData,
    render,
)
from workflow.runstore import layout
from workflow.runstore.files import crc_of_file, read_json, write_bytes
from workflow.tree import DEFAULT_RATIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.tree import ClusterTree

#: What the maker of demo images knows, put into the run folder by the demo.
TRUTH = "truth.json"


def write_report(store: RunStore, config: Config, images: ImageStore | None) -> None:
    """Write ``report.html`` in one move.

    Parameters
    ----------
    store : RunStore
        A run whose labels are complete.
    config : Config
        The settings.
    images : ImageStore or None
        The images; None where they are gone: then only the pictures that were
        kept while reading are shown.
    """
    summary = _before_report(store, summarize(store))
    tree = stored_tree(store)
    ratio, spectrum, population, radius, label, resolved = store.read_model(
        "explained_variance_ratio",
        "spectrum",
        "population",
        "rms_radius",
        "centroid_label",
        "centroid_label_resolved",
    )
    shown = resolved if config.labels.noise == "resolve" else label
    truth = store.path / TRUTH
    manifest = store.manifest
    data = ReportData(
        title="overcluster report",
        run_path=str(store.path),
        summary=summary,
        settings={key: (value, "") for key, value in manifest.config.items()},
        versions=manifest.versions,
        explained_variance_ratio=ratio,
        spectrum=spectrum,
        total_variance=store.model_attrs("pca").get("total_variance"),
        cluster_size=np.asarray(summary["cluster_sizes"], dtype=np.int64),
        population=population,
        rms_radius=radius,
        centroid_label=shown,
        tree=tree_data(shown_tree(store)),
        cluster_persistence=_persistence(store, tree),
        ladder=ladder_of(store, tree),
        certainty=certainty_of(store, tree),
        sheets=Sheets(
            store,
            images,
            summary,
            n_clusters=config.report.n_clusters_shown,
            n_images=config.report.images_per_cluster,
        ),
        steps=_steps(store),
        notes=_notes(store, summary),
        truth=read_json(truth) if truth.is_file() else None,
    )
    page = store.path / layout.REPORT
    write_bytes(page, render(data).encode())
    checksums = store.step("report").checksums
    checksums[layout.REPORT] = crc_of_file(page)
    if truth.is_file():
        checksums[TRUTH] = crc_of_file(truth)
    store.save()


def _before_report(store: RunStore, summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary without time and memory of the report, which has not ended yet."""
    seconds = {
        name: time for name, time in summary["seconds"].items() if name not in ("report", "total")
    }
    peaks = [
        record.counters.get("peak_rss_bytes", 0)
        for name, record in store.manifest.steps.items()
        if name != "report"
    ]
    total = round(sum(seconds.values()), 3)
    return {**summary, "seconds": {**seconds, "total": total}, "peak_rss_bytes": max(peaks)}


def tree_data(tree: ClusterTree) -> CondensedTree | None:
    """Return the condensed tree as the report takes it; None where there is nothing to draw."""
    condensed = tree.condensed
    if not len(condensed.parent):
        return None
    return CondensedTree(
        parent=condensed.parent.astype(np.int64),
        child=condensed.child.astype(np.int64),
        lambda_val=condensed.lambda_val,
        child_size=condensed.child_size,
        selected=tree.selected.astype(np.int64),
    )


def _persistence(store: RunStore, tree: ClusterTree) -> NDArray[np.float64] | None:
    """Return the persistence of the clusters shown; None for another cut, whose nodes are others."""
    return None if store.manifest.cut else tree.persistence


def ladder_of(store: RunStore, tree: ClusterTree) -> Ladder | None:
    """Return the number of clusters at each threshold; None where nothing could be tested."""
    if not len(tree.ladder):
        return None
    numbers = tree.ladder[:, 1].astype(np.int64)
    used = tree.method == "contrast" and not store.manifest.cut
    # The test may find borders that are not believed: then the plateau is not of the clusters shown.
    same = bool((numbers[tree.ladder[:, 0] == DEFAULT_RATIO] == tree.n_clusters).any())
    return Ladder(
        tree.ladder[:, 0],
        numbers,
        chosen=DEFAULT_RATIO if used else None,
        name="threshold (low: strict, high: mild)",
        plateau=tree.plateau if used and same else None,
    )


def certainty_of(store: RunStore, tree: ClusterTree) -> Certainty | None:
    """Return how sure the clusters shown are; None where that was not looked into."""
    certainty = tree.certainty
    if store.manifest.cut or not len(certainty.resampled_n_clusters):
        return None
    return Certainty(
        resampled_n_clusters=certainty.resampled_n_clusters,
        recovery=certainty.recovery,
        border=certainty.border,
        nearest=certainty.nearest,
        is_doubtful=certainty.is_doubtful,
    )


def _steps(store: RunStore) -> list[dict[str, Any]]:
    """Return time, bytes and memory of the steps; what a step does not count is None."""
    return [
        {
            "name": name,
            "state": record.state,
            "seconds": record.seconds,
            "rows": store.manifest.images["shape"][0],
            "bytes_read": record.counters.get("bytes_read"),
            "bytes_written": record.counters.get("bytes_written"),
            "peak_rss_bytes": record.counters.get("peak_rss_bytes"),
        }
        for name, record in store.manifest.steps.items()
        if name != "report"
    ]


def _notes(store: RunStore, summary: dict[str, Any]) -> list[str]:
    """Return what a person should know before trusting the page."""
    notes = []
    if summary["n_unreadable"]:
        some = ", ".join(store.step("ingest").details.get("unreadable", [])[:5])
        notes.append(f"{summary['n_unreadable']} files could not be read and were left out: {some}")
    return notes
