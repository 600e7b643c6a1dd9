"""One function for each command that is more than the steps in order; the CLI and `Run` call these."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.config import load_config
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.pipeline.clients import executor_for
from workflow.pipeline.duplicates import find_duplicates
from workflow.pipeline.executor import Executor
from workflow.pipeline.images import ingest_images, open_input
from workflow.pipeline.page import write_report
from workflow.pipeline.predict import predict, require_labels
from workflow.pipeline.progress import Progress
from workflow.pipeline.recut import recut_labels
from workflow.pipeline.runner import write_summary
from workflow.pipeline.status import run_status
from workflow.pipeline.tasks import get_ready
from workflow.pipeline.update import require_new_images, require_same_kind, update_moments
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

    from workflow.config import Config
    from workflow.pipeline.images import ImagesInput
    from workflow.runstore.zarr_io import ImageStore

log = logging.getLogger(__name__)

#: Up to so many bytes to read, the work is done in this process: sooner than workers start.
HERE_BYTES = 256 * 2**20
#: Bytes of an image that a recut reads: its nearest centroids and their distances.
NEAREST_BYTES = 24


def stored_config(store: RunStore, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the settings that a run was last made with, some of them overridden.

    Where it ran is left out: that scheduler may be gone, and a stranger's run
    folder must not choose one.
    """
    config = store.manifest.config
    kept = {key: value for key, value in config.items() if not key.startswith("compute.")}
    return load_config(None, {**kept, **(overrides or {})}, environment={}).config


@contextlib.contextmanager
def _executor(
    shared: Path, config: Config, client: Client | None, n_bytes: int, progress: Progress | None
) -> Iterator[Executor]:
    """Open an executor: in this process for little work, on workers for much.

    What tasks share lies in a folder of its own, which is removed at the end.
    """
    shared.mkdir(parents=True, exist_ok=True)
    try:
        if client is None and n_bytes <= HERE_BYTES and config.compute.launcher == "local":
            yield Executor(None, progress or Progress(), shared)
        else:
            with executor_for(shared, config, client, progress, reads=[shared]) as executor:
                executor.prepare(get_ready)
                yield executor
    finally:
        discard(shared)


def recut(
    run: Path | str,
    *,
    n_clusters: int | None = None,
    min_cluster_size: int | None = None,
    layer: int | None = None,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Give a run other labels from its stored tree; return the new summary."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labels(store)
        n_bytes = NEAREST_BYTES * store.manifest.images["shape"][0]
        shared = store.path / layout.WIP / "shared-recut"
        with _executor(shared, config, client, n_bytes, progress) as executor:
            return recut_labels(
                store,
                config,
                executor,
                n_clusters=n_clusters,
                min_cluster_size=min_cluster_size,
                layer=layer,
                paths=named_images(store),
            )


def named_images(store: RunStore) -> Path | None:
    """Return the group that holds the file names, which the present labels have, too."""
    labels = store.path / layout.LABELS
    return labels if "path" in zarr_io.array_names(labels) else None


def update(
    run: Path | str,
    images: Any,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Merge the moments of new images into a run; return what they come to."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        given = open_input(images, config.ingest)
        require_new_images(store, given)
        work = store.path / layout.WIP / f"update-{given.digest}"
        with _executor(work / "shared", config, client, given.n_bytes, progress) as executor:
            opened = _readable_images(store, given, work, executor)
            found = update_moments(store, config, executor, opened, given)
        discard(work)
    return found


def predict_images(
    run: Path | str,
    images: Any,
    out: Path | str,
    *,
    client: Client | None = None,
    overrides: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write labels for new images; return how many and what share is noise."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    require_labels(store)
    target = Path(out).absolute()
    given = open_input(images, config.ingest)
    _require_place_for_labels(target)
    work = target.with_name(f"{target.name}.{given.digest}.work")
    with _executor(work / "shared", config, client, given.n_bytes, progress) as executor:
        opened = _readable_images(store, given, work, executor)
        found = predict(store, config, executor, opened, target)
    discard(work)
    return found


def _require_place_for_labels(target: Path) -> None:
    """Refuse to overwrite what is not a labels store."""
    if target.suffix != ".zarr":
        msg = f"`--out` must name a Zarr store, LABELS.zarr; got {target.name}. Add .zarr."
        raise StoreError(msg)
    if target.exists() and (not target.is_dir() or "label" not in zarr_io.array_names(target)):
        msg = (
            f"`--out` must be new or a labels store; {target} is something else. Give another path."
        )
        raise StoreError(msg)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        msg = f"`--out` must lie where it can be written; {target.parent} cannot ({err.strerror}). Give another path."
        raise StoreError(msg) from None


def _readable_images(
    store: RunStore, given: ImagesInput, work: Path, executor: Executor
) -> ImageStore:
    """Return images like those of a run, copied to `work` where they cannot be read in place."""
    images = given.store
    if images is None:
        place = work / layout.IMAGES
        ingest_images(given, place, executor)
        images = zarr_io.open_images(place)
    try:
        require_same_kind(store, images, given.name)
    except ImagesError:
        discard(work)
        raise
    return images


def duplicates(
    run: Path | str, *, near: bool = False, limit: int = 100, progress: Progress | None = None
) -> dict[str, Any]:
    """List groups of duplicate images of a run; `near` adds those that are nearly the same."""
    if limit < 1:
        msg = f"`limit` must be at least 1 group; got {limit}. Raise it."
        raise ConfigError(msg)
    store = RunStore.open(run)
    with store.lock():
        require_labels(store)
        return find_duplicates(store, near=near, limit=limit, progress=progress or Progress())


def report(run: Path | str, *, overrides: Mapping[str, Any] | None = None) -> Path:
    """Write the report of a run again; return its path."""
    store = RunStore.open(run)
    config = stored_config(store, overrides)
    with store.lock():
        require_labels(store)
        write_report(store, config, images_of(store))
        write_summary(store, config)
        if store.step("report").state != "complete":
            store.finish("report")
    return store.path / layout.REPORT


def images_of(store: RunStore) -> ImageStore | None:
    """Return the images of a run, None where they are gone or others lie in their place."""
    known = store.manifest.images
    copied = store.path / layout.IMAGES
    try:
        if copied.exists():
            return zarr_io.open_images(copied)
        given = open_input(known["path"], stored_config(store).ingest)
    except (ImagesError, StoreError):
        return None
    return given.store if given.digest == known["digest"] else None


def status(
    run: Path | str, *, verify: bool = False, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the state of each step of a run."""
    store = RunStore.open(run)
    return run_status(store, stored_config(store, overrides), verify=verify)
