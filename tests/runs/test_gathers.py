"""What comes to the process that the user started: never more than a set of centroids, or the moments."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from tests.conftest import picture_set
from tests.runs.helpers import lean_run, make_run, only
from tests.runs.kills import assert_same_results
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.mapper import ArrayRows, SerialMapper
from workflow.overcluster import fit_centroids, fitting
from workflow.runstore import zarr_io
from workflow.runstore.journal import Journal
from workflow.steps import STEPS

#: Centroids, and tasks: many small blocks.
SMALL = {"overcluster.n_centroids": 60, "block_rows": 100}
FEW_BLOCKS = SMALL | {"block_rows": 700}
#: Places, checksums and names that come beside the numbers.
BESIDE = 60


def n_numbers(content):
    """Return how many numbers are in something."""
    if isinstance(content, np.ndarray):
        return content.size
    if isinstance(content, dict):
        return sum(map(n_numbers, content.values()))
    if isinstance(content, (list, tuple)):
        return sum(map(n_numbers, content))
    if is_dataclass(content):
        return sum(n_numbers(getattr(content, field.name)) for field in fields(content))
    return 1


class Watch:
    """Notes the numbers that come to this process: results of tasks, reports, and rows that it reads."""

    def __init__(self, patch):
        self.results, self.reports, self.reads = {}, [], {}
        self.n_tasks = 0
        for name in ("map", "reduce"):
            patch.setattr(Executor, name, self.noting(getattr(Executor, name)))
        extend, read = Journal.extend, zarr_io.StoredRows.read

        def reported(journal, records):
            self.reports.append(n_numbers(records))
            self.n_tasks += len(records)
            extend(journal, records)

        def rows(stored, start, stop):
            found = read(stored, start, stop)
            self.reads[stored.name] = max(self.reads.get(stored.name, 0), found.size)
            return found

        patch.setattr(Journal, "extend", reported)
        patch.setattr(zarr_io.StoredRows, "read", rows)

    def noting(self, method):
        def called(executor, function, *args, **kwargs):
            found = method(executor, function, *args, **kwargs)
            name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)
            self.results[name] = max(self.results.get(name, 0), n_numbers(found))
            return found

        return called


@pytest.fixture(scope="module")
def npy(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, picture_set(n=7500, shape=(4, 4, 3), seed=3)[0])
    return path


@pytest.mark.parametrize("path", ["batch", "candidates"])
def test_run__brings_no_more_than_centroids_or_moments(path, npy, client, tmp_path, monkeypatch):
    names = [step.name for step in STEPS]
    if path == "candidates":
        monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
        # Later steps do not know how centroids were seeded.
        names = names[: names.index("overcluster") + 1]
    with monkeypatch.context() as patch, only(*names):
        watch = Watch(patch)
        store = make_run(npy, tmp_path / "run", client, **SMALL)
    centroids, second = store.read_model("centroids", "moments_second")
    n_features = len(second)
    limit = max(centroids.size, n_features * (n_features + 2))
    assert limit < 7500 * centroids.shape[1] / 100
    of_seeding = (
        {"seed_by_batch"} if path == "batch" else {"draw_candidates", "measure_block", "recluster"}
    )
    assert {name.strip("_") for name in watch.results} >= {*of_seeding, "sum_block", "call"}
    assert max(watch.results.values()) <= limit + BESIDE, watch.results
    # Of a task some numbers, and of a label how many images have it.
    assert watch.n_tasks > 4 * 32
    assert max(watch.reports) <= limit
    # Rows are read by workers, but for those around the outliers of the page, one at a time.
    assert set(watch.reads) <= {"scores"}
    assert watch.reads.get("scores", 0) <= centroids.shape[1]


def test_seeding__of_candidates_is_the_same_on_workers_and_leaves_nothing(
    client, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
    rows = ArrayRows(np.random.default_rng(0).normal(size=(9000, 5)).astype(np.float32))
    expected = fit_centroids(rows, 200, seed=4, mapper=SerialMapper(), max_iter=2)
    for name, where in (("here", None), ("there", client)):
        folder = tmp_path / name
        executor = Executor(where, Progress(enabled=False), folder)
        found = fit_centroids(rows, 200, seed=4, mapper=executor, max_iter=2)
        assert found.centroids.tobytes() == expected.centroids.tobytes()
        assert found.history == expected.history
        assert {path.suffix for path in folder.iterdir()} == {".npz"}, "kept arrays are gone"


class StopError(Exception):
    """The process that the user started goes down."""


def test_run__killed_while_seeding_seeds_anew_with_the_same_bits(
    npy, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(fitting, "MAX_IN_MEMORY_PAIRS", 1)
    whole = lean_run(npy, tmp_path / "whole", client, **FEW_BLOCKS)
    run_tasks = Executor.map

    def stops(executor, function, items):
        if getattr(getattr(function, "func", None), "__name__", "") == "_recluster":
            raise StopError
        return run_tasks(executor, function, items)

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "map", stops)
        with pytest.raises(StopError):
            lean_run(npy, tmp_path / "run", client, **FEW_BLOCKS)
    assert_same_results(whole, lean_run(npy, tmp_path / "run", client, **FEW_BLOCKS))
