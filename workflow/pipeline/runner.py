"""Run the incomplete steps in order; decide skip, resume or stale."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from workflow.config import flatten
from workflow.errors import ImagesError, StoreError
from workflow.pipeline.clients import executor_for
from workflow.pipeline.context import Context
from workflow.pipeline.images import ImagesInput, open_input
from workflow.pipeline.outcomes import peak_rss_bytes
from workflow.pipeline.plan import check_memory, check_settings, worker_memory
from workflow.pipeline.stale import StepPlan, step_plans
from workflow.pipeline.steps import STEPS
from workflow.pipeline.summary import read_summary, summarize
from workflow.pipeline.tasks import get_ready
from workflow.runstore import RunStore, layout
from workflow.runstore.files import write_json
from workflow.runstore.manifest import software_versions
from workflow.runstore.store import discard

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from workflow.config import Config, LoadedConfig
    from workflow.pipeline.executor import Executor
    from workflow.pipeline.progress import Progress

__all__ = ["read_summary", "run_pipeline", "write_summary"]

log = logging.getLogger(__name__)

#: Steps that read the images before anything was made of them.
FIRST_READERS = ("ingest", "pca")
#: Words of a result that are told when a step is done; longer ones stand in the summary.
LONGEST_TOLD = 24


def run_pipeline(
    images: Any,
    out: Path | str,
    loaded: LoadedConfig,
    *,
    client: Client | None = None,
    progress: Progress | None = None,
) -> RunStore:
    """Do every step that a run lacks.

    Parameters
    ----------
    images : path or array
        Anything that `open_input` takes.
    out : path
        The run folder.
    loaded : LoadedConfig
        The settings and their origins.
    client : distributed.Client, optional
        Where to run; opened from the settings by default.
    progress : Progress, optional
        Where it is shown; stderr by default.

    Returns
    -------
    RunStore
        The run, complete.

    Raises
    ------
    WorkflowError
        If the images, the settings or the run folder are not as required.
    """
    config = loaded.config
    given = open_input(images, config.ingest)
    check_settings(given.n_samples, given.n_features, config)
    store = RunStore.create(out)
    with store.lock():
        _adopt_images(store, given)
        plans = step_plans(store, config)
        _tell(plans)
        if progress is not None:
            progress.plan([(plan.name, plan.is_due) for plan in plans])
        store.manifest.config = flatten(config.model_dump(mode="json"))
        store.manifest.seed = config.seed
        store.manifest.versions = software_versions()
        store.save()
        if any(plan.is_due for plan in plans):
            if client is None and (config.compute.launcher == "local" or config.compute.is_batch):
                known = given.store or given.source
                check_memory(known, config, worker_memory(config.compute))
            reads = [store.path, *([given.path] if given.path else [])]
            shared = store.path / layout.WIP / "shared"
            with executor_for(shared, config, client, progress, reads=reads) as executor:
                # Part of the start, not of the first step: it takes each worker a second.
                executor.prepare(get_ready)
                _run_steps(store, config, given, plans, executor)
            discard(store.path / layout.WIP)
        write_summary(store, config)
    return store


def write_summary(store: RunStore, config: Config) -> dict[str, Any]:
    """Write ``summary.json``; return what it holds."""
    summary = summarize(store)
    write_json(store.path / layout.SUMMARY, summary)
    return summary


def _run_steps(
    store: RunStore,
    config: Config,
    given: ImagesInput,
    plans: list[StepPlan],
    executor: Executor,
) -> None:
    """Run the steps that are due, in order."""
    context = Context(store, config, executor, given)
    for plan in plans:
        if not plan.is_due:
            continue
        store.begin(plan.name, plan.key, plan.settings)
        record = store.step(plan.name)
        executor.peak_rss_bytes = 0
        executor.progress.begin(plan.name)
        started = time.monotonic()
        try:
            STEPS[plan.name](context)
        except (ImagesError, StoreError):
            if plan.name in FIRST_READERS:
                # Nothing of these images counts yet: once repaired, they are not other images.
                store.manifest.images = {}
                store.step("ingest").state = "partial"
            raise
        finally:
            record.seconds += time.monotonic() - started
            peak = max(executor.peak_rss_bytes, peak_rss_bytes())
            record.counters["peak_rss_bytes"] = max(record.counters.get("peak_rss_bytes", 0), peak)
            store.save()
        if plan.name == "ingest":
            limit = worker_memory(config.compute, executor.client)
            check_memory(context.images, config, limit)
        store.finish(plan.name)
        executor.progress.finish(plan.name, record.seconds)
        log.info("%s", _told(plan.name, record.seconds, record.details))


def _told(name: str, seconds: float, details: dict[str, Any]) -> str:
    """Return one line about a step that is done."""
    parts = [
        f"{key.replace('_', ' ')} {value:.4g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in details.items()
        if isinstance(value, (int, float))
        or (isinstance(value, str) and len(value) <= LONGEST_TOLD)
    ]
    return f"{name}: {seconds:.1f} s" + (f" ({', '.join(parts)})" if parts else "")


def _tell(plans: list[StepPlan]) -> None:
    """Say what is stale and why, and what is gone on with."""
    for plan in plans:
        if plan.state == "stale":
            log.info("%s is stale: %s", plan.name, plan.reason)
    if any(plan.state in ("complete", "partial") for plan in plans):
        first = next((plan for plan in plans if plan.is_due), None)
        log.info("going on with %s", first.name) if first else log.info("all steps are complete")


def _adopt_images(store: RunStore, given: ImagesInput) -> None:
    """Note the images of a new run; refuse other ones under an old run."""
    known = store.manifest.images
    if not known:
        store.manifest.images = {"digest": given.digest, "path": given.name, **given.fingerprint}
        store.save()
        return
    if known["digest"] == given.digest:
        return
    differing = [key for key, value in given.fingerprint.items() if known.get(key) != value] or [
        "kind"
    ]
    msg = f"a run folder belongs to the images it was made from; {store.path} was made from {known['path']}, and {given.name} differs in {', '.join(differing)}. Give another --out."
    raise StoreError(msg)
