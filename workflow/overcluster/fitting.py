"""Fit centroids to a sample: seeding, doubling batches, no empty cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from workflow.overcluster.passes import Draw, PassSums, sum_pass
from workflow.overcluster.rounds import (
    HISTORY,
    SWAP_ROUNDS,
    RoundState,
    check,
    improve,
    record,
)
from workflow.overcluster.search import as_float_rows
from workflow.overcluster.seeding import seed_by_batch, seed_by_candidates

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workflow.mapper import Mapper, Rows

T = TypeVar("T")

#: Rows of the first batch and of seeding: for each centroid, and their minimum.
BATCH_ROWS_PER_CENTROID, MIN_BATCH_ROWS = 32, 65_536
#: k-means++ in one task up to this many pairs of rows and centroids (seconds on one core).
MAX_IN_MEMORY_PAIRS = 2**30
#: A batch is exhausted when the median centroid moves less than its standard error, the whole
#: sample when it moves less than a fifth: 0.9 % above converged inertia on digits, half the rounds.
EXHAUSTED, REST = 1.0, 0.2
#: A batch may be exhausted while up to this share of the centroids still gets another place: to
#: wait for none took 1.7 times the passes, for 0.6 % less error on both digits and demo images.
MAX_RELOCATED_SHARE = 1 / 128
#: Nor is that waited for once a round lowers the error by less than this share, in a batch of 32 rows
#: for each centroid or more: with noise in all pixels centroids change places in every round and win
#: nothing.  With few rows for each, the moves still win 1 to 3 % (decision 0045).
MIN_GAIN = 1 / 1000
#: Rounds that one batch smaller than the sample may take.
MAX_ROUNDS_OF_BATCH = 12
#: Checks in which empty centroids are still re-placed once the others rest.
MAX_CHECKS = 8


@dataclass(frozen=True, slots=True)
class FittedCentroids:
    """Centroids fitted to a sample, and what it took.

    Attributes
    ----------
    centroids : float32 or float64 array of shape (n_centroids, n_features)
        Centroids, all different; each is the nearest one of at least one row
        of the sample [score].
    population : int64 array of shape (n_centroids,)
        Rows of the sample in each cell.
    inertia : float
        Sum of squared distances over the sample [score squared].
    n_iter : int
        Rounds made.
    n_rows_used : int
        Rows assigned in all passes, the same row again in each.
    n_samples : int
        Different rows that were available, the size of the sample.
    history : tuple of dict
        Of each round: ``n_rows``, ``inertia_per_row``, ``moved``,
        ``n_replaced``, ``n_swapped``.
    """

    centroids: NDArray[Any]
    population: NDArray[np.int64]
    inertia: float
    n_iter: int
    n_rows_used: int
    n_samples: int
    history: tuple[dict[str, float], ...]


def fit_centroids(
    sample: Rows,
    n_centroids: int,
    *,
    seed: int,
    mapper: Mapper,
    max_iter: int = 60,
    on_round: Callable[[RoundState], None] | None = None,
    resume: RoundState | None = None,
) -> FittedCentroids:
    """Fit k-means centroids to a sample of rows.

    Parameters
    ----------
    sample : Rows
        Rows in random order (see `sample_destinations`), at least one; only
        contiguous ranges are read.  float64 rows give float64 centroids,
        others float32.
    n_centroids : int
        Centroids wanted, between 1 and the number of rows.
    seed : int
        Seed of the run.
    mapper : Mapper
        Computes the blocks of each pass.
    max_iter : int, default 60
        Rounds after which the centroids rest, converged or not.
    on_round : callable, optional
        Called with the state after every round, seeding included.
    resume : RoundState, optional
        State to continue from; the result has the same bits as without the
        interruption.

    Returns
    -------
    FittedCentroids
        As many centroids as wanted, fewer only where the sample has fewer
        distinct rows.

    Raises
    ------
    ValueError
        If `n_centroids` or `max_iter` is out of range, a row is not finite,
        or `resume` belongs to another fit.

    See Also
    --------
    workflow.overcluster.NearestCentroids : The search used in every pass.

    Notes
    -----
    Seeds come from k-means++ on the first 32 rows a centroid (at least
    65,536), or from k-means|| [1]_ where that is more than 2**30 pairs: half
    as many uniform rows as centroids, three draws of about as many rows as
    centroids, reclustered by weighted k-means++.  In both a row is drawn by
    its distance, not the square, so that sparse noise does not take the
    centroids of small clusters, and its squared distance is capped at 32
    times the 90th percentile, so that outliers do not take those of rare ones.

    Then Lloyd rounds on a prefix of the sample, which doubles when the median
    centroid moves less than its standard error, after [2]_ (which reuses
    distances instead of assigning every row anew in each round), and a stop
    on the whole sample when it moves less than a fifth of that.  In the first
    rounds of each batch size the least useful centroids move to cells with 3
    times the mean pull; a batch of 32 rows a centroid does not wait for these
    moves to end once a round lowers the error by less than a thousandth.  An
    empty centroid always moves, to a row of the cell with the largest pull.

    Blocks have a fixed number of rows and merge in order in float64, and
    every draw is seeded by pass and block: no bit depends on the mapper.  A
    pass costs 2 rows x centroids x features operations at most.  Blocks are
    summed where they are computed, and seeds chosen by a task: a task holds a
    few float64 copies of the centroids, 6 MiB each for 16,384 of 50 features,
    or the first batch, or the candidates; one set of centroids comes back.

    References
    ----------
    .. [1] B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii,
       "Scalable k-means++", PVLDB 5(7), 622-633, 2012.
    .. [2] J. Newling and F. Fleuret, "Nested mini-batch k-means",
       NeurIPS 2016.
    """
    if not 1 <= n_centroids <= sample.n_samples:
        msg = (
            f"`n_centroids` must be between 1 and n_samples; got {n_centroids} centroids for "
            f"{sample.n_samples} samples. Change overcluster.n_centroids."
        )
        raise ValueError(msg)
    if max_iter < 1:
        msg = f"`max_iter` must be at least 1; got {max_iter}. Allow a round."
        raise ValueError(msg)
    fit = _Fit(sample, n_centroids, seed, mapper, max_iter)
    state = fit.start() if resume is None else fit.checked(resume)
    while not state.is_finished:
        state = fit.advance(state)
        if on_round is not None:
            on_round(state)
    return FittedCentroids(
        centroids=state.centroids,
        population=state.population,
        inertia=state.inertia,
        n_iter=state.n_iter,
        n_rows_used=state.n_row_visits,
        n_samples=sample.n_samples,
        history=tuple(dict(zip(HISTORY, map(float, row), strict=True)) for row in state.history),
    )


def first_batch_rows(n_rows: int, n_centroids: int) -> int:
    """Return how many rows the first centroids are chosen from: 32 for each, at least 65,536; all if under half as many are left."""
    return _batch_rows(n_rows, max(BATCH_ROWS_PER_CENTROID * n_centroids, MIN_BATCH_ROWS))


def _batch_rows(n_rows: int, n_wanted: int) -> int:
    """Return the size of a batch: all rows where the rest would be less than half as many."""
    return n_rows if 2 * n_rows < 3 * n_wanted else n_wanted


@dataclass(frozen=True, slots=True)
class _Fit:
    """What stays the same through all rounds."""

    sample: Rows
    n_centroids: int
    seed: int
    mapper: Mapper
    max_iter: int

    def start(self) -> RoundState:
        """Return the state before anything is done."""
        n_rows, n_features = self.sample.n_samples, self.sample.n_features
        dtype = as_float_rows(np.empty(0, self.sample.dtype)).dtype
        return RoundState(
            n_samples=n_rows,
            n_features=n_features,
            n_centroids=self.n_centroids,
            seed=self.seed,
            n_batch=first_batch_rows(n_rows, self.n_centroids),
            n_passes=0,
            n_checks=0,
            n_row_visits=0,
            cap=float("inf"),
            is_seeding=True,
            is_settled=False,
            is_finished=False,
            centroids=np.empty((0, n_features), dtype=dtype),
            population=np.empty(0, dtype=np.int64),
            inertia=float("nan"),
            history=np.empty((0, len(HISTORY))),
        )

    def checked(self, state: RoundState) -> RoundState:
        """Return a state to resume from, if it belongs to this fit."""
        expected, found = (
            [fit.n_samples, fit.n_features, fit.n_centroids, fit.seed]
            for fit in (self.start(), state)
        )
        if found != expected:
            msg = (
                "`resume` must come from a fit with the same rows, features, centroids and seed "
                f"{expected}; got {found}. Start without it."
            )
            raise ValueError(msg)
        return state

    def advance(self, state: RoundState) -> RoundState:
        """Do the next round."""
        if state.is_seeding:
            return self._seed(state)
        return self._check(state) if state.is_settled else self._improve(state)

    def _pass(self, state: RoundState, finish: Callable[[PassSums, NDArray[Any]], T]) -> T:
        """Assign the batch to the present centroids; return what is made of the sums."""
        draw = Draw(self.seed, state.n_passes, state.cap)
        return sum_pass(self.sample, state.n_batch, state.centroids, draw, self.mapper, finish)

    def _seed(self, state: RoundState) -> RoundState:
        """Choose the first centroids."""
        fits_a_task = state.n_batch * self.n_centroids <= MAX_IN_MEMORY_PAIRS
        choose = seed_by_batch if fits_a_task else seed_by_candidates
        found = choose(self.sample, state.n_batch, self.n_centroids, self.seed, self.mapper)
        return replace(
            state,
            n_passes=found.n_passes,
            n_row_visits=found.n_row_visits,
            cap=found.cap,
            is_seeding=False,
            centroids=found.centroids,
        )

    def _improve(self, state: RoundState) -> RoundState:
        """Move every centroid to the mean of its cell; double the batch or settle at rest."""
        n_iter_left = self.max_iter - state.n_iter - 1
        n_of_batch = state.n_iter_of_batch + 1
        may_swap = n_of_batch <= SWAP_ROUNDS and n_iter_left > 1
        found = self._pass(state, partial(improve, may_swap=may_swap))
        state = record(replace(state, centroids=found.centroids), found.summary)
        n_rows = self.sample.n_samples
        is_whole = state.n_batch == n_rows
        is_quiet = found.summary.moved < (REST if is_whole else EXHAUSTED)
        few_relocated = found.summary.n_relocated <= MAX_RELOCATED_SHARE * self.n_centroids
        has_many_rows = state.n_batch >= BATCH_ROWS_PER_CENTROID * self.n_centroids
        wins_little = has_many_rows and state.gain < MIN_GAIN
        is_still = is_quiet and (few_relocated or wins_little)
        if n_iter_left == 0 or (is_whole and is_still):
            return replace(state, is_settled=True, n_batch=n_rows)
        if not is_whole and (is_still or n_of_batch >= MAX_ROUNDS_OF_BATCH):
            return replace(state, n_batch=_batch_rows(n_rows, 2 * state.n_batch))
        return state

    def _check(self, state: RoundState) -> RoundState:
        """Finish when no centroid is empty; else re-place those and look again."""
        found = self._pass(state, check)
        state = record(state, found.summary)
        n_checks = state.n_checks + 1
        state = replace(state, n_checks=n_checks)
        if found.summary.n_relocated and n_checks < MAX_CHECKS:
            centroids = state.centroids.copy()
            centroids[found.relocation.target] = found.relocation.place
            return replace(state, centroids=centroids)
        # Empty centroids left over coincide with others: dropping them changes no cell.
        filled = found.population > 0
        return replace(
            state,
            is_finished=True,
            centroids=state.centroids[filled],
            population=found.population[filled],
            inertia=found.summary.inertia,
        )
