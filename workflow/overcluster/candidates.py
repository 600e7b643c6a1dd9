"""First centroids where the rows are: of a batch that fits one task, or of candidates drawn by many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import RowRange
from workflow.overcluster.assignment import NearestCentroids
from workflow.overcluster.passes import MAX_PIECE_ROWS, pieces, read_rows
from workflow.overcluster.seeding import distance_cap, kmeans_plus_plus, pull
from workflow.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.mapper import Keeper, Mapper, Rows, Shared
    from workflow.overcluster.passes import Piece

#: Rounds of k-means|| after its first draw; each draws about as many candidates as centroids.
CANDIDATE_ROUNDS = 3


class Seeds(NamedTuple):
    """First centroids: all that comes back to the caller.

    Attributes
    ----------
    centroids : float array of shape (n_chosen, n_features)
        Rows of the batch, all different [score].
    cap : float
        Squared distance above which a row pulls no harder [score squared].
    n_passes, n_row_visits : int
        Passes over the batch, and rows read in those that measured any.
    """

    centroids: NDArray[Any]
    cap: float
    n_passes: int
    n_row_visits: int


class Drawn(NamedTuple):
    """Rows to take as candidates, by rising index, and the cap they were drawn with."""

    rows: NDArray[np.int64]
    cap: float


def seed_by_batch(sample: Rows, n_rows: int, n_seeds: int, seed: int, mapper: Mapper) -> Seeds:
    """Choose seeds from the first rows of a sample, all of them in the memory of one task.

    Parameters
    ----------
    sample : Rows
        Rows in random order [score].
    n_rows : int
        How many of them to choose from.
    n_seeds : int
        Seeds wanted.
    seed : int
        Seed of the run.
    mapper : Mapper
        Runs the task.

    Returns
    -------
    Seeds
        Fewer than wanted only where there are fewer distinct rows.
    """
    task = partial(_seed_by_batch, sample, n_seeds, seed)
    (found,) = mapper.map(task, [RowRange(0, n_rows)])
    return found


def seed_by_candidates(sample: Rows, n_rows: int, n_seeds: int, seed: int, mapper: Mapper) -> Seeds:
    """Choose seeds among candidates that are drawn from the first rows of a sample.

    Parameters
    ----------
    sample : Rows
        Rows in random order [score].
    n_rows : int
        How many of them to choose from.
    n_seeds : int
        Seeds wanted.
    seed : int
        Seed of the run.
    mapper : Mapper
        Measures the rows piece by piece.

    Returns
    -------
    Seeds
        Fewer than wanted only where there are fewer distinct candidates.

    Notes
    -----
    Candidates, and the distance of each row to the nearest of them, stay where
    tasks keep them: what comes back is which rows were drawn, about as many as
    seeds in each round, and the seeds.
    """
    rng = generator(seed, "overcluster/seed", 0)
    first = rng.choice(n_rows, size=max(1, n_seeds // 2), replace=False)
    drawn = Drawn(np.sort(first), float("nan"))
    cut = pieces(n_rows, n_seeds)
    measured: list[Shared | None] = [None] * len(cut)
    searches: list[Shared] = []
    n_candidates = 0
    with mapper.keeping() as keeper:
        for n_draws in range(1, CANDIDATE_ROUNDS + 2):
            if drawn.rows.size:
                searches.append(_kept_search(sample, drawn.rows, mapper, keeper))
                task = partial(_measure_piece, sample, searches[-1], keeper, n_candidates)
                measured = list(mapper.map(task, list(zip(cut, measured, strict=True))))
                n_candidates += drawn.rows.size
            if n_draws <= CANDIDATE_ROUNDS:
                draw = partial(_draw, n_seeds, seed, n_draws, drawn.cap)
                (drawn,) = mapper.map(draw, [measured])
        choose = partial(_recluster, searches, n_seeds, seed, drawn.cap)
        (centroids,) = mapper.map(choose, [measured])
    return Seeds(centroids, drawn.cap, CANDIDATE_ROUNDS + 1, len(searches) * n_rows)


def _seed_by_batch(sample: Rows, n_seeds: int, seed: int, batch: RowRange) -> Seeds:
    """Choose seeds by k-means++."""
    rows = read_rows(sample, batch)
    rng = generator(seed, "overcluster/seed")
    # Uniform rows give the scale of distances that caps the pull of outliers.
    uniform = rng.choice(rows.shape[0], size=n_seeds, replace=False)
    probe = rows[:: -(-rows.shape[0] // 4096)]
    cap = distance_cap(NearestCentroids.build(rows[uniform]).query(probe, k=1)[1])
    chosen = kmeans_plus_plus(rows, np.ones(rows.shape[0]), n_seeds, cap, rng)
    return Seeds(rows[chosen], cap, 1, rows.shape[0])


def _kept_search(sample: Rows, index: NDArray[np.int64], mapper: Mapper, keeper: Keeper) -> Shared:
    """Let tasks keep the search among listed rows, each piece of the sample read once."""
    items = []
    for piece in pieces(sample.n_samples, MAX_PIECE_ROWS):
        start, stop = np.searchsorted(index, piece.rows)
        if stop > start:
            items.append((piece.rows, index[start:stop] - piece.rows.start))
    task = partial(_take_rows, sample)
    kept: Shared = mapper.reduce(task, items, _joined, partial(_keep_search, keeper))
    return kept


def _take_rows(sample: Rows, item: tuple[RowRange, NDArray[np.int64]]) -> NDArray[Any]:
    """Read the span of listed rows and keep those."""
    rows, local = item
    first, last = int(local[0]), int(local[-1])
    span = read_rows(sample, RowRange(rows.start + first, rows.start + last + 1))
    return np.asarray(span[local - first])


def _joined(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Put the rows of neighbours together."""
    return np.concatenate([left, right])


def _keep_search(keeper: Keeper, candidates: NDArray[Any]) -> Shared:
    """Keep the search among candidates, which holds them too."""
    return keeper.keep(NearestCentroids.build(candidates).to_arrays())


def _measure_piece(
    sample: Rows,
    search: Shared,
    keeper: Keeper,
    n_before: int,
    item: tuple[Piece, Shared | None],
) -> Shared:
    """Find the nearest of the new candidates, and of those before, of each row of a piece."""
    piece, before = item
    found = NearestCentroids.from_arrays(search.load()).query(read_rows(sample, piece.rows), k=1)
    nearest, sq_distance = found[0][:, 0], found[1][:, 0]
    if before is not None:
        known = before.load()
        closer = sq_distance < known["sq_distance"]
        nearest = np.where(closer, nearest + n_before, known["nearest"])
        sq_distance = np.where(closer, sq_distance, known["sq_distance"])
    return keeper.keep({"nearest": nearest.astype(np.int32), "sq_distance": sq_distance})


def _draw(n_seeds: int, seed: int, n_draws: int, cap: float, measured: Sequence[Shared]) -> Drawn:
    """Draw rows of all pieces by their pull; the first distances of all decide how far one pulls."""
    sq_distance = np.concatenate([piece.load()["sq_distance"] for piece in measured])
    if np.isnan(cap):
        cap = distance_cap(sq_distance)
    pulled = pull(sq_distance.astype(np.float64), cap)
    uniform = generator(seed, "overcluster/seed", n_draws).random(sq_distance.size)
    return Drawn(np.flatnonzero(uniform * pulled.sum() < n_seeds * pulled), cap)


def _recluster(
    searches: Sequence[Shared], n_seeds: int, seed: int, cap: float, measured: Sequence[Shared]
) -> NDArray[Any]:
    """Choose seeds from the candidates, each weighted by the rows nearest to it."""
    candidates = np.concatenate([search.load()["centroids"] for search in searches])
    nearest = np.concatenate([piece.load()["nearest"] for piece in measured])
    weights = np.bincount(nearest, minlength=candidates.shape[0])
    used = np.flatnonzero(weights)
    rng = generator(seed, "overcluster/recluster")
    weight = weights[used].astype(np.float64)
    chosen = kmeans_plus_plus(candidates[used], weight, n_seeds, cap, rng)
    return np.asarray(candidates[used[chosen]])
