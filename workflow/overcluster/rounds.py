"""One round of k-means: from the sums of a pass to better centroids, and the state between."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.overcluster.passes import PassSums

#: A cell with this many times the mean error holds something far from its centroid, such as a
#: rare cluster without one; cells of settled k-means have nearly equal errors (Gersho 1979).
CROWDED_ERROR = 3.0
#: A centroid may leave for a crowded cell that has this many times the error its leaving adds.
MIN_SWAP_GAIN = 4.0
#: Rounds of each batch size in which centroids may leave, and their largest share in a round.
SWAP_ROUNDS, MAX_SWAP_SHARE = 10, 1 / 16
#: Columns of the history of rounds.
HISTORY = ("n_rows", "inertia_per_row", "moved", "n_replaced", "n_swapped")
#: Order of the counters in states that were stored without names.
_COUNTERS = (
    "n_samples", "n_features", "n_centroids", "seed", "n_batch", "n_passes", "n_seedings", "n_checks",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RoundState:
    """Everything needed to continue fitting after a round.

    Attributes
    ----------
    n_samples, n_features, n_centroids, seed : int
        Rows of the sample, their features, centroids requested, and the seed
        of the run: what a fit must share with a state to go on from it.
    n_batch : int
        Rows of the present batch.
    n_passes, n_checks : int
        Passes made so far, and checks made since the centroids rest.
    n_row_visits : int
        Rows assigned so far, counted again in every pass.
    cap : float
        Squared distance above which a row pulls no harder [score squared].
    is_seeding, is_settled, is_finished : bool
        Whether the first centroids are still to be chosen, the centroids rest,
        and nothing is left to do.
    centroids : float array of shape (n_centroids, n_features)
        Centroids; meaningless while seeding [score].
    population : int64 array of shape (n_centroids,)
        Rows of the sample in each cell when finished; empty before.
    inertia : float
        Sum of squared distances over the sample when finished.
    history : float64 array of shape (n_iter, 5)
        Of each round: rows, inertia per row before it, median movement in
        standard errors, centroids re-placed because empty, centroids moved
        to crowded cells.
    """

    n_samples: int
    n_features: int
    n_centroids: int
    seed: int
    n_batch: int
    n_passes: int
    n_checks: int
    n_row_visits: int
    cap: float
    is_seeding: bool
    is_settled: bool
    is_finished: bool
    centroids: NDArray[Any]
    population: NDArray[np.int64]
    inertia: float
    history: NDArray[np.float64]

    @property
    def n_iter(self) -> int:
        """Number of rounds made so far."""
        return int(self.history.shape[0])

    @property
    def n_iter_of_batch(self) -> int:
        """Number of rounds made with the present batch size."""
        return int(np.count_nonzero(self.history[:, 0] == self.n_batch))

    @property
    def gain(self) -> float:
        """Share of the error by which the last two rounds differ; infinite after the first of a batch."""
        if self.n_iter_of_batch < 2:
            return float("inf")
        before, now = self.history[-2:, HISTORY.index("inertia_per_row")]
        return float(1 - now / before) if before > 0 else 0.0

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the attributes by name.

        Returns
        -------
        dict of str to ndarray
            Numbers are arrays of one value.
        """
        return {field.name: np.atleast_1d(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> RoundState:
        """Return the state whose attributes these are.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            What `to_arrays` gave.

        Returns
        -------
        RoundState
            The same state.
        """
        if "counters" in arrays:  # from before they had names
            arrays = {**arrays, **dict(zip(_COUNTERS, arrays["counters"], strict=True))}
        values: dict[str, Any] = {name: np.asarray(arrays[name]) for name in cls.__slots__}
        for name in set(values) - {"centroids", "population", "history"}:
            values[name] = values[name].reshape(-1)[0].item()
        return cls(**values)


class Relocation(NamedTuple):
    """Centroids that get a new place: a row of the cell they split.

    Attributes
    ----------
    target : intp array of shape (n_moved,)
        Centroids to move; first those that are empty.
    place : float array of shape (n_moved, n_features)
        Where each goes: a row of the sample [score].
    n_empty : int
        How many were empty.
    """

    target: NDArray[np.intp]
    place: NDArray[Any]
    n_empty: int


def relocations(sums: PassSums, *, may_swap: bool) -> Relocation:
    """Choose which centroids move where.

    Parameters
    ----------
    sums : PassSums
        Sums of the pass.
    may_swap : bool
        Whether centroids that are worth little may leave for crowded cells;
        empty ones always move.

    Returns
    -------
    Relocation
        Empty centroids split the cells with the largest error, then
        the least useful ones the crowded cells that are left.

    Notes
    -----
    A cell is crowded from 3 times the mean error; the centroid that leaves
    must add less than a quarter of that error by leaving.  Errors are sums of
    capped distances, so a lone outlier crowds no cell and a centroid
    of its own is worth little, while a dozen rows together do and are.
    """
    n_centroids = sums.population.size
    donors = np.lexsort((np.arange(n_centroids), -sums.error))
    donors = donors[np.isfinite(sums.pick_key[donors])]
    empty = np.flatnonzero(sums.population == 0)[: donors.size]
    target, donors_used = [empty], donors[: empty.size]
    if may_swap and n_centroids > 1:
        crowded = donors[empty.size :]
        n_filled = max(1, int(np.count_nonzero(sums.population)))
        crowded = crowded[sums.error[crowded] >= CROWDED_ERROR * sums.error.sum() / n_filled]
        crowded = crowded[: max(1, int(n_centroids * MAX_SWAP_SHARE))]
        stays = sums.population == 0
        stays[donors_used] = True
        stays[crowded] = True
        leaving = np.lexsort((np.arange(n_centroids), sums.loss))
        leaving = leaving[~stays[leaving]][: crowded.size]
        crowded = crowded[: leaving.size]
        pays = MIN_SWAP_GAIN * sums.loss[leaving] <= sums.error[crowded]
        # The losses rise and the errors fall, so what pays is a head of the list.
        target.append(leaving[pays])
        donors_used = np.concatenate([donors_used, crowded[pays]])
    moved = np.concatenate(target).astype(np.intp)
    return Relocation(moved, sums.pick[donors_used], int(empty.size))


def means(
    sums: PassSums, centroids: NDArray[Any], relocation: Relocation
) -> tuple[NDArray[np.float64], float]:
    """Return the mean of each cell, and how far centroids moved in standard errors.

    Parameters
    ----------
    sums : PassSums
        Sums of the pass.
    centroids : float array of shape (n_centroids, n_features)
        Centroids of the pass; empty ones stay [score].
    relocation : Relocation
        Centroids left out of the median.

    Returns
    -------
    centroids : float64 array of shape (n_centroids, n_features)
        Means.
    moved : float
        Median over cells of two rows or more of movement divided by the
        standard error of the mean; 0 where there is no such cell.
    """
    n = sums.population
    old = centroids.astype(np.float64)
    new = np.where(n[:, None] > 0, sums.total / np.maximum(n, 1)[:, None], old)
    sq_moved = np.einsum("ij,ij->i", new - old, new - old)
    counted = n >= 2
    counted[relocation.target] = False
    if not counted.any():
        return new, 0.0
    n, sq_moved, squared = n[counted], sq_moved[counted], sums.sq_distance[counted]
    sq_error = np.maximum(squared - n * sq_moved, 0) / (n * (n - 1.0))
    # A cell of equal rows has no standard error: at rest if it stays, else far from it.
    ratio = np.where(sq_moved > 0, np.inf, 0.0)
    np.divide(sq_moved, sq_error, out=ratio, where=sq_error > 0)
    return new, float(np.sqrt(np.median(ratio)))


class PassSummary(NamedTuple):
    """Numbers of a pass, for the history and the decision to go on.

    Attributes
    ----------
    inertia : float
        Sum of squared distances before it [score squared].
    cap : float
        Cap of squared distances that the rows suggest [score squared].
    moved : float
        Median movement in standard errors.
    n_empty, n_swapped : int
        Centroids re-placed because empty, and moved to crowded cells.
    """

    inertia: float
    cap: float
    moved: float
    n_empty: int
    n_swapped: int

    @classmethod
    def of(cls, sums: PassSums, relocation: Relocation, moved: float) -> PassSummary:
        """Collect the numbers of a pass; `moved` is the median movement in standard errors."""
        n_swapped = relocation.target.size - relocation.n_empty
        inertia = float(sums.sq_distance.sum())
        return cls(inertia, sums.cap, moved, relocation.n_empty, n_swapped)

    @property
    def n_relocated(self) -> int:
        """Number of centroids that got another place than the mean of their cell."""
        return self.n_empty + self.n_swapped


class Improvement(NamedTuple):
    """Centroids after a pass, and the numbers of the pass.

    Attributes
    ----------
    centroids : float array of shape (n_centroids, n_features)
        The mean of each cell, or the row that a centroid moved to [score].
    summary : PassSummary
        Numbers for the history.
    """

    centroids: NDArray[Any]
    summary: PassSummary


class Check(NamedTuple):
    """What a pass over all rows of the sample finds of centroids at rest.

    Attributes
    ----------
    population : int64 array of shape (n_centroids,)
        Rows of each cell.
    relocation : Relocation
        Centroids without rows, and where they should go.
    summary : PassSummary
        Numbers for the history.
    """

    population: NDArray[np.int64]
    relocation: Relocation
    summary: PassSummary


def improve(sums: PassSums, centroids: NDArray[Any], *, may_swap: bool) -> Improvement:
    """Move every centroid to the mean of its cell, and some to other cells (`relocations`); dtype as it came [score]."""
    relocation = relocations(sums, may_swap=may_swap)
    new, moved = means(sums, centroids, relocation)
    new = new.astype(centroids.dtype)
    new[relocation.target] = relocation.place
    return Improvement(new, PassSummary.of(sums, relocation, moved))


def check(sums: PassSums, centroids: NDArray[Any]) -> Check:
    """Look for centroids without rows, all others at rest, after a pass over the whole sample."""
    del centroids
    relocation = relocations(sums, may_swap=False)
    return Check(sums.population, relocation, PassSummary.of(sums, relocation, 0.0))


def record(state: RoundState, summary: PassSummary) -> RoundState:
    """Return the state with one more line of history and one more pass counted; the centroids stay."""
    n_rows = state.n_batch
    line = [n_rows, summary.inertia / n_rows, summary.moved, summary.n_empty, summary.n_swapped]
    return replace(
        state,
        n_passes=state.n_passes + 1,
        n_row_visits=state.n_row_visits + n_rows,
        cap=summary.cap if np.isfinite(summary.cap) else state.cap,
        history=np.vstack([state.history, line]),
    )
