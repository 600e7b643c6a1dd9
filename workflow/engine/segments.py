"""The segments of a run: the images it was made of, and those that `update` has added, in their order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from workflow.chunks import RowRange
from workflow.engine.partitions import partitions
from workflow.runstore import layout

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.runstore import RunStore


class Segment(NamedTuple):
    """Images that came at one time.

    Attributes
    ----------
    start, stop : int
        Their rows.
    images : dict
        What the manifest knows of them: path, kind, digest, metadata.
    copied : Path
        Where they lie when they had to be copied.
    """

    start: int
    stop: int
    images: dict[str, Any]
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


def n_searched(store: RunStore) -> int:
    """Return how many images, the first ones, components, neighbours and families were found of."""
    return refitted_rows(store) or segments(store)[0].stop


def refitted_rows(store: RunStore) -> int:
    """Return how many images, the first ones, the steps behind the moments have passed together since they came; 0 if never."""
    found: int = store.manifest.images.get("n_searched", 0)
    return found


def segment_folder(store: RunStore, number: int) -> Path:
    """Return where a segment keeps what is its own; the first one, 0, is the run itself."""
    return store.path / layout.SEGMENTS / f"{number:03d}"


def stored_partitions(store: RunStore, n_whole: int = 0) -> list[list[RowRange]]:
    """Return the blocks of each task that the journals of a run tell of.

    They are those of each segment in turn; of a pass that was done again, those of the first `n_whole` rows
    together, then those of the segments after.  The moments of a run and what is noted with them are never
    passed again, what lies behind them with `refitted_rows`.
    """
    block_rows = store.manifest.images["block_rows"]
    later = [(part.start, part.n_samples) for part in segments(store) if part.start >= n_whole]
    spans = [(0, n_whole), *later] if n_whole else later
    return [
        [RowRange(start + rows.start, start + rows.stop) for rows in partition.blocks]
        for start, n_samples in spans
        for partition in partitions(n_samples, block_rows)
    ]


def stored_blocks(store: RunStore, n_whole: int = 0) -> list[RowRange]:
    """Return the blocks whose checksums the journals of a run hold; see `stored_partitions`."""
    return list(itertools.chain.from_iterable(stored_partitions(store, n_whole)))
