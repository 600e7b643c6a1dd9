"""run: the whole workflow on some images; the same command again resumes."""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workflow import steps
from workflow.commands.base import (
    client_for,
    executor_for_run,
    is_known,
    kept_settings,
    open_given,
    settings_for,
)
from workflow.commands.planning.forecast import describe_run, note_run, process_bytes
from workflow.commands.recut import recut
from workflow.config import FROM_RUN, as_yaml, flatten
from workflow.engine.context import Context
from workflow.engine.plan import Sizes, check_memory, check_settings, worker_memory
from workflow.engine.progress import Progress
from workflow.engine.runner import log_plans, note_start, run_steps
from workflow.engine.segments import is_updated
from workflow.engine.staleness import step_plans
from workflow.engine.summary import read_summary, write_summary
from workflow.engine.verify import block_checksums
from workflow.errors import ConfigError, StoreError
from workflow.ingest import may_be_same, remarks, same_values
from workflow.runstore import RunStore, layout, zarr_io
from workflow.runstore.files import discard
from workflow.runstore.kept import choose_folder
from workflow.steps.parts.ahead import compiled_ahead
from workflow.steps.report import tell_times
from workflow.steps.tree import tell_kept_cut, undo_cut
from workflow.versions import software_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from distributed import Client

    from workflow.config import LoadedConfig
    from workflow.ingest import ImagesInput

__all__ = ["default_out", "read_summary", "run_workflow"]

log = logging.getLogger(__name__)


def default_out(images: str) -> Path:
    """Return the run folder where none is given: in this folder, named after the images.

    Examples
    --------
    >>> str(default_out("photos/")), str(default_out("/data/images.h5::train/x"))
    ('photos-run', 'images-train-x-run')
    >>> str(default_out("photos/**/*.jpg")), str(default_out("@files.txt"))
    ('photos-run', 'files-run')
    >>> str(default_out("data/shards-{000..123}.tar"))
    'data-run'
    """
    path, _, part = images.removeprefix("@").partition("::")
    path = re.sub(r"(^|/)[^/]*[*?\[{].*", "", path)
    words = [Path(os.path.abspath(path)).stem, *part.split("/")]  # noqa: PTH100 - links keep their names
    return Path("-".join([*filter(None, words), "run"]))


def run_workflow(
    images: Any,
    out: Path | str,
    loaded: LoadedConfig,
    *,
    n_clusters: int | None = None,
    client: Client | None = None,
    fresh_settings: bool = False,
    progress: Progress | None = None,
    since_start: float = 0.0,
    before_page: Callable[[RunStore], None] | None = None,
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
    n_clusters : int, optional
        About how many clusters the finished tree is cut into, as `recut` does it; by default the
        cut is the configured one.
    client : distributed.Client, optional
        Where to run; opened from the settings by default.
    fresh_settings : bool
        Whether the settings of the run folder are left aside.
    progress : Progress, optional
        Where it is shown; stderr by default.
    since_start : float
        What the program has taken so far, which is part of the start [s].
    before_page : callable, optional
        Called with the run once it has labels, where its page is still to be written.

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
    told = [*loaded.given, *(["settings"] if fresh_settings else [])]
    choose_folder(loaded.config.compute.working_folder)
    if not fresh_settings:
        loaded = settings_for(out, loaded)
    config = loaded.config
    progress = progress or Progress()
    given = open_given(images, config)
    client = client_for(given, client)
    sizes = Sizes.of(steps.STEPS, given.source, config)
    check_settings(steps.STEPS, sizes)
    store = RunStore.create(out)
    with store.lock():
        _adopt_images(store, given)
        _tell_settings(store, loaded)
        for remark in remarks(given.source):
            log.warning("%s", remark)
        asked = {} if n_clusters is None else {"n_clusters": n_clusters}
        if not asked:
            undo_cut(store, told)
        plans = step_plans(steps.STEPS, store, config)
        log_plans(store, plans)
        if not asked:
            tell_kept_cut(store, plans)
        any_due = any(plan.is_due for plan in plans)
        if any_due and is_updated(store):
            due = next(plan for plan in plans if plan.is_due)
            reason = f" ({due.reason})" if due.reason else ""
            if due.name == "report":
                msg = f"the page of {store.path}, which was updated, must be written by `report`; it is {due.state}. Use `overcluster report`."
                raise ConfigError(msg)
            msg = f"a step must be done again of a run without updates only; in {store.path}, which was updated, {due.name} is {due.state}{reason}. Use `update --undo` first, or run all images in a new folder."
            raise ConfigError(msg)
        progress.plan([("start", any_due), *((plan.name, plan.is_due) for plan in plans)])
        store.manifest.config = flatten(config.model_dump(mode="json"))
        store.manifest.seed = config.seed
        store.manifest.versions = software_versions()
        store.save()
        if any_due:
            progress.begin("start")
            if client is None and (config.compute.launcher == "local" or config.compute.is_batch):
                check_memory(steps.STEPS, given.source, config, worker_memory(config.compute))
            reads = [store.path, *([given.path] if given.path else [])]
            shared = store.path / layout.WIP / "shared"
            is_whole = all(plan.state == "absent" for plan in plans)
            is_noted = is_whole and client is None and config.compute.launcher == "local"
            held = {}
            with (
                compiled_ahead(),
                executor_for_run(shared, given, config, client, progress, reads) as executor,
            ):
                # Part of the start, not of the first step: it takes each worker a second.
                executor.prepare(steps.get_ready)
                if is_noted and executor.client is not None:
                    held = process_bytes(executor.client)
                started = since_start + time.monotonic() - begun
                context = Context(store, config, executor, given, steps.STEPS)
                is_resumed = any(plan.state == "partial" for plan in plans)
                note_start(context, started, is_resumed=is_resumed)
                for plan in plans:
                    if plan.is_due and plan.name == "report" and before_page is not None:
                        before_page(store)
                    run_steps(context, [plan])
            discard(store.path / layout.WIP)
            tell_times(steps.STEPS, store)
            if held:
                worked = sum(store.step(step.name).seconds for step in steps.STEPS)
                start = time.monotonic() - begun - worked
                note_run(describe_run(store, sizes, given.digest, held, start))
        write_summary(steps.STEPS, store)
    if asked and store.manifest.cut.get("requested") != asked:
        compute_settings = {f"compute.{key}": value for key, value in config.compute}
        summary = recut(
            out,
            n_clusters=n_clusters,
            client=client,
            overrides=compute_settings,
            progress=progress,
        )
        n_configured = store.step("tree").details["n_clusters"]
        log.info(
            "cut: %s clusters as asked for, in place of %s", summary["n_clusters"], n_configured
        )
        return RunStore.open(out)
    return store


def _adopt_images(store: RunStore, given: ImagesInput) -> None:
    """Note the images of a new run; refuse other ones under an old run."""
    known = store.manifest.images
    if is_known(store, given):
        return
    if not known:
        store.manifest.images = {"digest": given.digest, "path": given.name, **given.fingerprint}
        store.save()
        return
    if may_be_same(known, given.fingerprint):
        log.info(
            "names or times of the images differ: comparing their values with those of the run"
        )
        expected = block_checksums(store, "pca/moments")
        compared = store.path / layout.WIP / "compared"
        if expected and same_values(
            given.source, known["shape"], known["dtype"], expected, compared
        ):
            known["same"] = [*known.get("same", []), given.digest]
            store.save()
            return
    differing = [key for key, value in given.fingerprint.items() if known.get(key) != value]
    msg = f"a run folder belongs to the images it was made from; {store.path} was made from {known['path']}, and {given.name} differs in {', '.join(differing) or 'kind'}. Give another --out{_or_update(known, given)}."
    raise StoreError(msg)


def _or_update(known: Mapping[str, Any], given: ImagesInput) -> str:
    """Return what else to do where the source of a run may have grown."""
    is_own = zarr_io.full_name(given.name) == zarr_io.full_name(known["path"])
    return ", or take in what the source has gained with `update RUN`" if is_own else ""


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
