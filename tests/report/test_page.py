"""The page as a whole: well-formed, self-contained, escaped, complete and repeatable."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from html.parser import HTMLParser

import matplotlib as mpl
import numpy as np
import pytest

from tests.browser.conftest import made
from tests.report.conftest import certainty_of
from workflow.report import ReportData, Sheet, cluster_sheet, render, run_html
from workflow.report.style import DARK, LIGHT

VOID = {"meta", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and gathers what a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pytest.fail(f"HTML does not close {tag} by a slash")

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "text", "tspan"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@pytest.fixture(scope="module")
def text(make_report):
    return render(make_report())


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_render__is_balanced_and_has_every_part(page, blob_tree):
    n_clusters = len(blob_tree.selected)
    assert f"{n_clusters} clusters in 440 images" in page.text
    assert page.count("img") == n_clusters + 2
    # Share bar, sizes, certainty, thresholds, resampled, tree, kept, spectrum, population, radius, time.
    assert page.count("svg") == 11
    for words in (
        "Please note",
        "2 files could not be read.",
        "agreement with the truth",
        "87.5 %",
        "Strongest outliers",
        "Every cluster",
        "1 min 1 s",
        "--set",
        "2.00 KiB",
        f"Likely {n_clusters - 1} to {n_clusters} clusters: the numbers found when the counts",
        "Method: contrast, because clusters touch. For comparison, density finds 3, hdbscan on",
        "Doubtful: cluster 1.",
        "29 images are exact copies of another one.",
        "overcluster duplicates /data/run",
        "nearest: cluster 2",
    ):
        assert words in page.text, words


def test_render__needs_nothing_from_outside(page, text):
    words = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=\s]+", "", text)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", words)
    assert page.count("script") == page.count("link") == page.count("iframe") == 0
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href"):
                assert value is not None
                assert value.startswith(("data:image/png;base64,", "#")), (tag, value[:40])
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#")


def test_render__ids_are_unique_and_every_reference_resolves(page, text):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) <= {
        pair for name in ids for pair in ((name, ""), ("", name))
    }


def test_render__escapes_everything(make_report):
    evil = "<script>alert('x')</script><img src=x onerror=\"y\">&amp;"
    data = make_report(
        title=evil,
        run_path=f"/runs/{evil}",
        settings={evil: (evil, evil)},
        versions={evil: evil},
        notes=[evil],
        truth={evil: evil},
        steps=[{"name": evil, "state": evil}],
        sheets=[Sheet(evil, evil, np.zeros((1, 2, 2), np.uint8))],
        summary={**make_report().summary, evil: evil, "structure": evil, "seconds": {evil: 1.0}},
    )
    page = Page(render(data))
    assert page.count("script") == 0
    assert page.count("img") == 1
    assert page.text.count("<script>alert('x')</script>") >= 12
    assert Page(run_html(data, "t")).count("script") == 0


@pytest.mark.parametrize("n_clusters", [1, 2, 3000])
def test_render__few_and_many_clusters(make_report, n_clusters):
    doubtful = tuple(range(1, n_clusters, 3))
    sizes = np.arange(n_clusters, 0, -1)
    summary = {
        **make_report().summary,
        "n_clusters": n_clusters,
        "n_samples": int(sizes.sum()),
        "doubtful_clusters": list(doubtful),
    }
    data = make_report(
        summary=summary,
        cluster_size=sizes,
        cluster_persistence=None,
        certainty=certainty_of(n_clusters, doubtful=doubtful),
        centroid_label=np.zeros(60, np.int32),
        tree=None,
        spectrum=np.empty(0),
        explained_variance_ratio=np.empty(0),
        sheets=(),
    )
    text = render(data)
    page = Page(text)
    assert len(text) < 3_000_000
    # Everything that is said of doubt counts the same clusters.
    cells = [attributes for tag, attributes in page.elements if tag == "td"]
    n_listed = min(n_clusters, 2000)
    assert len(cells) >= 7 * n_listed
    n_doubtful = sum(cluster < n_listed for cluster in doubtful)
    assert re.findall(r">doubtful</td>", text) == [">doubtful</td>"] * n_doubtful
    title = "The 2,000 largest of 3,000 clusters" if n_clusters > 2000 else "Every cluster"
    assert title in page.text
    more = f"34 and {len(doubtful) - 12:,} more." if len(doubtful) > 12 else ""
    assert more in page.text
    assert ("How sure each cluster is" in page.text) == (n_clusters > 1)


@pytest.mark.parametrize(
    ("structure", "n_clusters", "headline", "sentence"),
    [
        ("clusters", 2, "2 clusters in 9,000 images", "separate groups"),
        ("none", 1, "No separate clusters in 9,000 images", "No separate groups"),
        ("untested", 1, "Too few images to look for clusters: 9,000 images", "not the same as"),
        ("untested", 2, "2 clusters in 9,000 images", "not the same as"),
    ],
)
def test_render__says_what_structure_means(structure, n_clusters, headline, sentence):
    summary = {"n_samples": 9000, "n_clusters": n_clusters, "structure": structure}
    sizes = np.full(n_clusters, 100)
    data = ReportData(title="t", run_path="r", summary=summary, cluster_size=sizes)
    page = Page(render(data))
    assert headline in page.text
    assert sentence in page.text
    assert headline in Page(run_html(data, "t")).text


def test_render__least_data_and_single_centroid(make_report):
    least = ReportData(title="t", run_path="r", summary={"n_samples": 0, "n_clusters": 0})
    assert "0 clusters in 0 images" in Page(render(least)).text
    single = make_report(
        tree=None,
        population=np.array([440]),
        rms_radius=np.array([0.0]),
        centroid_label=np.array([0], np.int32),
        spectrum=np.zeros(4),
        explained_variance_ratio=np.zeros(2),
        total_variance=0.0,
        sheets=(),
        cluster_persistence=None,
        certainty=None,
        clusters_by_threshold=None,
    )
    page = Page(render(single))
    assert "how sure the clusters are" not in page.text
    assert "There are no pictures to show" in page.text
    assert "How the clusters part" not in page.text


def test_render__five_hundred_clusters_stay_small(make_report):
    rng = np.random.default_rng(0)
    sizes = np.sort(rng.integers(30, 10**6, 500))[::-1]
    noisy = rng.integers(0, 256, (50, 30, 48, 48, 3), dtype=np.uint8)
    data = make_report(
        summary={**make_report().summary, "n_clusters": 500, "n_samples": int(sizes.sum()) + 5},
        cluster_size=sizes,
        cluster_persistence=None,
        certainty=certainty_of(500, doubtful=tuple(range(0, 500, 2))),
        sheets=[cluster_sheet(c, int(sizes[c]), 10**9, noisy[c]) for c in range(50)],
    )
    text = render(data)
    page = Page(text)
    assert len(text.encode()) < 5_000_000
    assert page.count("img") == 50
    assert "The 50 largest of 500 clusters" in page.text
    assert "38 more clusters" in page.text
    # Noise does not compress: each sheet shows fewer images and says so.
    assert len(re.findall(r"[1-9]\d* of 30 examples, to keep the page small", page.text)) == 50


def test_render__same_text_again_and_from_threads(make_report, text):
    data = make_report()
    before = dict(mpl.rcParams)
    texts: list[str] = []
    threads = [threading.Thread(target=lambda: texts.append(render(data))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        texts.append(render(make_report()))
    assert texts == [text] * 3
    assert dict(mpl.rcParams) == before


def test_render__colours_are_variables_of_the_page(text):
    names = set(re.findall(r"var\(--([a-z-]+)\)", text))
    assert {"ink", "muted", "line", "accent"} <= names <= set(LIGHT)
    assert set(LIGHT) == set(DARK)
    assert "#01020" not in text
    assert "prefers-color-scheme:dark" in text


def test_render__every_picture_has_words(page):
    for tag, attributes in page.elements:
        if tag == "img":
            assert attributes["alt"]
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_style__text_has_enough_contrast(colours):
    for ink in ("ink", "muted"):
        for ground in ("ground", "card", "warn"):
            low, high = sorted(luminance(colours[name]) for name in (ink, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"summary": {"n_samples": 3}}, r"n_clusters'\] missing"),
        ({"cluster_size": np.array([1])}, "one entry per cluster"),
        ({"rms_radius": np.zeros(3)}, r"equally long; got lengths \[60, 3, 60\]"),
        ({"cluster_persistence": np.zeros(99)}, "equally long"),
        (
            {"certainty": certainty_of(3)},
            r"`is_doubtful` must be equally long; got lengths \[5, 3, 3",
        ),
    ],
)
def test_report_data__refuses_what_does_not_fit(make_report, changes, match):
    with pytest.raises(ValueError, match=match):
        make_report(**changes)


def test_sheet__refuses_other_shapes():
    with pytest.raises(ValueError, match=r"got shape \(3, 4\) for 'x'"):
        Sheet("x", "", np.zeros((3, 4)))


def test_render__paths_whose_bytes_are_no_text_of_the_locale(make_report):
    """Python keeps such bytes as surrogates: those of UTF-8 are read, others are marked."""
    under_ascii = "/data/\udcc3\udcbcbung"
    assert "/data/übung" in Page(render(make_report(run_path=under_ascii))).text
    page = render(make_report(run_path="/data/r\udcff1"))
    page.encode()
    assert "/data/r\ufffd1" in Page(page).text


def test_render__the_policy_allows_the_one_script(make_report):
    text = render(made())
    page = Page(text)
    (policy,) = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    script = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert len(script) == 1
    assert policy == (
        "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; connect-src 'self'"
    )
    # Data beside it is no script, and cannot end early.
    evil = made(summary={**made().summary, "cluster_names": {"0": "</script><script>alert(1)"}})
    assert render(evil).count("<script>") == 1
    assert render(made()) == text
