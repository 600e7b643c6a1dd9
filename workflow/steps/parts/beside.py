"""Coordinates of the images that lie with the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workflow.engine.segments import is_updated
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from pathlib import Path

    from workflow.runstore import RunStore
    from workflow.runstore.paths import Place

#: Coordinates of the images that lie with the labels, copied from those before or from the images.
BESIDE = {
    "path": "file of the image",
    "segment": "0, or the number of the update that brought the image",
}


def names_beside(group: Place | None) -> list[str]:
    """Return which coordinates of the images a group holds."""
    # A group at an address may not be listed.
    return (
        []
        if group is None
        else [name for name in BESIDE if zarr_io.node_kind(group / name) == "array"]
    )


def labels_beside(store: RunStore) -> Path | None:
    """Return the labels that a run has, where these hold coordinates which its images do not; None elsewhere."""
    labels = store.path / layout.LABELS
    return labels if is_updated(store) and names_beside(labels) else None
