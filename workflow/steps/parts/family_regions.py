"""Families where one task cannot hold the graph: the passes by regions, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.plan import TaskPlan
from workflow.families.neighbor_graph import N_NEIGHBORS
from workflow.families.regions import N_CUTS, Cuts, dealt
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.steps.parts.family_tasks import (
    SAMPLE_ROWS,
    STRENGTH_ROWS,
    UNIT_ROWS,
    CompareTask,
    DimensionTask,
    PlaceTask,
    Range,
    RegionGroup,
    SolveTask,
    SortTask,
    StrengthTask,
    TableTask,
    Unit,
    Work,
    WriteItem,
    WriteTask,
    call,
    chosen_scores,
    cuts_of,
    draw_sample,
    region_count,
    selection_of,
    stacked,
    units_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.runstore.journal import Journal

#: Most bytes of sorted lists on disk at a time; 48 million images take twice as many.
SORTED_BYTES = 4 * 10**9
#: What a region takes of each of its images [bytes].
REGION_BYTES = 1_000


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
        offsets = self.context.executor.share({"solved": self._offsets(N_CUTS - 1)})
        task = WriteTask(self.work, offsets, found, target, names)
        items = {p.index: WriteItem(p, self._units_in(p)) for p in self.context.partitions}
        self.context.run_partitions(self.step, task, journal, items=items, name="families: write")

    def discard(self) -> None:
        """Remove what lies between."""
        work = self.work
        for folder in (work.places, work.strengths, work.sorted, work.dimensions):
            discard(folder)
        for cut in range(N_CUTS):
            discard(work.solved(cut))
        discard(work.folder / "table.npz")

    @cached_property
    def units(self) -> list[Unit]:
        """The units."""
        return units_of(self.context.partitions, self.context.block_rows)

    def _units_in(self, partition: Partition) -> list[Unit]:
        """Return the units that a partition consists of."""
        stop = partition.start + partition.n_rows
        return [unit for unit in self.units if partition.start <= unit.start < stop]

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
