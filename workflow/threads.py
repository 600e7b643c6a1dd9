"""Threads of a process: one for BLAS, so that bits never depend on their number; several for the client alone."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


@lru_cache(maxsize=1)
def _thread_pools(n_modules: int) -> ThreadpoolController:
    """Return the controller of the loaded BLAS libraries; finding them takes milliseconds.

    With the number of modules that are imported: one of later may bring a library of its own.
    """
    del n_modules
    return ThreadpoolController()


class _OneBlasThread:
    """How many threads of this process are inside `one_blas_thread`, and what to restore."""

    lock = threading.Lock()
    depth = 0
    #: What restores the numbers of each set of libraries, in the order they were first limited.
    limiters: ClassVar[dict[ThreadpoolController, Any]] = {}


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Compute with one BLAS thread while inside, in all threads of this process.

    Yields
    ------
    None
        Nothing.

    Notes
    -----
    The setting belongs to the process, so the first one in sets it and the
    last one out restores it: were each task to restore what it found, the
    first to end would give several threads to those that still compute, and
    the bits of their products would change.
    """
    with _OneBlasThread.lock:
        # Set again by those who find it set: some BLAS builds keep the number per thread.
        pools = _thread_pools(len(sys.modules))
        limiter = pools.limit(limits=1, user_api="blas")
        _OneBlasThread.limiters.setdefault(pools, limiter)
        _OneBlasThread.depth += 1
    try:
        yield
    finally:
        with _OneBlasThread.lock:
            _OneBlasThread.depth -= 1
            if _OneBlasThread.depth == 0:
                # Later ones found set what the first one had set: it comes last.
                while _OneBlasThread.limiters:
                    _OneBlasThread.limiters.popitem()[1].restore_original_limits()
