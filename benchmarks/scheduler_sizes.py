"""How large the things are that travel: what tasks are made of, and what the caller's process holds."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed.protocol import pickle

from benchmarks.scheduler_run import BLOCK_ROWS
from workflow import schema
from workflow.config.models import ReportSettings
from workflow.mapper import InMemory, InMemoryStorage, SerialMapper
from workflow.overcluster import sample_counts, sample_size
from workflow.overcluster.fitting import MAX_IN_MEMORY_PAIRS, first_batch_rows
from workflow.overcluster.passes import Draw, sum_pass
from workflow.overcluster.rounds import improve
from workflow.overcluster.seeding import CANDIDATE_ROUNDS, seed_by_batch, seed_by_candidates
from workflow.pca import DEFAULT_RANK
from workflow.pipeline.durations import EDGES
from workflow.pipeline.executor import MAX_TOGETHER, LeftArrays, StoredArrays
from workflow.pipeline.graph import DimensionTask, GraphTask, do
from workflow.pipeline.overclustering import PAIRS, SAMPLE_PIECE_ROWS
from workflow.pipeline.partitions import partitions
from workflow.pipeline.sheets import N_ODD
from workflow.pipeline.tasks import (
    AssignTask,
    Basis,
    DrawTask,
    Labelling,
    LabelsTask,
    MomentsTask,
    PredictTask,
    ProjectionItem,
    ProjectionTask,
    SampleItem,
    ShuffleItem,
    ShuffleTask,
)
from workflow.rng import generator
from workflow.runstore import layout
from workflow.runstore.zarr_io import ImageStore, StoredRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from workflow.mapper import TaskStorage

#: Most that one object of a task graph may weigh [bytes].
LIMIT_BYTES = 2**20
#: The images that a size is worked out for, their components, and pictures kept for the report.
IMAGE_SHAPE, N_COMPONENTS, N_KEPT = (16, 16, 3), 50, 65_536
#: Clusters that are found.
N_CLUSTERS = 1_000
#: More rows than any sample has.
MANY_ROWS = 10**12
#: A run folder as deep as they come, and a checksum as wide.
RUN = Path("/gpfs/projects/a-department/a-group/a-person/an-experiment/a-run")
CRC = 2**32 - 1
STORED = StoredArrays(RUN / "wip" / "shared" / f"{'0' * 32}.npz", CRC)


@dataclass(frozen=True, slots=True)
class Weight:
    """What the tasks of one pass weigh.

    Attributes
    ----------
    name : str
        The pass and its task.
    n_tasks : int
        Tasks.
    function_bytes, item_bytes : int
        Bytes of the pickled function, and of the largest item.
    all_bytes : int
        Bytes of the function and all items, pickled together as one graph.
    """

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
    def of(cls, name: str, function: Callable[[Any], Any], items: Sequence[Any]) -> Weight:
        """Weigh a function and what it is mapped over."""
        return cls(
            name,
            len(items),
            _bytes(function),
            max(map(_bytes, items)),
            _bytes((function, list(items))),
        )


def _bytes(content: Any) -> int:
    """Return the bytes of something as it is sent."""
    return len(pickle.dumps(content))


def step_weights(n_blocks: int, n_centroids: int) -> list[Weight]:
    """Weigh the tasks of all passes over the images, as the steps make them."""
    n_images = n_blocks * BLOCK_ROWS
    parts = partitions(n_images, BLOCK_ROWS)
    images = ImageStore(
        "zarr", RUN / layout.IMAGES, "images", (n_images, *IMAGE_SHAPE), np.dtype("u1"), BLOCK_ROWS
    )
    scores = StoredRows(
        layout.scores(RUN), "scores", (n_images, N_COMPONENTS), np.dtype(np.float32)
    )
    basis = Basis(STORED, whiten=False)
    how = Labelling(STORED, "keep", 0.8, RUN / layout.LABELS, RUN)
    folder, nearest = RUN / "overcluster" / "parts" / "assign-0", layout.nearest(RUN)
    n_sample = sample_size(n_images, n_centroids)
    sample = StoredRows(layout.sample(RUN), "sample", (n_sample, N_COMPONENTS), scores.dtype)
    sizes = [BLOCK_ROWS] * n_blocks
    drawn = sample_counts(sizes, n_sample)
    kept = sample_counts(sizes, min(n_images, N_KEPT))

    def per_part(values: NDArray[np.int64]) -> list[list[int]]:
        return [values[p.index * len(parts[0].blocks) :][: len(p.blocks)].tolist() for p in parts]

    n_of = per_part(drawn)
    offsets = tuple(np.cumsum([0] + [sum(n) for n in n_of]).tolist())
    last = offsets[-1]
    shuffled = [ShuffleItem(i, min(i + SAMPLE_PIECE_ROWS, last)) for i in range(0, last, SAMPLE_PIECE_ROWS)]  # fmt: skip
    projected = [ProjectionItem(p, [CRC] * len(p.blocks), n) for p, n in zip(parts, per_part(kept), strict=True)]  # fmt: skip
    samples = [SampleItem(p, n) for p, n in zip(parts, n_of, strict=True)]
    passes: Mapping[str, tuple[Any, Sequence[Any]]] = {
        "pca": (MomentsTask(images, "integer", DEFAULT_RANK, folder), parts),
        "projection": (ProjectionTask(images, basis, "float32", folder, folder), projected),
        "overcluster, sample": (DrawTask(scores, 0, folder), samples),
        "overcluster, shuffle": (ShuffleTask(folder, offsets, 0, folder), shuffled),
        "overcluster, assign": (AssignTask(scores, STORED, nearest, folder), parts),
        "centroid_graph, graph": (
            do,
            [GraphTask(RUN / "overcluster" / PAIRS, CRC, n_centroids, RUN / layout.WIP / "model")],
        ),
        "centroid_graph, dimension": (do, [DimensionTask(sample, 4_096)]),
        "labels": (LabelsTask(nearest, how), parts),
        "predict": (PredictTask(images, basis, "float32", STORED, how), parts),
    }
    return [
        Weight.of(f"{name}: {type(items[0] if task is do else task).__name__}", task, items)
        for name, (task, items) in passes.items()
    ]


@dataclass(frozen=True, slots=True)
class Returned:
    """What the tasks of one pass of the fit send back to the caller.

    Attributes
    ----------
    weight : Weight
        The tasks.
    n_bytes, n_numbers : int
        Of all results together, which the caller holds at once.
    """

    weight: Weight
    n_bytes: int
    n_numbers: int


class FirstOnly:
    """A mapper that weighs what travels, there and back, and takes the result of the first item for all.

    Parameters
    ----------
    whole : bool
        Whether all items of a reduction are done: they are cheap, and what
        comes of them is needed.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self.whole = whole
        #: By the name of the task, what came back at once, at most.
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
        """Keep arrays in memory; they would travel as the name of a file."""
        return InMemory(dict(arrays))

    def task_storage(self) -> AbstractContextManager[TaskStorage]:
        """Save arrays in memory; tasks would save them in files."""
        return nullcontext(InMemoryStorage())

    def _note(self, function: Any, items: Sequence[Any], results: list[Any]) -> None:
        """Weigh the function, the items, and what comes back."""
        name = function.func.__name__.strip("_")
        travelling = type(function)(function.func, *map(_as_sent, function.args))
        weight = Weight.of(name, travelling, [_as_sent(item) for item in items])
        sent = _as_sent(results)
        found = Returned(weight, sum(map(_bytes, sent)), sum(map(_numbers, sent)))
        known = self.returned.get(name, found)
        self.returned[name] = max(known, found, key=lambda returned: returned.n_bytes)


def _as_sent(content: Any) -> Any:
    """Return something as it is sent: places instead of rows and arrays."""
    if isinstance(content, InMemory):
        return STORED
    if isinstance(content, InMemoryStorage):
        return LeftArrays(STORED.path.with_suffix(""))
    if isinstance(content, _Uniform):
        shape = content.n_samples, content.n_features
        return StoredRows(layout.sample(RUN), "sample", shape, content.dtype)
    if type(content) in (list, tuple):
        return type(content)(map(_as_sent, content))
    return content


def _numbers(result: Any) -> int:
    """Return how many numbers are in a result."""
    if isinstance(result, np.ndarray):
        return result.size
    if isinstance(result, dict):
        return sum(map(_numbers, result.values()))
    if isinstance(result, (tuple, list)):
        return sum(map(_numbers, result))
    values = [getattr(result, name) for name in getattr(type(result), "__slots__", ())]
    return sum(map(_numbers, values)) if values else 1


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
    """Weigh the passes of the fit: a round on the whole sample, then each task that seeding has."""
    n_rows = sample_size(MANY_ROWS, n_centroids)
    rows = _Uniform(n_rows, N_COMPONENTS, np.dtype(np.float32))
    centroids = rows.read(n_rows, n_rows + n_centroids)
    rounds, seeding = FirstOnly(), FirstOnly(whole=True)
    finish = partial(improve, may_swap=True)
    sum_pass(rows, n_rows, centroids, Draw(0, 1, 1.0), rounds, finish)
    choose = seed_by_batch if _seeds_in_one_task(n_rows, n_centroids) else seed_by_candidates
    choose(rows, first_batch_rows(n_rows, n_centroids), n_centroids, 0, seeding)
    return [*rounds.returned.values(), *seeding.returned.values()]


def _seeds_in_one_task(n_sample: int, n_centroids: int) -> bool:
    """Return whether the first centroids are chosen without candidates."""
    return first_batch_rows(n_sample, n_centroids) * n_centroids <= MAX_IN_MEMORY_PAIRS


@dataclass(frozen=True, slots=True)
class Held:
    """What the caller's process holds in one step.

    Attributes
    ----------
    step, what : str
        The step, and what comes to the process that the user started.
    way : str
        "results" of tasks, over the network; "files" that tasks left; "rows" of the run.
    at_once : int
        Numbers held at the same time.
    in_all : int
        Numbers that pass through, one after the other.
    itemsize : int
        Bytes of a number.
    """

    step: str
    what: str
    way: str
    at_once: int
    in_all: int
    itemsize: int


def held_by_caller(n_blocks: int, n_centroids: int) -> list[Held]:
    """List what each step brings to the process that the user started.

    Parameters
    ----------
    n_blocks, n_centroids : int
        Blocks of images and centroids.

    Returns
    -------
    list of Held
        In the order of the steps.
    """
    n, d, wide, k = n_blocks * BLOCK_ROWS, N_COMPONENTS, int(np.prod(IMAGE_SHAPE)), n_centroids
    parts = partitions(n, BLOCK_ROWS)
    n_parts, n_together = len(parts), min(len(parts), MAX_TOGETHER)
    moments, kept, shown = wide * (wide + 2), min(n, N_KEPT), ReportSettings()
    drawn = CANDIDATE_ROUNDS * k + k // 2
    from_all = _seeds_in_one_task(sample_size(n, k), k)
    chosen_of = "a batch of rows" if from_all else "the candidates"
    candidates = Held(
        "overcluster, seeding", "which rows are candidates, draw by draw", "results", k, drawn, 8
    )
    report = N_CLUSTERS + len(schema.LABELS) * len(parts[0].blocks)
    pictures = shown.n_clusters_shown * shown.images_per_cluster + 2 * N_ODD
    largest_sheet = max(shown.images_per_cluster, N_ODD)
    return [
        Held("each pass", "the rows of each block, and the line of each task in the journal", "files", 2 * (n_blocks + n_parts), 2 * (n_blocks + n_parts), 8),
        Held("pca", "moments, merged by the workers", "results", moments, moments, 8),
        Held("projection", "of each block, a checksum and how many pictures to keep", "files", 2 * n_blocks, 2 * n_blocks, 8),
        *([] if from_all else [candidates]),
        Held("overcluster, seeding", f"the first centroids, chosen by a worker of {chosen_of}", "results", k * d, k * d, 4),
        Held("overcluster, each round", "the centroids, moved by the workers", "results", k * d, k * d, 4),
        Held("overcluster, assign", "which centroids have images; sums and pairs are left on disk", "results", k, k, 1),
        Held("centroid_graph", "dimension and edges, in number; the graph is left on disk", "results", 2, 2, 8),
        Held("tree", f"centroids, and a graph with {EDGES} ends at each", "rows", k * (d + 2 + 3 * EDGES), k * (d + 2 + 3 * EDGES), 8),
        Held("labels", f"reports of {n_together} tasks: images of each of {N_CLUSTERS:,} clusters, checksums", "results", n_together * report, n_parts * report, 8),
        Held("labels", "images of each cluster, added up report by report", "files", 2 * report, n_parts * report, 8),
        Held("report", "row, label, distance and outlier score of the pictures kept", "rows", 4 * kept, 4 * kept, 4),
        Held("report", "pictures, those of one sheet at a time", "files", largest_sheet * wide, pictures * wide, 1),
        Held("report", "label, distance and outlier score of all images, a block at a time", "rows", 3 * 65_536, 3 * n, 4),
        Held("`duplicates` (a command)", "a byte for each image that may have a duplicate", "rows", n, n, 1),
        Held("`duplicates` (a command)", "nearest three and distances of all images, a block at a time", "rows", 6 * BLOCK_ROWS, 6 * n, 4),
        Held("`status --verify` (a command)", "all images, a block at a time; then all that was stored", "rows", BLOCK_ROWS * wide, n * wide, 1),
    ]  # fmt: skip
