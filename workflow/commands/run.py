"""run: the whole workflow on some images; the same command again resumes."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import client_for, kept_settings, open_given, settings_for
from workflow.commands.forecast import describe_run, note_run, process_bytes
from workflow.config import FROM_RUN, as_yaml, flatten
from workflow.engine.client import executor_for
from workflow.engine.context import Context
from workflow.engine.plan import Sizes, check_memory, check_settings, worker_memory
from workflow.engine.runner import log_plans, run_steps
from workflow.engine.staleness import step_plans
from workflow.engine.summary import read_summary, write_summary
from workflow.errors import StoreError
from workflow.runstore import RunStore, layout
from workflow.runstore.files import discard
from workflow.runstore.manifest import software_versions

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from workflow.config import LoadedConfig
    from workflow.engine.progress import Progress
    from workflow.ingest import ImagesInput

__all__ = ["describe_summary", "read_summary", "run_workflow"]

log = logging.getLogger(__name__)


def run_workflow(
    images: Any,
    out: Path | str,
    loaded: LoadedConfig,
    *,
    client: Client | None = None,
    fresh_settings: bool = False,
    progress: Progress | None = None,
) -> RunStore:
    """Do every step that a run lacks.

    A run folder keeps its settings: they win over the defaults, and what is
    given wins over them.

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
    fresh_settings : bool
        Whether the settings of the run folder are left aside.
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
    begun = time.monotonic()
    if not fresh_settings:
        loaded = settings_for(out, loaded)
    config = loaded.config
    given = open_given(images, config)
    client = client_for(given, client)
    sizes = Sizes.of(steps.STEPS, given.source, config)
    check_settings(steps.STEPS, sizes)
    store = RunStore.create(out)
    with store.lock():
        _adopt_images(store, given)
        _tell_settings(store, loaded)
        plans = step_plans(steps.STEPS, store, config)
        log_plans(plans)
        if progress is not None:
            progress.plan([(plan.name, plan.is_due) for plan in plans])
        store.manifest.config = flatten(config.model_dump(mode="json"))
        store.manifest.seed = config.seed
        store.manifest.versions = software_versions()
        store.save()
        if any(plan.is_due for plan in plans):
            if client is None and (config.compute.launcher == "local" or config.compute.is_batch):
                check_memory(steps.STEPS, given.source, config, worker_memory(config.compute))
            reads = [store.path, *([given.path] if given.path else [])]
            shared = store.path / layout.WIP / "shared"
            is_whole = all(plan.state == "absent" for plan in plans)
            is_noted = is_whole and client is None and config.compute.launcher == "local"
            held = {}
            with executor_for(shared, config, client, progress, reads=reads) as executor:
                # Part of the start, not of the first step: it takes each worker a second.
                executor.prepare(steps.get_ready)
                if is_noted and executor.client is not None:
                    held = process_bytes(executor.client)
                run_steps(Context(store, config, executor, given, steps.STEPS), plans)
            discard(store.path / layout.WIP)
            if held:
                worked = sum(store.step(step.name).seconds for step in steps.STEPS)
                start = time.monotonic() - begun - worked
                note_run(describe_run(store, sizes, given.digest, held, start))
        write_summary(steps.STEPS, store)
    return store


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


def _tell_settings(store: RunStore, loaded: LoadedConfig) -> None:
    """Say which settings of the run folder stay though they are no defaults, and which change."""
    before, now = kept_settings(store), flatten(loaded.config.model_dump(mode="json"))
    default = flatten(type(loaded.config)().model_dump(mode="json"))
    stay = [
        f"{key}={as_yaml(now[key])} (default {as_yaml(default[key])})"
        for key, origin in loaded.origins.items()
        if origin == FROM_RUN and now[key] != default[key]
    ]
    change = [
        f"{key} was {as_yaml(value)}, is {as_yaml(now[key])} ({loaded.origins[key]})"
        for key, value in before.items()
        if now[key] != value
    ]
    if stay:
        # A warning, since whoever calls from Python sees nothing less.
        log.warning(
            "the run folder keeps its settings: %s. --set KEY=VALUE changes one, --fresh-settings (fresh_settings=True) leaves them all aside.",
            ", ".join(stay),
        )
    if change:
        log.info("settings of the run folder change: %s", ", ".join(change))


def describe_summary(summary: dict[str, Any]) -> str:
    """Return a summary for a person."""
    structure = {
        "clusters": "",
        "none": " No structure was found: the images are one cluster.",
        "untested": " There are too few images to tell whether the clusters are real.",
    }[summary["structure"]]
    merged = summary.get("n_samples_merged", 0)
    unlabelled = (
        f" The {merged:,} images that `update` merged count in the components only and have no labels: `predict` gives them some."
        if merged
        else ""
    )
    noun = "cluster" if summary["n_clusters"] == 1 else "clusters"
    return (
        f"{summary['n_clusters']:,} {noun} in {summary['n_samples']:,} images, "
        f"{summary['noise_fraction']:.1%} noise, from {summary['n_centroids']:,} centroids "
        f"in {summary['seconds']['total']:.0f} s.{structure}{unlabelled}\n{summary['report']}"
    )
