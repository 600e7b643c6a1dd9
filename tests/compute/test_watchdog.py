"""A killed command leaves no job and no key behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import PROJECT
from workflow.compute.watchdog import Watchdog


@pytest.fixture
def cancel(tmp_path):
    """A command that writes down the jobs it is to cancel."""
    script = tmp_path / "cancel"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path / "cancelled"}\n')
    script.chmod(0o755)
    return [str(script), "--quiet"]


def cancelled(folder):
    path = folder / "cancelled"
    return path.read_text().split() if path.exists() else []


def test_watchdog__cancels_jobs_and_removes_keys_unless_all_is_done(cancel, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    watchdog = Watchdog(cancel)
    watchdog.add_job("11")
    watchdog.add_job("12")
    watchdog.add_keys(keys)
    watchdog.close(is_clean=False)
    assert cancelled(tmp_path) == ["--quiet", "11", "12"]
    assert not keys.exists()
    assert watchdog.jobs == {"11", "12"}


def test_watchdog__does_nothing_when_all_is_done(cancel, tmp_path):
    watchdog = Watchdog(cancel)
    watchdog.add_job("11")
    watchdog.close(is_clean=True)
    assert cancelled(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_watchdog__outlives_its_owner_and_its_group(number, cancel, tmp_path):
    program = (
        "import time\n"
        "from workflow.compute.watchdog import Watchdog\n"
        f"watchdog = Watchdog({cancel!r})\n"
        "watchdog.add_job('7')\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with owner.stdout:
        assert owner.stdout.readline() == "ready\n"
        os.killpg(owner.pid, number)
        owner.wait()
    deadline = time.monotonic() + 30
    while cancelled(tmp_path) != ["--quiet", "7"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
