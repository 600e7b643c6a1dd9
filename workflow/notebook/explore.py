"""The page of a run in a notebook, and the images that are selected on it; out of core."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, StoreError
from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.members import READ_ROWS, inside, region_of
from workflow.steps.families import family_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from workflow.notebook.widget import Explorer
    from workflow.runstore import RunStore

#: What a selection is told by: one of the first four, or the other two.
KINDS = ("cluster", "family", "image", "region", "layer", "group")
#: What only a page with a map has.
MAP_MARK = b'id="explorer-data"'


def open_explorer(store: RunStore, height: int) -> Explorer:
    """Return the page of a run as a widget; see `Run.explore`."""
    file = store.path / layout.REPORT
    if not file.is_file():
        msg = f"the run must have a page; {store.path} has no {layout.REPORT}. `run.report()` writes it."
        raise StoreError(msg)
    page = file.read_bytes()
    if MAP_MARK not in page:
        msg = f"the page must have a map to be explored; that of {store.path} has none. Run it again with `map.enabled=true`."
        raise StoreError(msg)
    try:
        from workflow.notebook.widget import Explorer
    except ModuleNotFoundError as err:
        msg = f"`explore` needs anywidget; {err.name} is not installed. `pip install 'overcluster[notebook]'` brings it."
        raise ConfigError(msg) from None
    return Explorer(store, page, height=height)


def selected_rows(store: RunStore, selected: Mapping[str, Any]) -> NDArray[np.int64]:
    """Return all images of a cluster, a family, a group of a layer or a rectangle of the map, or one image.

    Parameters
    ----------
    store : RunStore
        A run whose labels are there.
    selected : mapping of str to int
        See `KINDS`; empty selects nothing. A region is left, bottom, right and top.

    Returns
    -------
    int64 array of shape (n_selected,)
        Rising.  Memory is that of a block and of what is returned.
    """
    n_samples = int(store.manifest.images["shape"][0])
    if not selected:
        return np.empty(0, np.int64)
    if "image" in selected:
        return np.array([row for row in [selected["image"]] if 0 <= row < n_samples], np.int64)
    array, value, groups = "label", selected.get("cluster"), None
    if "family" in selected:
        array, value = "family", selected["family"]
    elif "group" in selected:
        array, value = "centroid", selected["group"]
        groups = store.read_model("layers")[0][selected["layer"]]
    region = region_of(store, selected["region"]) if "region" in selected else None
    found = []
    for block in row_ranges(n_samples, READ_ROWS):
        if region is not None:
            found.append(inside(store, block, region) + block.start)
            continue
        own = zarr_io.read_rows(store.path / layout.LABELS, array, *block)
        if groups is not None:
            own = np.where(own >= 0, groups[own], -1)
        found.append(np.flatnonzero(own == value) + block.start)
    return np.concatenate(found)


def require_selectable(store: RunStore, selected: Mapping[str, Any]) -> None:
    """Refuse a selection of what a run does not have."""
    if (len(selected) > 1 and set(selected) != {"layer", "group"}) or not set(selected) <= set(
        KINDS
    ):
        msg = f"one of cluster, family, image and region, or layer and group, must be selected; got {', '.join(selected)}. Give one."
        raise ConfigError(msg)
    if "region" in selected:
        region_of(store, selected["region"])
        return
    layers = store.read_model("layers")[0]
    ends = {
        "cluster": len(read_summary(store)["cluster_sizes"]),
        "family": len(family_sizes(store)),
        "image": int(store.manifest.images["shape"][0]),
        "layer": len(layers),
    }
    if 0 <= selected.get("layer", -1) < len(layers):
        ends["group"] = int(layers[selected["layer"]].max(initial=-1)) + 1
    for kind, number in selected.items():
        least, end = (-1 if kind == "cluster" else 0), ends.get(kind, 0)
        if not least <= number < end:
            msg = f"`{kind}` must be {least} to {end - 1}; got {number} for {store.path}. The page tells what there is."
            raise ConfigError(msg)
