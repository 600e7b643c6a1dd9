"""The Python face: `workflow.run` and the `Run` it returns."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from workflow.config import load_config
from workflow.errors import ComputeError
from workflow.pipeline import commands
from workflow.pipeline.progress import Progress
from workflow.pipeline.runner import read_summary, run_pipeline
from workflow.report import summary_html
from workflow.runstore import RunStore, layout

if TYPE_CHECKING:
    from collections.abc import Mapping

    import dask.array as da
    from distributed import Client


class Run:
    """A run folder whose labels are there.

    Parameters
    ----------
    path : path
        The run folder.
    client : distributed.Client, optional
        Where recuts and predictions run; opened when needed by default.

    Attributes
    ----------
    path : Path
        The run folder.
    """

    def __init__(self, path: Path | str, *, client: Client | None = None) -> None:
        self.path = RunStore.open(path).path
        self._client = client

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
        """The labels as an `xarray.Dataset` of Dask arrays with dimension ``sample``."""
        labels: xr.Dataset = xr.open_zarr(self.path / layout.LABELS)
        return labels

    @property
    def labels(self) -> da.Array:
        """Cluster of each image: int32 Dask array of shape (n_samples,), -1 is noise."""
        labels: da.Array = self.dataset["label"].data
        return labels

    def recut(
        self,
        n_clusters: int | None = None,
        *,
        min_cluster_size: int | None = None,
        layer: int | None = None,
    ) -> Run:
        """Give the run other labels from its stored tree; return the run itself."""
        commands.recut(
            self.path,
            n_clusters=n_clusters,
            min_cluster_size=min_cluster_size,
            layer=layer,
            client=self._client,
        )
        return self

    def predict(self, images: Any, out: Path | str | None = None) -> xr.Dataset:
        """Label new images.

        Parameters
        ----------
        images : path or array
            Anything that `workflow.run` takes.
        out : path, optional
            Zarr store to write; ``predicted.zarr`` in the run folder by default.

        Returns
        -------
        xarray.Dataset
            The labels, as `dataset` has them.
        """
        target = Path(out) if out is not None else self.path / "predicted.zarr"
        commands.predict_images(self.path, images, target, client=self._client)
        labels: xr.Dataset = xr.open_zarr(target)
        return labels

    def duplicates(self, *, near: bool = False, limit: int = 100) -> dict[str, Any]:
        """List groups of duplicate images.

        Parameters
        ----------
        near : bool
            Whether cells of near-duplicates are listed, too.
        limit : int
            Most groups to list, the largest first.

        Returns
        -------
        dict
            ``groups``, each with ``kind``, ``size``, ``indices`` (the first
            thousand) and ``paths`` where images have file names; and totals.
        """
        return commands.duplicates(self.path, near=near, limit=limit)

    def report(self) -> Path:
        """Write the report again; return the path of the page."""
        return commands.report(self.path)

    def __repr__(self) -> str:
        summary = self.summary
        return f"Run({str(self.path)!r}, n_samples={summary['n_samples']}, n_clusters={summary['n_clusters']})"

    def _repr_html_(self) -> str:
        return summary_html(self.summary)


def run(
    images: Any,
    out: Path | str,
    *,
    client: Client | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    compute: str | None = None,
    progress: bool = True,
) -> Run:
    """Find the clusters of images; the same call again resumes where it stopped.

    Parameters
    ----------
    images : path, ndarray, dask.array.Array or xarray.DataArray
        Images of shape (n_samples, ...); the first dimension is the sample.
        uint8, uint16, float16, float32 or float64.  Zarr and ``.npy`` are read
        in place, everything else is copied into the run folder.
    out : path
        The run folder: new, empty, or one that was begun with the same images.
    client : distributed.Client, optional
        Where to run; workers on this machine are started by default.
    config : path, optional
        YAML file of settings.
    settings : mapping, optional
        Settings that win over the file, nested or with dotted keys:
        ``{"pca.n_components": 50}``.
    compute : str, optional
        A name or file of ``cluster_configs/``, or ``tcp://HOST:PORT``.
    progress : bool
        Whether progress is shown.

    Returns
    -------
    Run
        With ``n_clusters``, ``labels``, ``dataset``, ``recut``, ``predict`` and
        ``report``.

    Raises
    ------
    workflow.errors.WorkflowError
        If the images, the settings or the run folder are not as required.
    """
    if client is None and getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker imports the script that starts it: without a guard it would start workers, too.
        msg = 'a script must call workflow.run under `if __name__ == "__main__":`; got a call while a worker imports it. Indent the call under that line.'
        raise ComputeError(msg)
    loaded = load_config(config, settings or {}, compute=compute)
    store = run_pipeline(images, out, loaded, client=client, progress=Progress(enabled=progress))
    return Run(store.path, client=client)
