"""What starts work from Python: `workflow.run`, `workflow.embed`, and `workflow.load_model`."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.api import Run
from workflow.commands.ingest import embed as _embed
from workflow.commands.predict import Model
from workflow.commands.run import run_workflow
from workflow.errors import ComputeError
from workflow.notebook.live import watched
from workflow.steps import load_config

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client
    from numpy.typing import NDArray


def run(
    images: Any,
    out: Path | str,
    *,
    client: Client | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    compute: str | None = None,
    fresh_settings: bool = False,
    progress: bool | None = None,
) -> Run:
    """Find the clusters of images; the same call again resumes where it stopped.

    Parameters
    ----------
    images : path, ndarray, dask.array.Array or xarray.DataArray
        Images of shape (n_samples, ...); the first dimension is the sample.
        uint8, uint16, float16, float32 or float64.  Zarr and ``.npy`` are read
        in place, everything else is copied into the run folder.
    out : path
        The run folder, or its address at ``s3://``, ``gs://`` or ``az://``: new, empty, or one that was begun with the same images,
        which keeps its settings: they win over the defaults, what is given
        here wins over them.
    client : distributed.Client, optional
        Where to run; workers on this machine are started by default.
    config : path, optional
        YAML file of settings.
    settings : mapping, optional
        Settings that win over the file, nested or with dotted keys:
        ``{"pca.n_components": 50}``.
    compute : str, optional
        A name or file of ``cluster_configs/``, or ``tcp://HOST:PORT``.
    fresh_settings : bool
        Whether the settings of an existing run folder are left aside.
    progress : bool, optional
        Whether progress is shown: in a notebook as bars under the cell, in a
        terminal as a bar, in a log as lines.  By default it is.

    Returns
    -------
    Run
        With ``n_clusters``, ``dataset``, ``images``, ``members``, ``plot``,
        ``recut``, ``predict`` and ``report``; a notebook shows it.

    Raises
    ------
    workflow.errors.WorkflowError
        If the images, the settings or the run folder are not as required.
    """
    _require_guard(client)
    loaded = load_config(config, settings or {}, compute=compute)
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    if client is None and loaded.config.compute.launcher == "local" and script.endswith("<stdin>"):
        msg = "worker processes import the script that starts them; got one from standard input, which they cannot. Save it to a file and run that."
        raise ComputeError(msg)
    with watched(Path(out).name, enabled=progress is not False) as shown:
        store = run_workflow(
            images, out, loaded, client=client, fresh_settings=fresh_settings, progress=shown
        )
    return Run(store.path, client=client)


def load_model(run: Path | str) -> Model:
    """Load what a run labels images with, for many short calls in one process, without Dask.

    Parameters
    ----------
    run : path
        A run with labels.

    Returns
    -------
    Model
        ``model.predict(images)`` labels one image or an array of them; of a generator,
        ``map(model.predict, generator)`` does.
    """
    return Model(run)


def embed(
    images: Any,
    out: Path | str,
    model: Callable[[NDArray[Any]], Any] | Path | str,
    *,
    batch_rows: int | None = None,
    version: str | None = None,
    client: Client | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    compute: str | None = None,
    progress: bool | None = None,
) -> Path:
    """Write the vectors that a model gives of images, to be clustered by `run`; resumes where it stopped.

    Parameters
    ----------
    images : path or array
        Anything that `run` takes.
    out : path
        The Zarr store of the vectors, NAME.zarr; file names of images are kept there.
    model : callable or path
        Takes a batch of images of shape (n_images, ...), as they are stored, and returns vectors of
        shape (n_images, n_features), the same whatever else is in the batch; or an ONNX file.
    batch_rows : int, optional
        Images of a call, at most; by default 64.
    version : str, optional
        What tells a function from others: a copy that was interrupted goes on only with the same.  By
        default that is its pickled bytes, which may differ from session to session.
    client : distributed.Client, optional
        Where to run; workers on this machine are started by default.
    config, settings, compute, progress : optional
        As `run` takes them; ``ingest`` and ``compute`` of the settings are used.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    workflow.errors.WorkflowError
        If the images or the model are not as required, or a vector holds NaN.

    Notes
    -----
    Each worker loads the function once.  An array in memory is worked through in this process;
    save it as .npy or Zarr to use all workers.
    """
    _require_guard(client)
    loaded = load_config(config, settings or {}, compute=compute)
    with watched(Path(out).name, enabled=progress is not False) as shown:
        calls: dict[str, Any] = {"batch_rows": batch_rows, "version": version}
        found = _embed(
            images, Path(out), model, loaded.config, **calls, client=client, progress=shown
        )
    return Path(found["images"])


def _require_guard(client: Client | None) -> None:
    """Refuse to start workers from a worker, which imports the script that started it."""
    if client is None and getattr(multiprocessing.current_process(), "_inheriting", False):
        msg = 'a script must call workflow.run under `if __name__ == "__main__":`; got a call while a worker imports it. Indent the call under that line.'
        raise ComputeError(msg)
