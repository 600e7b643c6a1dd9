"""ingest: images that cannot be read in place are copied into the run folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator

from workflow.config.fields import FilePath, Section, Shape
from workflow.engine.plan import TaskPlan, check_memory, worker_memory
from workflow.engine.segments import added, is_updated, n_searched, segments
from workflow.engine.step import Step
from workflow.engine.verify import check_images
from workflow.errors import ImagesError
from workflow.formatting import format_count
from workflow.ingest import ingest
from workflow.runstore import layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from workflow.engine.context import Context
    from workflow.engine.executor import Executor
    from workflow.engine.plan import Sizes
    from workflow.ingest import ImagesInput, IngestReport
    from workflow.runstore import RunStore

#: Unreadable files that the manifest names; the store of the images lists them all.
MAX_LISTED = 1000
#: Those that a line names.
MAX_SHOWN = 5


def _names(value: Any) -> Any:
    """Read ``"label,text"`` as a tuple of names."""
    return tuple(value.split(",")) if isinstance(value, str) and value else value or ()


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class IngestSettings(Section):
    """Reading images that are not in Zarr or .npy."""

    shape: Shape = None
    """Shape of one image, H,W,C: required for raw binary files; of pictures, chosen from their sizes by default."""
    dtype: Literal["uint8", "uint16", "float16", "float32", "float64"] | None = None
    """Type of the values of a raw binary file; of image files uint8 or uint16, which keeps all bits of grey ones."""
    on_unreadable: Literal["skip", "fail"] = "skip"
    """Whether unreadable files, records and rows are listed and left out, or end the run."""
    background: str = "white"
    """Colour behind what is transparent in pictures, by name or as #RRGGBB."""
    frames: Literal["first", "all"] = "first"
    """Which pictures of an animated file are taken; of all, `path` is NAME#0, NAME#1 and so on."""
    columns: Names = ()
    """What lies beside the images in tars, records and tables and is carried along: names with commas."""

    model: FilePath = None
    """ONNX file of a model: not the images are clustered, but the vectors that it gives of them."""

    @property
    def reading(self) -> dict[str, Any]:
        """How a source is read, as `workflow.ingest.open_source` takes it."""
        return self.model_dump()


class IngestStep(Step):
    """Copy what cannot be read in place; note what the images are."""

    name = "ingest"
    section = IngestSettings
    settings = ("block_rows", "ingest.shape", "ingest.dtype", "ingest.on_unreadable")
    reads_images_first = True

    def run(self, context: Context) -> None:
        """Copy the images where needed, and note their shape, type and blocks."""
        store, given = context.store, context.given
        if given.store is None:
            report = copy_images(given, store.path / layout.IMAGES, context.executor)
            store.step(self.name).details = {
                "n_unreadable": report.n_unreadable,
                "unreadable": list(report.unreadable[:MAX_LISTED]),
            }
        images = context.images
        require_two(images.n_samples, given.name)
        store.manifest.images |= {
            "shape": [int(length) for length in images.shape],
            "dtype": str(images.dtype),
            "block_rows": context.block_rows,
        }
        # Of files that had to be copied the size is known only now.
        limit = worker_memory(context.config.compute, context.executor.client)
        check_memory(context.steps, images, context.config, limit)

    def results(self, run: Path) -> list[Path]:
        """Return the copy of the images."""
        return [run / layout.IMAGES]

    def tasks(self, sizes: Sizes) -> Sequence[TaskPlan]:
        """Return the copy: read, written, read back."""
        if not sizes.is_copied:
            return []
        n_bytes = sizes.n_samples * sizes.image_bytes
        parts = {"block": sizes.block_bytes}
        return [TaskPlan("ingest", sizes.n_partitions, 2 * n_bytes, n_bytes, parts)]

    def growth(self, sizes: Sizes) -> float:
        """Return the growth with the bytes that are copied."""
        if not sizes.is_copied:
            return 0.0
        return 0.03 + 6e-9 * sizes.rows_per_worker * sizes.image_bytes

    def verify(self, store: RunStore) -> Iterator[str]:
        """Check the images against what the pass over all of them has read."""
        if store.step("pca").state == "complete":
            yield from check_images(store, "pca/moments")

    def describe(self, store: RunStore) -> str:
        """Return how many images there are, and which files were left out."""
        n_samples = store.manifest.images["shape"][0]
        details = store.step(self.name).details
        if not details:
            return f"{n_samples:,} images, read where they are"
        return f"{n_samples:,} images read" + describe_skipped(
            details["n_unreadable"], details["unreadable"]
        )

    def summary(self, store: RunStore) -> Mapping[str, Any]:
        """Return how many files were left out, and of an updated run the images of each segment."""
        n_unreadable = store.step(self.name).details.get("n_unreadable", 0)
        if not is_updated(store):
            return {"n_unreadable": n_unreadable}
        sizes = [segment.n_samples for segment in segments(store)]
        updates = [
            {name: value for name, value in record.items() if name not in ("digest", "images")}
            for record in added(store)
        ]
        found = {"n_unreadable": n_unreadable, "segments": sizes, "updates": updates}
        n = n_searched(store)
        return found | ({"n_searched": n} if n < sum(sizes) else {})


def describe_skipped(n_files: int, names: Sequence[str]) -> str:
    """Return how many files were left out and the first of them, to go on with; empty for none."""
    if not n_files:
        return ""
    shown = ", ".join(names[:MAX_SHOWN]) + (", ..." if n_files > MAX_SHOWN else "")
    return f", {format_count(n_files, 'file')} skipped ({shown})"


def require_two(n_samples: int, name: str) -> None:
    """Refuse fewer images than have a spread."""
    if n_samples < 2:
        msg = f"a run must have two images or more; {name} has {n_samples}. Give more images, or move the sample dimension to the front."
        raise ImagesError(msg)


def copy_images(given: ImagesInput, place: Path, executor: Executor) -> IngestReport:
    """Copy images to a Zarr store; a copy that is whole is used as it is."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with executor.as_dask_scheduler():
        return ingest(given.source, place, runner=executor)
