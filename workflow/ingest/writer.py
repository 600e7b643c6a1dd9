"""Copy a source into one Zarr store, shard by shard; a copy that was interrupted resumes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workflow.chunks import RowRange, choose_block_rows, row_ranges
from workflow.errors import StoreError
from workflow.ingest.sameness import may_be_same, same_values
from workflow.ingest.source import Source, columns_of, has_paths, is_scattered, prepared
from workflow.ingest.unfinished import (
    ATTRS,
    NOTES,
    begin,
    is_whole,
    lock,
    move,
    open_journal,
    partial_of,
    stored_attrs,
    sync,
)
from workflow.mapper import PartitionRunner, Record, SerialRunner, run_missing
from workflow.runstore import paths, zarr_io
from workflow.runstore.files import read_json, sweep, write_json
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

#: Version of what is written here; another one is copied anew.
FORMAT_VERSION = 1
#: A shard has about so many bytes where there are many images: large files are read and written as
#: fast as the disk can, and 48 million images are some three hundred of them.
SHARD_BYTES = 128 * 2**20
#: Fewer images are this many shards, so that there is work for many workers.
LEAST_SHARDS = 64
#: A shard of a source that hands over whole shards, which are in memory twice then.
SCATTERED_SHARD_BYTES = 32 * 2**20
#: Shards of a scattered source that are computed together.
ROUND_SHARDS = 32
#: Rows that decide whether compressing is worth while.
PROBE_ROWS = 1_024

Compressor = Literal["zstd"] | None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a call of `ingest` found and did.

    Attributes
    ----------
    path : Path
        The store.
    n_samples, image_shape, dtype : int, tuple of int, str
        What it holds.
    n_unreadable, unreadable : int, tuple of str
        Files that were left out.
    shard_rows, n_bytes : int, int
        Images in a file, bytes of all of them.
    n_shards_written, n_shards_reused : int, int
        Shards written now, and by earlier calls.
    compressor : str or None
        ``"zstd"``, or None where it would have saved less than a tenth.
    """

    path: Path
    n_samples: int
    image_shape: tuple[int, ...]
    dtype: str
    n_unreadable: int
    unreadable: tuple[str, ...]
    shard_rows: int
    n_bytes: int
    n_shards_written: int
    n_shards_reused: int
    compressor: str | None


@dataclass(frozen=True, slots=True)
class WriteShard:
    """Writes one shard and reads it back.

    A scattered source is not taken along: it hands the rows over.
    """

    source: Source | None
    image_shape: tuple[int, ...]
    partial: Path
    block_rows: int

    @classmethod
    def of(cls, source: Source, partial: Path, shard_rows: int) -> WriteShard:
        """Return what writes the shards of a source."""
        taken = None if is_scattered(source) else source
        return cls(taken, source.image_shape, partial, rows_at_once(source, shard_rows))

    def __call__(self, rows: RowRange, values: NDArray[Any] | None = None) -> dict[str, Any]:
        """Write the images of a shard; return the bytes of its files.

        Raises
        ------
        StoreError
            If the disk does not give back what was written.
        """
        self._write_checked("images", rows, self._blocks(rows, values))
        names = ["images"]
        if self.source is not None and has_paths(self.source):
            found = self.source.read_paths(*rows)  # type: ignore[attr-defined]
            names_of = np.array(found, dtype=np.dtypes.StringDType())
            self._write_checked("path", rows, [(rows, names_of)])
            names.append("path")
            for name in columns_of(self.source):
                values = self.source.read_column(name, *rows)  # type: ignore[attr-defined]
                self._write_checked(name, rows, [(rows, values)])
                names.append(name)
        files = {name: zarr_io.shard_file(self.partial, name, rows.start) for name in names}
        return {"n_bytes": {name: file.stat().st_size for name, file in files.items()}}

    def _blocks(
        self, rows: RowRange, values: NDArray[Any] | None
    ) -> Iterable[tuple[RowRange, NDArray[Any]]]:
        """Yield the blocks of a shard and their images."""
        for first, stop in row_ranges(rows.n_rows, self.block_rows):
            block = RowRange(rows.start + first, rows.start + stop)
            if values is None:
                assert self.source is not None
                images = self.source.read(*block)
            else:
                images = values[first:stop]
            yield block, images.reshape(block.n_rows, *self.image_shape)

    def _write_checked(
        self, name: str, rows: RowRange, blocks: Iterable[tuple[RowRange, NDArray[Any]]]
    ) -> None:
        """Write the rows of a shard, and hold what the disk gives back against them."""
        checksums = {}
        with zarr_io.RowsWriter(self.partial, name, rows.start, sync=True) as writer:
            for block, images in blocks:
                writer.append(images)
                checksums[block] = zarr_io.crc(images)
        for block, checksum in checksums.items():
            if zarr_io.crc(zarr_io.read_rows(self.partial, name, *block)) != checksum:
                msg = f"{self.partial / name} must give back what was written; images {block.start} to {block.stop - 1} differ. Check the disk, then run the same command again."
                raise StoreError(msg)


def ingest(
    source: Source,
    destination: Path | str,
    *,
    runner: PartitionRunner | None = None,
    block_rows: int | None = None,
) -> IngestReport:
    """Copy images into a Zarr store.

    Parameters
    ----------
    source : Source
        The images.
    destination : path-like
        The store: a Zarr group with the array ``images``, and ``path`` where
        the images have file names.
    runner : PartitionRunner, optional
        Runs one task per shard; this process by default.
    block_rows : int, optional
        Images in a shard; chosen from the size of an image by default.

    Returns
    -------
    IngestReport
        At once, where the destination is a whole copy of the same source.

    Raises
    ------
    StoreError
        If the destination holds something else, another source is half
        copied there, or the disk refuses.
    ImagesError
        If the images turn out to be unreadable.

    Notes
    -----
    Written to ``DESTINATION.partial`` and moved when it is whole.  Every
    finished shard is recorded in a journal, so that the same call resumes
    after a kill; the bytes depend neither on the runner nor on kills.  A block
    of 16,384 images of 768 values is held in memory twice.  Values are copied
    as they are, in little-endian byte order.
    """
    paths.require_local("the destination", destination)
    target = Path(destination).absolute()
    identity = copy_identity(source, block_rows)
    if target.exists():
        return _already_there(target, source, identity)
    partial = partial_of(target)
    if is_whole(partial, identity):
        move(partial, target)
        return _already_there(target, source, identity)
    begin(partial, digest(identity))
    runner = SerialRunner() if runner is None else runner
    with lock(partial):
        copy = lay_out(source, identity, partial, runner)
        journal = open_journal(partial, copy.key, copy.shards)
        n_reused = len(journal.entries)
        reports = copy.write(copy.shards, journal, runner)
        return copy.finish(target, reports, len(reports) - n_reused)


def copy_identity(source: Source, block_rows: int | None) -> dict[str, Any]:
    """Return what tells a copy from others: JSON-able, stored with it."""
    return {
        "format_version": FORMAT_VERSION,
        "source": source.fingerprint(),
        "block_rows": block_rows,
    }


def _already_there(target: Path, source: Source, identity: dict[str, Any]) -> IngestReport:
    """Return the report of a whole copy of the same source; refuse anything else."""
    known = stored_attrs(target)
    if known.get("key") != identity and not _is_copy(target, source, identity):
        what = "a copy of other images" if known else "something else"
        msg = f"the destination must be new or hold a copy of the same images; {target} is {what}. Give another path, or remove it."
        raise StoreError(msg)
    return _report(target, 0)


def _is_copy(target: Path, source: Source, identity: dict[str, Any]) -> bool:
    """Return whether a store is a copy of images of these values, whatever their names and times."""
    known = stored_attrs(target).get("key", {})
    found = {**identity, "source": known.get("source")}
    if known != found or not may_be_same(known["source"], identity["source"]):
        return False
    copy = zarr_io.open_images(target)
    ranges = row_ranges(copy.n_samples, choose_block_rows(copy.n_features, copy.stored_rows))
    expected = ((rows, zarr_io.crc(copy.read(*rows))) for rows in ranges)
    working = target.with_name(f"{target.name}.compared")
    return same_values(source, copy.shape, copy.dtype.name, expected, working)


def _report(target: Path, n_written: int) -> IngestReport:
    """Return the report of a whole copy, some shards of which were written now."""
    known = stored_attrs(target)
    del known["key"]
    known["image_shape"] = tuple(known["image_shape"])
    is_listed = known["n_unreadable"] > 0
    return IngestReport(
        path=target,
        **known,
        unreadable=tuple(map(str, zarr_io.read_array(target, "unreadable") if is_listed else ())),
        n_shards_written=n_written,
        n_shards_reused=-(-known["n_samples"] // known["shard_rows"]) - n_written,
    )


@dataclass(frozen=True, slots=True)
class Copy:
    """An unfinished copy, ready to be written.

    Attributes
    ----------
    original, source : Source
        As it was given, and as it can be read by ranges.
    identity : dict
        What tells this copy from others.
    partial : Path
        The unfinished store.
    shard_rows : int
        Rows of every file but the last.
    compressor : str or None
        ``"zstd"`` or None.
    """

    original: Source
    source: Source
    identity: dict[str, Any]
    partial: Path
    shard_rows: int
    compressor: Compressor

    @property
    def key(self) -> str:
        """Key of the journals."""
        return digest(self.identity)

    @property
    def shards(self) -> dict[int, RowRange]:
        """Rows of each file."""
        return dict(enumerate(row_ranges(self.source.n_samples, self.shard_rows)))

    def write(
        self, shards: Mapping[int, RowRange], journal: Record, runner: PartitionRunner
    ) -> dict[int, dict[str, Any]]:
        """Write the shards that a journal lacks; return the reports of all of them."""
        function = WriteShard.of(self.source, self.partial, self.shard_rows)

        def n_rows(rows: RowRange) -> int:
            return rows.n_rows

        if not is_scattered(self.source):
            return runner.run("ingest", function, shards, journal=journal, n_rows=n_rows)
        bar = runner.bar("ingest", sum(map(n_rows, shards.values())))
        return run_missing(bind(_map_blocks, self.source, function), shards, journal, n_rows, bar)

    def finish(
        self, target: Path, reports: Mapping[int, dict[str, Any]], n_written: int
    ) -> IngestReport:
        """Write what belongs beside the images, and move the store to its place.

        Raises
        ------
        StoreError
            If files of the source were changed meanwhile: some shards would
            be of the old ones.
        """
        source, partial = self.source, self.partial
        if not is_scattered(source) and self.original.fingerprint() != self.identity["source"]:
            msg = "images must not change while they are copied; their files have. Remove the unfinished copy, then run the same command again."
            raise StoreError(msg)
        unreadable: list[tuple[str, str]] = []
        attrs: dict[str, Any] = {}
        if has_paths(source):
            unreadable = source.unreadable()  # type: ignore[attr-defined]
            attrs["coordinates"] = " ".join(["path", *columns_of(source)])
        if unreadable:
            columns = zip(*unreadable, strict=True)
            for name, column in zip(("unreadable", "unreadable_reason"), columns, strict=True):
                texts = np.array(column, dtype=np.dtypes.StringDType())
                zarr_io.write_array(partial, name, texts, dims=("unreadable_file",))
        attrs[ATTRS] = {
            "n_samples": source.n_samples,
            "image_shape": list(source.image_shape),
            "dtype": source.dtype.name,
            "n_unreadable": len(unreadable),
            "shard_rows": self.shard_rows,
            "compressor": self.compressor,
            "n_bytes": sum(report["n_bytes"]["images"] for report in reports.values()),
            "key": self.identity,
        }
        zarr_io.write_attrs(partial, attrs)
        zarr_io.consolidate(partial)
        sweep(partial)
        for place, _, files in os.walk(partial):
            if zarr_io.GROUP_METADATA in files:
                sync(Path(place) / zarr_io.GROUP_METADATA)
            sync(Path(place))
        move(partial, target)
        return _report(target, n_written)


def _map_blocks(
    source: Any,
    function: WriteShard,
    shards: Mapping[int, RowRange],
    note: Callable[[Mapping[int, dict[str, Any]]], None],
) -> None:
    """Write shards of a scattered source, some at a time."""
    indices = list(shards)
    for first in range(0, len(indices), ROUND_SHARDS):
        some = indices[first : first + ROUND_SHARDS]
        reports = source.map_blocks(function, [shards[index] for index in some])
        note(dict(zip(some, reports, strict=True)))


def lay_out(
    source: Source, identity: dict[str, Any], partial: Path, runner: PartitionRunner
) -> Copy:
    """Prepare a source and make the arrays of its copy, as far as that was not done before."""
    working = partial / NOTES / "prepared"
    working.mkdir(exist_ok=True)
    ready = prepared(source, working, runner)
    place = partial / NOTES / "layout.json"
    if not place.exists():
        write_json(place, _make_arrays(ready, partial, runner, identity["block_rows"]))
    return Copy(source, ready, identity, partial, **read_json(place))


def _make_arrays(
    source: Source, partial: Path, runner: PartitionRunner, block_rows: int | None
) -> dict[str, Any]:
    """Make the arrays of a copy; return rows of a shard and compressor."""
    shard_rows = block_rows or choose_shard_rows(source)
    mapper = SerialRunner() if is_scattered(source) else runner
    n_rows = min(PROBE_ROWS, source.n_samples)
    (compresses,) = mapper.map(bind(_compresses, source), [n_rows])
    compressor: Compressor = "zstd" if compresses else None
    zarr_io.create_rows_array(
        partial,
        "images",
        n_rows=source.n_samples,
        tail_shape=source.image_shape,
        dtype=source.dtype,
        shard_rows=shard_rows,
        block_rows=rows_at_once(source, shard_rows),
        dims=dims_of(source.image_shape),
        compressor=compressor,
        overwrite=True,
    )
    beside = {"path": "string", **columns_of(source)} if has_paths(source) else {}
    for name, dtype in beside.items():
        known = {"long_name": "file of the image"} if name == "path" else {}
        zarr_io.create_rows_array(
            partial,
            name,
            n_rows=source.n_samples,
            tail_shape=(),
            dtype=dtype,
            shard_rows=shard_rows,
            dims=("sample",),
            attrs=known,
            overwrite=True,
        )
    return {"shard_rows": shard_rows, "compressor": compressor}


def _compresses(source: Source, n_rows: int) -> bool:
    """Return whether the first images of a source compress."""
    return zarr_io.compresses(source.read(0, n_rows).reshape(n_rows, *source.image_shape))


def choose_shard_rows(source: Source) -> int:
    """Return rows of a shard: whole blocks, so that no task of a run reads a part of two."""
    own: int | None = getattr(source, "shard_rows", None)
    if own is not None:
        return own
    block = choose_block_rows(source.n_features)
    image_bytes = source.n_features * source.dtype.itemsize
    most = SCATTERED_SHARD_BYTES if is_scattered(source) else SHARD_BYTES
    n_bytes = min(most, source.n_samples * image_bytes // LEAST_SHARDS)
    return block * max(1, n_bytes // (block * image_bytes))


def rows_at_once(source: Source, shard_rows: int) -> int:
    """Return how many images of a shard are in memory at once: a block, where shards are whole ones."""
    block = choose_block_rows(source.n_features)
    return block if shard_rows % block == 0 else shard_rows


def dims_of(image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the dimensions of images.

    Parameters
    ----------
    image_shape : tuple of int
        Shape of one image.

    Returns
    -------
    tuple of str
        ``sample`` first.

    Examples
    --------
    >>> dims_of((16, 16, 3)), dims_of((768,))
    (('sample', 'height', 'width', 'channel'), ('sample', 'feature'))
    """
    if len(image_shape) == 1:
        return ("sample", "feature")
    if len(image_shape) <= 3:
        return ("sample", *("height", "width", "channel")[: len(image_shape)])
    return ("sample", *(f"dim_{axis}" for axis in range(1, len(image_shape) + 1)))
