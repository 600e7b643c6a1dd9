"""What is made anew of all images of a run, when some come or go: cells, graph, components, tree and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import steps
from workflow.chunks import row_ranges
from workflow.commands.updating import CHANGED
from workflow.engine.context import Context
from workflow.engine.partitions import partition_rows
from workflow.engine.step import by_name
from workflow.ingest import ImagesInput
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.base import call, described
from workflow.steps.centroid_graph import GraphTask
from workflow.steps.labels import LabelsStep
from workflow.steps.map import ARRAYS as MAP_ARRAYS
from workflow.steps.overcluster import ASSIGNED, PAIRS, AssignSums, assign, pairs_file
from workflow.steps.parts.beside import BESIDE, names_beside
from workflow.steps.parts.duplicates import CountExact, stored_hashes
from workflow.steps.pca import (
    components_attrs,
    components_details,
    components_model,
    moments_model,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.pca import MomentState, PrincipalComponents
    from workflow.runstore import RunStore
    from workflow.runstore.paths import Place


class AllImages(Context):
    """What steps are given that ask how many images there are, and read none."""

    def paths(self) -> Place | None:
        """Return the labels, which hold the file names of the images of all segments."""
        labels = self.store.path / layout.LABELS
        return labels if names_beside(labels) else None


@dataclass(frozen=True, slots=True)
class Whole:
    """A run whose rows have come or gone.

    Attributes
    ----------
    store : RunStore
        The run, which is changed step by step.
    config : Config
        Its settings, with the rows of its blocks.
    executor : Executor
        Runs the tasks.
    """

    store: RunStore
    config: Config
    executor: Executor

    def context(self) -> Context:
        """Return what the steps are given."""
        store, known = self.store, self.store.manifest.images
        shape, dtype = tuple(known["shape"]), np.dtype(known["dtype"])
        images = zarr_io.JoinedImages("joined", store.path, "", shape, dtype, known["block_rows"])
        given = ImagesInput("all images", images, {})
        return AllImages(store, self.config, self.executor, given, steps.STEPS)

    def assign(self, centroids: NDArray[np.float32], n_requested: int) -> None:
        """Find the nearest three of all images anew."""
        store = self.store
        for journal in store.folder("overcluster").glob("assign-*.jsonl"):
            journal.unlink()
        sums, part = assign(self.context(), centroids, store.wip("model-overcluster"))
        self.adopt_sums(sums, part, n_requested)
        self.find_names_again()

    def find_names_again(self) -> None:
        """Let names be found again by the images, as the centroids have other images now."""
        for entry in self.store.manifest.names:
            entry["of"] = ""

    def adopt_sums(self, sums: AssignSums, part: str, n_requested: int) -> None:
        """Let the run know the sums over the cells of all images, and the journal of their pass."""
        store, record = self.store, self.store.step("overcluster")
        assert sums.staged is not None
        details = record.details | {
            "n_centroids": len(sums.is_occupied),
            "n_centroids_requested": n_requested,
            "inertia": sums.inertia,
            "assign_part": part,
            ASSIGNED: store.manifest.images["shape"][0],
        }
        store.replace(store.adopt_model("overcluster", sums.staged, details))
        discard(store.path / layout.WIP / "model-overcluster")
        discard(store.folder("overcluster") / "parts")
        record.checksums[f"overcluster/{PAIRS}"] = sums.pairs_crc
        record.details = details

    def keep_positions(self, centroids: NDArray[np.float32], position: NDArray[np.float32]) -> None:
        """Keep the places on the map of those centroids that are left: some may have lost all their images."""
        left = {row.tobytes() for row in self.store.read_model("centroids")[0]}
        is_left = [row.tobytes() in left for row in centroids]
        arrays = described(MAP_ARRAYS, {"map_position": position[is_left]})
        self.store.write_model("map", arrays, self.store.model_attrs("map"))

    def make_graph(self) -> None:
        """Make the graph of the centroids of the counts of all images."""
        store, place = self.store, self.store.wip("model-centroid_graph")
        record = store.step("overcluster")
        checksum, n_centroids = (
            record.checksums[f"overcluster/{PAIRS}"],
            record.details["n_centroids"],
        )
        task = GraphTask(pairs_file(store), checksum, n_centroids, place)
        staged = self.executor.map(call, [task])[0]
        details = store.step("centroid_graph").details | {"n_edges": staged.n_edges}
        store.replace(store.adopt_model("centroid_graph", staged.arrays, details))
        discard(place)
        store.step("centroid_graph").details = details

    def keep_moments(
        self, merged: MomentState, found: PrincipalComponents, n_zero: int
    ) -> dict[str, Any]:
        """Keep moments and their components, and count equal images."""
        store = self.store
        arrays = moments_model(merged) | components_model(found)
        store.write_model("pca", arrays, components_attrs(found))
        details = store.step("pca").details
        details |= components_details(found)
        if "n_zero" in details:
            details["n_zero"] = n_zero
        if (hashes := stored_hashes(store)) is not None:
            with self.executor.task_storage() as storage:
                (counts,) = self.executor.map(CountExact(hashes), [storage.folder])
            details |= counts._asdict()
        return components_details(found)

    def label(self, done: str, n_left: NDArray[np.int64] | None = None) -> None:
        """Make the tree anew, and all labels; then all steps are complete.

        `n_left` says how many images of each centroid of before have left the run.
        """
        context, store = self.context(), self.store
        by_name(steps.STEPS)["tree"].run(context)
        LabelsStep().label(context, done, is_update=True, n_left=n_left)
        for name in CHANGED:
            store.finish(name, by_name(steps.STEPS)[name].results(store.path))


def write_segments(labels: Path, stops: Sequence[int], block_rows: int) -> None:
    """Write the number of the segment of each image beside the labels; `stops` are the rows behind each segment."""
    n = stops[-1]
    zarr_io.create_rows_array(
        labels,
        "segment",
        n_rows=n,
        tail_shape=(),
        dtype="int32",
        shard_rows=partition_rows(n, block_rows),
        block_rows=block_rows,
        dims=("sample",),
        attrs={"long_name": BESIDE["segment"]},
    )
    with zarr_io.rows_writers(labels, ["segment"], 0) as writers:
        for rows in row_ranges(n, block_rows):
            values = np.searchsorted(stops, np.arange(*rows), side="right").astype(np.int32)
            writers["segment"].append(values)
    zarr_io.consolidate(labels)
