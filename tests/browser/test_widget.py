"""The page in the frame of a notebook: what is clicked reaches the model, what the model is told moves the page."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

import workflow.notebook
from tests.browser.conftest import rendered

SCRIPT = Path(workflow.notebook.__file__).with_name("widget.js")
#: A notebook in small: a model as Backbone has them, and a cell to show it in.
NOTEBOOK = """<!DOCTYPE html><meta charset="utf-8"><div id="cell"></div><script type="module">
const bytes = Uint8Array.from(atob("{page}"), (each) => each.charCodeAt(0));
const values = {{_page: new DataView(bytes.buffer), height: 600, selected: {selected}}}, heard = {{}};
window.saved = [];
window.model = {{
  get: (key) => values[key],
  set(key, value) {{
    if (JSON.stringify(values[key]) === JSON.stringify(value)) return;
    values[key] = value;
    for (const each of heard[`change:${{key}}`] || []) each();
  }},
  save_changes: () => saved.push(values.selected),
  on: (event, call) => (heard[event] ||= []).push(call),
  off: (event, call) => {{ heard[event] = heard[event].filter((each) => each !== call); }},
}};
const {{default: widget}} = await import("data:text/javascript;base64,{script}");
window.end = widget.render({{model, el: document.getElementById("cell")}});
</script>"""


def packed(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture
def notebook(open_page, plain):
    """Open a notebook with the page in a frame; return it and the frame."""

    def call(selected=None):
        page = rendered(plain).encode()
        text = NOTEBOOK.format(
            page=packed(page),
            script=packed(SCRIPT.read_bytes()),
            selected=json.dumps(selected or {}),
        )
        opened = open_page(text)
        return opened, opened.frame_locator("iframe")

    return call


def heading(frame, words):
    """Wait until the page shows something."""
    frame.locator(f"#panel h2:text('{words}')").wait_for()


def selected(page, expected):
    """Wait until the model knows of a selection."""
    page.wait_for_function(
        f"JSON.stringify(model.get('selected')) === {json.dumps(json.dumps(expected, separators=(',', ':')))}"
    )


def test_click__in_the_frame_reaches_the_model(notebook):
    page, frame = notebook()
    frame.locator("#panel tbody a:text-is('2')").click()
    selected(page, {"cluster": 2})
    heading(frame, "Cluster 2")
    frame.locator("#panel .tile").first.click()
    heading(frame, "Image")
    page.wait_for_function("'image' in model.get('selected')")
    assert page.evaluate("model.get('selected').image % 6") == 2
    frame.locator("#tab-tree").click()
    selected(page, {})
    frame.locator("#panel a:text('Layer 0, group 1')").click()
    selected(page, {"layer": 0, "group": 1})
    heading(frame, "Layer 0, group 1")
    assert page.evaluate("saved.at(-1)") == {"layer": 0, "group": 1}


def test_model__moves_the_page(notebook):
    page, frame = notebook({"cluster": 4})
    heading(frame, "Cluster 4")
    for told, words in [
        ({"image": 300}, "Image 300"),
        ({"layer": 0, "group": 1}, "Layer 0, group 1"),
        ({"family": 3}, "Family 3"),
        ({"region": [-4.5, -3, 8, 9.25]}, "Images in a rectangle"),
        ({"cluster": -1}, "Noise"),
    ]:
        page.evaluate(f"model.set('selected', {json.dumps(told)})")
        heading(frame, words)
        selected(page, told)
    # A notebook that moves the cell opens the page anew.
    page.evaluate("document.body.append(document.getElementById('cell'))")
    heading(frame, "Noise")
    selected(page, {"cluster": -1})
    page.evaluate("model.set('selected', {})")
    frame.locator("#panel tbody tr").nth(5).wait_for()
    page.evaluate("model.set('height', 450)")
    assert page.locator("iframe").bounding_box()["height"] == 450


def test_frame__is_apart_from_the_notebook(notebook, open_page):
    page, frame = notebook({"cluster": 1})
    heading(frame, "Cluster 1")
    inside = page.frames[1]
    assert inside.evaluate("origin") == "null"
    # The policy of the page holds: no script but its own.
    inside.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert inside.evaluate("window.ran") is None
    assert "Content Security Policy" in open_page.errors.pop()
    # Others than the page and the notebook are not heard.
    page.evaluate("postMessage({overcluster: {cluster: 5}}, '*')")
    inside.evaluate("postMessage({overcluster: {cluster: 5}}, '*')")
    page.evaluate("end()")
    inside.evaluate("location.hash = '#cluster=3'")
    heading(frame, "Cluster 3")
    selected(page, {"cluster": 1})
