"""The map of a run: points where images are few, their density where they are many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from scipy.spatial import KDTree

from workflow.formatting import format_count
from workflow.report.contact_sheets import contact_array
from workflow.report.figures import (
    CLUSTER_COLOURS,
    INK,
    MISSING_COLOUR,
    MUTED,
    NOISE_COLOUR,
    PAPER,
    WORD_COLOURS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

#: Images up to this many are drawn as points, of more the density; points above so many are one picture in an SVG.
MAX_POINTS, VECTOR_POINTS = 100_000, 1_500
#: Pixels on the longer side of the density.
RASTER_PIXELS = 720
#: What is farther out than this share of the images, and a margin, is not drawn: it would shrink the rest.
OUTSIDE, MARGIN = 0.001, 0.06
#: Groups that get a number, the largest.
NUMBERED = 60
#: Characters of a name that are written on the map.
NAME_LENGTH = 24
#: Groups above which each is compared with so many around it when it gets its colour.
ALL_COMPARED, AROUND = 500, 64
#: Height of a picture on the map [points].
PICTURE_POINTS = 22.0


@dataclass(frozen=True, eq=False, kw_only=True)
class ColumnData:
    """A column of the user's for some images.

    Attributes
    ----------
    name : str
        What it is called.
    values : array of shape (n,)
        float32 numbers, NaN where there is none; or int numbers of words, -1 where there is none.
    categories : sequence of str or None
        The words, the most frequent first; None where values are numbers.
    counts : sequence of int
        Images of the run with each.
    n_missing : int
        Images of the run without a value.
    limits : sequence of float
        Nearly all numbers lie between these two; empty for words.
    """

    name: str
    values: NDArray[Any]
    categories: Sequence[str] | None = None
    counts: Sequence[int] = ()
    n_missing: int = 0
    limits: Sequence[float] = ()

    def word(self, place: int) -> str:
        """Return the value of an image, as a person reads it.

        Parameters
        ----------
        place : int
            Which of the values.

        Returns
        -------
        str
            The word, the number to four digits, or ``missing``.
        """
        value = self.values[place]
        if self.categories is not None:
            return self.categories[value] if value >= 0 else "missing"
        return "missing" if np.isnan(value) else f"{float(f'{value:.4g}'):g}"


@dataclass(frozen=True, eq=False)
class MapData:
    """What a map shows.

    Attributes
    ----------
    places : float32 array of shape (n_drawn, 2)
        Where images lie.
    values : array of shape (n_drawn,)
        What colours them: whole numbers are groups, -1 none of them; others are amounts.
    n_samples : int
        Images of the run; those drawn are evenly among them.
    name : str
        What the values are.
    pictures : mapping of int to array of shape (height, width[, channels])
        Group -> a picture of it.
    names : mapping of int to str
        Group -> what a person calls it.
    column : ColumnData or None
        What the values are of, where they are words or numbers of the user's.
    """

    places: NDArray[np.float32]
    values: NDArray[Any]
    n_samples: int
    name: str = "cluster"
    pictures: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)
    column: ColumnData | None = None

    @property
    def has_groups(self) -> bool:
        """Whether the values are groups."""
        return bool(np.issubdtype(self.values.dtype, np.integer) or self.values.dtype == bool)


def plot_map(axes: Axes, data: MapData) -> Axes:
    """Draw the places of images, coloured by their values.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    data : MapData
        What is drawn.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    low, high = map_limits(data.places)
    inside = ((data.places >= low) & (data.places <= high)).all(axis=1)
    places, values = data.places[inside], data.values[inside]
    words = data.column.categories if data.column is not None else None
    if words is not None:
        table = np.array([to_rgb(c) for c in (*WORD_COLOURS, NOISE_COLOUR, MISSING_COLOUR)])
        # Of the images without a value the last one, of words without a colour grey.
        colours = table[np.where(values < 0, -1, np.minimum(values, len(WORD_COLOURS)))]
        order = np.argsort(values >= 0, kind="stable")
    elif data.has_groups:
        colours = _group_colours(places, values)
        # The others are drawn over those of no group.
        order = np.argsort(values >= 0, kind="stable")
    else:
        shades = ScalarMappable(_norm(values), colormaps["cividis"])
        colours = shades.to_rgba(np.nan_to_num(values, nan=0.0))[:, :3]
        colours[np.isnan(values)] = to_rgb(MISSING_COLOUR)
        order = np.argsort(np.nan_to_num(values, nan=-np.inf), kind="stable")
        bar = axes.figure.colorbar(shades, ax=axes, shrink=0.6)
        bar.set_label(data.name, parse_math=False)
        if data.column is not None and data.column.n_missing:
            bar.ax.set_xlabel(f"grey: {data.column.n_missing:,} missing", fontsize="small")
    if len(places) <= MAX_POINTS:
        size = float(np.clip(30_000 / max(1, len(places)), 0.8, 14.0))
        axes.scatter(
            places[order, 0],
            places[order, 1],
            s=size,
            c=colours[order],
            linewidths=0,
            rasterized=len(places) > VECTOR_POINTS,
        )
    else:
        pixels, far = _raster(places, colours, low, high)
        extent = (low[0], far[0], low[1], far[1])
        axes.imshow(pixels, extent=extent, origin="lower", interpolation="nearest")
    if words is not None:
        _explain_words(axes, data)
    elif data.has_groups:
        _name_groups(axes, places, values, data)
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.set_axis_off()
    shown = format_count(len(data.places), "image")
    if len(data.places) < data.n_samples:
        shown = f"{len(data.places):,} of {format_count(data.n_samples, 'image')}"
    title = f"{shown}, by {data.name}"
    axes.set_title(title, loc="left", color=MUTED, fontsize="medium", parse_math=False)
    return axes


def group_colours(middles: NDArray[np.floating[Any]]) -> NDArray[np.intp]:
    """Return a colour for each group, so that groups near each other have different ones.

    Parameters
    ----------
    middles : float array of shape (n_groups, 2)
        Where each lies.

    Returns
    -------
    intp array of shape (n_groups,)
        Number of the colour in `CLUSTER_COLOURS`, group by group the one that is used farthest away.
    """
    n_colours, chosen = len(CLUSTER_COLOURS), np.zeros(len(middles), np.intp)
    used = np.zeros(n_colours, np.intp)
    # Of very many only those around count: all of them would take minutes.
    around = None
    if len(middles) > ALL_COMPARED:
        around = KDTree(middles).query(middles, AROUND)[1]
    for group, middle in enumerate(middles):
        before = np.arange(group) if around is None else around[group][around[group] < group]
        sq = np.square(middles[before] - middle).sum(axis=1)
        nearest = np.full(n_colours, np.inf)
        np.minimum.at(nearest, chosen[before], sq)
        # Farthest away; of colours not yet in use, and of equals, the one used least.
        chosen[group] = np.lexsort((used, -nearest))[0]
        used[chosen[group]] += 1
    return chosen


def colour_numbers(places: NDArray[Any], values: NDArray[Any], n_groups: int) -> NDArray[np.intp]:
    """Return the colour of each group on a map.

    Parameters
    ----------
    places : float array of shape (n, 2)
        Where images lie.
    values : int array of shape (n,)
        Group of each, -1 none.
    n_groups : int
        Groups, of which some may have no image here.

    Returns
    -------
    intp array of shape (n_groups,)
        Number of the colour in `CLUSTER_COLOURS`; where there are no more groups than colours, that of the
        group itself.
    """
    colours = np.arange(n_groups) % len(CLUSTER_COLOURS)
    if n_groups <= len(CLUSTER_COLOURS):
        return colours
    found, number = np.unique(values, return_inverse=True)
    is_group = (found >= 0) & (found < n_groups)
    colours[found[is_group]] = group_colours(group_middles(places, number, len(found))[is_group])
    return colours


def _group_colours(places: NDArray[Any], values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the colour of each image as red, green and blue."""
    table = np.array([*(to_rgb(colour) for colour in CLUSTER_COLOURS), to_rgb(NOISE_COLOUR)])
    values = values.astype(np.int64)
    found, number = np.unique(values, return_inverse=True)
    if found.max(initial=0) < len(CLUSTER_COLOURS):
        return np.asarray(table[np.where(values < 0, -1, values)])
    # Numbered anew, since a user's groups may have any numbers.
    dense = np.where(values < 0, -1, number - np.count_nonzero(found < 0))
    chosen = colour_numbers(places, dense, int(np.count_nonzero(found >= 0)))
    return np.asarray(table[np.where(dense < 0, -1, chosen[dense])])


def group_middles(places: NDArray[Any], number: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """Return the place of the image of each group that is nearest to its mean."""
    count = np.maximum(np.bincount(number, minlength=n), 1)
    mean = np.column_stack([np.bincount(number, axis, n) / count for axis in places.T])
    away = np.square(places - mean[number]).sum(axis=1)
    least = np.full(n, np.inf)
    np.minimum.at(least, number, away)
    nearest = np.flatnonzero(away == least[number])[::-1]
    first = np.zeros(n, np.intp)
    first[number[nearest]] = nearest  # backwards, so that the first of equals stays
    return places[first].astype(np.float64)


def map_limits(places: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the corners of what is drawn; far outliers lie outside."""
    low, high = np.quantile(places.astype(np.float64), [OUTSIDE, 1 - OUTSIDE], axis=0)
    margin = MARGIN * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def _norm(values: NDArray[Any]) -> Normalize:
    """Return the range of the shades: a hundredth of the values may lie beyond on each side."""
    known = values[np.isfinite(values)]
    low, high = np.quantile(known, [0.01, 0.99]) if len(known) else (0.0, 1.0)
    return Normalize(low, high if high > low else low + 1, clip=True)


def _raster(
    places: NDArray[Any], colours: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return pixels with the mean colour of their images, the denser the less transparent, and their far corner."""
    pixel, opacity, far = density(places, low, high)
    height, width = opacity.shape
    count = np.bincount(pixel, minlength=width * height)
    filled = count > 0
    pixels = np.zeros((width * height, 4))
    for channel in range(3):
        sums = np.bincount(pixel, colours[:, channel], width * height)
        pixels[filled, channel] = sums[filled] / count[filled]
    pixels[:, 3] = opacity.ravel()
    return pixels.reshape(height, width, 4), far


def density(
    places: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Return how dense images lie, as the opacity of pixels.

    Parameters
    ----------
    places : float array of shape (n, 2)
        Where images lie, all between the corners.
    low, high : float arrays of shape (2,)
        Corners, as `map_limits` gives them.

    Returns
    -------
    tuple
        Pixel of each image, as a number; opacity of each pixel, float64 of shape (height, width), the first
        row that of the lowest places; and the far corner of the pixels.
    """
    scale = RASTER_PIXELS / (high - low).max()
    width, height = (int(side) for side in np.maximum(1, np.ceil((high - low) * scale)))
    column, row = np.minimum((places - low) * scale, [width - 1, height - 1]).astype(np.int64).T
    pixel = row * width + column
    count = np.bincount(pixel, minlength=width * height)
    # A pixel as dense as those of most images is opaque.
    dense = np.log1p(np.quantile(count[pixel], 0.7)) if len(pixel) else 1.0
    opacity = np.where(count > 0, np.clip(0.25 + 0.75 * np.log1p(count) / dense, 0, 1), 0.0)
    return pixel, opacity.reshape(height, width), low + np.array([width, height]) / scale


def _explain_words(axes: Axes, data: MapData) -> None:
    """Write which colour stands for which word, beside the map."""
    column, n_own = data.column, len(WORD_COLOURS)
    assert column is not None
    assert column.categories is not None
    lines = [
        (word[:NAME_LENGTH], count, colour)
        for word, count, colour in zip(column.categories, column.counts, WORD_COLOURS, strict=False)
    ]
    if len(column.categories) > n_own:
        n_others = len(column.categories) - n_own
        lines.append((f"{n_others:,} others", sum(column.counts[n_own:]), NOISE_COLOUR))
    if column.n_missing:
        lines.append(("missing", column.n_missing, MISSING_COLOUR))
    handles = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=f"{word} ({count:,})")
        for word, count, colour in lines
    ]
    legend = axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _name_groups(axes: Axes, places: NDArray[Any], values: NDArray[Any], data: MapData) -> None:
    """Write the numbers of the largest groups where they lie, with pictures of those that have some."""
    found, number, sizes = np.unique(values, return_inverse=True, return_counts=True)
    middles = group_middles(places, number, len(found))
    named = np.flatnonzero(found >= 0)
    named = named[np.argsort(-sizes[named], kind="stable")][:NUMBERED]
    for index in named:
        group, middle = int(found[index]), tuple(middles[index])
        up = 3.0
        if group in data.pictures:
            pixels = contact_array(np.asarray(data.pictures[group])[None], 1)
            if pixels.shape[2] == 2:
                pixels = pixels[..., [0, 0, 0, 1]]
            image = OffsetImage(
                pixels, zoom=PICTURE_POINTS / pixels.shape[0], interpolation="nearest"
            )
            box = AnnotationBbox(image, middle, pad=0.1, frameon=True)
            box.patch.set(linewidth=0.6, edgecolor=MUTED, facecolor=PAPER)
            axes.add_artist(box)
            up = PICTURE_POINTS / 2 + 8
        text = axes.annotate(
            f"{group} {data.names.get(group, '')[:NAME_LENGTH]}".rstrip(), middle, xytext=(0, up), textcoords="offset points", ha="center",
            va="center", fontsize=9, fontweight="bold", color=INK, zorder=5, parse_math=False,
        )  # fmt: skip
        text.set_bbox({"boxstyle": "round,pad=0.12", "color": PAPER, "alpha": 0.75, "linewidth": 0})
