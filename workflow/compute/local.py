"""Workers on this machine."""

from __future__ import annotations

import contextlib
import logging
import socket
import warnings
from typing import TYPE_CHECKING, Any

import dask
from distributed import Client, LocalCluster

from workflow.compute.security import security_of
from workflow.config import describe_dask_settings
from workflow.errors import ComputeError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import ComputeSettings

#: How long tasks wait when no worker is left [s]: a worker that is killed while it starts is not
#: started again, and without workers a run would wait for ever.
NO_WORKERS_TIMEOUT_S = 60


@contextlib.contextmanager
def local_client(settings: ComputeSettings) -> Iterator[Client]:
    """Start a scheduler and workers bound to 127.0.0.1; stop them at the end."""
    config = {
        "distributed.scheduler.no-workers-timeout": NO_WORKERS_TIMEOUT_S,
        "distributed.scheduler.allowed-failures": settings.failures,
    }
    security = security_of(settings)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(config))
        try:
            cluster = _local_cluster(
                n_workers=None if settings.n_workers == "auto" else settings.n_workers,
                threads_per_worker=settings.threads_per_worker,
                memory_limit=settings.memory_limit,
                processes=True,
                silence_logs=logging.CRITICAL,
                host="127.0.0.1",
                security=security,
                protocol="tcp://" if security is None else "tls://",
                # Without the dashboard the scheduler still serves its health page: on any free port.
                dashboard_address=_dashboard_address() if settings.dashboard else "127.0.0.1:0",
                scheduler_kwargs={"dashboard": settings.dashboard},
            )
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster, set_as_default=False))
        except Exception as err:
            advice = describe_dask_settings()
            if not advice:
                raise
            msg = f"workers must start on this machine; they did not ({one_line(err)}).{advice}"
            raise ComputeError(msg) from err
        yield client


def _local_cluster(**how: Any) -> LocalCluster:
    """Start a cluster, without a warning where another program has just taken the dashboard's port."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Port \d+ is already in use")
        return LocalCluster(**how)


def _dashboard_address() -> str:
    """Return Dask's usual port where it is free, else any, so that no warning is printed."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 8787))
        except OSError:
            return "127.0.0.1:0"
    return "127.0.0.1:8787"
