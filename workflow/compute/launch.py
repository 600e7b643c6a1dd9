"""Open a Dask client from the ``compute`` section; the only chooser between launchers."""

from __future__ import annotations

import contextlib
import getpass
import socket
from typing import TYPE_CHECKING

from workflow.compute.address import address_client
from workflow.compute.allocation import allocation_client
from workflow.compute.batch import batch_client
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
    "allocation": allocation_client,
}
#: Their scheduler is in this process, often on a machine that the user has logged in to.
NEEDS_TUNNEL = (*BATCH_LAUNCHERS, "ssh", "allocation")


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


def describe_dashboard(client: Client, settings: ComputeSettings) -> str | None:
    """Return the address of Dask's dashboard, with the command for a tunnel where one is needed.

    Parameters
    ----------
    client : distributed.Client
        Opened by `open_client`.
    settings : ComputeSettings
        The ``compute`` section that it was opened from.

    Returns
    -------
    str or None
        One line; None where there is no dashboard.
    """
    if not settings.dashboard or not client.dashboard_link:
        return None
    if settings.launcher not in NEEDS_TUNNEL:
        return str(client.dashboard_link)
    port = client.scheduler_info(n_workers=0)["services"].get("dashboard")
    if port is None:
        return None
    host = f"{getpass.getuser()}@{socket.getfqdn()}"
    return (
        f"http://127.0.0.1:{port}/status on this machine; from yours: "
        f"ssh -N -L {port}:127.0.0.1:{port} {host}"
    )
