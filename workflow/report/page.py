"""The report page: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.formatting import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_value,
    plural,
)
from workflow.report.clusters import sizes_section
from workflow.report.families import families_section
from workflow.report.figures import drawing_style, plot_box
from workflow.report.gallery import gallery
from workflow.report.header import page_header, run_times
from workflow.report.map_plot import plot_map
from workflow.report.markup import Html, element, join, retimed, section, table, timed
from workflow.report.plots import (
    plot_population,
    plot_radius,
    plot_spectrum,
    plot_timings,
    plot_variance,
)
from workflow.report.sentences import headline, label_noun, partition_commands
from workflow.report.style import STYLE_SHEET
from workflow.report.summary import summary_rows
from workflow.report.tree_plot import plot_condensed_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workflow.report.data import ReportData

#: Nothing but what the file itself holds may be loaded, whatever a run's texts say.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# What the maker of the images may know: in words, and how to write it.
_TRUTH: dict[str, tuple[str, Callable[[Any], str]]] = {
    "ari": (
        "agreement with the truth (adjusted Rand index: 0 is chance, 1 is perfect)",
        format_value,
    ),
    "n_sources": ("sources that the images were made from", format_value),
    "n_clusters": ("clusters found", format_value),
    "n_film_clusters": (
        "further clusters, which are frames of films for the most part",
        format_value,
    ),
    "n_clutter": ("images made as clutter, of no source", format_value),
    "n_noise": ("images found to be noise", format_value),
    "n_clutter_found": ("images that are both", format_value),
    "noise_precision": ("share of the noise found that is clutter", format_share),
    "noise_recall": ("share of the clutter that was found as noise", format_share),
    "n_films": ("films that frames were made of; no clutter and of no source", format_value),
    "n_films_found": ("films found: half of the frames in families of the film", format_value),
    "film_recall": ("share of the films that was found", format_share),
    "n_families": ("families found", format_value),
    "family_precision": (
        "share of the families that are of one film, or hold most of one source",
        format_share,
    ),
}


#: Rows of the summary that are told once the run is complete, and their names among its times.
LATER = {"time": "total", "memory of the largest process": "memory"}


def render(data: ReportData) -> str:
    """Return the report of a run as one HTML page.

    Parameters
    ----------
    data : ReportData
        Everything to show.

    Returns
    -------
    str
        The page, under 5 MB for fifty sheets; write it as UTF-8.

    Notes
    -----
    Equal data gives equal text under one build of Matplotlib and Pillow.  Safe to call from
    several threads: drawing takes turns.
    """
    with drawing_style():
        body = join(
            page_header(data),
            element(
                "main",
                _notes(data),
                _truth(data),
                _partitions(data),
                _map(data),
                _gallery(data),
                sizes_section(data),
                families_section(data),
                _tree(data),
                _variance(data),
                _centroids(data),
                _timings(data),
                _settings(data),
            ),
        )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width,initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{headline(data.summary)} - {data.title}"),
        element("style", Html(STYLE_SHEET)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body), lang='en')}\n"


def with_times(page: str, summary: Mapping[str, Any]) -> str:
    """Return a page with time and memory of its run, which nobody knew while it was made.

    Parameters
    ----------
    page : str
        What `render` has returned.
    summary : mapping
        Summary of the run, now that it is complete.

    Returns
    -------
    str
        The same page; nothing but these differs.
    """
    own = format_seconds(float(summary["seconds"]["report"]))
    return retimed(page, {**run_times(summary), "report": own})


def _notes(data: ReportData) -> Html:
    """Return the warnings of the run, or nothing."""
    if not data.notes:
        return Html("")
    items = [element("li", note) for note in data.notes]
    return element("section", element("h2", "Please note"), element("ul", *items), class_="notes")


def _truth(data: ReportData) -> Html:
    """Return what the maker of the images knows beside what was found, or nothing."""
    if not data.truth:
        return Html("")
    rows = [
        (words, write(value))
        for key, value in data.truth.items()
        for words, write in [_TRUTH.get(key, (key.replace("_", " "), format_value))]
    ]
    hint = "These images were made for a demonstration, so it is known where each came from."
    return section("Beside the truth", hint, table((), rows, numeric=1))


def _partitions(data: ReportData) -> Html:
    """Return the layers of the tree that are offered as labels, with their commands, or nothing."""
    offers = partition_commands(data.summary, data.run_path)
    if not offers:
        return Html("")
    hint = (
        "Each command makes one of them the labels of the run, and this page a page of it; "
        "`--configured` brings the present ones back."
    )
    if data.summary.get("partitions"):
        hint = f"Parts are no groups that were found. {hint}"
    rows = [(words, element("code", command)) for words, command in offers]
    return section("Other labels", hint, table((), rows))


def _gallery(data: ReportData) -> Html:
    """Return the cards of example images."""
    n_clusters = int(data.summary["n_clusters"])
    noun = label_noun(data.summary)
    cards = gallery(data.sheets, n_clusters, data.value_range, data.certainty, noun=noun)
    return section(plural(noun).capitalize(), "", cards)


def _map(data: ReportData) -> Html:
    """Return the map, or nothing where none was made."""
    found = data.map
    if found is None:
        return Html("")
    hint = (
        "Images that are alike lie side by side. How far groups lie from each other says little, and how "
        "large they are, nothing."
    )
    words = (
        f"{format_count(len(found.places), 'image')} in two dimensions, coloured by {found.name}"
    )
    plot = plot_box("map", "Map", words, lambda axes: plot_map(axes, found), size=(7.6, 7.6))
    return section("The map", hint, plot)


def _tree(data: ReportData) -> Html:
    """Return the condensed tree, or nothing where there is none."""
    tree = data.tree
    if tree is None or not len(tree.parent):
        return Html("")
    hint = (
        "Read from the top: as the density threshold rises, sparse images drop away and groups part. "
        "Width is the number of images. Clusters are outlined, coloured and numbered."
    )
    n_nodes = format_count(len(np.unique(tree.parent)), "node")
    description = f"Condensed tree of {n_nodes} with {len(tree.selected)} chosen as clusters"
    plot = plot_box(
        "tree",
        "Condensed tree",
        description,
        lambda axes: plot_condensed_tree(axes, tree),
        size=(11.0, 5.2),
    )
    return section("How the clusters part", hint, plot)


def _variance(data: ReportData) -> Html:
    """Return the variance kept and the spectrum."""
    ratio, spectrum = data.explained_variance_ratio, data.spectrum
    plots = []
    if len(ratio):
        kept = format_share(float(np.sum(ratio)))
        words = f"{format_count(len(ratio), 'component')} keep {kept} of the variance"
        plots.append(plot_box("kept", "Variance kept", words, lambda a: plot_variance(a, ratio)))
    if len(spectrum):
        words = f"{format_count(len(spectrum), 'eigenvalue')}, falling from {spectrum[0]:.3g}"
        plots.append(
            plot_box(
                "spectrum", "Spectrum", words, lambda a: plot_spectrum(a, spectrum, len(ratio))
            )
        )
    if not plots:
        return Html("")
    hint = "" if data.total_variance is None else f"Total variance {data.total_variance:.4g}."
    return section("Principal components", hint, element("div", *plots, class_="plots"))


def _centroids(data: ReportData) -> Html:
    """Return the population and the radius of the centroids."""
    population = data.population
    if not len(population):
        return Html("")
    n_noise = int(np.sum(data.centroid_label < 0))
    words = format_count(len(population), "centroid")
    plots = [
        plot_box(
            "population",
            "Images per centroid",
            f"Histogram of the images of {words}, median {float(np.median(population)):,.0f}",
            lambda axes: plot_population(axes, population),
        ),
        plot_box(
            "radius",
            "Radius and images",
            f"Radius of {words} against their images, coloured by {label_noun(data.summary)}",
            lambda axes: plot_radius(axes, population, data.rms_radius, data.centroid_label),
        ),
    ]
    noun = label_noun(data.summary)
    hint = f"{words}, {n_noise:,} of them in no {noun} (grey)." if n_noise else ""
    return section("Centroids", hint, element("div", *plots, class_="plots"))


def _timings(data: ReportData) -> Html:
    """Return the time of each step as a plot, and every step in a table."""
    # That of the page itself is not known while it is drawn: the table has it.
    seconds = {
        name: float(time)
        for name, time in dict(data.summary.get("seconds") or {}).items()
        if name not in ("total", "report")
    }
    parts: list[Html] = []
    if seconds:
        words = ", ".join(f"{name} {format_seconds(time)}" for name, time in seconds.items())
        plot = plot_box(
            "time", "Time of each step", words, lambda axes: plot_timings(axes, seconds)
        )
        parts.append(element("div", plot, class_="plots"))
    if data.steps:
        head = ("step", "state", "time", "images", "a second", "read", "written", "memory")
        parts.append(table(head, [_step_row(step) for step in data.steps], numeric=2))
    return section("Steps", "", *parts) if parts else Html("")


def _step_row(step: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one step; what is not known stays empty."""

    def cell(key: str, write: Callable[[Any], str]) -> str:
        return "" if step.get(key) is None else write(step[key])

    def seconds(value: Any) -> str:
        text = format_seconds(float(value))
        return timed("report", text) if step["name"] == "report" else text

    rate = ""
    if step.get("rows") and step.get("seconds"):
        rate = format_count(round(step["rows"] / float(step["seconds"])))
    return (
        str(step.get("name", "")),
        str(step.get("state", "")),
        cell("seconds", seconds),
        cell("rows", format_count),
        rate,
        cell("bytes_read", format_bytes),
        cell("bytes_written", format_bytes),
        cell("peak_rss_bytes", format_bytes),
    )


def _settings(data: ReportData) -> Html:
    """Return settings, summary and versions, folded away."""
    folded: list[tuple[str, Html]] = []
    if data.settings:
        rows = [
            (name, format_value(value), origin) for name, (value, origin) in data.settings.items()
        ]
        # Without a single origin the third column would be empty.
        width = 3 if any(origin for _, _, origin in rows) else 2
        head = ("setting", "value", "from")[:width]
        folded.append(("Settings", table(head, [row[:width] for row in rows])))
    summary = [
        (name, timed(LATER[name], value) if name in LATER else value)
        for name, value in summary_rows(data.summary)
    ]
    folded.append(("Summary", table((), summary)))
    if data.versions:
        versions = [(name, str(version)) for name, version in data.versions.items()]
        folded.append(("Versions", table((), versions)))
    parts = [element("details", element("summary", title), body) for title, body in folded]
    return section("How it was made", "", *parts)
