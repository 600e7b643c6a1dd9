"""A step of tasks that only wait, run by the real scheduler on many workers inside this process."""

from __future__ import annotations

import contextlib
import heapq
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster
from distributed.comm.tcp import TCP

from benchmarks.internals import Executor, Partition, Progress, partitions
from workflow.runstore.journal import Journal

#: Rows of a block of 16 x 16 x 3 images.
BLOCK_ROWS = 16_384
#: What a worker does beside its tasks belongs to its machine, of which there are many; here it would
#: add up in one process.  Its samples of every thread each 10 ms would see those of all workers.
QUIET = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "10s",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A step to run: workers with one thread each, blocks, and how long a block takes [s]."""

    n_workers: int
    n_blocks: int
    block_s: float

    @property
    def partitions(self) -> list[Partition]:
        """The partitions that a run of so many blocks has."""
        return partitions(self.n_blocks * BLOCK_ROWS, BLOCK_ROWS)

    @property
    def ideal_s(self) -> float:
        """How long it would take if blocks could be shared out at will [s]."""
        return self.n_blocks * self.block_s / self.n_workers

    @property
    def bound_s(self) -> float:
        """How long whole partitions take when a worker that is free gets the next at once [s]."""
        return makespan([len(p.blocks) for p in self.partitions], self.n_workers) * self.block_s


@dataclass(frozen=True, slots=True)
class WaitTask:
    """Waits for each block of a partition, then reports what an `AssignTask` would."""

    block_s: float

    def __call__(self, partition: Partition) -> dict[str, Any]:
        """Sleep, which lets other threads work."""
        time.sleep(self.block_s * len(partition.blocks))
        n_rows = partition.n_rows
        return {
            # As wide as checksums are.
            "crc": [[2**32 - 1 - rows.start % 9973, 2**32 - 1] for rows in partition.blocks],
            "file_crc": 2**32 - 1,
            "bytes_read": 200 * n_rows,
            "bytes_written": 24 * n_rows,
        }


@dataclass
class Wire:
    """Messages of scheduler, workers and client, their bytes, and the largest with what was in it."""

    n_messages: int = 0
    n_bytes: int = 0
    largest: int = 0
    content: str = ""

    def clear(self) -> None:
        """Forget what was counted."""
        self.n_messages, self.n_bytes, self.largest, self.content = 0, 0, 0, ""

    def note(self, message: Any, n_bytes: int) -> None:
        """Count a message."""
        self.n_messages += 1
        self.n_bytes += n_bytes
        if n_bytes > self.largest:
            entries = message if isinstance(message, (list, tuple)) else [message]
            words = {str(e.get("op", "an answer")) for e in entries if isinstance(e, dict)}
            self.largest, self.content = n_bytes, ", ".join(sorted(words))


@dataclass(frozen=True, slots=True)
class Timing:
    """What a step took."""

    plan: Plan
    #: Time from submission to the last line of the journal, and of the processor [s].
    wall_s: float
    cpu_s: float
    #: Of that, the thread that called, and the one in which scheduler, workers and client send messages [s].
    client_cpu_s: float
    loop_cpu_s: float
    #: Time to get the lines of the journal onto the disk [s].
    journal_s: float
    #: Partitions; writes and bytes of the journal.
    n_tasks: int
    n_writes: int
    journal_bytes: int
    wire: Wire = field(default_factory=Wire)

    @property
    def over_ideal(self) -> float:
        """Time lost, as a share of the ideal time."""
        return self.wall_s / self.plan.ideal_s - 1

    @property
    def tail(self) -> float:
        """Of that, what is lost because partitions do not share out evenly."""
        return self.plan.bound_s / self.plan.ideal_s - 1

    @property
    def overhead(self) -> float:
        """The rest: what scheduler and client cost, as a share of the ideal time."""
        return self.over_ideal - self.tail


class _TimedJournal(Journal):
    """A journal that knows how long it has taken to write."""

    spent_s = 0.0
    n_writes = 0

    def extend(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Add lines and count the time."""
        started = time.perf_counter()
        super().extend(records)
        self.spent_s += time.perf_counter() - started
        self.n_writes += 1


def makespan(sizes: Sequence[float], n_workers: int) -> float:
    """Return when the last task ends if a worker that is free takes the next one at once."""
    free = [0.0] * n_workers
    for size in sizes:
        heapq.heapreplace(free, free[0] + size)
    return max(free)


@contextlib.contextmanager
def many_workers(n_workers: int) -> Iterator[Client]:
    """Start a scheduler and workers with one thread each, all in this process, that talk by TCP."""
    with (
        dask.config.set(QUIET),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=False,
            protocol="tcp",
            host="127.0.0.1",
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(n_workers)
        yield client


@contextlib.contextmanager
def listen() -> Iterator[Wire]:
    """Count all messages that are sent by TCP in this process."""
    wire, send = Wire(), TCP.write

    async def write(comm: TCP, message: Any, *args: Any, **kwargs: Any) -> int:
        n_bytes: int = await send(comm, message, *args, **kwargs)
        wire.note(message, n_bytes)
        return n_bytes

    TCP.write = write
    try:
        yield wire
    finally:
        TCP.write = send


def timed_step(client: Client, plan: Plan) -> Timing:
    """Run a step as a run does, with an executor and a journal."""
    with tempfile.TemporaryDirectory() as folder, listen() as wire:
        place = Path(folder)
        executor = Executor(client, Progress(enabled=False), place / "shared")
        # Opens the connections of a fresh cluster; under another name, for the scheduler learns how
        # long tasks of a name take and would share these out by what it learned.
        executor.map(_nothing, range(2 * plan.n_workers))
        wire.clear()
        journal = _TimedJournal(place / "blocks.jsonl", "waiting")
        items = {partition.index: partition for partition in plan.partitions}
        started = _clocks(client)
        reports = executor.run(
            "waiting", WaitTask(plan.block_s), items, journal=journal, n_rows=lambda p: p.n_rows
        )
        ended = _clocks(client)
        n_done = sum(len(report["crc"]) for report in reports.values())
        if n_done != plan.n_blocks:
            msg = f"every block must be reported once; got {n_done} of {plan.n_blocks}."
            raise AssertionError(msg)
        return Timing(
            plan,
            *(after - before for before, after in zip(started, ended, strict=True)),
            journal_s=journal.spent_s,
            n_tasks=len(items),
            n_writes=journal.n_writes,
            journal_bytes=journal.path.stat().st_size,
            wire=wire,
        )


def _nothing(item: int) -> int:
    """Return what came."""
    return item


def _clocks(client: Client) -> tuple[float, float, float, float]:
    """Return wall time, and processor time of all, of this thread and of that of the messages [s]."""

    async def loop_s() -> float:
        return time.thread_time()

    return time.perf_counter(), time.process_time(), time.thread_time(), client.sync(loop_s)
