"""Compiling ahead: what the later steps need is compiled in another process while the first ones work."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from workflow.centroid_graph import centroid_graph, count_pairs
from workflow.compiling import is_compiled
from workflow.tree.contrast._cluster_kernels import test_pairs

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the steps are tried on: enough groups, centroids and rows that each loop is entered.
N_GROUPS, N_CENTROIDS, N_ROWS, N_COMPONENTS = 8, 400, 6000, 6
SEED = 1


@contextlib.contextmanager
def compiled_ahead() -> Iterator[None]:
    """Compile in another process while inside; do nothing where that was done on this machine."""
    # The last function that is compiled of the tree.
    if is_compiled(test_pairs):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "-m", __name__],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def try_steps() -> None:
    """Do on a few made rows what the steps do on scores: first the tree, which takes longest to compile."""
    # Imported here: the process that waits for this one needs none of it yet.
    from workflow.map import lay_out, neighbor_affinities
    from workflow.mapper import ArrayRows, SerialMapper
    from workflow.overcluster import fit_centroids
    from workflow.overcluster.search import NearestCentroids
    from workflow.tree import build_tree

    rng = np.random.default_rng(SEED)
    middle = 6.0 * rng.normal(size=(N_GROUPS, N_COMPONENTS))
    rows = rng.normal(size=(N_ROWS, N_COMPONENTS)) + middle[rng.integers(N_GROUPS, size=N_ROWS)]
    rows = rows.astype(np.float32)
    centroids = rows[:N_CENTROIDS]
    sq_distance = ((rows[:, None] - centroids) ** 2).sum(axis=2)
    nearest = np.argsort(sq_distance, axis=1)[:, :3].astype(np.int32)
    graph = centroid_graph(count_pairs(nearest, N_CENTROIDS), N_CENTROIDS)
    population = np.bincount(nearest[:, 0], minlength=N_CENTROIDS)
    build_tree(centroids, population, graph, dimension=float(N_COMPONENTS), n_resamples=2)
    fit_centroids(ArrayRows(rows), N_CENTROIDS, seed=SEED, mapper=SerialMapper())
    index = NearestCentroids.build(centroids).query(rows, k=3)[0]
    lay_out(neighbor_affinities(index[:N_CENTROIDS]), centroids, rng)


if __name__ == "__main__":
    try_steps()
