"""families: groups of images of the same source, found on the graph of the nearest neighbours."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from dask.utils import format_bytes
from pydantic import Field

from workflow.chunks import row_ranges
from workflow.config.fields import Section
from workflow.engine.partitions import in_units, units_of
from workflow.engine.plan import Sizes, TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.errors import ConfigError
from workflow.families import coarse_test, find_families, method_of
from workflow.families.neighbor_graph import N_NEIGHBORS
from workflow.families.regions import N_CUTS, Cuts, dealt
from workflow.numerics import stacked
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.schema import ArraySpec
from workflow.steps.base import CopyTask, call, described
from workflow.steps.neighbors import (
    AUTO_DISK,
    AUTO_SECONDS,
    NeighborsSettings,
    is_planned,
    sizes_of,
)
from workflow.steps.neighbors import seconds as neighbors_seconds
from workflow.steps.parts.family_ids import keep_ids, rows_found
from workflow.steps.parts.family_tasks import (
    SAMPLE_ROWS,
    STRENGTH_ROWS,
    UNIT_ROWS,
    CompareTask,
    DimensionTask,
    FamilyRows,
    PlaceTask,
    Range,
    RegionGroup,
    SolveTask,
    SortTask,
    StrengthTask,
    TableTask,
    Work,
    WriteTask,
    chosen_scores,
    cuts_of,
    draw_sample,
    region_count,
    rows_of,
    selection_of,
)
from workflow.steps.projection import score_row_bytes, stored_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import InUnits, Partition
    from workflow.mapper import Rows
    from workflow.runstore import RunStore
    from workflow.runstore.journal import Journal

#: What the graph takes of each image in the task that holds it [bytes].
IMAGE_BYTES = 1_400
#: What to change where that is not there.
_ADVICE = {"graph": "Lower families.region_images or set families.enabled=false"}
#: Most bytes of sorted lists on disk at a time; 48 million images take twice as many.
SORTED_BYTES = 4 * 10**9
#: What a region takes of each of its images [bytes].
REGION_BYTES = 1_000
#: Images below which the tree cannot test its clusters, and they are tested here.
FEW_IMAGES = 5_000
#: Arrays of ``RUN/families.zarr``, which the labels take over.
ROWS = {
    "family": ArraySpec(("sample",), "int32", "family", "family of the image; -1 is none"),
    "family_strength": ArraySpec(
        ("sample",), "float32", "1", "share of the image's ties that stay in its family, 0 to 1"
    ),
}
#: Arrays of ``model.zarr``.
ARRAYS = {
    "family_size": ArraySpec(
        ("family",), "int64", "image", "images of each family; 0 where one is gone"
    ),
    "family_conductance": ArraySpec(
        ("family",), "float64", "1", "weight that leaves the family over the weight of its images"
    ),
    "family_expected": ArraySpec(
        ("family",), "float64", "1", "conductance of such a community of a smooth cloud"
    ),
    "family_dimension": ArraySpec(("family",), "float64", "1", "dimension around the family"),
    "family_p": ArraySpec(
        ("family",), "float64", "1", "probability of a conductance as low in a smooth cloud"
    ),
    "family_exemplars": ArraySpec(
        ("family", "exemplar"), "int64", "image", "most central images; -1 where fewer"
    ),
}


class FamiliesSettings(Section):
    """Groups of images of the same source."""

    enabled: bool | Literal["auto"] = "auto"
    """Whether they are looked for; auto: where there are neighbours, and time and disk are enough."""
    region_images: int = Field(default=1_000_000, ge=2)
    """Images up to which one task holds all ties; of more, it holds regions of about half as many."""
    method: Literal["map-equation", "modularity"] = "map-equation"
    """How communities of the graph are found."""
    resolution: float = Field(default=32.0, gt=0)
    """Weight of chance in the modularity: the larger, the smaller the communities."""
    significance: float = Field(default=0.01, gt=0, lt=1)
    """Expected share of false families among those found."""
    max_sparsity: float = Field(default=1.7, gt=0)
    """Images whose neighbours are farther than this times those of their neighbours lie alone."""


class FamiliesStep(Step):
    """Find the families of the images."""

    name = "families"
    section = FamiliesSettings
    settings = (
        "families.enabled",
        "families.region_images",
        "families.method",
        "families.resolution",
        "families.significance",
        "families.max_sparsity",
    )
    reads = ("projection", "neighbors")
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Find them in one task, then write the family of each image, partition by partition."""
        store = context.store
        final, target = store.path / layout.FAMILIES, store.path / layout.WIP / layout.FAMILIES
        reason = _why_not(context)
        if reason:
            # Without arrays: that the step is complete shows in a group, which may be empty.
            place = store.wip(layout.FAMILIES)
            zarr_io.create_group(place, {"families": "untested", "reason": reason})
            store.replace([(place, final)])
            store.step(self.name).details = _details("untested", reason=reason)
            return
        settings = context.config.section(FamiliesSettings)
        found = store.folder(self.name) / "found.npz"
        found.parent.mkdir(parents=True, exist_ok=True)
        journal = context.rows_journal(
            self.name, target, {name: spec.dtype for name, spec in ROWS.items()}
        )
        search = self._in_regions(context)
        if not journal.entries or not found.exists():
            if search:
                details = search.find(found)
            else:
                task = FindTask(
                    store.path / layout.NEIGHBORS,
                    stored_scores(store),
                    context.block_rows,
                    settings,
                    found,
                )
                (details,) = context.executor.map(call, [task])
            names = tuple(name.removeprefix("family_") for name in ARRAYS)
            if search:
                keep_ids(context.executor, store, found, names, *search.rows(found))
            else:
                rows = partial(rows_found, found)
                keep_ids(context.executor, store, found, names, rows, context.partitions)
            arrays = {
                f"family_{name}": array for name, array in read_arrays(found, names=names).items()
            }
            store.write_model(self.name, described(ARRAYS, arrays), details)
            for name, spec in ROWS.items():
                attrs = {"units": spec.unit, "long_name": spec.description}
                zarr_io.write_attrs(target, attrs, name)
            zarr_io.write_attrs(target, {"families": details["families"]})
            zarr_io.consolidate(target)
        if search:
            search.write(found, target, tuple(ROWS), journal)
        else:
            context.run_partitions(self.name, CopyTask(found, target, tuple(ROWS)), journal)
        store.step(self.name).details = dict(store.model_attrs(self.name))
        store.replace([(target, final)])
        discard(found)
        if search:
            search.discard()

    def _in_regions(self, context: Context) -> RegionSearch | None:
        """Return the search by regions where one task cannot hold all ties."""
        settings, store = context.config.section(FamiliesSettings), context.store
        if context.n_samples <= settings.region_images:
            return None
        work = Work(
            store.folder(self.name),
            store.path / layout.NEIGHBORS,
            stored_scores(store),
            max(1, settings.region_images // 2),
        )
        return RegionSearch(context, self.name, work, settings.max_sparsity, settings.significance)

    def outputs(self, run: Path) -> list[Path]:
        """Return the families."""
        return [run / layout.FAMILIES / zarr_io.GROUP_METADATA]

    def results(self, run: Path) -> list[Path]:
        """Return the families."""
        return [run / layout.FAMILIES]

    def check(self, sizes: Sizes) -> None:
        """Refuse families where no neighbours are looked for, or too few."""
        neighbors = sizes.config.section(NeighborsSettings)
        if sizes.config.section(FamiliesSettings).enabled is not True:
            return
        if neighbors.enabled is False:
            msg = "families.enabled needs the nearest neighbours; neighbors.enabled is false. Set it to true, too."
            raise ConfigError(msg)
        if neighbors.k < N_NEIGHBORS:
            msg = f"families.enabled needs {N_NEIGHBORS} neighbours of each image; neighbors.k is {neighbors.k}. Raise it."
            raise ConfigError(msg)
        if _needs_one_task(sizes):
            msg = f"families.method=modularity needs all ties in one task, which families.region_images allows for {_region_limit(sizes)} images; there are {sizes.n_samples}. Set families.method=map-equation."
            raise ConfigError(msg)

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the task that holds the graph, or the passes by regions, and the one that writes rows."""
        if not _is_planned(sizes):
            return []
        n = sizes.n_samples
        if n > sizes.config.section(FamiliesSettings).region_images:
            return passes(sizes, _region_rows(sizes), score_row_bytes(sizes), _ADVICE)
        read = n * (8 * sizes.config.section(NeighborsSettings).k + score_row_bytes(sizes))
        return [
            TaskPlan("families: find", 1, read, 8 * n, {"graph": IMAGE_BYTES * n}, _ADVICE),
            TaskPlan(
                "families: write", sizes.n_partitions, 8 * n, 8 * n, {"rows": 24 * sizes.block_rows}
            ),
        ]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with images."""
        return seconds(sizes) if _is_planned(sizes) else 0.0

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the family of each image."""
        record = store.step(self.name)
        if record.state == "complete" and families_of(store) is not None:
            place = store.path / layout.FAMILIES
            yield from check_rows_of_step(store, self.name, "blocks", place, list(ROWS))

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many families there are, and the share of the images in them."""
        details = store.step(self.name).details
        return {name: details[name] for name in ("n_families", "family_fraction", "families")}


def families_of(store: RunStore) -> Path | None:
    """Return the Zarr group with the family of each image; None where none were looked for."""
    place = store.path / layout.FAMILIES
    if store.step(FamiliesStep.name).state != "complete" or not place.exists():
        return None
    return place if "family" in zarr_io.array_names(place) else None


def family_sizes(store: RunStore) -> NDArray[np.int64]:
    """Return the images of each family by its number; 0 where one is gone, empty where none were found."""
    if not store.step(FamiliesStep.name).details.get("n_families"):
        return np.empty(0, np.int64)
    sizes: NDArray[np.int64] = store.read_model("family_size")[0]
    return sizes


def _details(
    state: str, *, n_families: int = 0, family_fraction: float = 0.0, **more: Any
) -> dict[str, Any]:
    """Return what the manifest says of families."""
    return {
        "families": state,
        "n_families": n_families,
        "family_fraction": family_fraction,
        **more,
    }


def seconds(sizes: Sizes) -> float:
    """Return about how long the step takes on the workers of this machine [s]."""
    if sizes.n_samples <= _region_limit(sizes):
        # One task does nearly all.
        return 0.3 + 5.5e-5 * sizes.n_samples
    return 1.0 + 1.8e-5 * sizes.rows_per_worker


def _region_limit(sizes: Sizes) -> int:
    """Return how many images one task holds the ties of."""
    return sizes.config.section(FamiliesSettings).region_images


def _region_rows(sizes: Sizes) -> int:
    """Return how many images a region has about."""
    return max(1, _region_limit(sizes) // 2)


def _needs_one_task(sizes: Sizes) -> bool:
    """Return whether there are more images than the method can do."""
    method = sizes.config.section(FamiliesSettings).method
    return method == "modularity" and sizes.n_samples > _region_limit(sizes)


def _is_planned(sizes: Sizes) -> bool:
    """Return whether families will be looked for, as far as the settings say."""
    enabled = sizes.config.section(FamiliesSettings).enabled
    neighbors = sizes.config.section(NeighborsSettings)
    if not is_planned(sizes) or neighbors.k < N_NEIGHBORS:
        return False
    return enabled is True or (enabled == "auto" and not _too_much(sizes, None))


def _too_much(sizes: Sizes, free: int | None, n_leaves: int | None = None) -> str:
    """Return why families are too much to be looked for unasked; empty where they are not.

    `n_leaves` is how many leaves an image was compared with for its neighbours.
    """
    if _needs_one_task(sizes):
        return f"families.method=modularity takes at most families.region_images={_region_limit(sizes)} images; map-equation takes more"
    both = seconds(sizes) + neighbors_seconds(sizes, n_leaves)
    if both > AUTO_SECONDS:
        return f"about {both / 60:.0f} minutes are needed with the neighbours; families.enabled=true takes them"
    needed = disk_bytes(sizes) if sizes.n_samples > _region_limit(sizes) else 0
    if free is not None and needed > AUTO_DISK * free:
        return f"{format_bytes(needed)} of disk are needed, {format_bytes(free)} are free; families.enabled=true tries all the same"
    return ""


def _why_not(context: Context) -> str:
    """Return why families are not looked for; empty where they are."""
    settings = context.config.section(FamiliesSettings)
    store = context.store
    neighbors = store.step("neighbors").details
    if settings.enabled is False:
        return "families.enabled is false"
    if not neighbors.get("found"):
        return f"there are no nearest neighbours: {neighbors.get('reason')}"
    if neighbors["k"] < N_NEIGHBORS:
        return f"{N_NEIGHBORS} neighbours of each image are needed; neighbors.k is {neighbors['k']}"
    if settings.enabled is True or store.noted(FamiliesStep.name, "cuts"):
        # What was begun is finished.
        return ""
    free = shutil.disk_usage(store.path).free
    return _too_much(sizes_of(context), free, neighbors.get("leaves_searched"))


def row_bytes() -> int:
    """Return the bytes of an image in the sorted lists: it, its ties, its strength, community, patch, region."""
    return 4 + 8 * N_NEIGHBORS + 8 + 4 + 2 + 2 + 1


def disk_bytes(sizes: Sizes) -> int:
    """Return the most that the passes hold on disk at a time [bytes]."""
    # Places and strengths, the sorted lists, and the regions of both cuts.
    n = sizes.n_samples
    return n * (8 + 8 + 10 + 14) + n * row_bytes() // group_count(n)


def group_count(n_samples: int) -> int:
    """Return in how many groups of regions the lists are sorted and solved, one after the other."""
    return -(-n_samples * row_bytes() // SORTED_BYTES)


def passes(
    sizes: Sizes, region_rows: int, score_bytes: int, advice: Mapping[str, str]
) -> list[TaskPlan]:
    """Return the passes by regions."""
    n, d = sizes.n_samples, sizes.dims["component"]
    ties = 8 * N_NEIGHBORS * n
    unit = min(n, max(sizes.block_rows, UNIT_ROWS))
    n_units, n_regions = -(-n // unit), region_count(n, region_rows)
    scores, scale, of_region = n * score_bytes, 4 * n, 2 * REGION_BYTES * region_rows
    read = 2 * sizes.block_rows * (score_bytes + 8 * d)
    sort = {"rows": 2 * unit * (row_bytes() + 16 * N_NEIGHBORS), "scales": scale}
    strengths = {
        "scales": scale,
        "sums": 8 * min(n, STRENGTH_ROWS),
        "rows": 32 * 15 * sizes.block_rows,
    }
    sample = {"rows": read + 12 * SAMPLE_ROWS * n_regions * d}
    tasks = [
        TaskPlan("families: cuts", sizes.n_partitions, scores, 0, sample),
        TaskPlan(
            "families: places", n_units, scores + ties // 2, 8 * n, {"rows": read + 16 * unit}
        ),
        TaskPlan("families: strengths", -(-n // STRENGTH_ROWS), ties, 8 * n, strengths),
    ]
    for cut in range(N_CUTS):
        tasks += [
            TaskPlan(
                f"families: sorted-{cut}",
                n_units * group_count(n),
                ties * group_count(n),
                row_bytes() * n,
                sort,
            ),
            TaskPlan(
                f"families: solved-{cut}",
                n_regions,
                row_bytes() * n,
                12 * n,
                {"graph": of_region},
                advice,
            ),
        ]
    return [
        *tasks,
        TaskPlan("families: dimensions", n_units, scores, 0, {"rows": read + 64 * 2**20}),
        TaskPlan(
            "families: write", sizes.n_partitions, 12 * n, 8 * n, {"rows": 64 * unit, "table": n}
        ),
    ]


@dataclass
class RegionSearch:
    """All passes, each in a journal: what is there already is not made again.

    Attributes
    ----------
    context : Context
        The run.
    step : str
        Name of the step.
    work : Work
        What is cut.
    max_sparsity, significance : float
        Settings of the step.
    """

    context: Context
    step: str
    work: Work
    max_sparsity: float
    significance: float

    def find(self, found: Path) -> dict[str, Any]:
        """Find the families, leave them in a file, return what is said of them."""
        work, context = self.work, self.context
        self._solved(N_CUTS - 1)
        n_regions = len(self.context.store.noted(self.step, f"solved-{N_CUTS - 1}"))
        table = work.folder / "table.npz"
        if not context.store.journal(self.step, "table", needs=(table,)).entries:
            (report,) = context.executor.map(call, [TableTask(work, n_regions, table)])
            context.store.journal(self.step, "table", needs=(table,)).append(0, report)
        sampled = context.executor.reduce(
            partial(chosen_scores, work, table), self.units, stacked, selection_of
        )
        task = DimensionTask(work, table, context.executor.share(sampled))
        self._run("dimensions", task, work.dimensions, self._items(self.units))
        compare = CompareTask(work, table, len(self.units), self.significance, found)
        (details,) = context.executor.map(call, [compare])
        return dict(details)

    def write(self, found: Path, target: Path, names: tuple[str, ...], journal: Journal) -> None:
        """Write the family of each image."""
        task = WriteTask(self._rows(found), target, names)
        items = in_units(self.context.partitions, self.units)
        self.context.run_partitions(self.step, task, journal, items=items, name="families: write")

    def rows(self, found: Path) -> tuple[Callable[[InUnits], Iterator[Any]], list[InUnits]]:
        """Return what tells the families of the images of an item, and the items of all images."""
        items = in_units(self.context.partitions, self.units)
        return self._rows(found).families, list(items.values())

    def _rows(self, found: Path) -> FamilyRows:
        """Return what gathers the families of images."""
        offsets = self.context.executor.share({"solved": self._offsets(N_CUTS - 1)})
        return FamilyRows(self.work, offsets, found)

    def discard(self) -> None:
        """Remove what lies between."""
        work = self.work
        for folder in (work.places, work.strengths, work.sorted, work.dimensions):
            discard(folder)
        for cut in range(N_CUTS):
            discard(work.solved(cut))
        discard(work.folder / "table.npz")

    @cached_property
    def units(self) -> list[Partition]:
        """Consecutive blocks whose lists are sorted together."""
        n_blocks = max(1, UNIT_ROWS // self.context.block_rows)
        return units_of(self.context.partitions, n_blocks)

    @staticmethod
    def _items(items: list[Any]) -> dict[int, Any]:
        """Return items by their numbers."""
        return {item.index: item for item in items}

    def _run(
        self, part: str, task: Any, folder: Path, items: Mapping[int, Any]
    ) -> Mapping[int, dict[str, Any]]:
        """Run a pass that leaves files in a folder."""
        journal = self.context.store.journal(self.step, part, needs=(folder,))
        if not journal.entries:
            discard(folder)
            folder.mkdir(parents=True)
        name = f"families: {part}"
        return self.context.run_partitions(self.step, task, journal, items=items, name=name)

    def _cuts(self) -> StoredArrays:
        """Return the cuts, made from a sample of the scores."""
        path = self.work.folder / "cuts.npz"
        journal = self.context.store.journal(self.step, "cuts", needs=(path,))
        executor, n_regions = self.context.executor, self.work.n_regions
        if not journal.entries:
            cuts: Cuts = executor.reduce(
                partial(draw_sample, self.work),
                self.context.partitions,
                stacked,
                partial(cuts_of, n_regions),
            )
            journal.append(0, {"file_crc": write_arrays(path, cuts.to_arrays())})
        return executor.share(read_arrays(path, journal.entries[0]["file_crc"]))

    def _solved(self, cut: int) -> Mapping[int, dict[str, Any]]:
        """Return what is reported of the regions of a cut once they are solved."""
        work, store, executor = self.work, self.context.store, self.context.executor
        places = self._run(
            "places", PlaceTask(work, self._cuts()), work.places, self._items(self.units)
        )
        sizes = np.array([places[unit.index]["sizes"] for unit in self.units])
        numbers, counts = zip(
            *(dealt(sizes[:, number], work.region_rows) for number in range(N_CUTS)), strict=True
        )
        n_regions = counts[cut]
        journal = store.journal(self.step, f"solved-{cut}", needs=(work.solved(cut),))
        if len(journal.entries) == n_regions:
            return journal.entries
        ranges = [
            Range(index, rows.start, rows.n_rows)
            for index, rows in enumerate(row_ranges(work.n_samples, STRENGTH_ROWS))
        ]
        if cut == 0:
            task = StrengthTask(work, self.units)
            reports = self._run("strengths", task, work.strengths, self._items(ranges))
            shared: dict[str, NDArray[Any]] = {}
        else:
            reports = self._solved(cut - 1)
            shared = {"offsets": self._offsets(cut - 1)}
        all_exits = float(sum(report["exits"] for report in reports.values()))
        shared |= {f"number_{at}": number for at, number in enumerate(numbers)}
        shared["n_regions"] = np.array(counts)
        n_groups = min(group_count(work.n_samples), n_regions)
        edges = [at * n_regions // n_groups for at in range(n_groups + 1)]
        for group in map(RegionGroup, range(n_groups), edges, edges[1:]):
            if all(region in journal.entries for region in range(group.start, group.stop)):
                continue
            sort = SortTask(work, cut, group, executor.share(shared), self.max_sparsity)
            self._run(f"sorted-{cut}-{group.number}", sort, work.sorted, self._items(self.units))
            sizes = np.diff(self._offsets(cut), axis=0)
            solve = SolveTask(work, cut, group, executor.share({"sizes": sizes}), all_exits)
            items = {
                index: Range(index, 0, int(sizes[:, index].sum()))
                for index in range(group.start, group.stop)
            }
            self._run(f"solved-{cut}", solve, work.solved(cut), items)
            discard(work.sorted)
        return store.journal(self.step, f"solved-{cut}", needs=(work.solved(cut),)).entries

    def _offsets(self, cut: int) -> NDArray[np.int64]:
        """Return where the images of each unit begin in each region of a cut."""
        reports = self.context.store.noted(self.step, f"sorted-{cut}-0")
        sizes = np.array([reports[unit.index]["sizes"] for unit in self.units])
        return np.pad(sizes.cumsum(axis=0), ((1, 0), (0, 0)))


@dataclass(frozen=True, slots=True)
class FindTask:
    """The families of all images, left in a file."""

    neighbors: Path
    scores: Rows
    block_rows: int
    settings: FamiliesSettings
    place: Path

    def __call__(self) -> dict[str, Any]:
        """Read the neighbours, find the families, and write what was found."""
        n, settings = self.scores.n_samples, self.settings
        index = np.empty((n, N_NEIGHBORS), np.int32)
        distance = np.empty((n, N_NEIGHBORS), np.float32)
        for rows in row_ranges(n, self.block_rows):
            part = slice(rows.start, rows.stop)
            index[part] = zarr_io.read_rows(self.neighbors, "index", *rows)[:, :N_NEIGHBORS]
            distance[part] = zarr_io.read_rows(self.neighbors, "distance", *rows)[:, :N_NEIGHBORS]
        found = find_families(
            index,
            distance,
            self._read,
            method=method_of(settings.method, settings.resolution),
            significance=settings.significance,
            max_sparsity=settings.max_sparsity,
        )
        arrays = {
            "family": found.family,
            "family_strength": found.strength,
            **{name: getattr(found, name) for name in (n.removeprefix("family_") for n in ARRAYS)},
        }
        write_arrays(self.place, arrays)
        coarse = {}
        if n < FEW_IMAGES:
            coarse = {"coarse": coarse_test(index, distance, self._read)._asdict()}
        return _details(
            found.state,
            n_families=found.n_families,
            family_fraction=float(np.mean(found.family >= 0)),
            n_tested=found.n_tested,
            **coarse,
        )

    def _read(self, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of rising rows."""
        return rows_of(self.scores, row_ranges(self.scores.n_samples, self.block_rows), chosen)
