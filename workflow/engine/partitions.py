"""Partitions of the rows, one for each task, and what their reports add up to."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from workflow.chunks import RowRange, blocks_per_partition, row_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Partition:
    """Consecutive blocks that one task works through."""

    index: int
    blocks: tuple[RowRange, ...]

    @property
    def start(self) -> int:
        """Its first row."""
        return self.blocks[0].start

    @property
    def stop(self) -> int:
        """The row after its last."""
        return self.blocks[-1].stop

    @property
    def n_rows(self) -> int:
        """Rows of all its blocks."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class InUnits:
    """A partition, and the smaller ones that it consists of: what was left of each is put together."""

    partition: Partition
    units: list[Partition]

    @property
    def n_rows(self) -> int:
        """Rows of the partition."""
        return self.partition.n_rows


def units_of(parts: Iterable[Partition], n_blocks: int) -> list[Partition]:
    """Cut partitions into smaller ones, of at most so many blocks, numbered anew."""
    cut = [
        part.blocks[first : first + n_blocks]
        for part in parts
        for first in range(0, len(part.blocks), n_blocks)
    ]
    return [Partition(index, blocks) for index, blocks in enumerate(cut)]


def in_units(parts: Iterable[Partition], units: Iterable[Partition]) -> dict[int, InUnits]:
    """Return each partition with the units that lie in it."""
    units = list(units)
    return {
        part.index: InUnits(part, [u for u in units if part.start <= u.start < part.stop])
        for part in parts
    }


def partitions(n_samples: int, block_rows: int) -> list[Partition]:
    """Cut the rows into partitions, by the shape of the data alone."""
    blocks = row_ranges(n_samples, block_rows)
    step = blocks_per_partition(len(blocks))
    return [
        Partition(index, tuple(blocks[first : first + step]))
        for index, first in enumerate(range(0, len(blocks), step))
    ]


def partition_rows(n_samples: int, block_rows: int) -> int:
    """Return the rows of a partition that is not the last one: those of a file that a task writes."""
    n_blocks = -(-n_samples // block_rows)
    return block_rows * blocks_per_partition(n_blocks)


def ordered(parts: Mapping[int, T]) -> list[T]:
    """Return values in the order of their keys."""
    return [parts[index] for index in sorted(parts)]


def totals(reports: Mapping[int, Mapping[str, Any]]) -> dict[str, int]:
    """Sum the bytes that tasks reported."""
    found = {"bytes_read": 0, "bytes_written": 0}
    for report in reports.values():
        for name in found:
            found[name] += report.get(name, 0)
    return found


def flat_checksums(reports: Mapping[int, Mapping[str, Any]], name: str = "crc") -> list[Any]:
    """Return the checksums of all blocks, in the order of the blocks."""
    parts = {index: report.get(name, []) for index, report in reports.items()}
    return list(itertools.chain.from_iterable(ordered(parts)))


def part_path(folder: Path, index: int) -> Path:
    """Return where the task of a partition leaves its arrays."""
    return folder / f"part-{index:06d}.npz"


def n_rows(item: Any) -> int:
    """Return the rows of a task's item, for the progress."""
    rows: int = item.n_rows
    return rows
