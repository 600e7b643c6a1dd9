"""How many images got each label: counted by tasks, added, and kept in their journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from workflow.chunks import row_ranges
from workflow.engine.verify import rows_and_blocks
from workflow.runstore import layout, zarr_io

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from workflow.runstore import RunStore

#: Up to so many clusters a report lists the size of each; of more, only those that were met.
MAX_LISTED = 4096


class LabelCounts(NamedTuple):
    """How many images got each label.

    Attributes
    ----------
    n_noise : int
        Images with label -1.
    sizes : int64 array of shape (highest label + 1,)
        Images of each cluster.
    """

    n_noise: int
    sizes: NDArray[np.int64]

    @property
    def n_samples(self) -> int:
        """Number of images that were counted."""
        return self.n_noise + int(self.sizes.sum())

    @property
    def n_clusters(self) -> int:
        """Number of clusters with an image."""
        return int(np.count_nonzero(self.sizes))

    def report(self) -> dict[str, Any]:
        """Return the counts as a task reports them: sizes, or pairs of a label and its size."""
        sizes: list[Any] = self.sizes.tolist()
        if len(sizes) > MAX_LISTED:
            sizes = [[label, size] for label, size in enumerate(sizes) if size]
        return {"n_noise": self.n_noise, "sizes": sizes}

    def summary(self) -> dict[str, Any]:
        """Return the counts as the summary gives them; a number that no image has, as that of a cluster that is gone, has size 0."""
        return {
            "n_samples": self.n_samples,
            "n_clusters": self.n_clusters,
            "noise_fraction": self.n_noise / self.n_samples,
            "cluster_sizes": np.trim_zeros(self.sizes, "b").tolist(),
        }


def clusters_of(summary: Mapping[str, Any]) -> list[int]:
    """Return the numbers of the clusters that a summary tells of."""
    return [cluster for cluster, size in enumerate(summary["cluster_sizes"]) if size]


def count_labels(label: NDArray[np.int32]) -> LabelCounts:
    """Count labels."""
    sizes = np.bincount(label[label >= 0])
    return LabelCounts(int(np.count_nonzero(label < 0)), sizes.astype(np.int64))


def sum_counts(parts: Iterable[LabelCounts]) -> LabelCounts:
    """Add counts of disjoint images."""
    n_noise, total = 0, np.zeros(0, np.int64)
    for part in parts:
        n_noise += part.n_noise
        longer, shorter = sorted((total, part.sizes), key=len, reverse=True)
        total = longer.copy()
        total[: len(shorter)] += shorter
    return LabelCounts(n_noise, total)


def reported_counts(reports: Mapping[int, Mapping[str, Any]]) -> LabelCounts:
    """Return what all tasks have counted."""
    return sum_counts(_read_report(report) for report in reports.values())


def stored_counts(store: RunStore) -> LabelCounts:
    """Return the counts of the labels of a run.

    They are those in the journal; where that does not tell of every image, as
    that of an older version, the labels are read.
    """
    n_samples, block_rows = rows_and_blocks(store)
    reports = store.noted("labels", "blocks")
    if all("sizes" in report for report in reports.values()):
        counts = reported_counts(reports)
        if counts.n_samples == n_samples:
            return counts
    labels = store.path / layout.LABELS
    return sum_counts(
        count_labels(zarr_io.read_rows(labels, "label", *rows))
        for rows in row_ranges(n_samples, block_rows)
    )


def _read_report(report: Mapping[str, Any]) -> LabelCounts:
    """Return what a task has reported."""
    sizes = np.asarray(report["sizes"], dtype=np.int64)
    if sizes.ndim == 2:
        dense = np.zeros(int(sizes[:, 0].max(initial=-1)) + 1, np.int64)
        dense[sizes[:, 0]] = sizes[:, 1]
        sizes = dense
    return LabelCounts(int(report["n_noise"]), sizes)
