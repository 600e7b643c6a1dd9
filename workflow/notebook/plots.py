"""Plots of a run as Matplotlib axes: ``run.plot``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from workflow.errors import StoreError
from workflow.report import plots
from workflow.report.axes import draw_on, show_images, show_sheets
from workflow.report.certainty_plots import plot_certainty, plot_clusters_by_threshold
from workflow.report.map_plot import plot_map
from workflow.report.tree_plot import plot_condensed_tree
from workflow.runstore import RunStore
from workflow.steps.browsing.map_data import map_data
from workflow.steps.parts.cluster_names import cluster_names
from workflow.steps.report import (
    ContactSheets,
    certainty_of,
    clusters_by_threshold,
    shown_tree_data,
)
from workflow.steps.tree import stored_tree

if TYPE_CHECKING:
    from pathlib import Path

    import xarray as xr
    from matplotlib.axes import Axes

T = TypeVar("T")


class Drawable(Protocol):
    """What plots ask of a run."""

    path: Path

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""

    def members(self, label: int, n: int = ..., *, weakest: bool = ...) -> xr.Dataset:
        """Return images of one cluster."""

    def outliers(self, n: int = ..., *, distinct: bool = ...) -> xr.Dataset:
        """Return the images with the highest outlier scores."""


class RunPlots:
    """Draws what a run found; every method returns the axes, to be restyled.

    Parameters
    ----------
    run : Drawable
        The run.

    Notes
    -----
    Each method takes ``ax``, where to draw; by default a figure is made, which a
    notebook shows at the end of the cell.  Colours of text and lines are those
    of ``matplotlib.rcParams``; each cluster has the colour of the report.
    """

    def __init__(self, run: Drawable) -> None:
        self._run = run

    def sizes(self, ax: Axes | None = None) -> Axes:
        """Draw the images of each cluster, largest first, on a logarithmic axis."""
        summary = self._run.summary
        n_noise = round(summary["noise_fraction"] * summary["n_samples"])
        sizes = np.asarray(summary["cluster_sizes"])
        return draw_on(
            lambda axes: plots.plot_cluster_sizes(axes, sizes, n_noise=n_noise), ax, size=(8.0, 3.0)
        )

    def tree(self, ax: Axes | None = None) -> Axes:
        """Draw the condensed tree with the clusters of the present labels in their colours."""
        why = "it has one centroid, or its labels are families"
        tree = _there(shown_tree_data(self._store()), "a tree", why)
        return draw_on(lambda axes: plot_condensed_tree(axes, tree), ax, size=(10.0, 4.5))

    def thresholds(self, ax: Axes | None = None) -> Axes:
        """Draw the number of clusters against how strict the test of their borders is."""
        store = self._store()
        tree = stored_tree(store)
        why = "no threshold decided the clusters of the present labels"
        if not len(tree.n_clusters_by_threshold):
            why = "there were too few images to test borders"
        steps = _there(clusters_by_threshold(store, tree), "thresholds", why)
        return draw_on(lambda axes: plot_clusters_by_threshold(axes, steps), ax)

    def certainty(self, ax: Axes | None = None) -> Axes:
        """Draw how sure each cluster is: its weakest border, and how often it is found again."""
        store = self._store()
        found = certainty_of(store, stored_tree(store))
        certainty = _there(found, "certainty", "it is known of the configured cut only")
        return draw_on(lambda axes: plot_certainty(axes, certainty), ax)

    def map(self, by: Any = "cluster", *, n_pictures: int = 12, ax: Axes | None = None) -> Axes:
        """Draw the images on the map, where those that are alike lie side by side.

        Parameters
        ----------
        by : str or array of shape (n_samples,)
            What colours them: an array of ``labels.zarr`` (``"cluster"``, ``"family"``,
            ``"strength"``, ...), or a value for each image; whole numbers and words are groups.
        n_pictures : int
            Largest clusters that get a picture, where the map is coloured by them.
        ax : matplotlib.axes.Axes, optional
            Where to draw.

        Returns
        -------
        matplotlib.axes.Axes
            Save them by ``.figure.savefig("map.svg")``, or ``.png``.
        """
        store, summary = self._store(), self._run.summary
        sheets = ContactSheets(store, None, summary, n_clusters=n_pictures, n_images=1)
        found = _there(
            map_data(store, by, sheets),
            "a map",
            "map.enabled is false, or `run` has not made it yet",
        )
        if found.name == "cluster":
            found = replace(found, names=cluster_names(store))
        return draw_on(lambda axes: plot_map(axes, found), ax, size=(8.0, 8.0))

    def variance(self, ax: Axes | None = None) -> Axes:
        """Draw the share of the variance that the principal components keep."""
        (ratio,) = self._store().read_model("explained_variance_ratio")
        return draw_on(lambda axes: plots.plot_variance(axes, ratio), ax)

    def gallery(
        self,
        label: int,
        n: int = 30,
        *,
        weakest: bool = False,
        columns: int = 15,
        ax: Axes | None = None,
    ) -> Axes:
        """Show images of one cluster, -1 for noise: the strongest, or the weakest."""
        found = self._run.members(label, n, weakest=weakest)
        axes = self._images(found, columns, ax)
        kinds = ("least outlying", "most outlying") if label < 0 else ("strongest", "weakest")
        called = cluster_names(self._store()).get(label, "")
        name = "noise" if label < 0 else f"cluster {label} {called}".rstrip()
        title = f"{name}, {kinds[weakest]} {found.sizes['sample']}"
        axes.set_title(title, loc="left", parse_math=False)
        return axes

    def outliers(self, n: int = 30, *, columns: int = 15, ax: Axes | None = None) -> Axes:
        """Show the images with the highest outlier scores, one of each centroid at most."""
        found = self._run.outliers(n, distinct=True)
        axes = self._images(found, columns, ax)
        title = f"{found.sizes['sample']} highest outlier scores, one of each centroid"
        axes.set_title(title, loc="left")
        return axes

    def contact_sheet(
        self, n_clusters: int = 12, *, columns: int = 15, ax: Axes | None = None
    ) -> Axes:
        """Show a row of images of each of the largest clusters, from the previews kept in the run."""
        summary = self._run.summary
        sheets = [
            sheet
            for sheet in ContactSheets(
                self._store(), None, summary, n_clusters=n_clusters, n_images=columns
            )
            if sheet.kind == "cluster"
        ]
        _there(sheets or None, "pictures", "the rows are vectors")
        size = (0.62 * columns + 2, 0.62 * len(sheets) + 0.3)
        return draw_on(lambda axes: show_sheets(axes, sheets, columns), ax, size=size)

    def _images(self, found: Any, columns: int, ax: Axes | None) -> Axes:
        """Show the images of some rows."""
        images = _there(found.get("images"), "images", "they are gone from where they were")
        pixels = _there(
            images.values if images.ndim in (3, 4) else None, "pictures", "the rows are vectors"
        )
        size = (0.6 * columns, 0.6 * max(1, -(-len(pixels) // columns)) + 0.4)
        return draw_on(lambda axes: show_images(axes, pixels, columns), ax, size=size)

    def _store(self) -> RunStore:
        """Open the run folder as it is now."""
        return RunStore.open(self._run.path)


def _there(thing: T | None, what: str, why: str) -> T:
    """Return what is to be drawn, or say why it is not there."""
    if thing is None:
        msg = f"a run must have {what} to be drawn so; {why}. See run.summary."
        raise StoreError(msg)
    return thing
