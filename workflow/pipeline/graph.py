"""The tasks of the graph step: the graph of the centroids, and the dimension that the rows have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from workflow.centroid_graph import PairCounts, centroid_graph, intrinsic_dimension
from workflow.pipeline.model import with_dims
from workflow.runstore.files import read_arrays
from workflow.runstore.store import stage_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.mapper import Rows
    from workflow.runstore.store import StagedArrays


class StagedGraph(NamedTuple):
    """Where the arrays of a graph lie ready, and how many edges it has."""

    arrays: StagedArrays
    n_edges: int


@dataclass(frozen=True, slots=True)
class GraphTask:
    """The graph of the centroids, left as arrays of the model at a place."""

    pairs: Path
    checksum: int
    n_centroids: int
    place: Path

    def __call__(self) -> StagedGraph:
        """Make the graph from the counts of pairs."""
        counts = PairCounts.from_arrays(read_arrays(self.pairs, self.checksum))
        graph = centroid_graph(counts, self.n_centroids)
        arrays = {
            "graph_indptr": graph.indptr,
            "graph_indices": graph.indices,
            "graph_weights_two": graph.weights_two,
            "graph_weights_three": graph.weights_three,
        }
        return StagedGraph(stage_arrays(self.place, with_dims(arrays)), len(graph.indices) // 2)


@dataclass(frozen=True, slots=True)
class DimensionTask:
    """The intrinsic dimension of the rows at the head of a sample."""

    sample: Rows
    n_queries: int

    def __call__(self) -> float:
        """Read the rows and look at some of them."""
        rows = self.sample.read(0, min(self.sample.n_samples, 10 * self.n_queries))
        return intrinsic_dimension(rows, max_queries=self.n_queries)


class _Task(Protocol):
    """Something to do, all that it takes within."""

    def __call__(self) -> Any:
        """Do it."""


def do(task: _Task) -> Any:
    """Do one of several different tasks."""
    return task()
