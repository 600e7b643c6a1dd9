"""Seconds of a run: what earlier runs on this machine took, scaled by the growth of each step."""

from __future__ import annotations

import logging
import math
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import BaseModel, Field, TypeAdapter

from workflow import steps
from workflow.engine.plan import worker_count
from workflow.engine.results import peak_rss_bytes
from workflow.errors import StoreError
from workflow.runstore.files import write_bytes
from workflow.steps.overcluster import OverclusterStep
from workflow.steps.tree import TreeSettings
from workflow.threads import n_processors

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings
    from workflow.engine.plan import Sizes
    from workflow.runstore import RunStore

log = logging.getLogger(__name__)

#: Version of what `Step.growth` counts.
GROWTH_VERSION = 2
#: Runs that are noted, the last ones.
MAX_RUNS = 100
#: Packages whose versions change how long a run takes.
PACKAGES = ("overcluster", "numpy", "numba", "scipy", "zarr", "dask", "distributed")
#: A run of other images of the same shape is taken where a pilot would be scaled by more than this.
MAX_PILOT_FACTOR = 10


#: Seconds, or a number that they are scaled by.
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StepCost(NamedTuple):
    """Seconds of a step in all, those of imports and first calls, and `Step.growth` at its sizes."""

    seconds: Amount
    fixed: Amount
    growth: Amount


class NotedRun(BaseModel, frozen=True, extra="forbid"):
    """A run that did all steps in one call, on workers of this machine.

    Attributes
    ----------
    machine, kind : dict
        Machine, workers and versions; type and settings of the images: runs of equal ones compare.
    images : str
        Digest of the images' fingerprint.
    is_pilot : bool
        Whether it was a run of few of the images.
    n_samples, rounds : int
        Its images, and the rounds of k-means.
    start : float
        What it took beside its steps: workers starting and closing [s].
    worker_bytes, leader_bytes : int
        Peak of a worker and of the leading process before any work [bytes].
    waited : float
        Share of their time that tasks waited for what they read.
    steps : dict of str to StepCost
        Step -> what it took.
    """

    machine: dict[str, Any]
    kind: dict[str, Any]
    images: str
    is_pilot: bool = False
    n_samples: int = Field(ge=1)
    rounds: int = Field(ge=0)
    start: Amount
    worker_bytes: int = Field(ge=0)
    leader_bytes: int = Field(ge=0)
    waited: float = Field(default=0.0, ge=0, le=1)
    steps: dict[str, StepCost]

    def seconds(self, sizes: Sizes) -> dict[str, float]:
        """Return what a run of other sizes would take [s]: ``start``, and each step that has something to do."""
        found = {"start": self.start}
        for step in steps.STEPS:
            cost, growth = self.steps[step.name], step.growth(sizes)
            if growth and cost.growth:
                scaled = (cost.seconds - cost.fixed) * growth / cost.growth
                found[step.name] = cost.fixed + scaled
        return found


_NOTES = TypeAdapter(list[NotedRun])


def processor_name() -> str:
    """Return the model of the processor, as far as the system tells."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine_key(settings: ComputeSettings) -> dict[str, Any]:
    """Return all of a machine that decides how long a run takes on it: JSON-able."""
    return {
        "processor": processor_name(),
        "n_processors": n_processors(),
        "n_workers": worker_count(settings),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "growth": GROWTH_VERSION,
    }


def kind_key(sizes: Sizes) -> dict[str, Any]:
    """Return what images and settings must have in common to compare their seconds: JSON-able."""
    return {
        "n_features": sizes.n_features,
        "dtype": sizes.dtype.name,
        "is_copied": sizes.is_copied,
        "profile": sizes.config.profile,
        "method": sizes.config.section(TreeSettings).method,
    }


def notes_file() -> Path:
    """Return where runs are noted: in ``overcluster`` in the user's cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".cache"
    return base / "overcluster" / "runs.json"


def noted_runs() -> list[NotedRun]:
    """Return the runs that are noted, the last one last; none where the notes are gone or damaged."""
    try:
        return _NOTES.validate_json(notes_file().read_bytes())
    except (OSError, ValueError):
        return []


def note_run(run: NotedRun) -> None:
    """Note a run in the user's cache, in one move; where that cannot be written, leave it."""
    place = notes_file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place, _NOTES.dump_json([*noted_runs(), run][-MAX_RUNS:], indent=2))
    except (OSError, StoreError) as err:
        log.debug("the run could not be noted: %s", err)


def process_bytes(client: Client) -> dict[str, Any]:
    """Return the peaks of the largest worker and of this process; nothing where no worker is left."""
    workers: dict[str, int] = client.run(peak_rss_bytes)
    if not workers:
        return {}
    return {"worker_bytes": max(workers.values()), "leader_bytes": peak_rss_bytes()}


def describe_run(
    store: RunStore, sizes: Sizes, images: str, held: dict[str, Any], start: float
) -> NotedRun:
    """Return the note of a run that is complete; `held` is what `process_bytes` said before any work."""
    counters = [store.step(step.name).counters for step in steps.STEPS]
    waited, spent = (sum(c.get(name, 0) for c in counters) for name in ("waited_ms", "tasks_ms"))
    return NotedRun(
        machine=machine_key(sizes.config.compute),
        kind=kind_key(sizes),
        images=images,
        n_samples=sizes.n_samples,
        rounds=store.step(OverclusterStep.name).details.get("n_iter", 0),
        start=start,
        waited=min(1.0, waited / max(spent, 1)),
        steps={
            step.name: StepCost(store.step(step.name).seconds, 0.0, step.growth(sizes))
            for step in steps.STEPS
        },
        **held,
    )


def fitting_run(sizes: Sizes, images: str, n_pilot: int) -> NotedRun | None:
    """Return the noted run that tells the most of another one; None where a pilot of `n_pilot` images tells more.

    How fast centroids are found depends on the images, by a factor of three at equal sizes: a run
    of the same ones tells the most.  One of others of the same shape and type is taken where a
    pilot would have to be scaled far, and further than that run.
    """
    machine, kind = machine_key(sizes.config.compute), kind_key(sizes)
    known = [run for run in noted_runs()[::-1] if (run.machine, run.kind) == (machine, kind)]
    # The nearest in size first; of those that are equally near, the last one.
    known = sorted(known, key=lambda run: abs(math.log(sizes.n_samples / run.n_samples)))
    same = [run for run in known if run.images == images]
    others = [run for run in known if not run.is_pilot and run.n_samples > 2 * n_pilot]
    if sizes.n_samples <= MAX_PILOT_FACTOR * n_pilot:
        others = []
    return next(iter([*same, *others]), None)
