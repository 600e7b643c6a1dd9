"""How unlike those of a run the images of an update are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflow.commands.predict import LIKE_SHARE, is_more

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflow.steps.parts.drift import UpdateSettings


def drifted(found: Mapping[str, Any], settings: UpdateSettings) -> list[str]:
    """Return in what the images of an update have drifted.

    Parameters
    ----------
    found : mapping
        What `update` has found.
    settings : UpdateSettings
        From where on.

    Returns
    -------
    list of str
        Some of ``variance_kept``, ``far_out``, ``noise``, ``births``.
    """
    n, before = found["n_samples_new"], found["noise_fraction_before"]
    least = settings.min_variance_kept * found["variance_kept_before"]
    is_past = {
        "variance_kept": found["variance_kept_new"] < least,
        "far_out": is_more(found["n_far_out"] or 0, n, settings.max_far_out, LIKE_SHARE),
        "noise": is_more(found["n_noise_new"], n, before + settings.max_noise_rise, before),
        "births": found["n_born"] > settings.max_births * found["n_centroids_before"],
    }
    return [name for name, passed in is_past.items() if passed]


def describe_drift(found: Mapping[str, Any]) -> str:
    """Return how unlike the others the images of an update are, for a person; empty where they are not."""
    n = found["n_samples_new"]
    words = {
        "variance_kept": f"the components keep {found['variance_kept_new']:.1%} of their variance, {found['variance_kept_before']:.1%} of that of the others",
        "far_out": f"{(found['n_far_out'] or 0) / n:.1%} lie far out",
        "noise": f"{found['n_noise_new'] / n:.1%} are noise, {found['noise_fraction_before']:.1%} of the others before",
        "births": f"{found['n_born']:,} centroids were born beside {found['n_centroids_before']:,}",
    }
    if not found["drifted"]:
        return ""
    said = "; ".join(words[name] for name in found["drifted"])
    return f"The new images are unlike those of the run: {said}. `update RUN --refit-components` finds components and centroids of all images."
