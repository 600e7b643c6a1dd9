"""Groups of near-duplicate images, from the stored nearest neighbours; images of any number, 4 bytes of memory each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.errors import StoreError
from workflow.neighbors import nearest_neighbors
from workflow.neighbors.near import (
    N_BINS,
    count_distances,
    cut_roots,
    link,
    link_near,
    near_groups,
    roots_of,
)
from workflow.runstore import zarr_io
from workflow.steps.parts.duplicates import largest_groups

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.mapper import Bar, Rows

#: Images that are grouped at a time: those of a bucket, unless more than these hang together.
BUCKET_ROWS = 2**17
#: What is noted of a group; `chain` counts the images that hang together with it.
NEAR_GROUP = np.dtype([("size", "<i8"), ("first", "<i8"), ("diameter", "<f8"), ("chain", "<i8")])
LINK = np.dtype([("one", "<i8"), ("other", "<i8"), ("distance", "<f4")])
MEMBER = np.dtype([("row", "<i8"), ("root", "<i8"), ("hash", "<u8", 2)])


class StoredNeighbors(NamedTuple):
    """What near-duplicates are found from: the Zarr group of neighbours, scores and hashes, block by block."""

    place: Path
    scores: Rows
    hashes: Rows
    block_rows: int

    def blocks(self) -> Iterator[tuple[int, NDArray[Any], NDArray[np.float32]]]:
        """Yield the first row, the neighbours and the distances of each block."""
        for rows in row_ranges(self.scores.n_samples, self.block_rows):
            index = zarr_io.read_rows(self.place, "index", *rows)
            yield rows.start, index, zarr_io.read_rows(self.place, "distance", *rows)

    def count_distances(self, bar: Bar) -> NDArray[np.int64]:
        """Count the nearest distances of all images, in bins."""
        counts = np.zeros(N_BINS, np.int64)
        for rows in row_ranges(self.scores.n_samples, self.block_rows):
            counts += count_distances(zarr_io.read_rows(self.place, "distance", *rows))
            bar.advance(rows.n_rows)
        return counts


@dataclass(frozen=True, slots=True)
class NearGroups:
    """Groups of near-duplicates, made of links up to a radius.

    Attributes
    ----------
    n_groups, n_images : int
        How many groups there are whose images are not all equal, and images in them.
    largest : NEAR_GROUP array
        The largest of them, ties by their first image.
    group : int array of shape (n_samples,)
        First image of the group of each image; -1 for one that is in none.
    """

    n_groups: int
    n_images: int
    largest: NDArray[Any]
    group: NDArray[np.integer[Any]]

    @classmethod
    def make(
        cls, stored: StoredNeighbors, radius: float, limit: int, folder: Path, bar: Bar
    ) -> NearGroups:
        """Find the groups and keep the largest; what is noted meanwhile lies in a new folder."""
        n = stored.scores.n_samples
        parent: NDArray[Any] = np.full(n, -1, np.int32 if n < 2**31 else np.int64)
        many = []
        for start, index, distance in stored.blocks():
            link_near(parent, start, index, distance, radius)
            many.append(start + _firsts_of_many(start, index, distance))
        further = _links_of_many(stored, np.concatenate(many), radius)
        for one, other, _ in further:
            link(parent, one, other)
        cuts = cut_roots(parent, BUCKET_ROWS)
        folder.mkdir(parents=True)
        try:
            _write_buckets(stored, radius, parent, cuts, folder, bar)
            bucket = _bucket_of(cuts, roots_of(parent, further["one"]))
            _append(folder, "links", bucket, further)
        except OSError as err:
            msg = f"{folder} must take some 250 bytes for each near-duplicate; the disk refused ({err.strerror or err}). Make room, then run the same command again."
            raise StoreError(msg) from None
        parent[:] = -1
        n_groups, n_images, largest = 0, 0, np.empty(0, NEAR_GROUP)
        for number in range(len(cuts)):
            table = _group_bucket(folder, number, stored.scores.n_features, radius, parent)
            n_groups, n_images = n_groups + len(table), n_images + int(table["size"].sum())
            largest = largest_groups(np.concatenate([largest, table]), limit)
        return cls(n_groups, n_images, largest, parent)

    def members(self, groups: NDArray[Any], most: int) -> dict[int, list[int]]:
        """Return the first images of groups, `most` at most, by the first image of each."""
        rows = np.flatnonzero(np.isin(self.group, groups["first"]))
        of = self.group[rows]
        return {int(first): rows[of == first][:most].tolist() for first in groups["first"]}


def _firsts_of_many(
    start: int, index: NDArray[Any], distance: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the rows that are the first of so many equal ones that their lists name no others."""
    rows = start + np.arange(len(index))
    return np.flatnonzero((distance[:, -1] == 0) & (index[:, 0] > rows))


def _links_of_many(
    stored: StoredNeighbors, firsts: NDArray[np.int64], radius: float
) -> NDArray[Any]:
    """Return the links up to the radius among images that are the first of many equal ones.

    Their lists name copies only, and so may those of what lies near them.
    """
    if len(firsts) < 2:
        return np.empty(0, LINK)
    scores = []
    for rows in row_ranges(stored.scores.n_samples, stored.block_rows):
        here = firsts[slice(*np.searchsorted(firsts, rows))]
        if len(here):
            scores.append(stored.scores.read(*rows)[here - rows.start])
    index, distance = nearest_neighbors(np.concatenate(scores).astype(np.float32))
    one, rank = np.nonzero((index >= 0) & (distance <= radius))
    links = np.empty(len(one), LINK)
    links["one"], links["other"] = firsts[one], firsts[index[one, rank]]
    links["distance"] = distance[one, rank]
    return links


def _bucket_of(cuts: NDArray[np.int64], root: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bucket of rows, from their roots."""
    return np.searchsorted(cuts, root, side="right") - 1


def _write_buckets(
    stored: StoredNeighbors,
    radius: float,
    parent: NDArray[Any],
    cuts: NDArray[np.int64],
    folder: Path,
    bar: Bar,
) -> None:
    """Bring the images that hang together into one file, with their scores and links."""
    for start, index, distance in stored.blocks():
        stop = start + len(index)
        root = roots_of(parent, np.arange(start, stop))
        here = np.flatnonzero(root >= 0)
        if len(here):
            bucket = _bucket_of(cuts, root[here])
            members = np.empty(len(here), MEMBER)
            members["row"], members["root"] = start + here, root[here]
            members["hash"] = stored.hashes.read(start, stop)[here]
            _append(folder, "members", bucket, members)
            scores = stored.scores.read(start, stop)[here].astype(np.float32)
            _append(folder, "scores", bucket, scores)
            at, rank = np.nonzero((index[here] >= 0) & (distance[here] <= radius))
            links = np.empty(len(at), LINK)
            links["one"], links["other"] = start + here[at], index[here[at], rank]
            links["distance"] = distance[here[at], rank]
            _append(folder, "links", bucket[at], links)
        bar.advance(stop - start)


def _append(folder: Path, name: str, bucket: NDArray[np.int64], records: NDArray[Any]) -> None:
    """Append records to the files of their buckets."""
    for number in np.unique(bucket):
        with (folder / f"{name}-{number}").open("ab") as file:
            records[bucket == number].tofile(file)


def _group_bucket(
    folder: Path, bucket: int, n_features: int, radius: float, group: NDArray[Any]
) -> NDArray[Any]:
    """Group the images of a bucket; write the first image of each one's group, return the groups."""
    place = folder / f"members-{bucket}"
    if not place.exists():
        return np.empty(0, NEAR_GROUP)
    members = np.fromfile(place, MEMBER)
    links = np.fromfile(folder / f"links-{bucket}", LINK)
    scores = np.fromfile(folder / f"scores-{bucket}", np.float32)
    row = members["row"]
    one, other = np.searchsorted(row, links["one"]), np.searchsorted(row, links["other"])
    found = near_groups(scores.reshape(len(row), n_features), one, other, links["distance"], radius)
    differs = (members["hash"] != members["hash"][found.first]).any(axis=1)
    is_near = np.bincount(found.first[differs], minlength=len(row)) > 0
    size = np.bincount(found.first, minlength=len(row))
    first = np.flatnonzero(is_near)
    table = np.empty(len(first), NEAR_GROUP)
    table["size"], table["first"] = size[first], row[first]
    table["diameter"] = found.diameter[first]
    _, chain, n_chain = np.unique(members["root"], return_inverse=True, return_counts=True)
    table["chain"] = n_chain[chain[first]]
    kept = is_near[found.first]
    group[row[kept]] = row[found.first[kept]]
    return table
