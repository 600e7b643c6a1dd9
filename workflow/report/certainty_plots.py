"""Plots of how sure the number of clusters and each cluster are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from workflow.report.figures import ACCENT, INK, PAPER, cluster_colour
from workflow.report.plots import VECTOR_POINTS, whole_edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workflow.report.data import Certainty, ClustersByThreshold

#: Numbers of clusters that span no more than this get a bar each.
SINGLE_BARS = 30
#: Maximum of doubtful clusters that are numbered in the plot.
MAX_NUMBERED = 12
#: Points closer than this share of the axes' width and height have their numbers in one line.
NEAR_ACROSS, NEAR_UP = 0.06, 0.06
#: Certainty of a border from which numbers are written to the left of their points.
LEFT_FROM = 0.8


def plot_clusters_by_threshold(axes: Axes, found: ClustersByThreshold) -> Axes:
    """Draw the number of clusters at each threshold of the test; a flat stretch is a good sign.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    found : ClustersByThreshold
        The numbers.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes; the threshold used is a dashed line, the stretch of the
        same number around it is shaded.
    """
    if found.plateau is not None and found.plateau[0] < found.plateau[1]:
        axes.axvspan(*found.plateau, color=ACCENT, alpha=0.16, linewidth=0)
    axes.plot(
        found.threshold,
        found.n_clusters,
        color=ACCENT,
        marker="o",
        markersize=4,
    )
    axes.set(
        xlabel=found.name,
        ylabel="clusters",
        ylim=(0, 1.15 * max(1, int(np.max(found.n_clusters, initial=1)))),
    )
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    if found.chosen is not None:
        axes.axvline(found.chosen, color=INK, linestyle="--", linewidth=1)
        axes.annotate(
            "used", (found.chosen, 0), xycoords=("data", "axes fraction"), xytext=(4, 4),
            textcoords="offset points", color=INK, fontsize=9,
        )  # fmt: skip
    axes.grid(visible=True)
    return axes


def plot_resampled(axes: Axes, resampled_n_clusters: NDArray[Any], n_clusters: int) -> Axes:
    """Draw how many clusters the redrawn counts gave, and how many the counts themselves.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    resampled_n_clusters : int array of shape (n_resamples,)
        Number of clusters on each set of redrawn counts, at least one set.
    n_clusters : int
        Clusters of the run, drawn as a dashed line.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes.
    """
    numbers = np.asarray(resampled_n_clusters, dtype=np.int64)
    low, high = min(n_clusters, int(numbers.min())), max(n_clusters, int(numbers.max()))
    if high - low < SINGLE_BARS:
        value, count = np.unique(numbers, return_counts=True)
        axes.bar(value, count, 0.7, color=ACCENT)
    else:
        count, edges = np.histogram(numbers, whole_edges(low, high, is_log=False))
        axes.stairs(count, edges, fill=True, color=ACCENT)
    pad = max(1.5, 0.05 * (high - low))
    axes.set(
        xlabel="clusters", ylabel="redrawn counts", xlim=(low - pad, high + pad),
        ylim=(0, 1.25 * int(count.max())),
    )  # fmt: skip
    axes.axvline(n_clusters, color=INK, linestyle="--", linewidth=1)
    axes.annotate(
        f"found: {n_clusters:,}", (n_clusters, 1), xycoords=("data", "axes fraction"),
        xytext=(4, 0), textcoords="offset points", va="top", color=INK, fontsize=9,
    )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, axis="y")
    return axes


def plot_certainty(axes: Axes, certainty: Certainty) -> Axes:
    """Draw for each cluster how often it is found again against how sure its weakest border is.

    Where no border was tested, the clusters stand side by side instead.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw.
    certainty : Certainty
        Of each cluster.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes; doubtful clusters are hollow, the first of them numbered
        where their numbers do not cover each other.
    """
    numbers = np.flatnonzero(np.isfinite(certainty.recovery))
    share, tested = 100 * certainty.recovery, certainty.has_borders
    across = certainty.border if tested else np.arange(len(share))
    doubtful = certainty.is_doubtful
    many = len(numbers) > VECTOR_POINTS
    for chosen, filled in (
        (numbers[~doubtful[numbers]], True),
        (numbers[doubtful[numbers]], False),
    ):
        shades = [cluster_colour(cluster) for cluster in chosen.tolist()]
        axes.scatter(
            across[chosen], share[chosen], s=12 if many else 34, alpha=0.85, clip_on=False,
            facecolors=shades if filled else PAPER, edgecolors=shades, linewidths=1.6, zorder=3,
            rasterized=many,
        )  # fmt: skip
    low = max(0.0, float(share[numbers].min()) - 12)
    axes.set(ylabel="found again [%]", ylim=(low, 102))
    if tested:
        axes.set(xlabel="how sure the weakest border is", xlim=(0, 1.04))
        _number(axes, np.flatnonzero(doubtful)[:MAX_NUMBERED], across, share)
    else:
        axes.set(xlabel="cluster", xlim=(-0.5 - 0.02 * len(share), 1.02 * len(share) - 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(min(len(share), 20), integer=True))
    axes.grid(visible=True)
    return axes


def _number(axes: Axes, clusters: NDArray[Any], across: NDArray[Any], share: NDArray[Any]) -> None:
    """Write numbers beside points; those of points that touch stand in one line."""
    span = axes.get_ylim()[1] - axes.get_ylim()[0]
    lines: list[list[int]] = []
    for cluster in clusters.tolist():
        for line in lines:
            near = abs(across[line[0]] - across[cluster]) < NEAR_ACROSS
            if near and abs(share[line[0]] - share[cluster]) < NEAR_UP * span:
                line.append(cluster)
                break
        else:
            lines.append([cluster])
    for line in lines:
        # To the left where the plot ends soon.
        is_left = across[line[0]] > LEFT_FROM
        axes.annotate(
            ", ".join(str(cluster) for cluster in line), (across[line[0]], share[line[0]]),
            xytext=(-6 if is_left else 6, 0), textcoords="offset points",
            ha="right" if is_left else "left", va="center", color=INK, fontsize=9,
        )  # fmt: skip
