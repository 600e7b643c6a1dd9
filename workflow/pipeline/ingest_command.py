"""The command `ingest`: any supported source into a Zarr store, outside a run."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from workflow.compute import open_client
from workflow.compute.dashboard import dashboard_told
from workflow.errors import StoreError
from workflow.ingest import ingest, open_source
from workflow.pipeline.executor import Executor
from workflow.pipeline.heartbeat import heartbeat
from workflow.pipeline.progress import Progress

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.config import Config

log = logging.getLogger(__name__)


def ingest_to(source: str, target: Path, config: Config) -> dict[str, Any]:
    """Copy images into a Zarr store; return what was found."""
    if target.suffix != ".zarr":
        msg = f"the destination must be called NAME.zarr, as commands know it by that; got {target.name}. Add .zarr."
        raise StoreError(msg)
    settings = config.ingest
    opened = open_source(
        source, shape=settings.shape, dtype=settings.dtype, on_unreadable=settings.on_unreadable
    )
    progress = Progress()
    with open_client(config.compute) as client:
        told = dashboard_told(client, config.compute)
        if told is not None:
            log.info("dashboard: %s", told)
        executor = Executor(client, progress, target.with_name(f"{target.name}.shared"))
        with heartbeat(client, progress), progress.bar("ingest", opened.n_samples) as bar:
            report = ingest(opened, target, mapper=executor, on_progress=bar.advance)
    return {
        "images": str(target),
        "n_samples": report.n_samples,
        "image_shape": list(report.image_shape),
        "dtype": str(report.dtype),
        "n_unreadable": report.n_unreadable,
        "unreadable": list(report.unreadable),
    }
