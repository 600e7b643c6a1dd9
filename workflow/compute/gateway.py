"""Workers of a Dask gateway."""

from __future__ import annotations

import contextlib
import importlib
from typing import TYPE_CHECKING

from workflow.errors import ComputeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client

    from workflow.config import ComputeSettings


@contextlib.contextmanager
def gateway_client(settings: ComputeSettings) -> Iterator[Client]:
    """Ask a gateway for a scheduler and workers, which it encrypts itself; give them back at the end.

    How the user proves who they are is in Dask's own configuration
    (``gateway.auth``), so that no secret is among our settings.
    """
    try:
        dask_gateway = importlib.import_module("dask_gateway")
    except ModuleNotFoundError:
        msg = "a gateway must be reached through dask-gateway; it is not installed. Install overcluster[gateway]."
        raise ComputeError(msg) from None
    if settings.address is None:
        msg = "the launcher `gateway` must know its address; `compute.address` is not set. Set it, such as https://gateway.example.org."
        raise ConfigError(msg)
    n_workers = 1 if settings.n_workers == "auto" else settings.n_workers
    try:
        opened = dask_gateway.GatewayCluster(settings.address, shutdown_on_close=True)
    except Exception as err:
        # Its own kinds, those of aiohttp, and those of the site's way to prove who one is.
        why = " ".join(str(err).split()) or type(err).__name__
        msg = f"the gateway must give a cluster; {settings.address} does not ({why}). Check compute.address, and gateway.auth in Dask's configuration."
        raise ComputeError(msg) from err
    with opened as cluster:
        if settings.adaptive:
            cluster.adapt(minimum=settings.n_workers_min, maximum=n_workers)
        else:
            cluster.scale(n_workers)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(1)
            yield client
