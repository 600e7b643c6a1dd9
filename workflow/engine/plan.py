"""What a run would take: the passes of its steps, their tasks, bytes and memory, before anything starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask.config
from dask.utils import format_bytes
from distributed.worker_memory import parse_memory_limit

from workflow.chunks import choose_block_rows
from workflow.compute.scripts import worker_memory_of_job
from workflow.config import dask_places
from workflow.engine.partitions import partition_rows, partitions
from workflow.errors import MemoryBudgetError
from workflow.threads import n_processors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from distributed import Client

    from workflow.config import ComputeSettings, Config
    from workflow.engine.step import Step

log = logging.getLogger(__name__)

#: What a worker holds before it has done anything: Python (3.13 the most) and the packages [bytes].
PROCESS_BYTES = 384 * 2**20


#: Shares of its memory at which Dask pauses and ends a worker by default, which plans allow for.
DASK_THRESHOLDS = {"pause": 0.8, "terminate": 0.95}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What decides the cost of a run.

    Attributes
    ----------
    n_samples, n_features : int
        Shape of the images, flattened.
    dtype : numpy.dtype
        Type of their values.
    block_rows, stored_rows : int
        Rows of a block, and of a stored chunk that is decoded whole; 0 where there are no chunks.
    n_partitions : int
        Partitions of the rows.
    is_copied : bool
        Whether the images are copied into the run folder first.
    config : Config
        The settings.
    dims : dict of str to int
        Lengths of the dimensions that steps decide, upper bounds where a setting leaves them open.
    """

    n_samples: int
    n_features: int
    dtype: np.dtype[np.generic]
    block_rows: int
    stored_rows: int
    n_partitions: int
    is_copied: bool
    config: Config
    dims: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, steps: Sequence[Step], images: Any, config: Config) -> Sizes:
        """Return the sizes of a run.

        Parameters
        ----------
        steps : sequence of Step
            The steps.
        images : Rows
            The images; stores know how their rows are cut, what does not is copied first.
        config : Config
            The settings.
        """
        n, stored = images.n_samples, getattr(images, "stored_rows", None)
        block = config.block_rows
        if block == "auto":
            block = choose_block_rows(images.n_features, stored)
        sizes = cls(
            n_samples=n,
            n_features=images.n_features,
            dtype=images.dtype,
            block_rows=min(block, n),
            stored_rows=min(n, stored or 0),
            n_partitions=len(partitions(n, block)),
            is_copied=not hasattr(images, "stored_rows"),
            config=config,
        )
        for step in steps:
            sizes.dims.update(step.dims(sizes))
        return sizes

    @property
    def rows_per_worker(self) -> int:
        """Rows of the worker of this machine that gets the most partitions."""
        rows = partition_rows(self.n_samples, self.block_rows)
        turns = -(-self.n_partitions // worker_count(self.config.compute))
        return min(self.n_samples, turns * rows)

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return self.n_features * int(self.dtype.itemsize)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block, the next one, and the stored chunks decoded whole to read that."""
        decoded = max(self.block_rows, self.stored_rows)
        return (2 * self.block_rows + decoded) * self.image_bytes


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What one kind of task costs.

    Attributes
    ----------
    name : str
        The step, and the pass where there are several: ``step: pass``.
    n_tasks : int
        Tasks of that kind.
    bytes_read, bytes_written : int
        By all of them [bytes].
    parts : dict of str to int
        What one of them holds at most, beside its process [bytes].
    advice : dict of str to str
        Part -> what makes it smaller: a sentence without its full stop.
    """

    name: str
    n_tasks: int
    bytes_read: int
    bytes_written: int
    parts: dict[str, int]
    advice: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int:
        """Most that one task holds, with its process [bytes]."""
        return PROCESS_BYTES + sum(self.parts.values())


def plan_tasks(steps: Sequence[Step], sizes: Sizes) -> list[TaskPlan]:
    """Return the passes of all steps, in their order."""
    return [task for step in steps for task in step.tasks(sizes)]


def worker_count(settings: ComputeSettings) -> int:
    """Return how many workers a run of these settings starts here; 1 where they are elsewhere."""
    if settings.launcher != "local":
        return 1
    if settings.n_workers != "auto":
        return int(settings.n_workers)
    return max(1, n_processors() // settings.threads_per_worker)


def worker_memory(settings: ComputeSettings, client: Client | None = None) -> int | None:
    """Return the memory of the smallest worker, None where there is no limit [bytes]."""
    if client is not None:
        # Asked directly: the client renews its own copy now and then, without any workers.
        assert client.scheduler is not None
        found = client.sync(client.scheduler.identity, n_workers=-1)
        workers = found["workers"].values()
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


def check_settings(steps: Sequence[Step], sizes: Sizes) -> None:
    """Refuse settings that images of these sizes cannot have.

    Raises
    ------
    ConfigError
        Naming the first such setting.
    """
    for step in steps:
        step.check(sizes)


def check_memory(
    steps: Sequence[Step], images: Any, config: Config, worker_bytes: int | None
) -> None:
    """Refuse a run of which a task cannot fit.

    Parameters
    ----------
    steps : sequence of Step
        The steps.
    images : Rows
        The images.
    config : Config
        The settings.
    worker_bytes : int or None
        Memory of a worker; None where there is no limit [bytes].

    Raises
    ------
    MemoryBudgetError
        Naming the worst task, what it is made of, and what to change.
    """
    if worker_bytes is None:
        return
    tasks = plan_tasks(steps, Sizes.of(steps, images, config))
    worst = max(tasks, key=lambda task: task.memory_bytes)
    n_threads = config.compute.threads_per_worker
    needed = PROCESS_BYTES + n_threads * sum(worst.parts.values())
    for name, n_bytes in (("pause", PROCESS_BYTES), ("terminate", needed)):
        _check_threshold(name, n_bytes, worker_bytes)
    if needed <= worker_bytes:
        return
    parts = {"process": PROCESS_BYTES, **worst.parts}
    made_of = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    largest = max(worst.parts, key=lambda part: worst.parts[part], default="")
    advice = worst.advice.get(largest, "Use fewer workers")
    msg = f"task {worst.name} needs {format_bytes(needed)} ({made_of}) but a worker has {format_bytes(worker_bytes)}. {advice}, or raise compute.memory_limit to {format_bytes(int(needed * 1.1))}."
    raise MemoryBudgetError(msg)


def _check_threshold(name: str, needed: int, worker_bytes: int) -> None:
    """Refuse a lowered threshold of Dask at which it would stop a worker that does as planned."""
    key = f"distributed.worker.memory.{name}"
    share = dask.config.get(key)
    if (
        not isinstance(share, float)
        or not share < DASK_THRESHOLDS[name]
        or needed <= share * worker_bytes
    ):
        return
    msg = f"a worker must be let use {format_bytes(needed)}; Dask's configuration ({dask_places()}) sets {key} to {share:g}, so Dask stops it at {format_bytes(int(share * worker_bytes))}. Take that out, or raise compute.memory_limit to {format_bytes(int(needed / share * 1.1))}."
    raise MemoryBudgetError(msg)
