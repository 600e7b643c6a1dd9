"""What runs around a task on a worker, and what a task gives back."""

from __future__ import annotations

import resource
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.engine.freed_memory import freed_memory_kept
from workflow.engine.waiting import Waits, waited_s
from workflow.errors import WorkflowError
from workflow.mapper import pairwise
from workflow.runstore.files import disk_errors
from workflow.threads import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class TaskResult(NamedTuple):
    """What a task gives back: a result or an error of ours, its process's peak memory, and how long it waited."""

    result: Any
    error: WorkflowError | None
    peak_rss_bytes: int
    waits: Waits

    def after(self, other: TaskResult) -> TaskResult:
        """Return it with the larger memory, and the waits of both."""
        peak = max(self.peak_rss_bytes, other.peak_rss_bytes)
        return self._replace(peak_rss_bytes=peak, waits=self.waits.plus(other.waits))


def peak_rss_bytes() -> int:
    """Return the largest resident size this process has had [bytes].

    From the kernel's own mark where there is one: `getrusage` also counts what
    the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        marks = dict(line.split(":", 1) for line in status.read_text().splitlines())
        if "VmHWM" in marks:
            return int(marks["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_task(item: Any, function: Callable[[Any], Any]) -> TaskResult:
    """Run one task with one BLAS thread.

    Errors of ours come back as values: a worker would log a raised one at
    length, and the user is owed one line.
    """
    started, waited = time.monotonic(), waited_s()
    result, error = None, None
    with one_blas_thread(), freed_memory_kept():
        try:
            with disk_errors(Path("results of a task")):
                result = function(item)
        except WorkflowError as err:
            error = err
    waits = Waits(waited_s() - waited, time.monotonic() - started)
    return TaskResult(result, error, peak_rss_bytes(), waits)


def merge_results(
    left: TaskResult, right: TaskResult, merge: Callable[[Any, Any], Any]
) -> TaskResult:
    """Merge two results; of two errors the first one counts."""
    error = left.error or right.error
    both = left._replace(result=None, error=error)
    if error is None:
        both = run_task((left.result, right.result), lambda pair: merge(*pair)).after(left)
    return both.after(right)


def reduce_items(
    items: Sequence[Any], function: Callable[[Any], Any], merge: Callable[[Any, Any], Any]
) -> TaskResult:
    """Run several tasks of one function and merge what they give."""
    # Around all of them: the next task takes what the last one has freed.
    with freed_memory_kept():
        result: TaskResult = pairwise(
            (run_task(item, function) for item in items), partial(merge_results, merge=merge)
        )
    return result


def finish_result(result: TaskResult, finish: Callable[[Any], Any] | None) -> TaskResult:
    """Make what is wanted of a merged result."""
    if finish is None or result.error is not None:
        return result
    return run_task(result.result, finish).after(result)
