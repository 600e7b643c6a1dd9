"""Job scripts: the settings as options of dask-jobqueue, and the script that it makes of them."""

from __future__ import annotations

import importlib
import math
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask

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
#: Batch systems with another word for the account.
ACCOUNT_WORDS = {"lsf": "project", "sge": "project"}
#: A worker ends when its scheduler has been gone for so long [s].
DEATH_TIMEOUT_S = 60
#: How long a connection may take to be made, or be silent: hundreds of workers may start at once.
COMM_TIMEOUT = "60s"
#: Environment of workers on other machines.  They hold small results only and spill nothing; there
#: may be no local disk.
WORKER_ENVIRONMENT = {
    "DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "False",
    "DASK_DISTRIBUTED__WORKER__MEMORY__SPILL": "False",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": COMM_TIMEOUT,
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": COMM_TIMEOUT,
}
#: A job also holds Dask's nannies.
WORKERS_SHARE_OF_MEMORY = 0.95


def import_hpc(name: str, what: str) -> ModuleType:
    """Import a package of the extra ``hpc``; `what` needs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as err:
        if err.name != name:
            raise
        package = name.replace("_", "-")
        msg = f"{what} must be reached through {package}, which is not installed. Install overcluster[hpc]."
        raise ComputeError(msg) from None


def import_jobqueue() -> ModuleType:
    """Import dask-jobqueue, and undo what it does to Ctrl-C."""
    name = "dask_jobqueue"
    if name in sys.modules:
        return sys.modules[name]
    if threading.current_thread() is not threading.main_thread():
        msg = "the package dask_jobqueue must first be imported by the main thread; this is another one. Call `import dask_jobqueue` at the start of the program."
        raise ComputeError(msg)
    # Its own handler of Ctrl-C ends the process without a message.
    before = signal.getsignal(signal.SIGINT)
    try:
        return import_hpc(name, "batch systems")
    finally:
        signal.signal(signal.SIGINT, before)


def log_directory(settings: ComputeSettings) -> Path:
    """Return the folder of job logs as an absolute path, which is the same for workers."""
    return Path(settings.log_directory).expanduser().absolute()


def job_options(settings: ComputeSettings) -> dict[str, Any]:
    """Return the settings as options of dask-jobqueue's classes."""
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
        "job_script_prologue": [
            *(f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()),
            *settings.job_script_prologue,
        ],
        "job_extra_directives": list(settings.job_extra_directives),
        "job_directives_skip": list(settings.job_directives_skip),
        "worker_extra_args": worker_arguments(settings),
    }
    if settings.launcher == "slurm":
        # dask-jobqueue rounds up to whole GiB; Slurm's M is a MiB.
        options["job_mem"] = f"{-(-settings.job_memory // 2**20)}M"
    if settings.launcher in ("pbs", "sge"):
        options["resource_spec"] = settings.resource_spec
    if settings.launcher == "lsf":
        options["lsf_units"] = settings.lsf_units
        if settings.walltime is not None:
            # LSF takes hours and minutes only.
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
    """Return further arguments of ``dask worker``: its lifetime, and no web pages on the network."""
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
    """Return the memory limit of each of `n_workers` that share an amount of memory [bytes]."""
    return int(memory * WORKERS_SHARE_OF_MEMORY) // n_workers


def job_script(settings: ComputeSettings) -> str:
    """Return the job script of a site, with a placeholder for the scheduler's address.

    Parameters
    ----------
    settings : ComputeSettings
        The ``compute`` section, of a batch system.

    Returns
    -------
    str
        What is given to the command that submits a job.

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
    """A job whose workers have the memory limit of the settings."""

    memory_of_worker: int

    @property
    def worker_process_memory(self) -> str:
        """Return the limit as an argument of ``dask worker``."""
        return f"{self.memory_of_worker}B"


def job_class(base: type, settings: ComputeSettings, *mixins: type, **members: Any) -> type:
    """Return a job class of dask-jobqueue with our memory limit and other mixins."""
    limit = {"memory_of_worker": worker_memory_of_job(settings)}
    return type(f"Our{base.__name__}", (*mixins, LimitedJob, base), {**limit, **members})
