"""Columns of a user's table that colour the map: taken over into the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.commands.base import require_labels
from workflow.commands.export.tables import OwnColumns
from workflow.errors import ConfigError
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.browsing.own_columns import (
    SHARD_ROWS,
    ColumnFacts,
    keep_columns,
    ordered_words,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

#: Columns of a table that are taken, the first ones, and words that a column may have.
MAX_COLUMNS, MAX_WORDS = 8, 1000
#: Whole numbers of so few different values are kinds of things, not amounts.
MAX_WHOLE = 20
#: What takes the columns away again.
NONE = "none"


def columns(run: Path | str, table: Path | str | pd.DataFrame) -> dict[str, Any]:
    """Keep the columns of a table in a run, to colour its map; in place of those kept before.

    Parameters
    ----------
    run : path
        A run with labels.
    table : path or DataFrame
        A table, .csv or .parquet, whose column ``sample`` or ``path`` says to
        which image a row belongs; ``"none"`` takes away what is kept.

    Returns
    -------
    dict
        JSON-able: names of the ``columns`` that are kept, and of those
        ``left_out``, each with the reason.

    Raises
    ------
    ConfigError
        If it is no such table, rows belong to no image, or no column can colour images.
    StoreError
        If the run has no labels, or the disk refuses.

    Notes
    -----
    The table is held in memory.  What is kept are 2 or 4 bytes for each image and column.
    """
    store = RunStore.open(run)
    with store.lock():
        require_labels(store)
        if isinstance(table, str) and table == NONE:
            discard(store.path / layout.COLUMNS)
            return {"columns": [], "left_out": {}}
        own = OwnColumns(table, store)
        n_samples = int(store.manifest.images["shape"][0])
        facts: list[ColumnFacts] = []
        values: list[NDArray[Any]] = []
        left_out: dict[str, str] = {}
        for name in own.table.columns:
            made = _coded(own.table[name], n_samples)
            if len(facts) == MAX_COLUMNS:
                made = f"beyond the first {MAX_COLUMNS}"
            if isinstance(made, str):
                left_out[str(name)] = made
                continue
            facts.append(made[0])
            values.append(made[1])
        if not facts:
            why = "; ".join(f"{name}: {words}" for name, words in left_out.items())
            msg = f"`--columns` must have a column that can colour images; got none ({why or 'it has no other columns'}). Add numbers, or at most {MAX_WORDS:,} different words."
            raise ConfigError(msg)
        keep_columns(store, facts, _blocks(store, own, values))
    return {"columns": [one.name for one in facts], "left_out": left_out}


def describe(found: dict[str, Any]) -> str:
    """Return what was taken over, for a person."""
    taken = ", ".join(found["columns"]) or "no columns"
    lines = [f"the map can be coloured by {taken}, also after recut, merge and split"]
    lines += [f"left out: {name} ({why})" for name, why in found["left_out"].items()]
    return "\n".join(lines)


def _coded(
    column: pd.Series[Any], n_samples: int
) -> tuple[ColumnFacts, NDArray[np.int16] | NDArray[np.float32]] | str:
    """Return what a column is and its values as they are kept, or why it is left out."""
    import pandas as pd

    name, is_bool = str(column.name), pd.api.types.is_bool_dtype(column)
    if pd.api.types.is_numeric_dtype(column) and not is_bool:
        numbers = column.to_numpy(np.float64, na_value=np.nan)
        known = numbers[np.isfinite(numbers)]
        if not len(known):
            return "it has no values"
        whole = np.unique(known)
        if len(whole) > MAX_WHOLE or (whole != np.rint(whole)).any():
            low, high = np.quantile(known, [0.01, 0.99]).tolist()
            numbers = np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32)
            return ColumnFacts(name, None, [], n_samples - len(known), [low, high]), numbers
        column = pd.Series(numbers).astype("Int64")
    words = column.astype("string")
    codes, found = pd.factorize(words)
    if not len(found):
        return "it has no values"
    if len(found) > MAX_WORDS:
        return f"{len(found):,} different words; at most {MAX_WORDS:,} are told apart"
    counts = np.bincount(codes[codes >= 0], minlength=len(found))
    order = ordered_words(found.tolist(), counts)
    number = np.append(np.argsort(order), -1).astype(np.int16)
    n_missing = n_samples - int(counts.sum())
    facts = ColumnFacts(name, [found[at] for at in order], counts[order].tolist(), n_missing, [])
    return facts, number[codes]


def _blocks(
    store: RunStore, own: OwnColumns, values: list[NDArray[Any]]
) -> Iterator[list[NDArray[Any]]]:
    """Yield the values of some images after the other."""
    keys = own.table.index
    for block in row_ranges(store.manifest.images["shape"][0], SHARD_ROWS):
        wanted: NDArray[Any] = np.arange(*block)
        if own.key == "path":
            wanted = zarr_io.read_rows(store.path / layout.LABELS, "path", *block).astype(object)
        place = keys.get_indexer(wanted)
        yield [
            np.where(place >= 0, each[place], each.dtype.type(-1 if each.dtype.kind == "i" else np.nan))
            for each in values
        ]  # fmt: skip
