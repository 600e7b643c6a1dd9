"""Top of the page: what was found, in one line, one bar and a few figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from workflow.formatting import format_bytes, format_count, format_seconds, format_share
from workflow.report.figures import NOISE_COLOUR, cluster_colour
from workflow.report.markup import draw, timed
from workflow.report.names import marked_number
from workflow.report.sentences import (
    DOUBTFUL_MARK,
    doubtful_sentence,
    duplicates_command,
    duplicates_sentence,
    headline,
    label_noun,
    method_sentence,
    opening_sentences,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.report.data import ReportData

#: Clusters drawn one by one in the bar under the headline.
_BAR_CLUSTERS = 200


def page_header(data: ReportData) -> Markup:
    """Return the headline, how firm it is, and what to look at next."""
    lead, _ = _sentences(data.summary)
    return draw(
        "header.html",
        title=data.title,
        headline=headline(data.summary),
        lead=lead,
        next_steps=_next_steps(data),
    )


def about_section(data: ReportData) -> Markup:
    """Return what else is to be said of the answer, and the key figures."""
    words, command = _duplicates(data)
    return draw(
        "about.html",
        sentences=_sentences(data.summary)[1],
        share_bar=share_bar(data),
        bar_hint=_bar_hint(data),
        figures=_key_figures(data),
        duplicates=words,
        duplicates_command=command,
        run_path=data.run_path,
    )


def _sentences(summary: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the sentence that stands above the map, and those that follow below it."""
    opening = opening_sentences(summary)
    rest = [*opening[1:], method_sentence(summary), doubtful_sentence(summary)]
    return opening[:1], [text for text in rest if text]


def _next_steps(data: ReportData) -> list[tuple[str, str]]:
    """Return what is worth a look, in words, and where on the page it is."""
    summary, noun = data.summary, label_noun(data.summary)
    steps: list[tuple[str, str]] = []
    if data.notes:
        steps.append((format_count(len(data.notes), "remark"), "#notes"))
    if data.explorer is not None and len(data.cluster_size):
        named = summary.get("doubtful_clusters") or [] if data.certainty is not None else []
        if len(named) == 1:
            words = _cluster_words(f"{DOUBTFUL_MARK}: {noun}", named[0], summary)
            steps.append((words, f"#cluster={named[0]}"))
        elif named:
            steps.append((format_count(len(named), f"{DOUBTFUL_MARK} {noun}"), "#view=doubtful"))
        largest = int(np.argmax(data.cluster_size))
        words = _cluster_words(f"the largest {noun},", largest, summary)
        steps.append((words, f"#cluster={largest}"))
    if data.families is not None:
        steps.append((format_count(len(data.families.size), "family"), "#families"))
    if len(data.sheets):
        steps.append(("outliers and copies", "#gallery"))
    if summary.get("partitions"):
        steps.append(("partitions that the tree offers", "#partitions"))
    return steps


def _cluster_words(words: str, cluster: int, summary: Mapping[str, Any]) -> Markup:
    """Return words with a cluster behind them, by its number and its name."""
    return Markup("{} {}").format(words, marked_number(cluster, summary))


def _bar_hint(data: ReportData) -> str:
    """Return how to read the bar of shares."""
    noun = label_noun(data.summary)
    alone = "noise" if noun == "cluster" else f"in no {noun}"
    grey = f"; grey is {alone}" if data.summary.get("noise_fraction") else ""
    return f"All images, by {noun} from large to small{grey}."


def _duplicates(data: ReportData) -> tuple[str, str]:
    """Return a line on duplicates and the command that lists them, near ones too where it can find them."""
    words = duplicates_sentence(data.summary)
    command = duplicates_command(data.summary, data.run_path)
    if command.endswith("--near"):
        them = "them, and near-duplicates" if words else "near-duplicates"
        words = f"{words} To list {them} among all images: "
    elif words:
        words = f"{words} To list them: "
    return words.lstrip(), command


def run_times(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return what a page says of time and memory of the whole run, by the names that `timed` marks."""
    total = float(summary["seconds"]["total"])
    rate = format_count(round(summary["n_samples"] / total), "image")
    return {
        "total": format_seconds(total),
        "rate": f"{rate} a second, start-up included",
        "memory": format_bytes(summary.get("peak_rss_bytes") or 0),
    }


def _key_figures(data: ReportData) -> list[tuple[str, str, str]]:
    """Return the tiles under the headline; figures that are not known are left out."""
    summary, noun = data.summary, label_noun(data.summary)
    tiles: list[tuple[str, str, str]] = []
    if summary.get("noise_fraction") is not None:
        share = float(summary["noise_fraction"])
        noise = format_count(round(share * summary["n_samples"]), "image")
        name = "noise" if noun == "cluster" else "label -1"
        tiles.append((name, format_share(share), f"{noise} in no {noun}"))
    sizes = data.cluster_size[data.cluster_size > 0]
    if len(sizes) > 1:
        middle = format_count(round(float(np.median(sizes))))
        largest = format_count(int(sizes.max()))
        tiles.append((f"median {noun}", middle, f"images; the largest {largest}"))
    if summary.get("n_components") is not None:
        kept = float(np.sum(data.explained_variance_ratio))
        hint = f"keep {format_share(kept)} of the variance" if kept > 0 else ""
        tiles.append(("components", format_count(summary["n_components"]), hint))
    if summary.get("n_centroids"):
        each = summary["n_samples"] / summary["n_centroids"]
        hint = f"{each:,.0f} images each, on average"
        tiles.append(("centroids", format_count(summary["n_centroids"]), hint))
    total = dict(summary.get("seconds") or {}).get("total")
    if total:
        times = run_times(summary)
        tiles.append(("time", timed("total", times["total"]), timed("rate", times["rate"])))
    if peak := summary.get("peak_rss_bytes"):
        tiles.append(("memory", timed("memory", format_bytes(peak)), "largest process"))
    return tiles


def share_bar(data: ReportData) -> Markup:
    """Return all images as one bar cut into clusters, largest first, and noise."""
    n_clusters = min(_BAR_CLUSTERS, np.count_nonzero(data.cluster_size))
    order = np.argsort(-data.cluster_size, kind="stable")[:n_clusters]
    total = max(1, int(data.summary["n_samples"]))
    parts, left = [], 0.0
    for cluster in order:
        width = 1000 * float(data.cluster_size[cluster]) / total
        # A thin gap keeps neighbours of one colour apart.
        seen = width - 1.5 if width > 6 else width
        parts.append((left, seen, cluster_colour(int(cluster))))
        left += width
    share = float(data.summary.get("noise_fraction") or 0.0)
    if share > 0:
        parts.append((1000 - 1000 * share, 1000 * share, NOISE_COLOUR))
    return draw("share.html", parts=parts, noise=format_share(share))
