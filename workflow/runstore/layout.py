"""Names of the folders and files of a run; no I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Version of everything a run folder holds; a change says in the changelog what must be run again.
FORMAT_VERSION = 1

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
REPORT = "report.html"
IMAGES = "images.zarr"
LABELS = "labels.zarr"
MODEL = "model.zarr"
NEIGHBORS = "neighbors.zarr"
FAMILIES = "families.zarr"
MAP = "map.zarr"
#: Columns of the user's own.
COLUMNS = "columns.zarr"
#: Hashes of the names of files that were forgotten.
FORGOTTEN = "forgotten.npz"
#: What each update keeps of its own.
SEGMENTS = "segments"
#: The run as it was before an update, in the folder of its segment.
BEFORE = "before"
LOCK = ".lock"
#: Results that are not yet real.
WIP = "wip"


def model_array(run: Path, name: str) -> Path:
    """Return where an array of the model is stored."""
    return run / MODEL / name


def step_folder(run: Path, step: str) -> Path:
    """Return where a step keeps its working files."""
    return run / step


def hashes(run: Path) -> Path:
    """Return the Zarr group of the hash of each image."""
    return run / "pca" / "hashes.zarr"


def statistics(run: Path) -> Path:
    """Return the Zarr group of brightness, contrast and sharpness of each image."""
    return run / "pca" / "statistics.zarr"


def scores(run: Path) -> Path:
    """Return the Zarr group of the scores."""
    return run / "projection" / "scores.zarr"


def sample(run: Path) -> Path:
    """Return the Zarr group of the rows that the centroids are fitted on."""
    return run / "overcluster" / "sample.zarr"


def nearest(run: Path) -> Path:
    """Return the Zarr group of each image's nearest centroids."""
    return run / "overcluster" / "nearest.zarr"


def previews(run: Path) -> Path:
    """Return the folder of the images that are kept for the report."""
    return run / "projection" / "kept"
