"""A copy made by a job array: begun once, written in parts that know nothing of each other, finished once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.errors import ConfigError, StoreError
from workflow.ingest.embedding import open_source
from workflow.ingest.unfinished import NOTES, begin, lock, open_journal, partial_of
from workflow.ingest.writer import Copy, IngestReport, copy_identity, lay_out, rows_at_once
from workflow.mapper import SerialRunner
from workflow.runstore import paths
from workflow.runstore.files import read_json, write_json
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.chunks import RowRange
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
        ``shape``, ``dtype``, ``on_unreadable`` and ``model``, as `open_source` takes them.
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
    paths.require_local("the destination", destination)
    target = Path(destination).absolute()
    if target.exists():
        msg = f"the destination must be new; {target} is there already. Give another path, or remove it."
        raise StoreError(msg)
    listed = source.startswith("@")
    place = "@" * listed + str(paths.place(source[listed:])) if "://" not in source else source
    identity = copy_identity(open_source(place, **options), None)
    partial = partial_of(target)
    begin(partial, digest(identity))
    known = {"source": place, "options": dict(options), "n_parts": n_parts, "key": identity}
    with lock(partial):
        copy, parts = _open(partial, known, SerialRunner() if runner is None else runner)
        # Last: where it is, parts find everything prepared.
        write_json(partial / NOTES / "parts.json", known)
    image_bytes = copy.source.n_features * copy.source.dtype.itemsize
    # What is written is read back and compared.
    memory = 2 * rows_at_once(copy.source, copy.shard_rows) * image_bytes
    return PartsPlan(copy.source.n_samples, len(copy.shards), len(parts), memory)


def write_part(destination: Path | str, index: int) -> tuple[int, int]:
    """Write one part; return how many shards were written, and how many were there already.

    Parameters
    ----------
    destination : path
        The store that was begun.
    index : int
        Number of the part, from 0.

    Returns
    -------
    n_written, n_reused : int
        Shards.

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
        copy, parts = _open(partial, known, SerialRunner())
        if not 0 <= index < len(parts):
            msg = f"a part must be from 0 to {len(parts) - 1}; got {index}. Give one of those, or --one-based with 1 to {len(parts)}."
            raise ConfigError(msg)
        shards = parts[index]
        journal = open_journal(partial, copy.key, shards, f"part-{index:06d}", alone=True)
        n_reused = len(journal.entries)
        copy.write(shards, journal, SerialRunner())
    return len(shards) - n_reused, n_reused


def finish_parts(destination: Path | str) -> IngestReport:
    """Check that all parts are whole, and move the store into its place.

    Parameters
    ----------
    destination : path
        The store that was begun.

    Returns
    -------
    IngestReport
        What was copied and what could not be read.

    Raises
    ------
    StoreError
        If parts are missing: the text names them.
    """
    partial, known = _begun(destination)
    with lock(partial):
        copy, parts = _open(partial, known, SerialRunner())
        reports = open_journal(partial, copy.key, copy.shards).entries
        lost = [str(i) for i, shards in enumerate(parts) if not reports.keys() >= shards.keys()]
        if lost:
            named = ", ".join(lost[:MOST_NAMED]) + (" ..." if len(lost) > MOST_NAMED else "")
            noun = "part is" if len(lost) == 1 else "parts are"
            msg = (
                f"all {len(parts)} parts must be written; {len(lost)} {noun} not: {named}. Run: ingest-part {Path(destination)} {lost[0]}"
                + (" (then the others)." if len(lost) > 1 else ".")
            )
            raise StoreError(msg)
        return copy.finish(Path(destination).absolute(), reports, 0)


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


def _open(
    partial: Path, known: dict[str, Any], runner: PartitionRunner
) -> tuple[Copy, list[dict[int, RowRange]]]:
    """Open a copy; return it and the shards of each part, consecutive ones, evenly many."""
    copy = lay_out(open_source(known["source"], **known["options"]), known["key"], partial, runner)
    shards = copy.shards
    n_parts = min(known["n_parts"], len(shards))
    ends = [len(shards) * index // n_parts for index in range(n_parts + 1)]
    return copy, [{i: shards[i] for i in range(*pair)} for pair in itertools.pairwise(ends)]
