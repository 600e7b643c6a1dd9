"""overcluster: many centroids fitted on a sample, then the nearest three of every image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from workflow.centroid_graph import PairCounts, count_pairs, merge_pair_counts
from workflow.chunks import row_ranges
from workflow.config.fields import AutoInt, Section
from workflow.engine.partitions import part_path
from workflow.engine.plan import TaskPlan, worker_count
from workflow.engine.segments import stored_blocks
from workflow.engine.step import Step
from workflow.engine.verify import check_rows_of_step
from workflow.errors import ConfigError
from workflow.formatting import format_count
from workflow.overcluster import (
    CellSums,
    NearestCentroids,
    RoundState,
    auto_n_centroids,
    cell_sums,
    duplicate_cells,
    fit_centroids,
    merge_cell_sums,
    sample_size,
)
from workflow.overcluster.fitting import MAX_IN_MEMORY_PAIRS, first_batch_rows
from workflow.overcluster.sampling import sample_blocks
from workflow.overcluster.seeding import CANDIDATE_ROUNDS
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard, read_arrays, write_arrays
from workflow.runstore.staging import stage_arrays
from workflow.schema import ArraySpec
from workflow.steps.base import described, part_files, prefixed, read_ahead, without_prefix
from workflow.steps.parts.sample import (
    SAMPLE_SHARD_ROWS,
    draw_sample,
    drawing_of,
    stored_sample,
)
from workflow.steps.projection import score_row_bytes, stored_scores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.context import Context
    from workflow.engine.executor import StoredArrays
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.engine.step import Rider
    from workflow.mapper import Rows
    from workflow.overcluster import DuplicateCells, FittedCentroids
    from workflow.runstore import RunStore
    from workflow.runstore.staging import StagedArrays
    from workflow.steps.base import PartFile

#: Nearest centroids that are stored of each image, and their bytes with the distances.
N_NEAREST = 3
NEAREST_BYTES = 24
#: File of the counts of pairs, in the folder of the step.
PAIRS = "pairs.npz"
#: What the step notes of the rows that its last pass over all of them has seen, of an updated run.
ASSIGNED = "n_assigned"
#: Rows of a tile of the search.
TILE_ROWS = 1_024
#: Rounds of k-means, each counted as the share of the sample that it visits: 10 on the demo at 4,096,
#: 7 at 16,384, 5 on digits.
TYPICAL_ROUNDS = 7
#: Bytes that a partition leaves for each centroid beside the sums, with its pairs.
CELL_BYTES = 230
#: What a task that chooses seeds holds of a row: for itself, and for each component [bytes].
SEEDING_ROW_BYTES, SEEDING_BYTES = 160, 16
#: What to change where so much memory is not there.
ADVICE = {
    "distances": "Lower overcluster.n_centroids",
    "sums": "Lower overcluster.n_centroids or pca.n_components",
}
#: Arrays of ``model.zarr``.
ARRAYS = {
    "centroids": ArraySpec(("centroid", "component"), "float32", "score", "centroids"),
    "population": ArraySpec(("centroid",), "int64", "image", "images nearest to the centroid"),
    "centroid_mean": ArraySpec(
        ("centroid", "component"), "float64", "score", "mean of the images nearest to the centroid"
    ),
    "rms_radius": ArraySpec(
        ("centroid",), "float64", "score", "root mean square distance of its images"
    ),
    "mean_distance": ArraySpec(("centroid",), "float64", "score", "mean distance of its images"),
    "max_distance": ArraySpec(("centroid",), "float64", "score", "largest distance of its images"),
    "exemplar": ArraySpec(
        ("centroid", "rank"), "int64", "image", "index of its nearest images; -1 where fewer"
    ),
}


class OverclusterSettings(Section):
    """Mini-batch k-means with many more centroids than clusters are expected."""

    n_centroids: AutoInt = "auto"
    """Number of centroids, or auto: one for 15 images, up to 16,384; one for 2 below 5,000 images."""
    max_iter: int = Field(default=40, ge=1, le=10_000)
    """Most rounds of assignment and update on the sample."""


class OverclusterStep(Step):
    """Fit many centroids, and find each image's nearest three."""

    name = "overcluster"
    version = 2
    section = OverclusterSettings
    settings = ("seed", "profile", "overcluster.n_centroids", "overcluster.max_iter")
    reads = ("projection",)
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Draw a sample, fit on it, assign every image."""
        store = context.store
        n_centroids = _n_centroids(context.config.section(OverclusterSettings), context.n_samples)
        if n_centroids > context.n_samples:
            raise _too_many(n_centroids, context.n_samples)
        sample = draw_sample(context, n_centroids)
        if context.config.profile == "reference":
            # Slow to import, and rarely wanted.
            from workflow.steps import reference

            with context.executor.as_dask_scheduler():
                centroids = reference.centroids(
                    stored_scores(store), context.block_rows, n_centroids, context.config.seed
                )
            details: dict[str, Any] = {"n_rows_used": context.n_samples, "n_iter": 1}
        else:
            fitted = fit(context, sample, n_centroids)
            row_bytes = sample.n_features * sample.dtype.itemsize
            context.count(self.name, {0: {"bytes_read": fitted.n_rows_used * row_bytes}})
            centroids = fitted.centroids.astype(np.float32)
            details = {"n_rows_used": int(fitted.n_rows_used), "n_iter": int(fitted.n_iter)}
        place = store.wip("model-overcluster")
        sums, part = assign(context, centroids, place)
        assert sums.staged is not None
        details |= {
            "n_centroids": len(sums.is_occupied),
            "n_centroids_requested": n_centroids,
            "inertia": sums.inertia,
        }
        store.replace(store.adopt_model(self.name, sums.staged, details))
        discard(place)
        record = store.step(self.name)
        record.checksums[f"overcluster/{PAIRS}"] = sums.pairs_crc
        record.details = details | {"assign_part": part}

    def rider(self, context: Context, name: str) -> Rider | None:
        """Draw the sample while `projection` has the scores."""
        if name != "projection":
            return None
        settings = context.config.section(OverclusterSettings)
        return drawing_of(context, _n_centroids(settings, context.n_samples))

    def outputs(self, run: Path) -> list[Path]:
        """Return the centroids, the sample and each image's nearest centroids."""
        model = [layout.model_array(run, name) for name in ("zarr.json", "centroids")]
        return [*model, layout.sample(run), layout.nearest(run)]

    def check(self, sizes: Sizes) -> None:
        """Refuse more centroids than images."""
        wanted = sizes.config.section(OverclusterSettings).n_centroids
        if wanted != "auto" and wanted > sizes.n_samples:
            raise _too_many(wanted, sizes.n_samples)

    def dims(self, sizes: Sizes) -> Mapping[str, int]:
        """Return how many centroids and rows of the sample there are."""
        n_centroids = _n_centroids(sizes.config.section(OverclusterSettings), sizes.n_samples)
        return {
            "centroid": n_centroids,
            "row": sample_size(sizes.n_samples, n_centroids),
        }

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the passes: shuffle, rounds on the sample, all images; `projection` has drawn the sample."""
        n, n_sample, d = sizes.n_samples, sizes.dims["row"], sizes.dims["component"]
        scores, sample = n * score_row_bytes(sizes), 4 * n_sample * d
        n_shards = -(-n_sample // SAMPLE_SHARD_ROWS)
        gathering = {"rows": 3 * SAMPLE_SHARD_ROWS * d * 4 + 32 * n_sample}
        seeding, n_batch = _seeding(sizes)
        draws = 1 if seeding == n_batch else CANDIDATE_ROUNDS + 1
        max_iter = sizes.config.section(OverclusterSettings).max_iter
        visited = 4 * d * (draws * n_batch + min(TYPICAL_ROUNDS, max_iter + 1) * n_sample)
        rounds = max(
            _search_parts(sizes, SAMPLE_SHARD_ROWS),
            {"rows": (SEEDING_ROW_BYTES + SEEDING_BYTES * d) * seeding},
            key=lambda parts: sum(parts.values()),
        )
        left = n * NEAREST_BYTES + sizes.n_partitions * sizes.dims["centroid"] * (
            8 * d + CELL_BYTES
        )
        search = _search_parts(sizes, sizes.block_rows)
        n_parts = sizes.n_partitions
        return [
            TaskPlan("overcluster: shuffle", n_shards, sample, sample, gathering),
            TaskPlan("overcluster: rounds", 1, visited, 0, rounds, ADVICE),
            TaskPlan("overcluster: assign", n_parts, scores, left, search, ADVICE),
        ]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth of the first centroids, the rounds on the sample and the pass over all images.

        Searches rule out most centroids: between 1,333 and 13,333 of them, with 15 images each, a
        row takes 1.5 to 2 times as long.
        """
        k, d = sizes.dims["centroid"], sizes.dims["component"] / 50
        max_iter = sizes.config.section(OverclusterSettings).max_iter
        n_iter = 1 + min(TYPICAL_ROUNDS, max_iter)
        row = 2e-6 * (1 + k / 16_000) * d
        n_seeding, n_batch = _seeding(sizes)
        first = 1.6e-9 * d * n_seeding * k
        if n_seeding != n_batch:
            # Candidates that lie close are searched in float64, which takes five times as long.
            # Whether they do is not known before: between the two.
            first = 2 * (first + (CANDIDATE_ROUNDS + 1) * _busiest(sizes, n_batch) * row)
        rounds = n_iter * (0.04 + _busiest(sizes, sizes.dims["row"]) * row)
        return 0.15 + first + rounds + 2.2 * sizes.rows_per_worker * row

    def client_bytes(self, sizes: Sizes) -> int:
        """Return the centroids as they come and as they are noted, and the search of the tasks."""
        return 6 * 8 * sizes.dims["centroid"] * sizes.dims["component"]

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the sample and each image's nearest centroids."""
        if store.step(self.name).state == "complete":
            sample, nearest = layout.sample(store.path), layout.nearest(store.path)
            rows = row_ranges(stored_sample(store).n_samples, SAMPLE_SHARD_ROWS)
            yield from check_rows_of_step(store, self.name, "sample", sample, ["sample"], rows=rows)
            details, names = store.step(self.name).details, ["nearest", "sq_distance"]
            part, blocks = details["assign_part"], stored_blocks(store, details.get(ASSIGNED, 0))
            yield from check_rows_of_step(store, self.name, part, nearest, names, rows=blocks)

    def describe(self, store: RunStore) -> str:
        """Return how many centroids there are, and what became of those asked for."""
        found = store.step(self.name).details
        n_iter, n_empty = found["n_iter"], found["n_centroids_requested"] - found["n_centroids"]
        empty = f"; {n_empty:,} more got no image and were dropped" if n_empty else ""
        centroids = format_count(found["n_centroids"], "centroid")
        return f"{centroids} after {format_count(n_iter, 'round')}{empty}"

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many centroids there are, and which of them are made of duplicates."""
        n_centroids = store.step(self.name).details["n_centroids"]
        n_samples = store.manifest.images["shape"][0]
        return {
            "n_centroids": n_centroids,
            "images_per_centroid": round(n_samples / n_centroids, 1),
            "duplicates": count_duplicates(store),
        }


def _n_centroids(settings: OverclusterSettings, n_samples: int) -> int:
    """Return how many centroids are wanted."""
    wanted = settings.n_centroids
    return auto_n_centroids(n_samples) if wanted == "auto" else wanted


def _too_many(n_centroids: int, n_samples: int) -> ConfigError:
    """Return the error for more centroids than images."""
    msg = f"`overcluster.n_centroids` must be at most the number of images; got {n_centroids} for {n_samples} images. Lower it, or leave it auto."
    return ConfigError(msg)


def _seeding(sizes: Sizes) -> tuple[int, int]:
    """Return the rows that one task chooses the first centroids from, and those that are drawn from."""
    k = sizes.dims["centroid"]
    n_batch = first_batch_rows(sizes.dims["row"], k)
    in_memory = n_batch * k <= MAX_IN_MEMORY_PAIRS
    return (n_batch if in_memory else k // 2 + CANDIDATE_ROUNDS * k), n_batch


def _busiest(sizes: Sizes, n_rows: int) -> int:
    """Return the rows of the worker that gets the most pieces of the sample."""
    cut = sample_blocks(n_rows, sizes.dims["centroid"])
    turns = -(-len(cut) // worker_count(sizes.config.compute))
    return min(n_rows, turns * cut[0].rows.n_rows)


def _search_parts(sizes: Sizes, rows: int) -> dict[str, int]:
    """Return what a task that searches centroids and sums their cells holds [bytes]."""
    k, d = sizes.dims["centroid"], sizes.dims["component"]
    return {
        "rows": 3 * rows * d * 4,
        "distances": 3 * TILE_ROWS * k * 4,
        "centroids": 3 * k * d * 4,
        "sums": 3 * k * (d + 16) * 8,
        "pairs": 3 * rows * 3 * 24,
    }


def stored_duplicate_cells(store: RunStore) -> DuplicateCells:
    """Return which cells of a run hold duplicates."""
    population, rms_radius, max_distance, centroids = store.read_model(
        "population", "rms_radius", "max_distance", "centroids"
    )
    scale = np.linalg.norm(centroids.astype(np.float64), axis=1)
    return duplicate_cells(population, rms_radius, max_distance, scale)


def count_duplicates(store: RunStore) -> dict[str, int | None]:
    """Return how many images are equal, by their hashes, and how many cells are made of near ones."""
    details = store.step("pca").details
    (population,) = store.read_model("population")
    is_near = stored_duplicate_cells(store).is_near
    return {
        # Not known of a run without hashes.
        "exact_groups": details.get("exact_groups"),
        "exact_images": details.get("exact_images"),
        "near_cells": int(is_near.sum()),
        "near_images": int(population[is_near].sum()),
    }


def fit(context: Context, sample: Rows, n_centroids: int) -> FittedCentroids:
    """Fit centroids on the sample, going on from the last round that was noted."""
    store, step = context.store, OverclusterStep.name
    max_iter = context.config.section(OverclusterSettings).max_iter
    place = store.folder(step) / "round.npz"
    noted = store.journal(step, "rounds")
    resume = None
    if noted.entries and place.is_file():
        resume = RoundState.from_arrays(read_arrays(place))
    # A journal of other settings is void, and so is the state it stands for.
    n_noted = len(noted.entries)

    progress = context.executor.progress
    with progress.bar("overcluster", max_iter, "rounds", is_bound=True) as bar:
        n_shown = resume.n_iter if resume is not None else 0
        bar.resume(n_shown)

        def on_round(state: RoundState) -> None:
            nonlocal n_noted, n_shown
            write_arrays(place, state.to_arrays())
            noted.append(n_noted, {"round": n_noted})
            n_noted += 1
            # The first state is that of the first centroids, before any round.
            bar.advance(state.n_iter - n_shown)
            n_shown = state.n_iter

        return fit_centroids(
            sample,
            n_centroids,
            seed=context.config.seed,
            mapper=context.executor,
            max_iter=max_iter,
            on_round=on_round,
            resume=resume,
        )


@lru_cache(maxsize=2)
def stored_search(stored: StoredArrays) -> NearestCentroids:
    """Return the search over stored centroids, built once per process."""
    return NearestCentroids.build(stored.load()["centroids"])


@dataclass(frozen=True, slots=True)
class AssignTask:
    """Nearest centroids of every row of a partition, written; the sums that follow from them, left."""

    scores: Rows
    centroids: StoredArrays
    nearest: Path
    folder: Path

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Search once, accumulate everything that rides along."""
        search = stored_search(self.centroids)
        n_centroids = len(self.centroids.load()["centroids"])
        cells: CellSums | None = None
        pairs: list[PairCounts] = []
        checksums, bytes_read, bytes_written = [], 0, 0
        names = ("nearest", "sq_distance")
        with zarr_io.rows_writers(self.nearest, names, partition.start) as writers:
            for rows, read in read_ahead(self.scores, partition.blocks):
                block = read.astype(np.float32, copy=False)
                nearest, sq_distance = search.query(block, k=N_NEAREST)
                writers["nearest"].append(nearest)
                writers["sq_distance"].append(sq_distance)
                checksums.append([zarr_io.crc(nearest), zarr_io.crc(sq_distance)])
                block_cells = cell_sums(block, rows.start, nearest, sq_distance, n_centroids)
                cells = block_cells if cells is None else merge_cell_sums(cells, block_cells)
                pairs.append(count_pairs(nearest, n_centroids))
                bytes_read += block.nbytes
                bytes_written += nearest.nbytes + sq_distance.nbytes
        assert cells is not None
        path = part_path(self.folder, partition.index)
        return {
            "crc": checksums,
            "file_crc": write_sums(path, cells, merge_pair_counts(*pairs)),
            "bytes_read": bytes_read,
            "bytes_written": bytes_written + path.stat().st_size,
        }


class AssignSums(NamedTuple):
    """What the last merge of the pass over all rows makes of its sums, all but this left on disk.

    Attributes
    ----------
    is_occupied : bool array of shape (n_centroids,)
        Which centroids have a row; unless all have, nothing is left.
    staged : StagedArrays or None
        Arrays of the model: the centroids and what is known of their cells.
    pairs_crc : int
        Checksum of the file with the counts of pairs of nearest centroids.
    inertia : float
        Sum of squared distances to the nearest centroids [score squared].
    """

    is_occupied: NDArray[np.bool_]
    staged: StagedArrays | None = None
    pairs_crc: int = 0
    inertia: float = math.nan


def pairs_file(store: RunStore) -> Path:
    """Return where the counts of pairs of nearest centroids lie."""
    return store.folder(OverclusterStep.name) / PAIRS


def assign(context: Context, centroids: NDArray[np.float32], place: Path) -> tuple[AssignSums, str]:
    """Find the nearest three centroids of every row, store them, and sum what rides along.

    A centroid that turns out to have no row is dropped and the pass repeated:
    the second and third nearest of others may have been that one.

    Returns
    -------
    sums : AssignSums
        Of the last pass.
    part : str
        Name of its journal.
    """
    for attempt in range(len(centroids)):
        part = f"assign-{attempt}"
        sums = _assign_once(context, centroids, part, place)
        if sums.is_occupied.all():
            return sums, part
        centroids = centroids[sums.is_occupied]
    msg = "some centroid must have a row"
    raise AssertionError(msg)


def _assign_once(
    context: Context, centroids: NDArray[np.float32], part: str, place: Path
) -> AssignSums:
    """Do one pass over all rows."""
    store, step = context.store, OverclusterStep.name
    target, parts = layout.nearest(store.path), store.folder(step) / "parts" / part
    journal = context.rows_journal(
        step,
        target,
        {"nearest": "int32", "sq_distance": "float32"},
        dims=("sample", "rank"),
        tail_shape=(N_NEAREST,),
        part=part,
        needs=(parts,),
    )
    shared = context.executor.share({"centroids": centroids})
    task = AssignTask(stored_scores(store), shared, target, parts)
    reports = context.run_partitions(step, task, journal, name="overcluster: assign")
    sums: AssignSums = context.executor.reduce(
        partial(read_sums, parts),
        part_files(reports),
        merge_sums,
        partial(leave_sums, shared, pairs_file(store), place),
    )
    return sums


def write_sums(path: Path, cells: CellSums, pairs: PairCounts) -> int:
    """Leave the sums of a partition in a file; return its checksum."""
    arrays = prefixed("cells_", cells.to_arrays()) | prefixed("pairs_", pairs.to_arrays())
    return write_arrays(path, arrays)


def read_sums(folder: Path, part: PartFile) -> tuple[CellSums, PairCounts]:
    """Read the sums of a partition."""
    arrays = part.read(folder)
    return (
        CellSums.from_arrays(without_prefix("cells_", arrays)),
        PairCounts.from_arrays(without_prefix("pairs_", arrays)),
    )


def merge_sums(
    left: tuple[CellSums, PairCounts], right: tuple[CellSums, PairCounts]
) -> tuple[CellSums, PairCounts]:
    """Merge the sums of neighbours."""
    return merge_cell_sums(left[0], right[0]), merge_pair_counts(left[1], right[1])


def leave_sums(
    centroids: StoredArrays, pairs: Path, place: Path, sums: tuple[CellSums, PairCounts]
) -> AssignSums:
    """Leave what was merged: arrays of the model at a place, and the pairs in their file."""
    cells = sums[0]
    is_occupied = cells.population > 0
    if not is_occupied.all():
        return AssignSums(is_occupied)
    arrays = {
        **centroids.load(),
        "population": cells.population,
        "centroid_mean": cells.mean,
        "rms_radius": cells.rms_radius,
        "mean_distance": cells.distance / cells.population,
        "max_distance": cells.max_distance,
        "exemplar": cells.exemplar,
    }
    staged = stage_arrays(place, described(ARRAYS, arrays))
    return AssignSums(is_occupied, staged, write_arrays(pairs, sums[1].to_arrays()), cells.inertia)
