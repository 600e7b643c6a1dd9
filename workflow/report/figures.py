"""Matplotlib figures as SVG that sits inside a page and follows its light or dark colours."""

from __future__ import annotations

import io
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.style
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from workflow.report.markup import draw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.axes import Axes

#: Colours drawn as stand-ins and replaced by variables of the page's style sheet.
INK, MUTED, GRID, ACCENT, PAPER = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--card)",
}
#: Colours of clusters, repeated: those of Okabe and Ito (2008), which the colour-blind can tell apart.
CLUSTER_COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442",
)  # fmt: skip
#: Colour of what belongs to no cluster.
NOISE_COLOUR = "#8a8f98"
#: Colours of words, and of images that have none: three more that differ as much from the others and
#: from grey for each kind of colour blindness (CIELAB distance 25 or more; among those of clusters it is 16 or more).
WORD_COLOURS = (*CLUSTER_COLOURS, "#9000f0", "#b4e49c", "#904824")
MISSING_COLOUR = "#d3d6db"

_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "overcluster",
}
#: Space around a figure [points].
MARGIN = 3.0
# Matplotlib's settings are global to the process: two threads must not set them at once.
_LOCK = threading.Lock()
#: Number of the colour of each cluster while a page with a map is drawn; otherwise they follow its number.
_chosen: list[int] = []


@contextmanager
def drawing_style(colours: Sequence[int] = ()) -> Iterator[None]:
    """Set the report's drawing style, and the numbers of the clusters' colours, for the body of a ``with``.

    One thread at a time.
    """
    with _LOCK, matplotlib.style.context(["default", _STYLE]):
        _chosen[:] = colours
        try:
            yield
        finally:
            _chosen.clear()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches, known to no window system."""
    figure = Figure(figsize=(width, height), dpi=72)
    FigureCanvasSVG(figure)
    return figure


def _fit(figure: Figure) -> None:
    """Give the axes of a figure the room that their labels leave.

    Each text is measured once: Matplotlib's constrained layout draws it twice more, which took half the time of a page.
    """
    width, height = figure.bbox.size
    for axes in figure.axes:
        inner, outer = axes.get_window_extent(), axes.get_tightbbox()
        if outer is not None:
            figure.subplots_adjust(
                left=(inner.x0 - outer.x0 + MARGIN) / width,
                right=1 - (outer.x1 - inner.x1 + MARGIN) / width,
                bottom=(inner.y0 - outer.y0 + MARGIN) / height,
                top=1 - (outer.y1 - inner.y1 + MARGIN) / height,
            )


def cluster_colour(cluster: int) -> str:
    """Return the colour of a cluster in every plot and sheet; grey for noise."""
    if cluster < 0:
        return NOISE_COLOUR
    number = _chosen[cluster] if cluster < len(_chosen) else cluster
    return CLUSTER_COLOURS[number % len(CLUSTER_COLOURS)]


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Draw a figure as SVG to be put into a page.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        One plot, drawn with the colours of this module; call inside `drawing_style`.
    name : str
        Short word that makes the ids of this figure its own on the page.
    description : str
        What is to be seen, for who cannot see it.

    Returns
    -------
    Markup
        One ``svg`` element without a size of its own, a link to anything, or a date.

    Notes
    -----
    Ids are numbered in order of appearance, so equal figures give equal text.
    """
    _fit(figure)
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing, dpi=144)
    text = buffer.getvalue()
    inner = text[text.index("<svg") : text.rindex("</svg>")]
    opening, inner = inner.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    for colour, variable in _VARIABLES.items():
        inner = inner.replace(colour, variable)
    inner = inner.replace("xlink:href", "href").replace("'DejaVu Sans'", "system-ui, sans-serif")
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.DOTALL)
    inner = re.sub(r"<(\w+)([^<>]*)/>", r"<\1\2></\1>", inner)
    inner = re.sub(r"\n\s*", "\n", inner)
    return Markup('<svg viewBox="{}" role="img" aria-label="{}">{}</svg>').format(
        box.group(0)[9:-1] if box else "0 0 1 1", description, Markup(_number_ids(inner, name))
    )


def plot_box(
    name: str,
    title: str,
    description: str,
    plot: Callable[[Axes], object],
    *,
    size: tuple[float, float] = (5.6, 3.3),
) -> Markup:
    """Return a figure drawn by `plot`, under its title; wide ones scroll on a narrow screen.

    Parameters
    ----------
    name : str
        Short word that no other figure of the page has.
    title, description : str
        Words above it, and words for who cannot see it.
    plot : callable
        Draws onto the axes it is given.
    size : tuple of float
        Width and height [inch].

    Returns
    -------
    Markup
        A ``figure`` element.
    """
    figure = new_figure(*size)
    plot(figure.add_subplot())
    svg = inline_svg(figure, name, description)
    return draw("plot.html", title=title, svg=svg, is_wide=size[0] > 8)


def _number_ids(svg: str, name: str) -> str:
    """Drop ids that nothing refers to and number the others as ``name-0``, ``name-1``, ..."""
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    wanted = {first or second for first, second in used}
    numbers: dict[str, str] = {}

    def define(match: re.Match[str]) -> str:
        old = match.group(1)
        if old not in wanted:
            return ""
        numbers.setdefault(old, f"{name}-{len(numbers)}")
        return f' id="{numbers[old]}"'

    svg = re.sub(r' id="([^"]+)"', define, svg)
    svg = re.sub(r'href="#([^"]+)"', lambda m: f'href="#{numbers[m.group(1)]}"', svg)
    return re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{numbers[m.group(1)]})", svg)
