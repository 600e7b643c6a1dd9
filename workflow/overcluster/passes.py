"""Passes over the rows of a sample: what each task computes, and how blocks merge."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from workflow.overcluster._cell_kernels import lowest_of_groups, sum_by_group
from workflow.overcluster.sampling import read_rows, sample_blocks
from workflow.overcluster.search import NearestCentroids
from workflow.overcluster.seeding import distance_cap, pull
from workflow.rng import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.mapper import Mapper, Rows, Shared
    from workflow.overcluster.sampling import SampleBlock

T = TypeVar("T")


class Draw(NamedTuple):
    """What fixes the random draws of a pass, and the cap of squared distances in it."""

    seed: int
    n_passes: int
    cap: float


@dataclass(frozen=True, slots=True)
class PassSums:
    """Sums over the rows of each cell, of one block or of a whole batch.

    Attributes
    ----------
    population : int64 array of shape (n_centroids,)
        Rows of the cell.
    total : float64 array of shape (n_centroids, n_features)
        Their sum [score].
    sq_distance : float64 array of shape (n_centroids,)
        Sum of squared distances [score squared].
    error : float64 array of shape (n_centroids,)
        Sum of the pulls of the rows (`seeding.pull`) [score].
    loss : float64 array of shape (n_centroids,)
        By how much that sum would grow without this centroid [score].
    pick : float array of shape (n_centroids, n_features)
        A row of the cell drawn in proportion to its pull [score].
    pick_key : float64 array of shape (n_centroids,)
        Its key in the draw, the smallest of the cell; infinite where all
        pulls are 0, and nothing is drawn.
    caps : float64 array of shape (n_blocks,)
        Cap that the squared distances of each block suggest.
    """

    population: NDArray[np.int64]
    total: NDArray[np.float64]
    sq_distance: NDArray[np.float64]
    error: NDArray[np.float64]
    loss: NDArray[np.float64]
    pick: NDArray[Any]
    pick_key: NDArray[np.float64]
    caps: NDArray[np.float64]

    @property
    def cap(self) -> float:
        """The median of the caps that are finite."""
        finite = self.caps[np.isfinite(self.caps)]
        return float(np.median(finite)) if finite.size else float("inf")


def sum_pass(
    sample: Rows,
    n_rows: int,
    centroids: NDArray[Any],
    draw: Draw,
    mapper: Mapper,
    finish: Callable[[PassSums, NDArray[Any]], T],
) -> T:
    """Assign the first rows of a sample and sum over the cells, where the rows are; only what `finish` makes of it comes back."""
    shared = mapper.share(NearestCentroids.build(centroids).to_arrays())
    found: T = mapper.reduce(
        partial(_sum_block, sample, shared, draw),
        sample_blocks(n_rows, centroids.shape[0]),
        _add,
        partial(_finished, shared, finish),
    )
    return found


def _finished(shared: Shared, finish: Callable[[PassSums, NDArray[Any]], T], sums: PassSums) -> T:
    """Return what `finish` makes of the sums."""
    return finish(sums, NearestCentroids.from_arrays(shared.load()).centroids)


def _sum_block(sample: Rows, shared: Shared, draw: Draw, block: SampleBlock) -> PassSums:
    """Add up the cells of a block."""
    search = NearestCentroids.from_arrays(shared.load())
    rows = read_rows(sample, block.rows)
    nearest, sq_distance = search.query(rows, k=2)
    group = nearest[:, 0].astype(np.intp)
    squared = sq_distance.astype(np.float64)
    pulled = pull(squared, draw.cap)
    n_centroids = search.n_centroids
    # Exponential races: the smallest key of a cell belongs to a row drawn in proportion to its
    # weight, and the smallest of several blocks to a row drawn from all of them.
    rng = generator(draw.seed, f"overcluster/pass/{draw.n_passes}", block.number)
    with np.errstate(divide="ignore", invalid="ignore"):
        key = rng.standard_exponential(group.size) / pulled[:, 0]
    position, pick_key = lowest_of_groups(key, group, n_centroids, 1)
    per_row = np.stack([squared[:, 0], pulled[:, 0], pulled[:, 1] - pulled[:, 0]], axis=1)
    summed = sum_by_group(per_row, group, n_centroids)
    return PassSums(
        population=np.bincount(group, minlength=n_centroids).astype(np.int64),
        total=sum_by_group(rows, group, n_centroids),
        sq_distance=summed[:, 0],
        error=summed[:, 1],
        loss=summed[:, 2],
        pick=np.where(position >= 0, rows[position[:, 0]], 0),
        pick_key=pick_key[:, 0],
        caps=np.array([distance_cap(sq_distance[:, 0])]),
    )


def _add(left: PassSums, right: PassSums) -> PassSums:
    """Add up two blocks."""
    is_left = left.pick_key <= right.pick_key
    return PassSums(
        population=left.population + right.population,
        total=left.total + right.total,
        sq_distance=left.sq_distance + right.sq_distance,
        error=left.error + right.error,
        loss=left.loss + right.loss,
        pick=np.where(is_left[:, None], left.pick, right.pick),
        pick_key=np.minimum(left.pick_key, right.pick_key),
        caps=np.concatenate([left.caps, right.caps]),
    )
