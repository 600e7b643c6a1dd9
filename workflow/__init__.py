"""Cluster very many images: Zarr, Dask, PCA, k-means overclustering, a tree of the centroids."""

from workflow.errors import WorkflowError
from workflow.pipeline.handle import Run, run

__all__ = ["Run", "WorkflowError", "run"]
