"""From where on the images of an update are unlike those of a run."""

from __future__ import annotations

from pydantic import Field

from workflow.config.fields import Section


class UpdateSettings(Section):
    """From where on the images of an update have drifted from those of the run, which is said; nothing else depends on it."""

    min_variance_kept: float = Field(default=0.9, ge=0, le=1)
    """Least share of the variance of new images that the components keep, relative to what they keep of the others."""
    max_far_out: float = Field(default=0.1, ge=0, le=1)
    """Largest share of new images that lie farther from their centroid than 99 % of the run's do."""
    max_noise_rise: float = Field(default=0.1, ge=0, le=1)
    """How much larger the share of noise among new images may be than among the others."""
    max_births: float = Field(default=0.1, ge=0)
    """Most centroids that are born, as a share of those there."""
