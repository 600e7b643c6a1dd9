"""Open a Dask client and an executor on it."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
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
from workflow.runstore.kept import kept_around
from workflow.runstore.objects import refusals

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client

    from workflow.config import Config
    from workflow.runstore.paths import Place

log = logging.getLogger(__name__)


@contextlib.contextmanager
def executor_for(
    shared: Path,
    config: Config,
    client: Client | None = None,
    progress: Progress | None = None,
    *,
    reads: Sequence[Place] = (),
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
    reads : sequence of Path or Address
        Files, folders and addresses that every worker must see.

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
        _require_places(client, reads)
        stack.enter_context(heartbeat(client, shown))
        yield Executor(client, shown, shared)


def _require_places(client: Client, reads: Sequence[Place]) -> None:
    """Refuse workers that do not see what they are to read."""
    local = [str(place) for place in reads if isinstance(place, Path)]
    addresses = [place for place in reads if not isinstance(place, Path)]
    refused = run_on_workers(client, refusals, addresses) if addresses else {}
    for worker, reasons in refused.items():
        if reasons:
            msg = (
                f"workers must be able to read the images; the one at {worker} cannot: {reasons[0]}"
            )
            raise ComputeError(msg)
    found = run_on_workers(client, missing_paths, local) if local else {}
    for address, missing in found.items():
        if missing:
            msg = f"workers must see the images and the run folder under the same path; the worker at {address} does not see {missing[0]}. {_advice(Path(missing[0]))}"
            raise ComputeError(msg)


def _advice(missing: Path) -> str:
    """Return what to do about a place that workers do not see."""
    kept = kept_around(missing)
    if kept is None:
        return "Put them on a shared file system."
    return f"There the run at {kept.address} is worked on: set compute.working_folder to a folder on a shared file system."
