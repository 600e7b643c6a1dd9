"""The faces that the mathematics sees of disk and machines.

`Rows`
    Something to read rows from: an array in memory, a Zarr array of a run.
`Mapper`
    Something that computes tasks: this thread, the workers of a run.
`Shared`
    Arrays that a task can load: in memory, or in a file that the task only carries the path of.
`PartitionRunner`
    A mapper that also runs restartable tasks, each recorded in a journal when it is finished.
`TaskStorage`
    A place where tasks save arrays for later tasks, which get them as `Shared`.

The caller gives tasks what they need by `Mapper.share`.  Tasks give later tasks what the caller need
not see by `TaskStorage.save`, as long as the caller holds `Mapper.task_storage` open.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Rows(Protocol):
    """Rows that a task can read wherever it runs; pickles to a few hundred bytes when stored."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""

    @property
    def n_features(self) -> int:
        """Number of columns."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Read consecutive rows.

        Parameters
        ----------
        start, stop : int
            The first row, and the one after the last.

        Returns
        -------
        ndarray of shape (stop - start, n_features)
            The rows.
        """


class Shared(Protocol):
    """Arrays that tasks need; travels as a reference where it can."""

    def load(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays; called inside the task.

        Returns
        -------
        mapping of str to ndarray
            Arrays by name, not to be written to.
        """


class TaskStorage(Protocol):
    """A place where tasks save arrays for later tasks; travels as a reference where it can."""

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> Shared:
        """Save arrays; called inside a task, which returns what comes back instead of them.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Arrays by name.

        Returns
        -------
        Shared
            Where they are.
        """


class Mapper(Protocol):
    """Runs tasks somewhere and gives their results back in order."""

    def map(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Return ``[function(item) for item in items]``, whoever computes it.

        Parameters
        ----------
        function : callable
            Takes an item; picklable.
        items : sequence
            One for each task.

        Returns
        -------
        list
            Results in the order of the items.
        """

    def reduce(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        merge: Callable[[T, T], T],
        finish: Callable[[T], Any] | None = None,
    ) -> Any:
        """Return what `finish` makes of the results of at least one item, merged as by `pairwise`.

        Where tasks run elsewhere, all of it is done there: one result comes back.

        Parameters
        ----------
        function : callable
            Takes an item; picklable.
        items : sequence
            One for each task, at least one.
        merge : callable
            Takes the results of two neighbours.
        finish : callable, optional
            Takes the last result.

        Returns
        -------
        object
            What `finish` returns; without it, what the results merge to.
        """

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> Shared:
        """Make arrays available to the tasks of later maps.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            Arrays by name.

        Returns
        -------
        Shared
            What tasks are given; valid until after the next call.
        """

    def task_storage(self) -> AbstractContextManager[TaskStorage]:
        """Open a place where tasks save arrays; when it is closed, they are gone.

        Returns
        -------
        context manager
            Gives the `TaskStorage`.
        """


class Record(Protocol):
    """Where finished partitions are recorded; on disk a `workflow.runstore.journal.Journal`."""

    entries: dict[int, dict[str, Any]]

    def extend(self, records: Mapping[int, Mapping[str, Any]]) -> None:
        """Record the reports of partitions, by index; wait until the disk has them."""


class Bar(Protocol):
    """Progress of one pass."""

    def advance(self, n: int) -> None:
        """Count `n` more rows as done."""

    def resume(self, n: int) -> None:
        """Learn that `n` rows were done before, which says nothing of the pace."""


class PartitionRunner(Mapper, Protocol):
    """Runs restartable tasks; each one is recorded in a journal when it is finished."""

    def run(
        self,
        name: str,
        function: Callable[[Any], dict[str, Any]],
        items: Mapping[int, Any],
        *,
        journal: Record,
        n_rows: Callable[[Any], int],
    ) -> dict[int, dict[str, Any]]:
        """Run the tasks that the journal lacks.

        Parameters
        ----------
        name : str
            Shown with the progress.
        function : callable
            Picklable; takes an item, returns a JSON-able report.
        items : mapping of int to object
            Index of a task -> what it works on.
        journal : Record
            Tasks that it holds are not run again.
        n_rows : callable
            Rows of an item, for the progress.

        Returns
        -------
        dict of int to dict
            Index -> report, in the order of `items`.
        """

    def bar(self, name: str, total: int) -> AbstractContextManager[Bar]:
        """Show the progress of a pass over `total` rows."""


@dataclass(frozen=True, slots=True)
class ArrayRows:
    """Rows of an array in memory."""

    array: NDArray[Any]

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return int(self.array.shape[0])

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return int(self.array.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.array.dtype

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows `start` to `stop`, not copied."""
        return self.array[start:stop]


@dataclass(frozen=True, slots=True)
class InMemory:
    """Shared arrays of one process."""

    arrays: Mapping[str, NDArray[Any]]

    def load(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays."""
        return self.arrays


@dataclass(frozen=True, slots=True)
class InMemoryStorage:
    """Saves arrays in memory, where tasks and their caller share one."""

    def save(self, arrays: Mapping[str, NDArray[Any]]) -> InMemory:
        """Save the arrays."""
        return InMemory(dict(arrays))


def pairwise(results: Iterable[T], merge: Callable[[T, T], T]) -> T:
    """Merge results as neighbours, then neighbours of those, and so on: always the same bits.

    Parameters
    ----------
    results : iterable
        At least one; asked for one by one.
    merge : callable
        Takes two neighbours.

    Returns
    -------
    object
        What is left; no more than one result of each size is held on the way.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> pairwise("abcdefg", lambda left, right: f"({left}{right})")
    '(((ab)(cd))((ef)g))'
    """
    waiting: list[tuple[int, T]] = []
    for result in results:
        depth, merged = 0, result
        while waiting and waiting[-1][0] == depth:
            depth, merged = depth + 1, merge(waiting.pop()[1], merged)
        waiting.append((depth, merged))
    if not waiting:
        msg = "there must be at least one result to merge; got none. Pass an item."
        raise ValueError(msg)
    merged = waiting.pop()[1]
    while waiting:
        merged = merge(waiting.pop()[1], merged)
    return merged


def merge_groups(items: Sequence[T], min_groups: int) -> list[Sequence[T]]:
    """Cut items into groups whose results `pairwise` merges as it would those of the items.

    Parameters
    ----------
    items : sequence
        At least one.
    min_groups : int
        Groups wanted at least, where there are as many items.

    Returns
    -------
    list of sequence
        Consecutive groups of the largest power of two of items that leaves
        enough of them; the last may be shorter.

    Examples
    --------
    >>> merge_groups("abcdefg", 3)
    ['ab', 'cd', 'ef', 'g']
    >>> def bracket(left, right):
    ...     return f"({left}{right})"
    >>> pairwise([pairwise(group, bracket) for group in merge_groups("abcdefg", 3)], bracket)
    '(((ab)(cd))((ef)g))'
    """
    length = 1 << max(0, (len(items) // max(1, min_groups)).bit_length() - 1)
    return [items[start : start + length] for start in range(0, len(items), length)]


class SerialMapper:
    """Maps in this thread: the reference that every other mapper must equal."""

    def map(self, function: Callable[[Any], T], items: Sequence[Any]) -> list[T]:
        """Return ``[function(item) for item in items]``."""
        return [function(item) for item in items]

    def reduce(
        self,
        function: Callable[[Any], T],
        items: Sequence[Any],
        merge: Callable[[T, T], T],
        finish: Callable[[T], Any] | None = None,
    ) -> Any:
        """Return the results merged two by two, each as soon as it is there, and finished."""
        merged = pairwise((function(item) for item in items), merge)
        return merged if finish is None else finish(merged)

    def share(self, arrays: Mapping[str, NDArray[Any]]) -> Shared:
        """Keep the arrays in memory."""
        return InMemory(dict(arrays))

    def task_storage(self) -> AbstractContextManager[TaskStorage]:
        """Let tasks save arrays in memory."""
        return nullcontext(InMemoryStorage())


def run_missing(
    compute_items: Callable[[Mapping[int, Any], Callable[[Mapping[int, Any]], None]], None],
    items: Mapping[int, Any],
    journal: Record,
    n_rows: Callable[[Any], int],
    bar: AbstractContextManager[Bar],
) -> dict[int, dict[str, Any]]:
    """Compute the items that a journal lacks and record each; the body of `PartitionRunner.run`.

    Parameters
    ----------
    compute_items : callable
        ``compute_items(missing, note)`` computes them in any order and calls
        `note` with the reports of those that are finished.
    items, journal, n_rows
        As of `PartitionRunner.run`.
    bar : context manager
        Yields the progress.

    Returns
    -------
    dict of int to dict
        Index -> report, in the order of `items`.
    """
    missing = {index: item for index, item in items.items() if index not in journal.entries}
    with bar as shown:
        shown.resume(sum(n_rows(item) for i, item in items.items() if i not in missing))

        def note(reports: Mapping[int, dict[str, Any]]) -> None:
            journal.extend(reports)
            shown.advance(sum(n_rows(items[index]) for index in reports))

        compute_items(missing, note)
    return {index: journal.entries[index] for index in items}


class _NoBar:
    """Shows nothing."""

    def advance(self, n: int) -> None:
        """Count nothing."""

    resume = advance


class SerialRunner(SerialMapper):
    """Runs partitions in this thread, one after the other, and shows nothing."""

    def run(
        self,
        name: str,
        function: Callable[[Any], dict[str, Any]],
        items: Mapping[int, Any],
        *,
        journal: Record,
        n_rows: Callable[[Any], int],
    ) -> dict[int, dict[str, Any]]:
        """Run the tasks that the journal lacks; return the reports of all."""

        def compute_items(missing: Mapping[int, Any], note: Callable[[Any], None]) -> None:
            for index, item in missing.items():
                (report,) = self.map(function, [item])
                note({index: report})

        return run_missing(compute_items, items, journal, n_rows, self.bar(name, 0))

    def bar(self, name: str, total: int) -> AbstractContextManager[Bar]:
        """Show nothing."""
        return nullcontext(_NoBar())
