"""A copy made by a job array: begun once, written in parts that know nothing of each other, finished once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.chunks import RowRange, row_ranges
from workflow.errors import ConfigError, StoreError
from workflow.ingest.sources import open_source
from workflow.ingest.unfinished import NOTES, begin, is_written, lock, move
from workflow.ingest.writer import (
    FORMAT_VERSION,
    IngestReport,
    WriteShard,
    finish,
    lay_out,
    prepared,
    require_unchanged,
    rows_at_once,
)
from workflow.mapper import SerialMapper
from workflow.runstore.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.ingest.base import ImageSource
    from workflow.mapper import Mapper

#: Most missing parts that are named.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class PartsPlan:
    """What a job array has to do.

    Attributes
    ----------
    n_samples, n_shards, n_parts : int
        Images, files of them, and tasks of the array: as many as there are
        shards, if more were asked for.
    part_memory : int
        What the images of one task take in memory [bytes].
    """

    n_samples: int
    n_shards: int
    n_parts: int
    part_memory: int


@dataclass(frozen=True, slots=True)
class _Begun:
    """A copy that was begun: its source, ready to be read, and its shards."""

    source: ImageSource
    original: ImageSource
    key: dict[str, Any]
    partial: Path
    shards: tuple[RowRange, ...]
    n_parts: int
    shard_rows: int
    compressor: Any

    def shards_of(self, index: int) -> tuple[RowRange, ...]:
        """Return the shards of one part: consecutive ones, as many as others have or one less."""
        n_shards = len(self.shards)
        first, last = (n_shards * i // self.n_parts for i in (index, index + 1))
        return self.shards[first:last]


def begin_parts(
    source: str,
    destination: Path | str,
    n_parts: int,
    *,
    options: Mapping[str, Any],
    mapper: Mapper | None = None,
) -> PartsPlan:
    """Make the unfinished store that parts are written to.

    Parameters
    ----------
    source : str
        Path of the images; parts must see it under the same one.
    destination : path-like
        The store.
    n_parts : int
        Tasks of the array.
    options : mapping
        ``shape``, ``dtype`` and ``on_unreadable``, as `open_source` takes them.
    mapper : Mapper, optional
        Runs what must be done before images can be read by ranges, such as
        decoding pictures; this process by default.

    Returns
    -------
    PartsPlan
        The same when it is called again with the same arguments.

    Raises
    ------
    StoreError
        If the destination holds something, or is being made of something else.
    """
    target = Path(destination).absolute()
    if target.exists():
        msg = f"the destination must be new; {target} is there already. Give another path, or remove it."
        raise StoreError(msg)
    place = str(Path(source).absolute()) if Path(source).exists() else source
    original = open_source(place, **options)
    key = {
        "format_version": FORMAT_VERSION,
        "source": original.fingerprint(),
        "block_rows": None,
    }
    partial = target.with_name(f"{target.name}.partial")
    begin(partial, key, overwrite=False)
    with lock(partial):
        write_json(
            partial / NOTES / "parts.json",
            {"source": place, "options": dict(options), "n_parts": n_parts, "key": key},
        )
        begun = _open(partial, SerialMapper() if mapper is None else mapper)
    image_bytes = begun.source.n_features * begun.source.dtype.itemsize
    # What is written is read back and compared.
    memory = 2 * rows_at_once(begun.source, begun.shard_rows) * image_bytes
    return PartsPlan(begun.source.n_samples, len(begun.shards), begun.n_parts, memory)


def write_part(destination: Path | str, index: int) -> tuple[int, int]:
    """Write one part; return how many shards were written, and how many were there already.

    Raises
    ------
    ConfigError
        If there is no such part.
    StoreError
        If the copy was not begun, or the disk refuses.
    ImagesError
        If the images turn out to be unreadable.
    """
    partial = _partial(destination)
    with lock(partial, is_shared=True):
        begun = _open(partial, SerialMapper())
        if not 0 <= index < begun.n_parts:
            msg = f"a part must be from 0 to {begun.n_parts - 1}; got {index}. Give one of those, or --one-based with 1 to {begun.n_parts}."
            raise ConfigError(msg)
        shards = begun.shards_of(index)
        missing = [rows for rows in shards if not is_written(partial, rows)]
        write = WriteShard.of(begun.source, partial, begun.shard_rows)
        for rows in missing:
            write(rows)
    return len(missing), len(shards) - len(missing)


def finish_parts(destination: Path | str) -> IngestReport:
    """Check that all parts are whole, and move the store into its place.

    Raises
    ------
    StoreError
        If parts are missing: the text names them.
    """
    partial = _partial(destination)
    with lock(partial):
        begun = _open(partial, SerialMapper())
        lost = [
            str(index)
            for index in range(begun.n_parts)
            if not all(is_written(partial, rows) for rows in begun.shards_of(index))
        ]
        if lost:
            named = ", ".join(lost[:MOST_NAMED]) + (" ..." if len(lost) > MOST_NAMED else "")
            noun = "part is" if len(lost) == 1 else "parts are"
            msg = (
                f"all {begun.n_parts} parts must be written; {len(lost)} {noun} not: {named}. Run: ingest-part {Path(destination)} {lost[0]}"
                + (" (then the others)." if len(lost) > 1 else ".")
            )
            raise StoreError(msg)
        require_unchanged(begun.original, begun.key)
        fields = finish(begun.source, partial, begun.key, begun.shard_rows, begun.compressor, 0)
        target = Path(destination).absolute()
        move(partial, target)
    return IngestReport(path=target, **fields)


def _partial(destination: Path | str) -> Path:
    """Return the unfinished store, which must have been begun for parts."""
    target = Path(destination).absolute()
    partial = target.with_name(f"{target.name}.partial")
    if not (partial / NOTES / "parts.json").is_file():
        what = "is finished" if target.exists() else "was not begun"
        msg = f"a copy in parts must have been begun; {target} {what}. Run: ingest-init SOURCE {Path(destination)} --parts N"
        raise StoreError(msg)
    return partial


def _open(partial: Path, mapper: Mapper) -> _Begun:
    """Open what was begun; the array to write to is made where it is not there yet."""
    known = read_json(partial / NOTES / "parts.json")
    options = known["options"]
    if options["shape"] is not None:
        options["shape"] = tuple(options["shape"])
    original = open_source(known["source"], **options)
    ready = prepared(original, partial, mapper)
    shard_rows, compressor = lay_out(ready, partial, mapper, None)
    shards = row_ranges(ready.n_samples, shard_rows)
    n_parts = min(known["n_parts"], len(shards))
    return _Begun(ready, original, known["key"], partial, shards, n_parts, shard_rows, compressor)
