"""The families of a run beside its clusters: where each lies, images of some, and families as labels."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workflow.chunks import row_ranges
from workflow.errors import ConfigError
from workflow.overcluster import NearestCentroids
from workflow.runstore import layout, zarr_io
from workflow.steps.browsing.members import READ_ROWS
from workflow.steps.families import families_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from workflow.labels import CentroidLabels
    from workflow.report import FamilyTable
    from workflow.runstore import RunStore


def family_table(
    store: RunStore, of_centroids: NDArray[np.int32] | None = None
) -> FamilyTable | None:
    """Return the families of a run whose labels are complete; None where none were found.

    Their clusters are those of the labels, or of the nearest centroids where such are given.
    """
    if families_of(store) is None or not store.step("families").details["n_families"]:
        return None
    from workflow.report import FamilyTable

    names = ("size", "conductance", "expected", "dimension")
    known = store.read_model(*(f"family_{name}" for name in names))
    name = "label" if of_centroids is None else "centroid"
    members = ((f[f >= 0], label[f >= 0]) for _, f, label in _labels(store, name))
    if of_centroids is not None:
        members = ((family, of_centroids[centroid]) for family, centroid in members)
    cluster, n_there = _most_frequent(members, len(known[0]))
    # Ids that no family has are left out.
    number = np.argsort(-known[0], kind="stable")[: np.count_nonzero(known[0])]
    size, conductance, expected, dimension = (array[number] for array in known)
    share = n_there[number] / size
    return FamilyTable(number, size, conductance, expected, dimension, cluster[number], share)


def images_of_families(
    store: RunStore, numbers: Sequence[int], n_images: int
) -> list[NDArray[np.int64]]:
    """Return images of some families, evenly over the order of the images, at most so many of each."""
    rows: dict[int, list[NDArray[np.int64]]] = {number: [] for number in numbers}
    for start, family, _ in _labels(store, "label"):
        here = np.flatnonzero(np.isin(family, numbers))
        for one in np.unique(family[here]).tolist():
            rows[one].append(start + here[family[here] == one])
    members = [np.concatenate(found) for found in rows.values()]
    return [
        one[np.linspace(0, len(one) - 1, min(n_images, len(one))).astype(int)] for one in members
    ]


def family_labels(store: RunStore, clusters: CentroidLabels) -> CentroidLabels:
    """Return the labels of the centroids where the label of an image is its family.

    A centroid has the family of most of its images; resolved, that of most of
    those in one, or of the nearest centroid with one.
    """
    centroids, population = store.read_model("centroids", "population")
    place = families_of(store)
    if place is None or not store.step("families").details["n_families"]:
        state = store.step("families").details.get("families", "untested")
        msg = f"`labels.level=families` must have families to label images by; {store.path} has none (families: {state}). Set labels.level=clusters."
        raise ConfigError(msg)

    def families(*, lone: bool) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for rows in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
            nearest = zarr_io.read_rows(layout.nearest(store.path), "nearest", *rows)[:, 0]
            family = zarr_io.read_rows(place, "family", *rows)
            kept = family >= (-1 if lone else 0)
            yield nearest[kept], family[kept]

    label, n_there = _most_frequent(families(lone=True), len(centroids))
    resolved, n_known = _most_frequent(families(lone=False), len(centroids))
    known = np.flatnonzero(n_known)
    nearest, _ = NearestCentroids.build(centroids[known]).query(centroids, k=1)
    return replace(
        clusters,
        label=label,
        label_resolved=np.where(n_known > 0, resolved, resolved[known[nearest[:, 0]]]),
        membership=np.where(label >= 0, n_there / np.maximum(population, 1), 0).astype(np.float32),
    )


def _most_frequent(
    blocks: Iterable[tuple[NDArray[Any], NDArray[Any]]], n_groups: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the most frequent value of each group, of equals the lowest, and how often it is there.

    A block is the group of each image, and its value; a group without images has -1, 0 times.
    """
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for group, value in blocks:
        # Both in one number: sorting rows of pairs takes 50 times as long.
        both = (group.astype(np.int64) << 32) + (value + 1)
        found, times = np.unique(both, return_counts=True)
        pairs, place = np.unique(np.concatenate([pairs, found]), return_inverse=True)
        times = np.concatenate([counts, times])
        counts = np.bincount(place, times, minlength=len(pairs)).astype(np.int64)
    of, values = pairs >> 32, (pairs & (2**32 - 1)) - 1
    order = np.lexsort((-values, counts, of))
    last = order[np.flatnonzero(np.diff(of[order], append=n_groups))]
    best, n_best = np.full(n_groups, -1, np.int32), np.zeros(n_groups, np.int64)
    best[of[last]], n_best[of[last]] = values[last], counts[last]
    return best, n_best


def _labels(store: RunStore, name: str) -> Iterator[tuple[int, NDArray[Any], NDArray[Any]]]:
    """Yield the first row of each block, with family and another label of its images."""
    labels = store.path / layout.LABELS
    for rows in row_ranges(store.manifest.images["shape"][0], READ_ROWS):
        yield (
            rows.start,
            zarr_io.read_rows(labels, "family", *rows),
            zarr_io.read_rows(labels, name, *rows),
        )
