"""The page of a run in a notebook: what is selected on it, as rows; against brute force."""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys

import numpy as np
import pytest

from tests.runs.helpers import make_run
from workflow import Run
from workflow.errors import ConfigError, StoreError

pytest.importorskip("anywidget", reason="pip install 'overcluster[notebook]'")

QUICK = {"tree.n_resamples": 0, "report.n_clusters_shown": 0}


@pytest.fixture(scope="module")
def made(client, tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("explore")
    np.save(folder / "images.npy", pictures[0][:2000])
    return make_run(folder / "images.npy", folder / "run", client, **QUICK).path


@pytest.fixture
def copied(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def chosen(run, selected):
    """Return which images a selection is of, by its words."""
    labels = run.dataset.load()
    by = {"cluster": "label", "family": "family"}
    if "layer" in selected:
        return run.model.layers.values[selected["layer"]][labels.centroid] == selected["group"]
    if "image" in selected:
        return labels.sample.values == selected["image"]
    if "region" in selected:
        left, bottom, right, top = selected["region"]
        x, y = labels["x"].values, labels["y"].values
        return (x >= left) & (x <= right) & (y >= bottom) & (y <= top)
    return np.all([labels[by[kind]] == number for kind, number in selected.items()], axis=0)


@pytest.mark.parametrize(
    "selected",
    [
        {"cluster": 0},
        {"cluster": -1},
        {"family": 1},
        {"image": 1234},
        {"layer": 0, "group": 1},
        {"region": [-20.5, -30, 15, 10]},
    ],
    ids="-".join,
)
def test_selection__has_all_images_whatever_the_blocks(made, selected, monkeypatch):
    run = Run(made)
    page = run.explore()
    # As the browser sends it.
    page.set_state({"selected": selected})
    expected = np.flatnonzero(chosen(run, selected))
    assert len(expected) or selected == {"cluster": -1}
    assert run.selection.dtype == np.int64
    np.testing.assert_array_equal(run.selection, expected)
    monkeypatch.setattr("workflow.notebook.explore.READ_ROWS", 97)
    np.testing.assert_array_equal(page.selection, expected)
    page.select()
    assert page.selected == {}
    assert run.selection.shape == (0,)


def test_select__tells_the_page_and_refuses_what_is_not_there(made):
    run = Run(made)
    page = run.explore(height=500)
    heard = []
    page.observe(lambda change: heard.append(change.new), "selected")
    page.select(cluster=np.int32(1))
    page.select(layer=0, group=1)
    page.select(region=(np.float32(-1.5), 0, 2, 3))
    assert heard == [{"cluster": 1}, {"layer": 0, "group": 1}, {"region": [-1.5, 0.0, 2.0, 3.0]}]
    assert json.loads(json.dumps(page.get_state("selected"))) == {"selected": heard[-1]}
    assert page.get_state(["height"]) == {"height": 500}
    for wrong, said in [
        ({"cluster": 999}, rf"`cluster` must be -1 to {run.n_clusters - 1}; got 999"),
        ({"image": 2000}, "`image` must be 0 to 1999; got 2000"),
        ({"family": -1}, "`family` must be 0 to"),
        ({"layer": 99, "group": 0}, "`layer` must be 0 to"),
        ({"layer": 0, "group": 999}, "`group` must be 0 to"),
        ({"region": (3, 1, 2, 4)}, "left, bottom, right and top of a rectangle"),
        ({"region": (3, 1)}, "left, bottom, right and top of a rectangle"),
        ({"cluster": 1, "family": 1}, "or layer and group"),
        ({"colour": 1}, "got colour"),
    ]:
        with pytest.raises(ConfigError, match=said):
            page.select(**wrong)
    assert page.selected == heard[-1]


def test_page__numbers_layers_as_the_run_does(made):
    text = (made / "report.html").read_text()
    found = re.search(r'id="explorer-data">(.*?)</script>', text, re.DOTALL)
    levels = json.loads(found[1])["levels"]
    stored = Run(made).model.layers.values
    of_layers = [level for level in levels if level["layer"] is not None]
    assert of_layers
    for level in of_layers:
        content, kind = base64.b64decode(level["label"]["bytes"]), level["label"]["type"]
        label = np.frombuffer(content, f"<{kind}")
        np.testing.assert_array_equal(label, stored[level["layer"]])


def test_selection__is_refused_once_the_labels_are_others(copied):
    run = Run(copied)
    with pytest.raises(ConfigError, match=r"Call `run\.explore\(\)` first"):
        _ = run.selection
    run.explore().select(cluster=0)
    before = run.selection
    run.merge([0, 1])
    with pytest.raises(StoreError, match=r"got others since\. Call `run\.explore\(\)` again"):
        _ = run.selection
    run.undo()
    np.testing.assert_array_equal(run.selection, before)
    run.name(0, "sky")
    np.testing.assert_array_equal(run.selection, before)


def test_explore__says_what_is_missing(copied, monkeypatch):
    run = Run(copied)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "anywidget", None)
        patch.delitem(sys.modules, "workflow.notebook.widget", raising=False)
        with pytest.raises(ConfigError, match=r"pip install 'overcluster\[notebook\]'"):
            run.explore()
    page = copied / "report.html"
    page.write_text("<p>No map.</p>")
    with pytest.raises(StoreError, match=r"Run it again with `map\.enabled=true`"):
        run.explore()
    page.unlink()
    with pytest.raises(StoreError, match=r"`run\.report\(\)` writes it"):
        run.explore()
