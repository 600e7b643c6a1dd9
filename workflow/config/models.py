"""The settings of a run: those that belong to no step, and one section for each step."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field, create_model

from workflow.config.compute import ComputeSettings
from workflow.config.fields import AutoInt, Section

if TYPE_CHECKING:
    from collections.abc import Mapping

S = TypeVar("S", bound=Section)


class Config(Section):
    """All settings of one run; `config_model` adds a section for each step."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of every random draw."""
    profile: Literal["default", "reference"] = "default"
    """Our own steps, or the literal, slow way of dask-ml, scikit-learn and hdbscan."""
    block_rows: AutoInt = "auto"
    """Images of a block, the piece that a task holds; auto: by the width of the images."""
    compute: ComputeSettings = ComputeSettings()
    """Where the work runs."""

    def section(self, kind: type[S]) -> S:
        """Return the section of one step.

        Parameters
        ----------
        kind : type
            The model of the section, as the step declares it.

        Returns
        -------
        Section
            Its effective values.

        Raises
        ------
        LookupError
            If no step declares such a section.
        """
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, kind):
                return value
        msg = f"the settings must hold a section {kind.__name__}; no step declares it."
        raise LookupError(msg)


def config_model(sections: Mapping[str, type[Section]]) -> type[Config]:
    """Return the model of all settings.

    Parameters
    ----------
    sections : mapping of str to type
        Name of each step -> the model of its section.

    Returns
    -------
    type
        `Config` with a field for each section.
    """
    return _config_model(tuple(sections.items()))


@lru_cache(maxsize=8)
def _config_model(sections: tuple[tuple[str, type[Section]], ...]) -> type[Config]:
    """Make the model once for the same sections."""
    fields = {
        name: (kind, Field(default=kind(), description=(kind.__doc__ or "").strip()))
        for name, kind in sections
    }
    model: type[Config] = create_model("Config", __base__=Config, **fields)  # type: ignore[call-overload]
    return model
