"""What stands in a notebook: escaped, self-contained, small, and without effect on the rest of the notebook."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.report.test_page import Page
from workflow.report import CondensedTree, LiveRow, cluster_sheet, live_html, run_html
from workflow.report.notebook import unfinished_html

NASTY = '<script>alert("x")</script>'


def rules(text):
    """Return the selectors of all style sheets, also of those inside pictures."""
    sheets = re.findall(r"<style[^>]*>(.*?)</style>", text, flags=re.DOTALL)
    bodies = re.sub(r"\{[^}]*\}", ",", "".join(sheets))
    return [selector.strip() for selector in bodies.split(",") if selector.strip()]


def test_run_html__says_and_shows_what_the_report_does(make_report):
    data = make_report()
    text = run_html(data, "t0")
    page = Page(text)
    assert f"{data.summary['n_clusters']} clusters in 440 images" in page.text
    assert "2 files could not be read." in page.text
    assert "Cluster 0" in page.text
    for words in ("Likely 4 to 5 clusters", "fall into separate groups", "Doubtful: cluster 1."):
        assert words in page.text
    # The table above, and the folded one of all figures.
    assert "time 1 min 4 s" in page.text
    assert "memory of the largest process 3.00 GiB" in page.text
    assert page.count("img") == len(data.sheets)
    labels = [a["aria-label"] for tag, a in page.elements if tag == "svg"]
    assert len(labels) == 3
    assert any("Condensed tree" in label for label in labels)


def test_run_html__needs_nothing_and_touches_nothing_else(make_report):
    text = run_html(make_report(), "t0")
    page = Page(text)
    assert page.count("script") == page.count("link") == 0
    fetched = [v for _, a in page.elements for k, v in a.items() if k in ("src", "href")]
    assert all(v.startswith(("data:image/png", "#")) for v in fetched)
    assert all(selector.startswith(".overcluster") for selector in rules(text))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert all("t0" in name for name in ids)


def test_run_html__escapes(make_report):
    data = make_report(
        run_path=f"/data/{NASTY}",
        notes=[NASTY],
        summary={**make_report().summary, "structure": NASTY, "tree_reason": NASTY},
    )
    assert Page(run_html(data, "t")).count("script") == 0


def test_run_html__stays_small_with_many_clusters_and_a_large_tree(make_report):
    rng = np.random.default_rng(0)
    n, sizes = 4000, np.sort(rng.integers(50, 5000, 60))[::-1].astype(np.int64)
    # A comb: every inner node has a leaf of its own and the next node.
    inner = n + np.arange(n - 1)
    tree = CondensedTree(
        parent=np.repeat(inner, 2)[:-1],
        child=np.ravel(np.column_stack([np.arange(n - 1), inner + 1]))[:-1],
        lambda_val=np.sort(rng.uniform(0.1, 9, 2 * (n - 1) - 1)),
        child_size=np.full(2 * (n - 1) - 1, 100, dtype=np.int64),
        selected=inner[:60],
    )
    summary = {**make_report().summary, "n_clusters": 60}
    sheets = [
        cluster_sheet(c, 10, 440, rng.integers(0, 255, (48, 32, 32, 3)).astype(np.uint8))
        for c in range(12)
    ]
    data = make_report(
        tree=tree,
        summary=summary,
        cluster_size=sizes,
        cluster_persistence=None,
        certainty=None,
        sheets=sheets,
    )
    text = run_html(data, "t")
    assert len(text) < 500_000
    assert text.count("data:image/png") >= 12


def test_run_html__shows_what_there_is(make_report):
    least = make_report(
        summary={"n_samples": 440, "n_clusters": 0},
        cluster_size=np.empty(0, np.int64),
        cluster_persistence=None,
        certainty=None,
        tree=None,
        sheets=[],
    )
    assert "There are no pictures" in Page(run_html(least, "t")).text


def test_live_html__escapes_and_links_to_pages_only():
    rows = [LiveRow(NASTY, "running", 0.43, NASTY)]
    page = Page(live_html(NASTY, "running", NASTY, rows, link="http://127.0.0.1:8787/status"))
    assert page.count("script") == 0
    assert [a["href"] for tag, a in page.elements if tag == "a"] == ["http://127.0.0.1:8787/status"]
    assert any(a.get("style") == "width:43.0%" for _, a in page.elements)
    behind_a_hub = live_html("run", "running", "", rows, link="/user/ada/proxy/8787/status")
    assert Page(behind_a_hub).count("a") == 1
    assert Page(live_html("run", "running", "", rows, link="javascript:alert(1)")).count("a") == 0


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 7.0, -1.0])
def test_live_html__draws_any_share(share):
    text = live_html("run", "running", "", [LiveRow("pca", "running", share, "")])
    (width,) = re.findall(r'style="width:([\d.]+)%"', text)
    assert 0 <= float(width) <= 100


def test_unfinished_html__lists_the_steps():
    page = Page(unfinished_html(NASTY, ["go on"], [("pca", "partial")]))
    assert page.count("script") == 0
    assert "pca partial" in page.text
