"""What one does on the page: look, zoom, hover, click, search, filter, sort, go through the tree, follow addresses."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from tests.browser.conftest import colour_of, made, rendered
from workflow.report import ColumnData, render

NASTY = '<img src=x onerror="document.title=1"><b>sky</b> & "sea"'
#: Digest of what the map shows.
PIXELS = """() => { const c = document.getElementById('map'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
let sum = 0; for (let i = 0; i < d.length; i++) sum = (sum * 31 + d[i]) % 4294967291; return sum; }"""
#: Where each picture of the panel leads, and the colour in its middle.
TILES = """() => [...document.querySelectorAll('#panel .tile canvas')].map(c => [c.parentElement.getAttribute('href'),
[...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3)])"""


def settled(page):
    """Wait for the next frame."""
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def pixels(page):
    settled(page)
    return page.evaluate(PIXELS)


def middle(page):
    box = page.locator("#map").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def heading(page):
    settled(page)
    return page.locator("#panel h2").inner_text().split("\n")[0]


@pytest.fixture
def page(open_page, plain):
    return open_page(plain)


def test_open__shows_map_answer_and_list(page):
    assert "6 clusters in 2,000 images" in page.inner_text("h1")
    assert page.locator("#still").count() == 0
    assert page.locator("#panel tbody tr").count() == 6
    assert "All 2,000 images are points" in page.inner_text("#shown")
    drawn = pixels(page)
    page.click("#zoom-in")
    assert pixels(page) != drawn
    page.click("#zoom-all")
    assert pixels(page) == drawn
    # The first screen holds the map.
    assert page.locator("#map").bounding_box()["y"] < 300


def test_map__wheel_drag_and_keys_move_it(page):
    drawn = pixels(page)
    x, y = middle(page)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -300)
    closer = pixels(page)
    assert closer != drawn
    page.mouse.down()
    page.mouse.move(x + 80, y + 40, steps=4)
    page.mouse.up()
    assert pixels(page) != closer
    assert page.evaluate("location.hash") == ""
    page.focus("#map")
    for key in ("+", "ArrowLeft", "ArrowDown", "-"):
        before = pixels(page)
        page.keyboard.press(key)
        assert pixels(page) != before, key
    page.keyboard.press("0")
    assert "image" in page.inner_text("#tip") or page.locator("#tip").is_hidden()


def test_hover__shows_the_very_image(page):
    for index in (100, 857):
        page.evaluate(f"location.hash = '#image={index}'")
        settled(page)
        page.mouse.move(0, 0)
        page.mouse.move(*middle(page))
        tip = page.inner_text("#tip")
        assert f"image {index}\n" in tip
        assert f'/photos/it\'s "{index}".png' in tip
        assert f"Cluster {index % 6}" in tip
        assert "strength 0." in tip
        shown = page.evaluate(
            "() => { const c = document.querySelector('#tip canvas'); return [...c.getContext('2d').getImageData(1, 1, 1, 1).data].slice(0, 3); }"
        )
        assert tuple(shown) == colour_of(index)


def test_click__opens_cluster_and_image(open_page):
    # Without pictures none lies over the point.
    page = open_page(made(pictures=False), "#image=1200")
    assert heading(page) == "Image 1200"
    page.mouse.click(*middle(page))
    assert page.evaluate("location.hash") == "#cluster=0"
    assert heading(page) == "Cluster 0"
    page.mouse.click(*middle(page))
    assert page.evaluate("location.hash") == "#image=1200"


def test_cluster__panel_tells_members_neighbours_families(page, plain):
    page.evaluate("location.hash = '#cluster=1'")
    words = page.inner_text("#panel")
    assert "doubtful" in words
    for said in ("334 (16.7 %)", "found again", "60 %", "weakest border", "7 images between"):
        assert said in words, said
    assert "Family 1" in words
    shown = plain.explorer
    own = np.flatnonzero(shown.cluster == 1)
    pictured = own[own < 900]
    strongest = pictured[np.lexsort((pictured, -np.rint(255 * shown.strength[pictured])))][:60]
    found = page.evaluate(TILES)
    assert [href for href, _ in found] == [f"#image={i}" for i in shown.index[strongest]]
    assert all(tuple(rgb) == colour_of(int(href.split("=")[1])) for href, rgb in found)
    page.click("#panel button:text('Weakest')")
    weakest = pictured[np.lexsort((pictured, np.rint(255 * shown.strength[pictured])))][:60]
    assert [href for href, _ in page.evaluate(TILES)] == [f"#image={i}" for i in weakest]
    page.click("#panel summary:text('As a table')")
    assert page.locator("#panel details tbody tr").count() == 100
    page.click("#panel details button:visible")
    assert page.locator("#panel details tbody tr").count() == 200


def test_filter__never_shows_another_picture(page, plain):
    page.click("summary:text('Filter')")
    page.fill("#strength", "0.6")
    said = page.inner_text("#said")
    strong = int(np.count_nonzero(np.rint(255 * plain.explorer.strength) >= 153))
    assert f"{strong:,} of 2,000 images" in said
    page.check("#doubtful")
    assert "1 of 6 clusters shown" in page.inner_text("#said")
    assert page.locator("#panel tbody tr").count() == 1
    page.evaluate("location.hash = '#cluster=1'")
    assert all(tuple(rgb) == colour_of(int(h.split("=")[1])) for h, rgb in page.evaluate(TILES))
    page.evaluate("location.hash = '#view=clusters'")
    page.click("#unfilter")
    assert page.inner_text("#said") == ""
    assert page.locator("#panel tbody tr").count() == 6
    page.fill("#least", "1000000")
    assert "0 of 6 clusters shown" in page.inner_text("#said")


def test_list__sorts_by_each_column(page):
    def numbers():
        return [
            int(text.split()[0]) for text in page.locator("#panel tbody th a").all_inner_texts()
        ]

    assert numbers() == [0, 1, 2, 3, 4, 5]
    page.click("#panel th button:text('cluster')")
    page.click("#panel th button:text('cluster')")
    assert numbers() == [5, 4, 3, 2, 1, 0]
    assert page.get_attribute("#panel thead th:first-child", "aria-sort") == "descending"
    page.click("#panel th button:text('found again')")
    assert numbers()[-1] == 1


def test_search__by_index_path_and_nothing(page):
    page.fill("#find", 'it\'s "77"')
    page.keyboard.press("Enter")
    assert heading(page) == "Image 77"
    page.fill("#find", "3")
    page.keyboard.press("Enter")
    found = page.locator("#panel li a").all_inner_texts()
    assert found[:2] == ["Cluster 3", "Image 3"]
    page.click("#panel li a >> nth=0")
    assert heading(page) == "Cluster 3"
    page.fill("#find", "no such thing")
    page.keyboard.press("Enter")
    assert "Nothing was found" in heading(page)


def test_tree__one_clicks_through_its_layers_and_back(page):
    page.click("#tab-tree")
    assert page.evaluate("location.hash") == "#view=tree"
    tops = page.locator("#panel > div > ul > li > a")
    assert tops.all_inner_texts() == ["Layer 0, group 0", "Layer 0, group 1"]
    page.click("#panel .opener >> nth=1")
    inside = page.locator("#panel .tree .tree a").all_inner_texts()
    assert inside == ["Cluster 3", "Cluster 4", "Cluster 5"]
    before = pixels(page)
    tops.nth(1).click()
    assert heading(page) == "Layer 0, group 1"
    assert page.input_value("#colour") == "0"
    assert pixels(page) != before
    page.click("#panel .tree a:text('Cluster 4')")
    assert heading(page) == "Cluster 4"
    page.go_back()
    assert heading(page) == "Layer 0, group 1"
    page.go_back()
    assert page.get_attribute("#tab-tree", "aria-current") == "true"
    page.go_forward()
    assert heading(page) == "Layer 0, group 1"


def test_colour__by_family_and_strength(page):
    seen = {pixels(page)}
    for value in ("family", "strength", "0"):
        page.select_option("#colour", value)
        seen.add(pixels(page))
    assert len(seen) == 4


def coloured():
    """A page with a column of words and one of numbers; every tenth image has neither."""
    plain = made()
    index = plain.explorer.index
    words = np.where(index % 10 == 9, -1, index % 9)
    numbers = np.where(index % 10 == 9, np.nan, index / 7).astype(np.float32)
    columns = (
        ColumnData(
            name=NASTY,
            values=words,
            categories=[f"site <i>{at}</i>" for at in range(9)],
            counts=[200] * 9,
            n_missing=200,
        ),
        ColumnData(name="exposure", values=numbers, n_missing=200, limits=[2.0, 250.0]),
    )
    return replace(plain, explorer=replace(plain.explorer, columns=columns))


def test_colour__by_columns_of_the_user_with_a_legend(open_page):
    page = open_page(coloured(), "#image=400")
    assert page.locator("#legend").is_hidden()
    seen = {pixels(page)}
    page.select_option("#colour", "column0")
    seen.add(pixels(page))
    legend = page.locator("#legend")
    assert NASTY in legend.inner_text()
    assert page.locator("#legend button").first.inner_text() == "site <i>0</i> (200)"
    assert "missing (200)" in legend.inner_text()
    # One alone, and all again.
    page.click("#legend button >> nth=8")
    assert page.get_attribute("#legend button >> nth=8", "aria-pressed") == "true"
    seen.add(pixels(page))
    page.click("#legend button >> nth=8")
    assert pixels(page) in seen
    page.mouse.move(*middle(page))
    assert f"{NASTY}: site <i>4</i>" in page.inner_text("#tip")
    words = page.inner_text("#panel")
    assert "site <i>4</i>" in words
    assert "57.14" in words
    page.select_option("#colour", "column1")
    seen.add(pixels(page))
    assert page.inner_text("#legend").split() == ["exposure", "2", "250", "missing", "(200)"]
    page.select_option("#colour", "strength")
    assert page.inner_text("#legend").split() == ["strength", "0", "1"]
    page.evaluate("location.hash = '#image=409'")
    settled(page)
    assert page.inner_text("#panel").count("missing") == 2
    assert len(seen) == 4


def test_region__holds_the_images_between_its_corners(open_page, plain):
    page = open_page(plain)
    x, y = middle(page)
    page.mouse.move(x - 150, y - 120)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(x + 90, y + 60, steps=4)
    page.mouse.up()
    page.keyboard.up("Shift")
    assert heading(page) == "Images in a rectangle"
    address = page.evaluate("location.hash")
    left, bottom, right, top = map(float, address.removeprefix("#region=").split(","))
    across, up = plain.explorer.places.T
    inside = (across >= left) & (across <= right) & (up >= bottom) & (up <= top)
    expected = plain.explorer.index[inside].tolist()
    assert 20 < len(expected) < 1900
    numbers = page.locator("#panel textarea").input_value()
    assert [int(number) for number in numbers.split(", ")] == expected
    assert f"{len(expected):,} images lie in it" in page.inner_text("#panel")
    assert f"members /data/run --region={address[8:]}" in page.inner_text("#panel")
    # The same from its address, from a button, and from the keyboard.
    assert heading(open_page(plain, address)) == "Images in a rectangle"
    page.keyboard.press("Escape")
    page.click("#select")
    page.mouse.move(x - 150, y - 120)
    page.mouse.down()
    page.mouse.move(x + 90, y + 60, steps=4)
    page.mouse.up()
    assert page.get_attribute("#select", "aria-pressed") == "false"
    settled(page)
    assert page.evaluate("location.hash") == address
    page.focus("#map")
    page.keyboard.press("s")
    settled(page)
    all_shown = page.locator("#panel textarea").input_value().count(",") + 1
    assert all_shown >= 1990


@pytest.mark.parametrize(
    ("where", "title"),
    [
        ("#cluster=4", "Cluster 4"),
        ("#cluster=-1", "Noise"),
        ("#image=345", "Image 345"),
        ("#family=3", "Family 3"),
    ],
)
def test_address__opens_what_it_names(open_page, plain, where, title):
    assert heading(open_page(plain, where)) == title


def test_address__of_nothing_says_so(open_page, plain):
    page = open_page(plain, "#cluster=66")
    assert "There is no cluster 66" in page.inner_text("#panel")
    page.evaluate("location.hash = '#image=99999'")
    settled(page)
    assert "overcluster open /data/run" in page.inner_text("#panel")


def test_keyboard__reaches_everything(page):
    page.focus("#map")
    page.keyboard.press("Enter")
    page.evaluate("location.hash = '#image=300'")
    settled(page)
    page.focus("#map")
    page.keyboard.press("+")
    assert "image 300" in page.inner_text("#tip")
    page.keyboard.press("Escape")
    settled(page)
    assert page.evaluate("location.hash") == "#view=clusters"
    reached = set()
    page.focus("#find")
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "document.activeElement.id || document.activeElement.getAttribute('href')"
            )
        )
    assert {"colour", "map", "zoom-in", "tab-tree", "#cluster=0", "#cluster=5"} <= reached
    page.focus("a[href='#cluster=5'] >> nth=-1")
    page.keyboard.press("Enter")
    assert heading(page) == "Cluster 5"


@pytest.mark.parametrize("width", [360, 1400, 2560])
def test_width__nothing_scrolls_sideways(open_page, plain, width):
    page = open_page(plain, viewport={"width": width, "height": 800}, has_touch=width < 400)
    for where in ("#view=clusters", "#view=tree", "#cluster=1", "#image=5", "#family=2"):
        page.evaluate(f"location.hash = '{where}'")
        settled(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, where
    if width < 400:
        page.click("#zoom-all")
        page.evaluate("location.hash = '#image=300'")
        settled(page)
        page.locator("#map").scroll_into_view_if_needed()
        page.touchscreen.tap(*middle(page))
        assert "image 300" in page.inner_text("#tip")


def test_names__with_html_are_text(open_page, plain):
    names = {"2": NASTY, "4": "harbour"}
    page = open_page(made(summary={**plain.summary, "cluster_names": names}))
    assert NASTY in page.inner_text("#panel")
    assert NASTY in page.text_content("main")
    page.fill("#find", "onerror")
    page.keyboard.press("Enter")
    assert heading(page) == f"Cluster 2 {NASTY}"
    page.fill("#find", "HARB")
    page.keyboard.press("Enter")
    assert heading(page) == "Cluster 4 harbour"
    assert page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert page.title() != "1"


def test_themes__each_is_drawn_in_its_colours(open_page, plain):
    page = open_page(plain, color_scheme="light")
    light = pixels(page)
    page.emulate_media(color_scheme="dark")
    assert pixels(page) != light


def test_many_clusters__the_page_stays_quick_and_small(open_page):
    data = made(48_000_000, 20_000, n_shown=65_536, families=False)
    numbers = np.random.default_rng(0).normal(size=65_536).astype(np.float32)
    columns = [ColumnData(name=f"c{at}", values=numbers, limits=[-2, 2]) for at in range(8)]
    data = replace(data, explorer=replace(data.explorer, columns=columns))
    text = render(data)
    assert len(text.encode()) < 15_000_000
    begun = time.monotonic()
    page = open_page(text)
    assert "20,000 of 20,000 clusters" in page.inner_text("#panel caption")
    assert page.locator("#panel tbody tr").count() == 100
    page.evaluate("location.hash = '#cluster=19999'")
    assert heading(page) == "Cluster 19999"
    page.evaluate("location.hash = '#view=tree'")
    settled(page)
    assert time.monotonic() - begun < 8
    assert "65,536 of 48,000,000 images are points" in page.inner_text("#shown")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"n_clusters": 1}, "1 of 1 clusters"),
        ({"n_clusters": 0, "families": False}, "0 of 0 clusters"),
        ({"pictures": False, "paths": False}, "6 of 6 clusters"),
        ({"n": 1, "n_clusters": 1, "families": False}, "1 of 1 clusters"),
    ],
    ids=["one", "none", "vectors", "single"],
)
def test_odd_runs__open_too(open_page, data, words):
    page = open_page(made(**data))
    assert words in page.inner_text("#panel caption")
    for where in ("#image=0", "#cluster=0", "#cluster=-1", "#view=tree"):
        page.evaluate(f"location.hash = '{where}'")
        settled(page)
    page.focus("#map")
    page.keyboard.press("+")


def test_without_script__the_picture_of_the_map_is_there(open_page, plain):
    page = open_page(plain, java_script_enabled=False)
    assert page.locator("#still svg").is_visible()
    assert page.locator("#explore").is_hidden()
    assert page.locator("#gallery").is_visible()


@pytest.fixture
def site(plain):
    """A small server with the interface of `open`, and what was sent to it."""
    sent: list[tuple[str, str | None, dict]] = []
    asked_of: list[str] = []
    text = rendered(plain).replace(
        "<head>", '<head><meta name="overcluster-server" content="edit">', 1
    )
    row = {"sample": 7, "path": "/photos/seven.png", "cluster": 1, "family": 2, "strength": 0.5, "outlier_score": 0.25}  # fmt: skip

    class Handler(BaseHTTPRequestHandler):
        def answer(self, body, kind="application/json", status=200):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            asked = urlsplit(self.path)
            words = parse_qs(asked.query)
            name = asked.path.removeprefix("/token/")
            if name == "":
                self.answer(text.encode(), "text/html; charset=utf-8")
            elif name == "api/members" and "region" in words:
                asked_of.append(words["region"][0])
                self.answer({"total": 1234, "rows": [row]})
            elif name == "api/members":
                offset = int(words["offset"][0])
                rows = [{**row, "sample": i} for i in range(offset, min(offset + 60, 100))]
                self.answer({"total": 100, "rows": rows})
            elif name.startswith("api/image/"):
                self.answer(b"<svg xmlns='http://www.w3.org/2000/svg' width='8' height='8'/>", "image/svg+xml")  # fmt: skip
            elif name.startswith("api/row/"):
                self.answer({**row, "sample": int(name.split("/")[-1])})
            elif name == "api/similar":
                self.answer({"of": 7, "neighbors": [{"sample": 8, "distance": 0.125}]})
            elif name == "api/find":
                self.answer({"rows": [row] if words["path"] == ["seven"] else []})
            else:
                self.answer(b"", status=204)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sent.append((self.path, self.headers["X-Overcluster"], body))
            if "merge" in self.path:
                self.answer({"error": "`clusters` must be two or more; got 1"}, status=400)
            else:
                self.answer({"changed": "words"})

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/token/", sent, asked_of
    server.shutdown()
    server.server_close()


def test_server__gives_members_similar_images_and_takes_edits(open_page, plain, site):
    address, sent, asked_of = site
    page = open_page(plain, site=f"{address}#cluster=1")
    page.locator("#panel .tile img").nth(59).wait_for()
    assert "60 of 100 images" in page.inner_text("#panel")
    page.click("#panel button:text('Show more')")
    page.locator("#panel .tile img").nth(99).wait_for()
    page.fill("#find", "seven")
    page.keyboard.press("Enter")
    page.locator("#panel h2:text('Image 7')").wait_for()
    page.locator("#panel a[href='#image=8']").wait_for()
    assert "/photos/seven.png" in page.inner_text("#panel")
    page.evaluate("location.hash = '#region=-1.5,2,3,4.25'")
    page.locator("#panel :text('1 of 1,234 images')").wait_for()
    assert asked_of == ["-1.5,2,3,4.25"]
    page.evaluate("location.hash = '#cluster=1'")
    page.fill("[aria-label='Name']", NASTY)
    with page.expect_navigation():
        page.click("#panel button:text('Name it')")
    page.fill("[aria-label='Cluster to merge with']", "3")
    page.click("#panel button:text('Merge with')")
    page.locator("#panel :text('must be two or more')").first.wait_for()
    with page.expect_navigation():
        page.click("#panel button:text('Split it')")
    page.evaluate("location.hash = '#view=clusters'")
    with page.expect_navigation():
        page.click("#panel button:text('Undo')")
    assert sent == [
        ("/token/api/name", "1", {"cluster": 1, "name": NASTY}),
        ("/token/api/merge", "1", {"clusters": [1, 3]}),
        ("/token/api/split", "1", {"cluster": 1}),
        ("/token/api/undo", "1", {}),
    ]
    # The browser itself remarks on the refusal.
    assert all(re.search("400", error) for error in open_page.errors)
    page.context.close()
    open_page.errors.clear()
