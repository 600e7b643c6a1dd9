"""Run the steps that are due, in their order, and record what becomes of each."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from workflow.engine.results import peak_rss_bytes
from workflow.engine.step import dependents
from workflow.engine.waiting import Waits
from workflow.errors import ImagesError, StoreError
from workflow.formatting import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflow.engine.context import Context
    from workflow.engine.staleness import StepPlan
    from workflow.runstore import RunStore

log = logging.getLogger(__name__)


def note_start(context: Context, seconds: float, *, is_resumed: bool) -> None:
    """Record and tell the time before the first step.

    Parameters
    ----------
    context : Context
        The run, locked; its workers are there.
    seconds : float
        What program and workers took to start [s].
    is_resumed : bool
        Whether a step goes on in its middle: then the starts add up, as the seconds of that step do.
    """
    store, client = context.store, context.executor.client
    store.manifest.start_seconds = seconds + (store.manifest.start_seconds if is_resumed else 0.0)
    store.save()
    context.executor.progress.finish("start", store.manifest.start_seconds)
    where = "in this process" if client is None else format_count(len(client.nthreads()), "worker")
    log.info("start: %.1f s, %s", seconds, where)


def run_steps(context: Context, plans: Sequence[StepPlan]) -> None:
    """Run the steps that are due.

    Parameters
    ----------
    context : Context
        The run, locked.
    plans : sequence of StepPlan
        All steps in their order, as `step_plans` found them.

    Raises
    ------
    WorkflowError
        Whatever a step refuses; what was finished stays, and the same call goes on from there.
    """
    for plan in plans:
        if plan.is_due:
            _run_step(context, plan)


def _run_step(context: Context, plan: StepPlan) -> None:
    """Run one step; record its time, memory and state, however it ends."""
    store, executor, step = context.store, context.executor, plan.step
    store.begin(
        step.name, plan.key, plan.settings, plan.reads, dependents(context.steps, step.name)
    )
    record = store.step(step.name)
    executor.peak_rss_bytes, executor.waits = 0, Waits()
    executor.progress.begin(step.name)
    started = time.monotonic()
    try:
        step.run(context)
    except (ImagesError, StoreError):
        if step.reads_images_first:
            _forget_images(context)
        raise
    finally:
        record.seconds += time.monotonic() - started
        peak = max(executor.peak_rss_bytes, peak_rss_bytes())
        record.counters["peak_rss_bytes"] = max(record.counters.get("peak_rss_bytes", 0), peak)
        for name, value in executor.waits.counters().items():
            record.counters[name] = record.counters.get(name, 0) + value
        store.save()
    store.finish(step.name, step.results(store.path))
    executor.progress.finish(step.name, record.seconds)
    known = {"step": step.name, "seconds": record.seconds}
    waiting, n_bytes = executor.waits.words, record.counters.get("bytes_read", 0)
    if waiting and n_bytes:
        waiting += f" ({n_bytes / 1e6 / record.seconds:,.0f} MB/s)"
    words = [f"{record.seconds:.1f} s", waiting, step.describe(store)]
    log.info("%s: %s", step.name, ", ".join(filter(None, words)), extra=known)


def _forget_images(context: Context) -> None:
    """Let the run take other images: nothing of these counts yet, and once repaired they differ."""
    context.store.manifest.images = {}
    for step in context.steps:
        if step.reads_images_first and context.store.step(step.name).state == "complete":
            context.store.step(step.name).state = "partial"


def log_plans(store: RunStore, plans: Sequence[StepPlan]) -> None:
    """Say where the run is, which steps are stale and why, and where it goes on."""
    log.info("run folder: %s", store.path)
    for plan in plans:
        if plan.state == "stale":
            log.info("%s is stale: %s", plan.name, plan.reason)
    if any(plan.state in ("complete", "partial") for plan in plans):
        first = next((plan for plan in plans if plan.is_due), None)
        log.info("going on with %s", first.name) if first else log.info("all steps are complete")
