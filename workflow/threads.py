"""Threads of the process that leads a run, while its workers have nothing to do."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

#: Maximum of threads: each holds what its item takes, and all of them share one interpreter.
MAX_THREADS = 4


def n_processors() -> int:
    """Return how many processors this process may use.

    Returns
    -------
    int
        At least 1.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
    """Return ``[function(item) for item in items]``, several at a time where there are processors.

    Parameters
    ----------
    function : callable
        Spends its time in compiled loops, which let other threads go on, and
        changes nothing that another call reads.
    items : sequence
        What it is called with.

    Returns
    -------
    list
        In the order of the items.

    Examples
    --------
    >>> in_threads(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    n_threads = min(MAX_THREADS, n_processors(), len(items))
    if n_threads < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(function, items))
