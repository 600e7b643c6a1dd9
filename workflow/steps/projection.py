"""projection: the scores of all images on the components, and a few images kept as previews.

With ``projection.metric: within`` the stored scores are those on the components, and whoever reads them
gets them transformed: the transformation follows from a sample of them, and is as cheap as reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from workflow.config.fields import Section
from workflow.engine.partitions import part_path
from workflow.engine.plan import TaskPlan
from workflow.engine.step import Step
from workflow.engine.verify import check_parts, check_rows_of_step
from workflow.errors import NonFiniteError, StoreError
from workflow.overcluster import draw_rows, sample_counts
from workflow.projection import project
from workflow.rng import generator
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import write_arrays
from workflow.schema import ArraySpec
from workflow.steps.base import described, read_ahead
from workflow.steps.parts.within import TRIAL_ROWS, within_transform
from workflow.steps.pca import PcaSettings, image_checksums, tile_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from workflow.chunks import RowRange
    from workflow.engine.context import Context
    from workflow.engine.partitions import Partition
    from workflow.engine.plan import Sizes
    from workflow.engine.step import Rider
    from workflow.mapper import Rows, Shared
    from workflow.runstore import RunStore
    from workflow.steps.parts.features import Features

#: Images kept for the report: at most so many, and so many bytes.
MAX_PREVIEWS, MAX_PREVIEW_BYTES = 65_536, 256 * 2**20
#: Arrays of ``model.zarr``.
ARRAYS = {
    "projection_mean": ArraySpec(
        ("feature",), "float64", "pixel value", "mean that the scores were made with"
    ),
    "projection_components": ArraySpec(
        ("component", "feature"), "float64", "1", "components that the scores were made with"
    ),
    "projection_variance": ArraySpec(
        ("component",), "float64", "pixel value squared", "variance used for whitening"
    ),
    "projection_transform": ArraySpec(
        ("score", "component"),
        "float64",
        "1 / pixel value",
        "what scores are multiplied by when they are read; only with the metric within",
    ),
}


class ProjectionSettings(Section):
    """Scores of the images on the components."""

    dtype: Literal["float32", "float16"] = "float32"
    """Type of the stored scores; float16 halves their size and keeps three digits."""
    metric: Literal["euclidean", "within"] = "euclidean"
    """Distances of scores: as they are, or whitened by the covariance within the cells of a trial."""


class ProjectionStep(Step):
    """Write the scores of all images; the pixels are read once more."""

    name = "projection"
    version = 2
    section = ProjectionSettings
    settings = ("pca.whiten", "projection.dtype", "projection.metric")
    reads = ("pca",)
    arrays = ARRAYS

    def run(self, context: Context) -> None:
        """Project each block, and keep some of its images."""
        store = context.store
        settings = context.config.section(ProjectionSettings)
        dtype = settings.dtype
        pca = context.config.section(PcaSettings)
        mean, components, variance = store.read_model("mean", "components", "explained_variance")
        basis = {"mean": mean, "components": components, "variance": variance}
        model = described(ARRAYS, {f"projection_{name}": array for name, array in basis.items()})
        attrs = {
            "whiten": pca.whiten,
            "normalize": pca.normalize,
            "dtype": dtype,
            "metric": settings.metric,
        }
        store.write_model(self.name, model, attrs)
        target, previews = layout.scores(store.path), layout.previews(store.path)
        journal = context.rows_journal(
            self.name,
            target,
            {"scores": dtype},
            dims=("sample", "component"),
            tail_shape=(len(components),),
            needs=(previews,),
        )
        stored = context.executor.share(basis)
        shared = Basis(stored, pca.whiten, context.images.image_shape, pca.features)
        riders = [step.rider(context, self.name) for step in context.steps]
        task = ProjectionTask(
            context.images, shared, dtype, target, previews, tuple(filter(None, riders))
        )
        checksums = context.split(image_checksums(context))
        image_bytes = context.images.n_features * context.images.dtype.itemsize
        numbers = sample_counts(context.block_sizes, n_previews(context.n_samples, image_bytes))
        items = {
            p.index: ProjectionItem(p, expected, n)
            for p, expected, n in zip(
                context.partitions, checksums, context.split(numbers.tolist()), strict=True
            )
        }
        context.run_partitions(self.name, task, journal, items=items)
        if settings.metric == "within":
            transform = {"projection_transform": within_transform(context, raw_scores(store))}
            store.write_model(self.name, model | described(ARRAYS, transform), attrs)

    def outputs(self, run: Path) -> list[Path]:
        """Return the scores and the previews."""
        return [layout.model_array(run, "zarr.json"), layout.scores(run), layout.previews(run)]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the second pass over the pixels."""
        d, pca = sizes.dims["component"], sizes.config.section(PcaSettings)
        parts = {
            "block": sizes.block_bytes,
            "rows": pca.features.n_bytes(sizes.block_rows, sizes.n_features),
            "tile": tile_bytes(sizes),
            "scores": 2 * sizes.block_rows * d * 4,
            "components": 3 * d * sizes.n_features * 8,
        }
        kept = n_previews(sizes.n_samples, sizes.image_bytes) * (sizes.image_bytes + 8)
        written = sizes.n_samples * score_row_bytes(sizes) + kept
        read = sizes.n_samples * sizes.image_bytes
        plans = [TaskPlan(self.name, sizes.n_partitions, read, written, parts)]
        if sizes.config.section(ProjectionSettings).metric == "within":
            trial = {"rows": sizes.block_rows * d * 4 + 8 * TRIAL_ROWS * d * 8}
            scores = sizes.n_samples * score_row_bytes(sizes)
            plans.append(TaskPlan("projection: within", sizes.n_partitions, scores, 0, trial))
        return plans

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with images, features and components."""
        row = sizes.n_features * (6e-11 * sizes.dims["component"] + 4e-10)
        return 0.08 + sizes.rows_per_worker * row

    def describe(self, store: RunStore) -> str:
        """Return what was projected."""
        n_components = store.step("pca").details["n_components"]
        return f"{store.manifest.images['shape'][0]:,} images on {n_components} components"

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the files of the previews, and the scores."""
        yield from check_parts(store, "projection/blocks", "projection/kept")
        if store.step(self.name).state == "complete":
            scores = layout.scores(store.path)
            yield from check_rows_of_step(store, self.name, "blocks", scores, ["scores"])


def n_previews(n_samples: int, image_bytes: int) -> int:
    """Return how many images are kept for the report while they are read."""
    return max(1, min(n_samples, MAX_PREVIEWS, MAX_PREVIEW_BYTES // image_bytes))


def score_row_bytes(sizes: Sizes) -> int:
    """Return the bytes of the stored scores of an image."""
    dtype = np.dtype(sizes.config.section(ProjectionSettings).dtype)
    return sizes.dims["component"] * dtype.itemsize


def raw_scores(store: RunStore) -> zarr_io.StoredRows:
    """Return the scores as they are stored."""
    return zarr_io.StoredRows.open(layout.scores(store.path), "scores")


def stored_scores(store: RunStore) -> Rows:
    """Return the scores of a run, readable from any worker."""
    scores, transform = raw_scores(store), stored_transform(store)
    if transform is None:
        return scores
    return TransformedRows(scores, store.path / layout.MODEL, zarr_io.crc(transform))


def stored_transform(store: RunStore) -> NDArray[np.float64] | None:
    """Return what the scores of a run are multiplied by, None with the Euclidean metric."""
    # Runs of earlier versions do not say.
    if store.model_attrs(ProjectionStep.name).get("metric", "euclidean") == "euclidean":
        return None
    return store.read_model("projection_transform")[0]


@lru_cache(maxsize=2)
def _loaded_transform(model: Path, checksum: int) -> NDArray[np.float64]:
    """Read a transformation once per process."""
    del checksum
    return zarr_io.read_array(model, "projection_transform")


@dataclass(frozen=True, slots=True)
class TransformedRows:
    """Stored scores, transformed when they are read; implements `workflow.mapper.Rows`."""

    scores: zarr_io.StoredRows
    model: Path
    checksum: int
    dtype: np.dtype[Any] = field(default=np.dtype(np.float32))

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.scores.n_samples

    @property
    def n_features(self) -> int:
        """Number of components."""
        return self.scores.n_features

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Return transformed scores."""
        return rows_as_read(self, self.scores.read(start, stop))


def transformed(scores: NDArray[Any], transform: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return scores of another metric: the same bits wherever a row stands."""
    return project(scores, np.zeros(scores.shape[1]), transform)


def rows_as_read(scores: Rows, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Return rows that were taken before they were stored as those who read the stored ones get them."""
    if isinstance(scores, TransformedRows):
        return transformed(rows, _loaded_transform(scores.model, scores.checksum))
    return rows.astype(np.float32, copy=False)


class ProjectionItem(NamedTuple):
    """A partition, the checksums its blocks had, and how many previews to keep of each."""

    partition: Partition
    checksums: list[int | None]
    n_previews: list[int]

    @property
    def n_rows(self) -> int:
        """Rows of the partition."""
        return self.partition.n_rows


@dataclass(frozen=True, slots=True)
class Basis:
    """Mean and components that rows are projected with, and the transformation of a metric, where they are stored."""

    stored: Shared
    whiten: bool
    image_shape: tuple[int, ...]
    features: Features

    def project(self, block: NDArray[Any], first_row: int, dtype: str) -> NDArray[Any]:
        """Return the scores of a block that begins at `first_row`."""
        arrays = self.stored.load()
        try:
            scores = project(
                self.features.rows_of(block),
                arrays["mean"],
                arrays["components"],
                whiten_scale=arrays["variance"] if self.whiten else None,
                dtype=np.dtype(dtype),
            )
        except NonFiniteError as err:
            raise err.moved(first_row, self.image_shape) from None
        return transformed(scores, arrays["transform"]) if "transform" in arrays else scores


@dataclass(frozen=True, slots=True)
class ProjectionTask:
    """Scores of a partition, written; a few of its images, kept."""

    images: Rows
    basis: Basis
    dtype: str
    scores: Path
    previews: Path
    riders: tuple[Rider, ...] = ()

    def __call__(self, item: ProjectionItem) -> dict[str, Any]:
        """Read each block once, compare it with its checksum, write its scores."""
        kept, kept_rows, checksums = [], [], []
        taken: list[list[NDArray[Any]]] = [[] for _ in self.riders]
        bytes_read = bytes_written = 0
        blocks = read_ahead(self.images, item.partition.blocks)
        with zarr_io.RowsWriter(self.scores, "scores", item.partition.start) as writer:
            for (rows, block), expected, n_kept in zip(
                blocks, item.checksums, item.n_previews, strict=True
            ):
                require_unaltered(block, rows, expected)
                scores = self.basis.project(block, rows.start, self.dtype)
                writer.append(scores)
                for rider, rows_taken in zip(self.riders, taken, strict=True):
                    rows_taken.append(rider.take(rows, scores))
                checksums.append(zarr_io.crc(scores))
                # Drawn from the rows alone: another seed must not make the previews stale.
                drawn = draw_rows(len(block), n_kept, generator(0, "projection/kept", rows.start))
                kept.append(block[drawn])
                kept_rows.append(drawn + rows.start)
                bytes_read += block.nbytes
                bytes_written += scores.nbytes
        path = part_path(self.previews, item.partition.index)
        arrays = {"images": np.concatenate(kept), "row": np.concatenate(kept_rows)}
        report = {"crc": checksums, "file_crc": write_arrays(path, arrays)}
        bytes_written += path.stat().st_size
        for rider, rows_taken in zip(self.riders, taken, strict=True):
            left = rider.leave(item.partition, rows_taken)
            bytes_written += left.pop("bytes_written")
            report |= left
        return {**report, "bytes_read": bytes_read, "bytes_written": bytes_written}


def require_unaltered(block: NDArray[Any], rows: RowRange, expected: int | None) -> None:
    """Refuse a block that is not what it was when it was first read."""
    if expected is not None and zarr_io.crc(block) != expected:
        msg = f"images must stay as they were when the run began; images {rows.start} to {rows.stop - 1} have changed. Restore them, or start a run in a new folder."
        raise StoreError(msg)
