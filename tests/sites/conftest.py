"""Images, the run that all others are held against, and a real Slurm."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import picture_set
from tests.sites import lab
from workflow.commands.run import run_workflow
from workflow.config.load import flatten
from workflow.engine.progress import Progress
from workflow.steps import load_config


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """20,000 images of 20 sources in a file."""
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, picture_set(n=lab.N_IMAGES, n_sources=20, seed=3)[0])
    return path


@pytest.fixture(scope="session")
def local_run(images, client, tmp_path_factory):
    """The same run on workers of this machine."""
    loaded = load_config(None, flatten(lab.SETTINGS), environment={})
    out = tmp_path_factory.mktemp("local") / "run"
    return run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))


def require_root():
    """Fail, rather than skip, where a batch system was asked for and cannot be had."""
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail(
            "a batch system is installed and started by root on Debian; this is not so here"
        )


class Slurm:
    """A real Slurm on this machine.

    Node n1 is for jobs that wait for their walltime; the others have two cores each.
    """

    def __init__(self, folder):
        self.folder = folder
        self.environment = {
            "SLURM_LAB_DIR": str(folder),
            "SLURM_LAB_NODES": "3",
            "SLURM_LAB_CPUS": "2",
            "SLURM_LAB_PORT": str(lab.free_ports(4)),
            "SLURM_LAB_LINK": "0",
        }

    def start(self):
        """Start it, or what is missing of it."""
        script = lab.HERE / "start-slurm.sh"
        lab.call("bash", str(script), env={**os.environ, **self.environment})

    def stop(self):
        """Stop it and remove what it wrote."""
        script = lab.HERE / "stop-slurm.sh"
        lab.call("bash", str(script), "--purge", env={**os.environ, **self.environment})

    def jobs(self, *words, name="overcluster"):
        """Return the identifiers of jobs in the queue."""
        return lab.call("squeue", "-h", "-o", "%A", "-n", name, *words).split()

    def is_empty(self, name="overcluster"):
        """Return whether no job is left."""
        return not self.jobs(name=name)

    def ended(self, job):
        """Return in which state a job ended, waiting for its end."""

        def lines():
            log = (self.folder / "log" / "jobcomp.log").read_text().splitlines()
            return [line for line in log if f"JobId={job} " in line]

        (line,) = lab.wait_until(lines)
        return line.partition("JobState=")[2].split()[0]

    def kill_node(self, node, job):
        """Kill a node and the job on it; Slurm is told what it would find out after half a minute."""
        daemon = int((self.folder / "run" / f"slurmd-{node}.pid").read_text())
        for pid in [daemon, *lab.processes_of_job(job)]:
            os.kill(pid, signal.SIGKILL)
        lab.call("scontrol", "update", f"nodename={node}", "state=down", "reason=killed")

    def tidy(self):
        """End what a test has left: commands, jobs, a node that is down; not the waiting run."""
        left = [command for command in lab.Command.started if not command.waits]
        for command in left:
            command.end()
            lab.Command.started.remove(command)
        queue = ("squeue", "-h", "-o", "%A %j")

        def others():
            lines = (line.split() for line in lab.call(*queue).splitlines())
            return [job for job, name in lines if name != lab.WAITING]

        if jobs := others():
            lab.call("scancel", *jobs)
        # Brings back nodes and daemons that are not there.
        self.start()
        lab.wait_until(lambda: not others(), patience_s=60)


@pytest.fixture(scope="session")
def slurm():
    """Slurm, started for the tests and stopped after them."""
    require_root()
    # Not in pytest's folder: munge wants one that everybody may enter.
    lab_of_slurm = Slurm(Path(tempfile.mkdtemp(prefix="overcluster-slurm-")))
    lab_of_slurm.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(lab_of_slurm.folder / "etc" / "slurm.conf"))
        try:
            yield lab_of_slurm
        finally:
            lab_of_slurm.stop()
    assert subprocess.run(["pgrep", "-f", str(lab_of_slurm.folder)], check=False).returncode == 1


@pytest.fixture
def tidy_slurm(slurm):
    """Slurm whose queue is empty again after a test, however that ends."""
    yield slurm
    try:
        slurm.tidy()
    except BaseException:
        slurm.stop()
        slurm.start()
        raise


@pytest.fixture(scope="session")
def grid_engine():
    """Grid Engine, started for the tests and stopped after them."""
    require_root()
    with tempfile.TemporaryDirectory(prefix="overcluster-sge-") as folder:
        environment = {**os.environ, "SGE_LAB_DIR": folder}
        lab.call("bash", str(lab.HERE / "start-sge.sh"), env=environment)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SGE_ROOT", "/var/lib/gridengine")
            patch.setenv("SGE_CELL", "default")
            try:
                yield
            finally:
                lab.call("bash", str(lab.HERE / "stop-sge.sh"), env=environment)


@pytest.fixture(scope="session")
def ssh_server():
    """An SSH server on this machine; yields the settings that reach it."""
    require_root()
    port = lab.free_ports(1)
    with tempfile.TemporaryDirectory(prefix="overcluster-ssh-") as folder:
        environment = {**os.environ, "SSH_LAB_DIR": folder, "SSH_LAB_PORT": str(port)}
        lab.call("bash", str(lab.HERE / "start-ssh.sh"), env=environment)
        try:
            yield {
                "ssh_port": port,
                "ssh_username": "root",
                "ssh_key_file": f"{folder}/user",
                "ssh_known_hosts_file": f"{folder}/known_hosts",
            }
        finally:
            os.kill(int((Path(folder) / "sshd.pid").read_text()), signal.SIGTERM)
