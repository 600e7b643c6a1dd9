"""The steps of the workflow, one module each, and the list of them: another step is a file and a line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.config import Config, LoadedConfig, config_model
from workflow.config import load_config as load_config_of
from workflow.steps.centroid_graph import CentroidGraphStep
from workflow.steps.families import FamiliesStep
from workflow.steps.ingest import IngestStep
from workflow.steps.labels import LabelsStep
from workflow.steps.map import MapStep
from workflow.steps.neighbors import NeighborsStep
from workflow.steps.overcluster import OverclusterStep
from workflow.steps.parts.drift import UpdateSettings
from workflow.steps.pca import PcaStep
from workflow.steps.projection import ProjectionStep
from workflow.steps.report import ReportStep
from workflow.steps.tree import TreeStep

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from workflow.engine.step import Step
    from workflow.schema import ArraySpec

__all__ = ["STEPS", "config_class", "get_ready", "load_config", "model_arrays"]

#: The steps in the order in which they run.
STEPS: list[Step] = [
    IngestStep(),
    PcaStep(),
    ProjectionStep(),
    NeighborsStep(),
    FamiliesStep(),
    OverclusterStep(),
    CentroidGraphStep(),
    MapStep(),
    TreeStep(),
    LabelsStep(),
    ReportStep(),
]


def config_class() -> type[Config]:
    """Return the model of all settings: a section for each step, and one for updates."""
    sections = {step.name: step.section for step in STEPS if step.section is not None}
    return config_model({**sections, "update": UpdateSettings})


def load_config(
    file: Path | str | None = None,
    assignments: Sequence[str] | Mapping[str, Any] = (),
    *,
    compute: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    environment: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Merge the settings of all steps from their sources; see `workflow.config.load_config`.

    Parameters
    ----------
    file, assignments, compute, options, environment : optional
        As `workflow.config.load_config` takes them.

    Returns
    -------
    LoadedConfig
        The settings and the origin of each.
    """
    return load_config_of(
        config_class(),
        file,
        assignments,
        compute=compute,
        options=options,
        environment=environment,
    )


def model_arrays() -> dict[str, ArraySpec]:
    """Return the arrays of ``model.zarr`` that have names of their own, in the order of the steps."""
    return {name: spec for step in STEPS for name, spec in step.arrays.items()}


def get_ready() -> None:
    """Do nothing: a worker that has called this has imported what its tasks need."""
