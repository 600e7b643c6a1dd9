"""duplicates: groups of equal images, from the hash of each; centroids that hold near-duplicates only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import images_of, require_labels
from workflow.engine.progress import Progress
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, StoreError
from workflow.formatting import format_count
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.duplicates import (
    GROUP,
    ROWS_AT_ONCE,
    HashesOfRows,
    HashGroups,
    stored_hashes,
)
from workflow.steps.overcluster import stored_duplicate_cells

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.mapper import Rows

#: Members of a group that are listed, and shown to a person.
MAX_LISTED, MAX_SHOWN = 1000, 5


def duplicates(
    run: Path | str, *, near: bool = False, limit: int = 100, progress: Progress | None = None
) -> dict[str, Any]:
    """List groups of duplicate images.

    Images are exact duplicates when all their bytes are equal, which their
    hashes tell.  A run without hashes, made by an earlier version or with
    ``profile: reference``, has its images read instead.

    Parameters
    ----------
    run : path
        A run with labels.
    near : bool
        Whether centroids that hold near-duplicates only are listed, too.
    limit : int
        Most groups that are listed, the largest first.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``n_samples``; ``n_groups``, ``n_images`` and ``n_copies``
        of exact duplicates; ``near_groups`` and ``near_images``; ``groups``,
        each with ``kind``, ``size``, the first thousand ``indices``, rising,
        and their ``paths`` where images have file names.

    Raises
    ------
    ConfigError
        If `limit` is below 1.
    StoreError
        If the run has no labels, it has no hashes and its images are gone, or
        the disk is full.

    See Also
    --------
    workflow.row_hashes.row_hashes : The hash, and how rarely two images share one.

    Notes
    -----
    0.0 and -0.0 are other bytes.  NaN is in no image of a run.

    Hashes are put on disk in the run folder while this runs (24 bytes an
    image), in buckets by their first bits.  Memory: some 100 MiB for a bucket,
    whatever is equal to what.

    Near-duplicates are found where a centroid holds nothing else: those that
    share their centroid with other images are not.
    """
    if limit < 1:
        msg = f"`limit` must be at least 1 group; got {limit}. Raise it."
        raise ConfigError(msg)
    store = RunStore.open(run)
    with store.lock():
        require_labels(store)
        return _find_duplicates(store, near=near, limit=limit, progress=progress or Progress())


def _find_duplicates(
    store: RunStore, *, near: bool, limit: int, progress: Progress
) -> dict[str, Any]:
    """List the groups of a run that is locked."""
    place = store.wip("duplicates")
    try:
        grouped = _grouped(store, place, progress)
        exact, n_groups, n_images = np.empty(0, GROUP), 0, 0
        for table in grouped.groups():
            n_groups, n_images = n_groups + len(table), n_images + int(table["size"].sum())
            exact = _largest(np.concatenate([exact, table]), limit)
        cells = _near_cells(store) if near else np.empty(0, GROUP)
        chosen = [("exact", group) for group in exact]
        chosen += [("near", group) for group in _largest(cells, limit)]
        chosen.sort(key=lambda item: (-item[1]["size"], item[0], item[1]["first"]))
        chosen = chosen[:limit]
        of_kind = {
            kind: np.array([group for of, group in chosen if of == kind], GROUP)
            for kind in ("exact", "near")
        }
        members = {
            "exact": grouped.members(of_kind["exact"], MAX_LISTED),
            "near": _cell_members(store, of_kind["near"]["first"].tolist()),
        }
    finally:
        discard(place)
    groups = [
        {"kind": kind, "size": int(group["size"]), "indices": members[kind][int(group["first"])]}
        for kind, group in chosen
    ]
    _add_paths(store, groups)
    return {
        "run": str(store.path),
        "n_samples": _n_samples(store),
        "n_groups": n_groups,
        "n_images": n_images,
        "n_copies": n_images - n_groups,
        "near_groups": len(cells),
        "near_images": int(cells["size"].sum()),
        "groups": groups,
    }


def describe(found: dict[str, Any], *, near: bool) -> str:
    """Return the groups for a person, one a line, and the totals."""
    lines = []
    for group in found["groups"]:
        shown = [str(name) for name in group.get("paths", group["indices"])[:MAX_SHOWN]]
        first = [str(index) for index in group["indices"][:MAX_SHOWN]]
        more = ["..."] if group["size"] > MAX_SHOWN else []
        line = f"{group['kind']:5} {group['size']:9,} images: {', '.join(first + more)}"
        lines.append(line + (f"  ({', '.join(shown + more)})" if "paths" in group else ""))
    n_found = found["n_groups"] + found["near_groups"]
    if n_found > len(found["groups"]):
        lines.append(f"the largest {len(found['groups']):,} of {n_found:,}; --limit lists more")
    lines.append(
        f"{format_count(found['n_groups'], 'group')} of exact duplicates: {found['n_images']:,} of "
        f"{found['n_samples']:,} images, {found['n_copies']:,} of them copies"
    )
    if near:
        lines.append(
            f"{format_count(found['near_groups'], 'centroid')} with nothing but near-duplicates: "
            f"{format_count(found['near_images'], 'image')}. Near-duplicates that share a centroid "
            "with other images are not looked for"
        )
    return "\n".join(lines)


def _largest(table: NDArray[Any], limit: int) -> NDArray[Any]:
    """Return the largest groups, ties by their first row."""
    return table[np.lexsort((table["first"], -table["size"]))[:limit]]


def _grouped(store: RunStore, place: Path, progress: Progress) -> HashGroups:
    """Return the images of a run by their hashes: those stored, or taken from the images now."""
    n_samples, block_rows = rows_and_blocks(store)
    hashes: Rows | None = stored_hashes(store)
    name, rows_at_once = "duplicates: hashes", ROWS_AT_ONCE
    if hashes is None:
        images = images_of(store)
        if images is None:
            msg = f"`duplicates` must find the hashes of the images, or the images; {store.path} keeps no hashes, and {store.manifest.images['path']} is gone or altered. Put the images back."
            raise StoreError(msg)
        hashes, rows_at_once = HashesOfRows(images), block_rows
        name = "duplicates: images, for the run keeps no hashes"
    with progress.bar(name, n_samples) as bar:
        return HashGroups.make(place, hashes, rows_at_once, bar)


def _near_cells(store: RunStore) -> NDArray[Any]:
    """Return the cells of near-duplicates as groups; `first` is the centroid."""
    population, max_distance = store.read_model("population", "max_distance")
    cells = stored_duplicate_cells(store)
    # A cell whose scores are equal to float32, not bit for bit.
    centroid = np.flatnonzero((cells.is_near | cells.is_exact) & (max_distance > 0))
    table = np.zeros(len(centroid), GROUP)
    table["size"], table["first"] = population[centroid], centroid
    return table


def _cell_members(store: RunStore, centroids: list[Any]) -> dict[int, list[int]]:
    """Return the first images of cells, by the centroid of each."""
    found: dict[int, list[int]] = {int(centroid): [] for centroid in centroids}
    for rows in _blocks(store) if found else ():
        nearest = zarr_io.read_rows(layout.nearest(store.path), "nearest", *rows)[:, 0]
        here = np.flatnonzero(np.isin(nearest, list(found)))
        order = here[np.argsort(nearest[here], kind="stable")]
        starts = np.flatnonzero(np.diff(nearest[order])) + 1
        for run in np.split(order, starts) if len(order) else ():
            listed = found[int(nearest[run[0]])]
            listed += (rows.start + run[: MAX_LISTED - len(listed)]).tolist()
    return found


def _add_paths(store: RunStore, groups: list[dict[str, Any]]) -> None:
    """Add the file names of the listed images, where there are some."""
    labels = store.path / layout.LABELS
    if "path" not in zarr_io.array_names(labels):
        return
    listed = np.unique(np.array([i for group in groups for i in group["indices"]], np.int64))
    names: dict[int, str] = {}
    for rows in _blocks(store):
        here = listed[slice(*np.searchsorted(listed, rows))]
        if len(here):
            block = zarr_io.read_rows(labels, "path", *rows)
            names |= {int(index): str(block[index - rows.start]) for index in here}
    for group in groups:
        group["paths"] = [names[index] for index in group["indices"]]


def _n_samples(store: RunStore) -> int:
    """Return the number of images of a run."""
    n: int = store.manifest.images["shape"][0]
    return n


def _blocks(store: RunStore) -> Any:
    """Return the row ranges in which images, scores and labels of a run are stored."""
    return row_ranges(*rows_and_blocks(store))
