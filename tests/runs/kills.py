"""What the tests of kills share: workers that come back, one who kills them, and what must be the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading

import dask
from distributed import Client, LocalCluster

from tests.runs.helpers import SETTINGS, assert_same_labels, labels_of
from workflow.runstore import zarr_io

#: Many small tasks, so that a kill is always in the middle of some.
SMALL_BLOCKS = {"block_rows": 64}
SET_WORDS = [
    word
    for key, value in {**SETTINGS, **SMALL_BLOCKS}.items()
    for word in ("--set", f"{key}={value}")
]
#: Else Dask gives up a worker that it does not see 15 s after it was killed, though it was killed again.
LOST_AFTER = "distributed.deploy.lost-worker-timeout"


@contextlib.contextmanager
def open_workers(n_workers, **kwargs):
    """Open a client on workers that are started again when they die.

    As they are forked, one is back within a fraction of a second, and kills may follow each other closely.
    """
    with (
        dask.config.set({LOST_AFTER: "1h"}),
        LocalCluster(
            n_workers=n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
            **kwargs,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


class WorkerKiller:
    """Kills so many random workers, one after the other at random moments."""

    def __init__(self, client, n_kills, seed):
        self.client, self.n_kills = client, n_kills
        self.draw = random.Random(seed)
        self.n_killed = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def work(self):
        nannies = self.client.cluster.workers
        while self.n_killed < self.n_kills and not self.stop.wait(self.draw.uniform(0.1, 1.0)):
            # One that is killed while it starts is not started again, and soon none would be left.
            there = set(self.client.cluster.scheduler.workers)
            pids = sorted(n.pid for n in nannies.values() if n.worker_address in there and n.pid)
            if pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.draw.choice(pids), signal.SIGKILL)
                    self.n_killed += 1


def assert_same_results(first, second):
    """Hold two runs against each other, bit for bit: labels, and all that was learned."""
    assert_same_labels(labels_of(first), labels_of(second))
    names = zarr_io.array_names(first.model)
    assert names == zarr_io.array_names(second.model)
    assert {"components", "centroids", "graph_indices", "tree_distance"} <= set(names)
    for name in names:
        (ours,), (theirs,) = first.read_model(name), second.read_model(name)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), name
        assert ours.tobytes() == theirs.tobytes(), name
