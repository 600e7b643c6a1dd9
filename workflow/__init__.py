"""Cluster very many images: Zarr, Dask, PCA, k-means overclustering, a tree of the centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names

if TYPE_CHECKING:
    from workflow.api import Run, run
    from workflow.errors import WorkflowError

__all__ = ["Run", "WorkflowError", "run"]

__getattr__ = late_names(
    __name__,
    {
        "Run": "workflow.api",
        "WorkflowError": "workflow.errors",
        "run": "workflow.api",
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
