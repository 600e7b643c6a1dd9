"""Workers in jobs of a batch system: Slurm, PBS, LSF, Grid Engine, HTCondor, through dask-jobqueue."""

from __future__ import annotations

import contextlib
import getpass
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client

from workflow.compute import queues
from workflow.compute.job_pool import JobPool, PoolJob
from workflow.compute.scheduler import CONNECT_TIMEOUT, TCP_TIMEOUT, expect_no_answer
from workflow.compute.scripts import (
    CLUSTER_CLASSES,
    COMM_TIMEOUT,
    import_jobqueue,
    job_class,
    job_options,
    log_directory,
)
from workflow.compute.security import key_folder, security_of, worker_key_files
from workflow.compute.watchdog import Watchdog
from workflow.errors import ComputeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: How long jobs may take to leave the queue at the end [s].
LEAVE_PATIENCE_S = 60.0
#: How long the client looks for a scheduler, in this same process, that was closed [s].
CLIENT_TIMEOUT_S = 5
#: How long closing the client may take, which forgets each of some ten thousand tasks first [s].
CLOSE_TIMEOUT_S = 120
#: Time between two messages while there is no worker [s].
WAITING_LINE_S = 60.0
#: An adaptive number of jobs follows the work over minutes: a new job has to queue.
ADAPTIVE = {"interval": "10s", "wait_count": 12, "target_duration": "300s"}
#: Of the scheduler, whatever the user's own configuration of Dask says.
SCHEDULER_CONFIG = {
    # Jobs may wait in the queue for hours; the job pool finds out when there can be no more.
    "distributed.scheduler.no-workers-timeout": None,
    CONNECT_TIMEOUT: COMM_TIMEOUT,
    TCP_TIMEOUT: COMM_TIMEOUT,
}


@contextlib.contextmanager
def batch_client(settings: ComputeSettings) -> Iterator[Client]:
    """Submit jobs and open a client on their workers; leave no job behind.

    Parameters
    ----------
    settings : ComputeSettings
        The ``compute`` section.

    Yields
    ------
    distributed.Client
        With one worker at least; the others come as the queue lets them.

    Raises
    ------
    ComputeError
        If jobs are refused, or end without a worker.
    """
    user, logs = getpass.getuser(), log_directory(settings)
    watchdog = Watchdog(queues.CANCEL_COMMANDS[settings.launcher])
    is_clean = False
    try:
        with key_folder(logs) as keys:
            watchdog.add_keys(keys)
            with _cluster(settings, keys, watchdog) as cluster:
                pool = JobPool(cluster, settings, user, logs)
                try:
                    client = Client(cluster, timeout=CLIENT_TIMEOUT_S, set_as_default=False)
                    try:
                        cluster.sync(pool.start)
                        _wait_for_worker(cluster, pool)
                        yield client
                    finally:
                        client.close(timeout=CLOSE_TIMEOUT_S)
                except Exception as err:
                    if pool.failure is None:
                        raise
                    raise ComputeError(pool.failure) from err
                finally:
                    cluster.sync(pool.stop)
            left = queues.cancel(
                settings.launcher, user, watchdog.jobs, patience_s=LEAVE_PATIENCE_S
            )
        is_clean = not left
        if left:
            log.warning("jobs are still in the queue: %s", ", ".join(sorted(left)))
    finally:
        watchdog.close(is_clean=is_clean)


@contextlib.contextmanager
def _cluster(settings: ComputeSettings, keys: Path, watchdog: Watchdog) -> Iterator[Any]:
    """Open a cluster of dask-jobqueue with its scheduler in this process."""
    cluster_class = getattr(import_jobqueue(), CLUSTER_CLASSES[settings.launcher])
    security = security_of(settings)
    if security is not None:
        worker_key_files(security, keys)
    options = {
        **job_options(settings),
        "job_cls": job_class(cluster_class.job_cls, settings, PoolJob, watchdog=watchdog),
        "name": f"overcluster-{uuid.uuid4().hex[:8]}",
        "security": security,
        "silence_logs": "critical",
        "scheduler_options": {
            "dashboard_address": "127.0.0.1:0",
            "dashboard": settings.dashboard,
        },
    }
    config = {
        **SCHEDULER_CONFIG,
        "distributed.scheduler.allowed-failures": settings.failures,
    }
    with dask.config.set(config), cluster_class(**options) as cluster:
        if settings.adaptive:
            per_job = settings.workers_per_job
            cluster.adapt(
                minimum=settings.n_workers_min,
                maximum=settings.n_jobs * per_job,
                **ADAPTIVE,
            )
        try:
            yield cluster
        finally:
            expect_no_answer(cluster)


def _wait_for_worker(cluster: Any, pool: JobPool) -> None:
    """Wait for the first worker, as long as jobs are in the queue."""
    started = last_line = time.monotonic()
    while not cluster.scheduler.workers:
        if pool.failure is not None:
            raise ComputeError(pool.failure)
        now = time.monotonic()
        if now - last_line >= WAITING_LINE_S:
            last_line = now
            log.info("no worker after %.0f s; %d jobs in the queue", now - started, pool.n_queued)
        time.sleep(0.1)
