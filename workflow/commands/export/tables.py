"""Tables of images: what a run tells of each, joined with columns of the user's; CSV and Parquet, block by block."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, one_line
from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.members import READ_ROWS, values_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd
    from numpy.typing import NDArray

    from workflow.runstore import RunStore

#: Endings of tables.
TABLES = (".csv", ".parquet")
#: Arrays of ``labels.zarr`` that a table holds beside ``sample`` and the name of the cluster, in this order.
COLUMNS = (
    *("path", "segment", "label", "strength", "outlier_score"),
    *("family", "family_strength", "x", "y"),
)
#: What a column of the user's may be joined by.
KEYS = ("sample", "path")
#: How many rows that do not match are named.
MAX_NAMED = 5


class Frames:
    """What a run tells of its images, as data frames.

    Parameters
    ----------
    store : RunStore
        A run with labels.
    own : OwnColumns, optional
        Columns of the user's.

    Raises
    ------
    ConfigError
        If they have a name that the run uses.

    Attributes
    ----------
    columns : list of str
        Names of the columns of the run, in their order.
    n_rows : int
        Images given so far.
    """

    def __init__(self, store: RunStore, own: OwnColumns | None = None) -> None:
        self._store, self._own, self.n_rows = store, own, 0
        self._names = {
            int(n): name for n, name in read_summary(store).get("cluster_names", {}).items()
        }
        stored = zarr_io.array_names(store.path / layout.LABELS)
        self.columns = ["sample", *(name for name in COLUMNS if name in stored)]
        if self._names:
            self.columns.insert(self.columns.index("label") + 1, "cluster_name")
        if own is not None:
            own.require_other_names(self.columns)

    def of(self, groups: Iterable[NDArray[np.int64]]) -> Iterator[pd.DataFrame]:
        """Yield a frame for each group of images; an empty one first, for the types of the columns."""
        yield self._frame(np.empty(0, np.int64))
        for rows in groups:
            self.n_rows += len(rows)
            yield self._frame(rows)

    def _frame(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Return what is known of some images, in their order."""
        import pandas as pd

        found: dict[str, Any] = {"sample": rows, **values_at(self._store, COLUMNS, rows)}
        if "path" in found:
            found["path"] = pd.array(found["path"].astype(object), dtype="string")
        if self._names:
            names = [self._names.get(label) for label in found["label"].tolist()]
            found["cluster_name"] = pd.array(names, dtype="string")
        frame = pd.DataFrame({name: found[name] for name in self.columns})
        return frame if self._own is None else self._own.joined(frame)


class OwnColumns:
    """A table of the user's, whose rows belong to images by ``sample`` or ``path``; held in memory.

    Parameters
    ----------
    given : path or DataFrame
        A file, .csv or .parquet, or the table itself.
    store : RunStore
        The run that it belongs to.

    Attributes
    ----------
    key : str
        What its rows are joined by.
    table : DataFrame
        The other columns, by the key.

    Raises
    ------
    ConfigError
        If it cannot be read, has neither column, names an image twice, or one that the run does not have.
    """

    def __init__(self, given: Path | str | pd.DataFrame, store: RunStore) -> None:
        self._place = Path(given) if isinstance(given, str | Path) else "the table"
        table = _read_table(Path(given)) if isinstance(given, str | Path) else given
        self.key = next((key for key in KEYS if key in table.columns), "")
        if not self.key:
            held = ", ".join(map(str, table.columns[:MAX_NAMED]))
            msg = f"`--columns` must have a column `sample` or `path`; {self._place} has {held or 'no columns'}. Rename one, or add it."
            raise ConfigError(msg)
        if self.key not in ("sample", *zarr_io.array_names(store.path / layout.LABELS)):
            msg = f"`--columns` must have a column `sample` where images have no file names; {self._place} has `path`. Add `sample`, which counts images from 0."
            raise ConfigError(msg)
        keys = table[self.key]
        self._refuse(np.flatnonzero(keys.isna()), "an image for each row", keys)
        self._refuse(np.flatnonzero(keys.duplicated()), "one row for an image", keys)
        others = table.drop(columns=[key for key in KEYS if key in table.columns])
        self.table = others.set_axis(plain_keys(keys, self.key), axis=0)
        self._refuse(np.flatnonzero(~self._known(store)), "images of the run alone", keys)

    def _known(self, store: RunStore) -> NDArray[np.bool_]:
        """Return which rows belong to an image of the run."""
        keys = self.table.index
        n_samples = store.manifest.images["shape"][0]
        if self.key == "sample":
            return np.asarray((keys >= 0) & (keys < n_samples))
        known = np.zeros(len(keys), np.bool_)
        for block in row_ranges(n_samples, READ_ROWS):
            paths = zarr_io.read_rows(store.path / layout.LABELS, "path", *block)
            place = keys.get_indexer(paths.astype(object))
            known[place[place >= 0]] = True
        return known

    def require_other_names(self, columns: Iterable[str]) -> None:
        """Refuse a table with a name that another column has."""
        same = sorted(set(self.table.columns) & set(columns))
        if same:
            msg = f"`--columns` must have names that the run does not use; {self._place} has {', '.join(same)}, too. Rename or drop them."
            raise ConfigError(msg)

    def joined(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a frame with these columns after its own, empty where an image has no row here."""
        import pandas as pd

        own = self.table.reindex(plain_keys(frame[self.key], self.key))
        return pd.concat([frame, own.set_axis(frame.index, axis=0)], axis=1)

    def _refuse(self, rows: NDArray[np.intp], required: str, keys: pd.Series[Any]) -> None:
        """Refuse rows of the table, by their numbers below the head, if there are any."""
        if not len(rows):
            return
        shown = ", ".join(
            f"{keys.iloc[row]} (row {row + 1:,})" for row in rows[:MAX_NAMED].tolist()
        )
        more = f" and {len(rows) - MAX_NAMED:,} more" if len(rows) > MAX_NAMED else ""
        msg = f"`--columns` must have {required}; of {len(keys):,} rows of {self._place} these do not match, by `{self.key}`: {shown}{more}. Correct or drop them."
        raise ConfigError(msg)


def plain_keys(keys: pd.Series[Any], key: str) -> Any:
    """Return the keys of rows in a type that pandas looks up quickly."""
    try:
        return keys.astype("int64" if key == "sample" else object).to_numpy()
    except (TypeError, ValueError):
        msg = f"`sample` of `--columns` must be whole numbers; got {keys.dtype}. Give the numbers of images, from 0."
        raise ConfigError(msg) from None


def _read_table(place: Path) -> pd.DataFrame:
    """Read a table of the user's, each column in a type that has missing values."""
    import pandas as pd

    if place.suffix.lower() not in TABLES:
        msg = f"`--columns` must be a table, {' or '.join(TABLES)}; got {place}. Convert it first."
        raise ConfigError(msg)
    try:
        if place.suffix.lower() == ".csv":
            # What looks like a number in `path` is a name all the same.
            return pd.read_csv(place, dtype={"path": "string"}, dtype_backend="numpy_nullable")
        require_pyarrow()
        return pd.read_parquet(place, dtype_backend="pyarrow").reset_index(drop=True)
    except (OSError, ValueError, UnicodeError) as err:
        if isinstance(err, ConfigError):
            raise
        msg = f"`--columns` must be a table that can be read; {place} cannot ({one_line(err)[:200]}). Repair it, or give another one."
        raise ConfigError(msg) from None


def require_pyarrow() -> None:
    """Refuse Parquet where nothing can write or read it."""
    if find_spec("pyarrow") is None:
        msg = "Parquet must have pyarrow; it is not installed. Install it with `pip install 'overcluster[export]'`, or use CSV."
        raise ConfigError(msg)


def write_table(path: Path, frames: Iterator[pd.DataFrame]) -> None:
    """Write frames one after the other, as CSV or Parquet by the ending of the path.

    The first frame has no rows: it tells the columns and their types.  In
    Parquet every other one is a row group.
    """
    if path.suffix.lower() == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            for number, frame in enumerate(frames):
                frame.to_csv(file, index=False, header=not number, lineterminator="\n")
        return
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Without what pandas notes of itself, which names its version.
    schema = pa.Schema.from_pandas(next(frames), preserve_index=False).remove_metadata()
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for frame in frames:
            writer.write_table(pa.Table.from_pandas(frame, schema, preserve_index=False))
