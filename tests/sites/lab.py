"""What the tests on real batch systems share: starting one, runs on it, and moments to strike at."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from tests.conftest import PROJECT
from workflow.engine.partitions import partitions
from workflow.runstore.journal import Journal

HERE = Path(__file__).resolve().parent
#: Several dozen tasks in each step, and a quick tree.
SETTINGS = {
    "block_rows": 100,
    "overcluster": {"n_centroids": 60},
    "tree": {"method": "density", "n_resamples": 0},
}
#: One core, and what a worker needs.
JOB = {
    "cores": 1,
    "memory": "1500 MiB",
    "walltime": "00:10:00",
    "interface": "lo",
    # Jobs import what is tested, not what is installed.
    "job_script_prologue": [f"export PYTHONPATH={PROJECT}"],
}
#: Images of the file that is clustered, and tasks of each step that reads them all.
N_IMAGES = 20_000
N_TASKS = len(partitions(N_IMAGES, SETTINGS["block_rows"]))
#: Where the tasks of these steps are noted: how their keys begin -> journal in the run folder.
JOURNALS = {
    "momentstask": "pca/moments.jsonl",
    "projectiontask": "projection/blocks.jsonl",
    "assigntask": "overcluster/assign-0.jsonl",
}
#: Name of the jobs of the run that waits for their walltime while other tests run.
WAITING = "walltime"
#: Longest that anything here may take [s].
PATIENCE_S = 180


def free_ports(n):
    """Return the first of `n` consecutive free ports below those the system gives away."""
    for first in random.sample(range(15_000, 30_000, 10), 200):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + n):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise OSError


def wait_until(true, patience_s=PATIENCE_S, every_s=0.05, meanwhile=None):
    """Wait until something is so; return what made it so.

    A command that is to run meanwhile fails the test as soon as it has ended.
    """
    deadline = time.monotonic() + patience_s
    while not (found := true()):
        if meanwhile is not None and meanwhile.process.poll() is not None:
            pytest.fail(
                f"the run ended before what was waited for: {meanwhile.messages.read_text()}"
            )
        assert time.monotonic() < deadline, f"not so after {patience_s} s"
        time.sleep(every_s)
    return found


def call(*words, **kwargs):
    """Run a command; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{words}: {done.stderr or done.stdout}"
    return done.stdout


def entries(folder, step):
    """Return the indices of the tasks of a step that the run's journal has noted."""
    return set(Journal.read(folder / "run" / JOURNALS[step])[1])


def begun(folder, step):
    """Return the tasks of a slow step that jobs have begun: job -> indices."""
    path = folder / f"begun-{step}.txt"
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        job, key = line.split()
        found.setdefault(job, set()).add(int(key.rpartition("-")[2]))
    return found


class Command:
    """The command line in a process of its own, its messages in a file.

    All that were started, in `started`, are ended after each test, except one that `waits`.
    """

    started: ClassVar[list[Command]] = []
    waits = False

    def __init__(self, folder, *words, **kwargs):
        self.folder = folder
        self.messages = folder / f"messages-{len(list(folder.glob('messages-*')))}.txt"
        self.out = folder / "stdout.txt"
        with self.messages.open("w") as messages, self.out.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workflow", *map(str, words)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdout=out,
                stderr=messages,
                start_new_session=True,
                **kwargs,
            )
        self.started.append(self)

    def is_stopped(self):
        """Return whether every thread of it stands still."""
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0]
            for task in Path(f"/proc/{self.process.pid}/task").iterdir()
        ]
        return set(states) == {"T"}

    def wait(self, status=0):
        """Wait for the end; return what was said."""
        try:
            found = self.process.wait(PATIENCE_S)
        finally:
            self.end()
        said = self.messages.read_text()
        assert found == status, said
        assert "Traceback" not in said
        return said

    def wait_for(self, text):
        """Wait until it has said something."""
        wait_until(lambda: text in self.messages.read_text(), meanwhile=self)

    def end(self):
        """Kill what is left of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def write_site(folder, launcher, **compute):
    """Write a site file."""
    section = {"launcher": launcher, "log_directory": str(folder / "logs"), **compute}
    path = folder / f"{launcher}.yaml"
    path.write_text(yaml.safe_dump({"compute": section}))
    return path


def write_settings(folder):
    """Write the settings that all runs have."""
    path = folder / "settings.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def slow_step(folder, step, n_jobs):
    """Let workers of a slow site take their time for one step, see `slow_step.py`."""
    made = folder / "slow-step.new"
    made.write_text(f"{step} {n_jobs}")
    made.rename(folder / "slow-step.txt")


def hold_step(folder, step):
    """Let no task of a step run before `no_slow_step`, not for want of so many jobs."""
    slow_step(folder, step, n_jobs=10**6)


def no_slow_step(folder):
    """Let workers run as others do."""
    (folder / "slow-step.txt").unlink(missing_ok=True)


def slow_site(folder, launcher, **compute):
    """Write a site file whose workers know slow steps."""
    file = shlex.quote(str(folder / "slow-step.txt"))
    prologue = [*compute.pop("job_script_prologue"), f"export OVERCLUSTER_SLOW_STEP={file}"]
    preload = ["--preload", str(HERE / "slow_step.py")]
    return write_site(
        folder, launcher, **compute, job_script_prologue=prologue, worker_extra_args=preload
    )


@contextlib.contextmanager
def frozen(command, step, jobs):
    """Hold a run that is in the middle of its slow step, while something strikes jobs of it.

    The scheduler is in the process that is stopped, so that nothing is handed
    out, and no result noted, until it goes on.  Yields the tasks that were
    noted; each of the jobs has begun another one.
    """
    folder, pid = command.folder, command.process.pid
    while True:
        wait_until(lambda: len(entries(folder, step)) > 2, every_s=0.02, meanwhile=command)
        os.kill(pid, signal.SIGSTOP)
        wait_until(command.is_stopped, every_s=0.005)
        done = entries(folder, step)
        assert len(done) < N_TASKS, f"too late to strike: all {N_TASKS} tasks of {step} are noted"
        if all(begun(folder, step).get(job, set()) - done for job in jobs):
            break
        # One of them has just given back all that it had.
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    try:
        yield done
    finally:
        command.process.send_signal(signal.SIGCONT)


def start_run(folder, images, site, **kwargs):
    """Start a run on a site."""
    settings = write_settings(folder)
    words = ("run", images, "--out", folder / "run", "--config", settings, "--compute", site)
    return Command(folder, *words, **kwargs)


def processes_of_job(job):
    """Return the processes that run in a job."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            in_job = f"SLURM_JOB_ID={job}".encode() in environment
            if in_job or re.match(rf"slurmstepd: \[{job}\.", command):
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid()]
