"""duplicates: groups of images that are the same, or nearly, from their nearest centroids and scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import require_labels
from workflow.engine.progress import Progress
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError, StoreError
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.overcluster import stored_duplicate_cells
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

#: Rows that a bucket has on average, and that are read from it at a time: with the copies that
#: sorting makes, 2**20 rows are some 150 MiB.
BUCKET_ROWS = 2**20
#: Most buckets; from 10^9 images on they grow.
MAX_BUCKETS = 1024
#: Members of a group that are listed, and shown to a person.
MAX_LISTED, MAX_SHOWN = 1000, 5
#: Start and factor of the two fingerprints: odd, with bits without pattern (of the golden ratio and pi).
FIRST, SECOND = (
    (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9),
    (0x243F6A8885A308D3, 0x94D049BB133111EB),
)
#: What is noted of a row, and of a group of rows.
RECORD = np.dtype([("one", "<u8"), ("two", "<u8"), ("row", "<i8")])
GROUP = np.dtype([("one", "<u8"), ("two", "<u8"), ("size", "<i8"), ("first", "<i8")])


def duplicates(
    run: Path | str, *, near: bool = False, limit: int = 100, progress: Progress | None = None
) -> dict[str, Any]:
    """List groups of duplicate images.

    Images are exact duplicates when their stored scores are equal in all
    components.  Equal scores have equal nearest centroids and distances, to
    the last bit, so those are compared first: the scores are read only where
    some image has the nearest three and the distances of another.

    Parameters
    ----------
    run : path
        A run with labels.
    near : bool
        Whether cells of near-duplicates are listed, too.
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
        If the run has no labels, scores or nearest centroids are gone, or the
        disk is full.

    Notes
    -----
    Scores are compared by fingerprints of 128 bits; of 48 million different
    images two have the same with a chance of 10^-23.  Those of all images
    with a like are put on disk in the run folder while this runs (24 bytes
    each), in buckets by their first bits.  Memory: one byte an image, and
    some 150 MiB for a bucket, whatever is equal to what.
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
        prints = _fingerprints(store, place, progress)
        exact, n_groups, n_images = np.empty(0, GROUP), 0, 0
        for bucket in prints.buckets:
            table = prints.groups(bucket)
            table = table[table["size"] >= 2]
            n_groups, n_images = n_groups + len(table), n_images + int(table["size"].sum())
            exact = _largest(np.concatenate([exact, table]), limit)
        cells = _near_cells(store) if near else np.empty(0, GROUP)
        chosen = [("exact", group) for group in exact]
        chosen += [("near", group) for group in _largest(cells, limit)]
        chosen.sort(key=lambda item: (-item[1]["size"], item[0], item[1]["first"]))
        chosen = chosen[:limit]
        members = {
            "exact": prints.members([group for kind, group in chosen if kind == "exact"]),
            "near": _cell_members(store, [g["first"] for kind, g in chosen if kind == "near"]),
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
        f"{found['n_groups']:,} groups of exact duplicates: {found['n_images']:,} of "
        f"{found['n_samples']:,} images, {found['n_copies']:,} of them copies"
    )
    if near:
        lines.append(
            f"{found['near_groups']:,} cells of near-duplicates: {found['near_images']:,} images"
        )
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Buckets:
    """Records of rows on disk, those of equal fingerprints in one file, in the order of the rows."""

    folder: Path
    n_buckets: int

    @classmethod
    def make(cls, folder: Path, n_rows: int) -> _Buckets:
        """Make empty buckets for so many rows."""
        folder.mkdir(parents=True)
        return cls(folder, min(MAX_BUCKETS, max(1, -(-n_rows // BUCKET_ROWS))))

    @property
    def buckets(self) -> range:
        """Number of each bucket."""
        return range(self.n_buckets)

    def of(self, one: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the bucket of each first fingerprint."""
        return (one >> np.uint64(40)) * np.uint64(self.n_buckets) >> np.uint64(24)

    def add(self, one: NDArray[np.uint64], two: NDArray[np.uint64], row: NDArray[np.int64]) -> None:
        """Append rows to their buckets."""
        bucket = self.of(one)
        order = np.argsort(bucket, kind="stable")
        records = np.empty(len(one), RECORD)
        records["one"], records["two"], records["row"] = one[order], two[order], row[order]
        ends = np.searchsorted(bucket[order], np.arange(self.n_buckets + 1, dtype=np.uint64))
        try:
            for index in np.flatnonzero(np.diff(ends)):
                with self._path(int(index)).open("ab") as file:
                    records[ends[index] : ends[index + 1]].tofile(file)
        except OSError as err:
            msg = f"{self.folder} must take 24 bytes for each image that may have a duplicate; the disk refused ({err.strerror or err}). Make room, then run the same command again."
            raise StoreError(msg) from None

    def pieces(self, bucket: int) -> Iterator[NDArray[Any]]:
        """Yield the records of a bucket, `BUCKET_ROWS` at a time."""
        path = self._path(bucket)
        if not path.exists():
            return
        with path.open("rb") as file:
            while len(piece := np.fromfile(file, RECORD, BUCKET_ROWS)):
                yield piece

    def groups(self, bucket: int) -> NDArray[Any]:
        """Return the groups of equal fingerprints in a bucket, singles too, sorted by fingerprint."""
        table = np.empty(0, GROUP)
        for piece in self.pieces(bucket):
            fresh = np.empty(len(piece), GROUP)
            fresh["one"], fresh["two"], fresh["first"] = piece["one"], piece["two"], piece["row"]
            fresh["size"] = 1
            table = np.concatenate([table, fresh])
            order, starts = _runs(table)
            sizes = np.add.reduceat(table["size"][order], starts)
            table = table[order[starts]]
            table["size"] = sizes
        return table

    def members(self, groups: list[Any]) -> dict[int, list[int]]:
        """Return the first rows of groups, by the first row of each."""
        found: dict[int, list[int]] = {int(group["first"]): [] for group in groups}
        wanted = np.array(groups, GROUP)
        bucket_of = self.of(wanted["one"])
        for bucket in np.unique(bucket_of):
            heads = np.zeros(np.count_nonzero(bucket_of == bucket), RECORD)
            for name in ("one", "two"):
                heads[name] = wanted[name][bucket_of == bucket]
            heads["row"] = -1 - wanted["first"][bucket_of == bucket]
            for piece in self.pieces(int(bucket)):
                # Heads come first, so each leads the run of its own rows.
                joined = np.concatenate([heads, piece])
                order, starts = _runs(joined)
                row, ends = joined["row"][order], np.append(starts[1:], len(joined))
                for run in np.flatnonzero(row[starts] < 0):
                    listed = found[int(-1 - row[starts[run]])]
                    members = row[starts[run] + 1 : ends[run]]
                    listed += members[: MAX_LISTED - len(listed)].tolist()
        return found

    def _path(self, bucket: int) -> Path:
        """Return the file of a bucket."""
        return self.folder / f"bucket-{bucket:04d}"


def _runs(table: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the stable order by fingerprint, and where each run of equal ones starts in it."""
    order = np.lexsort((table["two"], table["one"]))
    one, two = table["one"][order], table["two"][order]
    differs = (one[1:] != one[:-1]) | (two[1:] != two[:-1])
    return order, np.flatnonzero(np.concatenate([[len(table) > 0], differs]))


def _largest(table: NDArray[Any], limit: int) -> NDArray[Any]:
    """Return the largest groups, ties by their first row."""
    return table[np.lexsort((table["first"], -table["size"]))[:limit]]


def _fingerprint(words: NDArray[np.uint32], start: int, factor: int) -> NDArray[np.uint64]:
    """Return a number of 64 bits for each row; rows that differ in one word never share it."""
    state = np.full(len(words), start, np.uint64)
    for column in np.ascontiguousarray(words.T):
        # Each of the three can be undone, so no step loses what an earlier one told apart.
        state ^= column
        state *= np.uint64(factor)
        state ^= state >> np.uint64(32)
    return state


def _fingerprints(store: RunStore, place: Path, progress: Progress) -> _Buckets:
    """Return the fingerprints of the scores of all images that may have a duplicate."""
    n_samples = _n_samples(store)
    has_like = _have_likes(store, place / "nearest", progress)
    prints = _Buckets.make(place / "scores", int(np.count_nonzero(has_like)))
    stored = stored_scores(store)
    with progress.bar("duplicates: scores", n_samples) as bar:
        for rows in _blocks(store):
            here = np.flatnonzero(has_like[rows.start : rows.stop])
            if len(here):
                # 0 and -0 are equal, and adding 0 makes them the same bits.
                scores = stored.read(*rows)[here].astype(np.float32) + np.float32(0)
                words = scores.view(np.uint32)
                prints.add(
                    _fingerprint(words, *FIRST), _fingerprint(words, *SECOND), rows.start + here
                )
            bar.advance(rows.n_rows)
    return prints


def _have_likes(store: RunStore, folder: Path, progress: Progress) -> NDArray[np.bool_]:
    """Return which images have the nearest centroids and distances of another."""
    n_samples, nearest = _n_samples(store), layout.nearest(store.path)
    keys = _Buckets.make(folder, n_samples)
    with progress.bar("duplicates: nearest centroids", n_samples) as bar:
        for rows in _blocks(store):
            words = np.concatenate(
                [
                    zarr_io.read_rows(nearest, name, *rows).view(np.uint32)
                    for name in ("nearest", "sq_distance")
                ],
                axis=1,
            )
            key = _fingerprint(words, *FIRST)
            keys.add(key, np.zeros_like(key), np.arange(*rows))
            bar.advance(rows.n_rows)
    has_like = np.zeros(n_samples, bool)
    for bucket in keys.buckets:
        groups = keys.groups(bucket)
        repeated = groups["one"][groups["size"] >= 2]
        for piece in keys.pieces(bucket):
            has_like[piece["row"][np.isin(piece["one"], repeated)]] = True
    discard(folder)
    return has_like


def _near_cells(store: RunStore) -> NDArray[Any]:
    """Return the cells of near-duplicates as groups; `first` is the centroid."""
    population, max_distance = store.read_model("population", "max_distance")
    cells = stored_duplicate_cells(store)
    # An exact cell whose images are not quite at one place: equal to float32, not bit for bit.
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
