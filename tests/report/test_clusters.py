"""The section of sizes and certainty: its table, plots and words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.report.conftest import certainty_of
from workflow.report import ClustersByThreshold
from workflow.report.clusters import sizes_section
from workflow.report.figures import drawing_style


def section(data) -> str:
    with drawing_style():
        return sizes_section(data)


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of each row of the only table, head first, without the places of names."""
    text = re.sub(r'<span data-name-of="\d+"></span>', "", text)
    (table,) = re.findall(r"<table>.*</table>", text)
    return [re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row) for row in table.split("</tr>")[:-1]]


def test_table__says_of_each_cluster_what_is_known(make_report):
    data = make_report()
    certainty = data.certainty
    head, *rows = rows_of(section(data))
    assert head == [
        "cluster", "images", "share", "centroids", "persistence",
        "border", "nearest", "found again", "remark",
    ]  # fmt: skip
    assert [int(row[0]) for row in rows] == np.argsort(-data.cluster_size, kind="stable").tolist()
    for row in rows:
        cluster = int(row[0])
        assert int(row[1]) == data.cluster_size[cluster]
        assert int(row[3]) == np.count_nonzero(data.centroid_label == cluster)
        assert float(row[5]) == pytest.approx(certainty.border[cluster], abs=0.0051)
        assert int(row[6]) == certainty.nearest[cluster]
        assert float(row[7].rstrip(" %")) == pytest.approx(100 * certainty.recovery[cluster])
        assert row[8] == ("doubtful" if certainty.is_doubtful[cluster] else "")
    assert [row[8] for row in rows].count("doubtful") == 1


def test_table__without_certainty_has_no_empty_columns(make_report):
    text = section(make_report(certainty=None, cluster_persistence=None))
    assert rows_of(text)[0] == ["cluster", "images", "share", "centroids"]
    assert "Found again" not in text
    assert "redrawn" not in text


def test_table__untested_borders_are_left_out(make_report):
    n_clusters = len(make_report().cluster_size)
    untested = certainty_of(n_clusters, border=np.zeros(n_clusters))
    text = section(make_report(certainty=untested))
    head, *rows = rows_of(text)
    assert "border" not in head
    assert head[-3:] == ["nearest", "found again", "remark"]
    assert {len(row) for row in rows} == {len(head)}
    assert "Border:" not in text
    assert "weakest border" not in text


def test_table__a_single_cluster_has_no_neighbour(make_report):
    data = make_report()
    alone = certainty_of(1, nearest=np.array([-1], np.int32), border=np.ones(1))
    text = section(
        make_report(
            summary={**data.summary, "n_clusters": 1},
            cluster_size=np.array([440]),
            cluster_persistence=None,
            centroid_label=np.zeros(60, np.int32),
            certainty=alone,
        )
    )
    head, row = rows_of(text)
    assert row[head.index("nearest")] == "no other"
    assert "border" not in head
    assert "How sure each cluster is" not in text


def test_words__of_the_plots_give_their_numbers(make_report):
    text = section(make_report())
    assert "Number of clusters as rho rises: 2, 5, 5; 0.7 was used" in text
    assert "the same number from 0.7 to 0.9" in text
    assert "(shaded: around the one used)" in text
    assert "in 20 redrawn counts: 4 to 5; 5 were found" in text
    assert "1 of 5 clusters are doubtful" in text
    assert "(hollow: doubtful)" in text


def test_words__nothing_is_said_of_what_is_not_drawn(make_report):
    found = ClustersByThreshold(np.array([0.5, 0.7]), np.array([2, 5]), name="rho")
    sure = certainty_of(len(make_report().cluster_size))
    text = section(make_report(clusters_by_threshold=found, certainty=sure))
    assert "was used" not in text
    assert "shaded" not in text
    assert "hollow" not in text
    empty = replace(sure, resampled_n_clusters=np.empty(0, np.int64))
    assert "Clusters in redrawn counts" not in section(make_report(certainty=empty))


def test_section__without_clusters_there_is_none(make_report):
    summary = {**make_report().summary, "n_clusters": 0}
    nothing = make_report(
        summary=summary,
        cluster_size=np.empty(0, np.int64),
        cluster_persistence=None,
        certainty=None,
    )
    assert section(nothing) == ""
