"""What several commands share: the settings of a run, where its tasks run, its images."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.engine.client import executor_for
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.engine.step import needed_for
from workflow.errors import ImagesError, StoreError
from workflow.ingest import open_input
from workflow.runstore import layout, zarr_io
from workflow.runstore.files import discard
from workflow.steps.ingest import IngestSettings, copy_images, require_two

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config
    from workflow.ingest import ImagesInput
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore

#: Up to so many bytes to read, the work is done in this process: sooner than workers start.
MAX_HERE_BYTES = 256 * 2**20


def stored_config(store: RunStore, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the settings that a run was last made with, some of them overridden.

    Where it ran is left out: that scheduler may be gone, and a stranger's run
    folder must not choose one.  So are settings that no step has any more.
    """
    known = {step.name for step in steps.STEPS} | {"seed", "profile", "block_rows"}
    stored = store.manifest.config.items()
    kept = {key: value for key, value in stored if key.partition(".")[0] in known}
    return steps.load_config(None, {**kept, **(overrides or {})}, environment={}).config


@contextlib.contextmanager
def executor_for_bytes(
    shared: Path, config: Config, client: Client | None, n_bytes: int, progress: Progress | None
) -> Iterator[Executor]:
    """Open an executor: in this process for little work, on workers for much.

    What tasks share lies in a folder of its own, which is removed at the end.
    """
    shared.mkdir(parents=True, exist_ok=True)
    try:
        if client is None and n_bytes <= MAX_HERE_BYTES and config.compute.launcher == "local":
            yield Executor(None, progress or Progress(), shared)
        else:
            with executor_for(shared, config, client, progress, reads=[shared]) as executor:
                executor.prepare(steps.get_ready)
                yield executor
    finally:
        discard(shared)


def require_labels(store: RunStore) -> None:
    """Refuse a run that has no labels yet.

    Raises
    ------
    StoreError
        Naming the step that is missing.
    """
    for name in needed_for(steps.STEPS, "labels"):
        if store.step(name).state != "complete":
            msg = f"the run must have labels; in {store.path} step {name} is {store.step(name).state}. Finish it with `run`."
            raise StoreError(msg)


def open_given(images: Any, config: Config) -> ImagesInput:
    """Open the images of a run as a user gave them, as the settings say; refuse a single one."""
    given = open_input(images, **config.section(IngestSettings).reading)
    require_two(given.n_samples, given.name)
    return given


def open_new(store: RunStore, images: Any, config: Config) -> ImagesInput:
    """Open new images for a run: one alone or many, of folders and raw files in the run's shape."""
    known = store.manifest.images
    shape = tuple(known["shape"][1:])
    if tuple(getattr(images, "shape", ())) == shape:
        images = getattr(images, "data", images) if hasattr(images, "dims") else images
        images = images[None]
    given = open_input(
        images, **config.section(IngestSettings).reading, like=(shape, known["dtype"])
    )
    if given.store is not None and given.store.shape == shape:
        # A file that holds one image.
        return open_input(given.store.read(0, given.n_samples).reshape(1, *shape))
    return given


def images_of(store: RunStore) -> ImageStore | None:
    """Return the images of a run, None where they are gone or others lie in their place."""
    known = store.manifest.images
    copied = store.path / layout.IMAGES
    try:
        if copied.exists():
            return zarr_io.open_images(copied)
        given = open_given(known["path"], stored_config(store))
    except (ImagesError, StoreError):
        return None
    return given.store if given.digest == known["digest"] else None


def readable_images(
    store: RunStore, given: ImagesInput, work: Path, executor: Executor
) -> ImageStore:
    """Return new images like those of a run, copied to `work` where they cannot be read in place.

    Raises
    ------
    ImagesError
        If they are of another shape or type than those of the run.
    """
    images = given.store
    if images is None:
        place = work / layout.IMAGES
        copy_images(given, place, executor)
        images = zarr_io.open_images(place)
    known = store.manifest.images
    expected = f"{tuple(known['shape'][1:])} of {known['dtype']}"
    got = f"{tuple(images.shape[1:])} of {images.dtype}"
    if expected != got:
        discard(work)
        msg = f"new images must be like those of the run, {expected}; {given.name} holds {got}. Convert them first."
        raise ImagesError(msg)
    return images
