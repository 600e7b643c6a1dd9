"""export: labels, and what belongs to them, as other programs read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import cluster_number, require_labels
from workflow.commands.export.pictures import (
    LINKS,
    Pictures,
    atlas_frames,
    write_fiftyone,
    write_folders,
)
from workflow.commands.export.places import new_place, replaced_when_whole
from workflow.commands.export.tables import (
    TABLES,
    Frames,
    OwnColumns,
    require_pyarrow,
    write_table,
)
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.runstore import RunStore, layout, zarr_io
from workflow.steps.browsing.members import READ_ROWS, strongest_of_each
from workflow.steps.neighbors import has_neighbors
from workflow.steps.parts.clusters.counts import clusters_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

#: What can be written, and the endings of those that are files.
FORMATS: dict[str, tuple[str, ...]] = {
    "csv": (".csv",),
    "parquet": (".parquet",),
    "folder": (),
    "fiftyone": (),
    "atlas": (".parquet",),
}
#: Images of a row group of Parquet, and of what is held at a time; with pictures fewer.
GROUP_ROWS, PICTURE_ROWS = 2**17, 2**12


def export(
    run: Path | str,
    to: Path | str,
    *,
    format: str | None = None,  # noqa: A002
    columns: Path | str | None = None,
    clusters: Sequence[int | str] | None = None,
    limit: int | None = None,
    link: str = "symlink",
    files: Path | str | None = None,
) -> dict[str, Any]:
    """Write the images of a run with their labels for another program.

    Parameters
    ----------
    run : path
        A run with labels.
    to : path
        New file or folder, which is there once it is whole.
    format : {"csv", "parquet", "folder", "fiftyone", "atlas"}, optional
        By default what the ending of `to` says, .csv or .parquet, or a folder
        where there is no ending.
    columns : path, optional
        Table of the user's, .csv or .parquet, whose columns are added; its
        column ``sample`` or ``path`` says to which image a row belongs.
    clusters : sequence of int or str, optional
        Numbers or names of clusters, -1 or ``noise`` for noise; all by default.
    limit : int, optional
        Images of each cluster at most, the strongest.
    link : {"symlink", "hardlink", "copy"}
        How files come into the folders; images that are no files are written as PNG.
    files : path, optional
        Folder of the files that the images were read from, where it is another one now.

    Returns
    -------
    dict
        JSON-able: ``run``, ``to``, ``format`` and ``n_images``.

    Raises
    ------
    ConfigError
        If an option is unknown or does not go with the run, `to` is there, or
        rows of `columns` belong to no image.
    ImagesError
        If pictures are wanted, and images are vectors or gone.
    StoreError
        If the run has no labels, or the disk refuses.

    Notes
    -----
    Images come in their order, in groups of 131,072 (4,096 with pictures),
    however the run is stored: the same bytes with the same versions of pandas
    and pyarrow.  Memory is that of a group, of `columns` and, with `limit`, of
    the images chosen.
    """
    store = RunStore.open(run)
    require_labels(store)
    kind = _format_of(to, format)
    target = new_place(to, "--to", FORMATS[kind])
    if limit is not None and limit < 1:
        msg = f"`--limit` must be at least 1 image of a cluster; got {limit}. Raise it."
        raise ConfigError(msg)
    if link not in LINKS:
        msg = f"`--link` must be {', '.join(LINKS)}; got {link!r}. Give one of them."
        raise ConfigError(msg)
    if target.suffix == ".parquet":
        require_pyarrow()
    summary = read_summary(store)
    wanted = None if clusters is None else [cluster_number(summary, c) for c in clusters]
    pictures = None if kind in ("csv", "parquet") else Pictures(store, files)
    own = None if columns is None else OwnColumns(columns, store)
    rows = chosen_rows(store, wanted, limit)
    frames = Frames(store, own)
    if kind == "atlas" and "x" not in frames.columns:
        msg = f"`--format atlas` must have a map; {store.path} has none. Run it again with --set map.enabled=true."
        raise ConfigError(msg)
    groups = frames.of(regrouped(rows, GROUP_ROWS if pictures is None else PICTURE_ROWS))
    names = summary.get("cluster_names", {})
    has_near = kind == "atlas" and wanted is None and limit is None and has_neighbors(store)
    with replaced_when_whole(target) as partial:
        if pictures is None:
            write_table(partial, groups)
        elif kind == "folder":
            write_folders(partial, groups, pictures, names, link)
        elif kind == "fiftyone":
            write_fiftyone(partial, groups, pictures, names, clusters_of(summary))
        else:
            near = store.path / layout.NEIGHBORS if has_near else None
            write_table(partial, atlas_frames(groups, pictures, near))
    found = {"run": str(store.path), "to": str(target), "format": kind, "n_images": frames.n_rows}
    return found | ({"has_neighbors": has_near} if kind == "atlas" else {})


def _format_of(to: Path | str, given: str | None) -> str:
    """Return the format that was given, or that the ending stands for."""
    ending = Path(to).suffix.lower()
    known = given or {e: e[1:] for e in TABLES}.get(ending, "" if ending else "folder")
    if known not in FORMATS:
        got = repr(given) if given else f"{to} without --format"
        msg = f"`--format` must be {', '.join(FORMATS)}; got {got}. Give one, or a name that ends in {' or '.join(TABLES)}."
        raise ConfigError(msg)
    return known


def chosen_rows(
    store: RunStore, clusters: Sequence[int] | None, limit: int | None
) -> Iterator[NDArray[np.int64]]:
    """Yield the rising rows of the images of some clusters, or of all, the strongest of each."""
    if limit is not None:
        yield strongest_of_each(store, limit, clusters)
        return
    for block in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
        rows = np.arange(*block)
        if clusters is not None:
            label = zarr_io.read_rows(store.path / layout.LABELS, "label", *block)
            rows = rows[np.isin(label, clusters)]
        yield rows


def regrouped(parts: Iterable[NDArray[np.int64]], size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the same rows in groups of one size; the last may be smaller.

    Examples
    --------
    >>> [g.tolist() for g in regrouped([np.arange(3), np.arange(0), np.arange(3, 5)], 2)]
    [[0, 1], [2, 3], [4]]
    """
    waiting = np.empty(0, np.int64)
    for part in parts:
        waiting = np.concatenate([waiting, part])
        n_whole = len(waiting) // size * size
        yield from waiting[:n_whole].reshape(-1, size)
        waiting = waiting[n_whole:]
    if len(waiting):
        yield waiting


def describe(found: dict[str, Any]) -> str:
    """Return what was written, for a person."""
    text = f"{format_count(found['n_images'], 'image')}: {found['to']}"
    if found["format"] == "fiftyone":
        text += "\nin Python: fiftyone.Dataset.from_dir(dataset_dir=..., dataset_type=fiftyone.types.FiftyOneImageClassificationDataset)"
    if found["format"] == "atlas":
        text += f"\nembedding-atlas {found['to']} --x x --y y --image image"
        text += " --neighbors neighbors" if found["has_neighbors"] else ""
    return text
