"""Images added to a run: the tasks of the steps on them alone, then sums, tree and labels of all."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.commands.predict import stored_basis
from workflow.commands.updating.births import Births
from workflow.commands.updating.sums import MergeSums
from workflow.commands.updating.whole import Whole, write_segments
from workflow.engine.context import named_group
from workflow.engine.partitions import n_rows, part_path, partition_rows, partitions
from workflow.engine.segments import added, stored_partitions
from workflow.overcluster import NearestCentroids, sample_counts
from workflow.pca import merge_moments
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.growth import Growth
from workflow.runstore.journal import Journal
from workflow.steps.base import part_files
from workflow.steps.families import families_of
from workflow.steps.map import ROWS as MAP_ROWS
from workflow.steps.map import Placer, PlaceTask, map_of, place_images, places_of, stored_points
from workflow.steps.overcluster import (
    ASSIGNED,
    N_NEAREST,
    PAIRS,
    AssignSums,
    AssignTask,
    merge_sums,
    pairs_file,
    read_sums,
)
from workflow.steps.parts.far_out import stored_usual_distance
from workflow.steps.parts.notes import Note, notes_of
from workflow.steps.pca import (
    PcaSettings,
    checked_components,
    stored_moments,
    sum_moments,
)
from workflow.steps.projection import (
    ProjectionItem,
    ProjectionTask,
    TransformedRows,
    n_previews,
    stored_transform,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows
    from workflow.pca import MomentState, PrincipalComponents
    from workflow.runstore import RunStore
    from workflow.runstore.paths import Place
    from workflow.runstore.zarr_io import ImageStore

#: What added images have in `families.zarr`, as images of no family.
NO_FAMILY = {"family": -1, "family_strength": 0.0}


class Passed(NamedTuple):
    """What the passes over the added images have reported, and the merged moments."""

    moments: Mapping[int, dict[str, Any]]
    scores: Mapping[int, dict[str, Any]]
    nearest: Mapping[int, dict[str, Any]]
    places: Mapping[int, dict[str, Any]]
    merged: MomentState
    found: PrincipalComponents


@dataclass(frozen=True, slots=True)
class Addition:
    """Images that are added to a run, of which nobody else knows yet.

    Attributes
    ----------
    store : RunStore
        The run, which is changed step by step.
    config : Config
        Its settings, with the rows of its blocks.
    executor : Executor
        Runs the tasks.
    images : ImageStore
        The images that come.
    place : Path
        A new folder for what is made of them alone.
    """

    store: RunStore
    config: Config
    executor: Executor
    images: ImageStore
    place: Path

    def add(self, record: dict[str, Any]) -> dict[str, Any]:
        """Add the images; return what is found of the merged moments, and how many images lie far out.

        `record` is what the manifest is to say of them.
        """
        store = self.store
        n_old, usual = store.manifest.images["shape"][0], stored_usual_distance(store)
        self.place.mkdir(parents=True)
        passed = self._pass_over()
        born = self._births(usual)
        self._note(passed, n_old)
        self._grow(n_old)
        if not len(born):
            self._merge_sums(passed.nearest, n_old)
        store.manifest.images["shape"][0] = n_old + self.images.n_samples
        store.manifest.updates.append(record)
        if len(born):
            self._assign_anew(born)
        whole = Whole(store, self.config, self.executor)
        whole.make_graph()
        n_zero = sum(report.get("n_zero", 0) for report in passed.moments.values())
        n_zero += store.step("pca").details.get("n_zero", 0)
        found = whole.keep_moments(passed.merged, passed.found, n_zero)
        whole.label("update")
        far = zarr_io.read_rows(
            store.path / layout.LABELS, "distance", n_old, n_old + self.images.n_samples
        )
        n_far_out = None if usual is None else int(np.count_nonzero(far > usual))
        return {**found, "n_born": len(born), "n_far_out": n_far_out, "usual_distance": usual}

    @property
    def block_rows(self) -> int:
        """Rows of a block, of the run and of the images that come."""
        rows: int = self.store.manifest.images["block_rows"]
        return rows

    @property
    def parts(self) -> list[Partition]:
        """The partitions of the images that come, alone."""
        return partitions(self.images.n_samples, self.block_rows)

    def _run(self, name: str, task: Callable[[Any], Any], items: Any = None) -> Any:
        """Run the tasks of a pass over the images that come."""
        journal = Journal(self.place / f"{name}.jsonl", name)
        items = items or {part.index: part for part in self.parts}
        return self.executor.run(name, task, items, journal=journal, n_rows=n_rows)

    def _create(
        self, group: Path, name: str, dtype: Any, tail: tuple[tuple[str, int], ...]
    ) -> None:
        """Make an empty array of a row for each image that comes."""
        n, block_rows = self.images.n_samples, self.block_rows
        zarr_io.create_rows_array(
            group,
            name,
            n_rows=n,
            tail_shape=[length for _, length in tail],
            dtype=dtype,
            shard_rows=partition_rows(n, block_rows),
            block_rows=block_rows,
            dims=("sample", *(dim for dim, _ in tail)),
            compressor=None,
        )

    def _notes(self) -> tuple[Note, ...]:
        """Return what the run notes of each image, at the place of those that come."""
        notes = notes_of(self.store.path, self.images.image_shape)
        there = [note for note in notes if note.group.exists()]
        return tuple(
            dataclasses.replace(note, group=self.place / note.group.name) for note in there
        )

    def _pass_over(self) -> Passed:
        """Do the passes over the images that come: moments and notes, scores, nearest centroids, places."""
        store, settings = self.store, self.config.section(PcaSettings)
        moments, noted = sum_moments(
            self.executor,
            self.images,
            self.parts,
            folder=self.place / "moments",
            journal=Journal(self.place / "moments.jsonl", "moments"),
            settings=settings,
            notes=self._notes(),
        )
        # Also refuses what no score could be made of.
        merged, found = checked_components(
            self.executor,
            settings.features.reading(self.images),
            self.images.image_shape,
            self.parts,
            lambda: merge_moments(stored_moments(store), moments),
            settings.n_components,
        )
        scored = self._project(noted)
        (centroids,) = store.read_model("centroids")
        shared = self.executor.share({"centroids": centroids})
        for name, dtype in (("nearest", "int32"), ("sq_distance", "float32")):
            self._create(self.place / "nearest.zarr", name, dtype, (("rank", N_NEAREST),))
        (self.place / "cells").mkdir()
        target = self.place / "nearest.zarr"
        task = AssignTask(self._scores(), shared, target, self.place / "cells")
        nearest = self._run("overcluster", task)
        places = self._put_on_map(centroids)
        return Passed(noted, scored, nearest, places, merged, found)

    def _project(self, noted: Mapping[int, Mapping[str, Any]]) -> Any:
        """Write the scores, and keep some images as previews, as large a share as of all."""
        store, n = self.store, self.images.n_samples
        attrs = store.model_attrs("projection")
        basis = stored_basis(store, self.executor, transforms=False)
        n_components = len(store.read_model("projection_components")[0])
        scores, kept = self.place / "scores.zarr", self.place / "kept"
        self._create(scores, "scores", attrs["dtype"], (("component", n_components),))
        kept.mkdir()
        n_all = store.manifest.images["shape"][0] + n
        image_bytes = self.images.n_features * self.images.dtype.itemsize
        n_kept = max(1, n * n_previews(n_all, image_bytes) // n_all)
        cut = [[rows.n_rows for rows in part.blocks] for part in self.parts]
        numbers = iter(sample_counts([size for sizes in cut for size in sizes], n_kept).tolist())
        items = {
            part.index: ProjectionItem(
                part, noted[part.index]["crc"], [next(numbers) for _ in part.blocks]
            )
            for part in self.parts
        }
        task = ProjectionTask(self.images, basis, attrs["dtype"], scores, kept)
        return self._run("projection", task, items)

    def _scores(self) -> Rows:
        """Return the scores of the images that come, as those of the run are read."""
        scores = zarr_io.StoredRows.open(self.place / "scores.zarr", "scores")
        transform = stored_transform(self.store)
        if transform is None:
            return scores
        return TransformedRows(scores, self.store.model, zarr_io.crc(transform))

    def _put_on_map(self, centroids: NDArray[np.float32]) -> Any:
        """Write the places on the map, where there is one, as `predict` finds them."""
        points = stored_points(self.store)
        if not points:
            return {}
        target = self.place / layout.MAP
        for name, spec in MAP_ROWS.items():
            self._create(target, name, spec.dtype, ())
        placer = Placer(self.executor.share({"centroids": centroids, **points}))
        task = PlaceTask(self._scores(), self.place / "nearest.zarr", placer, target)
        return self._run("map", task)

    def _grow(self, n_old: int) -> None:
        """Make the arrays of the run longer."""
        store, number = self.store, len(added(self.store)) + 1
        names = named_group(self.images)
        labels = store.path / layout.LABELS
        fill: dict[str, Any] = dict.fromkeys(zarr_io.array_names(labels), -1)
        fill |= {"segment": number, "path": ""}
        if names is not None:
            del fill["path"]
        groups: list[tuple[Path | None, Place | None, dict[str, Any]]] = [
            (layout.scores(store.path), self.place / "scores.zarr", {}),
            (layout.nearest(store.path), self.place / "nearest.zarr", {}),
            (layout.hashes(store.path), self.place / "hashes.zarr", {}),
            (layout.statistics(store.path), self.place / "statistics.zarr", {}),
            (map_of(store), self.place / layout.MAP, {}),
            (families_of(store), None, NO_FAMILY),
            (labels, names, fill),
        ]
        for group, new, values in groups:
            if group is not None and group.exists():
                grown = store.wip(group.name)
                n_rows = n_old + self.images.n_samples
                growth = Growth(group, new, grown, n_old, n_rows, values)
                self.executor.map(growth, growth.begin())
                store.replace([(grown, group)])
        if "segment" not in zarr_io.array_names(labels):
            write_segments(labels, [n_old, n_old + self.images.n_samples], self.block_rows)

    def _note(self, passed: Passed, n_old: int) -> None:
        """Let journals and folders of the steps tell of the images that come, too, as partitions behind those there."""
        store, first = self.store, len(stored_partitions(self.store))
        details = store.step("overcluster").details
        part, assigned = details["assign_part"], details.get(ASSIGNED, 0)
        after = len(stored_partitions(store, assigned))
        for index, report in passed.moments.items():
            target = part_path(store.folder("pca") / "parts", first + index)
            target.parent.mkdir(exist_ok=True)
            part_path(self.place / "moments", index).replace(target)
            _extend(store.folder("pca") / "moments.jsonl", first + index, report)
        for index, report in passed.scores.items():
            kept = read_arrays(part_path(self.place / "kept", index), report["file_crc"])
            target = part_path(layout.previews(store.path), first + index)
            file_crc = write_arrays(target, {**kept, "row": kept["row"] + n_old})
            journal = store.folder("projection") / "blocks.jsonl"
            _extend(journal, first + index, {**report, "file_crc": file_crc})
        for index, report in passed.nearest.items():
            # What the task has left is merged, and not kept.
            rest = {name: value for name, value in report.items() if name != "file_crc"}
            _extend(store.folder("overcluster") / f"{part}.jsonl", after + index, rest)
        for index, report in passed.places.items():
            _extend(store.folder("map") / "blocks.jsonl", first + index, report)
        if families_of(store) is not None:
            for partition in self.parts:
                crcs = [
                    [
                        zarr_io.crc(np.full(rows.n_rows, -1, np.int32)),
                        zarr_io.crc(np.zeros(rows.n_rows, np.float32)),
                    ]
                    for rows in partition.blocks
                ]
                journal = store.folder("families") / "blocks.jsonl"
                _extend(journal, first + partition.index, {"crc": crcs})

    def _merge_sums(self, reports: Mapping[int, Mapping[str, Any]], n_old: int) -> None:
        """Merge what was summed of cells and pairs, and make the graph of it."""
        store, executor, record = self.store, self.executor, self.store.step("overcluster")
        (centroids,) = store.read_model("centroids")
        checksum = record.checksums[f"overcluster/{PAIRS}"]
        place = store.wip("model-overcluster")
        finish = MergeSums(
            store.model,
            layout.nearest(store.path),
            pairs_file(store),
            checksum,
            executor.share({"centroids": centroids}),
            place,
            n_old,
        )
        read = partial(read_sums, self.place / "cells")
        sums: AssignSums = executor.reduce(read, part_files(reports), merge_sums, finish)
        assert sums.staged is not None
        record.details |= {"inertia": sums.inertia}
        noted = store.model_attrs("overcluster") | {"inertia": sums.inertia}
        store.replace(store.adopt_model("overcluster", sums.staged, noted))
        discard(place)
        record.checksums[f"overcluster/{PAIRS}"] = sums.pairs_crc

    def _births(self, usual: float | None) -> NDArray[np.float32]:
        """Return the centroids that are born: as large a share of those there as of images come, at most."""
        population, centroids = self.store.read_model("population", "centroids")
        if usual is None:
            return centroids[:0]
        n_old, n_centroids = int(population.sum()), len(population)
        task = Births(
            self._scores(),
            self.place / "nearest.zarr",
            usual,
            n_old / n_centroids,
            math.ceil(n_centroids * self.images.n_samples / n_old),
            self.config.seed,
        )
        (born,) = self.executor.map(task, [None])
        found: NDArray[np.float32] = born
        return found

    def _assign_anew(self, born: NDArray[np.float32]) -> None:
        """Find the nearest three of all images anew, among the old centroids and those that are born."""
        store, whole = self.store, Whole(self.store, self.config, self.executor)
        (old,) = store.read_model("centroids")
        centroids = np.concatenate([old, born])
        n_requested = store.step("overcluster").details["n_centroids_requested"]
        whole.assign(centroids, n_requested + len(born))
        if store.step("map").details["points"] == "centroids":
            self._place_births(centroids, len(old))

    def _place_births(self, centroids: NDArray[np.float32], n_old: int) -> None:
        """Give centroids that were born a place on the map, among the old ones."""
        store, old = self.store, centroids[:n_old]
        (position,) = store.read_model("map_position")
        nearest, _ = NearestCentroids.build(old).query(centroids[n_old:], k=1)
        places = places_of({"centroids": old, "position": position})
        placed = place_images(places, None, centroids[n_old:], nearest)
        both = np.concatenate([position, np.column_stack([placed[name] for name in MAP_ROWS])])
        Whole(store, self.config, self.executor).keep_positions(centroids, both)


def _extend(path: Path, index: int, report: Mapping[str, Any]) -> None:
    """Add the report of a task to a journal; an older version may have kept none."""
    if path.exists():
        rest = {name: value for name, value in report.items() if name != "index"}
        Journal(path, str(Journal.key_of(path))).append(index, rest)
