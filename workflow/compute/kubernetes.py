"""Workers in pods, through the operator of dask-kubernetes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from distributed import Client

from workflow.compute.extras import import_extra
from workflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import ComputeSettings


@contextlib.contextmanager
def kubernetes_client(settings: ComputeSettings) -> Iterator[Client]:
    """Start a scheduler and workers in pods; remove them at the end."""
    operator = import_extra("dask_kubernetes.operator", "Kubernetes", "kubernetes")
    if settings.image is None:
        msg = "the launcher `kubernetes` must know a container image that holds this package; `compute.image` is not set. Set it."
        raise ConfigError(msg)
    if settings.tls != "off":
        msg = f"Dask's pods talk without encryption among themselves; `compute.tls` is {settings.tls}. Set compute.tls=off where their network is yours alone."
        raise ConfigError(msg)
    n_workers = 1 if settings.n_workers == "auto" else settings.n_workers
    size = {"cpu": str(settings.threads_per_worker)}
    if settings.memory_limit != "auto":
        size["memory"] = str(settings.memory_limit)
    with (
        operator.KubeCluster(
            name=settings.job_name,
            namespace=settings.namespace,
            image=settings.image,
            n_workers=n_workers,
            resources={"requests": size, "limits": size},
            quiet=True,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(1)
        yield client
