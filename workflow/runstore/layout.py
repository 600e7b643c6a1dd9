"""Names of the folders and files of a run; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Version of everything a run folder holds; a change says in the changelog what must be run again.
FORMAT_VERSION = 1

#: The steps, in the order in which they run; module, config section, folder and test folder have these names.
STEPS = (
    "ingest",
    "pca",
    "projection",
    "overcluster",
    "centroid_graph",
    "tree",
    "labels",
    "report",
)

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
REPORT = "report.html"
IMAGES = "images.zarr"
LABELS = "labels.zarr"
MODEL = "model.zarr"
LOCK = ".lock"
#: Results that are not yet real.
WIP = "wip"


def step_folder(run: Path, step: str) -> Path:
    """Return where a step keeps its working files."""
    return run / step


def leaves(run: Path, step: str) -> list[Path]:
    """Return what a complete step has left, without which it is not complete."""
    model = run / MODEL / "zarr.json"
    return {
        "pca": [model, run / MODEL / "components"],
        "projection": [model, scores(run), kept_images(run)],
        "overcluster": [model, run / MODEL / "centroids", sample(run), nearest(run)],
        "centroid_graph": [model, run / MODEL / "graph_indptr"],
        "tree": [model, run / MODEL / "tree_label"],
        "labels": [run / LABELS / "zarr.json"],
        "report": [run / REPORT],
    }.get(step, [])


def scores(run: Path) -> Path:
    """Return the Zarr group of the scores."""
    return run / "projection" / "scores.zarr"


def sample(run: Path) -> Path:
    """Return the Zarr group of the rows that the centroids are fitted on."""
    return run / "overcluster" / "sample.zarr"


def nearest(run: Path) -> Path:
    """Return the Zarr group of each image's nearest centroids."""
    return run / "overcluster" / "nearest.zarr"


def kept_images(run: Path) -> Path:
    """Return the folder of the pictures kept for the report."""
    return run / "projection" / "kept"
