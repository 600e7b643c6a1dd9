"""First centroids where the rows are: k-means++ in one task, or k-means|| over many."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import RowRange
from workflow.overcluster.sampling import MAX_BLOCK_ROWS, read_rows, sample_blocks
from workflow.overcluster.search import NearestCentroids, RunningNearest, as_float_rows
from workflow.rng import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.mapper import Mapper, Rows, Shared, TaskStorage
    from workflow.overcluster.sampling import SampleBlock

#: A row far from every seed pulls no harder than one at this many times the 90th percentile of
#: squared distances: a rare cluster keeps most of its pull, a lone outlier gets about one draw
#: in K' instead of all.  Empirical: 16 misses rare clusters, 100 lets 1 % of outliers dominate.
CAP_QUANTILE, CAP_MULTIPLE = 0.9, 32.0
#: Seeds proposed at a time.
MAX_PROPOSALS = 256
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


class CandidateRows(NamedTuple):
    """Rows to take as candidates, by rising index, and the cap they were drawn with."""

    rows: NDArray[np.int64]
    cap: float


def seed_by_batch(sample: Rows, n_rows: int, n_seeds: int, seed: int, mapper: Mapper) -> Seeds:
    """Choose seeds from the first rows of a sample, in the memory of one task; fewer only where fewer rows are distinct."""
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
        Measures the rows block by block.

    Returns
    -------
    Seeds
        Fewer than wanted only where there are fewer distinct candidates.

    Notes
    -----
    k-means|| [1]_: half as many uniform rows as seeds, three draws of about as
    many rows as seeds, reclustered by weighted k-means++.  Candidates, and the
    distance of each row to the nearest of them, stay where tasks save them:
    what comes back is which rows were drawn, about as many as seeds in each
    round, and the seeds.

    References
    ----------
    .. [1] B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii,
       "Scalable k-means++", PVLDB 5(7), 622-633, 2012.
    """
    rng = generator(seed, "overcluster/seed", 0)
    first = rng.choice(n_rows, size=max(1, n_seeds // 2), replace=False)
    drawn = CandidateRows(np.sort(first), float("nan"))
    blocks = sample_blocks(n_rows, n_seeds)
    measured: list[Shared | None] = [None] * len(blocks)
    searches: list[Shared] = []
    n_candidates = 0
    with mapper.task_storage() as storage:
        for n_draws in range(1, CANDIDATE_ROUNDS + 2):
            if drawn.rows.size:
                searches.append(_save_search_among(sample, drawn.rows, mapper, storage))
                task = partial(_measure_block, sample, searches[-1], storage, n_candidates)
                measured = list(mapper.map(task, list(zip(blocks, measured, strict=True))))
                n_candidates += drawn.rows.size
            if n_draws <= CANDIDATE_ROUNDS:
                draw = partial(_draw_candidates, n_seeds, seed, n_draws, drawn.cap)
                (drawn,) = mapper.map(draw, [measured])
        choose = partial(_recluster, searches, n_seeds, seed, drawn.cap)
        (centroids,) = mapper.map(choose, [measured])
    return Seeds(centroids, drawn.cap, CANDIDATE_ROUNDS + 1, len(searches) * n_rows)


def distance_cap(sq_distance: NDArray[Any]) -> float:
    """Return the cap of squared distances: 32 times the 90th percentile of the positive ones, or infinity [score squared]."""
    positive = sq_distance[sq_distance > 0]
    if positive.size == 0:
        return float("inf")
    return float(CAP_MULTIPLE * np.quantile(positive.astype(np.float64), CAP_QUANTILE))


def pull(sq_distance: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Return how hard rows pull at centroids: by their distance, up to a limit.

    Parameters
    ----------
    sq_distance : float64 array
        Squared distances to the nearest centroid [score squared].
    cap : float
        Squared distance above which a row pulls no harder [score squared].

    Returns
    -------
    float64 array of the same shape
        Distances, limited [score].

    Notes
    -----
    k-means++ lets rows pull by the square of their distance, the share of the
    error that they hold.  That spends most centroids on sparse noise: with a
    quarter of the rows uniform around thirty clusters in 10 dimensions 73 % of
    2,333 centroids went there, and small clusters were left with one or two
    each, too few to be told from a dense spot.  By distance it is 59 %, for
    3 % more error.
    """
    pulled: NDArray[np.float64] = np.sqrt(np.minimum(sq_distance, cap))
    return pulled


def kmeans_plus_plus(
    rows: NDArray[Any],
    weights: NDArray[np.floating[Any]],
    n_seeds: int,
    cap: float,
    rng: np.random.Generator,
) -> NDArray[np.intp]:
    """Choose seeds by weighted k-means++, in proportion to `pull`.

    Parameters
    ----------
    rows : float array of shape (n_samples, n_features)
        Rows to choose from [score].
    weights : float array of shape (n_samples,)
        Positive weights of the rows.
    n_seeds : int
        Seeds wanted.
    cap : float
        Squared distance above which a row pulls no harder [score squared].
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    intp array of shape (n_chosen,)
        Chosen rows in the order of choice, all different; fewer than
        `n_seeds` only where every row coincides with a seed.

    Notes
    -----
    Rows are drawn by their capped distance, not its square as in [1]_;
    otherwise the law of the draws is the same.  Seeds are proposed up to 256
    at a time from the weights as they were, and each is accepted with
    probability (weight now) / (weight then), which is exact because weights
    only fall.  So distances are lowered by many seeds at a time, and the
    distance of a row so far rules most of them out.
    Distances are by direct difference: no draw depends on the processor.

    References
    ----------
    .. [1] D. Arthur and S. Vassilvitskii, "k-means++: the advantages of
       careful seeding", SODA 2007, 1027-1035.
    """
    rows = as_float_rows(rows)
    first = _draw(np.asarray(weights, dtype=np.float64), rng.random(1))
    chosen = [first]
    n_chosen = 1
    nearest = RunningNearest(rows)
    nearest.add(first)
    while n_chosen < n_seeds:
        potential = weights * pull(nearest.sq_distance, cap)
        if not potential.any():
            break
        size = max(1, min(n_chosen // 2, MAX_PROPOSALS, n_seeds - n_chosen))
        proposed = _draw(potential, rng.random(size))
        accepted = _thin(rows, proposed, nearest.sq_distance, cap, rng.random(size))
        nearest.add(accepted)
        chosen.append(accepted)
        n_chosen += accepted.size
    return np.concatenate(chosen)


def _seed_by_batch(sample: Rows, n_seeds: int, seed: int, batch: RowRange) -> Seeds:
    """Choose seeds by k-means++."""
    rows = read_rows(sample, batch)
    rng = generator(seed, "overcluster/seed")
    # Uniform rows give the scale of distances that caps the pull of outliers.
    uniform = rng.choice(rows.shape[0], size=n_seeds, replace=False)
    spread = rows[:: -(-rows.shape[0] // 4096)]
    cap = distance_cap(NearestCentroids.build(rows[uniform]).query(spread, k=1)[1])
    chosen = kmeans_plus_plus(rows, np.ones(rows.shape[0]), n_seeds, cap, rng)
    return Seeds(rows[chosen], cap, 1, rows.shape[0])


def _save_search_among(
    sample: Rows, index: NDArray[np.int64], mapper: Mapper, storage: TaskStorage
) -> Shared:
    """Let a task save the search among listed rows; each block of the sample is read once."""
    items = []
    for block in sample_blocks(sample.n_samples, MAX_BLOCK_ROWS):
        start, stop = np.searchsorted(index, block.rows)
        if stop > start:
            items.append((block.rows, index[start:stop] - block.rows.start))
    task = partial(_take_rows, sample)
    saved: Shared = mapper.reduce(task, items, _join, partial(_save_search, storage))
    return saved


def _take_rows(sample: Rows, item: tuple[RowRange, NDArray[np.int64]]) -> NDArray[Any]:
    """Read the span of listed rows and return those."""
    rows, local = item
    first, last = int(local[0]), int(local[-1])
    span = read_rows(sample, RowRange(rows.start + first, rows.start + last + 1))
    return np.asarray(span[local - first])


def _join(left: NDArray[Any], right: NDArray[Any]) -> NDArray[Any]:
    """Concatenate the rows of neighbours."""
    return np.concatenate([left, right])


def _save_search(storage: TaskStorage, candidates: NDArray[Any]) -> Shared:
    """Save the search among candidates, which holds them too."""
    return storage.save(NearestCentroids.build(candidates).to_arrays())


def _measure_block(
    sample: Rows,
    search: Shared,
    storage: TaskStorage,
    n_before: int,
    item: tuple[SampleBlock, Shared | None],
) -> Shared:
    """Find the nearest of the new candidates, and of those before, of each row of a block."""
    block, before = item
    found = NearestCentroids.from_arrays(search.load()).query(read_rows(sample, block.rows), k=1)
    nearest, sq_distance = found[0][:, 0], found[1][:, 0]
    if before is not None:
        known = before.load()
        closer = sq_distance < known["sq_distance"]
        nearest = np.where(closer, nearest + n_before, known["nearest"])
        sq_distance = np.where(closer, sq_distance, known["sq_distance"])
    return storage.save({"nearest": nearest.astype(np.int32), "sq_distance": sq_distance})


def _draw_candidates(
    n_seeds: int, seed: int, n_draws: int, cap: float, measured: Sequence[Shared]
) -> CandidateRows:
    """Draw rows of all blocks by their pull; the first distances of all decide how far one pulls."""
    sq_distance = np.concatenate([block.load()["sq_distance"] for block in measured])
    if np.isnan(cap):
        cap = distance_cap(sq_distance)
    pulled = pull(sq_distance.astype(np.float64), cap)
    uniform = generator(seed, "overcluster/seed", n_draws).random(sq_distance.size)
    return CandidateRows(np.flatnonzero(uniform * pulled.sum() < n_seeds * pulled), cap)


def _recluster(
    searches: Sequence[Shared], n_seeds: int, seed: int, cap: float, measured: Sequence[Shared]
) -> NDArray[Any]:
    """Choose seeds from the candidates, each weighted by the rows nearest to it."""
    candidates = np.concatenate([search.load()["centroids"] for search in searches])
    nearest = np.concatenate([block.load()["nearest"] for block in measured])
    weights = np.bincount(nearest, minlength=candidates.shape[0])
    used = np.flatnonzero(weights)
    rng = generator(seed, "overcluster/recluster")
    weight = weights[used].astype(np.float64)
    chosen = kmeans_plus_plus(candidates[used], weight, n_seeds, cap, rng)
    return np.asarray(candidates[used[chosen]])


def _draw(potential: NDArray[np.float64], uniform: NDArray[np.float64]) -> NDArray[np.intp]:
    """Draw rows in proportion to their potential."""
    cumulative = np.cumsum(potential)
    drawn = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    # A product rounded up to the total would fall off the end, onto a row of no weight.
    last = int(np.flatnonzero(potential)[-1])
    return np.asarray(np.minimum(drawn, last), dtype=np.intp)


def _thin(
    rows: NDArray[Any],
    proposed: NDArray[np.intp],
    sq_distance: NDArray[np.float64],
    cap: float,
    uniform: NDArray[np.float64],
) -> NDArray[np.intp]:
    """Accept each proposal with the probability left to it by those accepted before."""
    x = rows[proposed].astype(np.float64)
    now = sq_distance[proposed]
    then = pull(now, cap)
    accepted = []
    for i, row in enumerate(proposed):
        if uniform[i] * then[i] < pull(now[i : i + 1], cap)[0]:
            accepted.append(row)
            difference = x[i + 1 :] - x[i]
            np.minimum(
                now[i + 1 :], np.einsum("ij,ij->i", difference, difference), out=now[i + 1 :]
            )
    return np.array(accepted, dtype=np.intp)
