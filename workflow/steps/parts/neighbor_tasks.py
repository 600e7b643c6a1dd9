"""What the tasks of the neighbours do, and the files they leave for one another."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.engine.partitions import part_path
from workflow.neighbors import (
    Boxes,
    Bucket,
    Distinct,
    Effort,
    Found,
    Groups,
    Nearest,
    Regions,
    Sampled,
    box_of,
    bucket_regions,
    build_regions,
    choose_effort,
    group_table,
    make_bucket,
    merge_equal,
    nearest_in_bucket,
    numbered_rows,
    packed,
    sample_leaves,
    sample_rows,
    search_bucket,
    search_chosen,
    unpacked,
    without_self,
)
from workflow.rng import generator
from workflow.runstore import zarr_io
from workflow.runstore.files import ArrayPlace, discard, map_arrays, read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import InUnits, Partition
    from workflow.mapper import Rows

#: Arrays of the neighbours, in the order in which they are written.
NAMES = ("index", "distance")
#: Images up to which 32 bits number them.
MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Work:
    """What is searched, and where everything lies meanwhile.

    Attributes
    ----------
    folder : Path
        The folder of the step.
    n_samples, k : int
        Images, and neighbours of each.
    is_exact : bool
        Whether all true neighbours are found.
    recall : float
        Share that is enough otherwise.
    """

    folder: Path
    n_samples: int
    k: int
    is_exact: bool
    recall: float

    @property
    def index_dtype(self) -> str:
        """Type of the numbers of images."""
        return "int32" if self.n_samples <= MAX_INT32 else "int64"

    @property
    def sorted(self) -> Path:
        """Scores of each unit, sorted by region."""
        return self.folder / "sorted"

    @property
    def order(self) -> Path:
        """Which sorted row each image of a unit is, and which row of the bucket that became."""
        return self.folder / "order"

    @property
    def buckets(self) -> Path:
        """Rows of each bucket, leaf by leaf."""
        return self.folder / "buckets"

    @property
    def found(self) -> Path:
        """What was found for the rows of each bucket, unit by unit."""
        return self.folder / "found"

    def discard(self) -> None:
        """Remove what lies between."""
        for folder in (self.sorted, self.order, self.buckets, self.found):
            discard(folder)


@dataclass(frozen=True, slots=True)
class BucketItem:
    """A bucket, and how many rows come to it."""

    index: int
    n_rows: int


def draw_sample(scores: Rows, partition: Partition) -> NDArray[Any]:
    """Return the rows of a partition that are in the sample: whatever the seed, and the partition."""
    n = scores.n_samples
    n_drawn = sample_rows(n)
    # One of each of so many equal pieces of all rows.
    within = generator(0, "neighbors/sample").random(n_drawn)
    drawn = ((np.arange(n_drawn) + within) * (n / n_drawn)).astype(np.int64).clip(max=n - 1)
    found = []
    for start, stop in partition.blocks:
        here = drawn[slice(*np.searchsorted(drawn, (start, stop)))]
        found.append(scores.read(start, stop)[here - start])
    return np.concatenate(found)


def built_regions(n_regions: int, sample: NDArray[Any]) -> Regions:
    """Return the regions of a sample."""
    return build_regions(sample, n_regions)


@dataclass(frozen=True, slots=True)
class SortTask:
    """Different rows of a unit, sorted by region, and which of them each image is."""

    scores: Rows
    regions: StoredArrays
    work: Work

    def __call__(self, unit: Partition) -> dict[str, Any]:
        """Bring equal rows together, sort them by region, write them."""
        regions = Regions.from_arrays(self.regions.load())
        first, work = unit.start, self.work
        rows = np.empty((unit.n_rows, self.scores.n_features), np.float32)
        n_bytes = 0
        for block in unit.blocks:
            read = self.scores.read(*block)
            rows[block.start - first : block.stop - first] = regions.scaled(read)
            n_bytes += read.nbytes
        distinct, place = merge_equal([numbered_rows(rows, first)], work.k + 1)
        region = regions.route(distinct.rows)
        if not work.is_exact:
            distinct = distinct._replace(rows=packed(distinct.rows, regions.centers[region]))
        by_region = np.argsort(region, kind="stable")
        sorted_rows = distinct.take(by_region)
        rank = np.empty(len(by_region), np.int32)
        rank[by_region] = np.arange(len(by_region), dtype=np.int32)
        step = bucket_regions(regions.n_regions)
        n_buckets = -(-regions.n_regions // step)
        sizes = np.bincount(region // step, minlength=n_buckets)
        path = part_path(work.sorted, unit.index)
        arrays = {
            "rows": sorted_rows.rows,
            "region": region[by_region],
            "copy_start": sorted_rows.copy_start.astype(np.int32),
            "copies": sorted_rows.copies.astype(work.index_dtype),
        }
        order = part_path(work.order, unit.index)
        return {
            "file_crc": write_arrays(path, arrays),
            "order_crc": write_arrays(order, {"rank": rank[place]}),
            "sizes": sizes.tolist(),
            "bytes_read": n_bytes,
            "bytes_written": path.stat().st_size + order.stat().st_size,
        }


@dataclass(frozen=True, slots=True)
class LeavesTask:
    """The rows of a bucket from all units, in leaves."""

    work: Work
    shared: StoredArrays
    n_regions: int

    def __call__(self, item: BucketItem) -> dict[str, Any]:
        """Gather the rows, bring equal ones together, put them into leaves, write them."""
        arrays, work = self.shared.load(), self.work
        offsets = arrays["offsets"]
        step = bucket_regions(self.n_regions)
        span = range(item.index * step, min((item.index + 1) * step, self.n_regions))
        bases = None if work.is_exact else arrays["centers"][span.start : span.stop]
        parts = [numbered_rows(np.empty((0, arrays["centers"].shape[1]), np.float32), 0)]
        regions, n_bytes = [np.empty(0, np.int32)], 0
        for unit in np.flatnonzero(offsets[:, item.index] < offsets[:, item.index + 1]):
            start, stop = offsets[unit, item.index : item.index + 2].tolist()
            places = ArrayPlace.known(part_path(work.sorted, int(unit)))
            copy_start = places["copy_start"].read_range(start, stop + 1).astype(np.int64)
            copies = places["copies"].read_range(*copy_start[[0, -1]].tolist())
            rows = places["rows"].read_range(start, stop)
            region = places["region"].read_range(start, stop)
            n_bytes += rows.nbytes + copies.nbytes + 8 * len(rows)
            if bases is not None:
                rows = unpacked(rows, bases[region - span.start])
            parts.append(Distinct(rows, copy_start - copy_start[0], copies.astype(np.int64)))
            regions.append(region)
        distinct, place = merge_equal(parts, work.k + 1)
        of_row = np.empty(len(distinct.rows), np.int32)
        of_row[place] = np.concatenate(regions)
        bucket, at = make_bucket(distinct, of_row, span, is_packed=not work.is_exact)
        boxes = box_of(bucket)
        path = part_path(work.buckets, item.index)
        arrays = bucket.to_arrays() | {
            "copies": bucket.copies.astype(work.index_dtype),
            "copy_start": bucket.copy_start.astype(np.int32),
            "place": at[place].astype(np.int32),
            "low": boxes.low,
            "high": boxes.high,
        }
        return {
            "file_crc": write_arrays(path, arrays),
            "bytes_read": n_bytes,
            "bytes_written": path.stat().st_size,
        }


def part_of_table(folder: Path, bucket: int) -> dict[str, NDArray[Any]]:
    """Return what is known of a bucket without its rows."""
    arrays = map_arrays(ArrayPlace.known(part_path(folder, bucket)))
    return {
        "low": arrays["low"].copy(),
        "high": arrays["high"].copy(),
        "centers": arrays["group_centers"].copy(),
        "spread": arrays["group_spread"].copy(),
        "n_leaves": np.diff(arrays["group_start"]),
        "n_groups": np.array([len(arrays["group_centers"])]),
    }


def joined(
    left: dict[str, NDArray[Any]], right: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what is known of both buckets."""
    return {name: np.concatenate([left[name], right[name]]) for name in left}


@lru_cache(maxsize=2)
def _groups(stored: StoredArrays) -> Groups:
    """Return the groups of all buckets, laid out once per process."""
    arrays = stored.load()
    return group_table(*(arrays[name] for name in ("centers", "spread", "n_leaves", "n_groups")))


def _load_bucket(path: Path) -> Bucket:
    """Return a bucket; what is looked at is read."""
    # What is mapped counts as memory of the process: it is not kept.
    arrays = map_arrays(ArrayPlace.known(path))
    return Bucket(**{field.name: arrays[field.name] for field in fields(Bucket)})


@dataclass(frozen=True, slots=True)
class SearchTask:
    """What is found for the rows of a bucket, in the order in which the units gave them."""

    work: Work
    shared: StoredArrays
    scale: float
    n_leaves: int

    def __call__(self, item: BucketItem) -> dict[str, Any]:
        """Search, and write what was found."""
        work, n_loaded = self.work, 0

        def load(number: int) -> Bucket:
            nonlocal n_loaded
            bucket = _load_bucket(part_path(work.buckets, number))
            n_loaded += bucket.rows.nbytes
            return bucket

        if item.n_rows == 0:
            nothing = np.empty((0, work.k + 1))
            found = Found(nothing.astype(np.int64), nothing.astype(np.float32))
        elif work.is_exact:
            arrays = self.shared.load()
            boxes = Boxes(arrays["low"], arrays["high"])
            found = search_bucket(item.index, boxes, load, work.k, self.scale)
        else:
            groups = _groups(self.shared)
            found = search_chosen(item.index, groups, load, work.k, self.scale, self.n_leaves)
        stored = ArrayPlace.known(part_path(work.buckets, item.index))["place"]
        place = stored.read_range(0, stored.shape[0])
        path = part_path(work.found, item.index)
        arrays = {
            "index": found.number[place].astype(work.index_dtype),
            # The first one is the image itself, or equal to it.
            "distance": found.distance[place, 1:],
        }
        return {
            "file_crc": write_arrays(path, arrays),
            "bytes_read": n_loaded,
            "bytes_written": path.stat().st_size,
        }


def _loader(work: Work) -> Callable[[int], Bucket]:
    """Return what loads a bucket."""
    return lambda number: _load_bucket(part_path(work.buckets, number))


def take_sample(work: Work, shared: StoredArrays) -> Sampled:
    """Return the sampled leaves."""
    return sample_leaves(_groups(shared), _loader(work), work.k)


@lru_cache(maxsize=2)
def _sampled(stored: StoredArrays) -> Sampled:
    """Return the sampled leaves, read once per process."""
    return Sampled(**stored.load())


def nearest_of_sample(
    work: Work, shared: StoredArrays, stored: StoredArrays, number: int
) -> Nearest:
    """Return the nearest rows of a bucket to those of the sample."""
    bucket = _load_bucket(part_path(work.buckets, number))
    first_leaf = int(_groups(shared).first_leaf[number])
    return nearest_in_bucket(_sampled(stored), bucket, first_leaf, work.k)


def chosen_effort(
    work: Work, shared: StoredArrays, stored: StoredArrays, nearest: Nearest
) -> Effort:
    """Return how many leaves find enough of the true neighbours."""
    groups, load = _groups(shared), _loader(work)
    return choose_effort(_sampled(stored), nearest, groups, load, work.recall)


@dataclass(frozen=True, slots=True)
class GatherTask:
    """The neighbours of the images of a partition, in the order of the images."""

    work: Work
    shared: StoredArrays
    target: Path

    def __call__(self, item: InUnits) -> dict[str, Any]:
        """Read what was found for each unit, bucket by bucket; write it block by block."""
        checksums, bytes_read, bytes_written = [], 0, 0
        with zarr_io.rows_writers(self.target, NAMES, item.partition.start) as writers:
            for unit in item.units:
                found, n_bytes = self._found(unit)
                bytes_read += n_bytes
                rank = read_arrays(part_path(self.work.order, unit.index))["rank"]
                first = unit.start
                for rows in unit.blocks:
                    here = rank[rows.start - first : rows.stop - first]
                    of_rows = Found(*(array[here] for array in found))
                    index, distance = without_self(of_rows, np.arange(*rows))
                    writers["index"].append(index)
                    writers["distance"].append(distance)
                    checksums.append([zarr_io.crc(index), zarr_io.crc(distance)])
                    bytes_written += index.nbytes + distance.nbytes
        return {"crc": checksums, "bytes_read": bytes_read, "bytes_written": bytes_written}

    def _found(self, unit: Partition) -> tuple[Found, int]:
        """Return what was found for the sorted rows of a unit, and the bytes that were read."""
        offsets, work = self.shared.load()["offsets"], self.work
        sizes = np.diff(offsets, axis=1)
        before = sizes[: unit.index].sum(axis=0)
        shape = int(offsets[unit.index, -1]), work.k + 1
        found = Found(np.empty(shape, work.index_dtype), np.zeros(shape, np.float32))
        for bucket in np.flatnonzero(sizes[unit.index]):
            rows = slice(*offsets[unit.index, bucket : bucket + 2].tolist())
            start = int(before[bucket])
            places = ArrayPlace.known(part_path(work.found, int(bucket)))
            for name, array in (("index", found.number), ("distance", found.distance[:, 1:])):
                array[rows] = places[name].read_range(start, start + rows.stop - rows.start)
        return found, sum(array.nbytes for array in found)
