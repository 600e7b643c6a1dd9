"""watch: a run is updated again and again, whenever its source has gained images."""

from __future__ import annotations

import itertools
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta

from workflow.commands.update import describe, update
from workflow.commands.updating.drift import describe_drift
from workflow.errors import ConfigError, WorkflowError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.engine.progress import Progress


def watch(
    run: Path | str,
    images: Path | str | None = None,
    *,
    every: str | float = "10min",
    n_rounds: int | None = None,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Iterator[dict[str, Any]]:
    """Update a run at fixed times with what its source has gained.

    Workers are there while a round needs them, not between rounds.  What is
    wrong in the first round is raised; later, a source that cannot be read for
    a while, or a run that another command writes, is told, and the next round
    tries again.

    Parameters
    ----------
    run : path
        A run with labels.
    images : path, optional
        The source; by default the one that the run was made from.
    every : str or float
        Time from the start of a round to that of the next, such as ``10min``, or seconds.
    n_rounds : int, optional
        How many; by default without end.
    client : distributed.Client, optional
        Where to run; opened where there is much to do.
    overrides : mapping, optional
        Settings that win over those of the run, by dotted key.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Yields
    ------
    dict
        For each round its ``date``, and what `update` returns; or ``error``, a text.

    Raises
    ------
    ConfigError
        If `every` is no time, or the run cannot be updated.
    WorkflowError
        What `update` raises, in the first round.
    """
    seconds = _seconds(every)
    for number in itertools.count(1):
        started = time.monotonic()
        date = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            found = update(run, images, client=client, overrides=overrides, progress=progress)
        except ConfigError:
            raise
        except WorkflowError as err:
            if number == 1:
                raise
            found = {"error": one_line(err)}
        yield {"date": date, **found}
        if number == n_rounds:
            return
        time.sleep(max(0.0, started + seconds - time.monotonic()))


def _seconds(every: str | float) -> float:
    """Return a time in seconds."""
    try:
        # Dask knows m, minute and minutes.
        words = re.sub(r"(?<=\d)\s*min$", "m", every) if isinstance(every, str) else every
        seconds = float(parse_timedelta(words, "seconds"))
    except (KeyError, TypeError, ValueError, AttributeError):
        seconds = 0.0
    if seconds <= 0.0:
        msg = f"`watch --every` must be a time, such as 10min or 6h; got {every}. Give one."
        raise ConfigError(msg)
    return seconds


def describe_round(found: Mapping[str, Any]) -> str:
    """Return what a round brought, in one line."""
    if "error" in found:
        said = f"{found['error']} The next round tries again."
    elif found["n_samples_new"]:
        said = f"{describe(found)} {describe_drift(found)}".rstrip()
    else:
        said = "nothing new"
    return f"{found['date']}: {said}"
