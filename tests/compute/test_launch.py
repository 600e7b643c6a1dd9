"""Clients: local ones are bound to loopback, others are joined and left running."""

import dask
import numpy as np
import pytest
from distributed import Client
from threadpoolctl import threadpool_info

from tests.conftest import FORKED
from workflow.compute import open_client
from workflow.config import ComputeSettings
from workflow.engine.results import run_task
from workflow.errors import ComputeError, ConfigError
from workflow.steps import load_config


def settings(**values):
    flat = {f"compute.{name}": value for name, value in values.items()}
    return load_config(None, flat, environment={}).config.compute


def blas_threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return run_task(None, lambda _: [p["num_threads"] for p in threadpool_info()]).result


def test_local__is_bound_to_loopback_with_one_blas_thread():
    with (
        dask.config.set({FORKED: "spawn"}),
        open_client(settings(n_workers=2, memory_limit="1 GiB")) as client,
    ):
        info = client.scheduler_info(n_workers=-1)
        assert info["address"].startswith("tcp://127.0.0.1:")
        assert "127.0.0.1" in client.dashboard_link
        workers = info["workers"]
        assert len(workers) == 2
        assert all(worker["memory_limit"] == 2**30 for worker in workers.values())
        assert all(set(counts) == {1} for counts in client.run(blas_threads).values())
    assert client.status == "closed"


def test_address__is_joined_and_left_running(client):
    address = client.scheduler_info()["address"]
    with open_client(settings(launcher="address", address=address)) as other:
        assert other.submit(sum, [1, 2]).result() == 3
    with Client(address, set_as_default=False) as again:
        assert again.submit(sum, [3, 4]).result() == 7


def test_address__errors_name_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("workflow.compute.address.CONNECT_TIMEOUT_S", 1)
    with (
        pytest.raises(ComputeError, match=r"tcp://127.0.0.1:1 does not .*Start it"),
        open_client(settings(launcher="address", address="tcp://127.0.0.1:1")),
    ):
        pass
    with pytest.raises(ConfigError, match="neither"), open_client(settings(launcher="address")):
        pass
    missing = str(tmp_path / "scheduler.json")
    with (
        pytest.raises(ComputeError, match="dask scheduler --scheduler-file"),
        open_client(settings(launcher="address", scheduler_file=missing)),
    ):
        pass


def test_settings__are_frozen():
    assert ComputeSettings() == settings()
