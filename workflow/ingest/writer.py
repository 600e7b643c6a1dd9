"""Copy an ImageSource into one Zarr store, shard by shard; a copy that was cut goes on where it stopped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from workflow.chunks import RowRange, choose_block_rows, row_ranges
from workflow.errors import StoreError
from workflow.ingest.base import NamedSource, PreparedSource, ScatteredSource
from workflow.ingest.unfinished import (
    NOTES,
    begin,
    is_whole,
    is_written,
    lock,
    move,
    note,
    sync,
)
from workflow.mapper import Mapper, SerialMapper
from workflow.runstore import zarr_io
from workflow.runstore.files import read_json, sweep, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from workflow.ingest.base import ImageSource

#: Version of what is written here; another one is copied anew.
FORMAT_VERSION = 1
#: A shard has about so many bytes where there are many images: large files are read and written as
#: fast as the disk can, and 48 million images are some three hundred of them.
SHARD_BYTES = 128 * 2**20
#: Fewer images are this many shards, so that there is work for many workers.
LEAST_SHARDS = 64
#: A shard of a source that hands over whole shards, which are in memory twice then.
SCATTERED_SHARD_BYTES = 32 * 2**20
#: Shards are handed to the mapper in so many rounds, at least `ROUND_SHARDS` in each: that is how
#: often progress is told.  Finished shards are noted one by one, whatever the rounds.
ROUNDS, ROUND_SHARDS = 20, 32
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
    """Writes one shard, reads it back, and notes it."""

    source: ImageSource | None
    partial: Path
    names: NamedSource | None
    block_rows: int

    @classmethod
    def of(cls, source: ImageSource, partial: Path, shard_rows: int) -> WriteShard:
        """Return what writes the shards of a source; one that is scattered is not taken along."""
        return cls(
            None if isinstance(source, ScatteredSource) else source,
            partial,
            source if isinstance(source, NamedSource) else None,
            rows_at_once(source, shard_rows),
        )

    def __call__(self, rows: RowRange) -> None:
        """Read the images of a shard, block by block, and write them."""
        assert self.source is not None
        self._write(rows, ((block, self.source.read(*block)) for block in self._blocks(rows)))

    def write(self, rows: RowRange, images: NDArray[Any]) -> None:
        """Write the images of a shard.

        Raises
        ------
        StoreError
            If the disk does not give back what was written.
        """
        pieces = (images[b.start - rows.start : b.stop - rows.start] for b in self._blocks(rows))
        self._write(rows, zip(self._blocks(rows), pieces, strict=True))

    def _blocks(self, rows: RowRange) -> list[RowRange]:
        """Return the blocks of a shard."""
        blocks = row_ranges(rows.n_rows, self.block_rows)
        return [RowRange(rows.start + first, rows.start + stop) for first, stop in blocks]

    def _write(self, rows: RowRange, blocks: Iterable[tuple[RowRange, NDArray[Any]]]) -> None:
        """Write a shard, read it back, and note it."""
        self._write_checked("images", rows, blocks)
        files = {"images": zarr_io.shard_file(self.partial, "images", rows.start).stat().st_size}
        if self.names is not None:
            paths = np.array(self.names.read_paths(*rows), dtype=np.dtypes.StringDType())
            self._write_checked("path", rows, [(rows, paths)])
            files["path"] = zarr_io.shard_file(self.partial, "path", rows.start).stat().st_size
        write_json(note(self.partial, rows), {"n_bytes": files})

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


@dataclass(frozen=True, slots=True)
class _Probe:
    """Tells whether the first images of a source compress."""

    source: ImageSource

    def __call__(self, n_rows: int) -> bool:
        """Return whether they do."""
        return zarr_io.compresses(self.source.read(0, n_rows))


def ingest(
    source: ImageSource,
    destination: Path | str,
    *,
    mapper: Mapper | None = None,
    block_rows: int | None = None,
    on_progress: Callable[[int], object] | None = None,
    overwrite: bool = False,
) -> IngestReport:
    """Copy images into a Zarr store.

    Parameters
    ----------
    source : ImageSource
        The images.
    destination : path-like
        The store: a Zarr group with the array ``images``, and ``path`` where
        the images have file names.
    mapper : Mapper, optional
        Runs one task per shard; this process by default.
    block_rows : int, optional
        Images in a shard; chosen from the size of an image by default.
    on_progress : callable, optional
        Called with a number of images whenever so many more are there.
    overwrite : bool
        Replace what is at the destination.

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
    finished shard is noted, so that the same call goes on after a kill; the
    bytes do not depend on the mapper, nor on where a call was cut.  A block
    of 16,384 images of 768 values is held in memory twice.  Values are copied
    as they are, in little-endian byte order.
    """
    target = Path(destination).absolute()
    key = {
        "format_version": FORMAT_VERSION,
        "source": source.fingerprint(),
        "block_rows": block_rows,
    }
    if target.exists() and not overwrite:
        return already_there(target, key, on_progress)
    partial = target.with_name(f"{target.name}.partial")
    if not overwrite and is_whole(partial, key):
        move(partial, target)
        return already_there(target, key, on_progress)
    begin(partial, key, overwrite=overwrite)
    runner = SerialMapper() if mapper is None else mapper
    told = on_progress or (lambda _: None)
    with lock(partial):
        ready = prepared(source, partial, runner)
        shard_rows, compressor = lay_out(ready, partial, runner, block_rows)
        ranges = row_ranges(ready.n_samples, shard_rows)
        missing = [rows for rows in ranges if not is_written(partial, rows)]
        told(sum(r.n_rows for r in ranges) - sum(r.n_rows for r in missing))
        _write_shards(ready, partial, shard_rows, missing, runner, told)
        require_unchanged(source, key)
        report = finish(ready, partial, key, shard_rows, compressor, len(missing))
        move(partial, target)
    return IngestReport(path=target, **report)


def already_there(
    target: Path, key: dict[str, Any], on_progress: Callable[[int], object] | None
) -> IngestReport:
    """Return the report of a whole copy of the same source; refuse anything else."""
    known = {}
    if target.is_dir() and zarr_io.node_kind(target) == "group":
        known = zarr_io.read_attrs(target).get("ingest", {})
    if known.get("key") != key:
        what = "a copy of other images" if known else "something else"
        msg = f"the destination must be new or hold a copy of the same images; {target} is {what}. Give another path, or remove it."
        raise StoreError(msg)
    unreadable: tuple[str, ...] = ()
    if known["n_unreadable"]:
        unreadable = tuple(map(str, zarr_io.read_array(target, "unreadable")))
    if on_progress is not None:
        on_progress(known["n_samples"])
    fields = {name: known[name] for name in ("n_samples", "dtype", "n_unreadable", "shard_rows")}
    return IngestReport(
        path=target,
        **fields,
        image_shape=tuple(known["image_shape"]),
        unreadable=unreadable,
        n_bytes=known["n_bytes"],
        n_shards_written=0,
        n_shards_reused=-(-known["n_samples"] // known["shard_rows"]),
        compressor=known["compressor"],
    )


def prepared(source: ImageSource, partial: Path, mapper: Mapper) -> ImageSource:
    """Return a source that can be read by ranges; what that needs is kept with the copy."""
    if not isinstance(source, PreparedSource):
        return source
    working = partial / NOTES / "prepared"
    working.mkdir(exist_ok=True)
    return source.prepare(working, mapper)


def lay_out(
    source: ImageSource, partial: Path, mapper: Mapper, block_rows: int | None
) -> tuple[int, Compressor]:
    """Make the arrays, unless it was done before; return rows of a shard and compressor."""
    place = partial / NOTES / "layout.json"
    if place.exists():
        known = read_json(place)
        return int(known["shard_rows"]), known["compressor"]
    shard_rows = block_rows or _shard_rows(source)
    runner = SerialMapper() if isinstance(source, ScatteredSource) else mapper
    (compresses,) = runner.map(_Probe(source), [min(PROBE_ROWS, source.n_samples)])
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
    if isinstance(source, NamedSource):
        zarr_io.create_rows_array(
            partial,
            "path",
            n_rows=source.n_samples,
            tail_shape=(),
            dtype="string",
            shard_rows=shard_rows,
            dims=("sample",),
            attrs={"long_name": "file of the image"},
            overwrite=True,
        )
    write_json(place, {"shard_rows": shard_rows, "compressor": compressor})
    return shard_rows, compressor


def _shard_rows(source: ImageSource) -> int:
    """Return rows of a shard: whole blocks, so that no task of a run reads a part of two."""
    block = choose_block_rows(source.n_features)
    image_bytes = source.n_features * source.dtype.itemsize
    most = SCATTERED_SHARD_BYTES if isinstance(source, ScatteredSource) else SHARD_BYTES
    n_bytes = min(most, source.n_samples * image_bytes // LEAST_SHARDS)
    return block * max(1, n_bytes // (block * image_bytes))


def rows_at_once(source: ImageSource, shard_rows: int) -> int:
    """Return how many images of a shard are in memory at once: a block, where shards are whole ones."""
    block = choose_block_rows(source.n_features)
    return block if shard_rows % block == 0 else shard_rows


def dims_of(image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of the dimensions of images.

    Examples
    --------
    >>> dims_of((16, 16, 3)), dims_of((768,))
    (('sample', 'y', 'x', 'channel'), ('sample', 'feature'))
    """
    if len(image_shape) == 1:
        return ("sample", "feature")
    if len(image_shape) <= 3:
        return ("sample", *("y", "x", "channel")[: len(image_shape)])
    return ("sample", *(f"dim_{axis}" for axis in range(1, len(image_shape) + 1)))


def _write_shards(
    source: ImageSource,
    partial: Path,
    shard_rows: int,
    missing: Sequence[RowRange],
    mapper: Mapper,
    told: Callable[[int], object],
) -> None:
    """Write the missing shards, in rounds."""
    per_round = max(ROUND_SHARDS, -(-len(missing) // ROUNDS))
    for first in range(0, len(missing), per_round):
        ranges = missing[first : first + per_round]
        if isinstance(source, ScatteredSource):
            source.map_blocks(WriteShard.of(source, partial, shard_rows).write, ranges)
        else:
            mapper.map(WriteShard.of(source, partial, shard_rows), ranges)
        told(sum(rows.n_rows for rows in ranges))


def require_unchanged(source: ImageSource, key: dict[str, Any]) -> None:
    """Refuse a copy whose files were changed under it: some shards would be of the old ones."""
    if not isinstance(source, ScatteredSource) and source.fingerprint() != key["source"]:
        msg = "images must not change while they are copied; their files have. Remove the unfinished copy, then run the same command again."
        raise StoreError(msg)


def finish(
    source: ImageSource,
    partial: Path,
    key: dict[str, Any],
    shard_rows: int,
    compressor: Compressor,
    n_written: int,
) -> dict[str, Any]:
    """Check that all is there, write what goes beside the images; return the report's fields."""
    ranges = row_ranges(source.n_samples, shard_rows)
    lost = [rows for rows in ranges if not is_written(partial, rows)]
    if lost:
        msg = f"all shards of {partial} must have been written; images {lost[0].start} to {lost[0].stop - 1} are not there. Run the same command again."
        raise StoreError(msg)
    unreadable = source.unreadable() if isinstance(source, NamedSource) else []
    attrs: dict[str, Any] = {}
    if isinstance(source, NamedSource):
        attrs["coordinates"] = "path"
    if unreadable:
        for name, column in (("unreadable", 0), ("unreadable_reason", 1)):
            texts = np.array([bad[column] for bad in unreadable], dtype=np.dtypes.StringDType())
            zarr_io.write_array(partial, name, texts, dims=("unreadable_file",))
    fields: dict[str, Any] = {
        "n_samples": source.n_samples,
        "image_shape": source.image_shape,
        "dtype": source.dtype.name,
        "n_unreadable": len(unreadable),
        "shard_rows": shard_rows,
        "compressor": compressor,
        "n_bytes": sum(read_json(note(partial, r))["n_bytes"]["images"] for r in ranges),
    }
    attrs["ingest"] = {**fields, "image_shape": list(source.image_shape), "key": key}
    zarr_io.write_attrs(partial, attrs)
    zarr_io.consolidate(partial)
    sweep(partial)
    for place, _, files in os.walk(partial):
        for name in files:
            if name == zarr_io.GROUP_METADATA:
                sync(Path(place) / name)
        sync(Path(place))
    return {
        **fields,
        "unreadable": tuple(name for name, _ in unreadable),
        "n_shards_written": n_written,
        "n_shards_reused": len(ranges) - n_written,
    }
