"""Sizes of what is sent: of tasks, of their results, and of what the client holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from distributed.protocol import pickle
from numpy.typing import NDArray

from benchmarks import internals
from benchmarks.scaling.scheduler import BLOCK_ROWS
from workflow.mapper import InMemory, InMemoryStorage, SerialMapper, TaskStorage
from workflow.overcluster import sample_counts, sample_size
from workflow.overcluster.fitting import MAX_IN_MEMORY_PAIRS, first_batch_rows
from workflow.overcluster.passes import Draw, sum_pass
from workflow.overcluster.rounds import improve
from workflow.overcluster.seeding import CANDIDATE_ROUNDS, seed_by_batch, seed_by_candidates
from workflow.pca import DEFAULT_RANK
from workflow.rng import generator
from workflow.runstore import layout
from workflow.runstore.zarr_io import ImageStore, StoredRows

#: Maximum size of one object of a task graph [bytes].
LIMIT_BYTES = 2**20
#: The images that a size is worked out for, their components, and the previews of a run.
IMAGE_SHAPE, N_COMPONENTS, N_PREVIEWS = (16, 16, 3), 50, 65_536
#: Clusters that are found; more rows than any sample has.
N_CLUSTERS, MANY_ROWS = 1_000, 10**12
#: A run folder as deep as they come, and a checksum as wide.
RUN = Path("/gpfs/projects/a-department/a-group/a-person/an-experiment/a-run")
CRC = 2**32 - 1
STORED = internals.StoredArrays(RUN / "wip" / "shared" / f"{'0' * 32}.npz", CRC)


@dataclass(frozen=True, slots=True)
class TaskSize:
    """Pickled bytes of the tasks of one pass: the function, the largest item, and all as one graph."""

    name: str
    n_tasks: int
    function_bytes: int
    item_bytes: int
    all_bytes: int

    @property
    def largest(self) -> int:
        """Bytes of the largest object."""
        return max(self.function_bytes, self.item_bytes)

    @classmethod
    def of(cls, name: str, function: Callable[[Any], Any], items: Sequence[Any]) -> TaskSize:
        """Pickle a function and what it is mapped over."""
        largest = max(map(_bytes, items))
        return cls(name, len(items), _bytes(function), largest, _bytes((function, list(items))))


def _bytes(content: Any) -> int:
    """Return the bytes of something as it is sent."""
    return len(pickle.dumps(content))


def step_sizes(n_blocks: int, n_centroids: int) -> list[TaskSize]:
    """Return the sizes of the tasks of all passes over the images, as the steps make them."""
    n_images = n_blocks * BLOCK_ROWS
    parts = internals.partitions(n_images, BLOCK_ROWS)
    images = ImageStore(
        "zarr", RUN / layout.IMAGES, "images", (n_images, *IMAGE_SHAPE), np.dtype("u1"), BLOCK_ROWS
    )
    scores = StoredRows(
        layout.scores(RUN), "scores", (n_images, N_COMPONENTS), np.dtype(np.float32)
    )
    basis = internals.Basis(
        STORED, whiten=False, image_shape=IMAGE_SHAPE, features=internals.Features()
    )
    how = internals.Labeller(
        STORED, STORED, internals.LabelsSettings().rule, RUN / layout.LABELS, RUN
    )
    folder, nearest = RUN / "overcluster" / "parts" / "assign-0", layout.nearest(RUN)
    n_sample = sample_size(n_images, n_centroids)
    sample = StoredRows(layout.sample(RUN), "sample", (n_sample, N_COMPONENTS), scores.dtype)
    sizes = [BLOCK_ROWS] * n_blocks
    drawing = internals.Drawing(n_images, BLOCK_ROWS, n_sample, 0, folder)
    previews = sample_counts(sizes, min(n_images, N_PREVIEWS))

    def per_part(values: NDArray[np.int64]) -> list[list[int]]:
        return [values[p.index * len(parts[0].blocks) :][: len(p.blocks)].tolist() for p in parts]

    projected = [internals.ProjectionItem(p, [CRC] * len(p.blocks), n) for p, n in zip(parts, per_part(previews), strict=True)]  # fmt: skip
    passes: Mapping[str, tuple[Any, Sequence[Any]]] = {
        "pca": (
            internals.MomentsTask(images, "integer", DEFAULT_RANK, folder, internals.Features()),
            parts,
        ),
        "pca, largest": (internals.LargestTask(images, from_first=False), parts),
        "projection": (
            internals.ProjectionTask(images, basis, "float32", folder, folder, (drawing,)),
            projected,
        ),
        "overcluster, sample": (internals.DrawTask(scores, drawing), parts),
        "overcluster, shuffle": (internals.ShuffleTask(drawing, scores, folder), drawing.shards),
        "overcluster, assign": (internals.AssignTask(scores, STORED, nearest, folder), parts),
        "centroid_graph, graph": (
            internals.call,
            [
                internals.GraphTask(
                    RUN / "overcluster" / internals.PAIRS,
                    CRC,
                    n_centroids,
                    RUN / layout.WIP / "model",
                )
            ],
        ),
        "centroid_graph, dimension": (internals.call, [internals.DimensionTask(sample, 4_096)]),
        "labels": (internals.LabelsTask(nearest, how), parts),
        "predict": (internals.PredictTask(images, basis, "float32", STORED, how), parts),
    }
    return [
        TaskSize.of(
            f"{name}: {type(items[0] if task is internals.call else task).__name__}", task, items
        )
        for name, (task, items) in passes.items()
    ]


@dataclass(frozen=True, slots=True)
class Returned:
    """What the tasks of one pass of the fit send back, which the client holds at once."""

    size: TaskSize
    n_bytes: int
    n_numbers: int


class FirstOnly:
    """A mapper that pickles what is sent, there and back, and takes the result of the first item for all.

    With `whole`, all items of a reduction are done: they are cheap, and their result is needed.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        #: By the name of the task, the most that came back at once.
        self.returned: dict[str, Returned] = {}

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        """Run the first item; every other one would give as much."""
        results = [function(items[0])] * len(items)
        self._note(function, items, results)
        return results

    def reduce(self, function: Any, items: Sequence[Any], merge: Any, finish: Any = None) -> Any:
        """Results are merged and finished where they are, and one comes back."""
        done = items if self.whole else items[:1]
        result = SerialMapper().reduce(function, done, merge, finish)
        self._note(function, items, [result])
        return result

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> InMemory:
        """Keep arrays in memory; a task would get the name of a file."""
        return InMemory(dict(arrays))

    def task_storage(self) -> AbstractContextManager[TaskStorage]:
        """Keep arrays in memory; tasks would leave them in files."""
        return nullcontext(InMemoryStorage())

    def _note(self, function: Any, items: Sequence[Any], results: list[Any]) -> None:
        """Note the sizes of the function, the items, and what comes back."""
        name = function.func.__name__.strip("_")
        pickled = type(function)(function.func, *map(_as_sent, function.args))
        size = TaskSize.of(name, pickled, [_as_sent(item) for item in items])
        sent = _as_sent(results)
        found = Returned(size, sum(map(_bytes, sent)), sum(map(count_numbers, sent)))
        known = self.returned.get(name, found)
        self.returned[name] = max(known, found, key=lambda returned: returned.n_bytes)


def _as_sent(content: Any) -> Any:
    """Return something as it is sent: places instead of rows and arrays."""
    if isinstance(content, InMemory):
        return STORED
    if isinstance(content, InMemoryStorage):
        return internals.FolderStorage(STORED.path.with_suffix(""))
    if isinstance(content, _Uniform):
        shape = content.n_samples, content.n_features
        return StoredRows(layout.sample(RUN), "sample", shape, content.dtype)
    if type(content) in (list, tuple):
        return type(content)(map(_as_sent, content))
    return content


def count_numbers(result: Any) -> int:
    """Return how many numbers are in a result."""
    if isinstance(result, np.ndarray):
        return result.size
    if isinstance(result, dict):
        return sum(map(count_numbers, result.values()))
    if isinstance(result, (tuple, list)):
        return sum(map(count_numbers, result))
    values = [getattr(result, name) for name in getattr(type(result), "__slots__", ())]
    return sum(map(count_numbers, values)) if values else 1


@dataclass(frozen=True, slots=True)
class _Uniform:
    """Rows that are made when they are read, so that a sample of any length costs nothing."""

    n_samples: int
    n_features: int
    dtype: np.dtype[Any]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows, the same for the same range."""
        rng = generator(0, "benchmark", start)
        return rng.random((stop - start, self.n_features), self.dtype.type)


def fit_returns(n_centroids: int) -> list[Returned]:
    """Return what comes back of the fit: of an iteration on the whole sample, then of each task of the seeding."""
    n_rows = sample_size(MANY_ROWS, n_centroids)
    rows = _Uniform(n_rows, N_COMPONENTS, np.dtype(np.float32))
    centroids = rows.read(n_rows, n_rows + n_centroids)
    iteration, seeding = FirstOnly(), FirstOnly(whole=True)
    finish = partial(improve, may_swap=True)
    sum_pass(rows, n_rows, centroids, Draw(0, 1, 1.0), iteration, finish)
    choose = seed_by_batch if _seeds_in_one_task(n_rows, n_centroids) else seed_by_candidates
    choose(rows, first_batch_rows(n_rows, n_centroids), n_centroids, 0, seeding)
    return [*iteration.returned.values(), *seeding.returned.values()]


def _seeds_in_one_task(n_sample: int, n_centroids: int) -> bool:
    """Return whether the first centroids are chosen without candidates."""
    return first_batch_rows(n_sample, n_centroids) * n_centroids <= MAX_IN_MEMORY_PAIRS


@dataclass(frozen=True, slots=True)
class Held:
    """What the client holds in one step."""

    step: str
    what: str
    #: "results" of tasks, over the network; "files" that tasks left; "rows" of the run.
    way: str
    #: Numbers held at the same time; numbers that pass through, one after the other; bytes of a number.
    at_once: int
    in_all: int
    itemsize: int


def held_by_client(n_blocks: int, n_centroids: int) -> list[Held]:
    """List what each step brings to the client, in the order of the steps."""
    n, d, wide, k = n_blocks * BLOCK_ROWS, N_COMPONENTS, int(np.prod(IMAGE_SHAPE)), n_centroids
    parts = internals.partitions(n, BLOCK_ROWS)
    n_parts, n_together = len(parts), min(len(parts), internals.MAX_TOGETHER)
    moments, previews, shown = wide * (wide + 2), min(n, N_PREVIEWS), internals.ReportSettings()
    drawn = CANDIDATE_ROUNDS * k + k // 2
    from_all = _seeds_in_one_task(sample_size(n, k), k)
    chosen_of = "a batch of rows" if from_all else "the candidates"
    candidates = Held(
        "overcluster, seeding", "which rows are candidates, draw by draw", "results", k, drawn, 8
    )
    report = N_CLUSTERS + len(internals.LABELS) * len(parts[0].blocks)
    pictures = shown.n_clusters_shown * shown.images_per_cluster + 2 * internals.N_ODD
    largest_sheet = max(shown.images_per_cluster, internals.N_ODD)
    return [
        Held("each pass", "the rows of each block, and the line of each task in the journal", "files", 2 * (n_blocks + n_parts), 2 * (n_blocks + n_parts), 8),
        Held("pca", "moments, merged by the workers", "results", moments, moments, 8),
        Held("projection", "of each block, a checksum and the number of its previews", "files", 2 * n_blocks, 2 * n_blocks, 8),
        *([] if from_all else [candidates]),
        Held("overcluster, seeding", f"the first centroids, chosen by a worker of {chosen_of}", "results", k * d, k * d, 4),
        Held("overcluster, each iteration", "the centroids, moved by the workers", "results", k * d, k * d, 4),
        Held("overcluster, assign", "which centroids have images; sums and pairs are left on disk", "results", k, k, 1),
        Held("centroid_graph", "dimension and edges, in number; the graph is left on disk", "results", 2, 2, 8),
        Held("tree", f"centroids, and a graph with {internals.EDGES} ends at each", "rows", k * (d + 2 + 3 * internals.EDGES), k * (d + 2 + 3 * internals.EDGES), 8),
        Held("labels", f"reports of {n_together} tasks: images of each of {N_CLUSTERS:,} clusters, checksums", "results", n_together * report, n_parts * report, 8),
        Held("labels", "images of each cluster, added up report by report", "files", 2 * report, n_parts * report, 8),
        Held("report", "row, label, distance and outlier score of the previews", "rows", 4 * previews, 4 * previews, 4),
        Held("report", "previews, those of one contact sheet at a time", "files", largest_sheet * wide, pictures * wide, 1),
        Held("report", "label, distance and outlier score of all images, a block at a time", "rows", 3 * 65_536, 3 * n, 4),
        Held("`duplicates` (a command)", "hashes of all images, 262,144 at a time", "rows", 2 * 262_144, 2 * n, 8),
        Held("`status --verify` (a command)", "all images, a block at a time; then all that was stored", "rows", BLOCK_ROWS * wide, n * wide, 1),
    ]  # fmt: skip
