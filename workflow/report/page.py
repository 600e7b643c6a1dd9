"""The report page: one HTML file that needs nothing else and no network."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from workflow.formatting import (
    format_bytes,
    format_count,
    format_seconds,
    format_share,
    format_value,
    plural,
)
from workflow.report.clusters import sizes_section
from workflow.report.explore import cluster_colours, explorer_values
from workflow.report.families import families_section
from workflow.report.figures import drawing_style, plot_box
from workflow.report.gallery import gallery
from workflow.report.header import about_section, page_header, run_times
from workflow.report.map_plot import plot_map
from workflow.report.markup import draw, retimed, timed
from workflow.report.names import names_data
from workflow.report.plots import (
    plot_population,
    plot_radius,
    plot_spectrum,
    plot_timings,
    plot_variance,
)
from workflow.report.sentences import cluster_names, headline, label_noun, partition_commands
from workflow.report.style import STYLE_SHEET
from workflow.report.summary import summary_rows
from workflow.report.tree_plot import plot_condensed_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workflow.report.data import ReportData

#: Nothing but what the file itself holds may be loaded, whatever a run's texts say.
_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'sha256-{script}'; connect-src 'self'"
)
_HERE = Path(__file__).parent
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
        The page, under 15 MB whatever the number of images; write it as UTF-8.

    Notes
    -----
    Equal data gives equal text under one build of Matplotlib and Pillow.  Safe to call from
    several threads: drawing takes turns.
    """
    noun = label_noun(data.summary)
    script = (_HERE / "explore.js").read_text(encoding="utf-8")
    colours = cluster_colours(data)
    with drawing_style(colours.tolist()):
        page = draw(
            "page.html",
            policy=_POLICY.format(script=_digest(script)),
            title=f"{headline(data.summary)} - {data.title}",
            style=Markup(STYLE_SHEET),
            header=page_header(data),
            still=_map(data),
            names=names_data(cluster_names(data.summary)),
            explorer=None if data.explorer is None else explorer_values(data, colours),
            script=Markup(script),
            about=about_section(data),
            notes=data.notes,
            truth=_truth(data),
            partitions=partition_commands(data.summary, data.run_path),
            has_parts=bool(data.summary.get("partitions")),
            gallery=_gallery(data),
            labels_title=plural(noun).capitalize(),
            sizes=sizes_section(data),
            families=families_section(data),
            lineage=data.lineage,
            tree=_tree(data),
            variance=_variance(data),
            total_variance=data.total_variance,
            centroids=_centroids(data),
            centroids_hint=_centroids_hint(data),
            timings=_timings(data),
            steps=[_step_row(step) for step in data.steps],
            folded_tables=_settings(data),
        )
    return f"{page}\n"


def _digest(script: str) -> str:
    """Return the hash of a script as a content policy takes it."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


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


def _truth(data: ReportData) -> list[tuple[str, str]]:
    """Return what the maker of the images knows beside what was found."""
    return [
        (words, write(value))
        for key, value in (data.truth or {}).items()
        for words, write in [_TRUTH.get(key, (key.replace("_", " "), format_value))]
    ]


def _gallery(data: ReportData) -> Markup:
    """Return the cards of example images."""
    n_clusters, noun = int(data.summary["n_clusters"]), label_noun(data.summary)
    return gallery(data.sheets, n_clusters, data.value_range, data.certainty, noun=noun)


def _map(data: ReportData) -> Markup | None:
    """Return the map as a picture, for where no script runs."""
    found = data.map
    if found is None:
        return None
    words = (
        f"{format_count(len(found.places), 'image')} in two dimensions, coloured by {found.name}"
    )
    return plot_box("map", "Map", words, lambda axes: plot_map(axes, found), size=(7.6, 7.6))


def _tree(data: ReportData) -> Markup | None:
    """Return the condensed tree."""
    tree = data.tree
    if tree is None or not len(tree.parent):
        return None
    n_nodes = format_count(len(np.unique(tree.parent)), "node")
    words = f"Condensed tree of {n_nodes} with {len(tree.selected)} chosen as clusters"
    return plot_box(
        "tree",
        "Condensed tree",
        words,
        lambda axes: plot_condensed_tree(axes, tree),
        size=(11.0, 5.2),
    )


def _variance(data: ReportData) -> list[Markup]:
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
    return plots


def _centroids(data: ReportData) -> list[Markup]:
    """Return the population and the radius of the centroids."""
    population = data.population
    if not len(population):
        return []
    words = format_count(len(population), "centroid")
    return [
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


def _centroids_hint(data: ReportData) -> str:
    """Return how many centroids have no label, or nothing."""
    n_noise = int(np.sum(data.centroid_label < 0))
    words = format_count(len(data.population), "centroid")
    return (
        f"{words}, {n_noise:,} of them in no {label_noun(data.summary)} (grey)." if n_noise else ""
    )


def _timings(data: ReportData) -> list[Markup]:
    """Return the time of each step as a plot."""
    # That of the page itself is not known while it is drawn: the table has it.
    seconds = {
        name: float(time)
        for name, time in dict(data.summary.get("seconds") or {}).items()
        if name not in ("total", "report")
    }
    if not seconds:
        return []
    words = ", ".join(f"{name} {format_seconds(time)}" for name, time in seconds.items())
    return [plot_box("time", "Time of each step", words, lambda axes: plot_timings(axes, seconds))]


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


def _settings(data: ReportData) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Return settings, summary and versions as tables: title, head and rows."""
    tables: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = []
    if data.settings:
        rows = [
            (name, format_value(value), origin) for name, (value, origin) in data.settings.items()
        ]
        # Without a single origin the third column would be empty.
        width = 3 if any(origin for _, _, origin in rows) else 2
        head = ("setting", "value", "from")[:width]
        tables.append(("Settings", head, [row[:width] for row in rows]))
    summary: list[tuple[str, ...]] = [
        (name, timed(LATER[name], value) if name in LATER else value)
        for name, value in summary_rows(data.summary)
    ]
    tables.append(("Summary", (), summary))
    if data.versions:
        versions: list[tuple[str, ...]] = [(n, str(v)) for n, v in data.versions.items()]
        tables.append(("Versions", (), versions))
    return tables
