"""Tasks over partitions, on a Dask client: submitted together, journalled as they finish."""

from __future__ import annotations

import contextlib
import math
import uuid
import warnings
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from distributed import KilledWorker, as_completed
from distributed.client import FutureCancelledError
from distributed.scheduler import NoValidWorkerError, NoWorkerError

from workflow.compute import run_on_workers
from workflow.config import describe_dask_settings
from workflow.engine.results import finish_result, merge_results, reduce_items, run_task
from workflow.engine.waiting import Waits
from workflow.errors import ComputeError
from workflow.mapper import merge_groups, pairwise, run_missing
from workflow.runstore.files import discard, read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from distributed import Client, Future
    from numpy.typing import NDArray

    from workflow.engine.progress import Progress
    from workflow.engine.results import TaskResult
    from workflow.mapper import Bar, Record

T = TypeVar("T")

#: A task that raises what is not ours, such as a lost connection, is tried so often again.
RETRIES = 3
#: Groups of tasks of a reduction for each thread of the workers: enough to even out their pace, few enough
#: that handing results on costs less than making them.
GROUPS_PER_THREAD = 2
#: Results that are fetched and noted together, at most.
MAX_TOGETHER = 64
#: Dask gives a task up when four workers have died that held it, one after the other.  Where
#: workers are taken away often, or one task brings down the workers of others, that befalls tasks
#: that did nothing wrong: they are tried so many times more once the rest is done.
KILLED_RETRIES = 2


@dataclass(frozen=True, slots=True)
class StoredArrays:
    """Arrays in a file of the run folder; tasks carry the path, each process reads it once."""

    path: Path
    checksum: int

    def load(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays."""
        return _cached_arrays(self)


@lru_cache(maxsize=4)
def _cached_arrays(stored: StoredArrays) -> Mapping[str, NDArray[Any]]:
    """Read the arrays of a file once per process."""
    return read_arrays(stored.path, stored.checksum)


@dataclass(frozen=True, slots=True)
class FolderStorage:
    """A folder of the run, which workers see, for arrays that tasks save."""

    folder: Path

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> StoredArrays:
        """Save arrays in a file of their own, also when a task is tried again."""
        path = self.folder / f"{uuid.uuid4().hex}.npz"
        return StoredArrays(path, write_arrays(path, arrays))


class Executor:
    """Runs tasks on a client, or in this process where there is none.

    Implements `workflow.mapper.Mapper`, which the mathematics uses, and `PartitionRunner`.

    Parameters
    ----------
    client : distributed.Client or None
        Where tasks run; None for this process.
    progress : Progress
        Where it is shown.
    shared_folder : Path
        Where arrays that every task needs are put; workers must see it.
    """

    def __init__(self, client: Client | None, progress: Progress, shared_folder: Path) -> None:
        self.client = client
        self.progress = progress
        self.shared_folder = shared_folder
        self.peak_rss_bytes = 0
        self.waits = Waits()

    def as_dask_scheduler(self) -> contextlib.AbstractContextManager[Any]:
        """Let Dask collections compute where the tasks run, while inside."""
        return contextlib.nullcontext() if self.client is None else self.client.as_current()

    def ignore_warning(self, message: str) -> None:
        """Keep a library's warning, known to be harmless, off the user's screen."""
        if self.client is None:
            warnings.filterwarnings("ignore", message=message)
        else:
            run_on_workers(self.client, partial(warnings.filterwarnings, "ignore", message=message))

    def prepare(self, function: Callable[[], object]) -> None:
        """Call a function once on every worker that is there, whatever becomes of it."""
        if self.client is not None:
            self.client.run(function, on_error="ignore")

    def map(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Return ``[function(item) for item in items]``."""
        results: dict[int, T] = {}
        self._run(function, dict(enumerate(items)), results.update)
        return [results[index] for index in range(len(items))]

    def reduce(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        merge: Callable[[T, T], T],
        finish: Callable[[T], Any] | None = None,
    ) -> Any:
        """Return the results merged two by two and finished, where they are computed."""
        if self.client is None:
            result = finish_result(reduce_items(items, function, merge), finish)
        else:
            result = self._reduced(function, items, merge, finish)
        if isinstance(result, Exception):
            raise result
        self._note(result)
        if result.error is not None:
            raise result.error
        return result.result

    def _note(self, result: TaskResult) -> None:
        """Learn what a task has taken."""
        self.peak_rss_bytes = max(self.peak_rss_bytes, result.peak_rss_bytes)
        self.waits = self.waits.plus(result.waits)
        self.progress.waits = self.progress.waits.plus(result.waits)

    def _reduced(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        merge: Callable[[T, T], T],
        finish: Callable[[T], Any] | None,
    ) -> Any:
        """Return the result that the workers have merged, or the exception it ended with."""
        client = self.client
        assert client is not None
        n_groups = GROUPS_PER_THREAD * sum(client.nthreads().values()) or len(items)
        for retries_left in reversed(range(KILLED_RETRIES + 1)):
            parts = client.map(
                reduce_items,
                merge_groups(items, n_groups),
                function=function,
                merge=merge,
                pure=False,
                retries=RETRIES,
            )
            merged = pairwise(
                parts,
                partial(client.submit, merge_results, merge=merge, pure=False, retries=RETRIES),
            )
            if finish is not None:
                merged = client.submit(finish_result, merged, finish, pure=False, retries=RETRIES)
            result = _result_of(merged, spare_killed=retries_left > 0)
            if not isinstance(result, KilledWorker):
                break
        return result

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> StoredArrays:
        """Put arrays where tasks can read them; what was shared two calls ago is removed."""
        self.shared_folder.mkdir(parents=True, exist_ok=True)
        path = self.shared_folder / f"{uuid.uuid4().hex}.npz"
        old = sorted(self.shared_folder.glob("*.npz"), key=lambda p: p.stat().st_mtime_ns)
        for outdated in old[:-2]:
            outdated.unlink()
        return StoredArrays(path, write_arrays(path, arrays))

    @contextlib.contextmanager
    def task_storage(self) -> Iterator[FolderStorage]:
        """Open a folder in which tasks save arrays; when it is closed, it is removed."""
        folder = self.shared_folder / uuid.uuid4().hex
        folder.mkdir(parents=True)
        try:
            yield FolderStorage(folder)
        finally:
            discard(folder)

    def run(
        self,
        name: str,
        function: Callable[[Any], dict[str, Any]],
        items: Mapping[int, Any],
        *,
        journal: Record,
        n_rows: Callable[[Any], int],
    ) -> dict[int, dict[str, Any]]:
        """Run the tasks that the journal lacks; return what all have reported.

        Parameters
        ----------
        name : str
            Shown with the progress.
        function : callable
            Picklable; takes an item, returns a JSON-able report.
        items : mapping of int to object
            Task index -> what it works on.
        journal : Record
            Where finished tasks are noted; those noted are not run again.
        n_rows : callable
            Rows of an item, for the progress.

        Returns
        -------
        dict of int to dict
            Task index -> report, in the order of `items`.
        """
        bar = self.bar(name, sum(map(n_rows, items.values())))
        return run_missing(partial(self._run, function), items, journal, n_rows, bar)

    def bar(self, name: str, total: int) -> contextlib.AbstractContextManager[Bar]:
        """Show the progress of a pass over `total` rows."""
        return self.progress.bar(name, total)

    def _run(
        self,
        function: Callable[[Any], Any],
        items: Mapping[int, Any],
        on_results: Callable[[Mapping[int, Any]], None],
    ) -> None:
        """Run tasks; hand results over as they come; raise the error of the lowest index."""
        batches = (
            self._here(function, items) if self.client is None else self._there(function, items)
        )
        errors: dict[int, Exception] = {}
        # Closed here, however this ends: left to itself, it would drop its tasks when the client is gone.
        with contextlib.closing(batches):
            for batch in batches:
                results: dict[int, Any] = {}
                for index, result in batch:
                    if isinstance(result, Exception):
                        errors[index] = result
                        continue
                    self._note(result)
                    if result.error is not None:
                        errors[index] = result.error
                    else:
                        results[index] = result.result
                if results:
                    on_results(results)
        if errors:
            raise errors[min(errors)]

    def _here(self, function: Callable[[Any], Any], items: Mapping[int, Any]) -> Any:
        """Yield [(index, result)] from this process, up to the first error."""
        for index, item in items.items():
            result = run_task(item, function)
            yield [(index, result)]
            if result.error is not None:
                return

    def _there(self, function: Callable[[Any], Any], items: Mapping[int, Any]) -> Any:
        """Yield batches from the workers, also of tasks that died with several of them."""
        for retries_left in reversed(range(KILLED_RETRIES + 1)):
            killed: list[int] = []
            first_error = math.inf
            batches = self._once(function, items, spare_killed=retries_left > 0)
            with contextlib.closing(batches):
                for batch in batches:
                    killed += [i for i, result in batch if isinstance(result, KilledWorker)]
                    others = [pair for pair in batch if not isinstance(pair[1], KilledWorker)]
                    errors = [index for index, result in others if _is_error(result)]
                    first_error = min([first_error, *errors])
                    yield others
            # What lies behind an error is dropped, as it is within a round.
            items = {index: items[index] for index in sorted(killed) if index < first_error}
            if not items:
                return

    def _once(
        self, function: Callable[[Any], Any], items: Mapping[int, Any], *, spare_killed: bool
    ) -> Any:
        """Yield [(index, result), ...] of all that finished meanwhile; where spared, `KilledWorker`, too.

        After an error the tasks behind it are dropped and those before it are
        awaited, so that the error told is always the first one of the data.
        """
        assert self.client is not None
        name = f"{type(function).__name__.strip('_').lower()}-{uuid.uuid4().hex[:8]}"
        keys = [f"{name}-{index}" for index in items]
        futures = self.client.map(
            run_task, list(items.values()), function=function, key=keys, pure=False, retries=RETRIES
        )
        index_of: dict[Any, int] = dict(zip(keys, items, strict=True))
        lowest_error: int | None = None
        try:
            for ready in _few(as_completed(futures, loop=self.client.loop).batches()):
                wanted = [
                    f for f in ready if lowest_error is None or index_of[f.key] < lowest_error
                ]
                batch: list[tuple[int, Any]] = []
                for future, result in self._fetched(wanted, spare_killed=spare_killed):
                    index = index_of[future.key]
                    if lowest_error is not None and index > lowest_error:
                        continue
                    if _is_error(result) and not isinstance(result, KilledWorker):
                        lowest_error = index
                        self.client.cancel([f for f in futures if index_of[f.key] > index])
                    batch.append((index, result))
                yield batch
                for future in wanted:
                    future.release()
        finally:
            self.client.cancel([f for f in futures if not f.done()], force=True)

    def _fetched(
        self, futures: Sequence[Future[Any]], *, spare_killed: bool
    ) -> list[tuple[Future[Any], Any]]:
        """Return futures with what they ended with; results come in one message, not one each."""
        assert self.client is not None
        # What was cancelled or failed has nothing to fetch; what is fetched is never None.
        finished = {f.key: f for f in futures if f.status == "finished"}
        try:
            found = self.client.gather(finished, errors="skip") if len(finished) > 1 else {}
        except Exception:  # noqa: BLE001 - asked one by one, the one that cannot be fetched tells why
            found = {}
        return [(f, found.get(f.key) or _result_of(f, spare_killed=spare_killed)) for f in futures]


def _few(batches: Iterable[Sequence[T]]) -> Iterator[Sequence[T]]:
    """Cut batches, so that what comes back together is not the more the more tasks there are."""
    for batch in batches:
        for first in range(0, len(batch), MAX_TOGETHER):
            yield batch[first : first + MAX_TOGETHER]


def _is_error(result: Any) -> bool:
    """Return whether a task ended with an error, ours or another."""
    return isinstance(result, Exception) or result.error is not None


def _result_of(future: Future[Any], *, spare_killed: bool) -> Any:
    """Return the result of a task, or the exception it ended with."""
    try:
        return future.result()
    except KilledWorker as err:
        if spare_killed:
            return err
        n_died = (KILLED_RETRIES + 1) * (err.allowed_failures + 1)
        msg = f"workers must stay alive; {n_died} died over one task. Give workers more memory (compute.memory_limit), then run the same command again to go on.{describe_dask_settings()}"
        return ComputeError(msg)
    except (NoValidWorkerError, NoWorkerError):
        msg = f"workers must stay alive; none is left. Run the same command again to go on.{describe_dask_settings()}"
        return ComputeError(msg)
    except FutureCancelledError:
        msg = "the scheduler must stay up; the connection to it was lost. Start it, then run the same command again."
        return ComputeError(msg)
    except Exception as err:  # noqa: BLE001 - raised by the caller once the tasks before it are done
        return err
