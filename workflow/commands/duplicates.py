"""duplicates: groups of equal images, from the hash of each, and of near-duplicates, from the nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import images_of, require_labels
from workflow.commands.similar import require_neighbors
from workflow.engine.progress import Progress
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, StoreError
from workflow.formatting import format_count
from workflow.neighbors.near import MAX_DIAMETER, find_dip, quantile_of
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.parts.duplicates import (
    GROUP,
    ROWS_AT_ONCE,
    HashesOfRows,
    HashGroups,
    stored_hashes,
)
from workflow.steps.parts.near_duplicates import NEAR_GROUP, NearGroups, StoredNeighbors
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.mapper import Rows

#: Members of a group that are listed, and shown to a person.
MAX_LISTED, MAX_SHOWN = 1000, 5
#: Shares of the images whose nearest distances are told.
SHARES = (0.001, 0.01, 0.1, 0.5)


def duplicates(
    run: Path | str,
    *,
    near: bool = False,
    within: float | None = None,
    limit: int = 100,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """List groups of duplicate images.

    Images are exact duplicates when all their bytes are equal, which their
    hashes tell.  A run without hashes, made by an earlier version or with
    ``profile: reference``, has its images read instead.

    Near-duplicates are images whose scores lie within a radius, grouped so that
    no two of a group are more than twice the radius apart.

    Parameters
    ----------
    run : path
        A run with labels.
    near : bool
        Whether near-duplicates are listed, too; the run must have nearest neighbours.
    within : float, optional
        The radius [score]; near-duplicates are listed.  By default it is the dip
        in the distribution of the distances to the nearest image.
    limit : int
        Most groups that are listed, the largest first.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    dict
        JSON-able: ``n_samples``; ``n_groups``, ``n_images`` and ``n_copies``
        of exact duplicates; ``near_groups`` and ``near_images``, exact
        duplicates among them counted too (both None where there is no radius
        or near-duplicates were not asked for); ``within``, the radius;
        ``nearest_distances``, the distances to the nearest image that is not
        equal, by the share of the images below; ``groups``, each with ``kind``, ``size``,
        the first thousand ``indices``, rising, and their ``paths`` where images
        have file names.  Near groups also have ``diameter``, the largest
        distance between two of their images [score], and ``chain``, the number
        of images that hang together with them link by link.

    Raises
    ------
    ConfigError
        If `limit` is below 1, or `within` not above 0.
    StoreError
        If the run has no labels, it has no hashes and its images are gone, it has
        no neighbours and near-duplicates are wanted, or the disk is full.

    See Also
    --------
    workflow.row_hashes.row_hashes : The hash, and how rarely two images share one.
    workflow.neighbors.near.find_dip : What counts as a dip.
    workflow.neighbors.near.near_groups : How images are grouped.

    Notes
    -----
    0.0 and -0.0 are other bytes.  NaN is in no image of a run.

    Hashes are put on disk in the run folder while this runs (24 bytes an
    image), in buckets by their first bits.  Memory: some 100 MiB for a bucket,
    whatever is equal to what.  Near-duplicates take 4 bytes of memory an image,
    and of those that hang together some 600 bytes each.
    """
    if limit < 1:
        msg = f"`limit` must be at least 1 group; got {limit}. Raise it."
        raise ConfigError(msg)
    if within is not None and not 0 < within < np.inf:
        msg = f"`within` must be a distance above 0; got {within}. `duplicates --near` tells usual ones."
        raise ConfigError(msg)
    store = RunStore.open(run)
    with store.lock():
        require_labels(store)
        place = store.wip("duplicates")
        try:
            return _find_duplicates(
                store,
                place,
                near=near or within is not None,
                within=within,
                limit=limit,
                progress=progress or Progress(),
            )
        finally:
            discard(place)


def _find_duplicates(
    store: RunStore,
    place: Path,
    *,
    near: bool,
    within: float | None,
    limit: int,
    progress: Progress,
) -> dict[str, Any]:
    """List the groups of a run that is locked."""
    # First, for it may be refused.
    neighbors = require_neighbors(store) if near else None
    hashes, rows_at_once, name = _hashes(store)
    with progress.bar(name, hashes.n_samples) as bar:
        grouped = HashGroups.make(place / "exact", hashes, rows_at_once, bar)
    exact, n_groups, n_images = grouped.largest(limit)
    found: dict[str, Any] = {
        "run": str(store.path),
        "n_samples": hashes.n_samples,
        "n_groups": n_groups,
        "n_images": n_images,
        "n_copies": n_images - n_groups,
        "near_groups": None,
        "near_images": None,
    }
    close: NearGroups | None = None
    if neighbors is not None:
        stored = StoredNeighbors(neighbors, stored_scores(store), hashes, rows_and_blocks(store)[1])
        with progress.bar("duplicates: nearest distances", hashes.n_samples) as bar:
            counts = stored.count_distances(bar)
        radius = find_dip(counts) if within is None else within
        distances = {str(share): quantile_of(counts, share) for share in SHARES}
        found |= {"within": radius, "nearest_distances": distances}
        if radius is not None:
            with progress.bar("duplicates: neighbours", hashes.n_samples) as bar:
                close = NearGroups.make(stored, radius, limit, place / "near", bar)
            found |= {"near_groups": close.n_groups, "near_images": close.n_images}
    chosen = [("exact", group) for group in exact]
    chosen += [("near", group) for group in (close.largest if close is not None else ())]
    chosen.sort(key=lambda item: (-item[1]["size"], item[0], item[1]["first"]))
    found["groups"] = _listed(grouped, close, chosen[:limit])
    _add_paths(store, found["groups"])
    return found


def _listed(
    exact: HashGroups, near: NearGroups | None, chosen: list[tuple[str, Any]]
) -> list[dict[str, Any]]:
    """Return groups with their first images."""
    of_kind = {
        kind: np.array([group for of, group in chosen if of == kind], dtype)
        for kind, dtype in (("exact", GROUP), ("near", NEAR_GROUP))
    }
    members = {"exact": exact.members(of_kind["exact"], MAX_LISTED)}
    if near is not None:
        members["near"] = near.members(of_kind["near"], MAX_LISTED)
    groups = []
    for kind, group in chosen:
        indices = members[kind][int(group["first"])]
        listed = {"kind": kind, "size": int(group["size"]), "indices": indices}
        if kind == "near":
            listed |= {"diameter": float(group["diameter"]), "chain": int(group["chain"])}
        groups.append(listed)
    return groups


def describe(found: dict[str, Any]) -> str:
    """Return the groups for a person, one a line, and the totals."""
    lines = []
    for group in found["groups"]:
        shown = [str(name) for name in group.get("paths", group["indices"])[:MAX_SHOWN]]
        first = [str(index) for index in group["indices"][:MAX_SHOWN]]
        more = ["..."] if group["size"] > MAX_SHOWN else []
        line = f"{group['kind']:5} {group['size']:9,} images: {', '.join(first + more)}"
        line += f"  ({', '.join(shown + more)})" if "paths" in group else ""
        if group["kind"] == "near":
            line += f"  diameter {group['diameter']:.4g}"
            if group["chain"] > group["size"]:
                line += f", cut from a chain of {group['chain']:,}"
        lines.append(line)
    n_found = found["n_groups"] + (found["near_groups"] or 0)
    if n_found > len(found["groups"]):
        lines.append(f"the largest {len(found['groups']):,} of {n_found:,}; --limit lists more")
    lines.append(
        f"{format_count(found['n_groups'], 'group')} of exact duplicates: {found['n_images']:,} of "
        f"{found['n_samples']:,} images, {found['n_copies']:,} of them copies"
    )
    if "within" in found:
        lines.append(_near_words(found))
    return "\n".join(lines)


def _near_words(found: dict[str, Any]) -> str:
    """Return what was found of near-duplicates, or what to choose a radius from."""
    if found["within"] is not None:
        return (
            f"{format_count(found['near_groups'], 'group')} of near-duplicates: "
            f"{found['near_images']:,} images, within {found['within']:.4g} of another one, "
            f"no two of a group farther apart than {MAX_DIAMETER * found['within']:.4g}"
        )
    if not any(found["nearest_distances"].values()):
        return "near-duplicates: no image has neighbours that differ from it"
    below = ", ".join(
        f"{100 * float(share):g} % below {distance:.4g}"
        for share, distance in found["nearest_distances"].items()
    )
    return (
        "near-duplicates: no dip in the distances to the nearest image parts them from the rest; "
        f"give --within D. Of these distances {below}"
    )


def _hashes(store: RunStore) -> tuple[Rows, int, str]:
    """Return the hashes of a run, those stored or taken from the images now; rows to read at once; what that is."""
    hashes = stored_hashes(store)
    if hashes is not None:
        return hashes, ROWS_AT_ONCE, "duplicates: hashes"
    images = images_of(store)
    if images is None:
        msg = f"`duplicates` must find the hashes of the images, or the images; {store.path} keeps no hashes, and {store.manifest.images['path']} is gone or altered. Put the images back."
        raise StoreError(msg)
    name = "duplicates: images, for the run keeps no hashes"
    return HashesOfRows(images), rows_and_blocks(store)[1], name


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


def _blocks(store: RunStore) -> Any:
    """Return the row ranges in which images, scores and labels of a run are stored."""
    return row_ranges(*rows_and_blocks(store))
