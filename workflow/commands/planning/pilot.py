"""A run of few of the images, through all steps: what tells the seconds of a run of all of them."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow import steps
from workflow.commands.base import open_given
from workflow.commands.planning.forecast import NotedRun, describe_run, process_bytes
from workflow.commands.run import run_workflow
from workflow.compute import open_client
from workflow.config import LoadedConfig, flatten
from workflow.engine.plan import Sizes
from workflow.engine.progress import Progress
from workflow.errors import ComputeError, WorkflowError, one_line
from workflow.ingest.readers.items import ItemSource
from workflow.ingest.source import BaseSource
from workflow.mapper import SerialRunner
from workflow.overcluster import auto_n_centroids
from workflow.runstore.files import disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Client
    from numpy.typing import NDArray

    from workflow.config import Config
    from workflow.ingest import ImagesInput, Source

log = logging.getLogger(__name__)

#: Images of a pilot: fewer of large ones, so that it stays below half a minute.
MAX_IMAGES, MIN_IMAGES, MAX_BYTES = 20_000, 2_000, 256 * 2**20
#: Blocks of consecutive images that it takes, spread evenly.
N_BLOCKS = 20
#: A smaller run goes before it, for what only the first run in a process takes.
WARM_UP_SHARE = 10


@dataclass(frozen=True)
class SpreadBlocks(BaseSource):
    """Evenly spread blocks of the images of another source; a multiple of `N_BLOCKS` of them."""

    source: Source

    def fingerprint(self) -> dict[str, Any]:
        """Return what tells these images from others."""
        return {"kind": "pilot", **self.shape_and_type()}

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return images `start` to `stop` as rows."""
        length = self.n_samples // N_BLOCKS
        found = []
        for block in range(start // length, -(-stop // length)):
            first, last = max(start, block * length), min(stop, (block + 1) * length)
            at = block * (self.source.n_samples - length) // (N_BLOCKS - 1) - block * length
            found.append(self.source.read(at + first, at + last))
        return np.concatenate(found)


def pilot_size(given: ImagesInput) -> int:
    """Return how many images a pilot takes: all where they are few."""
    n_stored = int(given.fingerprint.get("n_bytes", 0))
    image_bytes = max(given.n_bytes, n_stored) / given.n_samples
    n = min(MAX_IMAGES, max(MIN_IMAGES, int(MAX_BYTES // image_bytes)))
    return given.n_samples if given.n_samples <= n else n - n % N_BLOCKS


def run_pilot(images: str, given: ImagesInput, config: Config, folder: Path) -> NotedRun:
    """Run few of the images on workers of this machine; return what that alone would have taken.

    `config` is that of the run to come; what is written in `folder`, on the disk of that run, is removed.
    Raises `ComputeError` where it fails, with what it said.
    """
    n = pilot_size(given)
    log.info("trying a pilot of %s images, for half a minute at most", f"{n:,}")
    settings = pilot_config(config, given, n).compute
    with disk_errors(folder), _quiet(), contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix=".overcluster-pilot-", dir=folder)
        place = Path(stack.enter_context(made))
        begun = time.monotonic()
        try:
            with open_client(settings) as client:
                client.run(steps.get_ready)
                held = process_bytes(client)
                start = time.monotonic() - begun
                if n == given.n_samples:
                    found = _timed_run(images, config, client, place / "run", given, held)
                else:
                    found = _scaled_run(given, config, client, place, n, held)
                closing = time.monotonic()
        except WorkflowError as err:
            msg = f"a pilot of {n:,} images must work before the seconds of a run can be known; it said: {one_line(err)} Correct that, or give --no-pilot."
            raise ComputeError(msg) from None
        start += time.monotonic() - closing + found.start
    known = {"start": start, "is_pilot": n < given.n_samples, "images": given.digest}
    return found.model_copy(update=known)


def _scaled_run(
    given: ImagesInput, config: Config, client: Client, place: Path, n: int, held: dict[str, int]
) -> NotedRun:
    """Run few images, then more; what the first run took beyond its share is fixed."""
    source: Any = given.source
    unpacking = time.monotonic()
    if not isinstance(source, ItemSource) and hasattr(source, "prepare"):
        (place / "unpacked").mkdir()
        source = source.prepare(place / "unpacked", SerialRunner())
    unpacking = time.monotonic() - unpacking
    runs = []
    for n_images, n_runs in ((max(n // WARM_UP_SHARE // N_BLOCKS, 2) * N_BLOCKS, 1), (n, 2)):
        few = place / f"images-{n_images}"
        some = _few(source, n_images, few, is_read_in_place=given.store is not None)
        for number in range(n_runs):
            out = place / f"run-{n_images}-{number}"
            runs.append(_timed_run(some, config, client, out, given, held))
    first, found, again = runs
    costs = {}
    for name, noisy in found.steps.items():
        # Other programs only make a step slower.
        small, cost = first.steps[name], min(noisy, again.steps[name], key=lambda c: c.seconds)
        share = small.growth / cost.growth if cost.growth else 0.0
        fixed = max(0.0, small.seconds - cost.seconds * share) if cost.growth else 0.0
        fixed += unpacking if name == "ingest" else 0.0
        costs[name] = cost._replace(seconds=cost.seconds + fixed, fixed=fixed)
    return found.model_copy(update={"steps": costs, "start": first.start})


def _few(source: Any, n: int, place: Path, *, is_read_in_place: bool) -> Any:
    """Return few of the images, as `run_workflow` takes them."""
    if isinstance(source, ItemSource):
        return source.few(n, N_BLOCKS)
    few = SpreadBlocks(n, tuple(source.image_shape), source.dtype, source)
    if not is_read_in_place:
        return few
    np.save(place.with_suffix(".npy"), few.read(0, n).reshape(n, *few.image_shape))
    return str(place.with_suffix(".npy"))


def pilot_config(config: Config, given: ImagesInput, n: int) -> Config:
    """Return the settings of a pilot: those of the run, as far as few images can have them."""
    flat = flatten(config.model_dump(mode="json"))
    if n < given.n_samples:
        planned = flat["overcluster.n_centroids"]
        if planned != "auto":
            flat["overcluster.n_centroids"] = min(planned, auto_n_centroids(n))
        n_components = flat["pca.n_components"]
        if n_components != "auto" and n_components >= 1:
            flat["pca.n_components"] = min(n_components, n)
        flat["tree.min_cluster_size"] = "auto"
    if flat["compute.launcher"] != "local":
        flat = {key: value for key, value in flat.items() if not key.startswith("compute.")}
        flat["compute.n_workers"] = 1
    flat["compute.dashboard"] = False
    return steps.load_config(None, flat, environment={}).config


def _timed_run(
    images: Any,
    config: Config,
    client: Client,
    out: Path,
    given: ImagesInput,
    held: dict[str, int],
) -> NotedRun:
    """Run some images on a client; return what it took."""
    begun = time.monotonic()
    opened = open_given(images, config)
    settings = pilot_config(config, given, opened.n_samples)
    loaded = LoadedConfig(settings, {})
    store = run_workflow(images, out, loaded, client=client, progress=Progress(enabled=False))
    sizes = Sizes.of(steps.STEPS, opened.source, settings)
    run = describe_run(store, sizes, opened.digest, held, 0.0)
    worked = sum(cost.seconds for cost in run.steps.values())
    return run.model_copy(update={"start": time.monotonic() - begun - worked})


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the lines about the steps off the screen."""
    engine = logging.getLogger("workflow.engine")
    before = engine.level
    engine.setLevel(logging.WARNING)
    try:
        yield
    finally:
        engine.setLevel(before)
