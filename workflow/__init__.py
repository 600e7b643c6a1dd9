"""Cluster very many images: Zarr, Dask, PCA, k-means overclustering, a tree of the centroids."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflow.errors import WorkflowError
    from workflow.pipeline.handle import Run, run

__all__ = ["Run", "WorkflowError", "run"]

_HOMES = {
    "Run": "workflow.pipeline.handle",
    "WorkflowError": "workflow.errors",
    "run": "workflow.pipeline.handle",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: workers import this package too, and need none."""
    if name not in _HOMES:
        msg = f"module 'workflow' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*globals(), *__all__])
