"""What the tests on real batch systems share: starting one, runs on it, and moments to strike at."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from tests.conftest import PROJECT

HERE = Path(__file__).resolve().parent
#: Many small tasks, so that whatever strikes is in the middle of some; and a quick tree.
SETTINGS = {
    "block_rows": 20,
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
#: Longest that anything here may take [s].
PATIENCE_S = 120


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


def wait_until(true, patience_s=PATIENCE_S, every_s=0.05):
    """Wait until something is so; return what made it so."""
    deadline = time.monotonic() + patience_s
    while not (found := true()):
        assert time.monotonic() < deadline, f"not so after {patience_s} s"
        time.sleep(every_s)
    return found


def call(*words, **kwargs):
    """Run a command; return what it printed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, **kwargs)
    assert done.returncode == 0, f"{words}: {done.stderr or done.stdout}"
    return done.stdout


def entries(run, journal):
    """Return how many tasks a journal has noted."""
    path = run / journal
    return len(path.read_text().splitlines()) - 1 if path.is_file() else 0


class Command:
    """The command line in a process of its own, its messages in a file."""

    def __init__(self, folder, *words, **kwargs):
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
