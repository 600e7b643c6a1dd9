"""Which steps are done, and which must be done again because something they depend on changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflow.config import flatten
from workflow.runstore import layout
from workflow.runstore.layout import STEPS
from workflow.runstore.manifest import digest

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.config import Config
    from workflow.runstore import RunStore
    from workflow.runstore.manifest import Manifest

#: Settings that each step depends on, beside the step before it.
DEPENDS: dict[str, tuple[str, ...]] = {
    "ingest": ("block_rows", "ingest.shape", "ingest.dtype", "ingest.on_unreadable"),
    "pca": ("profile", "pca.n_components", "pca.max_full_features"),
    "projection": ("pca.whiten", "projection.dtype"),
    "overcluster": ("seed", "profile", "overcluster.n_centroids", "overcluster.max_rounds"),
    "centroid_graph": ("centroid_graph.dimension_rows",),
    "tree": (
        "profile",
        "tree.method",
        "tree.min_cluster_size",
        "tree.min_samples",
        "tree.flows",
        "tree.cluster_selection_method",
        "tree.n_resamples",
    ),
    "labels": ("labels.noise", "labels.max_outlier_score"),
    "report": ("report.n_clusters_shown", "report.images_per_cluster"),
}

#: Raised when a step's code changes what it computes, so that old results are not taken for new ones.
STEP_VERSIONS: dict[str, int] = dict.fromkeys(STEPS, 1) | {
    "overcluster": 2,
    "tree": 2,
    "labels": 2,
    "report": 2,
}


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What is known of a step before it runs.

    Attributes
    ----------
    name : str
        The step.
    key : str
        Digest of all it depends on.
    settings : dict
        The settings it depends on.
    state : str
        ``absent``, ``partial``, ``complete`` or ``stale``.
    reason : str
        Why it is stale; empty otherwise.
    """

    name: str
    key: str
    settings: dict[str, Any]
    state: str
    reason: str

    @property
    def is_due(self) -> bool:
        """Whether the step has work to do."""
        return self.state != "complete"


def step_plans(store: RunStore, config: Config) -> list[StepPlan]:
    """Compare what a run has with what a configuration asks for.

    Parameters
    ----------
    store : RunStore
        The run; its images must be known.
    config : Config
        The settings.

    Returns
    -------
    list of StepPlan
        All steps in order.  After one that is due, every later one is due.
    """
    manifest = store.manifest
    flat = flatten(config.model_dump(mode="json"))
    before: Any = {"images": manifest.images.get("digest")}
    plans: list[StepPlan] = []
    for name in STEPS:
        settings = {key: flat[key] for key in DEPENDS[name]}
        content = {"step": name, "version": STEP_VERSIONS[name], "settings": settings}
        if name == "pca":
            content["updates"] = [update["digest"] for update in manifest.updates]
        key = digest({**content, "before": before})
        lost = [p for p in layout.leaves(store.path, name) if not p.exists()]
        plans.append(_compare(manifest, name, key, settings, plans, lost))
        before = key
    return plans


def _compare(
    manifest: Manifest,
    name: str,
    key: str,
    settings: dict[str, Any],
    earlier: list[StepPlan],
    lost: list[Path],
) -> StepPlan:
    """Return the plan of one step, given those before it."""
    record = manifest.steps[name]
    due = [plan for plan in earlier if plan.is_due]
    changed = [
        f"{setting} was {record.settings[setting]}, is {value}"
        for setting, value in settings.items()
        if setting in record.settings and record.settings[setting] != value
    ]
    if record.state != "complete":
        same = record.key == key
        return StepPlan(name, key, settings, record.state if same else "absent", "")
    if lost:
        return StepPlan(name, key, settings, "absent", f"{lost[0].name} is gone")
    if changed:
        return StepPlan(name, key, settings, "stale", "; ".join(changed))
    if name == "tree" and manifest.cut:
        return StepPlan(name, key, settings, "stale", "it was recut, the configured cut comes back")
    if due:
        return StepPlan(name, key, settings, "stale", f"{due[0].name} is done again")
    if record.key != key:
        why = "the moments were updated" if manifest.updates else "another version made it"
        return StepPlan(name, key, settings, "stale", why)
    return StepPlan(name, key, settings, "complete", "")
