"""neighbors: the nearest neighbours of every image, by its scores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from dask.utils import format_bytes
from pydantic import Field

from workflow.chunks import BLOCK_BYTES
from workflow.config.fields import Section
from workflow.engine.partitions import part_path
from workflow.engine.plan import Sizes, TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.neighbors import (
    Boxes,
    Bucket,
    Centers,
    Distinct,
    Effort,
    Found,
    Nearest,
    Regions,
    Sampled,
    box_of,
    bucket_regions,
    build_regions,
    center_table,
    choose_effort,
    make_bucket,
    merge_equal,
    merge_nearest,
    nearest_in_bucket,
    numbered_rows,
    packed,
    region_centers,
    region_count,
    sample_leaves,
    sample_rows,
    search_bucket,
    search_chosen,
    unpacked,
    without_self,
)
from workflow.rng import generator
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import ArrayPlace, discard, read_arrays, write_arrays
from workflow.schema import ArraySpec
from workflow.steps.projection import score_row_bytes, stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows
    from workflow.runstore import RunStore
    from workflow.runstore.journal import Journal

#: Arrays of ``RUN/neighbors.zarr``.
NEIGHBORS = {
    "index": ArraySpec(
        ("sample", "neighbor"), "int32", "image", "nearest images by rising distance; -1 is none"
    ),
    "distance": ArraySpec(
        ("sample", "neighbor"), "float32", "score", "their distances; infinite is none"
    ),
}
#: Images up to which 32 bits number them.
MAX_INT32 = 2**31 - 1
#: With ``auto``, seconds that the step may take by the plan, and the share of the free disk.
AUTO_SECONDS, AUTO_DISK = 900.0, 0.8
#: Bytes of scores of the largest unit of sorting, in float32.
UNIT_BYTES = BLOCK_BYTES
#: What to change where so much memory is not there.
ADVICE = {"rows": "Lower pca.n_components", "found": "Lower neighbors.k"}


class NeighborsSettings(Section):
    """Nearest neighbours of the images among each other."""

    enabled: bool | Literal["auto"] = "auto"
    """Whether they are found; auto: where 15 minutes and the free disk are enough."""
    k: int = Field(default=15, ge=1, le=256)
    """Neighbours of each image."""
    exact_up_to: int = Field(default=1_000_000, ge=0)
    """Images up to which all true neighbours are found; of more, as many as recall says."""
    recall: float = Field(default=0.95, gt=0, lt=1)
    """Share of the true neighbours that is enough where not all are found."""


class NeighborsStep(Step):
    """Find the nearest neighbours of every image."""

    name = "neighbors"
    section = NeighborsSettings
    settings = ("neighbors.enabled", "neighbors.k", "neighbors.exact_up_to", "neighbors.recall")
    reads = ("projection",)

    def run(self, context: Context) -> None:
        """Sort the scores into buckets, search them, and put what is found in the order of the images."""
        store = context.store
        final, target = store.path / layout.NEIGHBORS, store.path / layout.WIP / layout.NEIGHBORS
        reason = _why_not(context)
        if reason:
            # Without arrays: that the step is complete shows in a group, which may be empty.
            place = store.wip(layout.NEIGHBORS)
            zarr_io.create_group(place, {"found": False, "reason": reason})
            zarr_io.consolidate(place)
            store.replace([(place, final)])
            store.step(self.name).details = {"found": False, "reason": reason}
            return
        work = Work.of(context)
        counts = _search(context, work)
        journal = context.rows_journal(
            self.name,
            target,
            {"index": work.index_dtype, "distance": "float32"},
            dims=NEIGHBORS["index"].dims,
            tail_shape=(work.k,),
        )
        if not journal.entries:
            _describe(target, work)
        shared = context.executor.share({"offsets": counts.offsets})
        task = GatherTask(work, shared, target)
        items = {p.index: GatherItem(p, counts.units_of(p)) for p in context.partitions}
        context.run_partitions(
            self.name, task, journal, items=items, name="neighbors: in the order of the images"
        )
        store.step(self.name).details = {"found": True, "k": work.k, **_noted_effort(store)}
        store.replace([(target, final)])
        for folder in (work.sorted, work.order, work.buckets, work.found):
            discard(folder)

    def outputs(self, run: Path) -> list[Path]:
        """Return the neighbours."""
        return [run / layout.NEIGHBORS / zarr_io.GROUP_METADATA]

    def results(self, run: Path) -> list[Path]:
        """Return the neighbours."""
        return [run / layout.NEIGHBORS]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the passes: sample, sorting, leaves, search, and the order of the images."""
        settings = sizes.config.section(NeighborsSettings)
        if settings.enabled is False:
            return []
        n, d, k = sizes.n_samples, sizes.dims["component"], settings.k
        scores, copy = n * score_row_bytes(sizes), n * (_copied_row_bytes(sizes) + 12)
        found, result = n * 8 * (k + 1), n * 8 * k
        n_regions = region_count(n)
        rows = min(n, 2 * 4096 * bucket_regions(n_regions))
        unit = min(n, max(sizes.block_rows, UNIT_BYTES // (4 * d)))
        n_buckets = -(-n_regions // bucket_regions(n_regions))
        sorting = {"rows": 5 * unit * (4 * d + 16)}
        # Panels are filled to three quarters.
        search = {"rows": 2 * rows * d * 10, "found": 3 * rows * 16 * (k + 1)}
        gather = {"found": 2 * unit * 8 * (k + 1) + 3 * sizes.block_rows * 8 * (k + 1)}
        return [
            TaskPlan(
                "neighbors: sample",
                sizes.n_partitions,
                scores,
                0,
                {"rows": 3 * sizes.block_rows * d * 4 + 3 * sample_rows(n) * d * 4},
                ADVICE,
            ),
            TaskPlan("neighbors: sort", -(-n // unit), scores, copy, sorting, ADVICE),
            TaskPlan(
                "neighbors: leaves",
                n_buckets,
                copy,
                copy,
                {"rows": 5 * rows * (4 * d + 16)},
                ADVICE,
            ),
            TaskPlan("neighbors: search", n_buckets, 8 * copy, found, search, ADVICE),
            TaskPlan("neighbors: gather", sizes.n_partitions, found, result, gather, ADVICE),
        ]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with images, and of an exact search with their square."""
        settings = sizes.config.section(NeighborsSettings)
        if settings.enabled is False:
            return 0.0
        return seconds(sizes)

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the neighbours."""
        record = store.step(self.name)
        if record.state == "complete" and record.details.get("found"):
            place = store.path / layout.NEIGHBORS
            yield from check_rows_of_step(store, self.name, "blocks", place, list(NEIGHBORS))

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many neighbours there are, and the share of the true ones."""
        return {"neighbors": store.step(self.name).details}


def seconds(sizes: Sizes) -> float:
    """Return about how long the step takes on the workers of this machine [s]."""
    n, d = sizes.n_samples, sizes.dims["component"] / 50
    row = 15e-6 * d
    if n <= sizes.config.section(NeighborsSettings).exact_up_to:
        row += 2.5e-10 * d * n
    return 0.2 + sizes.rows_per_worker * row


def disk_bytes(sizes: Sizes) -> int:
    """Return the most that the step holds on disk at a time, its result among it [bytes]."""
    n, k = sizes.n_samples, sizes.config.section(NeighborsSettings).k
    copy, found = n * (_copied_row_bytes(sizes) + 12), n * 8 * (k + 1)
    return max(2 * copy, copy + found, 2 * found + 8 * n)


def _copied_row_bytes(sizes: Sizes) -> int:
    """Return the bytes of the scores of an image in the copy that is searched."""
    is_exact = sizes.n_samples <= sizes.config.section(NeighborsSettings).exact_up_to
    return sizes.dims["component"] * (4 if is_exact else 2)


def _why_not(context: Context) -> str:
    """Return why neighbours are not looked for; empty where they are."""
    settings = context.config.section(NeighborsSettings)
    if settings.enabled != "auto":
        return "" if settings.enabled else "neighbors.enabled is false"
    if context.store.journal(NeighborsStep.name, "regions").entries:
        # What was begun is finished.
        return ""
    sizes = Sizes.of(context.steps, context.images, context.config)
    scores = stored_scores(context.store)
    sizes.dims["component"] = scores.n_features
    needed, free = disk_bytes(sizes), shutil.disk_usage(context.store.path).free
    if needed > AUTO_DISK * free:
        return f"{format_bytes(needed)} of disk are needed, {format_bytes(free)} are free; neighbors.enabled=true tries all the same"
    if seconds(sizes) > AUTO_SECONDS:
        return (
            f"about {seconds(sizes) / 60:.0f} minutes are needed; neighbors.enabled=true takes them"
        )
    return ""


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

    @classmethod
    def of(cls, context: Context) -> Work:
        """Return the work of a run."""
        settings, n = context.config.section(NeighborsSettings), context.n_samples
        folder = context.store.folder(NeighborsStep.name)
        return cls(folder, n, settings.k, n <= settings.exact_up_to, settings.recall)

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


@dataclass(frozen=True, slots=True)
class Unit:
    """Consecutive blocks whose scores are sorted together."""

    index: int
    blocks: tuple[RowRange, ...]

    @property
    def n_rows(self) -> int:
        """Rows of all blocks."""
        return self.blocks[-1].stop - self.blocks[0].start


@dataclass(frozen=True, slots=True)
class BucketItem:
    """A bucket, and how many rows come to it."""

    index: int
    n_rows: int


@dataclass(frozen=True, slots=True)
class GatherItem:
    """A partition of the images, and the units it was sorted by."""

    partition: Partition
    units: list[Unit]

    @property
    def n_rows(self) -> int:
        """Rows of the partition."""
        return self.partition.n_rows


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the rows of each unit and bucket lie.

    Attributes
    ----------
    units : list of Unit
        All units, in the order of the images.
    offsets : int64 array of shape (n_units, n_buckets + 1)
        Where the rows of each bucket begin among the sorted ones of a unit, and their number.
    """

    units: list[Unit]
    offsets: NDArray[np.int64]

    @classmethod
    def noted(cls, store: RunStore, units: list[Unit]) -> Counts:
        """Return what the tasks that sorted have noted."""
        reports = store.noted(NeighborsStep.name, "sorted")
        sizes = np.array([reports[unit.index]["sizes"] for unit in units])
        return cls(units, np.pad(sizes.cumsum(axis=1), ((0, 0), (1, 0))))

    def buckets(self) -> dict[int, BucketItem]:
        """Return all buckets."""
        n_rows = np.diff(self.offsets, axis=1).sum(axis=0)
        return {index: BucketItem(index, int(n)) for index, n in enumerate(n_rows)}

    def units_of(self, partition: Partition) -> list[Unit]:
        """Return the units that a partition consists of."""
        stop = partition.start + partition.n_rows
        return [u for u in self.units if partition.start <= u.blocks[0].start < stop]


def _units(context: Context, n_features: int) -> list[Unit]:
    """Return the units of sorting: as many blocks of a partition as `UNIT_BYTES` hold."""
    n_blocks = max(1, UNIT_BYTES // (4 * n_features * context.block_rows))
    cut = [
        partition.blocks[first : first + n_blocks]
        for partition in context.partitions
        for first in range(0, len(partition.blocks), n_blocks)
    ]
    return [Unit(index, blocks) for index, blocks in enumerate(cut)]


def _search(context: Context, work: Work) -> Counts:
    """Do all passes up to the search that are left; return where what it found lies."""
    store = context.store
    regions = _regions(context, work)
    n_buckets = -(-regions.n_regions // bucket_regions(regions.n_regions))
    units = _units(context, stored_scores(store).n_features)
    found = _journal(store, "found", work.found, work.order)
    if len(found.entries) < n_buckets:
        leaves = _journal(store, "leaves", work.buckets, work.order)
        if len(leaves.entries) < n_buckets:
            _make_buckets(context, work, regions, units, leaves)
        counts = Counts.noted(store, units)
        _find(context, work, regions, counts, found)
    return Counts.noted(store, units)


def _journal(store: RunStore, part: str, *folders: Path) -> Journal:
    """Return the journal of a pass that leaves files in the first of some folders; needs all of them."""
    journal = store.journal(NeighborsStep.name, part, needs=folders)
    if not journal.entries:
        discard(folders[0])
        folders[0].mkdir(parents=True)
    return journal


def _make_buckets(
    context: Context, work: Work, regions: Regions, units: list[Unit], leaves: Journal
) -> None:
    """Sort the scores by region, and put those of each bucket into leaves."""
    store, step, scores = context.store, NeighborsStep.name, stored_scores(context.store)
    work.order.mkdir(parents=True, exist_ok=True)
    done = _journal(store, "sorted", work.sorted, work.order)
    sort = SortTask(scores, context.executor.share(regions.to_arrays()), work)
    items = {unit.index: unit for unit in units}
    context.run_partitions(step, sort, done, items=items, name="neighbors: sort")
    counts = Counts.noted(store, units)
    shared = context.executor.share({"offsets": counts.offsets, "centers": regions.centers})
    make = LeavesTask(work, shared, regions.n_regions)
    buckets = counts.buckets()
    context.run_partitions(step, make, leaves, items=buckets, name="neighbors: leaves")
    discard(work.sorted)


def _find(context: Context, work: Work, regions: Regions, counts: Counts, found: Journal) -> None:
    """Search the buckets."""
    step, executor, items = NeighborsStep.name, context.executor, counts.buckets()
    table = executor.reduce(partial(_part_of_table, work.buckets), list(items), _joined)
    effort = _effort(context, work, table, items)
    search = SearchTask(work, executor.share(table), regions.scale, effort.n_leaves)
    context.run_partitions(step, search, found, items=items, name="neighbors: search")
    discard(work.buckets)


def _regions(context: Context, work: Work) -> Regions:
    """Return the regions, made from a sample of the scores."""
    store, path = context.store, work.folder / "regions.npz"
    journal = store.journal(NeighborsStep.name, "regions", needs=(path,))
    if not journal.entries:
        n = context.n_samples
        regions: Regions = context.executor.reduce(
            partial(_draw, stored_scores(store)),
            context.partitions,
            _stacked,
            partial(_built, region_count(n)),
        )
        journal.append(0, {"file_crc": write_arrays(path, regions.to_arrays())})
    return Regions.from_arrays(read_arrays(path, journal.entries[0]["file_crc"]))


def _draw(scores: Rows, partition: Partition) -> NDArray[Any]:
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


def _stacked(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Return the rows of both."""
    return np.concatenate([left, right])


def _built(n_regions: int, sample: NDArray[Any]) -> Regions:
    """Return the regions of a sample."""
    return build_regions(sample, n_regions)


@dataclass(frozen=True, slots=True)
class SortTask:
    """Different rows of a unit, sorted by region, and which of them each image is."""

    scores: Rows
    regions: StoredArrays
    work: Work

    def __call__(self, unit: Unit) -> dict[str, Any]:
        """Bring equal rows together, sort them by region, write them."""
        regions = Regions.from_arrays(self.regions.load())
        first, work = unit.blocks[0].start, self.work
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
            places = _places(part_path(work.sorted, int(unit)))
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
        bucket, at = make_bucket(distinct, of_row, span, bases)
        boxes, (centers, n_leaves) = box_of(bucket), region_centers(bucket)
        path = part_path(work.buckets, item.index)
        arrays = bucket.to_arrays() | {
            "copies": bucket.copies.astype(work.index_dtype),
            "copy_start": bucket.copy_start.astype(np.int32),
            "place": at[place].astype(np.int32),
            "low": boxes.low,
            "high": boxes.high,
            "region_centers": centers,
            "n_leaves": n_leaves,
        }
        return {
            "file_crc": write_arrays(path, arrays),
            "bytes_read": n_bytes,
            "bytes_written": path.stat().st_size,
        }


def _places(path: Path) -> dict[str, ArrayPlace]:
    """Return where the arrays of a file lie; looked up once per process."""
    return _places_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _places_of(path: Path, written_ns: int) -> dict[str, ArrayPlace]:
    """Return where the arrays of a file lie that was written at a time."""
    del written_ns
    return ArrayPlace.find_all(path)


def _part_of_table(folder: Path, bucket: int) -> dict[str, NDArray[Any]]:
    """Return what is known of a bucket without its rows."""
    names = {"low": "low", "high": "high", "centers": "region_centers", "n_leaves": "n_leaves"}
    places = _places(part_path(folder, bucket))
    return {
        name: places[stored].read_range(0, places[stored].shape[0])
        for name, stored in names.items()
    }


def _joined(
    left: dict[str, NDArray[Any]], right: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return what is known of both buckets."""
    return {name: np.concatenate([left[name], right[name]]) for name in left}


@lru_cache(maxsize=2)
def _table(stored: StoredArrays) -> tuple[Boxes, Centers]:
    """Return bounds of the buckets and centres of the regions, read once per process."""
    arrays = stored.load()
    step = bucket_regions(len(arrays["n_leaves"]))
    return (
        Boxes(arrays["low"], arrays["high"]),
        center_table([(arrays["centers"], arrays["n_leaves"])], step),
    )


def _load_bucket(path: Path) -> Bucket:
    """Return a bucket, looked up once per process while it is among the last ones."""
    return _bucket_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _bucket_of(path: Path, written_ns: int) -> Bucket:
    """Return a bucket that was written at a time; its rows are read when they are looked at."""
    places = _places_of(path, written_ns)
    arrays = {
        name: places[name].read_range(0, places[name].shape[0])
        for name in ("copy_start", "copies", "start", "region_start", "centers", "bases")
    }
    for name in ("copy_start", "copies"):
        arrays[name] = arrays[name].astype(np.int64, copy=False)
    return Bucket(rows=places["rows"].map(), **arrays)


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
        boxes, centers = _table(self.shared)

        def load(number: int) -> Bucket:
            nonlocal n_loaded
            bucket = _load_bucket(part_path(work.buckets, number))
            n_loaded += bucket.rows.nbytes
            return bucket

        if item.n_rows == 0:
            nothing = np.empty((0, work.k + 1))
            found = Found(nothing.astype(np.int64), nothing.astype(np.float32))
        elif work.is_exact:
            found = search_bucket(item.index, boxes, load, work.k, self.scale)
        else:
            found = search_chosen(item.index, centers, load, work.k, self.scale, self.n_leaves)
        stored = _places(part_path(work.buckets, item.index))["place"]
        place = stored.read_range(0, stored.shape[0])
        path = part_path(work.found, item.index)
        arrays = {
            "index": found.number[place].astype(work.index_dtype),
            "distance": found.distance[place],
        }
        return {
            "file_crc": write_arrays(path, arrays),
            "bytes_read": n_loaded,
            "bytes_written": path.stat().st_size,
        }


def _effort(
    context: Context, work: Work, table: dict[str, NDArray[Any]], items: Mapping[int, BucketItem]
) -> Effort:
    """Return how many leaves are searched, as a sample shows; noted in a journal."""
    journal = context.store.journal(NeighborsStep.name, "effort")
    if not journal.entries:
        effort = Effort(0, 1.0, 0)
        if not work.is_exact:
            executor = context.executor
            shared = executor.share(table)
            (sampled,) = executor.map(partial(_sample, work), [shared])
            stored = executor.share(sampled._asdict())
            effort = executor.reduce(
                partial(_nearest_of_sample, work, shared, stored),
                list(items),
                merge_nearest,
                partial(_chosen_effort, work, stored),
            )
        journal.append(0, effort._asdict())
    noted = journal.entries[0]
    return Effort(noted["n_leaves"], noted["recall"], noted["n_rows"])


def _noted_effort(store: RunStore) -> dict[str, Any]:
    """Return what the summary says of how the neighbours were found."""
    noted = store.noted(NeighborsStep.name, "effort")[0]
    exact: dict[str, Any] = {
        "is_exact": noted["n_rows"] == 0,
        "recall": round(noted["recall"], 4),
    }
    return (
        exact
        if exact["is_exact"]
        else exact | {"recall_rows": noted["n_rows"], "leaves_searched": noted["n_leaves"]}
    )


def _sample(work: Work, shared: StoredArrays) -> Sampled:
    """Return the sampled leaves."""
    return sample_leaves(
        _table(shared)[1], lambda number: _load_bucket(part_path(work.buckets, number)), work.k
    )


@lru_cache(maxsize=2)
def _sampled(stored: StoredArrays) -> Sampled:
    """Return the sampled leaves, read once per process."""
    return Sampled(**stored.load())


def _nearest_of_sample(
    work: Work, shared: StoredArrays, stored: StoredArrays, number: int
) -> Nearest:
    """Return the nearest rows of a bucket to those of the sample."""
    bucket = _load_bucket(part_path(work.buckets, number))
    return nearest_in_bucket(_sampled(stored), bucket, _table(shared)[1].first_leaf(number), work.k)


def _chosen_effort(work: Work, stored: StoredArrays, nearest: Nearest) -> Effort:
    """Return how many leaves find enough of the true neighbours."""
    return choose_effort(_sampled(stored), nearest, work.recall)


@dataclass(frozen=True, slots=True)
class GatherTask:
    """The neighbours of the images of a partition, in the order of the images."""

    work: Work
    shared: StoredArrays
    target: Path

    def __call__(self, item: GatherItem) -> dict[str, Any]:
        """Read what was found for each unit, bucket by bucket; write it block by block."""
        checksums, bytes_read, bytes_written = [], 0, 0
        with zarr_io.rows_writers(self.target, NEIGHBORS, item.partition.start) as writers:
            for unit in item.units:
                found, n_bytes = self._found(unit)
                bytes_read += n_bytes
                rank = read_arrays(part_path(self.work.order, unit.index))["rank"]
                first = unit.blocks[0].start
                for rows in unit.blocks:
                    here = rank[rows.start - first : rows.stop - first]
                    of_rows = Found(*(array[here] for array in found))
                    index, distance = without_self(of_rows, np.arange(*rows))
                    writers["index"].append(index)
                    writers["distance"].append(distance)
                    checksums.append([zarr_io.crc(index), zarr_io.crc(distance)])
                    bytes_written += index.nbytes + distance.nbytes
        return {"crc": checksums, "bytes_read": bytes_read, "bytes_written": bytes_written}

    def _found(self, unit: Unit) -> tuple[Found, int]:
        """Return what was found for the sorted rows of a unit, and the bytes that were read."""
        offsets, work = self.shared.load()["offsets"], self.work
        sizes = np.diff(offsets, axis=1)
        before = sizes[: unit.index].sum(axis=0)
        shape = int(offsets[unit.index, -1]), work.k + 1
        found = Found(np.empty(shape, work.index_dtype), np.empty(shape, np.float32))
        for bucket in np.flatnonzero(sizes[unit.index]):
            rows = slice(*offsets[unit.index, bucket : bucket + 2].tolist())
            start = int(before[bucket])
            places = _places(part_path(work.found, int(bucket)))
            for name, array in (("index", found.number), ("distance", found.distance)):
                array[rows] = places[name].read_range(start, start + rows.stop - rows.start)
        return found, sum(array.nbytes for array in found)


def _describe(target: Path, work: Work) -> None:
    """Write what the arrays hold beside them."""
    for name, spec in NEIGHBORS.items():
        attrs = {"units": spec.unit, "long_name": spec.description}
        zarr_io.write_attrs(target, attrs, name)
    zarr_io.write_attrs(target, {"found": True, "is_exact": work.is_exact})
    zarr_io.consolidate(target)
