"""Where Dask's dashboard is found: on loopback, with the command that brings it to another machine."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from workflow.config.compute import BATCH_LAUNCHERS

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings

#: Launchers whose scheduler is in this process, on a machine that its user has logged in to.
ELSEWHERE = (*BATCH_LAUNCHERS, "ssh", "allocation")


def dashboard_told(client: Client, settings: ComputeSettings) -> str | None:
    """Return where the dashboard is, None where there is none."""
    if not settings.dashboard or not client.dashboard_link:
        return None
    if settings.launcher not in ELSEWHERE:
        return str(client.dashboard_link)
    port = client.scheduler_info(n_workers=0)["services"].get("dashboard")
    if port is None:
        return None
    host = f"{getpass.getuser()}@{socket.getfqdn()}"
    return (
        f"http://127.0.0.1:{port}/status on this machine; from yours: "
        f"ssh -N -L {port}:127.0.0.1:{port} {host}"
    )
