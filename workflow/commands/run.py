"""run: the whole workflow on some images; the same command again resumes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import open_given
from workflow.commands.forecast import describe_run, note_run, process_bytes
from workflow.config import flatten
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
from workflow.steps.tree import keep_or_undo_cut

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client

    from workflow.config import LoadedConfig
    from workflow.engine.progress import Progress
    from workflow.ingest import ImagesInput

__all__ = ["read_summary", "run_workflow"]


def run_workflow(
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
    config, begun = loaded.config, time.monotonic()
    told = [key for key, origin in loaded.origins.items() if origin != "default"]
    given = open_given(images, config)
    sizes = Sizes.of(steps.STEPS, given.source, config)
    check_settings(steps.STEPS, sizes)
    store = RunStore.create(out)
    with store.lock():
        _adopt_images(store, given)
        keep_or_undo_cut(store, told)
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
