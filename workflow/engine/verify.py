"""Compares what lies in a run folder with the checksums that were noted when it was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.partitions import flat_checksums, part_path, partitions
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
    rows: tuple[int, int] | None = None,
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
    rows : tuple of int, optional
        How many rows there are, and how many have a checksum together; by
        default the images of the run, and those of a block.
    """
    checksums = flat_checksums(store.noted(step, part))
    yield from check_rows(group, names, checksums, rows or rows_and_blocks(store))


def check_rows(
    group: Path, names: Sequence[str], checksums: Sequence[Any], rows: tuple[int, int]
) -> Iterator[str]:
    """Check arrays of rows against the checksums of their blocks; `rows`: how many, and of a block."""
    ranges = row_ranges(*rows)
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
    cut = partitions(*rows_and_blocks(store)) if entries else []
    return [
        pair
        for index, entry in sorted(entries.items())
        for pair in zip(cut[index].blocks, entry["crc"], strict=True)
    ]


def check_images(store: RunStore, journal: str) -> Iterator[str]:
    """Check the images, copied or where they were given, against the checksums of a journal."""
    known, copied = store.manifest.images, store.path / layout.IMAGES
    is_copied = copied.exists()
    name = layout.IMAGES if is_copied else f"images {known['path']}"
    place = str(copied) if is_copied else known["path"]
    in_place = known["kind"] in ("npy", "zarr") and zarr_io.split_key(place)[0].exists()
    if not is_copied and not in_place:
        # A run outlives its images: without them there is nothing to compare.
        return
    try:
        images = zarr_io.open_images(place)
        if [list(images.shape), str(images.dtype)] != [known["shape"], known["dtype"]]:
            yield f"{name}: shape or type differs"
            return
        if not is_copied and images.fingerprint()["metadata"] != known["metadata"]:
            yield f"{name}: metadata differs"
    except (ImagesError, StoreError) as err:
        yield f"{name}: cannot be read ({err})"
        return
    for rows, expected in block_checksums(store, journal):
        try:
            found = zarr_io.crc(images.read(*rows))
        except StoreError as err:
            yield f"{name}: cannot be read ({err})"
            continue
        if found != expected:
            yield f"{name}, images {rows.start} to {rows.stop - 1}: checksum differs"
    if is_copied:
        yield from check_beside(store, copied, {images.key})


def check_beside(store: RunStore, group: Path, but: set[str]) -> Iterator[str]:
    """Check the other arrays of a group: reading compares the checksum of each chunk."""
    for name in zarr_io.array_names(group):
        try:
            if name == "path":
                for rows in row_ranges(*rows_and_blocks(store)):
                    zarr_io.read_rows(group, name, *rows)
            elif name not in but:
                zarr_io.read_array(group, name)
        except StoreError as err:
            yield f"{group.name}/{name}: cannot be read ({err})"


def rows_and_blocks(store: RunStore) -> tuple[int, int]:
    """Return how many images a run has, and how many rows make a block."""
    images = store.manifest.images
    return images["shape"][0], images["block_rows"]
