"""What a batch system says of our jobs: which are in its queue, and its own words when it refuses."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

from workflow.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Jobs that end on a node that does not answer are listed for as long; they were cancelled already.
SLURM_LIVING = "PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED,RESIZING"
#: Commands that list the jobs of this user, one a line, the identifier first.  Those of Slurm and
#: Grid Engine have been run; the others are from their manuals.
LISTING = {
    "slurm": ["squeue", "--me", "--noheader", "--format=%A", f"--states={SLURM_LIVING}"],
    "pbs": ["qselect", "-u", "{user}"],
    "lsf": ["bjobs", "-noheader", "-o", "jobid"],
    "sge": ["qstat", "-u", "{user}"],
    "htcondor": ["condor_q", "{user}", "-autoformat:,", "ClusterId", "ProcId"],
}
#: Commands that take the identifiers of jobs to cancel.
CANCELLING = {
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


def queued(launcher: str, user: str) -> set[str] | None:
    """Ask the batch system for our jobs; None where it does not answer."""
    command = [word.format(user=user) for word in LISTING[launcher]]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return job_ids(answer.stdout) if answer.returncode == 0 else None


def cancel(launcher: str, user: str, jobs: Iterable[str], *, patience_s: float) -> set[str]:
    """Cancel jobs and wait until they have left the queue; return those that have not."""
    deadline = time.monotonic() + patience_s
    left = set(jobs)
    first = True
    while left:
        known = queued(launcher, user)
        if known is not None:
            left &= known
        if left and (first or known is None):
            subprocess.run(
                [*CANCELLING[launcher], *sorted(left)],
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


def own_words(err: Exception) -> str:
    r"""Return what a batch system's command said when it failed, in one line.

    Examples
    --------
    >>> own_words(RuntimeError("Command exited...\nstderr:\nsbatch: error: invalid partition\n\n"))
    'sbatch: error: invalid partition'
    """
    if isinstance(err, FileNotFoundError):
        return f"{err.filename} is not installed here"
    words = str(err).rpartition("stderr:\n")[2]
    return one_line(words or err)
