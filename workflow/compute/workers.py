"""Calls on all workers, while workers come and go."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Client
    from distributed.diagnostics.plugin import WorkerPlugin

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Pause before a worker that did not answer is called again: its scheduler must notice that it is gone [s].
PAUSE_S = 0.5
MAX_ATTEMPTS = 20


def run_on_workers(client: Client, function: Callable[..., T], *args: Any) -> dict[str, T]:
    """Call a function once on every worker, outside of any task.

    Parameters
    ----------
    client : distributed.Client
        Connected; it may have no workers.
    function : callable
        May be called twice on a worker whose answer was lost.
    *args
        Its arguments.

    Returns
    -------
    dict of str to object
        Its result by the address of the worker.  A worker that leaves during
        the call is left out.

    Raises
    ------
    OSError
        If a worker that is there cannot be reached.
    Exception
        What the function raises on a worker.

    Notes
    -----
    ``Client.run`` fails as a whole when one of its workers dies meanwhile,
    which workers in a preemptible queue do.
    """
    results: dict[str, T] = {}
    addresses: list[str] | None = None
    for _ in range(MAX_ATTEMPTS):
        found = client.run(function, *args, workers=addresses, on_error="return")
        unreachable: dict[str, OSError] = {}
        for address, result in found.items():
            if isinstance(result, OSError):
                unreachable[address] = result
            elif isinstance(result, Exception):
                raise result
            else:
                results[address] = result
        if not unreachable:
            return results
        log.info("%d of %d workers did not answer", len(unreachable), len(found))
        time.sleep(PAUSE_S)
        # Not `scheduler_info`: the client's own update, which asks for no workers, may come between.
        present = client.nthreads()
        addresses = [address for address in unreachable if address in present]
        if not addresses:
            return results
    raise next(iter(unreachable.values()))


def register_worker_plugin(client: Client, plugin: WorkerPlugin) -> None:
    """Register a plugin that may be set up twice on a worker, even if workers leave meanwhile."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            client.register_plugin(plugin)
        except OSError as error:
            log.info("not every worker has taken %s: %s", type(plugin).__name__, error)
            time.sleep(PAUSE_S)
        else:
            return
    client.register_plugin(plugin)


def missing_paths(paths: Sequence[str]) -> list[str]:
    """Return the paths that do not exist where this runs.

    Parameters
    ----------
    paths : sequence of str
        Paths.

    Returns
    -------
    list of str
        Those that do not exist, in their order.
    """
    return [path for path in paths if not Path(path).exists()]
