"""Plots of the quality page: quality and number of clusters against images and centroids."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: Colours that the colour-blind can tell apart, and a marker that goes with each.
COLOURS, MARKERS = ("#2f66c4", "#d9731c", "#2b8a5a", "#8a4fb5"), "osD^"
#: Size of a picture [inch] and its resolution [dots per inch].
SIZE, RESOLUTION = (9.0, 3.4), 110
GRID, INK = "#dadee5", "#1b1f27"

#: Of a set, the figures of all seeds at each place on the axis.
Curve = dict[float, list[dict[str, Any]]]


def draw_curves(curves: Mapping[str, Curve], axis_label: str, place: Path) -> None:
    """Draw ARI and clusters found against one number, a line for each set.

    Parameters
    ----------
    curves : mapping of str to dict
        Set -> place on the axis -> figures of each seed, with ``ari``,
        ``n_found`` and ``n_true``.
    axis_label : str
        What the axis counts.
    place : Path
        PNG file to write.

    Notes
    -----
    Lines are medians over seeds, bars reach from the smallest to the largest.
    """
    figure = Figure(figsize=SIZE, dpi=RESOLUTION, layout="constrained")
    quality, count = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(curves.items()):
        style = {"color": COLOURS[index % 4], "marker": MARKERS[index % 4]}
        places = sorted(curve)
        for axes, figures in ((quality, "ari"), (count, "n_found")):
            values = [[one[figures] for one in curve[x]] for x in places]
            middle, reach = _spread(values)
            axes.errorbar(
                places, middle, yerr=reach, label=name, capsize=2.5, markersize=5, linewidth=1.6, **style
            )  # fmt: skip
        true = [median(one["n_true"] for one in curve[x]) for x in places]
        # Wide and pale, to be seen under a line that it agrees with.
        count.plot(places, true, color=style["color"], linewidth=7, alpha=0.25)
    quality.set(ylabel="ARI", ylim=(-0.03, 1.03))
    count.set(ylabel="clusters found (pale: true)", ylim=(0, 1.04 * count.get_ylim()[1]))
    count.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ticks = sorted({x for curve in curves.values() for x in curve})
    for axes in (quality, count):
        axes.set(xscale="log", xlabel=axis_label)
        axes.set_xticks(_apart(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.minorticks_off()
        axes.grid(visible=True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    quality.legend(frameon=False, loc="best")
    place.parent.mkdir(parents=True, exist_ok=True)
    # The version of matplotlib would change a picture that is the same.
    figure.savefig(place, metadata={"Software": None})


def _spread(values: Sequence[Sequence[float]]) -> tuple[list[float], list[list[float]]]:
    """Return medians, and how far the smallest and the largest are from them."""
    middle = [median(seeds) for seeds in values]
    below = [m - min(seeds) for m, seeds in zip(middle, values, strict=True)]
    above = [max(seeds) - m for m, seeds in zip(middle, values, strict=True)]
    return middle, [below, above]


def _apart(ticks: Sequence[float]) -> list[float]:
    """Return ticks whose numbers do not run into each other on a logarithmic axis."""
    kept: list[float] = []
    span = ticks[-1] / ticks[0]
    for tick in ticks:
        # Nine numbers at most fit side by side.
        if not kept or tick >= kept[-1] * span ** (1 / 9):
            kept.append(tick)
    return kept
