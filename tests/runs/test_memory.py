"""No process holds more than the plan says, for narrow and for wide images."""

from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import spawn_cli
from workflow.engine.plan import PROCESS_BYTES, Sizes, plan_tasks
from workflow.runstore import RunStore
from workflow.runstore.zarr_io import open_images
from workflow.steps import STEPS, load_config

#: Python and the packages, in the process that leads the run [bytes]: it also draws the report.
LEADER_BYTES = 260 * 2**20


@pytest.mark.parametrize(("n", "shape"), [(30_000, (5, 5, 3)), (6_000, (32, 32, 3))])
def test_plan__bounds_what_is_used(n, shape, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "images.npy"
    pictures = rng.integers(0, 256, (30, *shape))
    noisy = pictures[rng.integers(0, 30, n)] + rng.normal(0, 12, (n, *shape)).astype(np.float32)
    np.save(path, noisy.clip(0, 255).astype(np.uint8))
    del noisy
    process = spawn_cli("run", path, "--out", tmp_path / "run", "--set", "compute.n_workers=2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    store = RunStore.open(tmp_path / "run")
    sizes = Sizes.of(STEPS, open_images(path), load_config(environment={}).config)
    worst = max(task.memory_bytes for task in plan_tasks(STEPS, sizes)) + LEADER_BYTES
    used = max(record.counters["peak_rss_bytes"] for record in store.manifest.steps.values())
    assert PROCESS_BYTES / 2 < used < worst
    assert used < 2 * 2**30
