"""Rows and table of a summary, as the page and notebooks show them."""

from __future__ import annotations

import re

import pytest

from workflow.report.summary import summary_rows

#: A summary with every key that a run writes.
SUMMARY = {
    "n_samples": 70000,
    "n_clusters": 10,
    "noise_fraction": 0.0014,
    "n_centroids": 4666,
    "n_components": 50,
    "structure": "clusters",
    "seconds": {"ingest": 5.3, "tree": 29.7, "total": 52.8},
    "peak_rss_bytes": 781529088,
    "cluster_sizes": list(range(7000, 7010)),
    "images_per_centroid": 15.0,
    "variance_kept": 0.8967,
    "intrinsic_dimension": 10.4992,
    "tree_method": "contrast",
    "min_cluster_size": 75,
    "tree_reason": "clusters touch",
    "n_clusters_by_method": {"contrast": 10, "density": 3, "modularity": 11},
    "n_clusters_by_threshold": [[0.75, 8], [0.8, 10], [0.85, 10], [0.9, 11]],
    "n_clusters_interval": [9, 11],
    "n_resamples": 20,
    "doubtful_clusters": [0, 5],
    "plateau": [0.8, 0.85],
    "cut": "configured",
    "n_unreadable": 0,
    "duplicates": {"exact_groups": 1, "exact_images": 52, "near_cells": 0, "near_images": 0},
    "report": "/data/run/report.html",
}


def test_summary_rows__every_key_in_words():
    rows = dict(summary_rows(SUMMARY))
    assert rows == {
        "images": "70,000",
        "clusters": "10",
        "number of clusters, likely": "9 to 11",
        "thresholds of this number": "0.8 to 0.85",
        "clusters by other methods": "density finds 3, modularity 11",
        "doubtful clusters": "0 and 5",
        "duplicates": "51 images are exact copies of another one",
        "noise": "0.14 %",
        "centroids": "4,666",
        "principal components": "50",
        "variance kept": "89.7 %",
        "method": "contrast",
        "why this method": "clusters touch",
        "redrawn counts": "20",
        "minimum images of a cluster": "75",
        "intrinsic dimension": "10.4992",
        "memory of the largest process": "745 MiB",
        "time": "52.8 s",
        "images per centroid": "15",
        "report": "/data/run/report.html",
    }
    assert len(summary_rows(SUMMARY)) == len(rows)


@pytest.mark.parametrize("key", sorted(SUMMARY))
def test_summary_rows__any_key_may_be_missing(key):
    less = {name: value for name, value in SUMMARY.items() if name != key}
    # Names of methods, of doubtful clusters and plateaus hang on others as well.
    rows = summary_rows({**less, "n_clusters": 10})
    assert 15 <= len(rows) <= len(summary_rows(SUMMARY))


def test_summary_rows__of_another_cut():
    summary = {**SUMMARY, "cut": {"min_cluster_size": 900}, "n_clusters": 4, "n_unreadable": 3}
    for key in ("n_clusters_interval", "n_resamples", "doubtful_clusters", "plateau"):
        del summary[key]
    rows = dict(summary_rows(summary))
    assert rows["requested cut of the tree"] == "clusters of 900 images or more"
    assert rows["clusters by other methods"] == (
        "contrast by itself finds 10, density 3, modularity 11"
    )
    assert rows["files that could not be read"] == "3"
    assert "doubtful clusters" not in rows
    assert "thresholds of this number" not in rows


def test_summary_rows__nothing_raw():
    unknown = {
        "new_counts": {"a": 1, "b": 2.5},
        "deep": {"a": {"b": [1, 2]}},
        "table": [[1, 2], [3, 4]],
        "many": {str(i): i for i in range(50)},
        "long": list(range(50)),
    }
    rows = dict(summary_rows({**SUMMARY, **unknown}))
    assert rows["new counts"] == "a 1, b 2.5"
    assert not {"deep", "table", "many", "long"} & rows.keys()
    # What was not found out makes no row without words.
    empty = {
        "n_clusters_by_threshold": [],
        "n_clusters_by_method": {},
        "plateau": None,
        "n_clusters_interval": None,
    }
    assert all(words for _, words in summary_rows({**SUMMARY, **empty}))
    for words in rows.values():
        assert not re.search(r"[{}\[\]']", words), words
