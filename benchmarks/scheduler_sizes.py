"""How large the things are that travel: what tasks are made of, and what the caller's process holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from distributed.protocol import pickle

from benchmarks.scheduler_run import BLOCK_ROWS
from workflow.blocks import InMemory
from workflow.overcluster import sample_counts, sample_size
from workflow.overcluster.fitting import (
    CANDIDATE_ROUNDS,
    MAX_IN_MEMORY_PAIRS,
    first_batch_rows,
)
from workflow.overcluster.passes import (
    MAX_PIECE_ROWS,
    Draw,
    distance_pass,
    gather,
    sum_pass,
)
from workflow.overcluster.rounds import improve
from workflow.pca import DEFAULT_RANK
from workflow.pipeline.executor import StoredArrays
from workflow.pipeline.overclustering import SAMPLE_PIECE_ROWS
from workflow.pipeline.partitions import partitions
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

    from numpy.typing import NDArray

#: Most that one object of a task graph may weigh [bytes].
LIMIT_BYTES = 2**20
#: The images that a size is worked out for, their components, and pictures kept for the report.
IMAGE_SHAPE, N_COMPONENTS, N_KEPT = (16, 16, 3), 50, 65_536
#: More rows than any sample has.
MANY_ROWS = 10**12
#: A run folder as deep as they come, and a checksum as wide.
RUN = Path("/gpfs/projects/a-department/a-group/a-person/an-experiment/a-run")
CRC = 2**32 - 1


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
    stored = StoredArrays(RUN / "wip" / "shared" / f"{'0' * 32}.npz", CRC)
    basis, how = (
        Basis(stored, whiten=False),
        Labelling(stored, "keep", 0.8, RUN / layout.LABELS, RUN),
    )
    folder, nearest = RUN / "overcluster" / "parts" / "assign-0", layout.nearest(RUN)
    sizes = [BLOCK_ROWS] * n_blocks
    drawn = sample_counts(sizes, sample_size(n_images, n_centroids))
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
        "overcluster, assign": (AssignTask(scores, stored, nearest, folder), parts),
        "labels": (LabelsTask(nearest, how), parts),
        "predict": (PredictTask(images, basis, "float32", stored, how), parts),
    }
    return [
        Weight.of(f"{name}: {type(task).__name__}", task, items)
        for name, (task, items) in passes.items()
    ]


class FirstOnly:
    """A mapper that weighs what it is given and does the first item only: passes merge that alone."""

    def __init__(self, stored: StoredArrays, sample: StoredRows) -> None:
        self.stored, self.sample = stored, sample
        self.weight: Weight | None = None
        self.result_bytes = self.result_numbers = 0

    def map(self, function: Any, items: Sequence[Any]) -> list[Any]:
        """Weigh the function as it would travel, with places for arrays; run the first item."""
        rows, *others = function.args
        travelling = [self.stored if isinstance(arg, InMemory) else arg for arg in others]
        light = type(function)(function.func, self.sample, *travelling)
        self.weight = Weight.of(function.func.__name__.strip("_"), light, items)
        result = function.func(rows, *others, items[0])
        self.result_bytes = len(items) * _bytes(result)
        self.result_numbers = len(items) * _numbers(result)
        return [result]

    def reduce(self, function: Any, items: Sequence[Any], merge: Any, finish: Any = None) -> Any:
        """As `map`; but results are merged and finished where they are, and one comes back."""
        del merge
        (result,) = self.map(function, items)
        result = result if finish is None else finish(result)
        self.result_bytes, self.result_numbers = _bytes(result), _numbers(result)
        return result

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> InMemory:
        """Keep arrays in memory; they would travel as the name of a file."""
        return InMemory(dict(arrays))


def _numbers(result: Any) -> int:
    """Return how many numbers are in a result."""
    if isinstance(result, np.ndarray):
        return result.size
    if isinstance(result, tuple):
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


def fit_returns(n_centroids: int) -> list[Returned]:
    """Weigh the passes of the fit, on the whole sample, by doing the first piece of each."""
    n_rows = sample_size(MANY_ROWS, n_centroids)
    rows = _Uniform(n_rows, N_COMPONENTS, np.dtype(np.float32))
    stored = StoredArrays(RUN / "wip" / "shared" / f"{'0' * 32}.npz", CRC)
    place = StoredRows(layout.sample(RUN), "sample", (n_rows, N_COMPONENTS), rows.dtype)
    centroids = rows.read(n_rows, n_rows + n_centroids)
    passes: list[Callable[[FirstOnly], Any]] = [
        lambda mapper: sum_pass(
            rows, n_rows, centroids, Draw(0, 1, 1.0), mapper, partial(improve, may_swap=True)
        ),
        lambda mapper: distance_pass(
            rows, first_batch_rows(n_rows, n_centroids), centroids, mapper
        ),
        # At worst all rows that are fetched lie in one piece.
        lambda mapper: gather(rows, np.arange(min(n_centroids, MAX_PIECE_ROWS)), mapper),
    ]
    found = []
    for run in passes:
        mapper = FirstOnly(stored, place)
        run(mapper)
        assert mapper.weight is not None
        found.append(Returned(mapper.weight, mapper.result_bytes, mapper.result_numbers))
    return found


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


def held_by_caller(n_blocks: int, n_centroids: int, n_pairs: int) -> list[Held]:
    """List what each step brings to the process that the user started.

    Parameters
    ----------
    n_blocks, n_centroids : int
        Blocks of images and centroids.
    n_pairs : int
        Pairs of centroids that the images of a partition have.

    Returns
    -------
    list of Held
        In the order of the steps.
    """
    n, d, wide, k = n_blocks * BLOCK_ROWS, N_COMPONENTS, int(np.prod(IMAGE_SHAPE)), n_centroids
    n_parts = len(partitions(n, BLOCK_ROWS))
    n_sample = sample_size(n, k)
    batch = first_batch_rows(n_sample, k)
    moments, cells = wide * (wide + 2), k * (d + 12) + 3 * n_pairs
    kept, looked_at = min(n, N_KEPT), min(n_sample, 20_000) * d
    if batch * k <= MAX_IN_MEMORY_PAIRS:
        seeding = [
            Held("overcluster, seeding", "rows of the first batch", "rows", batch * d, batch * d, 4)
        ]
    else:
        # Half as many uniform rows as centroids, then rounds of about as many as centroids.
        drawn = k // 2 * d + CANDIDATE_ROUNDS * k * d
        seeding = [
            Held(
                "overcluster, seeding",
                "rows drawn as candidates, 3.5 K'",
                "results",
                drawn,
                drawn,
                4,
            ),
            Held(
                "overcluster, seeding",
                "nearest candidate of each row of a batch, and its distance",
                "results",
                2 * batch,
                2 * (1 + CANDIDATE_ROUNDS) * batch,
                4,
            ),
        ]
    return [
        Held("pca", "moments, merged by the workers", "results", moments, moments, 8),
        *seeding,
        Held("overcluster, each round", "the centroids, moved by the workers", "results", k * d, k * d, 4),
        Held("overcluster, assign", "sums, and pairs as a partition has them, merged by the workers", "results", cells, cells, 8),
        Held("centroid_graph", "rows of the sample, for the intrinsic dimension", "rows", looked_at, looked_at, 4),
        Held("labels", "images of each cluster in each partition, 1,000 clusters", "results", n_parts * 1_000, n_parts * 1_000, 8),
        Held("report", "pictures kept while reading", "files", kept * wide, kept * wide, 1),
        Held("report", "label, distance and outlier score of all images, a block at a time", "rows", 3 * 65_536, 3 * n, 4),
        Held("`duplicates` (a command)", "a byte for each image that may have a duplicate", "rows", n, n, 1),
        Held("`duplicates` (a command)", "nearest three and distances of all images, a block at a time", "rows", 6 * BLOCK_ROWS, 6 * n, 4),
        Held("`status --verify` (a command)", "all images, a block at a time; then all that was stored", "rows", BLOCK_ROWS * wide, n * wide, 1),
    ]  # fmt: skip
