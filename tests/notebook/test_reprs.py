"""A run in a notebook: what it shows whole, unfinished and damaged, and what it gives to work with."""

from __future__ import annotations

import shutil
import subprocess
import sys

import dask
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT
from tests.report.test_page import Page
from tests.runs.helpers import LEAN, SETTINGS, make_run
from workflow import Run
from workflow.commands.recut import recut
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.runstore import RunStore
from workflow.steps.tree import cut_by_hand, ids_of_clusters, shown_clusters, stored_tree


@pytest.fixture(scope="module")
def made(client, tmp_path_factory, pictures):
    folder = tmp_path_factory.mktemp("display")
    np.save(folder / "images.npy", pictures[0])
    return make_run(folder / "images.npy", folder / "run", client).path


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the run, to be damaged."""
    return shutil.copytree(made, tmp_path / "run")


@pytest.fixture(autouse=True)
def agg():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_repr__is_short_and_html_is_small(made):
    run = Run(made)
    assert repr(run) == f"Run({str(made)!r}, n_samples=4000, n_clusters={run.n_clusters})"
    text = run._repr_html_()
    page = Page(text)
    assert len(text) < 500_000
    assert f"{run.n_clusters} clusters in 4,000 images" in page.text
    assert page.count("img") >= run.n_clusters
    assert any("Condensed tree" in (a.get("aria-label") or "") for _, a in page.elements)
    assert 'class="notes"' not in text
    # Two fragments of one notebook must not share ids.
    ids = [{a["id"] for _, a in Page(run._repr_html_()).elements if "id" in a} for _ in range(2)]
    assert ids[0] & ids[1] == set()


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("model.zarr/tree_parent", "the tree cannot be shown"),
        ("model.zarr", "the tree cannot be shown"),
        ("projection/kept", "the pictures cannot be shown"),
        ("labels.zarr", "the pictures cannot be shown"),
        ("summary.json", "A run that cannot be read"),
        ("manifest.json", "A run that cannot be read"),
    ],
)
def test_repr__of_a_damaged_run_says_what_is_missing(copied, place, said):
    run = Run(copied)
    target = copied / place
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink()
    assert said in Page(run._repr_html_()).text
    assert repr(run).startswith("Run(")


@pytest.mark.parametrize("place", ["summary.json", "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"n_samples": "x"}'])
def test_repr__survives_anything_in_its_records(copied, place, content):
    run = Run(copied)
    (copied / place).write_bytes(content)
    Page(run._repr_html_())
    assert repr(run).startswith("Run(")


def test_repr__of_an_unfinished_run_lists_its_steps(copied):
    store = RunStore.open(copied)
    store.step("tree").state = "partial"
    store.step("labels").state = store.step("report").state = "absent"
    store.save()
    page = Page(Run(copied)._repr_html_())
    assert "goes on with tree" in page.text
    assert "overcluster complete" in page.text
    assert "incomplete: tree is next" in repr(Run(copied))


def test_shown_clusters__has_the_clusters_of_the_labels_also_after_a_recut(copied):
    for how in ({}, {"min_cluster_size": 600}, {"n_clusters": 3}):
        if how:
            recut(copied, **how)
        store = RunStore.open(copied)
        tree = cut_by_hand(stored_tree(store), how)
        (label,) = store.read_model("centroid_label")
        np.testing.assert_array_equal(
            np.append(ids_of_clusters(tree, label), -1)[tree.label], label
        )
        shown = shown_clusters(store)
        np.testing.assert_array_equal(shown.selected, tree.selected)
        np.testing.assert_array_equal(np.unique(shown.cluster), np.unique(label[label >= 0]))
    assert "as requested" in Page(Run(copied)._repr_html_()).text


def test_names__stand_beside_numbers_in_the_notebook_and_in_plots(copied):
    """Text as it was given: neither HTML nor mathematics."""
    run, name = Run(copied), "$sky_1$ <i>x"
    assert run.name(0, name)["names"] == {"0": name}
    headings = [a for _, a in Page(run._repr_html_()).elements if a.get("data-name-of") == "0"]
    assert headings
    assert "Cluster 0 $sky_1$ <i>x" in " ".join(Page(run._repr_html_()).text.split())
    axes = run.plot.contact_sheet(2)
    assert axes.get_yticklabels()[0].get_text().startswith(f"Cluster 0 {name}\n")
    assert run.plot.gallery(0, 3).get_title(loc="left").startswith(f"cluster 0 {name}, ")
    on_map = run.plot.map(n_pictures=0)
    assert f"0 {name}" in {text.get_text() for text in on_map.texts}
    for drawn in (axes, on_map):
        drawn.figure.canvas.draw()


def test_dataset__is_chosen_from_by_label(made):
    run = Run(made)
    dataset, label = run.dataset, run.labels.compute()
    assert dataset.sizes["sample"] == 4000
    np.testing.assert_array_equal(dataset.sample, np.arange(4000))
    expected = np.flatnonzero(label == 2)
    for chosen in (
        dataset.where(dataset.label == 2, drop=True),
        dataset.sel(sample=dataset.label == 2),
    ):
        np.testing.assert_array_equal(chosen.sample, expected)
        assert (chosen.label.values == 2).all()
        assert isinstance(chosen.strength.data, dask.array.Array)


def test_dataset__is_lazy_and_its_coordinate_takes_no_memory(made):
    with dask.config.set(scheduler=_refuse):
        dataset = Run(made).dataset
        images = Run(made).images
        assert {name for name, v in dataset.items() if not dask.is_dask_collection(v)} == {"label"}
        assert dask.is_dask_collection(images)
        assert type(dataset.indexes["sample"]).__name__ == "RangeIndex"
        assert type(images.indexes["sample"]).__name__ == "RangeIndex"


def _refuse(*_args, **_kwargs):
    pytest.fail("something was computed")


def test_images__are_those_of_the_run(made, pictures):
    images = Run(made).images
    assert images.dims == ("sample", "height", "width", "channel")
    np.testing.assert_array_equal(images.values, pictures[0])
    label = Run(made).dataset.label
    np.testing.assert_array_equal(
        images.sel(sample=label == 1).values, pictures[0][label.values == 1]
    )


def test_images__that_are_gone_are_missed(copied, made, tmp_path):
    store = RunStore.open(copied)
    store.manifest.images["path"] = str(tmp_path / "elsewhere.npy")
    store.save()
    run = Run(copied)
    with pytest.raises(ImagesError, match=r"elsewhere\.npy is gone"):
        _ = run.images
    assert "images" not in run.members(0, 3)
    with pytest.raises(StoreError, match="must have images"):
        run.plot.gallery(0)


@pytest.mark.parametrize("weakest", [False, True])
@pytest.mark.parametrize("label", [0, 3, -1])
def test_members__are_the_best_of_all(made, pictures, label, weakest):
    run = Run(made)
    every = run.dataset.load()
    rows = np.flatnonzero(every.label == label)
    strength, score = every.strength.values[rows], every.outlier_score.values[rows]
    # The strongest first, and of equal ones the least outlying; noise has no strength.
    sign = -1 if weakest else 1
    keys = (rows, sign * score) if label < 0 else (rows, sign * score, -sign * strength)
    expected = rows[np.lexsort(keys)][:25]
    found = run.members(label, 25, weakest=weakest)
    np.testing.assert_array_equal(found.sample, expected)
    np.testing.assert_array_equal(found.images, pictures[0][expected])
    np.testing.assert_array_equal(found.strength, every.strength.values[expected])


def test_members__do_not_depend_on_how_labels_are_read(made, monkeypatch):
    run = Run(made)
    whole = run.members(0, 40).sample.values, run.outliers(40).sample.values
    monkeypatch.setattr("workflow.steps.browsing.members.READ_ROWS", 97)
    blocks = run.members(0, 40).sample.values, run.outliers(40).sample.values
    np.testing.assert_array_equal(whole, blocks)


def test_outliers__come_first_to_last(made):
    run = Run(made)
    found = run.outliers(10)
    expected = np.sort(run.dataset.outlier_score.values)[::-1][:10]
    np.testing.assert_array_equal(found.outlier_score, expected)


def test_members__say_what_is_wrong(made):
    run = Run(made)
    with pytest.raises(ValueError, match="-1 for noise; got 99"):
        run.members(99)
    with pytest.raises(ValueError, match="1 to 100,000 images; got 0"):
        run.outliers(0)


def test_model__has_the_documented_arrays(made):
    model = Run(made).model
    assert model.centroids.dims == ("centroid", "component")
    assert model.components.dims == ("component", "feature")
    assert model.sizes["centroid"] == SETTINGS["overcluster.n_centroids"]
    assert model.population.sum() == 4000
    assert not [name for name in model if name.startswith(("tree_", "moments_"))]


def test_names__become_the_coordinate_path_of_images_too(client, tmp_path, pictures):
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(pictures[0][:600]):
        Image.fromarray(image).save(tmp_path / "photos" / f"{index:03d}.png")
    settings = {**LEAN, "ingest.shape": [6, 6, 3]}
    path = make_run(tmp_path / "photos", tmp_path / "run", client, **settings).path
    run = Run(path)
    assert run.images.path.values[7] == "007.png"
    row = int(run.outliers(1).sample[0])
    assert run.outliers(1).path.item() == f"{row:03d}.png"


@pytest.mark.parametrize(
    "name",
    [
        "sizes",
        "tree",
        "n_clusters_by_threshold",
        "certainty",
        "map",
        "variance",
        "outliers",
        "contact_sheet",
    ],
)
def test_plots__return_the_axes_they_drew_on(made, name):
    run = Run(made)
    if name == "n_clusters_by_threshold" and not read_summary(RunStore.open(made)).get(
        "n_clusters_by_threshold"
    ):
        with pytest.raises(StoreError, match="too few images"):
            run.plot.thresholds()
        return
    _, axes = plt.subplots()
    assert getattr(run.plot, name)(ax=axes) is axes
    assert getattr(run.plot, name)() is not axes
    axes.figure.canvas.draw()


def test_map__is_coloured_by_any_array(made):
    plot = Run(made).plot
    assert plot.map("strength").figure.axes[1].get_ylabel() == "strength"
    words = np.array(["cat", "dog"])[np.arange(4000) % 2]
    legend = plot.map(words).get_legend().get_texts()
    assert [text.get_text() for text in legend] == ["cat (2,000)", "dog (2,000)"]
    with pytest.raises(ConfigError, match=r"one value for each of 4000 images; got shape \(7,\)"):
        plot.map(np.arange(7))
    with pytest.raises(ConfigError, match=r"got 'colour'\. Known: centroid, "):
        plot.map("colour")


def test_gallery__shows_members(made):
    axes = Run(made).plot.gallery(0, 20, columns=5)
    assert axes.get_title(loc="left") == "cluster 0, strongest 20"
    height, width = np.asarray(axes.images[0].get_array()).shape[:2]
    assert width > height


def test_vectors__show_no_pictures(client, tmp_path, pictures):
    vectors = pictures[0][:1000].reshape(1000, -1)
    np.save(tmp_path / "vectors.npy", vectors)
    path = make_run(tmp_path / "vectors.npy", tmp_path / "run", client, **LEAN).path
    run = Run(path)
    assert "There are no pictures" in Page(run._repr_html_()).text
    assert run.images.dims == ("sample", "feature")
    with pytest.raises(StoreError, match="the rows are vectors"):
        run.plot.contact_sheet()
    with pytest.raises(StoreError, match="the rows are vectors"):
        run.plot.gallery(0)


def test_import__brings_neither_pyplot_nor_ipython():
    code = "import sys, workflow; workflow.Run; print(sorted({'matplotlib.pyplot', 'IPython'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT
    )
    assert done.stdout.strip() == "[]"
