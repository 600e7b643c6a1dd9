"""Open a Dask client from the ``compute`` section; the only chooser between launchers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client

from workflow.compute.local import local_client
from workflow.errors import ComputeError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from workflow.config import ComputeSettings

#: How long a scheduler may take to answer [s].
CONNECT_TIMEOUT_S = 20


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
        If the scheduler does not answer or has no workers.
    ConfigError
        If the section contradicts itself.
    """
    launchers: dict[str, Callable[[ComputeSettings], contextlib.AbstractContextManager[Client]]]
    launchers = {"local": local_client, "address": address_client}
    with launchers[settings.launcher](settings) as client:
        yield client


@contextlib.contextmanager
def address_client(settings: ComputeSettings) -> Iterator[Client]:
    """Connect to a scheduler that runs already; it is left running."""
    place = settings.address or settings.scheduler_file
    if not place:
        msg = "the launcher `address` must know its scheduler; got neither `compute.address` nor `compute.scheduler_file`. Set one of them."
        raise ConfigError(msg)
    if not settings.address and not Path(place).is_file():
        msg = f"`compute.scheduler_file` must be the file a scheduler wrote; {place} does not exist. Start it with: dask scheduler --scheduler-file {place}"
        raise ComputeError(msg)
    where = {"address": place} if settings.address else {"scheduler_file": place}
    try:
        client = Client(**where, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as err:
        why = " ".join(str(err).split())
        msg = (
            f"the scheduler must answer; {place} does not ({why}). Start it, or check the address."
        )
        raise ComputeError(msg) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
        except TimeoutError:
            msg = f"the scheduler at {place} must have workers; it has none. Start some, then run the same command again."
            raise ComputeError(msg) from None
        yield client
