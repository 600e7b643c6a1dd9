"""One function for each command that is more than the steps in order; the CLI and `Run` call these."""

from __future__ import annotations

import contextlib
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow.config import load_config
from workflow.errors import ImagesError, StoreError
from workflow.pipeline.executor import Executor
from workflow.pipeline.images import ingest_images, open_input
from workflow.pipeline.page import write_report
from workflow.pipeline.predict import predict, require_labels
from workflow.pipeline.progress import Progress
from workflow.pipeline.recut import recut_labels
from workflow.pipeline.runner import executor_for, write_summary
from workflow.pipeline.status import run_status
from workflow.pipeline.update import require_new_images, require_same_kind, update_moments
from workflow.runstore import RunStore, layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

    from workflow.config import Config
    from workflow.pipeline.images import ImagesInput
    from workflow.runstore.zarr_io import ImageStore

log = logging.getLogger(__name__)

#: Up to so many images, a recut or a prediction is done in this process: sooner than workers start.
HERE_IMAGES = 2_000_000


def stored_config(store: RunStore, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the settings that a run was last made with, some of them overridden."""
    return load_config(None, {**store.manifest.config, **(overrides or {})}, environment={}).config


@contextlib.contextmanager
def _executor(
    store: RunStore,
    config: Config,
    client: Client | None,
    n_samples: int,
    progress: Progress | None,
) -> Iterator[Executor]:
    """Open an executor: in this process for few images, on workers for many."""
    if client is None and n_samples <= HERE_IMAGES and config.compute.launcher == "local":
        yield Executor(None, progress or Progress(), store.path / layout.WIP / "shared")
    else:
        with executor_for(store, config, client, progress) as executor:
            yield executor


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
        n_samples = store.manifest.images["shape"][0]
        with _executor(store, config, client, n_samples, progress) as executor:
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
    """Return the group that holds the file names of a run's images, None where there are none."""
    group = store.path / layout.IMAGES
    return group if group.exists() and "path" in zarr_io.array_names(group) else None


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
        work = store.path / layout.WIP / "update-images"
        with _executor(store, config, client, given.n_samples, progress) as executor:
            opened = readable_images(given, work / layout.IMAGES, executor)
            require_same_kind(store, opened, given.name)
            found = update_moments(store, config, executor, opened, given)
        shutil.rmtree(work, ignore_errors=True)
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
    work = target.with_name(f"{target.name}.images")
    with _executor(store, config, client, given.n_samples, progress) as executor:
        opened = readable_images(given, work / layout.IMAGES, executor)
        require_same_kind(store, opened, given.name)
        found = predict(store, config, executor, opened, target)
    shutil.rmtree(work, ignore_errors=True)
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


def readable_images(given: ImagesInput, place: Path, executor: Executor) -> ImageStore:
    """Return images that can be read in place, copied to `place` where they must be."""
    if given.store is not None:
        return given.store
    ingest_images(given, place, executor)
    return zarr_io.open_images(place)


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
