"""map: all images in two dimensions, neighbours side by side."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from workflow.chunks import row_ranges
from workflow.config.fields import Section
from workflow.engine.plan import TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.formatting import format_count
from workflow.graph import Graph
from workflow.map import Places, Turn, flow_affinities, isolated, lay_out, neighbor_affinities
from workflow.overcluster import NearestCentroids
from workflow.rng import generator
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.schema import ArraySpec
from workflow.steps.base import CopyTask, call, described, read_ahead, write_blocks
from workflow.steps.neighbors import is_planned
from workflow.steps.overcluster import NEAREST_BYTES
from workflow.steps.projection import score_row_bytes, stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.mapper import Rows
    from workflow.runstore import RunStore

#: Arrays of ``model.zarr``.
ARRAYS = {
    "map_position": ArraySpec(
        ("centroid", "axis"), "float32", "1", "place of the centroid, unless images are laid out"
    )
}
#: Arrays of ``RUN/map.zarr``, which the labels take over.
ROWS = {
    "x": ArraySpec(("sample",), "float32", "1", "place of the image on the map, across"),
    "y": ArraySpec(("sample",), "float32", "1", "place of the image on the map, up"),
}
#: Neighbours of an image that attract it.
N_NEIGHBORS = 15
#: What the layout holds of a point: neighbours, their graph while it is made, positions [bytes].
POINT_BYTES = 1_500
#: The grid of the field, and its transforms [bytes].
GRID_BYTES = 64 * 2**20
#: Rows that are read at a time where all are wanted.
ROWS_AT_ONCE = 2**15
#: What to change where so much memory is not there.
ADVICE = {"points": "Lower map.images_up_to"}
#: Rows that an old map and a new one are compared by, at most.
MAX_COMPARED = 2**17


class MapSettings(Section):
    """All images in two dimensions."""

    enabled: bool = True
    """Whether a map is made."""
    images_up_to: int = Field(default=100_000, ge=0, le=1_000_000)
    """Images up to which each is laid out by its neighbours; of more, centroids are, and images placed around them."""


class MapStep(Step):
    """Lay out the images, or the centroids and place the images around them."""

    name = "map"
    section = MapSettings
    settings = ("seed", "map.enabled", "map.images_up_to")
    reads = ("projection", "neighbors", "overcluster", "centroid_graph")
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Lay out in one task, then write the place of each image, partition by partition."""
        store, settings = context.store, context.config.section(MapSettings)
        final, target = store.path / layout.MAP, store.path / layout.WIP / layout.MAP
        if not settings.enabled:
            # Without arrays: that the step is complete shows in a group, which may be empty.
            place = store.wip(layout.MAP)
            zarr_io.create_group(place)
            store.replace([(place, final)])
            store.step(self.name).details = {"points": "none"}
            return
        has_neighbors = bool(store.step("neighbors").details.get("found"))
        of_images = has_neighbors and context.n_samples <= settings.images_up_to
        found = store.folder(self.name) / "found.npz"
        types = {name: spec.dtype for name, spec in ROWS.items()}
        journal = context.rows_journal(self.name, target, types)
        if not journal.entries or not found.exists():
            inputs = _Inputs.of(store, context.n_samples, context.block_rows)
            lay = LayoutTask(inputs, final, context.config.seed, found, of_images=of_images)
            context.executor.map(call, [lay])
            for name, spec in ROWS.items():
                attrs = {"units": spec.unit, "long_name": spec.description}
                zarr_io.write_attrs(target, attrs, name)
            zarr_io.consolidate(target)
        if of_images:
            context.run_partitions(self.name, CopyTask(found, target, tuple(ROWS)), journal)
        else:
            position = np.column_stack([read_arrays(found)[name] for name in ROWS])
            store.write_model(self.name, described(ARRAYS, {"map_position": position}))
            (centroids,) = store.read_model("centroids")
            placer = Placer(context.executor.share({"centroids": centroids, "position": position}))
            task = PlaceTask(stored_scores(store), layout.nearest(store.path), placer, target)
            context.run_partitions(self.name, task, journal)
        store.step(self.name).details = {"points": "images" if of_images else "centroids"}
        store.replace([(target, final)])
        discard(found)

    def outputs(self, run: Path) -> list[Path]:
        """Return the map."""
        return [run / layout.MAP / zarr_io.GROUP_METADATA]

    def results(self, run: Path) -> list[Path]:
        """Return the map."""
        return [run / layout.MAP]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the task that lays out, and the pass that writes a place for each image."""
        if not sizes.config.section(MapSettings).enabled:
            return []
        n, n_points, d = sizes.n_samples, _n_points(sizes), sizes.dims["component"]
        row_bytes, is_copied = score_row_bytes(sizes), n_points == n
        read = n_points * (4 * N_NEIGHBORS + row_bytes) if is_copied else 0
        parts = {"points": (POINT_BYTES + 4 * d) * n_points, "grid": GRID_BYTES}
        place = {"rows": sizes.block_rows * 4 * (3 * d + 8), "centroids": 16 * n_points * d}
        rows = {"rows": 24 * sizes.block_rows} if is_copied else place
        read_rows = 8 * n if is_copied else n * (row_bytes + NEAREST_BYTES // 2)
        return [
            TaskPlan("map: layout", 1, read, 8 * n_points, parts, ADVICE),
            TaskPlan("map: places", sizes.n_partitions, read_rows, 8 * n, rows),
        ]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth of the rounds of the layout with its points, and of the pass with images."""
        if not sizes.config.section(MapSettings).enabled:
            return 0.0
        return 0.5 + 1.6e-4 * _n_points(sizes) + 3e-7 * sizes.rows_per_worker

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the place of each image."""
        if store.step(self.name).state == "complete" and map_of(store) is not None:
            place = store.path / layout.MAP
            yield from check_rows_of_step(store, self.name, "blocks", place, list(ROWS))

    def describe(self, store: RunStore) -> str:
        """Return what was laid out."""
        points = store.step(self.name).details["points"]
        if points == "none":
            return "map.enabled is false"
        images = format_count(store.manifest.images["shape"][0], "image")
        if points == "images":
            return f"{images} laid out by their neighbours"
        n_centroids = store.step("overcluster").details["n_centroids"]
        return f"{format_count(n_centroids, 'centroid')} laid out, {images} placed around them"


def map_of(store: RunStore) -> Path | None:
    """Return the Zarr group with the place of each image; None where no map was made."""
    place = store.path / layout.MAP
    if store.step(MapStep.name).state != "complete" or not place.exists():
        return None
    return place if "x" in zarr_io.array_names(place) else None


def _n_points(sizes: Sizes) -> int:
    """Return how many points are laid out, as far as the settings say."""
    of_images = sizes.n_samples <= sizes.config.section(MapSettings).images_up_to
    return sizes.n_samples if of_images and is_planned(sizes) else sizes.dims["centroid"]


class _Inputs(NamedTuple):
    """Where the rows of a run lie, and how they are read."""

    scores: Rows
    nearest: Path
    neighbors: Path
    model: Path
    ranges: tuple[RowRange, ...]

    @classmethod
    def of(cls, store: RunStore, n_samples: int, block_rows: int) -> _Inputs:
        """Return those of a run."""
        ranges = tuple(row_ranges(n_samples, block_rows))
        neighbors = store.path / layout.NEIGHBORS
        return cls(stored_scores(store), layout.nearest(store.path), neighbors, store.model, ranges)


@dataclass(frozen=True, slots=True)
class LayoutTask:
    """The points of the map, left in a file: all images, or the centroids."""

    inputs: _Inputs
    old: Path
    seed: int
    place: Path
    of_images: bool

    def __call__(self) -> None:
        """Lay them out, and turn them to the map that was there before."""
        rng = generator(self.seed, MapStep.name)
        position = self._images(rng) if self.of_images else self._centroids(rng)
        new, old = self._compared(position.astype(np.float32))
        position = Turn.between(new, old).apply(position)
        arrays = dict(zip(ROWS, position.astype(np.float32).T, strict=True))
        write_arrays(self.place, {name: np.ascontiguousarray(a) for name, a in arrays.items()})

    def _centroids(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Lay out the centroids by the flows between them."""
        names = ("centroids", "graph_indptr", "graph_indices", "graph_weights_three")
        centroids, *graph = (zarr_io.read_array(self.inputs.model, name) for name in names)
        return lay_out(flow_affinities(Graph(*graph)), centroids, rng)

    def _images(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Lay out the images by their neighbours; equal ones are one point."""
        ranges, neighbors = self.inputs.ranges, self.inputs.neighbors
        scores = all_rows(self.inputs.scores)
        index = np.concatenate(
            [zarr_io.read_rows(neighbors, "index", *rows)[:, :N_NEIGHBORS] for rows in ranges]
        )
        first = first_equal(scores)
        kept, number = np.unique(first, return_inverse=True)
        points = scores[kept]
        # Few points must not be neighbours of all others.
        k = max(1, min(N_NEIGHBORS, len(kept) // 3))
        index = np.where(index >= 0, number[index], -1)[kept, :k]
        affinities = neighbor_affinities(index)
        alone = isolated(affinities)
        if len(alone) and len(kept) > 1:
            # All their neighbours are copies of them.
            index[alone] = NearestCentroids.build(points).query(points[alone], k=k)[0]
            affinities = neighbor_affinities(index)
        return lay_out(affinities, points, rng)[number]

    def _compared(
        self, position: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.floating[Any]]]:
        """Return points on the new map and the one before, of some images that both have."""
        nothing = np.empty((0, 2), np.float32)
        if not self.old.exists() or "x" not in zarr_io.array_names(self.old):
            return nothing, nothing
        n_old = zarr_io.StoredRows.open(self.old, "x").n_samples
        ranges = [rows for rows in self.inputs.ranges if rows.stop <= n_old]
        if not ranges:
            return nothing, nothing
        every = -(-len(ranges) * ranges[0].n_rows // MAX_COMPARED)
        ranges = ranges[::every]
        read = [[zarr_io.read_rows(self.old, name, *rows) for rows in ranges] for name in ROWS]
        old = np.column_stack([np.concatenate(parts) for parts in read])
        if self.of_images:
            return np.concatenate([position[rows.start : rows.stop] for rows in ranges]), old
        nearest = [zarr_io.read_rows(self.inputs.nearest, "nearest", *rows) for rows in ranges]
        of = np.concatenate(nearest)[:, 0]
        count = np.bincount(of)
        seen = count > 0
        sums = [np.bincount(of, axis)[seen] / count[seen] for axis in old.T]
        return position[: len(count)][seen], np.column_stack(sums)


def first_equal(rows: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the first row that equals each."""
    # Adding 0 makes one zero of two.
    same = np.ascontiguousarray(rows + np.float32(0))
    same = same.view(np.dtype((np.void, same.shape[1] * same.itemsize))).ravel()
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    return first[inverse]


@dataclass(frozen=True, slots=True)
class Placer:
    """Where images lie on the map of a run, by their scores.

    Attributes
    ----------
    stored : StoredArrays
        The ``centroids``; ``position``, where these lie on the map; or, where images were laid
        out, those as ``landmarks``, and where they lie.
    """

    stored: StoredArrays

    def place(
        self, scores: NDArray[np.float32], nearest: NDArray[np.int32]
    ) -> dict[str, NDArray[np.float32]]:
        """Return x and y of images, given their nearest centroids."""
        search = _search(self.stored) if "landmarks" in self.stored.load() else None
        return place_images(_places(self.stored), search, scores, nearest)


def place_images(
    places: Places,
    search: NearestCentroids | None,
    scores: NDArray[np.float32],
    nearest: NDArray[np.int32],
) -> dict[str, NDArray[np.float32]]:
    """Return x and y of images around their nearest landmarks, which are the centroids where there is no search."""
    if search is None:
        first = np.ascontiguousarray(nearest[:, 0])
    else:
        first = search.query(scores, k=1)[0][:, 0]
    placed = places.place(scores, first)
    return {name: np.ascontiguousarray(axis) for name, axis in zip(ROWS, placed.T, strict=True)}


@lru_cache(maxsize=2)
def _places(stored: StoredArrays) -> Places:
    """Return what places rows, prepared once per process."""
    return places_of(stored.load())


def places_of(arrays: Mapping[str, NDArray[Any]]) -> Places:
    """Return what places rows around the landmarks of a map, or around the centroids."""
    return Places.build(arrays.get("landmarks", arrays["centroids"]), arrays["position"])


@lru_cache(maxsize=2)
def _search(stored: StoredArrays) -> NearestCentroids:
    """Return the search for the nearest image, built once per process."""
    return NearestCentroids.build(stored.load()["landmarks"])


def stored_points(store: RunStore) -> dict[str, NDArray[Any]]:
    """Return the points of the map of a run as `Placer` takes them beside the centroids; none without a map."""
    group = map_of(store)
    if group is None:
        return {}
    if store.step(MapStep.name).details["points"] == "centroids":
        return {"position": store.read_model("map_position")[0]}
    position = np.column_stack([zarr_io.read_array(group, name) for name in ROWS])
    return {"position": position, "landmarks": all_rows(stored_scores(store))}


def all_rows(scores: Rows) -> NDArray[np.float32]:
    """Return all scores, read some at a time."""
    ranges = row_ranges(scores.n_samples, ROWS_AT_ONCE)
    rows = [scores.read(*part).astype(np.float32, copy=False) for part in ranges]
    return np.concatenate(rows)


@dataclass(frozen=True, slots=True)
class PlaceTask:
    """The places of the images of a partition, around their nearest centroids."""

    scores: Rows
    nearest: Path
    placer: Placer
    target: Path

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Place the rows of each block."""
        row_bytes = self.scores.n_features * self.scores.dtype.itemsize + NEAREST_BYTES // 2
        placed = (list(arrays.values()) for arrays in self._placed(partition))
        report = write_blocks(self.target, list(ROWS), partition.start, placed)
        return report | {"bytes_read": row_bytes * partition.n_rows}

    def _placed(self, partition: Partition) -> Iterator[dict[str, NDArray[np.float32]]]:
        """Yield the places of each block."""
        for rows, block in read_ahead(self.scores, partition.blocks):
            nearest = zarr_io.read_rows(self.nearest, "nearest", *rows)
            yield self.placer.place(block.astype(np.float32, copy=False), nearest)
