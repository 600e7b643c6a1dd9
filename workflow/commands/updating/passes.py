"""The passes of the steps over images that are added to a run, alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.commands.predict import stored_basis
from workflow.engine.partitions import n_rows, partition_rows, partitions
from workflow.errors import ImagesError
from workflow.overcluster import sample_counts
from workflow.pca import merge_moments, variance_share
from workflow.runstore import layout, zarr_io
from workflow.runstore.journal import Journal
from workflow.steps.map import ROWS as MAP_ROWS
from workflow.steps.map import Placer, PlaceTask, stored_points
from workflow.steps.overcluster import N_NEAREST, AssignTask
from workflow.steps.parts.duplicates import CountKnown, stored_hashes
from workflow.steps.parts.notes import Note, notes_of
from workflow.steps.pca import PcaSettings, checked_components, stored_moments, sum_moments
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

    import numpy as np
    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.engine.executor import Executor
    from workflow.engine.partitions import Partition
    from workflow.mapper import Rows
    from workflow.pca import MomentState, PrincipalComponents
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore


class Passed(NamedTuple):
    """What the passes over the added images have reported, and the merged moments."""

    moments: Mapping[int, dict[str, Any]]
    scores: Mapping[int, dict[str, Any]]
    nearest: Mapping[int, dict[str, Any]]
    places: Mapping[int, dict[str, Any]]
    merged: MomentState
    found: PrincipalComponents
    kept: KeptVariance
    n_copies: int | None


class KeptVariance(NamedTuple):
    """Shares of the variance that the components of the scores keep: of the images that come, and of those of before."""

    new: float
    before: float


@dataclass(frozen=True, slots=True)
class Passes:
    """The passes over images that come to a run; the run is only read.

    Attributes
    ----------
    store : RunStore
        The run.
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

    def do(self, *, again: bool) -> Passed:
        """Do the passes over the images that come: moments and notes, scores, nearest centroids, places.

        Raises
        ------
        ImagesError
            If the run has all of them, and they are not to be added `again`.
        """
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
        n_copies = self._count_copies()
        if n_copies == self.images.n_samples and not again:
            raise already_there()
        before = stored_moments(store)
        # Also refuses what no score could be made of.
        merged, found = checked_components(
            self.executor,
            settings.features.reading(self.images),
            self.images.image_shape,
            self.parts,
            lambda: merge_moments(before, moments),
            settings.n_components,
        )
        scored = self._project(noted)
        (centroids,) = store.read_model("centroids")
        shared = self.executor.share({"centroids": centroids})
        for name, dtype in (("nearest", "int32"), ("sq_distance", "float32")):
            self._create(self.place / "nearest.zarr", name, dtype, (("rank", N_NEAREST),))
        (self.place / "cells").mkdir()
        target = self.place / "nearest.zarr"
        task = AssignTask(self.scores(), shared, target, self.place / "cells")
        nearest = self._run("overcluster", task)
        places = self._put_on_map(centroids)
        mean, components = store.read_model("projection_mean", "projection_components")
        kept = KeptVariance(*(variance_share(m, mean, components) for m in (moments, before)))
        return Passed(noted, scored, nearest, places, merged, found, kept, n_copies)

    def _count_copies(self) -> int | None:
        """Return how many of the images equal one that the run has; None where it keeps no hashes."""
        known = stored_hashes(self.store)
        if known is None:
            return None
        new = zarr_io.StoredRows.open(self.place / layout.hashes(self.store.path).name, "hash")
        n_copies: int = self.executor.map(CountKnown(known), [new])[0]
        return n_copies

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

    def scores(self) -> Rows:
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
        task = PlaceTask(self.scores(), self.place / "nearest.zarr", placer, target)
        return self._run("map", task)


def already_there() -> ImagesError:
    """Return the error for images that the run has, all of them."""
    msg = "`update` must be given new images; the run has all of these already. Give others, or --again to add these once more."
    return ImagesError(msg)
