"""Plots of a run, each drawn onto given axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from workflow.formatting import format_count, format_seconds, label_thousands, plural
from workflow.report.figures import ACCENT, GRID, INK, MUTED, cluster_colour

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import NDArray


#: Bars up to this many are drawn apart, and so many at most carry their cluster's number.
NUMBERED_BARS, NUMBERED_TICKS = 40, 20
#: Points above this many are drawn as one picture instead of one by one.
VECTOR_POINTS = 1500
#: Numbers of images that span at least this ratio get a logarithmic axis.
LOG_RATIO = 20


def plot_variance(axes: Axes, explained_variance_ratio: NDArray[Any]) -> Axes:
    """Draw the share of the variance that the first components keep together.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    explained_variance_ratio : array of shape (n_components,)
        Share of each component.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    kept = 100 * np.cumsum(np.nan_to_num(np.asarray(explained_variance_ratio, dtype=np.float64)))
    count = np.arange(1, len(kept) + 1)
    axes.plot(
        count, kept, color=ACCENT, linewidth=1.8, marker="o" if len(kept) < 30 else "", markersize=3
    )
    axes.set(xlabel="components", ylabel="variance kept [%]", ylim=(0, 104))
    axes.set_xlim(0.5 if len(kept) < 3 else 0, max(1, len(kept)) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    if len(kept):
        axes.annotate(
            f"{kept[-1]:.1f} %", (count[-1], kept[-1]), xytext=(-2, -18 if kept[-1] > 50 else 6), color=INK,
            textcoords="offset points", ha="right", va="top" if kept[-1] > 50 else "bottom",
        )  # fmt: skip
    return axes


def plot_spectrum(axes: Axes, spectrum: NDArray[Any], n_components: int) -> Axes:
    """Draw all eigenvalues on a logarithmic axis, and where the kept ones end.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    spectrum : array of shape (n_eigenvalues,) [squared pixel value]
        Eigenvalues, falling; those that are not positive are left out.
    n_components : int
        How many were kept.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    values = np.asarray(spectrum, dtype=np.float64)
    count = np.arange(1, len(values) + 1)
    # Rounding leaves eigenvalues of about 1e-16 of the largest: they would fill the axis.
    top = float(values[np.isfinite(values)].max(initial=0.0))
    shown = np.isfinite(values) & (values > 1e-13 * top)
    axes.set(xlabel="component", ylabel="eigenvalue")
    if not shown.any():
        _say(axes, "every eigenvalue is zero: all images are alike")
        return axes
    axes.set_yscale("log")
    axes.plot(
        count[shown],
        values[shown],
        color=ACCENT,
        linewidth=1.8,
        marker="." if len(values) < 30 else "",
    )
    if 0 < n_components < len(values):
        axes.axvline(n_components + 0.5, color=MUTED, linestyle="--", linewidth=1)
        axes.annotate(
            f"{n_components} kept", (n_components + 0.5, 1), xycoords=("data", "axes fraction"),
            xytext=(4, -2), textcoords="offset points", va="top", color=INK,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True)
    return axes


def plot_cluster_sizes(
    axes: Axes,
    cluster_size: NDArray[Any],
    *,
    n_noise: int = 0,
    min_cluster_size: float | None = None,
) -> Axes:
    """Draw the clusters by size on a logarithmic axis, largest first.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    cluster_size : int array of shape (n_clusters,) [images]
        Images of each cluster; numbers without images are left out.
    n_noise : int
        Images of no cluster, drawn as a line where there are any.
    min_cluster_size : float, optional
        Smallest size allowed [images], drawn as a line.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    sizes = np.asarray(cluster_size, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    axes.set(ylabel="images")
    if not len(order):
        _say(axes, "no clusters")
        return axes
    lines = [("noise", n_noise, "--"), ("minimum", min_cluster_size or 0, ":")]
    lowest = min([int(sizes[order].min()), *(value for _, value, _ in lines if value > 0)])
    floor = 10.0 ** np.floor(np.log10(0.7 * lowest)) if lowest > 1 else 0.5
    position = np.arange(len(order))
    axes.set_yscale("log")
    if len(order) <= NUMBERED_BARS:
        colours = [cluster_colour(int(c)) for c in order]
        axes.bar(
            position, np.maximum(sizes[order], floor) - floor, 0.8, bottom=floor, color=colours
        )
        named = slice(None, None, -(-len(order) // NUMBERED_TICKS))
        axes.set_xticks(position[named], [str(c) for c in order[named]])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel("cluster")
    else:
        edges = np.arange(len(order) + 1)
        axes.stairs(np.maximum(sizes[order], floor), edges, baseline=floor, fill=True, color=ACCENT)
        axes.set_xlabel("clusters, largest first")
    axes.set_xlim(-1 if len(order) <= NUMBERED_BARS else 0, len(order))
    axes.set_ylim(floor, 2 * max(int(sizes.max()), *(value for _, value, _ in lines), 1))
    # Close lines have their names above and below.
    values = [value for _, value, _ in lines if value > 0]
    are_close = len(values) > 1 and max(values) < 1.6 * min(values)
    for label, value, dashes in lines:
        if value > 0:
            side = ("bottom" if value == max(values) else "top") if are_close else "center"
            axes.axhline(value, color=INK, linestyle=dashes, linewidth=1)
            axes.annotate(
                label, (1, value), xycoords=("axes fraction", "data"), xytext=(3, 0),
                textcoords="offset points", ha="left", va=side, color=INK, fontsize=9,
            )  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(label_thousands))
    axes.grid(visible=True, axis="y")
    return axes


def plot_population(axes: Axes, population: NDArray[Any], noun: str = "centroid") -> Axes:
    """Draw how many centroids, or other groups, hold how many images.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    population : int array of shape (n_centroids,) [images]
        Images of each.
    noun : str
        What they are called.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    held = np.asarray(population, dtype=np.float64)
    held = held[held > 0]
    axes.set(xlabel=f"images of a {noun}", ylabel=plural(noun))
    if not held.size:
        _say(axes, f"no {noun} holds an image")
        return axes
    low, high = int(held.min()), int(held.max())
    counts, edges = np.histogram(held, whole_edges(low, high, is_log=high / low >= LOG_RATIO))
    axes.stairs(counts, edges, fill=True, color=ACCENT)
    _label_counts(axes, low, high)
    axes.set_ylim(0, 1.12 * counts.max())
    middle = float(np.median(held))
    axes.axvline(middle, color=INK, linestyle="--", linewidth=1)
    axes.annotate(
        f"median {format_count(round(middle))}", (middle, 1), xycoords=("data", "axes fraction"),
        xytext=(4, 0), textcoords="offset points", va="top", color=INK, fontsize=9,
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, axis="y")
    return axes


def plot_radius(
    axes: Axes,
    population: NDArray[Any],
    rms_radius: NDArray[Any],
    centroid_label: NDArray[Any],
) -> Axes:
    """Draw the radius of each centroid against its images, in the colour of its cluster.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    population : int array of shape (n_centroids,) [images]
        Images of each centroid; centroids without are left out.
    rms_radius : array of shape (n_centroids,)
        Root mean square distance of its images.
    centroid_label : int array of shape (n_centroids,)
        Cluster, -1 for noise (grey).

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    held = np.asarray(population) > 0
    colours = np.array([cluster_colour(int(label)) for label in np.asarray(centroid_label)[held]])
    axes.set(xlabel="images of a centroid", ylabel="radius (root mean square)")
    if not held.any():
        _say(axes, "no centroid holds an image")
        return axes
    axes.scatter(
        np.asarray(population)[held], np.asarray(rms_radius)[held], s=9, c=colours, alpha=0.75,
        linewidths=0, rasterized=int(held.sum()) > VECTOR_POINTS,
    )  # fmt: skip
    shown = np.asarray(population)[held]
    _label_counts(axes, float(shown.min()), float(shown.max()))
    axes.set_ylim(bottom=0)
    axes.grid(visible=True)
    return axes


def plot_conductance(
    axes: Axes, expected: NDArray[np.float64], conductance: NDArray[np.float64]
) -> Axes:
    """Draw the conductance of each family against that of a smooth cloud.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    expected, conductance : float64 arrays of shape (n_families,)
        Conductance of a community of its size in a smooth cloud of its dimension, and its own.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
    axes.scatter(expected, conductance, s=10, color=ACCENT, alpha=0.6, linewidths=0)
    axes.annotate("equal", (0.93, 0.95), color=MUTED, ha="right")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="in a smooth cloud", ylabel="conductance")
    axes.grid(visible=True)
    return axes


def plot_timings(axes: Axes, seconds: Mapping[str, float]) -> Axes:
    """Draw the time of each step as a bar; ``total`` is left out.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    seconds : mapping of str to float [s]
        Time of each step, in order.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    steps = {name: float(time) for name, time in seconds.items() if name != "total"}
    if not steps:
        _say(axes, "no step was timed")
        return axes
    position = np.arange(len(steps))
    times = np.nan_to_num(np.array(list(steps.values())), posinf=0.0)
    axes.barh(position, times, 0.65, color=ACCENT)
    axes.set_yticks(position, list(steps))
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    top = float(times.max()) or 1.0
    axes.set(xlabel="seconds", xlim=(0, 1.2 * top))
    for place, time in zip(position, times, strict=True):
        axes.annotate(
            format_seconds(float(time)), (time, place), xytext=(4, 0), textcoords="offset points",
            va="center", color=INK, fontsize=9,
        )  # fmt: skip
    axes.grid(visible=True, axis="x", color=GRID)
    return axes


def whole_edges(low: int, high: int, *, is_log: bool) -> NDArray[np.float64]:
    """Return about forty bins of whole numbers: equally wide, or growing like the numbers."""
    if is_log:
        first = np.unique(np.floor(np.geomspace(low, high + 1, 41)))
        return np.asarray(first - 0.5, dtype=np.float64)
    step = max(1, -(-(high - low + 1) // 40))
    return np.arange(low, high + step + 1, step, dtype=np.float64) - 0.5


def _label_counts(axes: Axes, low: float, high: float) -> None:
    """Give the horizontal axis few, plain labels of whole numbers; logarithmic where they span far."""
    axes.xaxis.set_major_formatter(FuncFormatter(label_thousands))
    if high / low >= LOG_RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        axes.xaxis.set_major_formatter(FuncFormatter(label_thousands))
        axes.xaxis.set_minor_formatter(NullFormatter())
        return
    pad = max(2.0, 0.04 * (high - low))
    axes.set_xlim(low - pad, high + pad)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _say(axes: Axes, text: str) -> None:
    """Put words in the middle of axes that have nothing to show."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)
