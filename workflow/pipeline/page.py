"""Gather what the report shows, and write ``report.html``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import choose_block_rows, row_ranges
from workflow.pipeline.model import shown_tree, stored_tree
from workflow.pipeline.summary import summarize
from workflow.pipeline.tasks import part_path
from workflow.report import (
    Certainty,
    CondensedTree,
    Ladder,
    ReportData,
    Sheet,
    cluster_sheet,
    noise_sheet,
    outlier_sheet,
    render,
)
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import crc_of_file, read_arrays, read_json, write_bytes
from workflow.tree import DEFAULT_RATIO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.tree import ClusterTree

#: What the maker of demo images knows, put into the run folder by the demo.
TRUTH = "truth.json"
#: Pictures on the sheets of noise and of outliers.
N_ODD = 48
#: Most pictures fetched one by one from the images, for clusters too small to be among the kept ones.
MAX_FETCHED = 600


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
        sheets=sheets_of(
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


def sheets_of(
    store: RunStore,
    images: ImageStore | None,
    summary: Mapping[str, Any],
    *,
    n_clusters: int,
    n_images: int,
) -> list[Sheet]:
    """Return contact sheets: the largest clusters, noise, the strongest outliers.

    Parameters
    ----------
    store : RunStore
        A run whose labels are complete.
    images : ImageStore or None
        Where pictures of small clusters are fetched; None shows kept ones only.
    summary : mapping
        Summary of the run.
    n_clusters, n_images : int
        Clusters shown at most, and images of each.

    Returns
    -------
    list of Sheet
        Empty where the images are vectors.
    """
    image_shape = tuple(store.manifest.images["shape"][1:])
    if not is_picture(image_shape):
        return []
    rows, pictures = _kept(store)
    labels = _labels_at(store, rows)
    n_samples, n_shown = summary["n_samples"], min(summary["n_clusters"], n_clusters)
    fetch = _Fetcher(images, *store.read_model("exemplar", "centroid_label"))

    def spread(members: NDArray[np.int64], n: int) -> NDArray[Any]:
        """Return pictures from the middle of a cell outwards, evenly spread."""
        ranked = members[np.argsort(labels["distance"][members], kind="stable")]
        picked = ranked[np.linspace(0, len(ranked) - 1, min(n, len(ranked))).astype(int)]
        chosen: NDArray[Any] = pictures[picked].reshape(-1, *image_shape)
        return chosen

    sheets = []
    for cluster, size in enumerate(summary["cluster_sizes"][:n_shown]):
        found = spread(np.flatnonzero(labels["label"] == cluster), n_images)
        missing = min(n_images, size) - len(found)
        if missing > 0:
            found = fetch.add(cluster, missing, found)
        sheets.append(cluster_sheet(cluster, size, n_samples, found))
    noise = np.flatnonzero(labels["label"] < 0)
    if len(noise):
        n_noise = round(summary["noise_fraction"] * n_samples)
        sheets.append(noise_sheet(n_noise, n_samples, spread(noise, N_ODD)))
    odd = np.argsort(-labels["outlier_score"], kind="stable")[:N_ODD]
    sheets.append(
        outlier_sheet(pictures[odd].reshape(-1, *image_shape), labels["outlier_score"][odd])
    )
    return sheets


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether images of this shape can be looked at."""
    return len(shape) in (2, 3) and min(shape[:2]) > 1


def _kept(store: RunStore) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the rows and pictures that were kept while reading, in the order of the rows."""
    folder = layout.kept_images(store.path)
    reports = store.journal("projection", "blocks").entries
    parts = [read_arrays(part_path(folder, i), reports[i]["file_crc"]) for i in sorted(reports)]
    rows = np.concatenate([part["row"] for part in parts])
    return rows, np.concatenate([part["images"] for part in parts])


def _labels_at(store: RunStore, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return label, distance and outlier score at rising rows, a block at a time."""
    labels = store.path / layout.LABELS
    names = ("label", "distance", "outlier_score")
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
    for block in row_ranges(store.manifest.images["shape"][0], choose_block_rows(1)):
        here = rows[slice(*np.searchsorted(rows, block))]
        if not len(here):
            continue
        for name in names:
            parts[name].append(zarr_io.read_rows(labels, name, *block)[here - block.start])
    return {name: np.concatenate(values) for name, values in parts.items()}


class _Fetcher:
    """Reads single images of small clusters: those nearest to their centroids."""

    def __init__(
        self, images: ImageStore | None, exemplar: NDArray[np.int64], label: NDArray[np.int32]
    ) -> None:
        self.images, self.exemplar, self.label = images, exemplar, label
        self.left = MAX_FETCHED if images is not None else 0

    def add(self, cluster: int, n: int, found: NDArray[Any]) -> NDArray[Any]:
        """Return `found` with up to `n` more images of a cluster."""
        rows = self.exemplar[self.label == cluster].ravel()
        rows = np.unique(rows[rows >= 0])[: min(n, self.left)]
        self.left -= len(rows)
        if self.images is None or not len(rows):
            return found
        fetched = np.concatenate([self.images.read(int(row), int(row) + 1) for row in rows])
        return np.concatenate([found, fetched.reshape(-1, *found.shape[1:])])
