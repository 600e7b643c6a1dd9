"""Open a Dask client and an executor on it."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from workflow.compute import (
    describe_dashboard,
    missing_paths,
    open_client,
    run_on_workers,
    upload_package,
)
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
        Folder for what tasks share; workers must see it.
    config : Config
        The settings; of them ``compute`` is used.
    client : distributed.Client, optional
        Where tasks run; opened from the settings by default.
    progress : Progress, optional
        How progress is shown; on stderr by default.
    reads : sequence of path
        Files and folders that every worker must see.

    Yields
    ------
    Executor
        Closed at the end, as is the client if it was opened here.

    Raises
    ------
    ComputeError
        If a worker does not see `reads`, has other code than this process, or
        lacks a library.
    """
    shown = progress or Progress()
    with contextlib.ExitStack() as stack:
        if client is None:
            client = stack.enter_context(open_client(config.compute))
            dashboard = describe_dashboard(client, config.compute)
            if dashboard is not None:
                log.info("dashboard: %s", dashboard)
                shown.link(str(client.dashboard_link or ""), dashboard)
        elif client.dashboard_link:
            shown.link(str(client.dashboard_link), "")
        upload_package(client)
        _require_paths(client, reads)
        stack.enter_context(heartbeat(client, shown))
        yield Executor(client, shown, shared)


def _require_paths(client: Client, reads: Sequence[Path]) -> None:
    """Refuse workers that do not see what they are to read."""
    found = run_on_workers(client, missing_paths, [str(path) for path in reads]) if reads else {}
    for address, missing in found.items():
        if missing:
            msg = f"workers must see the images and the run folder under the same path; the worker at {address} does not see {missing[0]}. Put them on a shared file system."
            raise ComputeError(msg)
