"""Seconds and peak memory of each step of a run, from its sizes and the rates of a machine."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflow.overcluster import sample_size
from workflow.overcluster.candidates import CANDIDATE_ROUNDS
from workflow.overcluster.fitting import MAX_IN_MEMORY_PAIRS, first_batch_rows
from workflow.overcluster.passes import pieces
from workflow.pca import DEFAULT_RANK, choose_kind
from workflow.pipeline.executor import RUNS_PER_THREAD
from workflow.pipeline.overclustering import SAMPLE_PIECE_ROWS
from workflow.tree.makers import MOST_NODES_OF_LIBRARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from workflow.pipeline.rates import Rates

#: Rounds of k-means, each counted as the share of the sample that it visits: 10 on the demo at 4,096,
#: 7 at 16,384, 5 on digits.  The one number of a plan that the images decide.
TYPICAL_ROUNDS = 7
#: Bytes that a block's cells leave for each centroid beside their sums, with its pairs.
CELL_BYTES = 230
#: Bytes of the labels of an image, and of what was found of its nearest centroids.
LABEL_BYTES, NEAREST_BYTES = 52, 24
#: Directed edges of a centroid in the graph, 18 to 25 on the demo.
EDGES = 24
#: What the leading process takes for talking to workers [bytes].
CLIENT_BYTES = 64 * 2**20
#: What the leading process holds of a centroid in the tree, and drawing the page [bytes].
TREE_BYTES, PAGE_BYTES = 16_000, 32 * 2**20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes that decide how long a run takes and what it holds.

    Attributes
    ----------
    n_samples, n_features : int
        Shape of the images, flattened.
    dtype : numpy.dtype
        Type of their values.
    n_components, n_centroids : int
        Upper bounds where a setting leaves them open.
    partition_rows : sequence of int
        Rows of each task over the images.
    block_rows : int
        Rows of a block.
    score_bytes : int
        Bytes of a stored score.
    max_full_features, max_rounds, dimension_rows, n_resamples : int
        Settings.
    n_kept : int
        Pictures kept for the report.
    is_copied : bool
        Whether the images are copied into the run folder first.
    """

    n_samples: int
    n_features: int
    dtype: np.dtype[np.generic]
    n_components: int
    n_centroids: int
    partition_rows: Sequence[int]
    block_rows: int
    score_bytes: int
    max_full_features: int
    max_rounds: int
    dimension_rows: int
    n_resamples: int
    n_kept: int
    is_copied: bool

    @property
    def image_bytes(self) -> int:
        """Bytes of an image."""
        return self.n_features * int(self.dtype.itemsize)

    @property
    def row_bytes(self) -> int:
        """Bytes of the scores of an image."""
        return self.n_components * self.score_bytes

    @property
    def kind(self) -> str:
        """Kind of the moments."""
        return choose_kind(self.dtype, self.n_features, max_full_features=self.max_full_features)

    @property
    def state_bytes(self) -> int:
        """Bytes of the moments that a task of the first pass leaves."""
        rank = DEFAULT_RANK if self.kind == "low_rank" else self.n_features
        return 8 * self.n_features * (rank + 2)

    @property
    def n_sample(self) -> int:
        """Rows that centroids are fitted on."""
        return sample_size(self.n_samples, self.n_centroids)

    @property
    def sample_bytes(self) -> int:
        """Bytes of those rows."""
        return 4 * self.n_sample * self.n_components

    @property
    def cell_bytes(self) -> int:
        """Bytes of the cells and pairs that a task of the last pass leaves."""
        return self.n_centroids * (8 * self.n_components + CELL_BYTES)

    @property
    def n_rounds(self) -> int:
        """Rounds of k-means that are expected."""
        return min(TYPICAL_ROUNDS, self.max_rounds + 1)

    @property
    def visited_bytes(self) -> int:
        """Bytes of the sample that are read while centroids are fitted."""
        draws = 1 if self.seeds_in_memory else CANDIDATE_ROUNDS + 1
        return 4 * self.n_components * (draws * self.n_batch + self.n_rounds * self.n_sample)

    @property
    def n_batch(self) -> int:
        """Rows that the first centroids are chosen from."""
        return first_batch_rows(self.n_sample, self.n_centroids)

    @property
    def seeds_in_memory(self) -> bool:
        """Whether the first centroids are chosen by one task, without candidates."""
        return self.n_batch * self.n_centroids <= MAX_IN_MEMORY_PAIRS

    @property
    def n_looked_at(self) -> int:
        """Rows of the sample that are read for the intrinsic dimension."""
        return min(self.n_sample, 10 * self.dimension_rows)

    @property
    def n_seeded(self) -> int:
        """Rows that first centroids are chosen from, by one task that holds them all."""
        k = self.n_centroids
        return self.n_batch if self.seeds_in_memory else k // 2 + CANDIDATE_ROUNDS * k


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a run would take place.

    Attributes
    ----------
    rates : Rates
        How fast it is.
    n_workers : int
        Workers at once.
    image_byte : float
        A byte of these images, read and decompressed by one process [s/byte].
    """

    rates: Rates
    n_workers: int
    image_byte: float

    def spread(self, rows: Sequence[int]) -> int:
        """Return the rows of the busiest worker, each task going to the first that is free.

        Examples
        --------
        >>> Machine(None, 2, 0.0).spread([4, 4, 4])
        8
        """
        busy = [0] * min(self.n_workers, max(1, len(rows)))
        for n in rows:
            heapq.heapreplace(busy, busy[0] + n)
        return max(busy)

    def files(self, n_files: float, n_bytes: float) -> float:
        """Return the seconds to write so many small files, of so many bytes together."""
        return n_files * self.rates.file + n_bytes * self.rates.file_byte


def pass_seconds(sizes: Sizes, machine: Machine) -> dict[str, float]:
    """Predict how long each pass of a run takes.

    Parameters
    ----------
    sizes : Sizes
        What there is to do.
    machine : Machine
        Where.

    Returns
    -------
    dict of str to float
        Pass -> seconds, in the order of the run; ``start`` comes first.

    Notes
    -----
    Every pass is a sum of products of a size and a rate.  Rows are spread over
    the workers task by task; what the leading process does alone is added.
    """
    once = machine.rates.once
    seconds = {"start": once["start"]}
    if sizes.is_copied:
        seconds["ingest"] = _ingest(sizes, machine)
    seconds["pca"] = _pca(sizes, machine)
    seconds["projection"] = _projection(sizes, machine)
    seconds["overcluster: sample"] = _sample(sizes, machine)
    seconds["overcluster: rounds"] = _seeding(sizes, machine) + _rounds(sizes, machine)
    seconds["overcluster: assign"] = _assign(sizes, machine)
    rates, k = machine.rates, sizes.n_centroids
    n_pairs = min(sizes.dimension_rows, sizes.n_sample) * min(20_000, sizes.n_sample)
    seconds["centroid_graph"] = (
        rates.graph_seconds(k, sizes.n_samples)
        + n_pairs * sizes.n_components * rates.dimension
        + machine.files(4, k * EDGES * 20)
    )
    seconds["tree"] = rates.tree_seconds(k, sizes.n_samples, sizes.n_resamples)
    seconds["labels"] = _labels(sizes, machine)
    read = sizes.n_kept * sizes.image_bytes * rates.file_read_byte
    seconds["report"] = read + 12 * sizes.n_samples * rates.unpack_byte
    if k > MOST_NODES_OF_LIBRARY:
        seconds["tree"] -= min(rates.library, once["tree"])
    # The rounds have most of what a step of several passes needs once.
    for name in set(seconds) - {"start", "overcluster: sample", "overcluster: assign"}:
        seconds[name] += once[name.partition(":")[0]]
    return seconds


def _ingest(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of copying: read, write, read back."""
    rates = machine.rates
    each = machine.image_byte + rates.sync_byte + rates.read_byte
    return machine.spread(sizes.partition_rows) * sizes.image_bytes * each


def _pca(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of the first pass and of the components."""
    rates, d_in, kind = machine.rates, sizes.n_features, sizes.kind
    squared, linear = rates.moments[_moments_name(kind, int(sizes.dtype.itemsize))]
    row = sizes.image_bytes * machine.image_byte + d_in * (d_in * squared + linear)
    n_parts = len(sizes.partition_rows)
    mine = -(-n_parts // machine.n_workers)
    work = machine.spread(sizes.partition_rows) * row
    left = machine.files(mine, mine * sizes.state_bytes)
    # Twice: from a file with its checksum, and into the sum.
    merged = 2 * n_parts * sizes.state_bytes * rates.file_read_byte + n_parts * rates.task
    return work + left + merged + rates.eigen * min(d_in, 4096) ** 3


def _moments_name(kind: str, itemsize: int) -> str:
    """Return the name that moments were measured under."""
    return {"low_rank": "low_rank", "float": "float-4"}.get(kind, f"integer-{itemsize}")


def _projection(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of the second pass."""
    rates, d = machine.rates, sizes.n_components
    product, linear = rates.projection
    row = sizes.image_bytes * machine.image_byte + sizes.row_bytes * rates.write_byte
    row += sizes.n_features * (d * product + linear)
    mine = -(-len(sizes.partition_rows) // machine.n_workers)
    kept = sizes.n_kept * sizes.image_bytes / machine.n_workers
    return machine.spread(sizes.partition_rows) * row + machine.files(mine, kept)


def _sample(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of drawing the sample and shuffling it."""
    rates = machine.rates
    drawn = machine.spread(sizes.partition_rows) * sizes.row_bytes * rates.read_byte
    mine = -(-len(sizes.partition_rows) // machine.n_workers)
    left = machine.files(mine, sizes.sample_bytes / machine.n_workers)
    # Each piece is gathered from all that was drawn.
    turns = -(-math.ceil(sizes.n_sample / SAMPLE_PIECE_ROWS) // machine.n_workers)
    gathered = turns * sizes.sample_bytes * rates.file_read_byte
    written = sizes.sample_bytes * rates.write_byte / machine.n_workers
    return drawn + left + gathered + written


def _seeding(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of choosing the first centroids."""
    rates, k, d = machine.rates, sizes.n_centroids, sizes.n_components
    product, linear = rates.seed
    each = d * product + linear
    if sizes.seeds_in_memory:
        return sizes.n_batch * k * each
    # Half as many candidates as centroids, then as many in each draw, and one of them all.
    numbers = [k // 2] + [k] * CANDIDATE_ROUNDS
    found = sum(_one_pass(sizes, machine, n, sizes.n_batch) for n in numbers)
    return found + sum(numbers) * k * each


def _rounds(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of the rounds of k-means."""
    one = _one_pass(sizes, machine, sizes.n_centroids, sizes.n_sample)
    left = machine.files(1, 4 * sizes.n_centroids * sizes.n_components) + machine.rates.file
    return sizes.n_rounds * (one + left)


def _one_pass(sizes: Sizes, machine: Machine, n_centroids: int, n_rows: int) -> float:
    """Return the seconds of one search over the first rows of the sample."""
    rates, d = machine.rates, sizes.n_components
    cut = [piece.rows.n_rows for piece in pieces(n_rows, n_centroids)]
    row = rates.per_row("round", n_centroids, d) + 4 * d * rates.read_byte
    # Workers add up what the pieces of a run give, and hand that on.
    n_runs = min(len(cut), RUNS_PER_THREAD * machine.n_workers)
    returned = rates.task + 8 * n_centroids * (d + 6) * rates.result_byte
    work = machine.spread(cut) * row
    shared = machine.files(1, 8 * n_centroids * d) + 8 * n_centroids * d * rates.file_read_byte
    handed_on = returned * n_runs / machine.n_workers
    return rates.to_build(n_centroids, d) + shared + work + handed_on


def _assign(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of the pass that finds the nearest three of every row."""
    rates, k, d = machine.rates, sizes.n_centroids, sizes.n_components
    row = rates.per_row("assign", k, d) + sizes.row_bytes * rates.read_byte
    row += NEAREST_BYTES * rates.write_byte
    n_parts = len(sizes.partition_rows)
    mine = -(-n_parts // machine.n_workers)
    left = machine.files(mine, mine * sizes.cell_bytes)
    merged = 2 * n_parts * sizes.cell_bytes * rates.file_read_byte + n_parts * rates.task
    return machine.spread(sizes.partition_rows) * row + left + merged + rates.to_build(k, d)


def _labels(sizes: Sizes, machine: Machine) -> float:
    """Return the seconds of the labels."""
    rates = machine.rates
    row = rates.labels + NEAREST_BYTES * rates.read_byte + LABEL_BYTES * rates.pack_byte
    n_parts = len(sizes.partition_rows)
    # What the labels of a centroid are taken from, both ways along every edge.
    edges = 2 * sizes.n_centroids * EDGES * sizes.n_components * 8 * rates.file_read_byte
    # Nine small arrays of each partition, written together.
    files = machine.files(2 * -(-n_parts // machine.n_workers), 0)
    return machine.spread(sizes.partition_rows) * row + n_parts * rates.task + files + edges


def leader_bytes(sizes: Sizes) -> dict[str, int]:
    """Return what the leading process holds in each step beside itself [bytes]."""
    k, d, d_in = sizes.n_centroids, sizes.n_components, sizes.n_features
    rank = DEFAULT_RANK if sizes.kind == "low_rank" else d_in
    return {
        "ingest": 0,
        "pca": 5 * 8 * d_in * rank,
        "projection": 0,
        # Centroids as they come and as they are noted, and the search that tasks are given.
        "overcluster": 6 * 8 * k * d,
        "centroid_graph": 0,
        "tree": TREE_BYTES * k,
        "labels": 40 * EDGES * k + TREE_BYTES * k // 3,
        # Labels of the pictures kept; pictures themselves are few at a time.
        "report": 64 * sizes.n_kept + PAGE_BYTES,
    }
