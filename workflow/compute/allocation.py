"""Workers in the Slurm job that this command itself runs in, started by srun (or mpiexec)."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from distributed import Client

from workflow.compute.scheduler import open_scheduler
from workflow.compute.scripts import (
    DEATH_TIMEOUT_S,
    WORKER_ENVIRONMENT,
    log_directory,
    share_of_workers,
    worker_arguments,
)
from workflow.errors import ComputeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: Longest time until the first worker: the job runs already, nothing has to queue [s].
START_TIMEOUT_S = 300
#: Longest time that workers may take to end [s].
END_TIMEOUT_S = 20


@contextlib.contextmanager
def allocation_client(settings: ComputeSettings) -> Iterator[Client]:
    """Start workers in all tasks of this job, with the scheduler in this process."""
    if "SLURM_JOB_ID" not in os.environ and settings.worker_command[:1] == ("srun",):
        msg = "the launcher `allocation` must run inside a Slurm job; SLURM_JOB_ID is not set. Put the command into a script for sbatch, or use the launcher slurm."
        raise ConfigError(msg)
    logs = log_directory(settings)
    with open_scheduler(settings, logs) as (cluster, files):
        scheduler: Any = cluster.scheduler
        command = worker_command_line(settings, scheduler.address, files, os.environ)
        with (
            _started(command, logs, cluster) as process,
            Client(cluster, set_as_default=False) as client,
        ):
            deadline = time.monotonic() + START_TIMEOUT_S
            while not scheduler.workers:
                if process.failure is not None or time.monotonic() > deadline:
                    raise ComputeError(process.failure or process.message("no worker has come"))
                time.sleep(0.1)
            try:
                yield client
            except Exception as err:
                if process.failure is None:
                    raise
                raise ComputeError(process.failure) from err


def worker_command_line(
    settings: ComputeSettings,
    address: str,
    files: Mapping[str, str],
    environment: Mapping[str, str],
) -> list[str]:
    """Return the command that starts the workers of every task.

    Parameters
    ----------
    settings : ComputeSettings
        The ``compute`` section.
    address : str
        Address of the scheduler.
    files : mapping of str to str
        Paths of the certificate's files: ``ca_file``, ``cert`` and ``key``, or nothing.
    environment : mapping of str to str
        Slurm's variables of the job: tasks, cores and memory.

    Returns
    -------
    list of str
        Command and arguments.
    """
    cores = int(environment.get("SLURM_CPUS_PER_TASK", settings.threads_per_worker))
    per_task = max(1, cores // settings.threads_per_worker)
    command = list(settings.worker_command)
    if settings.n_workers != "auto":
        command += ["-n", str(-(-settings.n_workers // per_task))]
    command += [settings.python or sys.executable, "-m", "distributed.cli.dask_worker", address]
    command += ["--nworkers", str(per_task), "--nthreads", str(settings.threads_per_worker)]
    command += ["--memory-limit", str(_memory(settings, cores, per_task, environment))]
    command += ["--death-timeout", str(DEATH_TIMEOUT_S)]
    for name, path in files.items():
        command += [f"--tls-{name.replace('_', '-')}", path]
    if settings.local_directory is not None:
        command += ["--local-directory", settings.local_directory]
    if settings.interface is not None:
        command += ["--interface", settings.interface]
    # Workers stay to the end of the job, since they cannot be replaced.
    return command + worker_arguments(settings.model_copy(update={"lifetime": "off"}))


def _memory(
    settings: ComputeSettings, cores: int, per_task: int, environment: Mapping[str, str]
) -> int | str:
    """Return the memory limit of a worker [bytes]: its share of what Slurm gave to its task."""
    if settings.memory_limit != "auto":
        return settings.memory_limit
    # Slurm counts in MiB.
    if "SLURM_MEM_PER_CPU" in environment:
        task = int(environment["SLURM_MEM_PER_CPU"]) * cores
    elif "SLURM_MEM_PER_NODE" in environment:
        tasks = int(environment.get("SLURM_NTASKS", "1"))
        nodes = int(environment.get("SLURM_JOB_NUM_NODES", "1"))
        task = int(environment["SLURM_MEM_PER_NODE"]) // -(-tasks // nodes)
    else:
        return "auto"
    return share_of_workers(task * 2**20, per_task)


class _WorkerProcess:
    """The command that starts the workers, and why it ended."""

    def __init__(self, command: list[str], log_file: Path, cluster: Any) -> None:
        self.log_file, self.cluster = log_file, cluster
        self.failure: str | None = None
        self.is_ending = False
        with log_file.open("w") as output:
            self.process = subprocess.Popen(
                command,
                # srun passes it to the tasks.
                env={**os.environ, **WORKER_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.watcher = threading.Thread(target=self._watch, daemon=True)
        self.watcher.start()

    def message(self, what: str) -> str:
        """Return an error message with the last lines that the command wrote."""
        lines = [line.strip() for line in self.log_file.read_text(errors="replace").splitlines()]
        quoted = " / ".join([line for line in lines if line][-3:]) or "it wrote nothing"
        return f"workers must start in the tasks of this job; {what} ({quoted}). Look into {self.log_file}."

    def _watch(self) -> None:
        """Close the scheduler when all workers are gone, so that nothing waits for them."""
        status = self.process.wait()
        if not self.is_ending:
            self.failure = self.message(f"their command ended with status {status}")
            self.cluster.sync(self.cluster.scheduler.close)

    def end(self) -> None:
        """End the workers."""
        self.is_ending = True
        self.process.terminate()
        try:
            self.process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.watcher.join()


@contextlib.contextmanager
def _started(command: list[str], logs: Path, cluster: Any) -> Iterator[_WorkerProcess]:
    """Start the workers; end them however this ends."""
    logs.mkdir(parents=True, exist_ok=True)
    job = os.environ.get("SLURM_JOB_ID", str(os.getpid()))
    try:
        process = _WorkerProcess(command, logs / f"workers-{job}.log", cluster)
    except OSError as err:
        msg = f"`compute.worker_command` must start processes; {command[0]} does not ({err.strerror}). Set it to the command of your site."
        raise ComputeError(msg) from None
    try:
        yield process
    finally:
        process.end()
