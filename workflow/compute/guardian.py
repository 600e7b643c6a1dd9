"""A small process that cancels our jobs when we die; imports the standard library only."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from typing import TextIO

#: A cancel command that does not answer is given up [s].
CANCEL_TIMEOUT_S = 120


def watch(lines: TextIO, cancel: list[str]) -> None:
    """Follow what is told on a pipe; when it ends without ``done``, cancel jobs and remove keys.

    Parameters
    ----------
    lines : text stream
        ``+ID`` for a job that was submitted, ``keys PATH`` for a folder to
        remove, ``done`` when nothing is left.
    cancel : list of str
        Words of the command that takes the identifiers of jobs to cancel.
    """
    jobs: dict[str, None] = {}
    folders: list[str] = []
    for line in lines:
        text = line.strip()
        if text == "done":
            return
        if text.startswith("+"):
            jobs[text[1:]] = None
        elif text.startswith("keys "):
            folders.append(text.removeprefix("keys "))
    if jobs:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([*cancel, *jobs], timeout=CANCEL_TIMEOUT_S, check=False)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


class Guardian:
    """Starts that process, in a session of its own so that no Ctrl-C reaches it, and tells it.

    Parameters
    ----------
    cancel : sequence of str
        Words of the command that takes the identifiers of jobs to cancel.

    Attributes
    ----------
    jobs : set of str
        All that were submitted.
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

    def watch_over(self, job: str) -> None:
        """Tell it of a job that was submitted."""
        self.jobs.add(job)
        self.tell(f"+{job}")

    def tell(self, line: str) -> None:
        """Pass one line on; a guardian that was killed cannot help any more."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, ValueError):
            self.process.stdin.write(f"{line}\n")
            self.process.stdin.flush()

    def leave(self) -> None:
        """Let it end: it cancels what it was not told to be gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


if __name__ == "__main__":
    watch(sys.stdin, sys.argv[1:])
