"""Commands of batch systems: list our jobs, cancel them, and explain a refusal."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

from workflow.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Without COMPLETING: jobs on a node that does not answer stay there, though they were cancelled.
SLURM_STATES = "PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED,RESIZING"
#: Commands that list the jobs of a user, one on a line, the identifier first.  Those of Slurm and
#: Grid Engine have been run; the others are from their manuals.
LIST_COMMANDS = {
    "slurm": ["squeue", "--me", "--noheader", "--format=%A", f"--states={SLURM_STATES}"],
    "pbs": ["qselect", "-u", "{user}"],
    "lsf": ["bjobs", "-noheader", "-o", "jobid"],
    "sge": ["qstat", "-u", "{user}"],
    "htcondor": ["condor_q", "{user}", "-autoformat:,", "ClusterId", "ProcId"],
}
#: Commands that take the identifiers of jobs to cancel.
CANCEL_COMMANDS = {
    "slurm": ["scancel"],
    "pbs": ["qdel"],
    "lsf": ["bkill"],
    "sge": ["qdel"],
    "htcondor": ["condor_rm"],
}
#: A batch system that is busy may take long to answer [s].
ANSWER_TIMEOUT_S = 60


def job_ids(listing: str) -> set[str]:
    r"""Return the identifiers in what a listing command printed.

    Examples
    --------
    >>> sorted(job_ids("12\n13\n")), sorted(job_ids("7.server\n")), sorted(job_ids("4, 0\n"))
    (['12', '13'], ['7'], ['4.0'])
    >>> sorted(job_ids("job-ID prior name\n-----------\n     31 0.5 dask-worke root\n"))
    ['31']
    """
    found = re.findall(r"^\s*(\d+)(?:,\s*(\d+))?", listing, flags=re.MULTILINE)
    return {f"{job}.{part}" if part else job for job, part in found}


def queued_jobs(launcher: str, user: str) -> set[str] | None:
    """Return the jobs of a user in the queue; None where the batch system does not answer."""
    command = [word.format(user=user) for word in LIST_COMMANDS[launcher]]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return job_ids(done.stdout) if done.returncode == 0 else None


def cancel(launcher: str, user: str, jobs: Iterable[str], *, patience_s: float) -> set[str]:
    """Cancel jobs and wait until they have left the queue; return those that have not."""
    deadline = time.monotonic() + patience_s
    left = set(jobs)
    first = True
    while left:
        known = queued_jobs(launcher, user)
        if known is not None:
            left &= known
        if left and (first or known is None):
            subprocess.run(
                [*CANCEL_COMMANDS[launcher], *sorted(left)],
                capture_output=True,
                timeout=ANSWER_TIMEOUT_S,
                check=False,
            )
        if time.monotonic() > deadline:
            break
        if left:
            time.sleep(0.3)
        first = False
    return left


def refusal_message(err: Exception) -> str:
    r"""Return what a batch system's command printed when it failed, in one line.

    Examples
    --------
    >>> refusal_message(RuntimeError("Command exited...\nstderr:\nsbatch: error: invalid partition\n\n"))
    'sbatch: error: invalid partition'
    """
    if isinstance(err, FileNotFoundError):
        return f"{err.filename} is not installed here"
    printed = str(err).rpartition("stderr:\n")[2]
    return one_line(printed or err)
