"""Open the place where tasks run, and an executor on it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from workflow.compute import open_client
from workflow.compute.asking import ask_workers
from workflow.compute.dashboard import dashboard_told
from workflow.compute.places import missing_places
from workflow.compute.shipping import bring_package
from workflow.engine.executor import Executor
from workflow.engine.heartbeat import heartbeat
from workflow.engine.progress import Progress
from workflow.errors import ComputeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config

log = logging.getLogger(__name__)


@contextlib.contextmanager
def executor_for(
    shared: Path,
    config: Config,
    client: Client | None = None,
    progress: Progress | None = None,
    *,
    reads: Sequence[Path] = (),
) -> Iterator[Executor]:
    """Open an executor on the client given or on one opened from the settings.

    Parameters
    ----------
    shared : path
        Folder for what tasks share.
    config : Config
        The settings.
    client : distributed.Client, optional
        Where to run; opened from the settings, and its dashboard told, by default.
    progress : Progress, optional
        Where it is shown; stderr by default.
    reads : sequence of path
        What every worker must see.

    Yields
    ------
    Executor
        Gone at the end, and the client with it if it was opened here.

    Raises
    ------
    ComputeError
        If a worker does not see what it is to read, has other code than is
        here, or lacks a library.
    """
    shown = progress or Progress()
    with contextlib.ExitStack() as stack:
        if client is None:
            client = stack.enter_context(open_client(config.compute))
            told = dashboard_told(client, config.compute)
            if told is not None:
                log.info("dashboard: %s", told)
                shown.link(str(client.dashboard_link or ""), told)
        elif client.dashboard_link:
            shown.link(str(client.dashboard_link), "")
        bring_package(client)
        _require_sight(client, reads)
        stack.enter_context(heartbeat(client, shown))
        yield Executor(client, shown, shared)


def _require_sight(client: Client, reads: Sequence[Path]) -> None:
    """Refuse workers that do not see what they are to read."""
    seen = ask_workers(client, missing_places, [str(path) for path in reads]) if reads else {}
    blind = {address: missing for address, missing in seen.items() if missing}
    if blind:
        address, missing = min(blind.items())
        msg = f"workers must see the images and the run folder under the same path; the worker at {address} does not see {missing[0]}. Put them on a shared file system."
        raise ComputeError(msg)
