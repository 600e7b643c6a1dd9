"""Groups of equal images, from the hash of each; images of any number are grouped on disk."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.errors import StoreError
from workflow.row_hashes import row_hashes
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from workflow.mapper import Bar, Rows
    from workflow.runstore import RunStore

#: Rows that a bucket has on average, and half of those that are read from it at a time.
BUCKET_ROWS = 2**19
#: Most buckets, each a file; from half a billion images on they grow.
MAX_BUCKETS = 1024
#: Rows whose hashes are handled together, where they are stored.
ROWS_AT_ONCE = 2**18
#: Bits of a hash that tell whether it may be among others at all.
LEADING_BITS = 24
#: What grouping holds [bytes]: a piece of a bucket, and the copies that sorting makes.
GROUPING_BYTES = 160 * BUCKET_ROWS
#: What is noted of a row, and of a group of rows.
RECORD = np.dtype([("one", "<u8"), ("two", "<u8"), ("row", "<i8")])
GROUP = np.dtype([("one", "<u8"), ("two", "<u8"), ("size", "<i8"), ("first", "<i8")])


#: Groups that are noted with the counts, the largest.
MOST_NOTED = 48


class ExactCounts(NamedTuple):
    """How many images are equal to another one, how many groups they make, and the largest of these.

    A group is its first image and how many images it has.
    """

    exact_groups: int
    exact_images: int
    exact_largest: list[list[int]]


@dataclass(frozen=True, slots=True)
class HashesOfRows:
    """The hashes of other rows, which are read for them; implements `workflow.mapper.Rows`."""

    rows: Rows
    n_features: int = 2
    dtype: np.dtype[Any] = field(default=np.dtype(np.uint64))

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.rows.n_samples

    def read(self, start: int, stop: int) -> NDArray[np.uint64]:
        """Return the hashes of rows."""
        return row_hashes(self.rows.read(start, stop))


def stored_hashes(store: RunStore) -> zarr_io.StoredRows | None:
    """Return the hash of each image of a run; None where it keeps none."""
    place = layout.hashes(store.path)
    return zarr_io.StoredRows.open(place, "hash") if place.exists() else None


@dataclass(frozen=True, slots=True)
class HashGroups:
    """Rows by their hash, in files of a folder: those of equal hashes in one, in their order."""

    folder: Path
    n_buckets: int

    @classmethod
    def make(
        cls, folder: Path, hashes: Rows, rows_at_once: int, bar: Bar | None = None
    ) -> HashGroups:
        """Note the hashes of all rows in a new folder."""
        n_rows: int = hashes.n_samples
        folder.mkdir(parents=True)
        made = cls(folder, min(MAX_BUCKETS, max(1, -(-n_rows // BUCKET_ROWS))))
        for rows in row_ranges(n_rows, rows_at_once):
            made._add(hashes.read(*rows), rows.start)
            if bar is not None:
                bar.advance(rows.n_rows)
        return made

    def groups(self) -> Iterator[NDArray[Any]]:
        """Yield the groups of two rows or more, those of each bucket together."""
        for bucket in range(self.n_buckets):
            found = self._groups(bucket)
            yield found[found["size"] >= 2]

    def largest(self, limit: int) -> tuple[NDArray[Any], int, int]:
        """Return the largest groups of two rows or more, how many there are in all, and the rows of all."""
        largest, n_groups, n_rows = np.empty(0, GROUP), 0, 0
        for groups in self.groups():
            n_groups, n_rows = n_groups + len(groups), n_rows + int(groups["size"].sum())
            largest = largest_groups(np.concatenate([largest, groups]), limit)
        return largest, n_groups, n_rows

    def members(self, groups: NDArray[Any], most: int) -> dict[int, list[int]]:
        """Return the first rows of groups, `most` at most, by the first row of each."""
        found: dict[int, list[int]] = {int(group["first"]): [] for group in groups}
        bucket_of = self._bucket_of(groups["one"])
        for bucket in np.unique(bucket_of):
            wanted = groups[bucket_of == bucket]
            heads = np.empty(len(wanted), RECORD)
            heads["one"], heads["two"], heads["row"] = (
                wanted["one"],
                wanted["two"],
                -1 - wanted["first"],
            )
            for piece in self._pieces(int(bucket)):
                # Heads come first, so each leads the run of its own rows.
                joined = np.concatenate([heads, piece[np.isin(piece["one"], heads["one"])]])
                order, starts = _runs(joined)
                row, ends = joined["row"][order], np.append(starts[1:], len(joined))
                for run in np.flatnonzero(row[starts] < 0):
                    listed = found[int(-1 - row[starts[run]])]
                    members = row[starts[run] + 1 : ends[run]]
                    listed += members[: most - len(listed)].tolist()
        return found

    def _bucket_of(self, one: NDArray[np.uint64]) -> NDArray[np.uint16]:
        """Return the bucket of each row, from the first half of its hash."""
        bucket = (one >> np.uint64(40)) * np.uint64(self.n_buckets) >> np.uint64(24)
        return bucket.astype(np.uint16)

    def _add(self, hashes: NDArray[np.uint64], first_row: int) -> None:
        """Append rows to their buckets."""
        bucket = self._bucket_of(hashes[:, 0])
        order = np.argsort(bucket, kind="stable")
        records = np.empty(len(hashes), RECORD)
        records["one"], records["two"] = hashes[order].T
        records["row"] = first_row + order
        ends = np.searchsorted(bucket[order], np.arange(self.n_buckets + 1))
        try:
            for index in np.flatnonzero(np.diff(ends)):
                with self._path(int(index)).open("ab") as file:
                    records[ends[index] : ends[index + 1]].tofile(file)
        except OSError as err:
            msg = f"{self.folder} must take 24 bytes for each image; the disk refused ({err.strerror or err}). Make room, then run the same command again."
            raise StoreError(msg) from None

    def _pieces(self, bucket: int) -> Iterator[NDArray[Any]]:
        """Yield the records of a bucket, most often all of them at once."""
        with contextlib.suppress(FileNotFoundError), self._path(bucket).open("rb") as file:
            while len(piece := np.fromfile(file, RECORD, 2 * BUCKET_ROWS)):
                yield piece

    def _groups(self, bucket: int) -> NDArray[Any]:
        """Return the groups of a bucket, also rows alone where it has several pieces."""
        table = np.empty(0, GROUP)
        path = self._path(bucket)
        is_whole = path.exists() and path.stat().st_size <= 2 * BUCKET_ROWS * RECORD.itemsize
        for piece in self._pieces(bucket):
            # Rows alone are most of all: they go before anything is sorted by both halves.
            kept = piece[_is_repeated(piece["one"])] if is_whole else piece
            fresh = np.empty(len(kept), GROUP)
            fresh["one"], fresh["two"], fresh["first"] = kept["one"], kept["two"], kept["row"]
            fresh["size"] = 1
            table = np.concatenate([table, fresh])
            order, starts = _runs(table)
            sizes = np.add.reduceat(table["size"][order], starts) if len(table) else 0
            table = table[order[starts]]
            table["size"] = sizes
        return table

    def _path(self, bucket: int) -> Path:
        """Return the file of a bucket."""
        return self.folder / f"bucket-{bucket:04d}"


@dataclass(frozen=True, slots=True)
class CountExact:
    """Counts the equal images of a run, in one task: a second for ten million images."""

    hashes: zarr_io.StoredRows

    def __call__(self, folder: Path) -> ExactCounts:
        """Group the hashes in a folder of its own: Dask may have begun the task elsewhere, too."""
        with tempfile.TemporaryDirectory(dir=folder) as place:
            grouped = HashGroups.make(Path(place) / "hashes", self.hashes, ROWS_AT_ONCE)
            largest, n_groups, n_images = grouped.largest(MOST_NOTED)
            noted = [[int(group["first"]), int(group["size"])] for group in largest]
            return ExactCounts(n_groups, n_images, noted)


@dataclass(frozen=True, slots=True)
class CountKnown:
    """Counts the rows whose hash is among known ones, in one task."""

    known: zarr_io.StoredRows

    def __call__(self, new: zarr_io.StoredRows) -> int:
        """Hold the new hashes in memory, and read the known ones some at a time."""
        table = _records(new.read(0, new.n_samples), 0)
        one = np.sort(table["one"])
        tables, has_new = [table], np.zeros(1 << LEADING_BITS, np.bool_)
        has_new[one >> np.uint64(64 - LEADING_BITS)] = True
        for rows in row_ranges(self.known.n_samples, ROWS_AT_ONCE):
            hashes = self.known.read(*rows)
            # A look at the leading bits leaves few to be looked for, which takes ten times as long.
            hashes = hashes[has_new[hashes[:, 0] >> np.uint64(64 - LEADING_BITS)]]
            at = np.minimum(np.searchsorted(one, hashes[:, 0]), len(one) - 1)
            tables.append(_records(hashes[one[at] == hashes[:, 0]], -1))
        joined = np.concatenate(tables)
        order, starts = _runs(joined)
        is_new = joined["row"][order] >= 0
        n_new = np.add.reduceat(is_new.astype(np.int64), starts)
        is_known = ~np.logical_and.reduceat(is_new, starts)
        return int(n_new[is_known].sum())


def _records(hashes: NDArray[np.uint64], row: int) -> NDArray[Any]:
    """Return what is noted of rows, all of one number."""
    records = np.empty(len(hashes), RECORD)
    records["one"], records["two"], records["row"] = hashes[:, 0], hashes[:, 1], row
    return records


def largest_groups(table: NDArray[Any], limit: int) -> NDArray[Any]:
    """Return the largest groups, ties by their first row."""
    return table[np.lexsort((table["first"], -table["size"]))[:limit]]


def _is_repeated(values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which values come twice or more."""
    risen = np.sort(values)
    repeated = risen[1:][risen[1:] == risen[:-1]]
    return np.isin(values, repeated)


def _runs(table: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the stable order by hash, and where each run of equal ones starts in it."""
    order = np.lexsort((table["two"], table["one"]))
    one, two = table["one"][order], table["two"][order]
    differs = (one[1:] != one[:-1]) | (two[1:] != two[:-1])
    return order, np.flatnonzero(np.concatenate([[len(table) > 0], differs]))
