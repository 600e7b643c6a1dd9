"""Whole runs on a real Grid Engine and over a real SSH; labels are those of a run on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import PROJECT
from tests.runs.helpers import assert_same_labels, labels_of
from tests.sites import lab
from workflow.runstore import RunStore

pytestmark = pytest.mark.sites


def assert_same(folder, local_run):
    assert_same_labels(labels_of(RunStore.open(folder / "run")), labels_of(local_run))


def grid_engine_jobs():
    lines = lab.call("qstat", "-u", "*").splitlines()[2:]
    return [line.split()[0] for line in lines]


def test_grid_engine__a_whole_run_with_a_job_deleted(grid_engine, images, local_run, tmp_path):
    lab.slow_step(tmp_path, "momentstask", n_jobs=2)
    site = lab.slow_site(tmp_path, "sge", **lab.JOB, queue="lab.q", n_workers=2)
    command = lab.start_run(tmp_path, images, site)
    first, _ = lab.wait_until(
        lambda: len(found := grid_engine_jobs()) == 2 and found, meanwhile=command
    )
    with lab.frozen(command, "momentstask", [first]):
        lab.call("qdel", first)
        lab.wait_until(lambda: first not in grid_engine_jobs())
        lab.hold_step(tmp_path, "momentstask")
    command.wait_for(f"job {first} was lost; another one takes its place")
    lab.no_slow_step(tmp_path)
    command.wait()
    lab.wait_until(lambda: not grid_engine_jobs(), patience_s=20)
    assert_same(tmp_path, local_run)


def test_grid_engine__a_killed_client_leaves_no_job(grid_engine, images, tmp_path):
    site = lab.write_site(tmp_path, "sge", **lab.JOB, queue="lab.q", n_workers=2)
    command = lab.start_run(tmp_path, images, site)
    lab.wait_until(lambda: lab.entries(tmp_path, "momentstask"))
    os.kill(command.process.pid, signal.SIGKILL)
    command.process.wait()
    lab.wait_until(lambda: not grid_engine_jobs(), patience_s=30)


def test_grid_engine__a_refused_job_ends_the_run_in_its_words(grid_engine, images, tmp_path):
    site = lab.write_site(tmp_path, "sge", **{**lab.JOB, "queue": "nowhere"})
    said = lab.start_run(tmp_path, images, site).wait(status=2)
    assert 'queue "nowhere"' in said


def workers_over_ssh():
    found = subprocess.run(
        ["pgrep", "-f", "distributed.cli.dask_spec"], capture_output=True, text=True, check=False
    )
    return found.stdout.split()


def ssh_site(folder, ssh_server, **values):
    # What workers import comes with their Python.
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH={PROJECT} {sys.executable} "$@"\n')
    python.chmod(0o755)
    given = {
        "hosts": ["127.0.0.1", "127.0.0.1"],
        "python": str(python),
        "interface": "lo",
        "memory_limit": "1500 MiB",
    }
    return lab.write_site(folder, "ssh", **{**given, **ssh_server, **values})


def test_ssh__a_whole_run(ssh_server, images, local_run, tmp_path):
    command = lab.start_run(tmp_path, images, ssh_site(tmp_path, ssh_server, n_workers=3))
    lab.wait_until(lambda: len(workers_over_ssh()) >= 2)
    said = command.wait()
    assert "ssh -N -L" in said
    assert_same(tmp_path, local_run)
    lab.wait_until(lambda: not workers_over_ssh(), patience_s=30)
    assert not list((tmp_path / "logs").glob(".keys-*"))


def test_ssh__a_killed_client_leaves_no_worker(ssh_server, images, tmp_path):
    command = lab.start_run(tmp_path, images, ssh_site(tmp_path, ssh_server))
    lab.wait_until(lambda: lab.entries(tmp_path, "momentstask"))
    os.kill(command.process.pid, signal.SIGKILL)
    command.process.wait()
    lab.wait_until(lambda: not workers_over_ssh())


def test_ssh__an_unknown_host_is_refused(ssh_server, images, tmp_path):
    nobody = tmp_path / "known_hosts"
    nobody.touch()
    site = ssh_site(tmp_path, ssh_server, ssh_known_hosts_file=str(nobody))
    said = lab.start_run(tmp_path, images, site).wait(status=2)
    assert "every host must be reached by SSH" in said
    assert "Host key is not trusted" in said
