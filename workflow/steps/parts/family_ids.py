"""Ids of families that stay: a family that is found again has the number that it had before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.engine.segments import n_searched
from workflow.labels.lineage import Overlap, add_overlaps, count_overlap, new_ids
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import ArrayPlace, read_arrays, write_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.engine.executor import Executor
    from workflow.engine.partitions import Partition
    from workflow.runstore import RunStore

#: Values of what is known of a family for an id that no family has.
NO_FAMILY = {"size": 0, "exemplars": -1}


def keep_ids(
    executor: Executor,
    store: RunStore,
    found: Path,
    names: Sequence[str],
    rows: Callable[[Any], Iterable[NDArray[np.int32]]],
    items: Sequence[Any],
) -> None:
    """Give families that were found anew the ids of those in the labels of the run.

    A family keeps the id of the one before with which it shares more than half of the images of either;
    others get ids that none has had.  An id that no family has is left out, with a size of 0.

    Parameters
    ----------
    executor : Executor
        Runs the tasks.
    store : RunStore
        The run, with the labels of before if it has any.
    found : Path
        What the search has left: arrays over families, largest first, and ``family`` or ``number``, the
        place of a family among them; written anew.
    names : sequence of str
        The arrays over families.
    rows : callable
        Returns the places of the families of the images of an item, block by block.
    items : sequence of Partition or InUnits
        All images.
    """
    labels = store.path / layout.LABELS
    if not labels.is_dir() or "family" not in zarr_io.array_names(labels):
        return
    arrays = read_arrays(found)
    n_families = len(arrays["size"])
    task = SharedFamilies(labels, rows, n_searched(store))
    overlap = executor.reduce(task, list(items), add_overlaps)
    next_id = max(store.manifest.n_family_ids, int(overlap.before.max(initial=-1)) + 1)
    ids = new_ids(overlap, n_families, next_id)
    n_ids = max(next_id, int(ids.max(initial=-1)) + 1)
    for name in names:
        shape = (n_ids, *arrays[name].shape[1:])
        by_id = np.full(shape, NO_FAMILY.get(name, np.nan), arrays[name].dtype)
        by_id[ids] = arrays[name]
        arrays[name] = by_id
    for name in {"family", "number"} & arrays.keys():
        arrays[name] = np.append(ids, -1)[arrays[name]].astype(arrays[name].dtype)
    write_arrays(found, arrays)


@dataclass(frozen=True, slots=True)
class SharedFamilies:
    """Counts the images of each pair of a family of before and one of now, in the rows of a partition.

    Those of before were found among the first `n_searched` images.
    """

    labels: Path
    rows: Callable[[Any], Iterable[NDArray[np.int32]]]
    n_searched: int

    def __call__(self, item: Any) -> Overlap:
        """Return the pairs and their images."""
        return count_overlap(self._pairs(item))

    def _pairs(self, item: Any) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
        """Yield the families of before and of now, block by block."""
        start = getattr(item, "partition", item).start
        for family in self.rows(item):
            stop = min(start + len(family), self.n_searched)
            if start < stop:
                before = zarr_io.read_rows(self.labels, "family", start, stop)
                yield before, family[: stop - start]
            start += len(family)


def note_ids(store: RunStore) -> None:
    """Note how many ids the families in the labels have taken, with those that are gone."""
    if "family_size" in zarr_io.array_names(store.model):
        n_ids = len(store.read_model("family_size")[0])
        store.manifest.n_family_ids = max(store.manifest.n_family_ids, n_ids)


def rows_found(found: Path, partition: Partition) -> Iterator[NDArray[np.int32]]:
    """Yield the families of the images of a partition that one task has left, block by block."""
    place = ArrayPlace.find(found, "family")
    for rows in partition.blocks:
        yield place.read_range(*rows)
