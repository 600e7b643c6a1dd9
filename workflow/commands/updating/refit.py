"""What was found of the first images of a run, found anew of all its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow import steps
from workflow.commands.updating.whole import AllImages, Whole
from workflow.engine.runner import run_steps
from workflow.engine.staleness import StepPlan
from workflow.errors import ConfigError
from workflow.ingest import ImagesInput
from workflow.steps.labels import LabelsStep
from workflow.steps.overcluster import ASSIGNED

if TYPE_CHECKING:
    from workflow.engine.step import Step
    from workflow.runstore import RunStore
    from workflow.runstore.zarr_io import ImageStore

#: Steps that are done anew, beside the labels; moments and components are those of all images already.
ANEW = (
    "projection",
    "neighbors",
    "families",
    "overcluster",
    "centroid_graph",
    "map",
    "tree",
)


class Refit(Whole):
    """A run that does not know yet which of its images came when."""

    __slots__ = ()

    def refit(self, images: ImageStore) -> None:
        """Do all steps behind the moments anew; ids, names and places on the map follow those of before."""
        store, n_samples = self.store, self.store.manifest.images["shape"][0]
        given = ImagesInput("all images", images, {})
        context = AllImages(store, self.config, self.executor, given, steps.STEPS)
        for step in steps.STEPS:
            if step.name in ANEW:
                run_steps(context, [_again(store, step)])
            if step.name == "families":
                # From here on neighbours and families are those of all images.
                store.manifest.images["n_searched"] = n_samples
        store.step("overcluster").details[ASSIGNED] = n_samples
        self.find_names_again()
        labels = LabelsStep()
        plan = _again(store, labels)
        store.begin(labels.name, plan.key, plan.settings, plan.reads, ())
        labels.label(context, "refit", is_update=True)
        store.finish(labels.name, labels.results(store.path))


def _again(store: RunStore, step: Step) -> StepPlan:
    """Return the plan of a step that is done as it was."""
    record = store.step(step.name)
    return StepPlan(step, record.key, record.settings, record.reads, "stale", "")


def require_images(store: RunStore, images: ImageStore | None) -> None:
    """Refuse a run whose images are gone.

    Raises
    ------
    ConfigError
        If they are, or others lie in their place.
    """
    if images is None:
        msg = f"`update --refit-components` must read all images of the run; some of those of {store.path} are gone, or others lie in their place. Put them back."
        raise ConfigError(msg)
