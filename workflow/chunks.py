"""Chunk geometry: row ranges of blocks and partitions, from the shape of the data alone; no I/O."""

from __future__ import annotations

from typing import NamedTuple

#: A block of rows as float32 stays below this, so that a task holds a few of them at most.
BLOCK_BYTES = 64 * 2**20
#: Minimum and maximum number of rows of a block that is chosen here.
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 64, 65_536
#: A stored chunk with more rows than a block makes the block as large, up to this many float32 bytes.
MAX_STORED_BLOCK_BYTES = 512 * 2**20


class RowRange(NamedTuple):
    """Rows from `start` up to, not including, `stop`."""

    start: int
    stop: int

    @property
    def n_rows(self) -> int:
        """Number of rows in the range."""
        return self.stop - self.start


def choose_block_rows(n_features: int, stored_rows: int | None = None) -> int:
    """Return how many rows make a block.

    Parameters
    ----------
    n_features : int
        Features of a row.
    stored_rows : int, optional
        Rows of a stored chunk, when it can only be read whole.

    Returns
    -------
    int
        A power of two that depends on the data alone, never on a worker's
        memory: results must not change with the machine.  Whole stored chunks
        where that can be, so that none is decoded twice.

    Examples
    --------
    >>> choose_block_rows(768)
    16384
    >>> choose_block_rows(768, stored_rows=50_000)
    50000
    >>> choose_block_rows(768, stored_rows=10_000)
    10000
    """
    fitting = max(1, BLOCK_BYTES // (4 * max(1, n_features)))
    rows = 1 << (fitting.bit_length() - 1)
    rows = min(max(rows, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)
    if stored_rows and rows < stored_rows <= MAX_STORED_BLOCK_BYTES // (4 * max(1, n_features)):
        return stored_rows
    if stored_rows and stored_rows < rows:
        rows -= rows % stored_rows
    return rows


def row_ranges(n_rows: int, rows_per_range: int) -> tuple[RowRange, ...]:
    """Cut `n_rows` into consecutive ranges; the last may be shorter.

    Parameters
    ----------
    n_rows : int
        Rows to cut.
    rows_per_range : int
        Rows of every range but the last.

    Returns
    -------
    tuple of RowRange
        Empty when there are no rows.

    Raises
    ------
    ValueError
        If `rows_per_range` is not positive.

    Examples
    --------
    >>> [tuple(r) for r in row_ranges(10, 4)]
    [(0, 4), (4, 8), (8, 10)]
    """
    if rows_per_range < 1:
        msg = f"`rows_per_range` must be at least 1; got {rows_per_range}."
        raise ValueError(msg)
    return tuple(
        RowRange(start, min(start + rows_per_range, n_rows))
        for start in range(0, n_rows, rows_per_range)
    )


def blocks_per_partition(n_blocks: int) -> int:
    """Return how many consecutive blocks one task works through before it leaves a result.

    Parameters
    ----------
    n_blocks : int
        Blocks of the whole data.

    Returns
    -------
    int
        1 to 16, from the number of blocks alone: enough partitions to keep
        workers busy and resume finely, few enough that merging them is cheap.

    Examples
    --------
    >>> blocks_per_partition(13), blocks_per_partition(20_000)
    (1, 16)
    """
    return min(16, max(1, n_blocks // 32))
