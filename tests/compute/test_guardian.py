"""What is left behind when its owner dies: nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import PROJECT
from workflow.compute.guardian import Guardian


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


def test_guardian__cancels_what_it_was_not_told_to_be_gone(cancel, tmp_path):
    keys = tmp_path / "keys"
    keys.mkdir()
    guardian = Guardian(cancel)
    guardian.watch_over("11")
    guardian.watch_over("12")
    guardian.tell(f"keys {keys}")
    guardian.leave()
    assert cancelled(tmp_path) == ["--quiet", "11", "12"]
    assert not keys.exists()
    assert guardian.jobs == {"11", "12"}


def test_guardian__does_nothing_when_all_is_done(cancel, tmp_path):
    guardian = Guardian(cancel)
    guardian.watch_over("11")
    guardian.tell("done")
    guardian.leave()
    assert cancelled(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_guardian__outlives_its_owner_and_its_group(number, cancel, tmp_path):
    program = (
        "import time\n"
        "from workflow.compute.guardian import Guardian\n"
        f"guardian = Guardian({cancel!r})\n"
        "guardian.watch_over('7')\n"
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
