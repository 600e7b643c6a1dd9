"""Sizes of the clusters, how sure they are, and the table of every cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from workflow.formatting import format_count, format_share
from workflow.report.certainty_plots import (
    plot_certainty,
    plot_clusters_by_threshold,
    plot_resampled,
)
from workflow.report.figures import plot_box
from workflow.report.markup import draw
from workflow.report.names import marked_number
from workflow.report.plots import plot_cluster_sizes
from workflow.report.sentences import DOUBTFUL_MARK, label_noun

if TYPE_CHECKING:
    from workflow.report.data import Certainty, ClustersByThreshold, ReportData

#: Clusters in the table, the largest: more would make the page large, and are in the list beside the map.
MAX_LISTED = 2_000
_THRESHOLD_HINT = (
    "Where the number of clusters stays flat, it does not depend on how strict the test is"
)
_RESAMPLED_HINT = (
    "Redrawn counts are what another sample of images of the same kind would have given: "
    "clusters that are sure are found again in them."
)
_BORDER_HINT = (
    "Border: how sure the weakest border of a cluster is, from 0 (as many images lie on it as "
    "inside, or it could not be tested) to 1 (none do). Nearest: the cluster behind it. "
)
_NEAREST_HINT = "Nearest: the closest other cluster. "
_AGAIN_HINT = "Found again: the share of {draws} in which the cluster is found again."


def sizes_section(data: ReportData) -> Markup:
    """Return the plots of sizes and certainty, and the folded table; nothing without clusters."""
    if not len(data.cluster_size):
        return Markup()
    plots, hints = [_sizes(data)], []
    certainty, by_threshold = data.certainty, data.clusters_by_threshold
    n_clusters = int(np.count_nonzero(data.cluster_size))
    if certainty is not None and n_clusters > 1:
        plots.append(_certainty(certainty))
    if by_threshold is not None and len(by_threshold.threshold):
        plots.append(_thresholds(by_threshold))
        shaded = (
            by_threshold.plateau is not None and by_threshold.plateau[0] < by_threshold.plateau[1]
        )
        hints.append(f"{_THRESHOLD_HINT}{' (shaded: around the one used)' if shaded else ''}.")
    if certainty is not None and len(certainty.resampled_n_clusters):
        plots.append(_resampled(certainty, n_clusters))
        hints.append(_RESAMPLED_HINT)
    title = "Sizes" if certainty is None else "Sizes, and how sure the clusters are"
    return draw(
        "sizes.html", title=title, hint=" ".join(hints), plots=plots, **_cluster_table(data)
    )


def _sizes(data: ReportData) -> Markup:
    """Return the plot of the sizes."""
    summary = data.summary
    n_noise = round(float(summary.get("noise_fraction") or 0.0) * summary["n_samples"])
    sizes = data.cluster_size[data.cluster_size > 0]
    largest, smallest = int(sizes.max()), int(sizes.min())
    noun = label_noun(summary)
    n_clusters = format_count(len(sizes), noun)
    return plot_box(
        "sizes",
        f"Images of each {noun}",
        f"Bars of {n_clusters} from {largest:,} down to {smallest:,} images",
        lambda axes: plot_cluster_sizes(
            axes,
            data.cluster_size,
            n_noise=n_noise,
            min_cluster_size=_number(summary.get("min_cluster_size")),
        ),
    )


def _thresholds(by_threshold: ClustersByThreshold) -> Markup:
    """Return the plot of the number of clusters against the threshold."""
    found = ", ".join(str(int(count)) for count in by_threshold.n_clusters)
    words = f"Number of clusters as {by_threshold.name} rises: {found}"
    if by_threshold.chosen is not None:
        words += f"; {by_threshold.chosen:g} was used"
    if by_threshold.plateau is not None:
        words += "; the same number from {:g} to {:g}".format(*by_threshold.plateau)
    return plot_box(
        "thresholds",
        "Clusters against the threshold of the test",
        words,
        lambda axes: plot_clusters_by_threshold(axes, by_threshold),
    )


def _resampled(certainty: Certainty, n_clusters: int) -> Markup:
    """Return the plot of the number of clusters in redrawn counts."""
    numbers = certainty.resampled_n_clusters
    words = (
        f"Histogram of the number of clusters in {format_count(len(numbers))} redrawn counts: "
        f"{int(numbers.min()):,} to {int(numbers.max()):,}; {n_clusters:,} were found"
    )
    return plot_box(
        "resampled",
        "Clusters in redrawn counts",
        words,
        lambda axes: plot_resampled(axes, numbers, n_clusters),
    )


def _certainty(certainty: Certainty) -> Markup:
    """Return the plot of how sure each cluster is."""
    n_doubtful = int(certainty.is_doubtful.sum())
    against = " against its weakest border" if certainty.has_borders else ""
    words = (
        f"How often each cluster is found again{against}; "
        f"{n_doubtful:,} of {format_count(int(np.isfinite(certainty.recovery).sum()), 'cluster')} are doubtful"
    )
    title = "How sure each cluster is"
    if n_doubtful:
        title += " (hollow: doubtful)"
    return plot_box("certainty", title, words, lambda axes: plot_certainty(axes, certainty))


def _cluster_table(data: ReportData) -> dict[str, Any]:
    """Return title, hint, head and rows of the table of the clusters, largest first."""
    total = max(1, int(data.summary["n_samples"]))
    kept = data.centroid_label[data.centroid_label >= 0]
    n_centroids = np.bincount(kept, minlength=len(data.cluster_size))
    persistence, certainty = data.cluster_persistence, data.certainty
    noun = label_noun(data.summary)
    head: tuple[str, ...] = (noun, "images", "share", "centroids")
    hint = ""
    if persistence is not None:
        head = (*head, "persistence")
    if certainty is not None:
        head = (*head, *(["border"] if certainty.has_borders else []))
        head = (*head, "nearest", "found again", "remark")
        n_draws = len(certainty.resampled_n_clusters)
        draws = format_count(n_draws, "redrawn set") + " of counts"
        lead = _BORDER_HINT if certainty.has_borders else _NEAREST_HINT
        hint = lead + _AGAIN_HINT.format(draws=draws)
    rows: list[tuple[str, ...]] = []
    n_clusters = int(np.count_nonzero(data.cluster_size))
    order = np.argsort(-data.cluster_size, kind="stable")[:n_clusters]
    for cluster in order[:MAX_LISTED].tolist():
        size = int(data.cluster_size[cluster])
        named = marked_number(cluster, data.summary)
        row = [named, f"{size:,}", format_share(size / total), f"{n_centroids[cluster]:,}"]
        if persistence is not None:
            row.append(f"{float(persistence[cluster]):.3g}")
        if certainty is not None:
            row += _certainty_cells(certainty, cluster)
        rows.append(tuple(row))
    title = f"Every {noun}"
    if len(rows) < n_clusters:
        title = f"The {len(rows):,} largest of {format_count(n_clusters, noun)}"
    return {"table_title": title, "table_hint": hint, "head": head, "rows": rows}


def _certainty_cells(certainty: Certainty, cluster: int) -> list[str]:
    """Return border if known, nearest cluster, share of redrawn counts and remark of a cluster."""
    nearest = int(certainty.nearest[cluster])
    border = f"{float(certainty.border[cluster]):.2f}" if nearest >= 0 else ""
    return [
        *([border] if certainty.has_borders else []),
        str(nearest) if nearest >= 0 else "no other",
        format_share(float(certainty.recovery[cluster])),
        DOUBTFUL_MARK if certainty.is_doubtful[cluster] else "",
    ]


def _number(value: Any) -> float | None:
    """Return a number, or None for words such as ``"auto"``."""
    return float(value) if isinstance(value, (int, float)) and value > 0 else None
