"""Keeps the number of batch jobs: replaces those that are lost, and gives up with the site's own words."""

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

    from workflow.compute.guardian import Guardian
    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: Time between two looks at the workers, and at the queue [s].
LOOK_S, QUEUE_LOOK_S = 1.0, 10.0
#: A job whose workers have all been gone for so long is replaced: a worker that was restarted in
#: its place is back sooner [s].
LOST_AFTER_S = 5.0
#: A refused job is asked for again after this time, as long as others work [s].
ASK_AGAIN_S = 60.0
#: When so many jobs, and as many as there are to be, have ended without a worker one after the
#: other, the next ones will, too.
MOST_FAILED_STARTS = 3
#: Lines of a job's log that are told.
LOG_LINES = 3


class KeptJob:
    """A job that remembers when it was seen, and notes a refusal instead of raising it.

    Mixed into dask-jobqueue's job classes: one that raises would be logged at
    length, counted as there, and stumbled over when the cluster is closed.
    """

    guardian: Guardian
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
            self.refusal = queues.own_words(err)
            await ProcessInterface.start(cast("ProcessInterface", self))
        else:
            assert self.job_id is not None
            self.guardian.watch_over(self.job_id)

    async def close(self) -> None:
        """Cancel the job."""
        await super().close()  # type: ignore[misc]
        await ProcessInterface.close(cast("ProcessInterface", self))


class Fleet:
    """Looks after the jobs of one cluster of dask-jobqueue, inside its event loop.

    Parameters
    ----------
    cluster : dask_jobqueue.core.JobQueueCluster
        Its jobs are `KeptJob`.
    settings : ComputeSettings
        How many jobs there are to be.
    user : str
        Whose jobs are listed.
    logs : Path
        Where jobs write their logs.

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
        self._ask_after = 0.0
        self._queue_seen = time.monotonic()
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Begin to look after the jobs; runs in the event loop of the cluster."""
        self._task = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """Stop looking after them."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _keep(self) -> None:
        """Look now and then, until there can be no more workers."""
        while self.failure is None:
            try:
                await self._look()
            except Exception as err:  # noqa: BLE001 - nobody would notice that jobs are not kept any more
                log.warning("jobs could not be looked after: %s", one_line(err))
            await asyncio.sleep(LOOK_S)
        # Whoever waits for results of this scheduler is told that it is gone.
        await self.cluster.scheduler.close(reason="no more workers")

    async def _look(self) -> None:
        """Look at each job once; ask for those that are missing."""
        now = time.monotonic()
        here = {worker.name for worker in self.cluster.scheduler.workers.values()}
        listed = await self._listed(now)
        up = waiting = 0
        for name, job in list(self.cluster.workers.items()):
            if job.refusal is not None:
                await self._refused(name, job, now)
            elif self._is_up(name, job, here, now):
                up += 1
                self.n_failed_starts = 0
            elif job.gone_since is not None:
                if now - job.gone_since >= LOST_AFTER_S:
                    self._tell_gone(job)
                    await self._drop(name, job)
            elif (
                listed is not None and job.submitted < self._queue_seen and job.job_id not in listed
            ):
                await self._never_came(name, job, now, up)
            else:
                waiting += 1
        self.n_queued = waiting
        if self._refusal is not None and up + waiting == 0:
            self.failure = f"the batch system must accept jobs; it refused: {self._refusal}. Change compute.queue, compute.account, compute.cores, compute.memory or compute.walltime."
        elif self.failure is None and not self.settings.adaptive and now >= self._ask_after:
            missing = self.settings.n_jobs - len(self.cluster.worker_spec)
            if missing > 0:
                self._refusal = None
                self.cluster.scale(jobs=self.settings.n_jobs)

    async def _listed(self, now: float) -> set[str] | None:
        """Return the jobs in the queue where it is time to look and the batch system answers."""
        if now - self._queue_seen < QUEUE_LOOK_S:
            return None
        found = await asyncio.to_thread(queues.queued, self.settings.launcher, self.user)
        if found is None:
            log.warning("the batch system does not answer; jobs go on")
        # A job submitted after the question may not be in the answer.
        self._queue_seen = now
        return found

    def _is_up(self, name: str, job: KeptJob, here: set[str], now: float) -> bool:
        """Return whether a job has a worker; note since when it has none."""
        n_workers = self.settings.workers_per_job
        names = {name} if n_workers == 1 else {f"{name}-{i}" for i in range(n_workers)}
        if names & here:
            if not job.was_up:
                job.was_up, job.up_since = True, now
            job.gone_since = None
            return True
        if job.was_up and job.gone_since is None:
            job.gone_since = now
        return False

    def _tell_gone(self, job: KeptJob) -> None:
        """Say that a job is gone, and whether that was to be expected."""
        times = self.settings.lifetime_and_stagger
        assert job.gone_since is not None
        if times is not None and job.gone_since - job.up_since >= times[0] - times[1] - LOOK_S:
            log.info("job %s has served its time; another one takes its place", job.job_id)
        else:
            log.warning("job %s was lost; another one takes its place", job.job_id)

    async def _drop(self, name: str, job: KeptJob) -> None:
        """Cancel a job and forget it; the next one gets another name."""
        self.cluster.workers.pop(name, None)
        self.cluster.worker_spec.pop(name, None)
        await job.close()

    async def _refused(self, name: str, job: KeptJob, now: float) -> None:
        """Note the batch system's words, and wait before asking again."""
        if self._refusal != job.refusal:
            log.warning("a job was refused: %s", job.refusal)
        self._refusal = job.refusal
        self._ask_after = now + ASK_AGAIN_S
        await self._drop(name, job)

    async def _never_came(self, name: str, job: KeptJob, now: float, up: int) -> None:
        """Count a job that left the queue and never had a worker."""
        self.n_failed_starts += 1
        said = last_words(self.logs, job.job_id)
        log.warning("job %s ended before its workers were up%s", job.job_id, said)
        await self._drop(name, job)
        self._ask_after = now + (ASK_AGAIN_S if up else 0)
        if self.n_failed_starts >= max(MOST_FAILED_STARTS, self.settings.n_jobs):
            self.failure = f"jobs must bring up workers; {self.n_failed_starts} one after the other ended without one{said}. Look into {self.logs}, and at compute.python and compute.job_script_prologue."


def last_words(logs: Path, job_id: str | None) -> str:
    """Return the last lines that a job wrote, for a message; empty where it wrote none."""
    # Not those of job 11 for job 1.
    ours = re.compile(rf"(?<!\d){re.escape(job_id or '')}(?!\d)")
    files = [path for path in sorted(logs.glob("*")) if job_id and ours.search(path.name)]
    lines = [
        line.strip()
        for path in files
        if path.is_file()
        for line in path.read_text(errors="replace").splitlines()
        if line.strip()
    ]
    return f" ({' / '.join(lines[-LOG_LINES:])})" if lines else ""
