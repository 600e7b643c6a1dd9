"""What a block of each pass takes on one core: the real tasks, on demo images, on this machine's disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import internals
from benchmarks.scaling.messages import N_COMPONENTS
from workflow.centroid_graph import (
    PairCounts,
    centroid_graph,
    intrinsic_dimension,
    merge_pair_counts,
)
from workflow.chunks import row_ranges
from workflow.ingest import DemoSource, ingest
from workflow.labels import centroid_labels
from workflow.mapper import SerialMapper
from workflow.overcluster import CellSums, NearestCentroids, merge_cell_sums
from workflow.overcluster.passes import Draw, sum_pass
from workflow.overcluster.rounds import improve
from workflow.overcluster.sampling import MAX_BLOCK_ROWS
from workflow.pca import DEFAULT_RANK, principal_components
from workflow.rng import generator
from workflow.runstore import zarr_io
from workflow.runstore.files import read_arrays
from workflow.threads import one_blas_thread
from workflow.tree import build_tree

#: Clusters that the centroids are dealt out to, for the labels.
N_CLUSTERS = 50
#: Previews and sample rows of a block, where there are some 20,000 blocks.
N_PREVIEWS, N_DRAWN = 3, 52


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds on one core, with `rows` images a block."""

    rows: int
    n_centroids: int
    #: Pass -> seconds a block, with reading, writing and checksums; seconds to read and merge what a task left.
    block_s: dict[str, float]
    merge_s: dict[str, float]
    #: The tree, which the client builds alone; one task of an iteration of the fit.
    tree_s: float
    fit_task_s: float


def rates(n_rows: int, n_blocks: int, n_centroids: int) -> Rates:
    """Measure all passes on two tasks of `n_blocks` blocks of `n_rows` demo images each."""
    with tempfile.TemporaryDirectory() as folder, one_blas_thread():
        bench = _Bench(Path(folder), n_rows, n_blocks, n_centroids)
        # Each needs what those before it have left.
        block_s = {
            "pca": bench.moments(),
            "projection": bench.projection(),
            "overcluster: assign": bench.assignment(),
            "labels": bench.labels(),
        }
        merge_s = {"pca": bench.merging_moments(), "overcluster: assign": bench.merging_cells()}
        tree_s, fit_task_s = bench.tree(), bench.fit_task()
        return Rates(n_rows, n_centroids, block_s, merge_s, tree_s, fit_task_s)


class _Bench:
    """A folder with demo images and the results of the passes so far."""

    def __init__(self, folder: Path, n_rows: int, n_blocks: int, n_centroids: int) -> None:
        self.folder, self.n_rows, self.n_centroids = folder, n_rows, n_centroids
        n_images = 2 * n_blocks * n_rows
        ingest(DemoSource(n_images, seed=0), folder / "images.zarr", block_rows=n_rows)
        self.images = zarr_io.open_images(folder / "images.zarr")
        blocks = row_ranges(n_images, n_rows)
        self.parts = [
            internals.Partition(i, tuple(blocks[i * n_blocks : (i + 1) * n_blocks])) for i in (0, 1)
        ]
        self.executor = internals.Executor(
            None, internals.Progress(enabled=False), folder / "shared"
        )

    def timed(self, task: Callable[[Any], Mapping[str, Any]], items: Sequence[Any]) -> float:
        """Run a task on both partitions; the second finds everything compiled and loaded."""
        self.reports = {}
        for part, item in zip(self.parts, items, strict=True):
            started = time.perf_counter()
            report = task(item)
            seconds = time.perf_counter() - started
            self.reports[part.index] = {"index": part.index, **report}
        return seconds / len(self.parts[1].blocks)

    def array(self, group: str, name: str, width: int, dtype: str) -> Path:
        """Make an array as the steps do, and return its group."""
        zarr_io.create_rows_array(
            self.folder / group,
            name,
            n_rows=self.images.n_samples,
            tail_shape=(width,),
            dtype=dtype,
            shard_rows=self.n_rows,
            dims=("sample", "column"),
            compressor=None,
        )
        return self.folder / group

    def parts_of(self, name: str) -> Path:
        """Make a folder in which tasks leave what they found."""
        place = self.folder / f"parts-{name}"
        place.mkdir()
        return place

    def moments(self) -> float:
        """Time the pca pass."""
        self.moments_folder = self.parts_of("moments")
        task = internals.MomentsTask(
            self.images, "integer", DEFAULT_RANK, self.moments_folder, internals.Features()
        )
        seconds = self.timed(task, self.parts)
        self.moment_reports = self.reports
        return seconds

    def merging_moments(self) -> float:
        """Time how a worker reads and merges the moments of a task."""
        started = time.perf_counter()
        internals.merge_part_files(SerialMapper(), self.moments_folder, self.moment_reports)
        return (time.perf_counter() - started) / len(self.parts)

    def projection(self) -> float:
        """Time the projection."""
        found = principal_components(
            internals.merge_part_files(SerialMapper(), self.moments_folder, self.moment_reports),
            N_COMPONENTS,
        )
        basis = {
            "mean": found.mean,
            "components": found.components,
            "variance": found.explained_variance,
        }
        target = self.array("scores.zarr", "scores", len(found.components), "float32")
        items = [
            internals.ProjectionItem(
                p, self.moment_reports[p.index]["crc"], [N_PREVIEWS] * len(p.blocks)
            )
            for p in self.parts
        ]
        shape = self.images.image_shape
        shared = internals.Basis(
            self.executor.share(basis),
            whiten=False,
            image_shape=shape,
            features=internals.Features(),
        )
        n_images, n_drawn = self.images.n_samples, N_DRAWN * sum(len(p.blocks) for p in self.parts)
        drawing = internals.Drawing(n_images, self.n_rows, n_drawn, 0, self.parts_of("drawn"))
        task = internals.ProjectionTask(
            self.images, shared, "float32", target, self.parts_of("previews"), (drawing,)
        )
        return self.timed(task, items)

    @cached_property
    def scores(self) -> zarr_io.StoredRows:
        """The scores."""
        return zarr_io.StoredRows.open(self.folder / "scores.zarr", "scores")

    @cached_property
    def centroids(self) -> NDArray[np.float32]:
        """Scores drawn at random, in place of fitted centroids."""
        rows = self.scores.read(0, self.scores.n_samples)
        chosen = generator(0, "benchmark").choice(len(rows), self.n_centroids, replace=False)
        return rows[np.sort(chosen)]

    def assignment(self) -> float:
        """Time the search of the nearest three, and the sums that the same task makes."""
        target = self.array("nearest.zarr", "nearest", internals.N_NEAREST, "int32")
        self.array("nearest.zarr", "sq_distance", internals.N_NEAREST, "float32")
        self.cells_folder = self.parts_of("assign")
        shared = self.executor.share({"centroids": self.centroids})
        seconds = self.timed(
            internals.AssignTask(self.scores, shared, target, self.cells_folder), self.parts
        )
        self.cell_reports = self.reports
        return seconds

    def merging_cells(self) -> float:
        """Time how a worker reads and merges the sums of a task."""
        started = time.perf_counter()
        self._merged()
        return (time.perf_counter() - started) / len(self.parts)

    def _merged(self) -> tuple[CellSums, PairCounts]:
        """Merge what both tasks left, as the step does."""
        found = []
        for index, report in self.cell_reports.items():
            arrays = read_arrays(internals.part_path(self.cells_folder, index), report["file_crc"])
            cells = {n.removeprefix("cells_"): a for n, a in arrays.items() if n[:6] == "cells_"}
            pairs = {n.removeprefix("pairs_"): a for n, a in arrays.items() if n[:6] == "pairs_"}
            found.append((CellSums.from_arrays(cells), PairCounts.from_arrays(pairs)))
        (left, left_pairs), (right, right_pairs) = found
        return merge_cell_sums(left, right), merge_pair_counts(left_pairs, right_pairs)

    def labels(self) -> float:
        """Time the labels, of clusters that are made of the centroids nearest to a few of them."""
        cells, pairs = self._merged()
        graph = centroid_graph(pairs, self.n_centroids)
        coarse = NearestCentroids.build(self.centroids[:: -(-self.n_centroids // N_CLUSTERS)])
        found = centroid_labels(
            coarse.query(self.centroids, k=1)[0][:, 0],
            np.ones(self.n_centroids),
            graph,
            centroids=self.centroids,
            rms_radius=cells.rms_radius,
            population=cells.population,
        )
        target = self.folder / "labels.zarr"
        internals.create_labels(target, self.images.n_samples, self.n_rows, None)
        rule = internals.LabelsSettings().rule
        chosen = internals.Chosen(found)
        how = internals.Labeller.of(self.executor, chosen, rule, target, None)
        return self.timed(internals.LabelsTask(self.folder / "nearest.zarr", how), self.parts)

    def tree(self) -> float:
        """Time the tree of the centroids, with the default settings."""
        cells, pairs = self._merged()
        graph = centroid_graph(pairs, self.n_centroids)
        rows = self.scores.read(0, min(self.scores.n_samples, 20_000))
        dimension = intrinsic_dimension(rows, max_queries=len(rows) // 10)
        # What the search leaves without a row, the step would drop.
        population = np.maximum(cells.population, 1)
        names = (
            "method",
            "min_cluster_size",
            "min_samples",
            "cluster_selection_method",
            "n_resamples",
        )
        settings = {name: getattr(internals.TreeSettings(), name) for name in names}
        started = time.perf_counter()
        build_tree(
            self.centroids,
            population,
            graph,
            dimension=dimension,
            mean_distance=cells.distance / population,
            **settings,
        )
        return time.perf_counter() - started

    def fit_task(self) -> float:
        """Time one task of an iteration of the fit, from the scores."""
        n_rows = min(MAX_BLOCK_ROWS, self.scores.n_samples)
        started = time.perf_counter()
        finish = partial(improve, may_swap=True)
        sum_pass(self.scores, n_rows, self.centroids, Draw(0, 1, np.inf), self.executor, finish)
        return time.perf_counter() - started
