"""The segments of a run: the images it was made of, and those that `update` has added, in their order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.chunks import RowRange
from workflow.engine.partitions import partitions
from workflow.runstore import layout

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from workflow.runstore import RunStore


class Segment(NamedTuple):
    """Images that came at one time.

    Attributes
    ----------
    start, stop : int
        Their rows.
    images : mapping
        What the manifest knows of them: path, kind, digest, metadata.
    copied : Path
        Where they lie when they had to be copied.
    """

    start: int
    stop: int
    images: Mapping[str, Any]
    copied: Path

    @property
    def n_samples(self) -> int:
        """Number of its images."""
        return self.stop - self.start


def added(store: RunStore) -> list[dict[str, Any]]:
    """Return the records of the updates that gave their images labels, unlike those of earlier versions."""
    return [record for record in store.manifest.updates if "images" in record]


def is_updated(store: RunStore) -> bool:
    """Whether a run has more than one segment."""
    return bool(added(store))


def segments(store: RunStore) -> list[Segment]:
    """Return the segments of a run, one or more."""
    records, n_samples = added(store), store.manifest.images["shape"][0]
    sizes = [record["n_samples"] for record in records]
    stops = list(itertools.accumulate([n_samples - sum(sizes), *sizes]))
    known = [store.manifest.images, *(record["images"] for record in records)]
    places = [store.path, *(segment_folder(store, number + 1) for number in range(len(records)))]
    return [
        Segment(start, stop, images, place / layout.IMAGES)
        for start, stop, images, place in zip([0, *stops], stops, known, places, strict=False)
    ]


def segment_folder(store: RunStore, number: int) -> Path:
    """Return where a segment keeps what is its own; the first one, 0, is the run itself."""
    return store.path / layout.SEGMENTS / f"{number:03d}"


def stored_partitions(store: RunStore) -> list[list[RowRange]]:
    """Return the blocks of each task that the journals of a run tell of: those of each segment in turn."""
    block_rows = store.manifest.images["block_rows"]
    return [
        [RowRange(part.start + rows.start, part.start + rows.stop) for rows in partition.blocks]
        for part in segments(store)
        for partition in partitions(part.n_samples, block_rows)
    ]


def stored_blocks(store: RunStore) -> list[RowRange]:
    """Return the blocks whose checksums the journals of a run hold."""
    return list(itertools.chain.from_iterable(stored_partitions(store)))
