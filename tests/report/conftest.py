"""Made data that a report is drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hdbscan import HDBSCAN
from sklearn.datasets import load_sample_images, make_blobs

from workflow.report import (
    Certainty,
    ClustersByThreshold,
    CondensedTree,
    ReportData,
    cluster_sheet,
    noise_sheet,
    outlier_sheet,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def certainty_of(n_clusters: int, doubtful: tuple[int, ...] = (), **changes: Any) -> Certainty:
    """Return what is known of clusters in a ring, the given ones doubtful."""
    recovery = np.full(n_clusters, 0.95)
    recovery[list(doubtful)] = 0.6
    fields = {
        "resampled_n_clusters": n_clusters - np.arange(20) // 16,
        "recovery": recovery,
        "border": np.linspace(0.2, 0.9, n_clusters),
        "nearest": ((np.arange(n_clusters) + 1) % n_clusters).astype(np.int32),
        "is_doubtful": recovery < 0.9,
    }
    return Certainty(**{**fields, **changes})


def windows(n: int, side: int = 16) -> np.ndarray:
    """Return square windows of a photograph."""
    photo = load_sample_images().images[0]
    rng = np.random.default_rng(n)
    rows = rng.integers(photo.shape[0] - side, size=n)
    columns = rng.integers(photo.shape[1] - side, size=n)
    return np.stack([photo[r : r + side, c : c + side] for r, c in zip(rows, columns, strict=True)])


@pytest.fixture(scope="session")
def blob_tree() -> CondensedTree:
    """HDBSCAN's own condensed tree of blobs, one image per point."""
    points, _ = make_blobs(400, 4, centers=5, cluster_std=0.7, random_state=3)
    points = np.r_[points, np.random.default_rng(0).uniform(-12, 12, (40, 4))]
    fitted = HDBSCAN(min_cluster_size=15).fit(points)
    records = fitted.condensed_tree_.to_numpy()
    return CondensedTree(
        parent=records["parent"].astype(np.int64),
        child=records["child"].astype(np.int64),
        lambda_val=records["lambda_val"],
        child_size=records["child_size"].astype(np.int64),
        selected=np.array(fitted.condensed_tree_._select_clusters(), dtype=np.int64),
    )


@pytest.fixture(scope="session")
def make_report(blob_tree: CondensedTree) -> Callable[..., ReportData]:
    """Return a maker of complete report data, any field of which can be replaced."""

    def make(**changes: Any) -> ReportData:
        n_clusters = len(blob_tree.selected)
        sizes = np.array([90, 80, 75, 70, 65, 60, 55][:n_clusters], dtype=np.int64)
        sheets = [
            cluster_sheet(c, int(size), 440, windows(8)) for c, size in enumerate(sizes.tolist())
        ]
        seconds = {"ingest": 2.5, "pca": 61.0, "tree": 0.02, "total": 63.52}
        rng = np.random.default_rng(1)
        fields: dict[str, Any] = {
            "title": "made data",
            "run_path": "/data/run",
            "summary": {
                "n_samples": 440,
                "n_clusters": n_clusters,
                "noise_fraction": 1 - sizes.sum() / 440,
                "n_centroids": 60,
                "n_components": 3,
                "structure": "clusters",
                "seconds": seconds,
                "peak_rss_bytes": 3 * 2**30,
                "min_cluster_size": 15,
                "cluster_sizes": sizes.tolist() * 9,
                "tree_method": "contrast",
                "tree_reason": "clusters touch",
                "n_clusters_by_method": {"contrast": n_clusters, "density": 3, "hdbscan": 9},
                "n_clusters_by_threshold": [[0.5, 2], [0.7, n_clusters], [0.9, n_clusters]],
                "plateau": [0.7, 0.9],
                "n_clusters_interval": [n_clusters - 1, n_clusters],
                "n_resamples": 20,
                "doubtful_clusters": [1],
                "duplicates": {"exact_groups": 2, "exact_images": 31},
                "cut": "configured",
            },
            "settings": {"seed": (0, "default"), "pca.n_components": (3, "--set")},
            "versions": {"numpy": "2.0"},
            "explained_variance_ratio": np.array([0.5, 0.2, 0.1]),
            "spectrum": np.array([5.0, 2.0, 1.0, 0.5, 0.0]),
            "total_variance": 8.5,
            "cluster_size": sizes,
            "cluster_persistence": np.linspace(0.9, 0.1, n_clusters),
            "population": rng.integers(1, 500, 60),
            "rms_radius": rng.uniform(1, 2, 60),
            "centroid_label": rng.integers(-1, n_clusters, 60).astype(np.int32),
            "tree": blob_tree,
            "clusters_by_threshold": ClustersByThreshold(
                np.array([0.5, 0.7, 0.9]), np.array([2, 5, 5]), 0.7, "rho", plateau=(0.7, 0.9)
            ),
            "certainty": certainty_of(n_clusters, doubtful=(1,)),
            "sheets": [
                *sheets,
                noise_sheet(30, 440, windows(5)),
                outlier_sheet(windows(4), np.array([0.9, 0.8, 0.7, 0.6])),
            ],
            "steps": [
                {"name": "pca", "state": "complete", "seconds": 61.0, "rows": 440},
                {"name": "tree", "state": "complete", "seconds": 0.02, "bytes_written": 2048},
            ],
            "notes": ["2 files could not be read."],
            "truth": {"ari": 0.93, "n_sources": 5, "noise_recall": 0.875},
        }
        return ReportData(**{**fields, **changes})

    return make
