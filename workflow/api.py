"""The Python face of a run folder: `Run`."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from workflow.commands.base import images_of
from workflow.commands.duplicates import duplicates
from workflow.commands.export import export
from workflow.commands.export.columns import columns as keep_columns
from workflow.commands.gallery import gallery
from workflow.commands.merge import merge
from workflow.commands.name import name as _name
from workflow.commands.predict import far_out_sentence, is_unlike, predict
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.commands.run import read_summary
from workflow.commands.similar import require_neighbors, similar
from workflow.commands.split import split
from workflow.commands.undo import undo
from workflow.commands.update import undo_update, update
from workflow.commands.updating.forget import forget
from workflow.commands.updating.watch import watch
from workflow.errors import ConfigError
from workflow.notebook import members, reprs
from workflow.notebook.explore import open_explorer
from workflow.notebook.live import watched
from workflow.notebook.plots import RunPlots
from workflow.runstore import RunStore, layout
from workflow.steps.browsing.members import Ranking
from workflow.steps.browsing.odd_images import strongest_outliers
from workflow.steps.parts.cluster_names import cluster_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import dask.array as da
    import numpy as np
    import pandas as pd
    from distributed import Client
    from numpy.typing import NDArray

    from workflow.notebook.widget import Explorer

log = logging.getLogger(__name__)


class Run:
    """A run folder whose labels are there.

    Parameters
    ----------
    path : path
        The run folder, or its address.
    client : distributed.Client, optional
        Where recuts and predictions run; opened when needed by default.

    Attributes
    ----------
    path : Path
        The run folder; of a run at an address, the one that it is worked on in.
    """

    def __init__(self, path: Path | str, *, client: Client | None = None) -> None:
        self.path = RunStore.open(path).path
        self._client = client
        self._explorer: Explorer | None = None

    @property
    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` holds."""
        return read_summary(RunStore.open(self.path))

    @property
    def n_clusters(self) -> int:
        """Number of clusters, noise not counted."""
        n: int = self.summary["n_clusters"]
        return n

    @property
    def dataset(self) -> xr.Dataset:
        """The labels as a lazy `xarray.Dataset`: Dask arrays, and ``label``, read when looked at.

        The coordinate ``sample`` is the row of an image; ``path`` its file,
        where there are names.  ``dataset.sel(sample=dataset.label == 3)`` and
        ``dataset.where(dataset.label == 3, drop=True)`` choose a cluster.
        """
        return members.open_labels(self.path / layout.LABELS)

    @property
    def images(self) -> xr.DataArray:
        """The images in their shape, lazy, with the coordinates of `dataset`.

        Raises
        ------
        ImagesError
            If they are gone from where they were, or others lie there.
        """
        store = RunStore.open(self.path)
        images = members.require_images(
            images_of(store), store.manifest.images.get("path", "their place")
        )
        return members.lazy_images(images, self.dataset)

    @property
    def model(self) -> xr.Dataset:
        """What new images are labelled with, lazy: mean, components, centroids, graph, layers."""
        return members.open_model(self.path / layout.MODEL)

    @property
    def statistics(self) -> xr.Dataset:
        """``brightness``, ``contrast`` and ``sharpness`` of each image, lazy, in the order of the images.

        Raises
        ------
        StoreError
            If the run keeps none.
        """
        return members.open_statistics(RunStore.open(self.path))

    @property
    def plot(self) -> RunPlots:
        """Plots as Matplotlib axes: ``run.plot.tree()``, ``run.plot.gallery(3)`` and others."""
        return RunPlots(self)

    def members(
        self, label: int, n: int = 100, *, offset: int = 0, weakest: bool = False
    ) -> xr.Dataset:
        """Return images of one cluster, the strongest first.

        Parameters
        ----------
        label : int
            The cluster; -1 for noise, whose first images are the least outlying.
        n : int
            How many at most.
        offset : int
            How many are left out before them: ``offset=100`` gives the second hundred.
        weakest : bool
            Whether the weakest are wanted, weakest first; of noise, the most outlying.

        Returns
        -------
        xarray.Dataset
            As `dataset`, in memory, with ``images`` in their shape where they are at hand.
        """
        store = RunStore.open(self.path)
        members.require_label(label, self.summary)
        ranking = Ranking.of_cluster(label)
        rows = members.ranked_rows(store, ranking, n, offset=offset, weakest=weakest)
        place = self.path / layout.LABELS
        return members.rows_with_images(place, rows, images_of(store))

    def outliers(self, n: int = 100, *, distinct: bool = False) -> xr.Dataset:
        """Return the images with the highest outlier scores, highest first; see `members`.

        Parameters
        ----------
        n : int
            How many at most.
        distinct : bool
            Whether each centroid gives one image at most, so that many of a
            kind do not crowd out the others.

        Returns
        -------
        xarray.Dataset
            As `dataset`, in memory, with ``images`` where they are at hand.
        """
        store = RunStore.open(self.path)
        if distinct:
            rows = strongest_outliers(store, n).row
        else:
            rows = members.ranked_rows(store, Ranking("outlier_score"), n)
        place = self.path / layout.LABELS
        return members.rows_with_images(place, rows, images_of(store))

    def layers(self) -> pd.DataFrame:
        """Return the levels that `recut` takes as ``layer``, coarse to fine, the families last.

        Returns
        -------
        pandas.DataFrame
            A line for each: ``n_clusters``, the ``largest``, ``median`` and ``smallest`` [images], and
            ``noise_fraction``, images counted by their nearest centroids; of families, images in none.
        """
        return members.layer_table(RunStore.open(self.path))

    @property
    def lineage(self) -> pd.DataFrame:
        """What became of the clusters of the run: over recuts, edits by hand, other runs in its folder, updates.

        A line for each change: number (``state``) and ``date`` of it, what was ``done``, ``change`` (``born``, ``grew``,
        ``shrank``, ``merged``, ``split``, ``gone``), ``cluster`` and ``before`` (ids, -1 where there is
        none; a line for each cluster that was merged, or part that was split off), ``n_images`` and ``n_before``,
        counted by their nearest centroids.  Clusters that are as they were have none.
        """
        return members.lineage_table(RunStore.open(self.path))

    @property
    def labels(self) -> da.Array:
        """Cluster of each image: int32 Dask array of shape (n_samples,), -1 is noise."""
        labels: da.Array = xr.open_zarr(self.path / layout.LABELS)["label"].data
        return labels

    @property
    def neighbors(self) -> xr.Dataset:
        """The nearest neighbours of each image, lazy: ``index`` and ``distance``, nearest first.

        Both are of shape (n_samples, k), Dask arrays behind ``.data``; -1 and
        infinity where there are fewer than k other images.

        Raises
        ------
        StoreError
            If the run has none.
        """
        found: xr.Dataset = xr.open_zarr(require_neighbors(RunStore.open(self.path)))
        return found

    def recut(
        self,
        n_clusters: int | None = None,
        *,
        min_cluster_size: int | None = None,
        layer: int | Literal["families"] | None = None,
        configured: bool = False,
    ) -> Run:
        """Give the run other labels from its stored tree; return the run itself.

        Parameters
        ----------
        n_clusters : int, optional
            About so many clusters.
        min_cluster_size : int, optional
            Fewest images of a cluster.
        layer : int or "families", optional
            Layer of the tree, 0 is the coarsest; families lie below them all.
        configured : bool
            Whether the cut that the run was configured with is brought back instead.

        Returns
        -------
        Run
            The run itself.
        """
        with watched("recut") as progress:
            recut(
                self.path,
                n_clusters=n_clusters,
                min_cluster_size=min_cluster_size,
                layer=layer,
                configured=configured,
                client=self._client,
                progress=progress,
            )
        return self

    @property
    def names(self) -> dict[int, str]:
        """Names of clusters, by number; see `name`."""
        return cluster_names(RunStore.open(self.path))

    def name(self, cluster: int, name: str | None) -> dict[str, Any]:
        """Name a cluster; the name stays with its images, whatever number they get later.

        Parameters
        ----------
        cluster : int
            The cluster.
        name : str or None
            One line of at most 100 characters; empty or None takes the name away.

        Returns
        -------
        dict
            ``changed``, what was done in one line, and all ``names``.
        """
        return _name(self.path, cluster, name)

    def merge(self, clusters: Sequence[int]) -> dict[str, Any]:
        """Make one cluster of two or more; all else stays, but for numbers, which go by size.

        Parameters
        ----------
        clusters : sequence of int
            The clusters.

        Returns
        -------
        dict
            ``changed``, what was done in one line; the new ``cluster``, its ``n_images``,
            ``n_clusters`` of the run, and ``numbers`` of others that changed, old to new.
        """
        with watched("merge") as progress:
            return merge(self.path, clusters, client=self._client, progress=progress)

    def split(self, cluster: int) -> dict[str, Any]:
        """Part a cluster where the stored tree parts it next; all else stays, but for numbers.

        Where the tree has no border in it, it is divided in two where the fewest images lie between.

        Parameters
        ----------
        cluster : int
            The cluster.

        Returns
        -------
        dict
            ``changed``, what was done in one line; the ``clusters`` that it became, ``n_images`` of
            each, whether the tree has a border there (``is_border``), ``n_clusters`` of the run, and ``numbers`` of others that changed, old to new.
        """
        with watched("split") as progress:
            return split(self.path, cluster, client=self._client, progress=progress)

    def undo(self) -> dict[str, Any]:
        """Take the last name, merge, split or recut back, to the last bit; again and again.

        Returns
        -------
        dict
            ``changed``, what was taken back in one line; ``n_clusters`` of the run, and
            ``n_left``, how many more things can be taken back.
        """
        with watched("undo") as progress:
            return undo(self.path, client=self._client, progress=progress)

    def predict(self, images: Any, out: Path | str | None = None) -> xr.Dataset:
        """Label new images.

        Parameters
        ----------
        images : path or array
            Anything that `workflow.run` takes, or one image of the run's shape.
        out : path, optional
            Zarr store to write; ``predicted.zarr`` in the run folder by default.

        Returns
        -------
        xarray.Dataset
            The labels, as `dataset` has them.  The attribute ``n_far_out`` says how many
            images lie farther from the nearest centroid than ``usual_distance``, which 99 % of
            the run's images do not exceed; a warning is logged where they are many.
        """
        target = Path(out) if out is not None else self.path / "predicted.zarr"
        store = RunStore.open(self.path) if out is None else None
        # Of a run at an address, what is written into it goes there, too.
        held = store.lock() if store is not None and store.kept is not None else nullcontext()
        with watched("predict") as progress, held:
            found = predict(self.path, images, target, client=self._client, progress=progress)
        if is_unlike(found):
            log.warning(far_out_sentence(found))
        return members.open_labels(target)

    def update(
        self,
        images: Any = None,
        *,
        again: bool = False,
        refit_components: bool = False,
        undo: bool = False,
    ) -> dict[str, Any]:
        """Make new images part of the run, with labels; or take the last update back.

        Parameters
        ----------
        images : path or array, optional
            Anything that `workflow.run` takes, of the same shape and type, or one image.  Of a source that
            the run has read before, only what it has gained is new; by default the run's own.
        again : bool
            Whether all of the images are added, whatever the run has.
        refit_components : bool
            Whether components, scores, neighbours, families and centroids are found anew of all images, also
            where none are new; ids and names stay.
        undo : bool
            Whether the last update is taken back instead.

        Returns
        -------
        dict
            What became of the run, as the command prints it.

        Raises
        ------
        ConfigError
            If there are images to undo, or nothing; if labels are families; if components are to be found
            anew, and images of the run are gone.
        ImagesError
            If the images are in the run already, or not like those of the run; if the source has lost or
            changed images that the run has read.
        """
        if undo and (images is not None or again or refit_components):
            msg = "`update` must be given either images or undo=True; got both. Give one."
            raise ConfigError(msg)
        if undo:
            return undo_update(self.path)
        with watched("update") as progress:
            return update(
                self.path,
                images,
                again=again,
                refit_components=refit_components,
                client=self._client,
                progress=progress,
            )

    def watch(
        self,
        images: Path | str | None = None,
        *,
        every: str | float = "10min",
        n_rounds: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Update the run at fixed times with what its source has gained.

        Parameters
        ----------
        images : path, optional
            The source; by default the one that the run was made from.
        every : str or float
            Time from the start of a round to that of the next, such as ``10min``, or seconds.
        n_rounds : int, optional
            How many; by default without end.

        Returns
        -------
        iterator of dict
            For each round its ``date``, and what `update` returns; or ``error``, a text.  The run is
            updated as the iterator is advanced.

        Raises
        ------
        ConfigError
            If `every` is no time, or the run cannot be updated.
        """
        return watch(self.path, images, every=every, n_rounds=n_rounds, client=self._client)

    def forget(self, segment: int) -> dict[str, Any]:
        """Take the images of one update out of the run, for good.

        Parameters
        ----------
        segment : int
            The number of the update, from 1, as the coordinate ``segment`` of `dataset` has it.

        Returns
        -------
        dict
            What became of the run, as the command prints it.

        Raises
        ------
        ConfigError
            If there is no such update, or the labels are families.
        """
        with watched("forget") as progress:
            return forget(self.path, segment, client=self._client, progress=progress)

    def duplicates(
        self, *, near: bool = False, within: float | None = None, limit: int = 100
    ) -> dict[str, Any]:
        """List groups of duplicate images.

        Parameters
        ----------
        near : bool
            Whether near-duplicates are listed, too.
        within : float, optional
            Distance up to which images are near-duplicates [score]; by default
            where the distances to the nearest image have a dip.
        limit : int
            Most groups to list, the largest first.

        Returns
        -------
        dict
            ``groups``, each with ``kind``, ``size``, ``indices`` (the first
            thousand) and ``paths`` where images have file names, near ones also
            ``diameter`` and ``chain``; and totals.
        """
        with watched("duplicates") as progress:
            return duplicates(self.path, near=near, within=within, limit=limit, progress=progress)

    def similar(self, of: Any, n: int = 15) -> dict[str, Any]:
        """List the images most like one of the run, or like a new one.

        Parameters
        ----------
        of : int, path or array
            Number of an image, or a new image: anything that `predict` takes.
        n : int
            How many at most.

        Returns
        -------
        dict
            ``neighbors``, each with ``sample``, ``distance`` [score] and, where
            images have file names, ``path``; ``recall``, the share of the true
            ones that is found.
        """
        with watched("similar") as progress:
            return similar(self.path, of, limit=n, progress=progress)

    def export(
        self,
        to: Path | str,
        *,
        format: Literal["csv", "parquet", "folder", "fiftyone", "atlas"] | None = None,  # noqa: A002
        columns: Path | str | None = None,
        clusters: Sequence[int | str] | None = None,
        limit: int | None = None,
        link: Literal["symlink", "hardlink", "copy"] = "symlink",
        files: Path | str | None = None,
    ) -> Path:
        """Write images and labels for another program.

        Parameters
        ----------
        to : path
            New file or folder.
        format : {"csv", "parquet", "folder", "fiftyone", "atlas"}, optional
            By default what `to` ends in, or a folder for each cluster.
        columns : path, optional
            Table, .csv or .parquet, whose columns are added by its ``sample`` or ``path``.
        clusters : sequence of int or str, optional
            Numbers or names of clusters, -1 for noise; all by default.
        limit : int, optional
            Images of each cluster at most, the strongest.
        link : {"symlink", "hardlink", "copy"}
            How image files come into folders.
        files : path, optional
            Where the image files lie, if not where the run was given them.

        Returns
        -------
        Path
            What was written.
        """
        found = export(
            self.path,
            to,
            format=format,
            columns=columns,
            clusters=clusters,
            limit=limit,
            link=link,
            files=files,
        )
        return Path(found["to"])

    def gallery(
        self, kind: str, *of: int, limit: int | None = None, out: Path | str | None = None
    ) -> dict[str, Any]:
        """List dark, bright, low-contrast or blurred images, images between clusters, or outliers.

        Parameters
        ----------
        kind : {"dark", "bright", "low-contrast", "blurred", "border", "outliers"}
            What is wanted.
        *of : int
            Of `border` the two clusters, or none for any two.
        limit : int, optional
            Most images to list, the clearest first; by default 100, and all of them
            where they are written to a file.
        out : path, optional
            New CSV file to write the images to instead.

        Returns
        -------
        dict
            ``n_images`` of that kind among all ``n_samples``, a ``sentence`` that says what
            they are, and ``images``, those listed, with ``sample``, ``label`` and what decided.
        """
        return gallery(self.path, kind, of, limit=limit, out=out)

    def report(self, columns: Path | str | pd.DataFrame | None = None) -> Path:
        """Write the page again.

        Parameters
        ----------
        columns : path or DataFrame, optional
            Table, .csv or .parquet, whose columns colour the map, by its ``sample`` or
            ``path``; the run keeps them.  ``"none"`` takes them away.

        Returns
        -------
        Path
            The page.
        """
        if columns is not None:
            keep_columns(self.path, columns)
        return report(self.path)

    def explore(self, *, height: int = 800) -> Explorer:
        """Show the page in a notebook; what is selected on it is `selection`.

        Parameters
        ----------
        height : int
            Height [pixels].

        Returns
        -------
        Explorer
            A widget: ``selection``, as here; ``select(cluster=12)`` selects from Python.

        Raises
        ------
        StoreError
            If the run has no page, or the page no map.
        ConfigError
            If anywidget is not installed, which ``overcluster[notebook]`` brings.
        """
        self._explorer = open_explorer(RunStore.open(self.path), height)
        return self._explorer

    @property
    def selection(self) -> NDArray[np.int64]:
        """Images selected on the page that `explore` shows: rising rows, of shape (n_selected,).

        All images of the cluster, the family, the group or the rectangle, also those that the page does not show.

        Raises
        ------
        ConfigError
            If the page is not shown yet.
        StoreError
            If the run has got other labels since.
        """
        if self._explorer is None:
            msg = "images are selected on the page of this run; it is not open. Call `run.explore()` first."
            raise ConfigError(msg)
        return self._explorer.selection

    def __repr__(self) -> str:
        return reprs.text_of(self.path)

    def _repr_html_(self) -> str:
        return reprs.html_of(self.path)
