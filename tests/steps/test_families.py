"""Families of a whole run: in the labels, after a cut by hand, with other settings, and without any."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import xarray as xr

import workflow
from tests.families.conftest import sources
from tests.runs.helpers import copy_of
from workflow.commands.members import members
from workflow.commands.recut import recut
from workflow.commands.status import status
from workflow.errors import ConfigError, StoreError
from workflow.formatting import format_share
from workflow.report.sentences import headline, opening_sentences
from workflow.runstore import RunStore
from workflow.steps.parts.family_table import family_table

FEW = {"tree.n_resamples": 0}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Return the path of images of 40 sources and lone ones, and the source of each."""
    rows, source = sources(dimension=8)
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, rows)
    return path, source


@pytest.fixture(scope="module")
def found(images, client, tmp_path_factory):
    """Run the workflow on them."""
    out = tmp_path_factory.mktemp("found") / "run"
    return workflow.run(images[0], out, client=client, settings=FEW, progress=False)


@pytest.fixture(scope="module")
def sea(client, tmp_path_factory):
    """Run on 60 sources of 20 images in a cloud without clusters."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("sea")
    source = np.repeat(rng.normal(size=(60, 10)), 20, axis=0)
    rows = np.concatenate(
        [rng.normal(size=(6000, 10)), source + 0.05 * rng.normal(size=source.shape)]
    )
    np.save(folder / "sea.npy", rows[rng.permutation(len(rows))].astype(np.float32))
    return workflow.run(
        folder / "sea.npy", folder / "run", client=client, settings=FEW, progress=False
    )


def summary_of(run):
    """Return the summary of a run."""
    return json.loads((run.path / "summary.json").read_text())


def test_run__labels_hold_the_families(found, images):
    source, labels, summary = images[1], found.dataset, summary_of(found)
    family, strength = labels["family"].values, labels["family_strength"].values
    assert (family.dtype, strength.dtype) == (np.int32, np.float32)
    assert (family[source >= 0] >= 0).mean() >= 0.9
    assert (family[source < 0] >= 0).mean() <= 0.05
    assert ((strength > 0) == (family >= 0)).all()
    assert summary["families"] == "found"
    assert summary["n_families"] == family.max() + 1
    assert summary["family_fraction"] == pytest.approx((family >= 0).mean())


def test_run__the_model_holds_what_is_said_of_each(found):
    names = ("family_size", "family_conductance", "family_expected", "family_exemplars")
    size, conductance, expected, exemplars = RunStore.open(found.path).read_model(*names)
    family = found.dataset["family"].values
    assert np.array_equal(size, np.bincount(family[family >= 0]))
    assert (conductance < expected).all()
    for number, rows in enumerate(exemplars):
        assert (family[rows[rows >= 0]] == number).all()


def test_table__tells_the_cluster_of_each(found):
    labels, table = found.dataset, family_table(RunStore.open(found.path))
    family, label = labels["family"].values, labels["label"].values
    for number in range(len(table.size)):
        there, count = np.unique(label[family == number], return_counts=True)
        assert table.size[number] == count.sum()
        assert table.cluster[number] == there[count.argmax()]
        assert table.cluster_share[number] == count.max() / count.sum()


def test_page__tells_the_cluster_of_each_where_families_are_the_labels(found, client, tmp_path):
    run = workflow.Run(copy_of(RunStore.open(found.path), tmp_path / "run").path, client=client)
    run.recut(layer="families")
    page = (run.path / "report.html").read_text()
    rows = page[page.rindex("Every family") :].partition("</table>")[0].split("<tr>")[2:]
    (cluster,) = RunStore.open(run.path).read_model("tree_label")
    cluster, family = cluster[run.dataset["centroid"].values], run.dataset["family"].values
    assert len(rows) == family.max() + 1
    for number, row in enumerate(rows):
        *_, there, share = re.findall(r"<td\b[^>]*>(.*?)</td>", row)
        counts = np.bincount(1 + cluster[family == number])
        assert there == ("noise" if counts.argmax() == 0 else str(counts.argmax() - 1))
        assert share == format_share(counts.max() / counts.sum())


def test_page__shows_the_families(found):
    page = (found.path / "report.html").read_text()
    n_families = summary_of(found)["n_families"]
    assert "<h2>Families</h2>" in page
    assert re.search(
        rf"of {n_families} families lie within one cluster(, \d+ among noise)?\.", page
    )
    assert "How tight each family is" in page


def test_structure__is_families_where_there_are_no_clusters(sea):
    summary = summary_of(sea)
    assert (summary["n_clusters"], summary["structure"]) == (1, "families")
    assert summary["families"] == "found"
    sentences = " ".join(opening_sentences(summary))
    assert "no separate large groups" in sentences
    assert "`--set labels.level=families`" in sentences


def test_level__families_are_the_labels(sea, client):
    clusters = sea.dataset.load()
    settings = FEW | {"labels.level": "families"}
    out = sea.path
    run = workflow.run(
        out.parent / "sea.npy", out, client=client, settings=settings, progress=False
    )
    labels = run.dataset.load()
    family = labels["family"].values
    assert np.array_equal(labels["label"].values, family)
    assert np.array_equal(labels["strength"].values, labels["family_strength"].values)
    assert (labels["label_resolved"].values[family >= 0] == family[family >= 0]).all()
    assert labels["label_resolved"].values.min() >= 0
    assert run.n_clusters == summary_of(run)["n_families"]
    assert "Family 0" not in (out / "report.html").read_text()  # they are vectors
    assert not status(out, verify=True)["damaged"]
    with pytest.raises(ConfigError, match=r"must have clusters as labels.*labels.level=clusters"):
        run.predict(np.load(out.parent / "sea.npy")[:5])
    recut(out, layer=0, client=client)
    assert not np.array_equal(run.dataset["label"].values, family)
    assert "level" not in summary_of(run)
    recut(out, configured=True, client=client)
    xr.testing.assert_equal(run.dataset.load(), labels)
    back = FEW | {"labels.level": "auto"}
    run = workflow.run(out.parent / "sea.npy", out, client=client, settings=back, progress=False)
    xr.testing.assert_equal(run.dataset.load(), clusters)
    # A cut by hand is the same to the bit, and is kept.
    assert "--layer families" in (out / "report.html").read_text()
    run.recut(layer="families")
    xr.testing.assert_equal(run.dataset.load(), labels)
    summary = summary_of(run)
    assert (summary["cut"], summary["level"]) == ({"layer": "families"}, "families")
    assert summary["n_clusters"] == summary["n_families"] == run.layers().n_clusters["families"]
    assert headline(summary) in (out / "report.html").read_text()
    assert headline(summary) in run._repr_html_()
    with pytest.raises(StoreError, match="its labels are families"):
        run.plot.tree()
    assert not status(out, verify=True)["damaged"]
    edits = [lambda: run.name(0, "a"), lambda: run.merge([0, 1]), lambda: run.split(0)]
    for refused in (lambda: run.predict(np.load(out.parent / "sea.npy")[:5]), *edits):
        with pytest.raises(ConfigError, match=r"must have clusters as labels.*recut --configured"):
            refused()
    run = workflow.run(out.parent / "sea.npy", out, client=client, progress=False)
    xr.testing.assert_equal(run.dataset.load(), labels)
    run.recut(configured=True)
    xr.testing.assert_equal(run.dataset.load(), clusters)


def test_level__of_families_that_are_not_there_is_refused(client, tmp_path):
    np.save(tmp_path / "cloud.npy", np.random.default_rng(1).normal(size=(1500, 6)))
    settings = FEW | {"labels.level": "families"}
    with pytest.raises(ConfigError, match=r"families: none\). Set labels.level=clusters"):
        workflow.run(
            tmp_path / "cloud.npy",
            tmp_path / "run",
            client=client,
            settings=settings,
            progress=False,
        )


def test_layers__are_those_of_the_tree_and_the_families(found):
    table, labels = found.layers(), found.dataset
    (layers,) = RunStore.open(found.path).read_model("layers")
    assert list(table.index) == [*range(len(layers)), "families"]
    for number, layer in enumerate(layers):
        label, row = layer[labels["centroid"].values], table.loc[number]
        sizes = np.bincount(label[label >= 0])
        assert (row.n_clusters, row.largest, row.smallest) == (len(sizes), sizes.max(), sizes.min())
        assert row.noise_fraction == pytest.approx((label < 0).mean())
    family = labels["family"].values
    sizes = np.bincount(family[family >= 0])
    row = table.loc["families"]
    assert (row.n_clusters, row["median"]) == (len(sizes), np.median(sizes))
    assert row.noise_fraction == pytest.approx((family < 0).mean())
    assert summary_of(found)["n_clusters_by_layer"] == table.n_clusters.tolist()[:-1]


@pytest.mark.parametrize(
    ("cut", "text"),
    [
        ({"layer": "family"}, r"a number, or families .*; got layer=family"),
        ({"layer": "families", "n_clusters": 3}, r"without another cut; got n_clusters=3, layer"),
    ],
)
def test_recut__refuses_other_words(found, cut, text):
    with pytest.raises(ConfigError, match=text):
        found.recut(**cut)


def test_recut__keeps_the_families(found, client):
    before = found.dataset["family"].values
    recut(found.path, n_clusters=3, client=client)
    after = xr.open_zarr(found.path / "labels.zarr")
    assert np.array_equal(after["family"].values, before)
    assert not status(found.path, verify=True)["damaged"]


def test_run__without_families_labels_hold_none(images, client, run_cli, tmp_path):
    settings = FEW | {"families.enabled": False}
    run = workflow.run(
        images[0], tmp_path / "run", client=client, settings=settings, progress=False
    )
    assert "family" not in run.dataset
    summary = summary_of(run)
    assert (summary["families"], summary["n_families"]) == ("untested", 0)
    status, out, err = run_cli("recut", run.path, "--layer", "families")
    assert (status, out) == (2, "")
    assert "(families: untested). `run` with --set families.enabled=true looks for" in err
    assert "families" not in run.layers().index


def test_run__refuses_families_without_neighbors(images, client, tmp_path):
    settings = {"families.enabled": True, "neighbors.k": 10}
    with pytest.raises(ConfigError, match=r"needs 15 neighbours of each image; neighbors.k is 10"):
        workflow.run(images[0], tmp_path / "run", client=client, settings=settings, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"families.max_sparsity": 1.1},
        {"families.max_sparsity": 1.05, "families.region_images": 900},
    ],
)
def test_families__found_again_keep_their_numbers(found, images, client, tmp_path, settings):
    store = copy_of(RunStore.open(found.path), tmp_path / "run")
    before = found.dataset["family"].values
    settings = {**FEW, **settings}
    run = workflow.run(images[0], store.path, client=client, settings=settings, progress=False)
    now, n_before = run.dataset["family"].values, before.max() + 1
    assert (now != before).any()
    new = []
    for number in np.unique(now[now >= 0]).tolist():
        here = now == number
        old, count = np.unique(before[here & (before >= 0)], return_counts=True)
        share = dict(zip(old.tolist(), count.tolist(), strict=True))
        kept = [o for o, c in share.items() if 2 * c > max(here.sum(), (before == o).sum())]
        if kept:
            assert number == kept[0]
        else:
            new.append(number)
    # New ones count on from the highest that there was, the largest first.
    assert sorted(new) == list(range(n_before, n_before + len(new)))
    sizes = [(now == number).sum() for number in sorted(new)]
    assert sizes == sorted(sizes, reverse=True)
    (size,) = RunStore.open(run.path).read_model("family_size")
    np.testing.assert_array_equal(size, np.bincount(now[now >= 0], minlength=len(size)))
    summary = summary_of(run)
    assert summary["n_families"] == np.count_nonzero(size)
    table = family_table(RunStore.open(run.path))
    assert sorted(table.number.tolist()) == np.flatnonzero(size).tolist()
    assert (np.diff(table.size) <= 0).all()
    page = (run.path / "report.html").read_text()
    rows = page[page.rindex("Every family") :].partition("</table>")[0].split("<tr>")[2:]
    shown = [int(re.findall(r"<t[hd]\b[^>]*>(.*?)</t[hd]>", row)[0]) for row in rows]
    assert shown == table.number.tolist()
    for gone in np.flatnonzero(size == 0).tolist():
        with pytest.raises(ConfigError, match="which is gone"):
            members(run.path, family=gone)
    assert status(run.path, verify=True)["damaged"] == []
    # Numbers that are gone are not given again.
    run = workflow.run(images[0], store.path, client=client, settings=FEW, progress=False)
    later = np.unique(run.dataset["family"].values)
    assert not np.isin(later, np.flatnonzero(size == 0)).any()
    assert later.max() < len(RunStore.open(run.path).read_model("family_size")[0])
