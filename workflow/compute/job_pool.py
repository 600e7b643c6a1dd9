"""A fixed number of batch jobs: lost ones are replaced, and the run ends where there can be no more."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from typing import TYPE_CHECKING, Any, cast

from distributed.deploy.spec import ProcessInterface

from workflow.compute import queues
from workflow.errors import one_line

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.compute.watchdog import Watchdog
    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: Time between two looks at the workers, and at the queue [s].
LOOK_INTERVAL_S, QUEUE_INTERVAL_S = 1.0, 10.0
#: A job without workers for so long is replaced; a worker that is only restarted is back sooner [s].
LOST_AFTER_S = 5.0
#: A worker counts its lifetime from its own start, which is some seconds before it is seen here [s].
SEEN_LATE_S = 10.0
#: Time before another job is submitted after a refusal, while others work [s].
RETRY_AFTER_S = 60.0
#: After so many jobs in a row without a worker, and at least as many as are wanted, the run ends.
MAX_FAILED_STARTS = 3
#: Lines of a job's log that a message quotes.
N_LOG_LINES = 3


class PoolJob:
    """A job that records its state, and a refusal instead of raising it.

    Mixed into dask-jobqueue's job classes, where a job that raises is logged at
    length, is counted as present, and makes closing the cluster fail.
    """

    watchdog: Watchdog
    job_id: str | None
    _status: Any

    refusal: str | None = None
    was_up = False
    up_since = 0.0
    gone_since: float | None = None

    async def start(self) -> None:
        """Submit the job."""
        self.submitted = time.monotonic()
        try:
            await super().start()  # type: ignore[misc]
        except (RuntimeError, ValueError, OSError) as err:
            self.refusal = queues.refusal_message(err)
            await ProcessInterface.start(cast("ProcessInterface", self))
        else:
            assert self.job_id is not None
            self.watchdog.add_job(self.job_id)

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()  # type: ignore[misc]
        await ProcessInterface.close(cast("ProcessInterface", self))


class JobPool:
    """Keeps the number of jobs of a dask-jobqueue cluster, inside its event loop.

    Parameters
    ----------
    cluster : dask_jobqueue.core.JobQueueCluster
        Its jobs are `PoolJob`.
    settings : ComputeSettings
        How many jobs are wanted.
    user : str
        Whose jobs are listed.
    logs : Path
        Folder that jobs write their logs to.

    Attributes
    ----------
    n_queued : int
        Jobs that were submitted and have no worker yet.
    failure : str or None
        Why there can be no more workers.
    """

    def __init__(self, cluster: Any, settings: ComputeSettings, user: str, logs: Path) -> None:
        self.cluster, self.settings, self.user, self.logs = cluster, settings, user, logs
        self.n_queued = self.n_failed_starts = 0
        self.failure: str | None = None
        self._refusal: str | None = None
        self._submit_after = 0.0
        self._queue_seen = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to look after the jobs; runs in the event loop of the cluster."""
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Stop looking after them."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        """Look at the jobs every second, until there can be no more workers."""
        while self.failure is None:
            try:
                await self._look()
            except Exception as err:  # noqa: BLE001 - nobody would notice that this task has ended
                log.warning("jobs could not be looked after: %s", one_line(err))
            await asyncio.sleep(LOOK_INTERVAL_S)
        # Whoever waits for results gets an error.
        await self.cluster.scheduler.close(reason="no more workers")

    async def _look(self) -> None:
        """Look at each job once; submit those that are missing."""
        now = time.monotonic()
        workers = {worker.name for worker in self.cluster.scheduler.workers.values()}
        listed = await self._listed(now)
        n_up = n_queued = 0
        for name, job in list(self.cluster.workers.items()):
            if job.refusal is not None:
                await self._note_refusal(name, job, now)
            elif self._is_up(name, job, workers, now):
                n_up += 1
                self.n_failed_starts = 0
            elif job.gone_since is not None:
                if now - job.gone_since >= LOST_AFTER_S:
                    self._log_loss(job)
                    await self._remove(name, job)
            elif (
                listed is not None and job.submitted < self._queue_seen and job.job_id not in listed
            ):
                await self._note_failed_start(name, job, now, n_up)
            else:
                n_queued += 1
        self.n_queued = n_queued
        if self._refusal is not None and n_up + n_queued == 0:
            self.failure = f"the batch system must accept jobs; it refused: {self._refusal}. Change compute.queue, compute.account, compute.cores, compute.memory or compute.walltime."
        elif self.failure is None and not self.settings.adaptive and now >= self._submit_after:
            missing = self.settings.n_jobs - len(self.cluster.worker_spec)
            if missing > 0:
                self._refusal = None
                self.cluster.scale(jobs=self.settings.n_jobs)

    async def _listed(self, now: float) -> set[str] | None:
        """Return the jobs in the queue; None where it is not time yet, or the batch system is silent."""
        if now - self._queue_seen < QUEUE_INTERVAL_S:
            return None
        found = await asyncio.to_thread(queues.queued_jobs, self.settings.launcher, self.user)
        if found is None:
            log.warning("the batch system does not answer; jobs go on")
        # A job submitted after the listing began may be missing in it.
        self._queue_seen = now
        return found

    def _is_up(self, name: str, job: PoolJob, workers: set[str], now: float) -> bool:
        """Return whether a job has a worker; note since when it has none."""
        n_workers = self.settings.workers_per_job
        names = {name} if n_workers == 1 else {f"{name}-{i}" for i in range(n_workers)}
        if names & workers:
            if not job.was_up:
                job.was_up, job.up_since = True, now
            job.gone_since = None
            return True
        if job.was_up and job.gone_since is None:
            job.gone_since = now
        return False

    def _log_loss(self, job: PoolJob) -> None:
        """Say that a job is gone, and whether its workers left on time."""
        times = self.settings.lifetime_and_stagger
        assert job.gone_since is not None
        seen = job.gone_since - job.up_since
        if times is not None and seen >= times[0] - times[1] - SEEN_LATE_S:
            log.info("job %s has served its time; another one takes its place", job.job_id)
        else:
            log.warning("job %s was lost; another one takes its place", job.job_id)

    async def _remove(self, name: str, job: PoolJob) -> None:
        """Cancel a job and forget it; the next one gets another name."""
        self.cluster.workers.pop(name, None)
        self.cluster.worker_spec.pop(name, None)
        await job.close()

    async def _note_refusal(self, name: str, job: PoolJob, now: float) -> None:
        """Note why the batch system refused a job; wait before the next one."""
        if self._refusal != job.refusal:
            log.warning("a job was refused: %s", job.refusal)
        self._refusal = job.refusal
        self._submit_after = now + RETRY_AFTER_S
        await self._remove(name, job)

    async def _note_failed_start(self, name: str, job: PoolJob, now: float, n_up: int) -> None:
        """Count a job that left the queue and never had a worker."""
        self.n_failed_starts += 1
        quoted = log_tail(self.logs, job.job_id)
        log.warning("job %s ended before its workers were up%s", job.job_id, quoted)
        await self._remove(name, job)
        self._submit_after = now + (RETRY_AFTER_S if n_up else 0)
        if self.n_failed_starts >= max(MAX_FAILED_STARTS, self.settings.n_jobs):
            self.failure = f"jobs must start workers; {self.n_failed_starts} in a row ended without one{quoted}. Look into {self.logs}, and at compute.python and compute.job_script_prologue."


def log_tail(logs: Path, job_id: str | None) -> str:
    """Return the last lines that a job wrote, for a message; empty where it wrote none."""
    # Not those of job 11 for job 1.
    pattern = re.compile(rf"(?<!\d){re.escape(job_id or '')}(?!\d)")
    files = [path for path in sorted(logs.glob("*")) if job_id and pattern.search(path.name)]
    lines = [
        line.strip()
        for path in files
        if path.is_file()
        for line in path.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    return f" ({' / '.join(lines[-N_LOG_LINES:])})" if lines else ""
