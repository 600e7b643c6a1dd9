"""Copy images that cannot be read in place, with the tasks of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.ingest import ImagesInput, IngestReport, ingest

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.pipeline.executor import Executor


def ingest_images(given: ImagesInput, place: Path, executor: Executor) -> IngestReport:
    """Copy images to the Zarr store `place`; a copy that is whole is used as it is."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with executor.as_dask_scheduler():
        return ingest(given.source, place, runner=executor)
