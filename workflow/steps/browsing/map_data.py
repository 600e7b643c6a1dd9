"""What a map shows of a run: places of images, what colours them, and a picture of each cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.verify import rows_and_blocks
from workflow.errors import ConfigError
from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.own_columns import columns_at, kept_columns, ordered_words

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workflow.chunks import RowRange
    from workflow.report import MapData, Sheet
    from workflow.runstore import RunStore

#: Images that are drawn at most; of more, every so-manieth block.
MAX_DRAWN = 2**21
#: What arrays of the labels are called on a map, where they have another name.
NAMES = {"label": "cluster"}


def drawn_ranges(store: RunStore) -> list[RowRange]:
    """Return the rows that a map is drawn from: all blocks, or of many images some, evenly among them."""
    n_samples, block_rows = rows_and_blocks(store)
    return list(row_ranges(n_samples, block_rows))[:: -(-n_samples // MAX_DRAWN)]


def map_data(store: RunStore, by: Any = "label", sheets: Iterable[Sheet] = ()) -> MapData | None:
    """Return the map of a run, coloured by an array of its labels, a column that it keeps, or a user's array.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    by : str or array of shape (n_samples,)
        What colours the images.
    sheets : iterable of Sheet
        Those of clusters give the pictures.

    Returns
    -------
    MapData or None
        None where no map was made.

    Raises
    ------
    ConfigError
        If there is no such array, or it has another length.
    """
    from workflow.report import ColumnData, MapData

    labels = store.path / layout.LABELS
    names = zarr_io.array_names(labels)
    if "x" not in names:
        return None
    n_samples, ranges = store.manifest.images["shape"][0], drawn_ranges(store)

    def read(name: str) -> Any:
        return np.concatenate([zarr_io.read_rows(labels, name, *rows) for rows in ranges])

    column: ColumnData | None = None
    if isinstance(by, str):
        by = next((name for name, shown in NAMES.items() if shown == by), by)
        known = sorted(set(names) - {"path", "top_label", "top_membership"})
        own = [one.name for one in kept_columns(store)]
        if by in known:
            values, name = read(by), NAMES.get(by, by.replace("_", " "))
        elif by in own:
            rows = np.concatenate([np.arange(*block) for block in ranges])
            column = columns_at(store, rows, [by])[0]
            values, name = column.values, by
        else:
            msg = f"`by` must be an array of labels.zarr, a column that the run keeps, or one value for each image; got {by!r}. Known: {', '.join([*known, *own])}. `overcluster report RUN --columns TABLE` keeps columns."
            raise ConfigError(msg)
    else:
        given = np.asarray(by)
        if given.shape != (n_samples,):
            msg = f"`by` must have one value for each of {n_samples} images; got shape {given.shape}. Give them in the order of the images."
            raise ConfigError(msg)
        if given.dtype.kind not in "biuf":
            words, given, counts = np.unique(
                given.astype(str), return_inverse=True, return_counts=True
            )
            order = ordered_words(words.tolist(), counts)
            given = np.argsort(order)[given]
            column = ColumnData(
                name="values given",
                values=given,
                categories=words[order].tolist(),
                counts=counts[order].tolist(),
            )
        values, name = (
            np.concatenate([given[rows.start : rows.stop] for rows in ranges]),
            "values given",
        )
    pictures = {}
    if name == "cluster":
        pictures = {
            sheet.cluster: sheet.images[0]
            for sheet in sheets
            if sheet.kind == "cluster"
            and sheet.cluster is not None
            and sheet.images is not None
            and len(sheet.images)
        }
    places = np.column_stack([read("x"), read("y")])
    return MapData(places, values, n_samples, name, pictures, column=column)
