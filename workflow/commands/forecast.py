"""Seconds of a run: what earlier runs on this machine took, scaled by the growth of each step."""

from __future__ import annotations

import logging
import math
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.engine.plan import worker_count
from workflow.engine.results import peak_rss_bytes
from workflow.errors import StoreError
from workflow.runstore.files import read_json, write_json
from workflow.steps.overcluster import OverclusterStep
from workflow.steps.tree import TreeSettings
from workflow.threads import n_processors

if TYPE_CHECKING:
    from distributed import Client

    from workflow.config import ComputeSettings
    from workflow.engine.plan import Sizes
    from workflow.runstore import RunStore

log = logging.getLogger(__name__)

#: Version of the notes and of what `Step.growth` counts: older notes are left aside.
FORMAT_VERSION = 2
#: Runs that are noted, the last ones.
MAX_RUNS = 100
#: Packages whose versions change how long a run takes.
PACKAGES = ("overcluster", "numpy", "numba", "scipy", "zarr", "dask", "distributed")
#: A run of other images of the same shape is taken where a pilot would be scaled by more than this.
MAX_PILOT_FACTOR = 10


@dataclass(frozen=True, slots=True)
class StepCost:
    """What a step took.

    Attributes
    ----------
    seconds : float
        In all [s].
    fixed : float
        The part that does not depend on the images, as far as known: imports, first calls [s].
    growth : float
        `Step.growth` at the sizes of the run.
    bytes_read, bytes_written : int
        By its tasks [bytes].
    peak_bytes : int
        The largest process up to its end [bytes].
    """

    seconds: float
    fixed: float
    growth: float
    bytes_read: int
    bytes_written: int
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class NotedRun:
    """A run that did all steps in one call, on workers of this machine.

    Attributes
    ----------
    machine, kind : dict
        Machine, workers and versions; type and settings of the images: runs of equal ones compare.
    images : str
        Digest of the images' fingerprint.
    is_pilot : bool
        Whether it was a run of few of the images.
    n_samples, n_components, n_centroids, rounds : int
        Its sizes, and the rounds of k-means.
    start : float
        What it took beside its steps: workers starting and closing [s].
    worker_bytes, leader_bytes : int
        Peak of a worker and of the leading process before any work [bytes].
    steps : dict of str to StepCost
        Step -> what it took.
    """

    machine: dict[str, Any]
    kind: dict[str, Any]
    images: str
    is_pilot: bool
    n_samples: int
    n_components: int
    n_centroids: int
    rounds: int
    start: float
    worker_bytes: int
    leader_bytes: int
    steps: dict[str, StepCost]

    @classmethod
    def from_json(cls, content: Any) -> NotedRun:
        """Return a run from a note; raise TypeError, KeyError or ValueError where that is damaged."""
        costs = {name: StepCost(**cost) for name, cost in content["steps"].items()}
        run = cls(**{**content, "steps": costs})
        numbers = [run.n_samples, run.start, run.worker_bytes, run.leader_bytes]
        numbers += [number for cost in costs.values() for number in asdict(cost).values()]
        if (
            not all(math.isfinite(number) and number >= 0 for number in numbers)
            or not run.n_samples
        ):
            msg = "sizes and seconds must be finite and not negative"
            raise ValueError(msg)
        return run

    def seconds(self, sizes: Sizes) -> dict[str, float]:
        """Return the seconds that the steps of a run of other sizes would take [s].

        Parameters
        ----------
        sizes : Sizes
            The sizes of the other run.

        Returns
        -------
        dict of str to float
            Step -> seconds; ``start`` comes first, steps that have nothing to do are left out.
        """
        found = {"start": self.start}
        for step in steps.STEPS:
            cost, growth = self.steps[step.name], step.growth(sizes)
            if growth and cost.growth:
                scaled = (cost.seconds - cost.fixed) * growth / cost.growth
                found[step.name] = cost.fixed + scaled
        return found


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
    """Return the runs that are noted, the last one last; what is damaged is left aside."""
    try:
        content = read_json(notes_file())
        notes = content["runs"] if content["format_version"] == FORMAT_VERSION else []
    except (StoreError, OSError, KeyError, TypeError):
        return []
    runs = []
    for note in notes if isinstance(notes, list) else []:
        try:
            runs.append(NotedRun.from_json(note))
        except (TypeError, KeyError, ValueError, AttributeError):
            continue
    return runs


def note_run(run: NotedRun) -> None:
    """Note a run in the user's cache, in one move; where that cannot be written, leave it."""
    notes = [asdict(known) for known in [*noted_runs(), run][-MAX_RUNS:]]
    place = notes_file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"format_version": FORMAT_VERSION, "runs": notes})
    except (OSError, StoreError) as err:
        log.debug("the run could not be noted: %s", err)


def process_bytes(client: Client) -> dict[str, int]:
    """Return the peaks of the largest worker and of this process; nothing where no worker is left."""
    workers: dict[str, int] = client.run(peak_rss_bytes)
    if not workers:
        return {}
    return {"worker_bytes": max(workers.values()), "leader_bytes": peak_rss_bytes()}


def describe_run(
    store: RunStore, sizes: Sizes, images: str, held: dict[str, int], start: float
) -> NotedRun:
    """Return the note of a run that is complete.

    Parameters
    ----------
    store : RunStore
        The run.
    sizes : Sizes
        Its sizes.
    images : str
        Digest of the images' fingerprint.
    held : dict of str to int
        What `process_bytes` said before any work.
    start : float
        What it took beside its steps [s].
    """
    costs = {}
    for step in steps.STEPS:
        record = store.step(step.name)
        costs[step.name] = StepCost(
            seconds=record.seconds,
            fixed=0.0,
            growth=step.growth(sizes),
            bytes_read=record.counters.get("bytes_read", 0),
            bytes_written=record.counters.get("bytes_written", 0),
            peak_bytes=record.counters.get("peak_rss_bytes", 0),
        )
    found = store.step(OverclusterStep.name).details
    return NotedRun(
        machine=machine_key(sizes.config.compute),
        kind=kind_key(sizes),
        images=images,
        is_pilot=False,
        n_samples=sizes.n_samples,
        n_components=store.step("pca").details["n_components"],
        n_centroids=found["n_centroids"],
        rounds=found.get("n_iter", 0),
        start=start,
        steps=costs,
        **held,
    )


def fitting_run(sizes: Sizes, images: str, n_pilot: int) -> NotedRun | None:
    """Return the noted run that tells the most of another one; None where a pilot tells more.

    Parameters
    ----------
    sizes : Sizes
        The sizes of the run to come.
    images : str
        Digest of its images' fingerprint.
    n_pilot : int
        Images of a pilot; 0 where there will be none.

    Notes
    -----
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
