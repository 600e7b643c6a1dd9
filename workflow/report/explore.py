"""What the script of the page works with: images on the map, clusters, families and the levels of the tree."""

from __future__ import annotations

import base64
import io
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from workflow.report.contact_sheets import shown_range, sprite_sheet
from workflow.report.figures import CLUSTER_COLOURS, NOISE_COLOUR, WORD_COLOURS
from workflow.report.map_plot import colour_numbers, density, group_middles, map_limits
from workflow.report.sentences import PROGRAM, label_noun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from workflow.report.data import ReportData
    from workflow.report.map_plot import ColumnData

#: Bytes of the picture that holds all thumbnails, and of the file names of images.
SPRITE_BYTES, PATHS_BYTES = 4_400_000, 1_500_000
#: Families that are listed, the largest.
MAX_FAMILIES = 5_000
#: Places are whole numbers up to this.
SIDE = 65_535
#: Shades of the density, and colours on the ramp of amounts.
N_SHADES, N_RAMP = 32, 16


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """Images that the map of the page shows one by one; arrays of shape (n_shown,) unless said.

    Attributes
    ----------
    index : int64 array
        The images.
    places : float32 array of shape (n_shown, 2)
        Where they lie on the map.
    cluster, centroid : int32 arrays
        Cluster of each, -1 for noise, and nearest centroid.
    strength, outlier_score : float32 arrays
        From 0 to 1.
    family : int32 array or None
        Family of each, -1 for none.
    path : sequence of str or None
        File names.
    pictures : array of shape (n_pictures, height, width[, channels]) or None
        The first of the images, the most important first.
    layers : int32 array of shape (n_layers, n_centroids)
        Nested cuts of the tree, coarse to fine.
    neighbors : int32 array of shape (n_ids, k)
        Clusters with the most images between, the nearest first; -1 where there are fewer.
    flow : int64 array of shape (n_ids, k) [images]
        How many lie between.
    columns : sequence of ColumnData
        Columns of the user's, with the values of these images.
    """

    index: NDArray[np.int64]
    places: NDArray[np.float32]
    cluster: NDArray[np.int32]
    centroid: NDArray[np.int32]
    strength: NDArray[np.float32]
    outlier_score: NDArray[np.float32]
    family: NDArray[np.int32] | None
    path: Sequence[str] | None
    pictures: NDArray[Any] | None
    layers: NDArray[np.int32]
    neighbors: NDArray[np.int32]
    flow: NDArray[np.int64]
    columns: Sequence[ColumnData] = ()


def cluster_colours(data: ReportData) -> NDArray[np.intp]:
    """Return the number of the colour of each cluster: as the map has them, or nothing without one."""
    if data.map is None or not data.map.has_groups:
        return np.empty(0, np.intp)
    return colour_numbers(data.map.places, data.map.values, len(data.cluster_size))


def explorer_values(data: ReportData, colours: NDArray[np.intp]) -> dict[str, Any]:
    """Return all that the script needs, ready to be written as JSON; given the colours of the clusters."""
    shown, found = data.explorer, data.map
    assert shown is not None
    assert found is not None
    scale = _Scale.of(found.places, shown.places)
    across, up = scale.whole(shown.places)
    columns = [_column(column) for column in shown.columns]
    pictures: dict[str, Any] | None = None
    if shown.pictures is not None and len(shown.pictures):
        limits = data.value_range or shown_range([shown.pictures])
        n_bytes = SPRITE_BYTES - sum(column.values.nbytes for column in shown.columns)
        sprite = sprite_sheet(shown.pictures, n_bytes, value_range=limits)
        pictures = {**sprite._asdict(), "png": _data_url(sprite.png)}
    return {
        "noun": label_noun(data.summary),
        "n_samples": data.summary["n_samples"],
        "n_drawn": len(found.places),
        "command": f"{PROGRAM} open {shlex.quote(data.run_path)}",
        "list_command": f"{PROGRAM} members {shlex.quote(data.run_path)}",
        "place": {"left": scale.left, "top": scale.top, "step": scale.step},
        "palette": [*CLUSTER_COLOURS],
        "grey": NOISE_COLOUR,
        "words": [*WORD_COLOURS],
        "ramp": [to_hex(colour) for colour in colormaps["cividis"](np.linspace(0, 1, N_RAMP))],
        "density": _density(found.places, scale),
        "points": {
            "index": packed(shown.index),
            "x": packed(across),
            "y": packed(up),
            "cluster": packed(shown.cluster),
            "centroid": packed(shown.centroid),
            "strength": packed(_bytes(shown.strength)),
            "outlier": packed(_bytes(shown.outlier_score)),
            "family": None if shown.family is None else packed(shown.family),
        },
        "columns": columns,
        "paths": None if shown.path is None else _paths(shown.path),
        "sprite": pictures,
        "clusters": _clusters(data, scale) | {"colour": packed(colours)},
        "families": _families(data),
        "levels": _levels(data),
    }


def packed(values: NDArray[Any]) -> dict[str, str]:
    """Return numbers as the script unpacks them: of whole ones the smallest type that holds all, and the bytes.

    Parameters
    ----------
    values : int or float array
        Whole numbers of at most 32 bits; others become float32.

    Returns
    -------
    dict
        ``type``, such as ``"u2"``, and ``bytes`` in base64, the lowest first.

    Examples
    --------
    >>> packed(np.array([1, 300])), packed(np.array([-1, 3]))
    ({'type': 'u2', 'bytes': 'AQAsAQ=='}, {'type': 'i1', 'bytes': '/wM='})
    """
    name = "f4"
    if values.dtype.kind != "f":
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        names = ("i1", "i2", "i4") if low < 0 else ("u1", "u2", "u4")
        name = next(n for n in names if np.iinfo(n).min <= low and high <= np.iinfo(n).max)
    content = np.ascontiguousarray(values, dtype=f"<{name}").tobytes()
    return {"type": name, "bytes": base64.b64encode(content).decode("ascii")}


@dataclass(frozen=True)
class _Scale:
    """Turns places into whole numbers, up turned down as on a screen."""

    left: float
    top: float
    step: float

    @classmethod
    def of(cls, *places: NDArray[Any]) -> _Scale:
        """Return a scale that holds all places and the corners of the map."""
        corners = np.concatenate([np.array(map_limits(places[0])), *places])
        low, high = corners.min(axis=0), corners.max(axis=0)
        return cls(float(low[0]), float(high[1]), max(float((high - low).max()), 1e-9) / SIDE)

    def whole(self, places: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places across and down."""
        wide = places.astype(np.float64)
        across, down = (wide[:, 0] - self.left) / self.step, (self.top - wide[:, 1]) / self.step
        return tuple(np.clip(np.rint(axis), 0, SIDE).astype(np.int64) for axis in (across, down))  # type: ignore[return-value]


def _column(column: ColumnData) -> dict[str, Any]:
    """Return a column of the user's."""
    return {
        "name": column.name,
        "values": packed(column.values),
        "categories": None if column.categories is None else [*column.categories],
        "counts": [*column.counts],
        "missing": column.n_missing,
        "limits": [*column.limits],
    }


def _bytes(share: NDArray[Any]) -> NDArray[np.uint8]:
    """Return shares as 0 to 255."""
    return np.asarray(np.rint(255 * np.clip(np.nan_to_num(share), 0, 1)), np.uint8)


def _data_url(png: bytes) -> str:
    """Return a picture as an address that holds it."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _density(places: NDArray[Any], scale: _Scale) -> dict[str, Any]:
    """Return a picture of where images are, and the corners it lies between."""
    low, high = map_limits(places)
    inside = ((places >= low) & (places <= high)).all(axis=1)
    _, opacity, far = density(places[inside], low, high)
    shades = (np.ceil(opacity[::-1] * (N_SHADES - 1)) * (255 // (N_SHADES - 1))).astype(np.uint8)
    # One grey in both the light and the dark page.
    pixels = np.stack([np.full_like(shades, 138), shades], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    (left, right), (bottom, top) = scale.whole(np.array([low, far]))
    return {
        "png": _data_url(buffer.getvalue()),
        "box": [int(edge) for edge in (left, top, right, bottom)],
    }


def _paths(paths: Sequence[str]) -> dict[str, Any]:
    """Return as many of the file names as there is room for, without what they have in common."""
    readable = [p.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for p in paths]
    # Characters, and not whole folders, as the names are numbered for the most part.
    start = os.path.commonprefix(readable)  # noqa: RUF071
    left, kept = PATHS_BYTES, []
    for path in readable:
        left -= len(path) - len(start) + 4
        if left < 0:
            break
        kept.append(path[len(start) :])
    return {"start": start, "rest": kept}


def _clusters(data: ReportData, scale: _Scale) -> dict[str, Any]:
    """Return what is known of each cluster."""
    shown, found, certainty = data.explorer, data.map, data.certainty
    assert shown is not None
    assert found is not None
    n_clusters = len(data.cluster_size)
    # The middles of all images at hand, not only of those shown.
    values, places = found.values, found.places
    middle = np.full((n_clusters, 2), -1, np.int64)
    groups, number = np.unique(values, return_inverse=True)
    is_group = (groups >= 0) & (groups < n_clusters)
    middles = group_middles(places, number, len(groups))
    middle[groups[is_group]] = np.column_stack(scale.whole(middles[is_group]))
    own = shown.cluster >= 0
    count = np.bincount(shown.cluster[own], minlength=n_clusters)
    total = np.bincount(shown.cluster[own], shown.strength[own], n_clusters)
    mean = np.where(count > 0, _bytes(total / np.maximum(count, 1)).astype(np.int64), -1)
    known: dict[str, Any] = {
        "size": packed(data.cluster_size),
        "x": packed(middle[:, 0]),
        "y": packed(middle[:, 1]),
        "strength": packed(mean),
        "neighbors": packed(shown.neighbors.ravel()),
        "flow": packed(np.minimum(shown.flow, 2**31 - 1).ravel()),
        "n_neighbors": shown.neighbors.shape[1],
        "certainty": None,
    }
    if certainty is not None:
        known["certainty"] = {
            "found_again": packed(_bytes(np.nan_to_num(certainty.recovery))),
            "border": packed(_bytes(certainty.border)) if certainty.has_borders else None,
            "nearest": packed(certainty.nearest),
            "doubtful": packed(certainty.is_doubtful.astype(np.uint8)),
        }
    return known


def _families(data: ReportData) -> dict[str, Any] | None:
    """Return the families with the lowest numbers, by number; one that is gone has no images."""
    shown, table = data.explorer, data.families
    assert shown is not None
    if table is None or shown.family is None:
        return None
    n = min(int(table.number.max()) + 1, MAX_FAMILIES)
    is_listed = table.number < n
    listed = np.where(shown.family < n, shown.family, -1)

    def by_number(values: NDArray[Any]) -> dict[str, str]:
        found = np.zeros(n, values.dtype)
        found[table.number[is_listed]] = values[is_listed]
        return packed(found)

    return {
        "n": len(table.size),
        "size": by_number(table.size),
        "cluster": by_number(table.cluster),
        "share": by_number(_bytes(table.cluster_share)),
        "conductance": by_number(_bytes(table.conductance)),
        "colour": packed(colour_numbers(shown.places, listed, n)),
    }


def _levels(data: ReportData) -> list[dict[str, Any]]:
    """Return the layers of the tree and the labels of the run as levels, coarse to fine, each below the last."""
    shown = data.explorer
    assert shown is not None
    own = np.asarray(data.centroid_label)
    labels: list[tuple[int | None, NDArray[Any]]] = [
        (number, layer) for number, layer in enumerate(shown.layers) if not _is_same(layer, own)
    ]
    if label_noun(data.summary) == "cluster" and len(own):
        labels.append((None, own))
    # A stable order: of equal numbers the layer comes first.
    labels.sort(key=lambda level: int(level[1].max(initial=-1)))
    levels: list[dict[str, Any]] = []
    above: NDArray[Any] | None = None
    for number, label in labels:
        n = int(label.max(initial=-1)) + 1
        is_in = label >= 0
        size = np.bincount(label[is_in], data.population[is_in], n).astype(np.int64)
        parent = np.full(n, -1) if above is None else _parents(label, above, data.population, n)
        of_points = np.where(shown.centroid >= 0, label[shown.centroid], -1)
        is_own = number is None
        colour = np.zeros(0, np.intp) if is_own else colour_numbers(shown.places, of_points, n)
        levels.append(
            {
                "name": "clusters" if is_own else f"layer {number}",
                "layer": number,
                "is_clusters": is_own,
                "size": packed(data.cluster_size if is_own else size),
                "parent": packed(parent),
                "label": packed(label),
                "colour": packed(colour),
            }
        )
        above = label
    return levels


def _is_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two labellings divide alike, whatever the numbers."""
    pairs = len(np.unique(np.column_stack([one, other]), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def _parents(
    label: NDArray[Any], above: NDArray[Any], population: NDArray[Any], n: int
) -> NDArray[np.int64]:
    """Return the group above in which most images of each group are; -1 where there is none."""
    both = (label >= 0) & (above >= 0)
    parent = np.full(n, -1, np.int64)
    pairs, number = np.unique(
        np.column_stack([label[both], above[both]]), axis=0, return_inverse=True
    )
    images = np.bincount(number.ravel(), population[both], len(pairs))
    # The last of each group is the largest.
    for which in np.argsort(images, kind="stable"):
        parent[pairs[which, 0]] = pairs[which, 1]
    return parent
