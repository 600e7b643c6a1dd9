"""Rows of a run by what is stored of them: members of a cluster, outliers, and their images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from workflow.errors import ConfigError, ImagesError
from workflow.formatting import format_numbers
from workflow.ingest import dims_of
from workflow.labels import NOISE_LABEL
from workflow.pca import ImageStatistics
from workflow.runstore.stored_rows import rows_as_dask
from workflow.steps import model_arrays
from workflow.steps.browsing.galleries import require_statistics
from workflow.steps.browsing.members import Ranked, ends
from workflow.steps.families import family_sizes
from workflow.steps.parts.clusters.counts import clusters_of
from workflow.steps.parts.clusters.lineage import COLUMNS, lineage_rows
from workflow.steps.parts.notes import STATISTICS
from workflow.steps.tree import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore
    from workflow.steps.browsing.members import Ranking

#: Most rows returned at once; the lazy `Run.dataset` has all.
MAX_ROWS = 100_000
#: Bytes of a block of the lazy images: small, since a few images are asked for more often than all.
BLOCK_BYTES = 8 * 2**20


def _with_sample(dataset: xr.Dataset) -> xr.Dataset:
    """Give a dataset the coordinate ``sample``; a range, which takes no memory."""
    index = pd.RangeIndex(dataset.sizes["sample"], name="sample")
    return dataset.assign_coords(sample=index)


def open_labels(path: Path) -> xr.Dataset:
    """Open a labels store as Dask arrays, with the coordinate ``sample``.

    Only ``label`` is read when it is looked at, without Dask, and not kept:
    xarray chooses rows by a mask in memory only, and the mask is of labels.
    """
    dataset = _with_sample(xr.open_zarr(path))
    return dataset.assign(label=_plainly(path)["label"])


def _plainly(path: Path) -> xr.Dataset:
    """Open a labels store so that what is looked at is read, a chunk at a time."""
    return _with_sample(xr.open_dataset(path, engine="zarr", chunks=None, cache=False))


def lazy_images(images: ImageStore, labels: xr.Dataset) -> xr.DataArray:
    """Return images in their shape as a lazy array with the coordinates of the labels.

    Parameters
    ----------
    images : ImageStore
        The images of a run.
    labels : xarray.Dataset
        Its labels.

    Returns
    -------
    xarray.DataArray of shape (n_samples, ...)
        Dimensions ``sample``, ``y``, ``x``, ``channel`` as far as there are such.
    """
    stored = images.stored_rows or 1
    row_bytes = max(1, images.n_features * images.dtype.itemsize)
    n_rows = max(1, BLOCK_BYTES // row_bytes // stored) * stored
    rows = rows_as_dask(images, min(n_rows, images.n_samples))
    coords = {name: labels.coords[name] for name in ("sample", "path") if name in labels.coords}
    return xr.DataArray(
        rows.reshape((images.n_samples, *images.image_shape)),
        dims=dims_of(images.image_shape),
        coords=coords,
        name="images",
    )


def ranked_rows(
    store: RunStore, ranking: Ranking, n: int, *, offset: int = 0, weakest: bool = False
) -> NDArray[np.int64]:
    """Return the first `n` rows of a ranking after the first `offset`; or of its end, last one first.

    One pass over three arrays; memory is that of a block, whatever the number of images.
    """
    if not 1 <= n <= MAX_ROWS:
        msg = f"`n` must be 1 to {MAX_ROWS:,} images; got {n}. Use run.dataset, which is lazy, for more."
        raise ConfigError(msg)
    if offset < 0:
        msg = f"`offset` must not be negative; got {offset}. 0 begins with the first image."
        raise ConfigError(msg)
    ranked = Ranked(store, ranking, keep=ends(offset + n, weakest=weakest))
    return ranked.page(offset, n, weakest=weakest)


def open_model(path: Path) -> xr.Dataset:
    """Open the documented arrays of a model store as Dask arrays, in the order of the steps."""
    model: xr.Dataset = xr.open_zarr(path, consolidated=False)
    return model[[name for name in model_arrays() if name in model]]


def layer_table(store: RunStore) -> pd.DataFrame:
    """Return how many clusters each layer of the tree of a run has, and how large; see `Run.layers`."""
    population, layers = store.read_model("population", "layers")
    sizes = [np.bincount(layer[layer >= 0], population[layer >= 0]) for layer in layers]
    names: list[int | str] = list(range(len(layers)))
    families = family_sizes(store)
    if len(families):
        sizes.append(families[families > 0])
        names.append(FAMILIES)
    n_samples = store.manifest.images["shape"][0]
    columns = {
        "n_clusters": [len(size) for size in sizes],
        "largest": [int(size.max()) for size in sizes],
        "median": [float(np.median(size)) for size in sizes],
        "smallest": [int(size.min()) for size in sizes],
        "noise_fraction": [1 - float(size.sum()) / n_samples for size in sizes],
    }
    return pd.DataFrame(columns, index=pd.Index(names, name="layer"))


def lineage_table(store: RunStore) -> pd.DataFrame:
    """Return what became of the clusters of a run, a line for each change; see `Run.lineage`."""
    columns = ["state", "date", "done", *COLUMNS[1:]]
    table = pd.DataFrame(lineage_rows(store), columns=columns)
    return table.assign(date=pd.to_datetime(table["date"], utc=True))


def open_statistics(store: RunStore) -> xr.Dataset:
    """Open brightness, contrast and sharpness of the images of a run as Dask arrays; see `Run.statistics`."""
    stored = xr.open_zarr(require_statistics(store), consolidated=False)[STATISTICS]
    columns = {n: stored[:, i].variable for i, n in enumerate(ImageStatistics._fields)}
    return _with_sample(xr.Dataset(columns))


def require_label(label: int, summary: Mapping[str, Any]) -> None:
    """Refuse a label that is none of a cluster or of noise."""
    known = clusters_of(summary)
    if label != NOISE_LABEL and label not in known:
        msg = f"`label` must be {format_numbers(known)}, or -1 for noise; got {label}. See run.n_clusters."
        raise ConfigError(msg)


def rows_with_images(path: Path, rows: NDArray[np.int64], images: ImageStore | None) -> xr.Dataset:
    """Return labels and, where they are at hand, images of some rows, in memory.

    Parameters
    ----------
    path : Path
        The labels store.
    rows : int64 array of shape (n,)
        Rows wanted, in any order.
    images : ImageStore or None
        The images; None leaves them out.

    Returns
    -------
    xarray.Dataset
        With coordinate ``sample``, the row; ``images`` has their shape.
    """
    # Without Dask: a chunk is decoded for a row, not the block around it.
    found = _plainly(path).isel(sample=rows).load()
    if images is None:
        return found
    read = [images.read(int(row), int(row) + 1) for row in rows]
    empty = np.empty((0, images.n_features), images.dtype)
    pixels = np.concatenate([empty, *read]).reshape(-1, *images.image_shape)
    return found.assign(images=(dims_of(images.image_shape), pixels))


def require_images(images: ImageStore | None, name: str) -> ImageStore:
    """Return images, or say that they are gone."""
    if images is None:
        msg = f"the images of a run must be where they were, unchanged; {name} is gone or holds others. Put them back."
        raise ImagesError(msg)
    return images
