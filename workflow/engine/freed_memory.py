"""While tasks run, their process keeps the memory that they free: the next array takes it again.

Dask starts workers with ``MALLOC_TRIM_THRESHOLD_=65536``, so that they hold no
more than they use.  It also fixes the size from which glibc asks the system
for memory and gives it back, 128 KiB, so that each array of a task is given
page by page: passes over images and their scores took a third longer.
"""

from __future__ import annotations

import ctypes
import os
import threading
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Numbers of glibc's parameters, see mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Free memory at the end of a heap that is kept; the largest block taken from a heap, which is
#: the most that glibc allows [bytes].
KEPT_BYTES, LARGEST_BLOCK_BYTES = 64 * 2**20, 32 * 2**20
#: What glibc does without a word [bytes].
DEFAULT_BYTES = 128 * 2**10


class _Inside:
    """How many tasks of this process are inside."""

    lock = threading.Lock()
    depth = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while inside, in all threads of this process; the last one out gives it back.

    Only where the environment has fixed the limits, as Dask does for its
    workers: elsewhere glibc learns them, and other libraries have their own.
    """
    libc = _libc()
    if libc is None:
        yield
        return
    with _Inside.lock:
        if _Inside.depth == 0:
            libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK_BYTES)
            libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        _Inside.depth += 1
    try:
        yield
    finally:
        with _Inside.lock:
            _Inside.depth -= 1
            if _Inside.depth == 0:
                libc.mallopt(M_MMAP_THRESHOLD, _fixed("MALLOC_MMAP_THRESHOLD_") or DEFAULT_BYTES)
                libc.mallopt(M_TRIM_THRESHOLD, _fixed("MALLOC_TRIM_THRESHOLD_") or DEFAULT_BYTES)
                libc.malloc_trim(0)


@lru_cache(maxsize=1)
def _libc() -> Any:
    """Return glibc where the environment has told it when to give memory back, else None."""
    if _fixed("MALLOC_TRIM_THRESHOLD_") is None:
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def _fixed(name: str) -> int | None:
    """Return a limit that the environment has set [bytes]."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
