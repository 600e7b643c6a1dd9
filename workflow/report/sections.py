"""Sections of the page, and plots in their boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.report.figures import inline_svg, new_figure
from workflow.report.markup import Html, element

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes


def section(title: str, hint: str, *parts: str) -> Html:
    """Return a section with its heading and, where given, a sentence on how to read it."""
    lead = [element("p", hint, class_="hint")] if hint else []
    return element("section", element("h2", title), *lead, *parts)


def plot_box(
    name: str,
    title: str,
    description: str,
    draw: Callable[[Axes], object],
    *,
    size: tuple[float, float] = (5.6, 3.3),
) -> Html:
    """Return a figure drawn by `draw`, under its title; wide ones scroll on a narrow screen.

    Parameters
    ----------
    name : str
        Short word that no other figure of the page has.
    title, description : str
        Words above it, and words for who cannot see it.
    draw : callable
        Draws onto the axes it is given.
    size : tuple of float
        Width and height [inch].

    Returns
    -------
    Html
        A ``figure`` element.
    """
    figure = new_figure(*size)
    draw(figure.add_subplot())
    svg = inline_svg(figure, name, description)
    is_wide = size[0] > 8
    if is_wide:
        label = f"{title}, scrolls sideways"
        svg = element("div", svg, class_="scroll", tabindex="0", role="region", aria_label=label)
    kind = "plot wide" if is_wide else "plot"
    return element("figure", element("h3", title), svg, class_=kind)
