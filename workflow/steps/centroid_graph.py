"""centroid_graph: the graph of the centroids, counted by the last pass, and the intrinsic dimension."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from workflow.centroid_graph import PairCounts, centroid_graph, intrinsic_dimension
from workflow.centroid_graph.dimension import BATCH_ROWS, MAX_ROWS
from workflow.config.fields import Section
from workflow.engine.plan import TaskPlan
from workflow.engine.step import Step
from workflow.runstore import layout
from workflow.runstore.files import discard, read_arrays
from workflow.runstore.staging import stage_arrays
from workflow.schema import ArraySpec
from workflow.steps.base import call, described
from workflow.steps.overcluster import PAIRS, pairs_file
from workflow.steps.parts.sample import stored_sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workflow.engine.context import Context
    from workflow.engine.plan import Sizes
    from workflow.mapper import Rows
    from workflow.runstore import RunStore
    from workflow.runstore.staging import StagedArrays

#: Directed edges of a centroid in the graph, 18 to 25 on the demo.
EDGES = 24
#: An edge of the graph, either way, and a pair that it is made from, on disk [bytes].
EDGE_BYTES, PAIR_BYTES = 20, 24
#: Arrays of ``model.zarr``.
ARRAYS = {
    "graph_indptr": ArraySpec(("node",), "int64", "1", "CSR row pointers of the centroid graph"),
    "graph_indices": ArraySpec(("edge",), "int32", "centroid", "CSR column indices"),
    "graph_weights_two": ArraySpec(
        ("edge",), "int64", "image", "images whose nearest two centroids are the pair"
    ),
    "graph_weights_three": ArraySpec(
        ("edge",), "int64", "image", "images with the pair among their nearest three"
    ),
}


class CentroidGraphSettings(Section):
    """Graph of the centroids, counted from the nearest centroids of each image."""

    dimension_rows: int = Field(default=2_000, ge=100, le=20_000)
    """Images whose neighbours are measured for the intrinsic dimension."""


class CentroidGraphStep(Step):
    """Make the graph of the centroids from the counts of the last pass."""

    name = "centroid_graph"
    section = CentroidGraphSettings
    settings = ("centroid_graph.dimension_rows",)
    reads = ("overcluster",)
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Make the graph and measure the dimension, each in a task of its own."""
        store = context.store
        # What the last pass left was needed until its step was recorded as complete.
        discard(store.folder("overcluster") / "parts")
        record = store.step("overcluster")
        checksum = record.checksums[f"overcluster/{PAIRS}"]
        n_queries = context.config.section(CentroidGraphSettings).dimension_rows
        place = store.wip("model-centroid_graph")
        staged, dimension = context.executor.map(
            call,
            [
                GraphTask(pairs_file(store), checksum, record.details["n_centroids"], place),
                DimensionTask(stored_sample(store), n_queries),
            ],
        )
        details = {"intrinsic_dimension": dimension, "n_edges": staged.n_edges}
        store.replace(store.adopt_model(self.name, staged.arrays, details))
        discard(place)
        store.step(self.name).details = details

    def outputs(self, run: Path) -> list[Path]:
        """Return the graph."""
        return [layout.model_array(run, name) for name in ("zarr.json", "graph_indptr")]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the two tasks as one pass."""
        d, n_sample = sizes.dims["component"], sizes.dims["row"]
        n_edges = sizes.dims["centroid"] * EDGES
        n_queries = sizes.config.section(CentroidGraphSettings).dimension_rows
        n_read, found = min(n_sample, 10 * n_queries), min(MAX_ROWS, n_sample)
        parts = {
            "rows": (2 * 4 * n_read + 5 * 8 * found) * d,
            "distances": 3 * 8 * BATCH_ROWS * found,
            "graph": 8 * EDGE_BYTES * n_edges,
        }
        read = 4 * n_read * d + n_edges * PAIR_BYTES // 2
        return [TaskPlan(self.name, 2, read, n_edges * EDGE_BYTES, parts)]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with centroids; the dimension takes the same time for many images."""
        n_queries = sizes.config.section(CentroidGraphSettings).dimension_rows
        n_pairs = n_queries * min(MAX_ROWS, 10 * n_queries, sizes.dims["row"])
        dimension = 1.2e-10 * n_pairs * sizes.dims["component"]
        return 0.05 + dimension + 5e-6 * sizes.dims["centroid"]

    def describe(self, store: RunStore) -> str:
        """Return how large the graph is."""
        found = store.step(self.name).details
        return f"{found['n_edges']:,} edges; intrinsic dimension {found['intrinsic_dimension']:.1f}"

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return the intrinsic dimension."""
        return {"intrinsic_dimension": store.step(self.name).details["intrinsic_dimension"]}


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
            "graph_weights_three": graph.weights,
        }
        staged = stage_arrays(self.place, described(ARRAYS, arrays))
        return StagedGraph(staged, len(graph.indices) // 2)


@dataclass(frozen=True, slots=True)
class DimensionTask:
    """The intrinsic dimension of the rows at the head of a sample."""

    sample: Rows
    n_queries: int

    def __call__(self) -> float:
        """Read the rows and look at some of them."""
        rows = self.sample.read(0, min(self.sample.n_samples, 10 * self.n_queries))
        return intrinsic_dimension(rows, max_queries=self.n_queries)
