"""Columns of a user's table, kept in the run folder beside the images that they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.members import values_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from workflow.report import ColumnData
    from workflow.runstore import RunStore

#: Rows of a file of them, and of what is written at a time.
SHARD_ROWS = 2**20


class ColumnFacts(NamedTuple):
    """What is known of a column over all images; JSON-able.

    Attributes
    ----------
    name : str
        Its name in the table.
    categories : list of str or None
        The words, the most frequent first: its values are their numbers. None
        where its values are numbers.
    counts : list of int
        Images of each.
    n_missing : int
        Images without a value.
    limits : list of float
        Nearly all numbers lie between these two; empty for words.
    """

    name: str
    categories: list[str] | None
    counts: list[int]
    n_missing: int
    limits: list[float]


def ordered_words(words: Sequence[str], counts: NDArray[np.int64]) -> list[int]:
    """Return the places of words by their frequency, of equals by the alphabet.

    Examples
    --------
    >>> import numpy as np
    >>> ordered_words(["b", "a", "c"], np.array([1, 1, 5]))
    [2, 1, 0]
    """
    return sorted(range(len(words)), key=lambda at: (-int(counts[at]), words[at]))


def keep_columns(
    store: RunStore, facts: Sequence[ColumnFacts], blocks: Iterable[Sequence[NDArray[Any]]]
) -> None:
    """Keep columns in place of those kept before, in one move; under the lock of the run.

    Parameters
    ----------
    store : RunStore
        The run.
    facts : sequence of ColumnFacts
        What they are.
    blocks : iterable of sequences of arrays
        Their values for `SHARD_ROWS` images after the other: int16, -1 none, or float32, NaN none.
    """
    place = store.wip(layout.COLUMNS)
    known = {"images": store.manifest.images["digest"], "columns": [f._asdict() for f in facts]}
    zarr_io.create_group(place, known)
    names = [str(number) for number in range(len(facts))]
    for name, column in zip(names, facts, strict=True):
        zarr_io.create_rows_array(
            place,
            name,
            n_rows=store.manifest.images["shape"][0],
            tail_shape=(),
            dtype="float32" if column.categories is None else "int16",
            shard_rows=SHARD_ROWS,
            block_rows=min(SHARD_ROWS, 2**16),
            dims=("sample",),
        )
    with zarr_io.rows_writers(place, names, 0) as writers:
        for block in blocks:
            for name, values in zip(names, block, strict=True):
                writers[name].append(values)
    store.replace([(place, store.path / layout.COLUMNS)])


def kept_columns(store: RunStore) -> list[ColumnFacts]:
    """Return the columns that were given for the images of a run; none where they were given for others."""
    known = _known(store)
    if known.get("images") != store.manifest.images.get("digest"):
        return []
    return [ColumnFacts(**facts) for facts in known["columns"]]


def has_columns_of_others(store: RunStore) -> bool:
    """Whether columns are kept that were given for images that the run does not hold any more."""
    return bool(_known(store)) and not kept_columns(store)


def _known(store: RunStore) -> dict[str, Any]:
    """Return what is noted of the columns that are kept."""
    place = store.path / layout.COLUMNS
    return zarr_io.read_attrs(place) if place.exists() else {}


def columns_at(
    store: RunStore, rows: NDArray[np.int64], names: Iterable[str] | None = None
) -> list[ColumnData]:
    """Return columns of some images, in their order; all that are kept, or those of some names."""
    from workflow.report import ColumnData

    facts = kept_columns(store)
    wanted = [at for at, one in enumerate(facts) if names is None or one.name in names]
    place = store.path / layout.COLUMNS
    found = values_at(store, map(str, wanted), rows, group=place) if wanted else {}
    return [ColumnData(values=found[str(at)], **facts[at]._asdict()) for at in wanted]
