"""Preloaded by workers under test: makes the tasks of one step last, and notes which job began them.

The file named by OVERCLUSTER_SLOW_STEP says how the keys of its tasks begin, and how many jobs must
have begun one before any goes on.  Where it is not there, tasks run as they would.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from distributed import WorkerPlugin

#: This job, in the words of Slurm and Grid Engine.
JOB = os.environ.get("SLURM_JOB_ID") or os.environ.get("JOB_ID", "")
#: What is added to each task of that step, and how long it waits for other jobs [s].
DELAY_S, JOBS_PATIENCE_S = 0.4, 60


class SlowStep(WorkerPlugin):
    """Begins the tasks of one step late."""

    def __init__(self, file):
        self.file = file

    def transition(self, key, start, finish, **kwargs):
        """Note a task that is about to run, then wait."""
        asked = self._asked() if finish == "executing" else None
        if asked is None or not str(key).startswith(asked[0]):
            return
        begun = self.file.with_name(f"begun-{asked[0]}.txt")
        # One short write at the end of a file: what several processes write is not mixed.
        with begun.open("a") as file:
            file.write(f"{JOB} {key}\n")
        time.sleep(DELAY_S)
        deadline = time.monotonic() + JOBS_PATIENCE_S
        while self._asked() == asked and time.monotonic() < deadline:
            if len({line.split()[0] for line in begun.read_text().splitlines()}) >= int(asked[1]):
                return
            time.sleep(0.05)

    def _asked(self):
        """Return how keys begin and the number of jobs, nothing where no step is slow."""
        try:
            return self.file.read_text().split()
        except FileNotFoundError:
            return None


async def dask_setup(worker):
    """Add the plugin; Dask calls this when a worker starts."""
    await worker.plugin_add(SlowStep(Path(os.environ["OVERCLUSTER_SLOW_STEP"])))
