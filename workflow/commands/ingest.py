"""ingest, ingest-init, ingest-part, ingest-finish: any supported source into a Zarr store, outside a run, at once or in parts."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow import ingest
from workflow.commands.base import client_for
from workflow.engine.client import executor_for
from workflow.engine.progress import Progress
from workflow.errors import ConfigError, StoreError
from workflow.runstore.files import discard
from workflow.steps.ingest import IngestSettings, describe_skipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Client

    from workflow.config import Config
    from workflow.engine.executor import Executor

log = logging.getLogger(__name__)


def ingest_to(source: str, target: Path, config: Config) -> dict[str, Any]:
    """Copy images into a Zarr store; return what was found."""
    _require_name(target)
    opened = ingest.open_source(source, **_options(config))
    for remark in ingest.remarks(opened):
        log.warning("%s", remark)
    with _executor(target, config) as executor:
        return _found(ingest.ingest(opened, target, runner=executor))


def embed(
    images: Any,
    target: Path,
    model: Callable[[Any], Any] | Path | str,
    config: Config,
    *,
    batch_rows: int | None = None,
    version: str | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the vectors that a function, or a model in a file, gives of images; return what was found."""
    _require_name(target)
    reading = _options(config)
    if isinstance(model, str | Path):
        if batch_rows is not None or version is not None:
            msg = "`batch_rows` and `version` must be left out for a model in a file; say `batch: N` in the YAML file beside it."
            raise ConfigError(msg)
        given = ingest.open_input(images, **reading | {"model": str(model)})
        source = given.source
    else:
        embedder = ingest.FunctionEmbedder.of(model, batch_rows=batch_rows, version=version)
        given = ingest.open_input(images, **reading | {"model": None})
        source = ingest.embedded(given.source, embedder)
    for remark in ingest.remarks(source):
        log.warning("%s", remark)
    client = client_for(given, client)
    with _executor(target, config, client, progress) as executor, executor.as_dask_scheduler():
        return _found(ingest.ingest(source, target, runner=executor))


def begin_parts(source: str, target: Path, n_parts: int, config: Config) -> dict[str, Any]:
    """Begin a copy in parts; return how many there are and what they need."""
    _require_name(target)
    with _executor(target, config) as executor:
        plan = ingest.begin_parts(
            source, target, n_parts, options=_options(config), runner=executor
        )
    return {
        "images": str(target),
        "n_samples": plan.n_samples,
        "n_shards": plan.n_shards,
        "n_parts": plan.n_parts,
        "part_shards": -(-plan.n_shards // plan.n_parts),
        "part_memory": plan.part_memory,
    }


def write_part(target: Path, index: int, *, one_based: bool) -> dict[str, Any]:
    """Write one part of a copy that was begun; return what was done."""
    written, reused = ingest.write_part(target, index - one_based)
    return {"n_shards_written": written, "n_shards_reused": reused}


def finish_parts(target: Path) -> dict[str, Any]:
    """Finish a copy in parts; return what was found."""
    return _found(ingest.finish_parts(target))


def describe_copy(found: dict[str, Any]) -> str:
    """Return what was found, for a person."""
    skipped = describe_skipped(found["n_unreadable"], found["unreadable"])
    shape = " x ".join(map(str, found["image_shape"]))
    return (
        f"{found['n_samples']:,} images read{skipped}\n{found['images']}: {shape}, {found['dtype']}"
    )


def _found(report: ingest.IngestReport) -> dict[str, Any]:
    """Return what a copy holds."""
    return {
        "images": str(report.path),
        "n_samples": report.n_samples,
        "image_shape": list(report.image_shape),
        "dtype": str(report.dtype),
        "n_unreadable": report.n_unreadable,
        "unreadable": list(report.unreadable),
    }


def _options(config: Config) -> dict[str, Any]:
    """Return how the source is to be read."""
    return config.section(IngestSettings).reading


def _require_name(target: Path) -> None:
    """Refuse a name that commands would not know as a store."""
    if target.suffix != ".zarr":
        msg = f"the destination must be called NAME.zarr, as commands know it by that; got {target.name}. Add .zarr."
        raise StoreError(msg)


@contextlib.contextmanager
def _executor(
    target: Path, config: Config, client: Client | None = None, progress: Progress | None = None
) -> Iterator[Executor]:
    """Open an executor on workers; what tasks share is removed at the end."""
    shared = target.with_name(f"{target.name}.shared")
    try:
        with executor_for(shared, config, client, progress or Progress()) as executor:
            yield executor
    finally:
        if shared.exists():
            discard(shared)
