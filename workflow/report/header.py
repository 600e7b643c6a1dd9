"""Top of the page: what was found, in one line, one bar and a few figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.formatting import format_bytes, format_count, format_seconds, format_share
from workflow.report.figures import NOISE_COLOUR, cluster_colour
from workflow.report.markup import Html, element, timed
from workflow.report.sentences import (
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


def page_header(data: ReportData) -> Html:
    """Return the headline, what it means, and the key figures."""
    summary = data.summary
    return element(
        "header",
        element("p", data.title, class_="name"),
        element("h1", headline(summary)),
        *_paragraphs(*opening_sentences(summary), class_="lead"),
        *_paragraphs(method_sentence(summary), doubtful_sentence(summary)),
        share_bar(data),
        element("p", _bar_hint(data), class_="hint"),
        element("dl", *_key_figures(data), class_="figures"),
        *_duplicates(data),
        element("p", data.run_path, class_="path"),
    )


def _paragraphs(*texts: str, class_: str | bool = False) -> list[Html]:
    """Return each text that is not empty as a paragraph."""
    return [element("p", text, class_=class_) for text in texts if text]


def _bar_hint(data: ReportData) -> str:
    """Return how to read the bar of shares."""
    noun = label_noun(data.summary)
    alone = "noise" if noun == "cluster" else f"in no {noun}"
    grey = f"; grey is {alone}" if data.summary.get("noise_fraction") else ""
    return f"All images, by {noun} from large to small{grey}."


def _duplicates(data: ReportData) -> list[Html]:
    """Return a line on duplicates and the command that lists them, near ones too where it can find them."""
    words = duplicates_sentence(data.summary)
    command = duplicates_command(data.summary, data.run_path)
    if command.endswith("--near"):
        them = "them, and near-duplicates" if words else "near-duplicates"
        words = f"{words} To list {them} among all images: "
    elif words:
        words = f"{words} To list them: "
    return [element("p", words.lstrip(), element("code", command))] if words else []


def run_times(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return what a page says of time and memory of the whole run, by the names that `timed` marks."""
    total = float(summary["seconds"]["total"])
    rate = format_count(round(summary["n_samples"] / total), "image")
    return {
        "total": format_seconds(total),
        "rate": f"{rate} a second, start-up included",
        "memory": format_bytes(summary.get("peak_rss_bytes") or 0),
    }


def _key_figures(data: ReportData) -> list[Html]:
    """Return the tiles under the headline; figures that are not known are left out."""
    summary, noun = data.summary, label_noun(data.summary)
    tiles: list[tuple[str, str, str]] = []
    if summary.get("noise_fraction") is not None:
        share = float(summary["noise_fraction"])
        noise = format_count(round(share * summary["n_samples"]), "image")
        name = "noise" if noun == "cluster" else "label -1"
        tiles.append((name, format_share(share), f"{noise} in no {noun}"))
    if len(data.cluster_size) > 1:
        middle = format_count(round(float(np.median(data.cluster_size))))
        largest = format_count(int(data.cluster_size.max()))
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
    return [
        element(
            "div",
            element("dt", name),
            element("dd", value, element("small", hint) if hint else ""),
        )
        for name, value, hint in tiles
    ]


def share_bar(data: ReportData) -> Html:
    """Return all images as one bar cut into clusters, largest first, and noise."""
    order = np.argsort(-data.cluster_size, kind="stable")[:_BAR_CLUSTERS]
    total = max(1, int(data.summary["n_samples"]))
    parts, left = [], 0.0
    for cluster in order:
        width = 1000 * float(data.cluster_size[cluster]) / total
        colour = cluster_colour(int(cluster))
        # A thin gap keeps neighbours of one colour apart.
        seen = width - 1.5 if width > 6 else width
        size = {"x": f"{left:.2f}", "y": "0", "width": f"{seen:.2f}", "height": "10"}
        parts.append(element("rect", fill=colour, **size))
        left += width
    share = float(data.summary.get("noise_fraction") or 0.0)
    if share > 0:
        width = 1000 * share
        size = {"x": f"{1000 - width:.2f}", "y": "0", "width": f"{width:.2f}", "height": "10"}
        parts.append(element("rect", fill=NOISE_COLOUR, **size))
    noise = format_share(share)
    return element(
        "svg",
        *parts,
        class_="share",
        viewBox="0 0 1000 10",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"Share of each cluster, largest first; noise {noise} is grey at the right",
    )
