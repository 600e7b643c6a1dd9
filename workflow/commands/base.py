"""What several commands share: the settings of a run, where its tasks run, its images."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import steps
from workflow.config import known_keys
from workflow.engine.client import executor_for
from workflow.engine.executor import Executor
from workflow.engine.progress import Progress
from workflow.engine.segments import segments
from workflow.engine.step import needed_for
from workflow.errors import ComputeError, ConfigError, ImagesError, StoreError
from workflow.formatting import format_numbers
from workflow.ingest import DaskSource, open_input
from workflow.labels import NOISE_LABEL
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.runstore.kept import is_run
from workflow.steps.ingest import IngestSettings, copy_images, describe_skipped, require_two
from workflow.steps.labels import LabelsSettings, labels_are_families
from workflow.steps.parts.clusters.counts import clusters_of
from workflow.steps.tree import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from distributed import Client
    from numpy.typing import NDArray

    from workflow.config import Config, LoadedConfig
    from workflow.engine.segments import Segment
    from workflow.ingest import ImagesInput
    from workflow.runstore.paths import Place
    from workflow.runstore.zarr_io import ImageStore

log = logging.getLogger(__name__)

#: Up to so many bytes to read, the work is done in this process: sooner than workers start.
MAX_HERE_BYTES = 256 * 2**20
#: The same of a whole run, which does far more with each byte.
MAX_RUN_HERE_BYTES = 8 * 2**20


def kept_settings(store: RunStore) -> dict[str, Any]:
    """Return the settings that a run was last made with, by dotted key.

    Where it ran is left out: that scheduler may be gone, and a stranger's run
    folder must not choose one.  So are settings that no step has any more.
    """
    known = {key for key, _ in known_keys(steps.config_class()) if not key.startswith("compute.")}
    return {key: value for key, value in store.manifest.config.items() if key in known}


def stored_config(store: RunStore, overrides: Mapping[str, Any] | None = None) -> Config:
    """Return the settings that a run was last made with, some of them overridden."""
    loaded = steps.load_config(None, overrides or {}, environment={})
    return loaded.over(kept_settings(store)).config


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


def executor_for_run(
    shared: Path,
    given: ImagesInput,
    config: Config,
    client: Client | None,
    progress: Progress,
    reads: Sequence[Place],
) -> contextlib.AbstractContextManager[Executor]:
    """Open the executor of a whole run: in this process for few images, unless workers are asked for.

    Images that Dask or a model computes may take long however few they are.
    """
    compute = config.compute
    n_bytes = max(given.n_bytes, int(given.fingerprint.get("n_bytes", 0)))
    is_asked = client is not None or (compute.launcher, compute.n_workers) != ("local", "auto")
    is_costly = isinstance(given.source, DaskSource) or hasattr(given.source, "shard_rows")
    if is_asked or is_costly or n_bytes > MAX_RUN_HERE_BYTES:
        return executor_for(shared, config, client, progress, reads=reads)
    return contextlib.nullcontext(Executor(None, progress, shared))


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


def clusters_back(config: Config) -> str:
    """Return what makes clusters the labels of a run again whose labels are families."""
    if config.section(LabelsSettings).level == FAMILIES:
        return "`recut --layer L`, or `run` with --set labels.level=clusters"
    return "`recut --configured`"


def require_clusters(
    store: RunStore, config: Config, clusters: Sequence[Any], command: str
) -> NDArray[np.int32]:
    """Return the cluster of each centroid of a run that has some clusters.

    Raises
    ------
    StoreError
        If the run has no labels.
    ConfigError
        If they are families, or one of the clusters is not there.
    """
    require_labels(store)
    if labels_are_families(store):
        msg = f"`{command}` must have clusters as labels; those of {store.path} are families. Bring clusters back: {clusters_back(config)}."
        raise ConfigError(msg)
    label: NDArray[np.int32] = store.read_model("centroid_label")[0]
    known = np.unique(label[label >= 0]).tolist()
    for cluster in clusters:
        if isinstance(cluster, bool) or not isinstance(cluster, (int, np.integer)):
            msg = f"`{command}` must be told clusters by number; got {cluster!r}. Give the number that the page shows."
            raise ConfigError(msg)
        if cluster not in known:
            noise = "noise, which is no cluster" if cluster == NOISE_LABEL else str(cluster)
            msg = f"`{command}` must be told clusters of {store.path}, which has {format_numbers(known)}; got {noise}. Give the number that the page shows."
            raise ConfigError(msg)
    return label


def settings_for(out: Path | str, loaded: LoadedConfig) -> LoadedConfig:
    """Return settings over those of the run folder, where one was begun there."""
    if not is_run(out):
        return loaded
    return loaded.over(kept_settings(RunStore.open(out, rows=False)))


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


def client_for(given: ImagesInput, client: Client | None) -> Client | None:
    """Return the client to work with: images that are persisted on one can be read there only.

    Raises
    ------
    ComputeError
        If the user gave another one.
    """
    holder = given.client
    if holder is None or holder is client:
        return client
    place = _address(holder)
    if client is None:
        log.info("%s are persisted at %s: the work is done there", given.name, place)
    elif _address(client) != place:
        msg = f"`client` must be the one that the images are persisted with; they are at {place}, and it is connected to {_address(client)}. Pass that client, or images that are not persisted."
        raise ComputeError(msg)
    return holder


def _address(client: Client) -> str:
    """Return the address of the scheduler of a client."""
    return str(client.scheduler.address) if client.scheduler is not None else "a closed scheduler"


def images_of(store: RunStore) -> ImageStore | None:
    """Return the images of a run, of all its segments; None where they are gone or others lie in their place."""
    known = [segment for segment in segments(store) if segment.n_samples]
    parts = [_images_of_segment(store, segment) for segment in known]
    found = [part for part in parts if part is not None]
    return zarr_io.JoinedImages.of(found) if len(found) == len(parts) else None


def _images_of_segment(store: RunStore, segment: Segment) -> ImageStore | None:
    """Return the images of a segment, None where they are gone or others lie in their place."""
    known = segment.images
    try:
        if segment.copied.exists():
            return zarr_io.open_images(segment.copied)
        reading = stored_config(store).section(IngestSettings).reading
        shape, dtype = store.manifest.images["shape"], store.manifest.images["dtype"]
        like = (tuple(shape[1:]), dtype) if segment.start else None
        given = open_input(known["path"], **reading, like=like)
    except (ImagesError, StoreError):
        return None
    if given.store is None or not is_same(known, given):
        return None
    first = known.get("first_row", 0)
    return zarr_io.some_images(given.store, first, first + segment.n_samples)


def is_known(store: RunStore, given: ImagesInput) -> bool:
    """Return whether images are those of a run, by their fingerprint or one found to be of the same."""
    return is_same(store.manifest.images, given)


def is_same(known: Mapping[str, Any], given: ImagesInput) -> bool:
    """Return whether images are those that a manifest knows, or were found to be the same."""
    return given.digest in (known.get("digest"), *known.get("same", []))


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
        report = copy_images(given, place, executor)
        if report.n_unreadable:
            skipped = describe_skipped(report.n_unreadable, report.unreadable)
            log.warning("%s of %s", skipped.removeprefix(", "), given.name)
        images = zarr_io.open_images(place)
    known = store.manifest.images
    expected = f"{tuple(known['shape'][1:])} of {known['dtype']}"
    got = f"{tuple(images.shape[1:])} of {images.dtype}"
    if expected != got:
        discard(work)
        msg = f"new images must be like those of the run, {expected}; {given.name} holds {got}. Convert them first."
        raise ImagesError(msg)
    return images


def cluster_number(summary: dict[str, Any], cluster: int | str | None) -> int:
    """Return the number of a cluster that was given by its number, its name, or as noise.

    Raises
    ------
    ConfigError
        If there is none, or several have the name.
    """
    text, known = str(cluster).strip(), clusters_of(summary)
    named = [int(n) for n, name in summary.get("cluster_names", {}).items() if name == text]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        msg = f"a name must be that of one cluster; {text!r} is that of {', '.join(map(str, sorted(named)))}. Give the number."
        raise ConfigError(msg)
    number = "-1" if text == "noise" else text
    if number.removeprefix("-").isdecimal() and int(number) in (NOISE_LABEL, *known):
        return int(number)
    there = f"{format_numbers(known)}, " if known else ""
    msg = f"a cluster must be {there}a name that was given to one, or noise; got {text!r}. `summary.json` lists them."
    raise ConfigError(msg)
