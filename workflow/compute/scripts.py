"""What a batch system is given: options in dask-jobqueue's words, and the job script they make."""

from __future__ import annotations

import math
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

from workflow.compute.extras import import_extra
from workflow.config.compute import seconds_of
from workflow.errors import ComputeError

if TYPE_CHECKING:
    from types import ModuleType

    from workflow.config import ComputeSettings

#: Classes of dask-jobqueue.
CLUSTER_CLASSES = {
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "lsf": "LSFCluster",
    "sge": "SGECluster",
    "htcondor": "HTCondorCluster",
}
#: What one is charged to is called so elsewhere.
ACCOUNT_WORDS = {"lsf": "project", "sge": "project"}
#: A worker leaves nothing behind when its scheduler is gone for so long [s].
DEATH_TIMEOUT_S = 60
#: Workers hold small results only, so that there is nothing to spill; a disk may be none at all.
WORKER_ENVIRONMENT = (
    "export DASK_DISTRIBUTED__WORKER__MEMORY__TARGET=False",
    "export DASK_DISTRIBUTED__WORKER__MEMORY__SPILL=False",
)
#: A job also holds the process that watches each worker.
WORKERS_SHARE_OF_MEMORY = 0.95


def import_jobqueue() -> ModuleType:
    """Import dask-jobqueue without what it does to Ctrl-C.

    Raises
    ------
    ComputeError
        If it is not installed.
    """
    name = "dask_jobqueue"
    if name in sys.modules:
        return sys.modules[name]
    if threading.current_thread() is not threading.main_thread():
        msg = "the package dask_jobqueue must first be imported by the main thread; this is another one. Call `import dask_jobqueue` at the start of the program."
        raise ComputeError(msg)
    # It sets a handler of its own when it is imported, which ends the process without a word.
    before = signal.getsignal(signal.SIGINT)
    try:
        return import_extra(name, "batch systems", "hpc")
    finally:
        signal.signal(signal.SIGINT, before)


def log_directory(settings: ComputeSettings) -> Path:
    """Return the folder of job logs, as a worker must name it."""
    return Path(settings.log_directory).expanduser().absolute()


def job_options(settings: ComputeSettings) -> dict[str, Any]:
    """Return the settings in the words of dask-jobqueue's classes."""
    options: dict[str, Any] = {
        "cores": settings.cores,
        "processes": settings.workers_per_job,
        "memory": f"{settings.job_memory} B",
        "queue": settings.queue,
        "walltime": settings.walltime,
        ACCOUNT_WORDS.get(settings.launcher, "account"): settings.account,
        "job_name": settings.job_name,
        "interface": settings.interface,
        "python": settings.python,
        "log_directory": str(log_directory(settings)),
        "local_directory": settings.local_directory,
        "death_timeout": DEATH_TIMEOUT_S,
        "job_script_prologue": [*WORKER_ENVIRONMENT, *settings.job_script_prologue],
        "job_extra_directives": list(settings.job_extra_directives),
        "job_directives_skip": list(settings.job_directives_skip),
        "worker_extra_args": worker_arguments(settings),
    }
    if settings.launcher == "slurm":
        # dask-jobqueue rounds up to whole GiB; Slurm says M and means MiB.
        options["job_mem"] = f"{-(-settings.job_memory // 2**20)}M"
    if settings.launcher in ("pbs", "sge"):
        options["resource_spec"] = settings.resource_spec
    if settings.launcher == "lsf":
        options["lsf_units"] = settings.lsf_units
        if settings.walltime is not None:
            # LSF knows hours and minutes only.
            minutes = math.ceil(seconds_of(settings.walltime) / 60)
            options["walltime"] = f"{minutes // 60:02d}:{minutes % 60:02d}"
    if settings.launcher == "htcondor":
        pairs = (line.partition("=") for line in settings.job_extra_directives)
        options["job_extra_directives"] = {key.strip(): text.strip() for key, _, text in pairs}
        options["disk"] = f"{2**30 if settings.disk == 'auto' else settings.disk} B"
        # HTCondor has no queues, accounts or walltimes of this kind.
        for name in ("queue", "walltime", "account"):
            del options[name]
    return options


def worker_arguments(settings: ComputeSettings) -> list[str]:
    """Return further arguments of ``dask worker``: when it leaves, and no web pages for the network."""
    arguments = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    times = settings.lifetime_and_stagger
    if times is not None:
        lifetime, stagger = (max(1, round(seconds)) for seconds in times)
        arguments += ["--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{stagger}s"]
    return [*arguments, *settings.worker_extra_args]


def worker_memory_of_job(settings: ComputeSettings) -> int:
    """Return the memory limit of each worker of a job [bytes]."""
    if settings.memory_limit != "auto":
        return settings.memory_limit
    return share_of_workers(settings.job_memory, settings.workers_per_job)


def share_of_workers(memory: int, n_workers: int) -> int:
    """Return the limit of each of some workers that share an amount of memory [bytes]."""
    return int(memory * WORKERS_SHARE_OF_MEMORY) // n_workers


def job_script(settings: ComputeSettings) -> str:
    """Return the job script of a site, with a place for the scheduler's address.

    Raises
    ------
    ComputeError
        If dask-jobqueue is not installed.
    """
    jobqueue = import_jobqueue()
    cluster = getattr(jobqueue, CLUSTER_CLASSES[settings.launcher])
    with dask.config.set({"logging.distributed": "error"}):
        job = job_class(cluster.job_cls, settings)(
            "tls://SCHEDULER:PORT" if settings.tls != "off" else "tcp://SCHEDULER:PORT",
            name="overcluster-N",
            **job_options(settings),
        )
    script: str = job.job_script()
    return script


class LimitedJob:
    """A job whose workers have the memory limit that the settings say."""

    memory_of_worker: int

    @property
    def worker_process_memory(self) -> str:
        """Return the limit as an argument of ``dask worker``."""
        return f"{self.memory_of_worker}B"


def job_class(base: type, settings: ComputeSettings, *mixins: type, **members: Any) -> type:
    """Return one of dask-jobqueue's job classes with our memory limit and what else is mixed in."""
    limit = {"memory_of_worker": worker_memory_of_job(settings)}
    return type(f"Our{base.__name__}", (*mixins, LimitedJob, base), {**limit, **members})
