"""What a run would do: shapes, blocks, bytes and memory per task, before anything starts."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dask.utils import format_bytes
from distributed.worker_memory import parse_memory_limit

from workflow.chunks import choose_block_rows
from workflow.errors import ConfigError, MemoryBudgetError
from workflow.overcluster import auto_n_centroids, sample_size
from workflow.pca import AUTO_MAX_COMPONENTS, DEFAULT_RANK
from workflow.pipeline.executor import partitions
from workflow.pipeline.images import open_input

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings, Config

log = logging.getLogger(__name__)

#: What a worker holds before it has done anything: Python (3.13 the most) and the packages [bytes].
PROCESS_BYTES = 384 * 2**20
#: Rows of a panel in the inner loops.
MOMENT_PANEL_ROWS, SEARCH_PANEL_ROWS = 4096, 1024


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
    cut = min(block, n)
    stored_rows = min(n, getattr(images, "stored_rows", None) or 0)
    sizes = _Sizes(n, d_in, images.dtype.itemsize, cut, d, n_centroids, stored_rows)
    tasks = [
        sizes.task("pca", len(parts), sizes.images, 0, sizes.moments(config.pca.max_full_features)),
        sizes.task("projection", len(parts), sizes.images, sizes.scores, sizes.projection()),
        sizes.task("overcluster: sample", len(parts), sizes.scores, sizes.sample, sizes.drawing()),
        sizes.task("overcluster: rounds", 1, sizes.sample, 0, sizes.search(65_536)),
        sizes.task("overcluster: assign", len(parts), sizes.scores, 24 * n, sizes.search(cut)),
        sizes.task("labels", len(parts), 24 * n, 52 * n, {"labels": 320 * cut}),
    ]
    return RunPlan(
        n,
        d_in,
        str(images.dtype),
        block,
        -(-n // block),
        len(parts),
        d,
        n_centroids,
        worker_bytes,
        tasks,
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Sizes that the passes share."""

    n: int
    n_features: int
    itemsize: int
    block: int
    d: int
    k: int
    stored_rows: int

    @property
    def images(self) -> int:
        """Bytes of all images."""
        return self.n * self.n_features * self.itemsize

    @property
    def scores(self) -> int:
        """Bytes of all scores."""
        return self.n * self.d * 4

    @property
    def sample(self) -> int:
        """Bytes of the sample."""
        return sample_size(self.n, self.k) * self.d * 4

    def task(
        self, name: str, n_tasks: int, read: int, written: int, parts: dict[str, int]
    ) -> TaskPlan:
        """Return the plan of a pass from the memory of its parts."""
        parts = {"process": PROCESS_BYTES, **parts}
        return TaskPlan(name, n_tasks, read, written, sum(parts.values()), parts)

    def moments(self, max_full: int) -> dict[str, int]:
        """Return what a task of the first pass holds."""
        rank = self.n_features if self.n_features <= max_full else DEFAULT_RANK
        panel = min(self.block, MOMENT_PANEL_ROWS) * self.n_features * 8
        state = 8 * self.n_features * rank
        return {"block": self._block(), "panel": panel, "moments": 4 * state}

    def projection(self) -> dict[str, int]:
        """Return what a task of the projection holds."""
        panel = min(self.block, MOMENT_PANEL_ROWS) * self.n_features * 8
        return {
            "block": self._block(),
            "panel": panel,
            "scores": 2 * self.block * self.d * 4,
            "components": 3 * self.d * self.n_features * 8,
        }

    def drawing(self) -> dict[str, int]:
        """Return what a task that draws or shuffles the sample holds."""
        return {"rows": 2 * 65_536 * self.d * 4 + 8 * sample_size(self.n, self.k)}

    def search(self, rows: int) -> dict[str, int]:
        """Return what a task that searches centroids and sums their cells holds."""
        return {
            "rows": 2 * rows * self.d * 4,
            "distances": 3 * SEARCH_PANEL_ROWS * self.k * 4,
            "centroids": 3 * self.k * self.d * 4,
            "sums": 3 * self.k * (self.d + 16) * 8,
            "pairs": 3 * rows * 3 * 24,
        }

    def _block(self) -> int:
        """Bytes of a block, and of the stored pieces that are decoded whole to read it."""
        decoded = max(self.block, self.stored_rows)
        return (self.block + decoded) * self.n_features * self.itemsize


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
    if settings.launcher == "address":
        # Unknown until it is joined; a run checks then.
        return None
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


def plan_images(images: str, config: Config) -> tuple[str, dict[str, Any]]:
    """Plan a run on images that are not read yet.

    Returns
    -------
    text : str
        For a person.
    content : dict
        The same, JSON-able.

    Raises
    ------
    MemoryBudgetError
        If a task cannot fit a worker.
    """
    given = open_input(images, config.ingest)
    known: Any = given.store or given.source
    check_settings(given.n_samples, given.n_features, config)
    limit = worker_memory(config.compute)
    plan = plan_run(known, config, limit)
    check_memory(known, config, limit)
    lines = [
        f"images      {plan.n_samples:,} of {plan.n_features} features, {plan.dtype}, {format_bytes(plan.n_samples * plan.n_features * known.dtype.itemsize)}",
        f"blocks      {plan.n_blocks:,} of {plan.block_rows:,} rows, in {plan.n_partitions:,} partitions",
        f"components  {plan.n_components} at most; centroids {plan.n_centroids:,}",
        f"worker      {format_bytes(limit) if limit else 'no limit'}",
        "",
        f"{'pass':22} {'tasks':>7} {'read':>12} {'written':>12} {'memory/task':>12}",
    ]
    lines += [
        f"{t.name:22} {t.n_tasks:7,} {format_bytes(t.bytes_read):>12} {format_bytes(t.bytes_written):>12} {format_bytes(t.memory_bytes):>12}"
        for t in plan.tasks
    ]
    content = {**asdict(plan), "bytes_written": plan.bytes_written, "fits": True}
    return "\n".join(lines), content
