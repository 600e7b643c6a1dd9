"""Images in tables: Parquet and Arrow files, so folders of Hugging Face datasets.

A column holds pictures (a struct of ``bytes`` and ``path``, or bytes) or lists of numbers.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workflow.errors import ImagesError
from workflow.ingest.readers.items import Item, Shard
from workflow.ingest.readers.shard_files import ShardFiles, damaged, shard_source, spread
from workflow.runstore import paths

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflow.ingest.readers.files import Files
    from workflow.ingest.readers.items import ItemSource
    from workflow.ingest.source import Reading

#: Endings of tables.
TABLES = r"\.(parquet|pq|arrow|feather)$"
#: Rows that are in memory at a time.
BATCH_ROWS = 256
#: Files whose rows are counted; those of more are estimated by their sizes.
COUNTED_FILES = 64


@dataclass(frozen=True)
class Tables(ShardFiles):
    """Tables; a shard is a row group of a Parquet file, or an Arrow file."""

    kind: ClassVar[str] = "tables"

    def shards(self, folder: Any, most: int) -> list[Shard]:
        """Return the row groups of all files; a file that cannot be opened is one."""
        del folder, most
        found = []
        for name in self.files.names:
            try:
                groups = _group_rows(self.files, name)
            except self.errors:
                groups = [1]
            found += [Shard(name, index, n_rows) for index, n_rows in enumerate(groups)]
        return found

    def read(self, shard: Shard) -> Iterator[Item]:
        """Yield the rows of a row group."""
        is_parquet = not _is_arrow(shard.place)
        before = _group_rows(self.files, shard.place)[: shard.first] if is_parquet else []
        row = sum(before)
        for batch in _batches(self.files, shard, self._top_columns()):
            images = _images(_column(batch, self.image))
            columns = [_column(batch, name).to_pylist() for name in self.columns]
            for at, image in enumerate(images):
                name = f"{shard.place}/{row}"
                values = tuple(_plain(column[at]) for column in columns)
                if image is None:
                    image = ImagesError(f"rows must have an image; {name} has none.")  # noqa: PLW2901 - that row's
                yield Item(name, image, values)
                row += 1

    def _top_columns(self) -> list[str]:
        """Return the columns of the tables that are read."""
        return list(dict.fromkeys(name.split(".")[0] for name in (self.image, *self.columns)))

    def items_per_byte(self) -> float:
        """Return how many rows a byte of the files holds."""
        n_rows = n_bytes = 0
        for name in spread(self.files.names, COUNTED_FILES):
            n_bytes += paths.identity(self.files.root / name).n_bytes
            try:
                n_rows += sum(_group_rows(self.files, name))
            except self.errors:
                continue
        return n_rows / max(1, n_bytes)


def open_tables(files: Files, name: str | None, how: Reading) -> ItemSource:
    """Open tables; `name` is the column of the images, where there are several.

    Raises
    ------
    ImagesError
        If pyarrow is missing, no table can be opened, or no column may be the
        images, or several may and none is named.
    """
    if find_spec("pyarrow") is None:
        msg = f"Parquet and Arrow must have pyarrow; it is not installed, and {files.place} is to be read. Install it with `pip install 'overcluster[export]'`."
        raise ImagesError(msg)
    schema, place = None, ""
    problem: ImagesError | None = None
    for place in spread(files.names, COUNTED_FILES):
        try:
            schema = _schema(files, place)
            break
        except Tables.errors as err:
            problem = problem or damaged(files.root / place, err)
    if schema is None:
        raise problem or ImagesError(f"there must be a table; {files.place} has none.")
    pictures = [field.name for field in schema if _is_picture(field.type)]
    numbers = [field.name for field in schema if _is_numbers(field.type)]
    found = pictures or numbers
    if name in (*pictures, *numbers):
        found = [name]
    if (name and found != [name]) or len(found) != 1:
        required = f"the images in `{name}`" if name else "one column that may be the images"
        which = ", ".join([*pictures, *numbers]) or f"none of {', '.join(schema.names)}"
        first = next(iter(found or schema.names), "NAME")
        msg = f"a table must have {required}; in {files.place} that may be: {which}. Name it: {files.place}::{first}."
        raise ImagesError(msg)
    there = [field.name for field in schema if field.name != found[0]]
    there += [
        f"{field.name}.{inner.name}"
        for field in schema
        if hasattr(field.type, "fields")
        for inner in field.type
        if inner.name != "bytes"
    ]
    return shard_source(Tables(files, found[0], how.columns), how, there)


def _is_arrow(name: str) -> bool:
    """Return whether a file is Arrow's, by its name."""
    return name.lower().endswith((".arrow", ".feather"))


def _group_rows(files: Files, name: str) -> list[int]:
    """Return the rows of each row group of a file; of Arrow, of all in one."""
    with _opened(files, name) as table:
        if _is_arrow(name):
            return [sum(batch.num_rows for batch in table)]
        known = table.metadata
        return [known.row_group(index).num_rows for index in range(known.num_row_groups)]


@contextlib.contextmanager
def _opened(files: Files, name: str) -> Iterator[Any]:
    """Open a Parquet file, or the batches of an Arrow file, which is mapped into memory: counting reads no data."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = files.root / name
    if _is_arrow(name):
        with pa.memory_map(str(paths.local(path))) as file:
            yield _arrow_reader(file)
        return
    with paths.open_file(path) as file, pq.ParquetFile(file) as table:
        yield table


def _arrow_reader(file: Any) -> Any:
    """Return the batches of an open Arrow file: of the file format or, as of Hugging Face, of a stream."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        return pa.ipc.open_stream(file)
    return _FileBatches(reader)


class _FileBatches:
    """The batches of an Arrow file one after the other, as of a stream."""

    def __init__(self, reader: Any) -> None:
        self.reader, self.schema = reader, reader.schema

    def __iter__(self) -> Iterator[Any]:
        return (self.reader.get_batch(i) for i in range(self.reader.num_record_batches))


def _schema(files: Files, name: str) -> Any:
    """Return the schema of a table."""
    with _opened(files, name) as table:
        return table.schema if _is_arrow(name) else table.schema_arrow


def _batches(files: Files, shard: Shard, columns: list[str]) -> Iterator[Any]:
    """Yield the rows of a shard, some at a time."""
    with _opened(files, shard.place) as table:
        if _is_arrow(shard.place):
            for batch in table:
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)
            return
        yield from table.iter_batches(
            BATCH_ROWS, row_groups=[shard.first], columns=columns, use_threads=False
        )


def _column(batch: Any, name: str) -> Any:
    """Return a column, or a field of a struct after a dot."""
    if name in batch.schema.names:
        return batch.column(name)
    import pyarrow.compute as pc

    head, *inner = name.split(".")
    return pc.struct_field(batch.column(head), inner)


def _is_picture(dtype: Any) -> bool:
    """Return whether a column may hold pictures."""
    import pyarrow as pa

    if pa.types.is_struct(dtype):
        return any(f.name == "bytes" and _is_bytes(f.type) for f in dtype)
    return _is_bytes(dtype)


def _is_bytes(dtype: Any) -> bool:
    """Return whether values are bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype))


def _is_numbers(dtype: Any) -> bool:
    """Return whether a column holds lists of numbers, or lists of such lists."""
    import pyarrow as pa

    dtype = _storage(dtype)
    if not _is_list(dtype):
        return False
    inner = _storage(dtype.value_type)
    is_number = pa.types.is_integer(inner) or pa.types.is_floating(inner)
    return bool(is_number) or _is_numbers(inner)


def _storage(dtype: Any) -> Any:
    """Return the type that values of an extension type are stored as."""
    return getattr(dtype, "storage_type", dtype)


def _is_list(dtype: Any) -> bool:
    """Return whether values are lists."""
    import pyarrow as pa

    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(kind(dtype) for kind in kinds)


def _images(column: Any) -> list[Any]:
    """Return what each row of a column holds: bytes, an array, None, or why it cannot be had."""
    import pyarrow as pa

    column = getattr(column, "storage", column)
    if pa.types.is_struct(column.type):
        rows = column.to_pylist()
        return [None if row is None else row["bytes"] or _outside(row) for row in rows]
    if not _is_list(column.type):
        return list(column.to_pylist())
    values = _even(column)
    if values is not None:
        return list(values)
    dtype = column.type
    while _is_list(dtype := _storage(dtype)):
        dtype = dtype.value_type
    number = dtype.to_pandas_dtype()
    return [None if row is None else _array(row, number) for row in column.to_pylist()]


def _even(column: Any) -> Any:
    """Return a column of lists of one length, without gaps, as an array; None where it is none."""
    column = getattr(column, "storage", column)
    if column.null_count:
        return None
    if not _is_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    inner = column.flatten()
    n_rows = len(column)
    if not n_rows or len(inner) % n_rows:
        return None
    if not hasattr(column.type, "list_size"):
        lengths = np.diff(column.offsets.to_numpy())
        if (lengths != lengths[0]).any():
            return None
    found = _even(inner)
    return None if found is None else found.reshape(n_rows, -1, *found.shape[1:])


def _array(row: Any, dtype: Any) -> Any:
    """Return lists of numbers as an array, or why they are none."""
    try:
        return np.array(row, dtype)
    except (ValueError, TypeError):
        return ImagesError("lists of numbers must have one shape; those of a row differ in length.")


def _outside(row: dict[str, Any]) -> ImagesError:
    """Return the error for a picture that lies elsewhere."""
    return ImagesError(
        f"pictures must lie in the table; this row has the path {row.get('path')} alone. Read those files as pictures."
    )


def _plain(value: Any) -> Any:
    """Return a value of a column as a number, a text or None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return json.dumps(value, default=str)
