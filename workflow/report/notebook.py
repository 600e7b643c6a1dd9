"""A run as HTML for a notebook, finished, unfinished or going on, in the colours of the notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markupsafe import Markup

from workflow.formatting import format_count, format_seconds, format_share, plural
from workflow.report.figures import drawing_style, inline_svg, new_figure
from workflow.report.gallery import gallery
from workflow.report.header import share_bar
from workflow.report.markup import draw
from workflow.report.plots import plot_cluster_sizes
from workflow.report.sentences import (
    doubtful_sentence,
    headline,
    label_noun,
    offered_cuts,
    opening_sentences,
)
from workflow.report.style import NOTEBOOK_SHEET
from workflow.report.summary import summary_rows
from workflow.report.tree_plot import plot_condensed_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.report.data import CondensedTree, ReportData

#: Bytes of all pictures, before they are written as text (a third more), and of the text of a tree
#: that is drawn with all its corners; a larger one becomes a picture.
PICTURES_BYTES, TREE_BYTES = 190_000, 120_000
#: Sizes that the table names.
_SIZES_NAMED = 5
#: Addresses that a link may lead to: a path of the same server, behind a hub, has no scheme.
_SCHEMES = ("http", "https", "")


def run_html(data: ReportData, token: str) -> str:
    """Return a run as a fragment of HTML for a notebook, under 500 kB.

    Parameters
    ----------
    data : ReportData
        What is known; the page's other parts may be missing.
    token : str
        Short word that no other fragment of the notebook has: ids are made of it.

    Returns
    -------
    str
        The fragment, with a style sheet that reaches nothing else, and nothing to fetch.
    """
    summary = data.summary
    sentences = [*opening_sentences(summary), doubtful_sentence(summary)]
    rows = [(name, value) for name, value in summary_rows(summary) if value]
    n_clusters, noun = int(summary["n_clusters"]), label_noun(summary)
    with drawing_style():
        return draw(
            "notebook.html",
            style=Markup(NOTEBOOK_SHEET),
            title=headline(summary),
            notes=data.notes,
            states=[],
            is_finished=True,
            sentences=[sentence for sentence in sentences if sentence],
            partitions=[(words, repr(layer)) for words, layer in offered_cuts(summary)],
            share_bar=share_bar(data),
            key_rows=_key_rows(data),
            sizes=_sizes(data, token),
            gallery=gallery(
                data.sheets,
                n_clusters,
                data.value_range,
                data.certainty,
                noun=noun,
                n_bytes=PICTURES_BYTES,
            ),
            tree=_tree(data.tree, token),
            rows=rows,
            run_path=data.run_path,
        )


def unfinished_html(title: str, notes: Sequence[str], states: Sequence[tuple[str, str]]) -> str:
    """Return what is known of a run that cannot show more: words, and the state of its steps.

    Parameters
    ----------
    title : str
        One line.
    notes : sequence of str
        What is missing, and what to do.
    states : sequence of tuple of str
        Steps and their states.

    Returns
    -------
    str
        A fragment, as `run_html` gives.
    """
    return draw(
        "notebook.html",
        style=Markup(NOTEBOOK_SHEET),
        title=title,
        notes=notes,
        states=states,
        is_finished=False,
    )


@dataclass(frozen=True, slots=True)
class LiveRow:
    """One step.

    Attributes
    ----------
    name : str
        What it is called.
    state : {"waiting", "running", "complete", "done", "stopped", "failed"}
        ``complete`` was so before; ``done`` was done now.
    share : float or None
        Share done, 0 to 1; None where it is not known.
    text : str
        Rate, time left, seconds, or nothing.
    """

    name: str
    state: str
    share: float | None
    text: str


def live_html(
    title: str,
    state: str,
    message: str,
    rows: Sequence[LiveRow],
    *,
    link: str = "",
    hint: str = "",
) -> str:
    """Return the state of a run as a fragment of HTML.

    Parameters
    ----------
    title : str
        What goes on.
    state : {"running", "done", "stopped", "failed"}
        How it is.
    message : str
        One line after the title.
    rows : sequence of LiveRow
        The steps, in order.
    link : str
        Where the dashboard is; empty for none.
    hint : str
        How to reach it from elsewhere.

    Returns
    -------
    str
        The fragment; texts are escaped, and a link leads to a web page only.
    """
    is_page = bool(link) and urlsplit(link).scheme in _SCHEMES
    return draw(
        "live.html",
        style=Markup(NOTEBOOK_SHEET),
        title=title,
        state=state,
        message=message,
        rows=[_live_row(row) for row in rows],
        link=link if is_page else "",
        hint=hint,
    )


def _scoped(svg: str) -> Markup:
    """Keep the one rule that Matplotlib puts into its pictures from the rest of the notebook."""
    return Markup(svg.replace("*{stroke-linejoin", ".overcluster svg *{stroke-linejoin"))


def _key_rows(data: ReportData) -> list[tuple[str, str]]:
    """Return the figures that matter most."""
    summary, sizes = data.summary, sorted(filter(None, data.cluster_size.tolist()), reverse=True)
    named = ", ".join(format_count(size) for size in sizes[:_SIZES_NAMED])
    if len(sizes) > _SIZES_NAMED:
        named += f" ... {format_count(sizes[-1])}"
    seconds = dict(summary.get("seconds") or {}).get("total")
    noise = summary.get("noise_fraction")
    return [
        ("images", format_count(summary["n_samples"])),
        (plural(label_noun(summary)), format_count(summary["n_clusters"])),
        ("sizes", named or "-"),
        ("noise", "-" if noise is None else format_share(float(noise))),
        ("structure", str(summary.get("structure", "-"))),
        ("time", "-" if seconds is None else format_seconds(float(seconds))),
    ]


def _sizes(data: ReportData, token: str) -> Markup:
    """Return the bars of the sizes; nothing without clusters."""
    if not len(data.cluster_size):
        return Markup()
    n_noise = round(float(data.summary.get("noise_fraction") or 0.0) * data.summary["n_samples"])
    figure = new_figure(6.6, 2.5)
    plot_cluster_sizes(figure.add_subplot(), data.cluster_size, n_noise=n_noise)
    words = f"Images of each of {format_count(int(data.summary['n_clusters']), 'cluster')}"
    return _scoped(inline_svg(figure, f"sizes-{token}", words))


def _tree(tree: CondensedTree | None, token: str) -> Markup:
    """Return the condensed tree; as a picture where it has too many corners."""
    if tree is None or not len(tree.parent):
        return Markup()
    words = f"Condensed tree with {len(tree.selected)} nodes chosen as clusters"
    svg = Markup()
    for as_picture in (False, True):
        figure = new_figure(11.0, 3.6)
        axes = plot_condensed_tree(figure.add_subplot(), tree)
        for shapes in axes.collections:
            shapes.set_rasterized(as_picture or shapes.get_rasterized())
        svg = _scoped(inline_svg(figure, f"tree-{token}", words))
        if len(svg) <= TREE_BYTES:
            break
    return svg


def _live_row(row: LiveRow) -> tuple[LiveRow, str, str]:
    """Return a step, what its bar says, and the width of that [%]."""
    share = {"done": 1.0, "complete": 1.0}.get(row.state, row.share or 0.0)
    words = f"{share:.0%} done" if row.share is not None else row.state
    return row, words, f"{100 * min(1.0, max(0.0, share)):.1f}"
