"""Which steps are done, and which must be done again because something they depend on changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.config import flatten
from workflow.engine.step import by_name
from workflow.runstore.manifest import RENAMED, digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workflow.config import Config
    from workflow.engine.step import Step
    from workflow.runstore import RunStore
#: A setting enters a key by its first name: that it was renamed makes nothing stale.
_FIRST_NAMES = {present: first for first, present in RENAMED.items()}


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What is known of a step before it runs.

    Attributes
    ----------
    step : Step
        The step.
    key : str
        Digest of all it depends on.
    settings : dict
        The settings it depends on.
    reads : dict of str to str
        The steps whose results it reads -> their keys.
    state : str
        ``absent``, ``partial``, ``complete`` or ``stale``.
    reason : str
        Why it is stale; empty otherwise.
    """

    step: Step
    key: str
    settings: dict[str, Any]
    reads: dict[str, str]
    state: str
    reason: str

    @property
    def name(self) -> str:
        """Name of the step."""
        return self.step.name

    @property
    def is_due(self) -> bool:
        """Whether the step has work to do."""
        return self.state != "complete"


def step_plans(steps: Sequence[Step], store: RunStore, config: Config) -> list[StepPlan]:
    """Compare what a run has with what a configuration asks for.

    Parameters
    ----------
    steps : sequence of Step
        All steps, in their order.
    store : RunStore
        The run; its images must be known.
    config : Config
        The settings.

    Returns
    -------
    list of StepPlan
        All steps in order.  A step is due where its own key changed, or a step
        that it reads is due.

    Notes
    -----
    The key of a step digests its version, its settings and the keys of the
    steps that it reads: what it does not read makes it not stale.
    """
    flat = flatten(config.model_dump(mode="json"))
    before_0_2 = _chained_keys(steps, store, flat)
    plans: dict[str, StepPlan] = {}
    for step in by_name(steps).values():
        content, settings = _own_content(step, store, flat)
        reads = {name: plans[name].key for name in step.reads}
        images = {} if reads else {"images": store.manifest.images.get("digest")}
        key = digest({**content, **images, "reads": reads})
        if store.step(step.name).key == before_0_2[step.name]:
            # As good as the other, and its journals bear it.
            key = before_0_2[step.name]
        state, reason = _state(step, store, key, settings, plans)
        plans[step.name] = StepPlan(step, key, settings, reads, state, reason)
    return list(plans.values())


def _own_content(
    step: Step, store: RunStore, flat: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a key digests of the step alone, and its settings."""
    settings = {key: flat[key] for key in step.settings}
    named = {
        _FIRST_NAMES.get(key, key): value
        for key, value in settings.items()
        if key not in step.later_settings or value != step.later_settings[key]
    }
    content = {"step": step.name, "version": step.version, "settings": named}
    return {**content, **step.more_key(store)}, settings


def _chained_keys(
    steps: Sequence[Step], store: RunStore, flat: Mapping[str, Any]
) -> dict[str, str]:
    """Return the keys that versions before 0.2 gave: each digested the key of the step before it."""
    before: Any = {"images": store.manifest.images.get("digest")}
    keys = {}
    for step in steps:
        content, _ = _own_content(step, store, flat)
        keys[step.name] = before = digest({**content, "before": before})
    return keys


def _state(
    step: Step,
    store: RunStore,
    key: str,
    settings: Mapping[str, Any],
    plans: Mapping[str, StepPlan],
) -> tuple[str, str]:
    """Return the state of one step, given the plans of those it reads, and why it is stale."""
    record = store.step(step.name)
    if record.state != "complete":
        return (record.state if record.key == key else "absent"), ""
    lost = [path.name for path in step.outputs(store.path) if not path.exists()]
    if lost:
        return "absent", f"{lost[0]} is gone"
    changed = [
        f"{setting} was {record.settings[setting]}, is {value}"
        for setting, value in settings.items()
        if setting in record.settings and record.settings[setting] != value
    ]
    due = [f"{name} is done again" for name in step.reads if plans[name].is_due]
    other = [
        f"{name} has another result"
        for name in step.reads
        if record.reads.get(name, plans[name].key) != plans[name].key
    ]
    version = ["another version made it"] if record.key != key else []
    reason = "; ".join(changed) or step.stale_reason(store) or "".join((due + other + version)[:1])
    return ("stale" if reason else "complete"), reason
