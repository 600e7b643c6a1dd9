"""Open a Dask client from the ``compute`` section; the only chooser between launchers."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from workflow.compute.allocation import allocation_client
from workflow.compute.existing import address_client
from workflow.compute.gateway import gateway_client
from workflow.compute.jobqueue import batch_client
from workflow.compute.kubernetes import kubernetes_client
from workflow.compute.local import local_client
from workflow.compute.ssh import ssh_client
from workflow.config.compute import BATCH_LAUNCHERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from workflow.config import ComputeSettings

LAUNCHERS: dict[str, Callable[[ComputeSettings], contextlib.AbstractContextManager[Client]]] = {
    "local": local_client,
    "address": address_client,
    **dict.fromkeys(BATCH_LAUNCHERS, batch_client),
    "ssh": ssh_client,
    "kubernetes": kubernetes_client,
    "gateway": gateway_client,
    "allocation": allocation_client,
}


@contextlib.contextmanager
def open_client(settings: ComputeSettings) -> Iterator[Client]:
    """Open the client that the settings name, and close what was started for it.

    Parameters
    ----------
    settings : ComputeSettings
        The ``compute`` section.

    Yields
    ------
    distributed.Client
        A client with at least one worker.

    Raises
    ------
    ComputeError
        If the scheduler does not answer or has no workers, jobs are refused,
        or a package that the launcher needs is not installed.
    ConfigError
        If the section contradicts itself.
    """
    with LAUNCHERS[settings.launcher](settings) as client:
        yield client
