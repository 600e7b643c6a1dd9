"""neighbors: the nearest neighbours of every image, by its scores."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from dask.utils import format_bytes
from pydantic import Field

from workflow.chunks import BLOCK_BYTES, row_ranges
from workflow.config.fields import Section
from workflow.engine.partitions import in_units, units_of
from workflow.engine.plan import Sizes, TaskPlan
from workflow.engine.segments import n_searched
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.neighbors import (
    Effort,
    Regions,
    bucket_regions,
    merge_nearest,
    region_count,
    sample_rows,
)
from workflow.numerics import stacked
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.schema import ArraySpec
from workflow.steps.parts.neighbor_tasks import (
    BucketItem,
    GatherTask,
    LeavesTask,
    SearchTask,
    SortTask,
    Work,
    built_regions,
    chosen_effort,
    draw_sample,
    joined,
    nearest_of_sample,
    part_of_table,
    take_sample,
)
from workflow.steps.projection import score_row_bytes, stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.partitions import Partition
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
#: With ``auto``, seconds that the step may take by the plan, and the share of the free disk.
AUTO_SECONDS, AUTO_DISK = 900.0, 0.8
#: What an image takes beside the comparisons, a leaf that it is compared with, and those comparisons
#: where all that bounds leave are made, among `SECONDS_ROWS` images; of 50 components [s].
SECONDS_BASE, SECONDS_LEAF, SECONDS_EXACT, SECONDS_ROWS = 4e-6, 2.1e-7, 6.5e-6, 20_000
#: Bytes of a neighbour, and images that a leaf has about.
FOUND_BYTES, LEAF_IMAGES = 8, 20
#: Bytes of scores of the largest unit of sorting, in float32.
UNIT_BYTES = BLOCK_BYTES // 2
#: What to change where so much memory is not there.
ADVICE = {
    "rows": "Lower pca.n_components",
    "found": "Lower neighbors.k",
    "lists": "Lower neighbors.recall",
}
#: What a search holds of leaves that are compared, where not all are.
LISTS_BYTES = 192 * 2**20


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
    version = 3

    def run(self, context: Context) -> None:
        """Sort the scores into buckets, search them, and put what is found in the order of the images."""
        store = context.store
        final, target = store.path / layout.NEIGHBORS, store.path / layout.WIP / layout.NEIGHBORS
        work = _work(context)
        reason = _why_not(context) or _search(context, work)
        if reason:
            # Without arrays: that the step is complete shows in a group, which may be empty.
            place = store.wip(layout.NEIGHBORS)
            zarr_io.create_group(place, {"found": False, "reason": reason})
            zarr_io.consolidate(place)
            store.replace([(place, final)])
            store.step(self.name).details = {"found": False, "reason": reason}
            work.discard()
            return
        counts = Counts.noted(store, _units(context, stored_scores(store).n_features))
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
        items = in_units(context.partitions, counts.units)
        context.run_partitions(
            self.name, task, journal, items=items, name="neighbors: in the order of the images"
        )
        store.step(self.name).details = {"found": True, "k": work.k, **_noted_effort(store)}
        store.replace([(target, final)])
        work.discard()

    def outputs(self, run: Path) -> list[Path]:
        """Return the neighbours."""
        return [run / layout.NEIGHBORS / zarr_io.GROUP_METADATA]

    def results(self, run: Path) -> list[Path]:
        """Return the neighbours."""
        return [run / layout.NEIGHBORS]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the passes: sample, sorting, leaves, search, and the order of the images."""
        settings = sizes.config.section(NeighborsSettings)
        if not is_planned(sizes):
            return []
        n, d, k = sizes.n_samples, sizes.dims["component"], settings.k
        scores, copy = n * score_row_bytes(sizes), n * _bucket_row_bytes(sizes)
        result = n * FOUND_BYTES * k
        found = result + 4 * n
        n_regions = region_count(n)
        rows = min(n, 2 * 4096 * bucket_regions(n_regions))
        unit = min(n, max(sizes.block_rows, UNIT_BYTES // (4 * d)))
        n_buckets = -(-n_regions // bucket_regions(n_regions))
        sorting = {"rows": 5 * unit * (4 * d + 16)}
        # Panels are filled to three quarters.
        search = {"rows": 2 * rows * d * 10, "found": 3 * rows * 16 * (k + 1)}
        if n > settings.exact_up_to:
            search["lists"] = LISTS_BYTES
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
        return seconds(sizes) if is_planned(sizes) else 0.0

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the neighbours."""
        record = store.step(self.name)
        if record.state == "complete" and record.details.get("found"):
            place = store.path / layout.NEIGHBORS
            # Images that `update` has added have none.
            n_samples = zarr_io.StoredRows.open(place, "index").n_samples
            rows = row_ranges(n_samples, store.manifest.images["block_rows"])
            names = list(NEIGHBORS)
            yield from check_rows_of_step(store, self.name, "blocks", place, names, rows=rows)

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many neighbours there are, and the share of the true ones."""
        return {"neighbors": store.step(self.name).details}


def has_neighbors(store: RunStore) -> bool:
    """Return whether the nearest neighbours of all images are stored; those that `update` has added have none."""
    record = store.step(NeighborsStep.name)
    is_found = record.state == "complete" and bool(record.details.get("found"))
    return is_found and n_searched(store) == store.manifest.images["shape"][0]


def is_planned(sizes: Sizes) -> bool:
    """Return whether neighbours will be looked for, as far as the settings say."""
    enabled = sizes.config.section(NeighborsSettings).enabled
    return enabled is True or (enabled == "auto" and seconds(sizes) <= AUTO_SECONDS)


def seconds(sizes: Sizes, n_leaves: int | None = None) -> float:
    """Return about how long the step takes on the workers of this machine [s].

    `n_leaves` is how many leaves an image is compared with, where that is known.
    """
    n, d = sizes.n_samples, sizes.dims["component"] / 50
    if n <= sizes.config.section(NeighborsSettings).exact_up_to:
        compared: float = SECONDS_EXACT * (n / SECONDS_ROWS) ** 0.4
    else:
        # What windows of photographs and the images of the demo take.
        compared = SECONDS_LEAF * (n_leaves or 48 * (n / 4_800_000) ** (1 / 3))
    return 0.2 + sizes.rows_per_worker * (SECONDS_BASE + compared) * d


def disk_bytes(sizes: Sizes) -> int:
    """Return the most that the step holds on disk at a time, its result among it [bytes]."""
    k = sizes.config.section(NeighborsSettings).k
    bucket, found = _bucket_row_bytes(sizes), FOUND_BYTES * k + 4
    # Sorted and in buckets; in buckets and found; found and in the order of the images.
    largest = max(2 * bucket, bucket + found, found + FOUND_BYTES * k)
    return sizes.n_samples * (largest + 4)


def _bucket_row_bytes(sizes: Sizes) -> int:
    """Return the bytes of an image in the copy that is searched, its share of a leaf's centre among it."""
    is_exact = sizes.n_samples <= sizes.config.section(NeighborsSettings).exact_up_to
    d = sizes.dims["component"]
    return d * (4 if is_exact else 2) + 12 + 4 * d // LEAF_IMAGES


def _why_not(context: Context) -> str:
    """Return why neighbours are not looked for; empty where they are."""
    settings = context.config.section(NeighborsSettings)
    if settings.enabled != "auto":
        return "" if settings.enabled else "neighbors.enabled is false"
    if context.store.journal(NeighborsStep.name, "regions").entries:
        # What was begun is finished.
        return ""
    sizes = sizes_of(context)
    needed, free = disk_bytes(sizes), shutil.disk_usage(context.store.path).free
    if needed > AUTO_DISK * free:
        return f"{format_bytes(needed)} of disk are needed, {format_bytes(free)} are free; neighbors.enabled=true tries all the same"
    return _too_long(sizes)


def _too_long(sizes: Sizes, n_leaves: int | None = None) -> str:
    """Return that it takes too long to be done unasked; empty where it does not."""
    needed = seconds(sizes, n_leaves)
    if needed <= AUTO_SECONDS:
        return ""
    return f"about {needed / 60:.0f} minutes are needed; neighbors.enabled=true takes them"


def sizes_of(context: Context) -> Sizes:
    """Return the sizes of a run whose scores are there."""
    sizes = Sizes.of(context.steps, context.images, context.config)
    sizes.dims["component"] = stored_scores(context.store).n_features
    return sizes


@dataclass(frozen=True, slots=True)
class Counts:
    """Where the rows of each unit and bucket lie.

    Attributes
    ----------
    units : list of Partition
        All units, in the order of the images.
    offsets : int64 array of shape (n_units, n_buckets + 1)
        Where the rows of each bucket begin among the sorted ones of a unit, and their number.
    """

    units: list[Partition]
    offsets: NDArray[np.int64]

    @classmethod
    def noted(cls, store: RunStore, units: list[Partition]) -> Counts:
        """Return what the tasks that sorted have noted."""
        reports = store.noted(NeighborsStep.name, "sorted")
        sizes = np.array([reports[unit.index]["sizes"] for unit in units])
        return cls(units, np.pad(sizes.cumsum(axis=1), ((0, 0), (1, 0))))

    def buckets(self) -> dict[int, BucketItem]:
        """Return all buckets."""
        n_rows = np.diff(self.offsets, axis=1).sum(axis=0)
        return {index: BucketItem(index, int(n)) for index, n in enumerate(n_rows)}


def _units(context: Context, n_features: int) -> list[Partition]:
    """Return the units of sorting: as many blocks of a partition as `UNIT_BYTES` hold."""
    n_blocks = max(1, UNIT_BYTES // (4 * n_features * context.block_rows))
    return units_of(context.partitions, n_blocks)


def _search(context: Context, work: Work) -> str:
    """Do all passes up to the search that are left; return why that is given up, if it is."""
    store = context.store
    regions = _regions(context, work)
    n_buckets = -(-regions.n_regions // bucket_regions(regions.n_regions))
    units = _units(context, stored_scores(store).n_features)
    found = _journal(store, "found", work.found, work.order)
    if len(found.entries) < n_buckets:
        leaves = _journal(store, "leaves", work.buckets, work.order)
        if len(leaves.entries) < n_buckets:
            _make_buckets(context, work, regions, units, leaves)
        return _find(context, work, regions, Counts.noted(store, units), found)
    return ""


def _journal(store: RunStore, part: str, *folders: Path) -> Journal:
    """Return the journal of a pass that leaves files in the first of some folders; needs all of them."""
    journal = store.journal(NeighborsStep.name, part, needs=folders)
    if not journal.entries:
        discard(folders[0])
        folders[0].mkdir(parents=True)
    return journal


def _make_buckets(
    context: Context, work: Work, regions: Regions, units: list[Partition], leaves: Journal
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


def _find(context: Context, work: Work, regions: Regions, counts: Counts, found: Journal) -> str:
    """Search the buckets; return why not, where a sample shows that it takes too long unasked."""
    step, executor, items = NeighborsStep.name, context.executor, counts.buckets()
    table = executor.reduce(partial(part_of_table, work.buckets), list(items), joined)
    effort = _effort(context, work, table, items)
    is_asked = context.config.section(NeighborsSettings).enabled is True
    if not (is_asked or work.is_exact or found.entries):
        reason = _too_long(sizes_of(context), effort.n_leaves)
        if reason:
            return reason
    search = SearchTask(work, executor.share(table), regions.scale, effort.n_leaves)
    context.run_partitions(step, search, found, items=items, name="neighbors: search")
    discard(work.buckets)
    return ""


def _regions(context: Context, work: Work) -> Regions:
    """Return the regions, made from a sample of the scores."""
    store, path = context.store, work.folder / "regions.npz"
    journal = store.journal(NeighborsStep.name, "regions", needs=(path,))
    if not journal.entries:
        n = context.n_samples
        regions: Regions = context.executor.reduce(
            partial(draw_sample, stored_scores(store)),
            context.partitions,
            stacked,
            partial(built_regions, region_count(n)),
        )
        journal.append(0, {"file_crc": write_arrays(path, regions.to_arrays())})
    return Regions.from_arrays(read_arrays(path, journal.entries[0]["file_crc"]))


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
            (sampled,) = executor.map(partial(take_sample, work), [shared])
            stored = executor.share(sampled._asdict())
            effort = executor.reduce(
                partial(nearest_of_sample, work, shared, stored),
                list(items),
                merge_nearest,
                partial(chosen_effort, work, shared, stored),
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


def _work(context: Context) -> Work:
    """Return what is searched in a run."""
    settings, n = context.config.section(NeighborsSettings), context.n_samples
    folder = context.store.folder(NeighborsStep.name)
    return Work(folder, n, settings.k, n <= settings.exact_up_to, settings.recall)


def _describe(target: Path, work: Work) -> None:
    """Write what the arrays hold beside them."""
    for name, spec in NEIGHBORS.items():
        attrs = {"units": spec.unit, "long_name": spec.description}
        zarr_io.write_attrs(target, attrs, name)
    zarr_io.write_attrs(target, {"found": True, "is_exact": work.is_exact})
    zarr_io.consolidate(target)
