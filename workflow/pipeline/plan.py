"""What a run would do: shapes, blocks, bytes, memory and seconds, before anything starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes
from distributed.worker_memory import parse_memory_limit

from workflow.centroid_graph.dimension import MAX_ROWS, PANEL_ROWS
from workflow.chunks import choose_block_rows
from workflow.compute.scripts import worker_memory_of_job
from workflow.errors import ConfigError, MemoryBudgetError
from workflow.overcluster import auto_n_centroids
from workflow.pca import AUTO_MAX_COMPONENTS, DEFAULT_RANK
from workflow.pipeline.durations import EDGES, LABEL_BYTES, NEAREST_BYTES, Sizes
from workflow.pipeline.overclustering import SAMPLE_PIECE_ROWS
from workflow.pipeline.partitions import partitions

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings, Config

log = logging.getLogger(__name__)

#: Pictures kept for the report: at most so many, and so many bytes.
KEPT_IMAGES, KEPT_BYTES = 65_536, 256 * 2**20
#: What a worker holds before it has done anything: Python (3.13 the most) and the packages [bytes].
PROCESS_BYTES = 384 * 2**20
#: Rows of a panel in the inner loops.
MOMENT_PANEL_ROWS, SEARCH_PANEL_ROWS = 4096, 1024
#: What a task that chooses seeds holds of a row: for itself, and for each component [bytes].
SEEDING_ROW_BYTES, SEEDING_BYTES = 160, 16
#: An edge of the graph, either way, and a pair that it is made from, on disk [bytes].
EDGE_BYTES, PAIR_BYTES = 20, 24


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What one kind of task costs.

    Attributes
    ----------
    name : str
        The step and the pass.
    n_tasks : int
        Tasks of that kind.
    bytes_read, bytes_written : int
        By all of them [bytes].
    memory_bytes : int
        Most that one of them holds, with its process [bytes].
    parts : dict of str to int
        What that is made of [bytes].
    """

    name: str
    n_tasks: int
    bytes_read: int
    bytes_written: int
    memory_bytes: int
    parts: dict[str, int]

    @classmethod
    def of(
        cls, name: str, n_tasks: int, read: int, written: int, parts: dict[str, int]
    ) -> TaskPlan:
        """Return the plan of a pass from the memory of its parts."""
        parts = {"process": PROCESS_BYTES, **parts}
        return cls(name, n_tasks, read, written, sum(parts.values()), parts)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a whole run costs.

    Attributes
    ----------
    n_samples, n_features : int
        Shape of the images, flattened.
    dtype : str
        Type of their values.
    block_rows, n_blocks, n_partitions : int
        How the rows are cut.
    n_components, n_centroids : int
        Upper bounds where a setting leaves them open.
    worker_bytes : int or None
        Memory of a worker; None where there is no limit [bytes].
    tasks : list of TaskPlan
        The passes, in the order of the steps.
    sizes : Sizes
        What decides how long it takes.
    """

    n_samples: int
    n_features: int
    dtype: str
    block_rows: int
    n_blocks: int
    n_partitions: int
    n_components: int
    n_centroids: int
    worker_bytes: int | None
    tasks: list[TaskPlan]
    sizes: Sizes

    @property
    def bytes_written(self) -> int:
        """Bytes that the run leaves on disk, before compression."""
        return sum(task.bytes_written for task in self.tasks)


def plan_run(images: Any, config: Config, worker_bytes: int | None) -> RunPlan:
    """Work out what a run would cost.

    Parameters
    ----------
    images : Rows
        The images; an object with `n_samples`, `n_features`, `dtype` and
        perhaps `stored_rows`.
    config : Config
        The settings.
    worker_bytes : int or None
        Memory of a worker [bytes].

    Returns
    -------
    RunPlan
        With one `TaskPlan` for each pass.
    """
    n, d_in = images.n_samples, images.n_features
    block = config.block_rows
    if block == "auto":
        block = choose_block_rows(d_in, getattr(images, "stored_rows", None))
    parts = partitions(n, block)
    k = config.overcluster.n_centroids
    n_centroids = auto_n_centroids(n) if k == "auto" else k
    wanted = config.pca.n_components
    limit = min(n, d_in)
    d = (
        min(limit, AUTO_MAX_COMPONENTS)
        if wanted == "auto"
        else limit
        if wanted < 1
        else int(wanted)
    )
    sizes = Sizes(
        n_samples=n,
        n_features=d_in,
        dtype=images.dtype,
        n_components=d,
        n_centroids=n_centroids,
        partition_rows=[part.n_rows for part in parts],
        block_rows=block,
        score_bytes=2 if config.projection.dtype == "float16" else 4,
        max_full_features=config.pca.max_full_features,
        max_rounds=config.overcluster.max_rounds,
        dimension_rows=config.centroid_graph.dimension_rows,
        n_resamples=config.tree.n_resamples,
        n_kept=kept_images(n, d_in * images.dtype.itemsize),
        # Stores know how their rows are cut; whatever does not is copied first.
        is_copied=not hasattr(images, "stored_rows"),
    )
    stored_rows = min(n, getattr(images, "stored_rows", None) or 0)
    return RunPlan(
        n_samples=n,
        n_features=d_in,
        dtype=str(images.dtype),
        block_rows=block,
        n_blocks=-(-n // block),
        n_partitions=len(parts),
        n_components=d,
        n_centroids=n_centroids,
        worker_bytes=worker_bytes,
        tasks=_passes(sizes, _Memory(sizes, min(block, n), stored_rows)),
        sizes=sizes,
    )


def _passes(sizes: Sizes, memory: _Memory) -> list[TaskPlan]:
    """Return the passes of a run, what they read and write, and what their tasks hold."""
    n, n_parts = sizes.n_samples, len(sizes.partition_rows)
    images, scores = n * sizes.image_bytes, n * sizes.row_bytes
    sample, nearest = sizes.sample_bytes, n * NEAREST_BYTES
    n_pieces = -(-sizes.n_sample // SAMPLE_PIECE_ROWS)
    kept = sizes.n_kept * (sizes.image_bytes + 8)
    moments, cells = n_parts * sizes.state_bytes, n_parts * sizes.cell_bytes
    n_edges = sizes.n_centroids * EDGES
    copied = [TaskPlan.of("ingest", n_parts, 2 * images, images, memory.block())]
    return [
        *(copied if sizes.is_copied else []),
        TaskPlan.of("pca", n_parts, images, moments, memory.moments()),
        TaskPlan.of("projection", n_parts, images, scores + kept, memory.projection()),
        TaskPlan.of("overcluster: sample", n_parts, scores, sample, memory.drawing()),
        TaskPlan.of("overcluster: shuffle", n_pieces, n_pieces * sample, sample, memory.drawing()),
        TaskPlan.of("overcluster: rounds", 1, sizes.visited_bytes, 0, memory.rounds()),
        TaskPlan.of(
            "overcluster: assign",
            n_parts,
            scores,
            nearest + cells,
            memory.search(memory.block_rows),
        ),
        TaskPlan.of(
            "centroid_graph",
            2,
            4 * sizes.n_looked_at * sizes.n_components + n_edges * PAIR_BYTES // 2,
            n_edges * EDGE_BYTES,
            memory.graph(),
        ),
        TaskPlan.of(
            "labels", n_parts, nearest, LABEL_BYTES * n, {"labels": 320 * memory.block_rows}
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Memory:
    """What tasks hold, part by part [bytes]."""

    sizes: Sizes
    block_rows: int
    stored_rows: int

    def moments(self) -> dict[str, int]:
        """Return what a task of the first pass holds."""
        n_features = self.sizes.n_features
        rank = n_features if n_features <= self.sizes.max_full_features else DEFAULT_RANK
        return {**self.block(), "panel": self._panel(), "moments": 4 * 8 * n_features * rank}

    def projection(self) -> dict[str, int]:
        """Return what a task of the projection holds."""
        return {
            **self.block(),
            "panel": self._panel(),
            "scores": 2 * self.block_rows * self.sizes.n_components * 4,
            "components": 3 * self.sizes.n_components * self.sizes.n_features * 8,
        }

    def drawing(self) -> dict[str, int]:
        """Return what a task that draws or shuffles the sample holds."""
        return {"rows": 2 * 65_536 * self.sizes.n_components * 4 + 8 * self.sizes.n_sample}

    def rounds(self) -> dict[str, int]:
        """Return what a task holds that adds up a round, or one that chooses the first centroids."""
        row_bytes = SEEDING_ROW_BYTES + SEEDING_BYTES * self.sizes.n_components
        seeding = {"rows": row_bytes * self.sizes.n_seeded}
        return max(self.search(65_536), seeding, key=lambda parts: sum(parts.values()))

    def graph(self) -> dict[str, int]:
        """Return what the two tasks of the graph step hold."""
        sizes = self.sizes
        found = min(MAX_ROWS, sizes.n_sample)
        return {
            "rows": (2 * 4 * sizes.n_looked_at + 5 * 8 * found) * sizes.n_components,
            "distances": 3 * 8 * PANEL_ROWS * found,
            "graph": 8 * EDGE_BYTES * EDGES * sizes.n_centroids,
        }

    def search(self, rows: int) -> dict[str, int]:
        """Return what a task that searches centroids and sums their cells holds."""
        k, d = self.sizes.n_centroids, self.sizes.n_components
        return {
            "rows": 3 * rows * d * 4,
            "distances": 3 * SEARCH_PANEL_ROWS * k * 4,
            "centroids": 3 * k * d * 4,
            "sums": 3 * k * (d + 16) * 8,
            "pairs": 3 * rows * 3 * 24,
        }

    def block(self) -> dict[str, int]:
        """Return a block, the next one, and the stored pieces decoded whole to read that."""
        decoded = max(self.block_rows, self.stored_rows)
        return {"block": (2 * self.block_rows + decoded) * self.sizes.image_bytes}

    def _panel(self) -> int:
        """Bytes of rows converted to floating point."""
        return min(self.block_rows, MOMENT_PANEL_ROWS) * self.sizes.n_features * 8


def kept_images(n_samples: int, image_bytes: int) -> int:
    """Return how many pictures are kept for the report while images are read."""
    return max(1, min(n_samples, KEPT_IMAGES, KEPT_BYTES // image_bytes))


def check_settings(n_samples: int, n_features: int, config: Config) -> None:
    """Refuse sizes that the images cannot have.

    Raises
    ------
    ConfigError
        If more components or centroids are asked for than there can be.
    """
    k, d = config.overcluster.n_centroids, config.pca.n_components
    if k != "auto" and k > n_samples:
        msg = f"`overcluster.n_centroids` must be at most the number of images; got {k} for {n_samples} images. Lower it, or leave it auto."
        raise ConfigError(msg)
    limit = min(n_samples, n_features)
    if d != "auto" and d > limit:
        msg = f"`pca.n_components` must be at most {limit}, the smaller of {n_samples} images and {n_features} features; got {d}. Lower it, or leave it auto."
        raise ConfigError(msg)
    size = config.tree.min_cluster_size
    if size != "auto" and size > n_samples:
        msg = f"`tree.min_cluster_size` must be at most the number of images; got {size} for {n_samples} images. Lower it, or leave it auto."
        raise ConfigError(msg)


def worker_memory(settings: ComputeSettings, client: Client | None = None) -> int | None:
    """Return the memory of the smallest worker, None where there is no limit [bytes]."""
    if client is not None:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
        return min(limits, default=None)
    if settings.is_batch:
        return worker_memory_of_job(settings)
    if settings.launcher != "local":
        # Unknown until there are workers; a run checks then.
        return None if settings.memory_limit == "auto" else settings.memory_limit
    n_workers = settings.n_workers
    if settings.memory_limit == "auto" and n_workers != "auto":
        total = parse_memory_limit("auto", 1, 1, logger=log)
        return None if total is None else total // n_workers
    limit: int | None = parse_memory_limit(
        settings.memory_limit, settings.threads_per_worker, logger=log
    )
    return limit


def check_memory(images: Any, config: Config, worker_bytes: int | None) -> None:
    """Refuse a run of which a task cannot fit.

    Raises
    ------
    MemoryBudgetError
        Naming the worst task, what it is made of, and what to change.
    """
    if worker_bytes is None:
        return
    worst = max(plan_run(images, config, worker_bytes).tasks, key=lambda task: task.memory_bytes)
    needed = PROCESS_BYTES + config.compute.threads_per_worker * (
        worst.memory_bytes - PROCESS_BYTES
    )
    if needed <= worker_bytes:
        return
    made_of = ", ".join(f"{name} {format_bytes(size)}" for name, size in worst.parts.items())
    largest = max(
        (p for p in worst.parts.items() if p[0] != "process"), key=lambda p: p[1], default=("", 0)
    )[0]
    advice = {
        "moments": "Lower pca.max_full_features",
        "distances": "Lower overcluster.n_centroids",
        "sums": "Lower overcluster.n_centroids or pca.n_components",
    }.get(largest, "Use fewer workers")
    msg = f"task {worst.name} needs {format_bytes(needed)} ({made_of}) but a worker has {format_bytes(worker_bytes)}. {advice}, or raise compute.memory_limit to {format_bytes(int(needed * 1.1))}."
    raise MemoryBudgetError(msg)
