"""Where the work runs: one short schema for every kind of site, with dask-jobqueue's final option names."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from dask.utils import parse_timedelta
from pydantic import BeforeValidator, Field

from workflow.config.fields import AutoInt, Memory, Section

#: Launchers that hand jobs to a batch system.
BATCH_LAUNCHERS = ("slurm", "pbs", "lsf", "sge", "htcondor")
Launcher = Literal[
    "local",
    "address",
    "slurm",
    "pbs",
    "lsf",
    "sge",
    "htcondor",
    "ssh",
    "allocation",
]
#: Settings that workers on this machine are started with; the others are for elsewhere.
LOCAL_SETTINGS = (
    "launcher",
    "n_workers",
    "threads_per_worker",
    "memory_limit",
    "allowed_failures",
    "dashboard",
)
#: Launchers of earlier versions, and settings that only they had.
REMOVED_LAUNCHERS = ("kubernetes", "gateway")
REMOVED_SETTINGS = ("compute.image", "compute.namespace")


def has_use(key: str, launcher: str) -> bool:
    """Return whether a setting is of use at a launcher: on this machine, few of those of `compute` are."""
    section, _, name = key.partition(".")
    return launcher != "local" or section != "compute" or name in LOCAL_SETTINGS


def _texts(value: Any) -> Any:
    """Read one text as a list of one."""
    return (value,) if isinstance(value, str) else value


def seconds_of(text: str) -> float:
    """Return the seconds of ``[DAYS-]HH:MM[:SS]``.

    Examples
    --------
    >>> seconds_of("01:30"), seconds_of("00:10:00"), seconds_of("1-00:00:00")
    (5400.0, 600.0, 86400.0)
    """
    days, _, clock = text.rpartition("-")
    hours, minutes, seconds = (*(int(part) for part in clock.split(":")), 0)[:3]
    return float(int(days or 0) * 86_400 + hours * 3600 + minutes * 60 + seconds)


def _walltime(value: Any) -> Any:
    """Refuse what is not HH:MM:SS; YAML reads a bare 01:30:00 as a number of seconds."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 60:
        value = f"{value // 3600:02d}:{value // 60 % 60:02d}:{value % 60:02d}"
    pattern = r"(\d+-)?\d+:\d{2}(:\d{2})?"
    if value is None or (isinstance(value, str) and re.fullmatch(pattern, value)):
        return value
    msg = "must be a time such as 02:00:00, or null"
    raise ValueError(msg)


def _lifetime(value: Any) -> Any:
    """Read ``"50 minutes"`` as seconds; a bare ``off`` is false to YAML."""
    if value in ("auto", "off") or value is False:
        return value or "off"
    try:
        seconds = parse_timedelta(value, "seconds")
    except (KeyError, TypeError, ValueError, AttributeError):
        seconds = 0
    if seconds > 0:
        return float(seconds)
    msg = "must be auto, off or a time such as 50 minutes"
    raise ValueError(msg)


def _tls(value: Any) -> Any:
    """Read ``on`` and ``off`` as words, which are booleans to YAML."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]


class ComputeSettings(Section):
    """Where the work runs; never changes a result and never makes a step stale."""

    launcher: Launcher = "local"
    """Workers on this machine, a scheduler that runs already (address), a batch system, hosts reached by SSH, or the Slurm job that the command itself runs in (allocation)."""
    address: str | None = None
    """Address of a scheduler that runs already, such as tcp://10.0.0.1:8786."""
    scheduler_file: str | None = None
    """File that a scheduler wrote with --scheduler-file; instead of the address."""
    n_workers: AutoInt = "auto"
    """Worker processes in all, or auto: one for each core here (none for few images: the command itself does the work), one job, one for each host, or one for each task of the allocation."""
    adaptive: bool = False
    """Whether batch jobs come and go with the work between n_workers_min and n_workers, rather than a fixed number."""
    n_workers_min: int = Field(default=1, ge=1)
    """Minimum number of worker processes where it is adaptive."""
    threads_per_worker: int = Field(default=1, ge=1, le=256)
    """Threads of each worker; each computes with one BLAS thread."""
    memory_limit: Memory = "auto"
    """Memory of each worker, such as 4 GiB, or auto: an equal share of the machine or of the job."""
    cores: int = Field(default=1, ge=1, le=4096)
    """Cores of one batch job; it holds cores / threads_per_worker worker processes."""
    memory: Memory = "auto"
    """Memory of one batch job, such as 16 GiB, or auto: 4 GiB for each core."""
    walltime: Annotated[str | None, BeforeValidator(_walltime)] = "01:00:00"
    """Longest time of one batch job; the run may last longer, jobs are replaced."""
    lifetime: Annotated[float | Literal["auto", "off"], BeforeValidator(_lifetime)] = "auto"
    """When a worker leaves its job by itself, such as 50 minutes [s]; auto: well before the walltime, not all at once."""
    queue: str | None = None
    """Queue or partition of batch jobs; null: the site's default."""
    account: str | None = None
    """Account or project that batch jobs are charged to."""
    resource_spec: str | None = None
    """Resources requested from PBS or Grid Engine in their own syntax, instead of cores and memory."""
    disk: Memory = "auto"
    """Disk requested from HTCondor; auto: 1 GiB."""
    lsf_units: Literal["kb", "mb", "gb", "tb"] | None = None
    """Unit of memory in LSF's lsf.conf; null: read from LSF."""
    job_name: str = Field(default="overcluster", pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,14}$")
    """Name of the jobs in the queue, up to 15 characters."""
    job_extra_directives: Texts = ()
    """Further directives of the job script, such as --constraint=ib (HTCondor: KEY = VALUE)."""
    job_directives_skip: Texts = ()
    """Directives that hold one of these texts are left out of the job script."""
    job_script_prologue: Texts = ()
    """Shell commands that a job runs before its workers, such as module load python."""
    worker_extra_args: Texts = ()
    """Further arguments of dask worker."""
    python: str | None = None
    """Python of the workers; null: the one that runs this command, which workers must see."""
    interface: str | None = None
    """Network interface that scheduler and workers talk over, such as ib0; null: the system's choice."""
    log_format: Literal["text", "json"] = "text"
    """How the command line writes messages and progress to stderr: as text, or each as a line of JSON for a log collector."""
    log_directory: str = "overcluster-logs"
    """Folder of job logs and, while the run lasts, of TLS keys only you can read; workers must see it."""
    local_directory: str | None = None
    """Scratch folder of the workers; next to nothing is written there."""
    working_folder: str | None = None
    """Folder in which runs at an address are worked on, which all workers must see; null: overcluster/runs in the user's cache."""
    hosts: Texts = ()
    """Hosts reached by SSH."""
    ssh_username: str | None = None
    """User on those hosts; null: yours here."""
    ssh_port: int = Field(default=22, ge=1, le=65_535)
    """Port of their SSH server."""
    ssh_key_file: str | None = None
    """Private key for them; null: the SSH agent's, or the usual ones."""
    ssh_known_hosts_file: str | None = None
    """File that knows their keys; null: the usual one. An unknown host is refused."""
    worker_command: Texts = ("srun",)
    """Starts one process for each task of the allocation: srun with its arguments, or mpiexec."""
    tls: Annotated[Literal["auto", "on", "off"], BeforeValidator(_tls)] = "auto"
    """Encryption between client, scheduler and workers; auto: on for all that leaves this machine."""
    tls_ca_file: str | None = None
    """The site's certificate authority (PEM); null: a temporary certificate made for the run."""
    tls_cert: str | None = None
    """Certificate (PEM) that goes with it."""
    tls_key: str | None = None
    """Private key (PEM) of that certificate."""
    allowed_failures: AutoInt = "auto"
    """How many workers may die over one task before it counts as the task's fault; auto: 3 here, 10 elsewhere."""
    dashboard: bool = True
    """Whether Dask's dashboard is served, on 127.0.0.1 only."""

    @property
    def is_batch(self) -> bool:
        """Whether jobs are handed to a batch system."""
        return self.launcher in BATCH_LAUNCHERS

    @property
    def workers_per_job(self) -> int:
        """Worker processes of one batch job."""
        return max(1, self.cores // self.threads_per_worker)

    @property
    def n_jobs(self) -> int:
        """Batch jobs of a fixed number of workers; the maximum of an adaptive one."""
        n_workers = self.workers_per_job if self.n_workers == "auto" else self.n_workers
        return -(-n_workers // self.workers_per_job)

    @property
    def job_memory(self) -> int:
        """Memory of one batch job [bytes]."""
        if self.memory != "auto":
            return self.memory
        if self.memory_limit != "auto":
            return self.memory_limit * self.workers_per_job
        return self.cores * 4 * 2**30

    @property
    def failures(self) -> int:
        """How many workers may die over one task."""
        if self.allowed_failures != "auto":
            return self.allowed_failures
        return 3 if self.launcher == "local" else 10

    @property
    def lifetime_and_stagger(self) -> tuple[float, float] | None:
        """Seconds after which a worker leaves, and how far each may be off that; None: never."""
        if self.lifetime == "off" or (self.lifetime == "auto" and self.walltime is None):
            return None
        if self.lifetime == "auto":
            assert self.walltime is not None
            whole = seconds_of(self.walltime)
            # All workers replaced at once would take what they hold with them: the spread is far
            # longer than the half minute that a free queue needs for a new job.
            margin, stagger = min(60.0, whole / 10), whole / 10
            return whole - margin - stagger, stagger
        return self.lifetime, self.lifetime / 5
