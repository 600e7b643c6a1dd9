"""A scheduler that runs already: joined by its address or its file, and left running."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distributed import Client

from workflow.compute.security import security_of
from workflow.errors import ComputeError, ConfigError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.config import ComputeSettings

log = logging.getLogger(__name__)

#: How long a scheduler may take to answer [s].
CONNECT_TIMEOUT_S = 20


@contextlib.contextmanager
def address_client(settings: ComputeSettings) -> Iterator[Client]:
    """Connect to a scheduler that runs already; it is left running."""
    scheduler = settings.address or settings.scheduler_file
    if not scheduler:
        msg = "the launcher `address` must know its scheduler; got neither `compute.address` nor `compute.scheduler_file`. Set one of them."
        raise ConfigError(msg)
    if not settings.address and not Path(scheduler).is_file():
        msg = f"`compute.scheduler_file` must be the file a scheduler wrote; {scheduler} does not exist. Start it with: dask scheduler --scheduler-file {scheduler}"
        raise ComputeError(msg)
    options: dict[str, Any]
    options = {"address": scheduler} if settings.address else {"scheduler_file": scheduler}
    security = _security(settings, settings.address or _address_in(Path(scheduler)))
    if security is not None:
        options["security"] = security
    try:
        client = Client(**options, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TypeError) as err:
        msg = f"the scheduler must answer; {scheduler} does not ({one_line(err)}). Start it, or check the address."
        raise ComputeError(msg) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
        except TimeoutError:
            msg = f"the scheduler at {scheduler} must have workers; it has none. Start some, then run the same command again."
            raise ComputeError(msg) from None
        yield client


def _address_in(file: Path) -> str:
    """Return the address in a scheduler file."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (OSError, ValueError, KeyError, TypeError):
        msg = f"`compute.scheduler_file` must be the file a scheduler wrote; {file} is something else. Start it with: dask scheduler --scheduler-file {file}"
        raise ComputeError(msg) from None


def _security(settings: ComputeSettings, address: str) -> Any:
    """Return the certificate for an encrypted address; warn where nothing is encrypted."""
    if address.startswith("tls://"):
        if settings.tls_ca_file is None:
            msg = f"an encrypted scheduler must be joined with its certificate; {address} is one and `compute.tls_ca_file` is not set. Set compute.tls_ca_file, compute.tls_cert and compute.tls_key."
            raise ConfigError(msg)
        return security_of(settings)
    if settings.tls == "on":
        msg = f"`compute.tls` is on, so the scheduler must have a tls:// address; got {address}. Start it with certificates, or set compute.tls=off."
        raise ConfigError(msg)
    if settings.tls == "auto" and not _is_loopback(address):
        log.warning(
            "the connection to %s is not encrypted: anybody on that network may run code there. Start it with certificates (tls://...), or set compute.tls=off if that is known.",
            address,
        )
    return None


def _is_loopback(address: str) -> bool:
    """Return whether an address never leaves this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or address.startswith("inproc://")
