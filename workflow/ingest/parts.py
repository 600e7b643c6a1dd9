"""A copy made by a job array: begun once, written in parts that know nothing of each other, finished once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import ConfigError, StoreError
from workflow.ingest.readers import open_source
from workflow.ingest.unfinished import NOTES, begin, lock, move, open_journal, partial_of
from workflow.ingest.writer import (
    Copy,
    IngestReport,
    copy_identity,
    finish,
    lay_out,
    require_unchanged,
    rows_at_once,
)
from workflow.mapper import SerialRunner
from workflow.runstore import paths
from workflow.runstore.files import read_json, write_json
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.chunks import RowRange
    from workflow.ingest.source import Source
    from workflow.mapper import PartitionRunner

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
    """A copy that was begun: its source as it was given, and how it is cut into parts."""

    copy: Copy
    original: Source
    identity: dict[str, Any]
    n_parts: int

    @property
    def key(self) -> str:
        """Key of the journals."""
        return digest(self.identity)

    def shards_of(self, index: int) -> dict[int, RowRange]:
        """Return the shards of one part: consecutive ones, as many as others have or one less."""
        n_shards = len(self.copy.shards)
        first, last = (n_shards * i // self.n_parts for i in (index, index + 1))
        return {shard: self.copy.shards[shard] for shard in range(first, last)}


def begin_parts(
    source: str,
    destination: Path | str,
    n_parts: int,
    *,
    options: Mapping[str, Any],
    runner: PartitionRunner | None = None,
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
    runner : PartitionRunner, optional
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
    place = str(Path(source).absolute()) if paths.exists(Path(source)) else source
    identity = copy_identity(open_source(place, **options), None)
    partial = partial_of(target)
    begin(partial, digest(identity), overwrite=False)
    known = {"source": place, "options": dict(options), "n_parts": n_parts, "key": identity}
    with lock(partial):
        begun = _open(partial, known, SerialRunner() if runner is None else runner)
        # Last: where it is, parts find everything prepared.
        write_json(partial / NOTES / "parts.json", known)
    copy = begun.copy
    image_bytes = copy.source.n_features * copy.source.dtype.itemsize
    # What is written is read back and compared.
    memory = 2 * rows_at_once(copy.source, copy.shard_rows) * image_bytes
    return PartsPlan(copy.source.n_samples, len(copy.shards), begun.n_parts, memory)


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
    partial, known = _begun(destination)
    with lock(partial, is_shared=True):
        begun = _open(partial, known, SerialRunner())
        if not 0 <= index < begun.n_parts:
            msg = f"a part must be from 0 to {begun.n_parts - 1}; got {index}. Give one of those, or --one-based with 1 to {begun.n_parts}."
            raise ConfigError(msg)
        shards = begun.shards_of(index)
        journal = open_journal(partial, begun.key, shards, f"part-{index:06d}", alone=True)
        n_before = len(journal.entries)
        begun.copy.write("ingest", shards, journal, SerialRunner())
    return len(shards) - n_before, n_before


def finish_parts(destination: Path | str) -> IngestReport:
    """Check that all parts are whole, and move the store into its place.

    Raises
    ------
    StoreError
        If parts are missing: the text names them.
    """
    partial, known = _begun(destination)
    with lock(partial):
        begun = _open(partial, known, SerialRunner())
        reports = open_journal(partial, begun.key, begun.copy.shards).entries
        lost = [
            str(index)
            for index in range(begun.n_parts)
            if not reports.keys() >= begun.shards_of(index).keys()
        ]
        if lost:
            named = ", ".join(lost[:MOST_NAMED]) + (" ..." if len(lost) > MOST_NAMED else "")
            noun = "part is" if len(lost) == 1 else "parts are"
            msg = (
                f"all {begun.n_parts} parts must be written; {len(lost)} {noun} not: {named}. Run: ingest-part {Path(destination)} {lost[0]}"
                + (" (then the others)." if len(lost) > 1 else ".")
            )
            raise StoreError(msg)
        require_unchanged(begun.original, begun.identity)
        fields = finish(begun.copy, begun.identity, reports)
        target = Path(destination).absolute()
        move(partial, target)
    n_shards = len(begun.copy.shards)
    return IngestReport(path=target, **fields, n_shards_written=0, n_shards_reused=n_shards)


def _begun(destination: Path | str) -> tuple[Path, dict[str, Any]]:
    """Return the unfinished store and what was noted when it was begun for parts."""
    target = Path(destination).absolute()
    partial = partial_of(target)
    place = partial / NOTES / "parts.json"
    if not place.is_file():
        what = "is finished" if target.exists() else "was not begun"
        msg = f"a copy in parts must have been begun; {target} {what}. Run: ingest-init SOURCE {Path(destination)} --parts N"
        raise StoreError(msg)
    return partial, read_json(place)


def _open(partial: Path, known: dict[str, Any], runner: PartitionRunner) -> _Begun:
    """Open the source; do what must be done before the parts, as far as it was not done before."""
    original = open_source(known["source"], **known["options"])
    copy = lay_out(original, partial, runner, None)
    return _Begun(copy, original, known["key"], min(known["n_parts"], len(copy.shards)))
