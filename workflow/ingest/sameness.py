"""Images that are given again: the same values under other names or times are the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.ingest.source import prepared
from workflow.mapper import SerialRunner
from workflow.runstore import zarr_io
from workflow.runstore.files import discard

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from workflow.chunks import RowRange
    from workflow.ingest.source import Source
    from workflow.mapper import Rows

#: What of a fingerprint may differ although the values are the same; shape and type are compared as they are read.
MARKS = ("files", "name", "mtime_ns", "shape", "dtype")


def may_be_same(known: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Return whether two fingerprints differ in names and times alone.

    Parameters
    ----------
    known : mapping
        A fingerprint that was stored; it may have more entries.
    found : mapping
        Another one.

    Returns
    -------
    bool
        Whether it is worth comparing the values.
    """
    return all(known.get(key) == value for key, value in found.items() if key not in MARKS)


def first_difference(images: Rows, expected: Iterable[tuple[RowRange, int]]) -> RowRange | None:
    """Compare images with checksums; stop at the first that differs.

    Parameters
    ----------
    images : Rows
        The images.
    expected : iterable of (RowRange, int)
        Images, and the checksum of their values.

    Returns
    -------
    RowRange or None
        Images whose values differ; None where none do.
    """
    return next(
        (rows for rows, checksum in expected if zarr_io.crc(images.read(*rows)) != checksum), None
    )


def same_values(
    source: Source,
    shape: Sequence[int],
    dtype: str,
    expected: Iterable[tuple[RowRange, int]],
    folder: Path,
) -> bool:
    """Compare images with checksums; stop at the first that differs.

    Parameters
    ----------
    source : Source
        The images.
    shape : sequence of int
        (n_samples, ...) as it must be.
    dtype : str
        Type as it must be.
    expected : iterable of (RowRange, int)
        Images, and the checksum of their values.
    folder : Path
        Working folder, for sources that must be prepared; removed at the end.

    Returns
    -------
    bool
        Whether all of them agree.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        ready = prepared(source, folder, SerialRunner())
        if [ready.n_samples, *ready.image_shape] != list(shape) or ready.dtype.name != dtype:
            return False
        return first_difference(ready, expected) is None
    finally:
        discard(folder)
