"""How many centroids, which rows they are fitted on, and how tasks read those."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import RowRange, row_ranges
from workflow.overcluster.search import as_float_rows
from workflow.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.mapper import Rows

#: Rows behind each centroid when their number is chosen here: fewer leave the test of the tree
#: no power, more leave small clusters too few centroids to be seen.
ROWS_PER_CENTROID = 15
#: Maximum number of centroids chosen here, and the number that small data get where they can.
MAX_CENTROIDS = 16_384
#: Below so many rows there is one centroid for so many rows.
FEW_ROWS, ROWS_PER_CENTROID_OF_FEW = 5_000, 2
#: Rows of the sample for each centroid, and the minimum number of rows worth sampling.
SAMPLE_ROWS_PER_CENTROID, MIN_SAMPLE_ROWS = 64, 65_536
#: Rows of a block of the sample.  Large enough that the sums a task returns are small beside its
#: work, small enough for 16 tasks in a first batch.
MIN_BLOCK_ROWS, MAX_BLOCK_ROWS = 4_096, 32_768


def auto_n_centroids(n_samples: int) -> int:
    """Choose the number of centroids for a number of rows.

    Parameters
    ----------
    n_samples : int
        Rows to cluster, at least 1.

    Returns
    -------
    int
        One centroid for 15 rows, 16,384 at most.  Below 5,000 rows that would
        be too few centroids to tell anything apart, and too few rows for a
        test: one for 2 rows there.

    Raises
    ------
    ValueError
        If there is no row.

    Examples
    --------
    >>> [auto_n_centroids(n) for n in (1, 100, 1_000, 70_000, 48_000_000)]
    [1, 50, 500, 4666, 16384]
    """
    if n_samples < 1:
        msg = f"`n_samples` must be at least 1; got {n_samples}. Give some images."
        raise ValueError(msg)
    rows = ROWS_PER_CENTROID if n_samples >= FEW_ROWS else ROWS_PER_CENTROID_OF_FEW
    return min(max(1, n_samples // rows), MAX_CENTROIDS)


def sample_size(n_samples: int, n_centroids: int) -> int:
    """Choose how many rows the centroids are fitted on.

    Parameters
    ----------
    n_samples : int
        Rows there are.
    n_centroids : int
        Centroids wanted.

    Returns
    -------
    int
        64 rows a centroid, at least 65,536, and never more than there are.
        A cluster of share f leaves no row in a sample of m rows with
        probability (1 - f)**m.

    Examples
    --------
    >>> sample_size(48_000_000, 16_384), sample_size(70_000, 100), sample_size(50, 5)
    (1048576, 65536, 50)
    """
    return min(n_samples, max(SAMPLE_ROWS_PER_CENTROID * n_centroids, MIN_SAMPLE_ROWS))


def sample_counts(block_sizes: Sequence[int], n_sample: int) -> NDArray[np.int64]:
    """Share out a sample over blocks in proportion to their rows.

    Parameters
    ----------
    block_sizes : sequence of int
        Rows of each block.
    n_sample : int
        Rows of the whole sample.

    Returns
    -------
    int64 array of shape (n_blocks,)
        Rows to draw from each block, never more than it has; their sum is
        `n_sample`.  Largest remainders, ties to the earlier block.

    Raises
    ------
    ValueError
        If the blocks have fewer rows than `n_sample`.

    Examples
    --------
    >>> sample_counts([10, 10, 5], 7).tolist()
    [3, 3, 1]
    """
    sizes = np.asarray(block_sizes, dtype=np.int64).reshape(-1)
    total = int(sizes.sum())
    if not 0 <= n_sample <= total:
        msg = (
            f"`n_sample` must be between 0 and the {total} rows of all blocks; got {n_sample}. "
            "Draw a smaller sample."
        )
        raise ValueError(msg)
    if total == 0:
        return np.zeros(sizes.size, dtype=np.int64)
    # n_sample * size stays below 2**63 for a million sampled rows and 10**12 rows in a block.
    counts, remainder = np.divmod(sizes * n_sample, total)
    left_over = n_sample - int(counts.sum())
    counts[np.argsort(-remainder, kind="stable")[:left_over]] += 1
    return np.asarray(counts, dtype=np.int64)


def draw_rows(n_rows: int, n_draw: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw rows of one block without replacement.

    Parameters
    ----------
    n_rows : int
        Rows of the block.
    n_draw : int
        Rows to draw, at most `n_rows`.
    rng : numpy.random.Generator
        Generator of this block.

    Returns
    -------
    int64 array of shape (n_draw,)
        Rows of the block, ascending.

    Raises
    ------
    ValueError
        If more rows are requested than there are.

    Examples
    --------
    >>> draw_rows(3, 3, np.random.default_rng(0)).tolist()
    [0, 1, 2]
    """
    if not 0 <= n_draw <= n_rows:
        msg = (
            f"`n_draw` must be between 0 and the {n_rows} rows of the block; got {n_draw}. "
            "Take the numbers from sample_counts."
        )
        raise ValueError(msg)
    return np.sort(rng.choice(n_rows, size=n_draw, replace=False)).astype(np.int64)


def sample_destinations(n_sample: int, seed: int) -> NDArray[np.int64]:
    """Shuffle the positions of sampled rows.

    Parameters
    ----------
    n_sample : int
        Rows of the sample.
    seed : int
        Seed of the run.

    Returns
    -------
    int64 array of shape (n_sample,)
        A permutation: the i-th row drawn, counted through the blocks in
        order, is written to this row of the sample.  Fitting reads prefixes
        of the sample as random batches, so it wants the rows shuffled.

    Examples
    --------
    >>> sorted(sample_destinations(4, seed=0).tolist())
    [0, 1, 2, 3]
    """
    return generator(seed, "overcluster/shuffle").permutation(n_sample).astype(np.int64)


class SampleBlock(NamedTuple):
    """A fixed range of rows of the sample: the work of one task, whoever does it."""

    number: int
    rows: RowRange


def sample_blocks(n_rows: int, n_centroids: int) -> list[SampleBlock]:
    """Cut the first rows of a sample into blocks that depend on nothing but these numbers.

    Parameters
    ----------
    n_rows : int
        Rows to cut.
    n_centroids : int
        Centroids that they are compared with.

    Returns
    -------
    list of SampleBlock
        Consecutive blocks of twice as many rows as centroids, as a power of
        two, within 4,096 and 32,768; the last may be shorter.

    Examples
    --------
    >>> [tuple(block.rows) for block in sample_blocks(10_000, 100)]
    [(0, 4096), (4096, 8192), (8192, 10000)]
    """
    wanted = 1 << (2 * n_centroids - 1).bit_length()
    size = min(max(wanted, MIN_BLOCK_ROWS), MAX_BLOCK_ROWS)
    return [SampleBlock(number, rows) for number, rows in enumerate(row_ranges(n_rows, size))]


def read_rows(sample: Rows, rows: RowRange) -> NDArray[Any]:
    """Return rows of a sample as C-contiguous float32 or float64 [score]; ValueError if one is not finite."""
    found = np.ascontiguousarray(as_float_rows(sample.read(rows.start, rows.stop)))
    is_finite = np.isfinite(found).all(axis=1)
    if not is_finite.all():
        bad = int(np.flatnonzero(~is_finite)[0])
        msg = (
            "`sample` must hold finite values; got NaN or infinity first at its row "
            f"{rows.start + bad}. Repair or drop that row."
        )
        raise ValueError(msg)
    return found
