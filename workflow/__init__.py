"""Cluster very many images: Zarr, Dask, PCA, k-means overclustering, a tree of the centroids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.late import late_names

if TYPE_CHECKING:
    from workflow.api import Run
    from workflow.commands.predict import Model
    from workflow.entry import embed, load_model, run
    from workflow.errors import WorkflowError
    from workflow.versions import __version__, show_versions

__all__ = [
    "Model",
    "Run",
    "WorkflowError",
    "__version__",
    "embed",
    "load_model",
    "run",
    "show_versions",
]

__getattr__ = late_names(
    __name__,
    {
        "Model": "workflow.commands.predict",
        "Run": "workflow.api",
        "WorkflowError": "workflow.errors",
        "__version__": "workflow.versions",
        "embed": "workflow.entry",
        "load_model": "workflow.entry",
        "run": "workflow.entry",
        "show_versions": "workflow.versions",
    },
)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
