"""Plots on a user's axes, in the colours that the user has set."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import same_color, to_rgba
from matplotlib.ticker import NullLocator

from workflow.report.contact_sheets import contact_array, shown_range
from workflow.report.figures import ACCENT, GRID, INK, MUTED, PAPER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workflow.report.data import Sheet

#: Stand-ins and the setting of Matplotlib that takes their place.
_SETTINGS: dict[str, Any] = {
    INK: "text.color",
    MUTED: "axes.edgecolor",
    GRID: "grid.color",
    PAPER: "axes.facecolor",
}
#: What artists call their colours.
_COLOURS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def draw_on(
    draw: Callable[[Axes], object], ax: Axes | None, *, size: tuple[float, float] = (6.0, 3.4)
) -> Axes:
    """Draw onto axes, or onto those of a new figure, in the colours of ``matplotlib.rcParams``.

    Parameters
    ----------
    draw : callable
        One of the plots of this package, with everything but the axes.
    ax : matplotlib.axes.Axes or None
        Where to draw; None makes a figure through pyplot, so that a notebook shows it.
    size : tuple of float
        Width and height of a new figure [inch].

    Returns
    -------
    matplotlib.axes.Axes
        The axes, to be restyled at will.
    """
    if ax is None:
        # Choosing a backend is for who wants a figure: nothing else of the package needs one.
        pyplot = importlib.import_module("matplotlib.pyplot")
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    draw(ax)
    _recolour(ax)
    return ax


def _recolour(ax: Axes) -> None:
    """Put the user's colours in the place of the stand-ins, which a page would replace."""
    wanted: dict[str, Any] = {name: mpl.rcParams[key] for name, key in _SETTINGS.items()}
    wanted[ACCENT] = "C0"
    artists = ax.findobj()
    artists += [box for text in artists if (box := getattr(text, "get_bbox_patch", lambda: None)())]
    for artist in artists:
        for name in _COLOURS:
            get = getattr(artist, f"get_{name}", None)
            colour = get() if get is not None else None
            if colour is None or (isinstance(colour, str) and colour in ("none", "auto", "face")):
                continue
            if isinstance(colour, np.ndarray) and colour.ndim == 2:
                # A collection has a colour for each part; stand-ins are given to all.
                if len(colour) != 1:
                    continue
                colour = tuple(colour[0])
            for stand_in, own in wanted.items():
                opacity = to_rgba(colour)[3]
                if same_color(to_rgba(colour)[:3], to_rgba(stand_in)[:3]) and opacity > 0:
                    getattr(artist, f"set_{name}")(to_rgba(own, opacity))
                    break


def show_images(axes: Axes, images: NDArray[Any], columns: int | None = None) -> Axes:
    """Show images in rows on axes without frame, as `contact_sheet` lays them out.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    images : array of shape (m, height, width[, channels])
        The images, as `contact_sheet` takes them.
    columns : int, optional
        Images in a row; as many as make the sheet about square.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    axes.set_axis_off()
    if not len(images):
        axes.text(0.5, 0.5, "no images", transform=axes.transAxes, ha="center", va="center")
        return axes
    _show(axes, contact_array(images, columns))
    return axes


def show_sheets(axes: Axes, sheets: Sequence[Sheet], columns: int) -> Axes:
    """Show sheets as one row of images each, with their titles at the left.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    sheets : sequence of Sheet
        Those without pictures are left out.
    columns : int
        Images of each.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    pictured = [sheet for sheet in sheets if sheet.images is not None and len(sheet.images)]
    if not pictured:
        return show_images(axes, np.empty((0, 1, 1)))
    images = [np.asarray(sheet.images)[:columns] for sheet in pictured]
    limits = shown_range(images)
    rows = [contact_array(each, columns, value_range=limits) for each in images]
    width = max(row.shape[1] for row in rows)
    gap = 4
    filled = [np.pad(row, ((0, gap), (0, width - row.shape[1]), (0, 0))) for row in rows]
    _show(axes, np.concatenate(filled)[:-gap])
    step = rows[0].shape[0] + gap
    places = [step * index + rows[0].shape[0] / 2 for index in range(len(rows))]
    words = [f"{sheet.title} {sheet.name}".rstrip() + f"\n{sheet.caption}" for sheet in pictured]
    axes.set_yticks(places, words, parse_math=False)
    axes.tick_params(length=0, labelsize="small")
    axes.xaxis.set_major_locator(NullLocator())
    axes.spines[:].set_visible(False)
    return axes


def _show(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    """Show grey or coloured pixels with opacity, each as a square."""
    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    axes.imshow(pixels, interpolation="nearest")
