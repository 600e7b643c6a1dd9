"""A small process that cancels our jobs if the command is killed; imports the standard library only."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from pathlib import Path

#: A cancel command that does not answer is given up [s].
CANCEL_TIMEOUT_S = 120


def watch(lines: TextIO, cancel: list[str]) -> None:
    """Read lines from a pipe; if it ends without ``done``, cancel jobs and remove keys.

    Parameters
    ----------
    lines : text stream
        ``job ID`` for a job that was submitted, ``keys PATH`` for a folder to
        remove, ``done`` when nothing is left.
    cancel : list of str
        Command that takes the identifiers of jobs to cancel.
    """
    found: dict[str, list[str]] = {"job": [], "keys": []}
    for line in lines:
        kind, _, value = line.strip().partition(" ")
        if kind == "done":
            return
        found.setdefault(kind, []).append(value)
    if found["job"]:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([*cancel, *found["job"]], timeout=CANCEL_TIMEOUT_S, check=False)
    for folder in found["keys"]:
        shutil.rmtree(folder, ignore_errors=True)


class Watchdog:
    """Starts that process, in a session of its own so that no Ctrl-C reaches it, and writes to it.

    Parameters
    ----------
    cancel : list of str
        Command that takes the identifiers of jobs to cancel.

    Attributes
    ----------
    jobs : set of str
        Identifiers of all jobs that were submitted.
    """

    def __init__(self, cancel: list[str]) -> None:
        self.jobs: set[str] = set()
        self.process = subprocess.Popen(
            # -I: this file alone, without the caller's modules or folder.
            [sys.executable, "-I", __file__, *cancel],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def add_job(self, job: str) -> None:
        """Note a job that was submitted."""
        self.jobs.add(job)
        self._write(f"job {job}")

    def add_keys(self, folder: Path) -> None:
        """Note a folder of keys that must not outlive the run."""
        self._write(f"keys {folder}")

    def close(self, *, is_clean: bool) -> None:
        """End it; it cancels all jobs and removes the keys unless nothing is left."""
        if is_clean:
            self._write("done")
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def _write(self, line: str) -> None:
        """Write one line; a watchdog that was killed cannot help any more."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()


if __name__ == "__main__":
    watch(sys.stdin, sys.argv[1:])
