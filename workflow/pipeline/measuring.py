"""Short measurements of a run's inner work, on images that are made here, for a calibration."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.ingest import DemoSource
from workflow.labels import CentroidLabels, label_rows
from workflow.mapper import ArrayRows, SerialMapper, one_blas_thread
from workflow.overcluster import NearestCentroids, cell_sums
from workflow.overcluster.passes import Draw, sum_pass
from workflow.overcluster.rounds import improve
from workflow.overcluster.seeding import kmeans_plus_plus
from workflow.pca import block_moments, choose_kind, feature_shift, principal_components
from workflow.pipeline.carry import create_labels
from workflow.pipeline.freed_memory import freed_memory_kept
from workflow.pipeline.outcomes import peak_rss_bytes
from workflow.pipeline.rates import SEARCH_CENTROIDS, SEARCH_COMPONENTS, TREE_CENTROIDS, plane
from workflow.pipeline.tasks import N_NEAREST
from workflow.projection import project
from workflow.rng import generator
from workflow.runstore import zarr_io
from workflow.runstore.files import read_arrays, write_arrays
from workflow.tree import build_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

T = TypeVar("T")

#: Images that are made; of them, rows that are searched and are no centroid's reason to be where it is.
N_IMAGES, N_QUERIES = 32_768, 8_192
#: Rows of a measurement of moments, and widths it is done at; rows of one of projection.
N_ROWS, WIDTHS, PROJECTED_ROWS = 4_096, (192, 768), 16_384
#: Kinds of moments: type of the values -> what they are kept as.
MOMENT_TYPES = ("uint8", "uint16", "float32")
#: Rows and features of a measurement of low-rank moments.
LOW_RANK = (512, 1_536)
#: Bytes of a small and of a large file of arrays.
FILE_BYTES = (2**16, 2**23)
#: Redrawn copies of a measured tree.
N_RESAMPLES = 20
#: Rows and seeds of a measurement of k-means++; rows of one of the intrinsic dimension.
SEEDING, DIMENSION_ROWS = (8_192, 512), 2_048


class Timed(NamedTuple):
    """What a function returned, and the seconds of its fastest call but the first."""

    result: Any
    later: float


def timed(
    function: Callable[[], Any],
    n_later: int = 2,
    clock: Callable[[], float] = time.thread_time,
) -> Timed:
    """Call a function a few times; return its result and seconds.

    Of this thread by default: whatever else runs on the machine meanwhile does
    not count, while what our own workers take from each other does.
    """
    seconds = []
    for _ in range(1 + n_later):
        started = clock()
        result = function()
        seconds.append(clock() - started)
    # The first call also loads code.
    return Timed(result, min(seconds[1:]))


class _TimedMapper(SerialMapper):
    """Works in this thread and keeps the seconds of the last reduction."""

    seconds = 0.0

    def reduce(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        merge: Callable[[T, T], T],
        finish: Callable[[T], Any] | None = None,
    ) -> Any:
        """Return the results merged two by two and finished."""
        started = time.thread_time()
        found = super().reduce(function, items, merge, finish)
        self.seconds = time.thread_time() - started
        return found


class Made(NamedTuple):
    """Made images as rows, their scores, and the seconds of finding components."""

    rows: NDArray[np.uint8]
    scores: NDArray[np.float32]
    components: Timed


def made_scores(n_images: int) -> Made:
    """Make images and their scores."""
    rows = DemoSource(n_images).read(0, n_images).reshape(n_images, -1)
    first = rows[:N_ROWS]
    state = block_moments(first, kind="integer", shift=feature_shift(first))
    found = timed(partial(principal_components, state, max(SEARCH_COMPONENTS)), 1)
    scores = project(rows, found.result.mean, found.result.components)
    return Made(rows, scores.astype(np.float32, copy=False), found)


def made_centroids(scores: NDArray[np.float32], n_centroids: int) -> NDArray[np.float32]:
    """Return centroids as a round leaves them: means of the cells of some rows."""
    chosen = generator(0, "calibration/centroids", n_centroids).permutation(len(scores))
    centroids = scores[np.sort(chosen[:n_centroids])]
    nearest = NearestCentroids.build(centroids).query(scores, k=1)[0][:, 0]
    population = np.bincount(nearest, minlength=len(centroids))
    order = np.argsort(nearest, kind="stable")
    starts = np.concatenate([[0], np.cumsum(population)[:-1]])
    filled = population > 0
    sums = np.add.reduceat(scores[order].astype(np.float64), starts[filled], axis=0)
    centroids[filled] = sums / population[filled, None]
    return centroids


def measure_worker(folder: Path, n_images: int = N_IMAGES) -> dict[str, Any]:
    """Measure what a worker does; made to run in all workers at once.

    Parameters
    ----------
    folder : Path
        On the disk of the run; a folder of this process is made and removed there.
    n_images : int
        Images to make, more than twice `N_QUERIES`.

    Returns
    -------
    dict
        Attributes of `Rates` by name.
    """
    place = folder / str(os.getpid())
    place.mkdir(parents=True)
    base = peak_rss_bytes()
    try:
        with one_blas_thread(), freed_memory_kept():
            rows, scores, _ = made_scores(n_images)
            return {
                "worker_bytes": base,
                "moments": measure_moments(rows),
                "projection": measure_projection(rows),
                **measure_searches(scores),
                "labels": measure_labels(scores).later / N_QUERIES,
                **measure_disk(place, rows, scores),
            }
    finally:
        shutil.rmtree(place, ignore_errors=True)


def measure_moments(rows: NDArray[np.uint8]) -> dict[str, list[float]]:
    """Return the seconds of moments of each kind."""
    found = {}
    for name in MOMENT_TYPES:
        dtype, seconds, sizes = np.dtype(name), [], []
        for width in WIDTHS:
            block = np.ascontiguousarray(rows[:N_ROWS, :: rows.shape[1] // width]).astype(dtype)
            kind = choose_kind(dtype, width)
            shift = feature_shift(block) if kind == "integer" else None
            run = timed(partial(block_moments, block, kind=kind, shift=shift))
            seconds.append(run.later)
            sizes.append((float(N_ROWS * width**2), float(N_ROWS * width)))
        found[f"{kind}-{dtype.itemsize}"] = plane(tuple(sizes), (seconds[0], seconds[1]))
    n_rows, width = LOW_RANK
    block = np.tile(rows[:n_rows], (1, -(-width // rows.shape[1])))[:, :width]
    run = timed(partial(block_moments, block, kind="low_rank"), 1)
    found["low_rank"] = [0.0, run.later / block.size]
    return found


def measure_projection(rows: NDArray[np.uint8]) -> list[float]:
    """Return the seconds of a projection per row, feature and component, and per row and feature."""
    # More than a processor's cache holds, as in a run.
    block, n_features = rows[:PROJECTED_ROWS], rows.shape[1]
    components = generator(0, "calibration/components").normal(size=(50, n_features))
    seconds, sizes = [], []
    for d in SEARCH_COMPONENTS:
        run = timed(partial(project, block, np.zeros(n_features), components[:d]))
        seconds.append(run.later)
        sizes.append((float(block.size * d), float(block.size)))
    return plane(tuple(sizes), (seconds[0], seconds[1]))


def measure_searches(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return the seconds of searches and their preparation."""
    table: dict[str, list[list[float]]] = {"round": [], "assign": [], "build": []}
    for n_wanted in SEARCH_CENTROIDS:
        line: dict[str, list[float]] = {name: [] for name in table}
        for d in SEARCH_COMPONENTS:
            narrow = np.ascontiguousarray(scores[:, :d])
            queries, rest = narrow[:N_QUERIES], narrow[N_QUERIES:]
            centroids = made_centroids(rest, min(n_wanted, len(rest)))
            build = timed(partial(NearestCentroids.build, centroids), 1)
            line["build"].append(build.later)
            line["round"].append(min(_one_round(queries, centroids) for _ in range(3)) / N_QUERIES)
            assigned = timed(partial(_assigned, build.result, queries))
            line["assign"].append(assigned.later / N_QUERIES)
        for name, values in line.items():
            table[name].append(values)
    build_table = table.pop("build")
    return {"search": table, "build": build_table}


def _one_round(queries: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """Return the seconds of a round of k-means over some rows, its preparation apart."""
    mapper = _TimedMapper()
    draw = Draw(seed=0, n_passes=0, cap=float("inf"))
    finish = partial(improve, may_swap=True)
    sum_pass(ArrayRows(queries), len(queries), centroids, draw, mapper, finish)
    return mapper.seconds


def _assigned(search: NearestCentroids, queries: NDArray[np.float32]) -> Any:
    """Do what the last pass does with a block."""
    nearest, sq_distance = search.query(queries, k=N_NEAREST)
    cell_sums(queries, 0, nearest, sq_distance, search.n_centroids)
    return count_pairs(nearest, search.n_centroids)


def measure_labels(scores: NDArray[np.float32]) -> Timed:
    """Return the seconds to label some rows."""
    rng = generator(0, "calibration/labels")
    n_centroids = SEARCH_CENTROIDS[0]
    label = rng.integers(-1, 30, n_centroids).astype(np.int32)
    radius_sq = np.full(n_centroids, float(np.square(scores).sum(axis=1).mean()), np.float32)
    labels = CentroidLabels(
        label, np.maximum(label, 0), radius_sq / radius_sq, radius_sq, 0 * radius_sq
    )
    nearest = rng.integers(0, n_centroids, (N_QUERIES, N_NEAREST)).astype(np.int32)
    sq_distance = np.sort(rng.random((N_QUERIES, N_NEAREST)).astype(np.float32) * radius_sq[0])
    return timed(partial(label_rows, nearest, sq_distance, labels))


def measure_disk(
    folder: Path, rows: NDArray[np.uint8], scores: NDArray[np.float32]
) -> dict[str, float]:
    """Return the seconds of bytes read and written in a folder."""
    block = rows[: len(rows) // 2].reshape(-1, 16, 16, 3)
    zarr_io.create_rows_array(
        folder / "a",
        "a",
        n_rows=len(block),
        tail_shape=block.shape[1:],
        dtype=block.dtype,
        shard_rows=len(block),
        dims=("sample", "y", "x", "channel"),
        compressor=None,
    )
    wall = time.perf_counter
    write = partial(zarr_io.write_rows, folder / "a", "a", 0, block)
    written = timed(write, clock=wall)
    synced = timed(partial(write, sync=True), 1, wall)
    read = timed(
        lambda: zarr_io.crc(zarr_io.read_rows(folder / "a", "a", 0, len(block))), clock=wall
    )
    narrow = np.ascontiguousarray(scores[: len(block), 0])
    create_labels(folder / "labels", len(block), len(block), None)
    pack = timed(partial(zarr_io.write_rows, folder / "labels", "distance", 0, narrow), clock=wall)
    unpack = timed(
        lambda: zarr_io.read_rows(folder / "labels", "distance", 0, len(block)), clock=wall
    )
    files = []
    for n_bytes in FILE_BYTES:
        content = {"a": np.zeros(n_bytes, np.uint8)}
        place = folder / f"{n_bytes}.npz"
        files.append(timed(partial(write_arrays, place, content), clock=wall).later)
    again = timed(partial(read_arrays, folder / f"{FILE_BYTES[1]}.npz"), clock=wall)
    per_byte, each = plane(((FILE_BYTES[0], 1.0), (FILE_BYTES[1], 1.0)), (files[0], files[1]))
    return {
        "write_byte": written.later / block.nbytes,
        "sync_byte": synced.later / block.nbytes,
        "read_byte": read.later / block.nbytes,
        "pack_byte": pack.later / (4 * len(block)),
        "unpack_byte": unpack.later / (4 * len(block)),
        "file": each,
        "file_byte": per_byte,
        "file_read_byte": again.later / FILE_BYTES[1],
    }


def measure_leader(n_images: int = N_IMAGES) -> dict[str, Any]:
    """Measure what the leading process does alone.

    Parameters
    ----------
    n_images : int
        Images to make, more than twice `N_QUERIES`.

    Returns
    -------
    dict
        Attributes of `Rates` by name.
    """
    base = peak_rss_bytes()
    with one_blas_thread():
        rows, scores, found = made_scores(n_images)
        n_rows, n_seeds = SEEDING
        seconds, sizes = [], []
        for d in SEARCH_COMPONENTS:
            part = np.ascontiguousarray(scores[:n_rows, :d])
            rng = generator(0, "calibration/seed")
            weights = np.ones(n_rows)
            seeding = partial(kmeans_plus_plus, part, weights, n_seeds, float("inf"), rng)
            seconds.append(timed(seeding, 1).later)
            sizes.append((float(n_rows * n_seeds * d), float(n_rows * n_seeds)))
        measure = partial(intrinsic_dimension, scores, max_queries=DIMENSION_ROWS)
        n_pairs = DIMENSION_ROWS * min(20_000, n_images)
        return {
            "leader_bytes": base,
            "eigen": found.later / rows.shape[1] ** 3,
            "seed": plane(tuple(sizes), (seconds[0], seconds[1])),
            "dimension": timed(measure, 1).later / (n_pairs * scores.shape[1]),
            **measure_trees(scores),
        }


def measure_trees(scores: NDArray[np.float32]) -> dict[str, Any]:
    """Return the seconds of a graph, of its tree, and of one of its redrawn copies."""
    # Loads the code.
    _graph_and_tree(scores, made_centroids(scores, 64), n_resamples=2)
    centroids = made_centroids(scores, TREE_CENTROIDS)
    graph, alone = _graph_and_tree(scores, centroids, n_resamples=0)
    _, redrawn = _graph_and_tree(scores, centroids, n_resamples=N_RESAMPLES)
    each = max(0.0, redrawn - alone) / N_RESAMPLES
    return {"graph": graph, "tree": [alone, each]}


def _graph_and_tree(
    scores: NDArray[np.float32], centroids: NDArray[np.float32], n_resamples: int
) -> tuple[float, float]:
    """Return the seconds of a graph of centroids and of its tree."""
    nearest, sq_distance = NearestCentroids.build(centroids).query(scores, k=N_NEAREST)
    cells = cell_sums(scores, 0, nearest, sq_distance, len(centroids))
    population = np.maximum(cells.population, 1)
    # By the clock: a tree is made by several threads.
    started = time.perf_counter()
    graph = centroid_graph(count_pairs(nearest, len(centroids)), len(centroids))
    made = time.perf_counter()
    build_tree(
        centroids,
        population,
        (graph.indptr, graph.indices, graph.weights_two, graph.weights_three),
        dimension=10.0,
        mean_distance=cells.distance / population,
        n_resamples=n_resamples,
    )
    return made - started, time.perf_counter() - made


def merge_workers(found: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of what workers measured, number by number; of memory, the most."""
    first = found[0]
    merged: dict[str, Any] = {}
    for name in first:
        values = [one[name] for one in found]
        merged[name] = max(values) if name == "worker_bytes" else _mean(values)
    return merged


def _mean(values: list[Any]) -> Any:
    """Return the mean of numbers, or of lists and dicts of them."""
    if isinstance(values[0], dict):
        return {name: _mean([value[name] for value in values]) for name in values[0]}
    if isinstance(values[0], list):
        return [_mean(list(inner)) for inner in zip(*values, strict=True)]
    return float(np.mean(values))
