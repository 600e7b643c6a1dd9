"""Reaches every worker while workers come and go."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Client
    from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Between two questions to a worker that did not answer: the scheduler must notice that it is gone.
PAUSE_S = 0.5
ATTEMPTS = 20


def ask_workers(client: Client, function: Callable[..., T], *args: Any) -> dict[str, T]:
    """Call a function once on every worker that stays, outside of any task.

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
        Its result by the address of the worker.  A worker that leaves while
        it is asked is left out, as if it had left before.

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
    answers: dict[str, T] = {}
    asked: list[str] | None = None
    for _ in range(ATTEMPTS):
        found = client.run(function, *args, workers=asked, on_error="return")
        lost: dict[str, OSError] = {}
        for address, answer in found.items():
            if isinstance(answer, OSError):
                lost[address] = answer
            elif isinstance(answer, Exception):
                raise answer
            else:
                answers[address] = answer
        if not lost:
            return answers
        log.info("%d of %d workers did not answer", len(lost), len(found))
        time.sleep(PAUSE_S)
        there = client.scheduler_info(n_workers=-1)["workers"]
        asked = [address for address in lost if address in there]
        if not asked:
            return answers
    raise next(iter(lost.values()))


def register_plugin(client: Client, plugin: WorkerPlugin | SchedulerPlugin) -> None:
    """Register a plugin that can be set up twice, whichever workers leave meanwhile.

    Parameters
    ----------
    client : distributed.Client
        Connected; it may have no workers.
    plugin : WorkerPlugin or SchedulerPlugin
        The same for all, also for those to come.

    Raises
    ------
    OSError
        If a worker that is there cannot be reached, or the plugin's own.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            client.register_plugin(plugin)
        except OSError as error:
            log.info("not every worker has taken %s: %s", type(plugin).__name__, error)
            time.sleep(PAUSE_S)
        else:
            return
    client.register_plugin(plugin)
