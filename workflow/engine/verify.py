"""Compares what lies in a run folder with the checksums that were noted when it was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.partitions import flat_checksums, part_path
from workflow.engine.segments import (
    Segment,
    refitted_rows,
    segments,
    stored_blocks,
    stored_partitions,
)
from workflow.errors import ImagesError, StoreError
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import crc_of_file
from workflow.runstore.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from workflow.chunks import RowRange
    from workflow.runstore import RunStore


def check_parts(store: RunStore, journal: str, folder: str) -> Iterator[str]:
    """Check the files that tasks left in a folder against what their journal says."""
    _, entries = Journal.read(store.path / f"{journal}.jsonl")
    for index, report in sorted(entries.items()):
        name = part_path(Path(folder), index).as_posix()
        yield from check_named(store.path / name, name, report.get("file_crc", -1))


def check_named(path: Path, name: str, checksum: int) -> Iterator[str]:
    """Check an array of the model or a file."""
    try:
        if path.parent.name == layout.MODEL and path.is_dir():
            found = zarr_io.crc(np.asarray(zarr_io.read_array(path.parent, path.name)))
        else:
            found = crc_of_file(path)
    except (OSError, ValueError, KeyError) as err:
        yield f"{name}: cannot be read ({err})"
        return
    if found != checksum:
        yield f"{name}: checksum differs"


def check_rows_of_step(
    store: RunStore,
    step: str,
    part: str,
    group: Path,
    names: Sequence[str],
    *,
    rows: Sequence[RowRange] | None = None,
) -> Iterator[str]:
    """Check arrays of rows against the checksums in a journal of the step that wrote them.

    Parameters
    ----------
    store : RunStore
        The run.
    step, part : str
        Name of the step, and of its journal.
    group : Path
        The Zarr group of the arrays.
    names : sequence of str
        The arrays, in the order of their checksums in the journal.
    rows : sequence of RowRange, optional
        The rows that have a checksum together; by default the blocks of the images of the run.
    """
    checksums = flat_checksums(store.noted(step, part))
    blocks = rows or stored_blocks(store, refitted_rows(store))
    yield from check_rows(group, names, checksums, blocks)


def check_rows(
    group: Path, names: Sequence[str], checksums: Sequence[Any], ranges: Sequence[RowRange]
) -> Iterator[str]:
    """Check arrays of rows against the checksums of their blocks."""
    if len(ranges) != len(checksums):
        yield f"{group.name}: the journal of its checksums is damaged"
        return
    for block, expected in zip(ranges, checksums, strict=True):
        of_arrays = expected if isinstance(expected, list) else [expected]
        for name, checksum in zip(names, of_arrays, strict=True):
            what = f"{group.name}/{name}, rows {block.start} to {block.stop - 1}"
            try:
                found = zarr_io.crc(zarr_io.read_rows(group, name, *block))
            except StoreError as err:
                yield f"{what}: cannot be read ({err})"
                continue
            if found != checksum:
                yield f"{what}: checksum differs"


def block_checksums(store: RunStore, journal: str) -> list[tuple[RowRange, int]]:
    """Return the blocks that a journal tells of, in their order, and their checksums."""
    _, entries = Journal.read(store.path / f"{journal}.jsonl")
    cut = stored_partitions(store) if entries else []
    return [
        pair
        for index, entry in sorted(entries.items())
        for pair in zip(cut[index], entry["crc"], strict=True)
    ]


def check_images(store: RunStore, journal: str) -> Iterator[str]:
    """Check the images, copied or where they were given, against the checksums of a journal."""
    checksums = block_checksums(store, journal)
    for segment in (one for one in segments(store) if one.n_samples):
        mine = [
            (rows, crc) for rows, crc in checksums if segment.start <= rows.start < segment.stop
        ]
        yield from _check_segment(store, segment, mine)


def _check_segment(
    store: RunStore, segment: Segment, checksums: Sequence[tuple[RowRange, int]]
) -> Iterator[str]:
    """Check the images of a segment."""
    known, copied = segment.images, segment.copied
    is_copied = copied.exists()
    name = str(copied.relative_to(store.path)) if is_copied else f"images {known['path']}"
    place = str(copied) if is_copied else known["path"]
    in_place = known["kind"] in ("npy", "zarr") and zarr_io.split_key(place)[0].exists()
    if not is_copied and not in_place:
        # A run outlives its images: without them there is nothing to compare.
        return
    try:
        images = zarr_io.open_images(place)
        first, n_samples = (0 if is_copied else known.get("first_row", 0)), segment.n_samples
        if images.n_samples >= first + n_samples:
            # Images that their array has gained since are others.
            images = zarr_io.some_images(images, first, first + n_samples)
        expected_shape = [segment.n_samples, *store.manifest.images["shape"][1:]]
        if [list(images.shape), str(images.dtype)] != [
            expected_shape,
            store.manifest.images["dtype"],
        ]:
            yield f"{name}: shape or type differs"
            return
        if not is_copied and images.fingerprint()["metadata"] != known["metadata"]:
            yield f"{name}: metadata differs"
    except (ImagesError, StoreError) as err:
        yield f"{name}: cannot be read ({err})"
        return
    for (start, stop), expected in checksums:
        try:
            found = zarr_io.crc(images.read(start - segment.start, stop - segment.start))
        except StoreError as err:
            yield f"{name}: cannot be read ({err})"
            continue
        if found != expected:
            yield f"{name}, images {start} to {stop - 1}: checksum differs"
    if is_copied:
        yield from check_beside(store, copied, {images.key}, segment.n_samples)


def check_beside(
    store: RunStore, group: Path, but: set[str], n_samples: int | None = None
) -> Iterator[str]:
    """Check the other arrays of a group: reading compares the checksum of each chunk."""
    for name in zarr_io.array_names(group):
        try:
            if name == "path":
                n_all, block_rows = rows_and_blocks(store)
                for rows in row_ranges(n_samples or n_all, block_rows):
                    zarr_io.read_rows(group, name, *rows)
            elif name not in but:
                zarr_io.read_array(group, name)
        except StoreError as err:
            yield f"{group.name}/{name}: cannot be read ({err})"


def rows_and_blocks(store: RunStore) -> tuple[int, int]:
    """Return how many images a run has, and how many rows make a block."""
    images = store.manifest.images
    return images["shape"][0], images["block_rows"]
