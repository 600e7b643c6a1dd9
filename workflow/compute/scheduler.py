"""A scheduler in this process, for workers that are started elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import dask
from distributed import Scheduler
from distributed.core import Status
from distributed.deploy.spec import SpecCluster

from workflow.compute.scripts import COMM_TIMEOUT
from workflow.compute.security import ROLE_FILES, key_folder, security_of, worker_key_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workflow.config import ComputeSettings

#: Dask's settings of how long a connection may take to be made, and to be silent.
CONNECT_TIMEOUT = "distributed.comm.timeouts.connect"
TCP_TIMEOUT = "distributed.comm.timeouts.tcp"


@contextlib.contextmanager
def open_scheduler(
    settings: ComputeSettings, logs: Path, workers: dict[str, Any] | None = None
) -> Iterator[tuple[SpecCluster, dict[str, str]]]:
    """Open a scheduler, and workers if given; yield its cluster and the files of the certificate.

    Workers inherit Dask's configuration, which names these files and never
    holds their content.
    """
    security = security_of(settings)
    with contextlib.ExitStack() as stack:
        files: dict[str, str] = {}
        config: dict[str, Any] = {
            CONNECT_TIMEOUT: COMM_TIMEOUT,
            TCP_TIMEOUT: COMM_TIMEOUT,
            "distributed.scheduler.allowed-failures": settings.failures,
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
        }
        if security is not None:
            files = worker_key_files(security, stack.enter_context(key_folder(logs)))
            config["distributed.comm.require-encryption"] = True
            config["distributed.comm.tls.ca-file"] = files["ca_file"]
            config |= {
                f"distributed.comm.tls.worker.{name}": files[name] for name in ROLE_FILES[1:]
            }
        stack.enter_context(dask.config.set(config))
        options = {
            "protocol": "tcp://" if security is None else "tls://",
            "security": security,
            "interface": settings.interface,
            "dashboard_address": "127.0.0.1:0",
            "dashboard": settings.dashboard,
        }
        cluster = stack.enter_context(
            SpecCluster(
                workers=workers,
                scheduler={"cls": Scheduler, "options": options},
                security=security,
                silence_logs="critical",
            )
        )
        try:
            yield cluster, files
        finally:
            expect_no_answer(cluster)


def expect_no_answer(cluster: Any) -> None:
    """Let a cluster whose scheduler was closed be closed without waiting for an answer.

    Called inside a `dask.config.set`, which restores the setting.
    """
    if cluster.scheduler.status == Status.closed:
        dask.config.set({CONNECT_TIMEOUT: "1s"})
