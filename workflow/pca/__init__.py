"""Principal components from streamed moments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names
from workflow.pca._integer_sums import product_kernel
from workflow.pca.components import (
    AUTO_MAX_COMPONENTS,
    PrincipalComponents,
    fixed_signs,
    principal_components,
    variance_share,
)
from workflow.pca.image_statistics import ImageStatistics, image_statistics
from workflow.pca.moments import (
    DEFAULT_RANK,
    MAX_FULL_FEATURES,
    MomentKind,
    about_zero,
    block_moments,
    choose_kind,
    feature_shift,
    mean_and_scatter,
    merge_moments,
)
from workflow.pca.states import FloatMoments, IntegerMoments, LowRankMoments, MomentState
from workflow.pca.states import from_arrays as moments_from_arrays
from workflow.pca.states import to_arrays as moments_to_arrays

if TYPE_CHECKING:
    from workflow.pca.arrays import delayed_moments
    from workflow.pca.estimator import PCA

__all__ = [
    "AUTO_MAX_COMPONENTS",
    "DEFAULT_RANK",
    "MAX_FULL_FEATURES",
    "PCA",
    "FloatMoments",
    "ImageStatistics",
    "IntegerMoments",
    "LowRankMoments",
    "MomentKind",
    "MomentState",
    "PrincipalComponents",
    "about_zero",
    "block_moments",
    "choose_kind",
    "delayed_moments",
    "feature_shift",
    "fixed_signs",
    "image_statistics",
    "mean_and_scatter",
    "merge_moments",
    "moments_from_arrays",
    "moments_to_arrays",
    "principal_components",
    "product_kernel",
    "variance_share",
]

__getattr__ = late_names(
    __name__,
    {"PCA": "workflow.pca.estimator", "delayed_moments": "workflow.pca.arrays"},
)
