"""Workers of a Dask gateway."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from workflow.compute.extras import import_extra
from workflow.errors import ComputeError, ConfigError, one_line

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
    dask_gateway = import_extra("dask_gateway", "a gateway", "gateway")
    if settings.address is None:
        msg = "the launcher `gateway` must know its address; `compute.address` is not set. Set it, such as https://gateway.example.org."
        raise ConfigError(msg)
    n_workers = 1 if settings.n_workers == "auto" else settings.n_workers
    try:
        opened = dask_gateway.GatewayCluster(settings.address, shutdown_on_close=True)
    except Exception as err:
        # Its own kinds, those of aiohttp, and those of the site's way to prove who one is.
        msg = f"the gateway must give a cluster; {settings.address} does not ({one_line(err)}). Check compute.address, and gateway.auth in Dask's configuration."
        raise ComputeError(msg) from err
    with opened as cluster:
        if settings.adaptive:
            cluster.adapt(minimum=settings.n_workers_min, maximum=n_workers)
        else:
            cluster.scale(n_workers)
        with cluster.get_client(set_as_default=False) as client:
            client.wait_for_workers(1)
            yield client
