"""Images added to a run: the tasks of the steps on them alone, then sums, tree and labels of all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.commands.updating.births import Added, Births
from workflow.commands.updating.passes import Passed, Passes
from workflow.commands.updating.sums import MergeSums
from workflow.commands.updating.whole import Whole, write_segments
from workflow.engine.context import named_group
from workflow.engine.partitions import part_path
from workflow.engine.segments import (
    added,
    n_searched,
    refitted_rows,
    segments,
    stored_partitions,
)
from workflow.overcluster import NearestCentroids
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.growth import Growth
from workflow.runstore.journal import Journal
from workflow.steps.base import part_files
from workflow.steps.families import families_of
from workflow.steps.map import ROWS as MAP_ROWS
from workflow.steps.map import map_of, place_images, places_of
from workflow.steps.overcluster import (
    ASSIGNED,
    PAIRS,
    AssignSums,
    merge_sums,
    pairs_file,
    read_sums,
)
from workflow.steps.parts.far_out import stored_usual_distance
from workflow.steps.projection import stored_scores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.runstore.paths import Place

#: What added images have in `families.zarr`, as images of no family.
NO_FAMILY = {"family": -1, "family_strength": 0.0}


@dataclass(frozen=True, slots=True)
class Addition(Passes):
    """Images that are added to a run, of which nobody else knows yet; the run is changed step by step."""

    def add(self, record: dict[str, Any], *, again: bool) -> dict[str, Any]:
        """Add the images; return what is found of the merged moments, and how unlike the others they are.

        `record` is what the manifest is to say of them; images that the run has, all of them, are
        added only `again`.
        """
        store = self.store
        n_old = store.manifest.images["shape"][0]
        self.place.mkdir(parents=True)
        passed = self.do(again=again)
        born = self._births(stored_usual_distance(store))
        self._note(passed, n_old)
        self._grow(n_old)
        if not len(born):
            self._merge_sums(passed.nearest, n_old)
        store.manifest.images["shape"][0] = n_old + self.images.n_samples
        store.manifest.updates.append(record)
        if len(born):
            self._assign_anew(born)
        whole = self._whole()
        whole.make_graph()
        n_zero = sum(report.get("n_zero", 0) for report in passed.moments.values())
        n_zero += store.step("pca").details.get("n_zero", 0)
        found = whole.keep_moments(passed.merged, passed.found, n_zero)
        whole.label("update")
        return {
            **found,
            "n_copies": passed.n_copies,
            "n_born": len(born),
            "variance_kept_new": passed.kept.new,
            "variance_kept_before": passed.kept.before,
        }

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
            stops = [segment.stop for segment in segments(store)]
            write_segments(labels, [*stops, n_old + self.images.n_samples], self.block_rows)

    def _note(self, passed: Passed, n_old: int) -> None:
        """Let journals and folders of the steps tell of the images that come, too, as partitions behind those there."""
        store, first = self.store, len(stored_partitions(self.store))
        behind = len(stored_partitions(store, refitted_rows(store)))
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
            target = part_path(layout.previews(store.path), behind + index)
            file_crc = write_arrays(target, {**kept, "row": kept["row"] + n_old})
            journal = store.folder("projection") / "blocks.jsonl"
            _extend(journal, behind + index, {**report, "file_crc": file_crc})
        for index, report in passed.nearest.items():
            # What the task has left is merged, and not kept.
            rest = {name: value for name, value in report.items() if name != "file_crc"}
            _extend(store.folder("overcluster") / f"{part}.jsonl", after + index, rest)
        for index, report in passed.places.items():
            _extend(store.folder("map") / "blocks.jsonl", behind + index, report)
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
                _extend(journal, behind + partition.index, {"crc": crcs})

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
        store = self.store
        names = ("population", "centroids", "centroid_radius_sq")
        population, centroids, radius_sq = store.read_model(*names)
        if usual is None:
            return centroids[:0]
        n_old, n_centroids = int(population.sum()), len(population)
        # Few images of a kind may come at a time: those of earlier updates count, too.
        parts = (
            Added(self.scores(), self.place / "nearest.zarr"),
            Added(stored_scores(store), layout.nearest(store.path), n_searched(store)),
        )
        task = Births(
            parts,
            usual,
            radius_sq,
            n_old / n_centroids,
            math.ceil(n_centroids * self.images.n_samples / n_old),
            self.config.seed,
        )
        (born,) = self.executor.map(task, [None])
        found: NDArray[np.float32] = born
        return found

    def _whole(self) -> Whole:
        """Return what is made anew of all images."""
        return Whole(self.store, self.config, self.executor)

    def _assign_anew(self, born: NDArray[np.float32]) -> None:
        """Find the nearest three of all images anew, among the old centroids and those that are born."""
        store, whole = self.store, self._whole()
        (old,) = store.read_model("centroids")
        centroids = np.concatenate([old, born])
        n_requested = store.step("overcluster").details["n_centroids_requested"]
        whole.assign(centroids, n_requested + len(born))
        if store.step("map").details["points"] == "centroids":
            whole.keep_positions(centroids, self._places_of_births(centroids, len(old)))

    def _places_of_births(self, centroids: NDArray[np.float32], n_old: int) -> NDArray[np.float32]:
        """Return the places of centroids on the map: those that were born lie among the old ones."""
        old = centroids[:n_old]
        (position,) = self.store.read_model("map_position")
        nearest, _ = NearestCentroids.build(old).query(centroids[n_old:], k=1)
        places = places_of({"centroids": old, "position": position})
        placed = place_images(places, None, centroids[n_old:], nearest)
        return np.concatenate([position, np.column_stack([placed[name] for name in MAP_ROWS])])


def _extend(path: Path, index: int, report: Mapping[str, Any]) -> None:
    """Add the report of a task to a journal; an older version may have kept none."""
    if path.exists():
        rest = {name: value for name, value in report.items() if name != "index"}
        Journal.reopen(path).append(index, rest)
