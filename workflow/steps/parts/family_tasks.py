"""What the tasks of the families do where one task cannot hold the graph, and the files they leave."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.engine.partitions import part_path
from workflow.families.ambient import Selection, even_selection
from workflow.families.find import lies_alone_among, numbered, tested_communities
from workflow.families.neighbor_graph import N_NEIGHBORS, add_weights, edge_weights, local_scales
from workflow.families.regions import (
    N_CUTS,
    Cuts,
    Lists,
    Table,
    patches_per_region,
    solve_region,
)
from workflow.runstore import zarr_io
from workflow.runstore.files import ArrayPlace, read_arrays, write_arrays
from workflow.steps.base import write_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import InUnits, Partition
    from workflow.mapper import Rows

#: Images whose strengths one task adds up [8 bytes each].
STRENGTH_ROWS = 1 << 25
#: Rows of the largest unit of sorting, where blocks are not larger.
UNIT_ROWS = 1 << 18
#: Rows of the sample for each region.
SAMPLE_ROWS = 512


@dataclass(frozen=True, slots=True)
class Work:
    """What is cut into regions, and where everything lies meanwhile.

    Attributes
    ----------
    folder : Path
        The folder of the step.
    neighbors : Path
        The nearest neighbours.
    scores : Rows
        The scores.
    region_rows : int
        Images that a region has at most, but by chance.
    """

    folder: Path
    neighbors: Path
    scores: Rows
    region_rows: int

    @property
    def n_samples(self) -> int:
        """Number of images."""
        return self.scores.n_samples

    @property
    def n_regions(self) -> int:
        """Regions: a power of two, so that each is made of halves of halves."""
        return region_count(self.n_samples, self.region_rows)

    @property
    def places(self) -> Path:
        """Scale and region by each cut of the images of a unit."""
        return self.folder / "places"

    @property
    def strengths(self) -> Path:
        """Weight of all edges of some images."""
        return self.folder / "strengths"

    @property
    def sorted(self) -> Path:
        """Lists of the images of a unit, sorted by region."""
        return self.folder / "sorted"

    @property
    def dimensions(self) -> Path:
        """Dimension around the communities whose first image is in a unit."""
        return self.folder / "dimensions"

    def solved(self, cut: int) -> Path:
        """Return where the communities of regions lie."""
        return self.folder / f"solved-{cut}"

    def lists(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return the nearest neighbours of consecutive images and their distances."""
        index = zarr_io.read_rows(self.neighbors, "index", start, stop)[:, :N_NEIGHBORS]
        distance = zarr_io.read_rows(self.neighbors, "distance", start, stop)[:, :N_NEIGHBORS]
        return np.ascontiguousarray(index), np.ascontiguousarray(distance)


def region_count(n_samples: int, region_rows: int) -> int:
    """Return into how many regions images are cut: so that none has more than is wanted, but by chance."""
    return 1 << max(0, -(-n_samples // region_rows) - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Range:
    """Consecutive images, or those of a region."""

    index: int
    start: int
    n_rows: int


class RegionGroup(NamedTuple):
    """Regions from `start` up to, not including, `stop`: those whose lists are on disk at a time."""

    number: int
    start: int
    stop: int


def draw_sample(work: Work, partition: Partition) -> NDArray[Any]:
    """Return the rows of a partition that are in the sample: evenly over all."""
    n = work.n_samples
    n_drawn = min(n, SAMPLE_ROWS * work.n_regions)
    return rows_of(work.scores, partition.blocks, np.arange(n_drawn) * n // n_drawn)


def rows_of(
    scores: Rows, blocks: Sequence[RowRange], chosen: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the scores of those of some rising rows that lie in consecutive blocks."""
    found = [np.empty((0, scores.n_features), np.float32)]
    for rows in blocks:
        first, last = np.searchsorted(chosen, [rows.start, rows.stop])
        if last > first:
            found.append(scores.read(*rows)[chosen[first:last] - rows.start].astype(np.float32))
    return np.concatenate(found)


def cuts_of(n_regions: int, sample: NDArray[Any]) -> Cuts:
    """Return the cuts of a sample."""
    return Cuts.of(sample, n_regions)


@dataclass(frozen=True, slots=True)
class PlaceTask:
    """Scale and regions of the images of a unit."""

    work: Work
    cuts: StoredArrays

    def __call__(self, unit: Partition) -> dict[str, Any]:
        """Read the scores and the distances, write what the images need of them."""
        cuts, work = Cuts.from_arrays(self.cuts.load()), self.work
        scale = np.empty(unit.n_rows, np.float32)
        found = np.empty((len(cuts.cuts), unit.n_rows), np.uint16)
        for rows in unit.blocks:
            here = slice(rows.start - unit.start, rows.stop - unit.start)
            scale[here] = local_scales(zarr_io.read_rows(work.neighbors, "distance", *rows))
            found[:, here] = cuts.route(work.scores.read(*rows))
        path = part_path(work.places, unit.index)
        arrays = {"scale": scale} | {f"patch_{cut}": of_cut for cut, of_cut in enumerate(found)}
        n_patches = patches_per_region(work.n_regions)
        sizes = [
            np.bincount(of_cut // n_patches, minlength=work.n_regions).tolist() for of_cut in found
        ]
        return {"file_crc": write_arrays(path, arrays), "sizes": sizes}


def _scales(folder: Path, n_units: int) -> NDArray[np.float32]:
    """Return the scales of all images; kept in the process."""
    return _scales_of(folder, n_units, part_path(folder, 0).stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _scales_of(folder: Path, n_units: int, written_ns: int) -> NDArray[np.float32]:
    """Return the scales that were written at a time."""
    del written_ns
    parts = [ArrayPlace.find(part_path(folder, unit), "scale") for unit in range(n_units)]
    stops = np.cumsum([place.shape[0] for place in parts])
    found = np.empty(stops[-1], np.float32)
    for place, stop in zip(parts, stops.tolist(), strict=True):
        found[stop - place.shape[0] : stop] = place.read_range(0, place.shape[0])
    return found


@dataclass(frozen=True, slots=True)
class StrengthTask:
    """The weight of all edges of some images."""

    work: Work
    units: list[Partition]

    def __call__(self, item: Range) -> dict[str, Any]:
        """Go through the lists of all images: any of them may name one of these."""
        work, strength = self.work, np.zeros(item.n_rows)
        scale = _scales(work.places, len(self.units))
        for rows in (rows for unit in self.units for rows in unit.blocks):
            index, distance = work.lists(*rows)
            weight = edge_weights(index, distance, scale[rows.start : rows.stop], scale)
            add_weights(index, weight, rows.start, item.start, strength)
        path = part_path(work.strengths, item.index)
        crc = write_arrays(path, {"strength": strength})
        # A sum of whole numbers, as a whole number: JSON keeps it.
        return {"file_crc": crc, "exits": int(strength.sum())}


@dataclass(frozen=True, slots=True)
class SortTask:
    """The lists of the images of a unit, sorted by region.

    `regions` holds, for each cut, the number of the region that the images of
    a unit come to, and for the second cut where each unit begins in the
    solved regions of the first.
    """

    work: Work
    cut: int
    group: RegionGroup
    regions: StoredArrays
    max_sparsity: float

    def __call__(self, unit: Partition) -> dict[str, Any]:
        """Read, sort and write."""
        work, shared = self.work, self.regions.load()
        index, distance = work.lists(unit.start, unit.stop)
        image = np.arange(unit.start, unit.stop).astype(index.dtype)
        if self.cut == 0:
            region, following = (self._regions(unit, shared, cut) for cut in (0, 1))
            arrays = {"first": image, "next": following}
        else:
            arrays = gathered(
                work.solved(0), unit, shared["offsets"], {"first": index.dtype, "next": np.uint16}
            )
            region = arrays.pop("next")
        n_regions = int(shared["n_regions"][self.cut])
        order = np.argsort(region, kind="stable")
        sizes = np.bincount(region, minlength=n_regions)
        order = order[sizes[: self.group.start].sum() : sizes[: self.group.stop].sum()]
        arrays |= {
            "image": image,
            "neighbors": index,
            "strength": _strengths(work, unit),
            "patch": self._patches(unit, self.cut),
        }
        arrays = {name: array[order] for name, array in arrays.items()}
        index, distance = arrays["neighbors"], distance[order]
        scale = _scales(work.places, len(shared["number_0"]))
        own = scale[unit.start : unit.stop][order]
        arrays["weight"] = edge_weights(index, distance, own, scale)
        if self.cut == N_CUTS - 1:
            arrays["is_alone"] = lies_alone_among(index, own, scale, self.max_sparsity)
        path = part_path(work.sorted, unit.index)
        crc = write_arrays(path, arrays)
        return {
            "file_crc": crc,
            "sizes": sizes.tolist(),
            "bytes_read": unit.n_rows * distance.shape[1] * 8,
            "bytes_written": path.stat().st_size,
        }

    def _regions(self, unit: Partition, shared: Any, cut: int) -> NDArray[np.uint16]:
        """Return the region of each image by a cut."""
        region = self._patches(unit, cut) // patches_per_region(self.work.n_regions)
        found: NDArray[np.uint16] = shared[f"number_{cut}"][unit.index][region].astype(np.uint16)
        return found

    def _patches(self, unit: Partition, cut: int) -> NDArray[np.uint16]:
        """Return the patch of each image by a cut."""
        place = ArrayPlace.find(part_path(self.work.places, unit.index), f"patch_{cut}")
        return place.read_range(0, unit.n_rows)


def _strengths(work: Work, unit: Partition) -> NDArray[np.float64]:
    """Return the weight of all edges of the images of a unit."""
    found = []
    for part in range(unit.start // STRENGTH_ROWS, (unit.stop - 1) // STRENGTH_ROWS + 1):
        first = part * STRENGTH_ROWS
        place = ArrayPlace.find(part_path(work.strengths, part), "strength")
        found.append(
            place.read_range(max(unit.start - first, 0), min(unit.stop - first, STRENGTH_ROWS))
        )
    return np.concatenate(found)


def gathered(
    folder: Path, unit: Partition, offsets: NDArray[np.int64], wanted: dict[str, Any]
) -> dict[str, NDArray[Any]]:
    """Return what the regions say of the images of a unit, in the order of the images.

    `offsets`, of shape (n_units + 1, n_regions), tells where the images of each
    unit begin in each region.
    """
    found = {name: np.empty(unit.n_rows, dtype) for name, dtype in wanted.items()}
    for region in np.flatnonzero(offsets[unit.index] < offsets[unit.index + 1]):
        rows = offsets[unit.index : unit.index + 2, region].tolist()
        places = ArrayPlace.known(part_path(folder, int(region)))
        at = places["image"].read_range(*rows).astype(np.int64) - unit.start
        for name, array in found.items():
            array[at] = places[name].read_range(*rows)
    return found


@dataclass(frozen=True, slots=True)
class SolveTask:
    """The communities of a region."""

    work: Work
    cut: int
    group: RegionGroup
    sizes: StoredArrays
    all_exits: float

    def __call__(self, item: Range) -> dict[str, Any]:
        """Gather the lists, find the communities, write them."""
        work, is_last = self.work, self.cut == N_CUTS - 1
        # What sorting has kept is not needed beside a region.
        _scales_of.cache_clear()
        of_units = self.sizes.load()["sizes"]
        before = of_units[:, self.group.start : item.index].sum(axis=1)
        sizes = of_units[:, item.index]
        parts: dict[str, list[NDArray[Any]]] = {}
        # A file without images of the region still tells the types.
        for unit in np.flatnonzero(sizes) if sizes.any() else [0]:
            rows = int(before[unit]), int(before[unit] + sizes[unit])
            for name, place in ArrayPlace.known(part_path(work.sorted, int(unit))).items():
                parts.setdefault(name, []).append(place.read_range(*rows))
        arrays = {name: np.concatenate(parts.pop(name)) for name in list(parts)}
        is_alone, following = arrays.pop("is_alone", None), arrays.pop("next", None)
        lists = Lists(**arrays)
        solved = solve_region(lists, self.all_exits, is_first=not is_last)
        image, begins = lists.image, solved.first()
        first = image[begins[solved.community]]
        path = part_path(work.solved(self.cut), item.index)
        if is_last:
            assert is_alone is not None
            table = Table.of(lists, solved, is_alone)
            total = lists.strength
            strength = np.divide(solved.inside, total, out=np.zeros_like(total), where=total > 0)
            found = {
                "image": image,
                "first": np.where(is_alone, -1, first).astype(image.dtype),
                "strength": strength.astype(np.float32),
                **{f"table_{name}": array for name, array in table._asdict().items()},
            }
        else:
            assert following is not None
            found = {"image": image, "first": first, "next": following[begins[solved.community]]}
        return {
            "file_crc": write_arrays(path, found),
            "exits": int(solved.exits),
            "bytes_read": sum(array.nbytes for array in arrays.values()),
            "bytes_written": path.stat().st_size,
        }


def merged_table(folder: Path, n_regions: int) -> Table:
    """Return the communities of all regions, in the order of their first images."""

    def whole(name: str) -> NDArray[Any]:
        paths = (part_path(folder, region) for region in range(n_regions))
        places = (ArrayPlace.find(path, f"table_{name}") for path in paths)
        return np.concatenate([place.read_range(0, place.shape[0]) for place in places])

    # One array after the other: those of millions of communities are not held twice.
    order = np.argsort(whole("first"), kind="stable")
    return Table(*(whole(name)[order] for name in Table._fields))


@dataclass(frozen=True, slots=True)
class TableTask:
    """The communities of all images, and the scores of those that dimensions are read from."""

    work: Work
    n_regions: int
    path: Path

    def __call__(self) -> dict[str, Any]:
        """Merge, write."""
        table = merged_table(self.work.solved(1), self.n_regions)
        chosen = even_selection(len(table.first))
        crc = write_arrays(self.path, table._asdict() | {"chosen": chosen})
        return {"file_crc": crc}


def chosen_scores(work: Work, table: Path, unit: Partition) -> NDArray[np.float32]:
    """Return the scores of the chosen representatives of a unit."""
    arrays = read_arrays(table, names=("first", "chosen"))
    chosen = arrays["first"][arrays["chosen"]].astype(np.int64)
    return rows_of(work.scores, unit.blocks, chosen)


def selection_of(rows: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return what is read at the chosen representatives."""
    return Selection.of(rows)._asdict()


@dataclass(frozen=True, slots=True)
class DimensionTask:
    """The dimension around the communities whose first image is in a unit."""

    work: Work
    table: Path
    selection: StoredArrays

    def __call__(self, unit: Partition) -> dict[str, Any]:
        """Read the scores of their first images, and the dimension from them."""
        arrays = read_arrays(self.table, names=("first", "chosen"))
        first, chosen = arrays["first"].astype(np.int64), arrays["chosen"]
        here = np.arange(*np.searchsorted(first, [unit.start, unit.stop]))
        place = np.searchsorted(chosen, here).clip(max=len(chosen) - 1)
        place = np.where(chosen[place] == here, place, -1)
        rows = rows_of(self.work.scores, unit.blocks, first[here])
        found = Selection(**self.selection.load()).dimension(rows, place)
        path = part_path(self.work.dimensions, unit.index)
        return {
            "file_crc": write_arrays(path, {"dimension": found}),
            "bytes_read": unit.n_rows * self.work.scores.n_features * 4,
        }


@dataclass(frozen=True, slots=True)
class CompareTask:
    """The test of all communities, left in a file."""

    work: Work
    table: Path
    n_units: int
    significance: float
    path: Path

    def __call__(self) -> dict[str, Any]:
        """Test, number the families, write what is said of them."""
        stored = read_arrays(self.table, names=Table._fields)
        table = Table(**stored)
        parts = [part_path(self.work.dimensions, unit) for unit in range(self.n_units)]
        around = np.concatenate([read_arrays(path)["dimension"] for path in parts])
        dimension = np.minimum(around, table.touching)
        tested = tested_communities(table.size, table.conductance, dimension, self.significance)
        kept, number = numbered(np.where(tested.passed, table.left, 0))
        arrays = {
            "first": table.first,
            "number": number,
            "size": table.left[kept],
            "conductance": table.conductance[kept],
            "expected": tested.expected[kept],
            "dimension": dimension[kept],
            "p": tested.p[kept],
            "exemplars": table.exemplars[kept].astype(np.int64),
        }
        write_arrays(self.path, arrays)
        return {
            "families": tested.state(len(kept)),
            "n_families": len(kept),
            "family_fraction": float(table.left[kept].sum() / self.work.n_samples),
            "n_tested": tested.n_tested,
        }


@dataclass(frozen=True, slots=True)
class FamilyRows:
    """Gathers what the regions say of the images of each unit, in the order of the images."""

    work: Work
    offsets: StoredArrays
    found: Path

    def blocks(self, item: InUnits) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
        """Yield family and strength of the images of each block."""
        offsets = self.offsets.load()["solved"]
        first, number = read_arrays(self.found, names=("first", "number")).values()
        wanted = {"first": first.dtype, "strength": np.float32}
        for unit in item.units:
            of_unit = gathered(self.work.solved(1), unit, offsets, wanted)
            place = np.searchsorted(first, of_unit["first"])
            family = np.where(of_unit["first"] >= 0, number[place], -1).astype(np.int32)
            strength = np.where(family >= 0, of_unit["strength"], 0).astype(np.float32)
            for rows in unit.blocks:
                here = slice(rows.start - unit.start, rows.stop - unit.start)
                yield family[here], strength[here]

    def families(self, item: InUnits) -> Iterator[NDArray[np.int32]]:
        """Yield the families of each block alone."""
        return (family for family, _ in self.blocks(item))


@dataclass(frozen=True, slots=True)
class WriteTask:
    """The family of the images of a partition."""

    rows: FamilyRows
    target: Path
    names: tuple[str, ...]

    def __call__(self, item: InUnits) -> dict[str, Any]:
        """Write what was gathered, block by block."""
        blocks = self.rows.blocks(item)
        report = write_blocks(self.target, self.names, item.partition.start, blocks)
        return report | {"bytes_read": report["bytes_written"]}
