"""Galleries: planted dark, bright, flat and blurred images are those listed; borders by brute force."""

from __future__ import annotations

import csv
import json
import shlex
import shutil

import numpy as np
import pytest

import workflow
from tests.conftest import last_json, picture_set
from tests.runs.helpers import LEAN, copy_of, labels_of, lean_run, make_run
from workflow.commands.gallery import KINDS, gallery
from workflow.commands.recut import recut
from workflow.commands.report import report
from workflow.commands.status import status
from workflow.engine.summary import read_summary
from workflow.errors import ConfigError, StoreError
from workflow.runstore import zarr_io
from workflow.runstore.zarr_io import StoredRows
from workflow.steps.browsing import galleries

SHAPE = (8, 8, 3)
LOOKS = ("dark", "bright", "low-contrast", "blurred")
STATISTICS = ("brightness", "contrast", "sharpness")


def ramps(rng, n, contrast=180):
    """Smooth images: slopes in all directions."""
    y, x = np.mgrid[-1:1:8j, -1:1:8j]
    angle = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    slope = (np.cos(angle) * x + np.sin(angle) * y) / 1.5
    grey = 127 + contrast / 2 * slope + rng.normal(0, 1, (n, 8, 8))
    return np.repeat(grey.clip(0, 255).round().astype(np.uint8)[..., None], 3, axis=3)


def planted(n=3000, seed=0):
    """Images of six sources with contrast, 25 of every look among them, and six of no source."""
    images, _ = picture_set(n=n, n_sources=6, shape=SHAPE, seed=seed)
    rng = np.random.default_rng(seed)
    picked = rng.permutation(n)[:106]
    rows = dict(zip(LOOKS, picked[:100].reshape(4, 25), strict=True))
    images[picked[100:]] = rng.integers(0, 256, (6, *SHAPE))
    images[rows["dark"]] = images[rows["dark"]] // 8
    images[rows["bright"]] = 255 - (255 - images[rows["bright"]]) // 8
    flat = images[rows["low-contrast"]].astype(int)
    images[rows["low-contrast"]] = (127 + (flat - 127) // 40).astype(np.uint8)
    images[rows["blurred"]] = ramps(rng, 25)
    return images, {name: np.sort(found).tolist() for name, found in rows.items()}


@pytest.fixture(scope="module")
def images():
    return planted()


@pytest.fixture(scope="module")
def finished(images, client, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    np.save(folder / "images.npy", images[0])
    lean = {**LEAN, "report.n_clusters_shown": 3}
    return make_run(folder / "images.npy", folder / "run", client, **lean)


@pytest.fixture(scope="module")
def bordered(finished, client, tmp_path_factory):
    """The same run cut into more clusters than it has, so that some touch."""
    store = copy_of(finished, tmp_path_factory.mktemp("bordered") / "run")
    recut(store.path, n_clusters=37, client=client)
    return store


def listed(run, kind, *of, limit=10_000):
    """Return the images of a gallery, rising."""
    return sorted(one["sample"] for one in gallery(run, kind, of, limit=limit)["images"])


def test_looks__are_the_planted_images(finished, images):
    counts = read_summary(finished)["gallery_counts"]
    for kind, rows in images[1].items():
        found = listed(finished.path, kind)
        # What is dark or bright with an eighth of the contrast is low in contrast, or nearly so.
        others = images[1]["dark"] + images[1]["bright"] if kind == "low-contrast" else []
        assert set(rows) <= set(found) <= set(rows + others), kind
        assert counts[kind.replace("-", "_")] == len(found)


def test_list__begins_with_the_clearest_and_tells_what_decided(finished):
    found = gallery(finished.path, "dark", limit=5)
    rows = [one["sample"] for one in gallery(finished.path, "dark", limit=20)["images"]]
    assert [one["sample"] for one in found["images"]] == rows[:5]
    labels = labels_of(finished)
    for one in found["images"]:
        assert one["label"] == labels["label"].values[one["sample"]]
        assert one["brightness"] + 2 * one["contrast"] < 0.25 * 255
    height = [one["brightness"] + 2 * one["contrast"] for one in found["images"]]
    assert height == sorted(height)
    assert f"{found['n_images']:,} of 3,000 images" in found["sentence"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("kind", ["low-contrast", "border", "outliers"])
def test_file__holds_all_of_them(bordered, tmp_path, kind):
    found = gallery(bordered.path, kind, out=tmp_path / "all.csv")
    whole = {one["sample"]: one for one in gallery(bordered.path, kind, limit=10_000)["images"]}
    with (tmp_path / "all.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["sample"]) for line in lines] == sorted(whole)
    assert len(lines) == found["n_images"] > 0
    for line in lines:
        known = whole[int(line["sample"])]
        assert line == {n: "" if v is None else str(v) for n, v in known.items()}
    with pytest.raises(ConfigError, match="`--out` must be a new path"):
        gallery(bordered.path, kind, out=tmp_path / "all.csv")
    gallery(bordered.path, kind, limit=3, out=tmp_path / "few.csv")
    assert len((tmp_path / "few.csv").read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "few.csv"]


def borders(store):
    """Return images that are nearly as far from a second cluster as from their own, and both clusters."""
    labels = labels_of(store)
    share, label = labels["top_membership"].values, labels["top_label"].values
    near = (label[:, 1] >= 0) & (labels["label"].values >= 0)
    near &= np.sqrt(share[:, 0] / np.where(share[:, 1] > 0, share[:, 1], 1e-9)) < 1.1
    return np.flatnonzero(near), np.sort(label[near, :2], axis=1)


def test_border__is_that_of_brute_force(finished, bordered):
    for store in (finished, bordered):
        rows, pairs = borders(store)
        assert listed(store.path, "border") == rows.tolist()
        assert read_summary(store)["gallery_counts"]["border"] == len(rows)
        found = gallery(store.path, "border", limit=1)
        expected, counts = np.unique(pairs.reshape(-1, 2), axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        assert found["n_pairs"] == len(expected)
        assert [pair["images"] for pair in found["pairs"]] == counts[order][:20].tolist()
        assert [pair["clusters"] for pair in found["pairs"]] == expected[order][:20].tolist()
    assert len(expected) > 3
    low, high = expected[order[0]].tolist()
    of_pair = rows[(pairs == [low, high]).all(axis=1)].tolist()
    assert listed(bordered.path, "border", high, low) == of_pair
    page = (bordered.path / "report.html").read_text()
    assert f"Between clusters {low} and {high}" in page
    assert f"all: overcluster gallery {shlex.quote(str(bordered.path))} border {low} {high}" in page


def test_outliers__are_beyond_two_radii(finished):
    score = labels_of(finished)["outlier_score"].values
    assert listed(finished.path, "outliers") == np.flatnonzero(score > 0.8).tolist()
    assert read_summary(finished)["gallery_counts"]["outliers"] == (score > 0.8).sum() > 0


def test_galleries__do_not_depend_on_how_much_is_read_at_once(bordered, monkeypatch):
    whole = [gallery(bordered.path, kind) for kind in KINDS]
    monkeypatch.setattr(galleries, "READ_ROWS", 77)
    assert [gallery(bordered.path, kind) for kind in KINDS] == whole


def statistics_of(store):
    """Return the statistics of a run."""
    place = store.path / "pca" / "statistics.zarr"
    return np.asarray(zarr_io.read_array(place, "statistics")).T


def test_statistics__do_not_depend_on_the_blocks(finished, images, client, tmp_path):
    np.save(tmp_path / "images.npy", images[0])
    other = lean_run(tmp_path / "images.npy", tmp_path / "run", client, block_rows=700)
    np.testing.assert_array_equal(statistics_of(other), statistics_of(finished))
    found = workflow.Run(finished.path).statistics
    for name, values in zip(STATISTICS, statistics_of(finished), strict=True):
        np.testing.assert_array_equal(found[name].values, values)


def test_looks__of_floats_are_the_planted_images(images, client, tmp_path):
    np.save(tmp_path / "images.npy", (images[0] / 255).astype(np.float32))
    store = lean_run(tmp_path / "images.npy", tmp_path / "run", client)
    for kind, rows in images[1].items():
        others = images[1]["dark"] + images[1]["bright"] if kind == "low-contrast" else []
        assert set(rows) <= set(listed(store.path, kind)) <= set(rows + others), kind


def test_looks__of_a_smooth_set_are_told_as_its_own(client, tmp_path):
    rng = np.random.default_rng(0)
    smooth = ramps(rng, 1500)
    smooth[7] = 20
    np.save(tmp_path / "images.npy", smooth)
    run = lean_run(tmp_path / "images.npy", tmp_path / "run", client).path
    found = gallery(run, "blurred")
    assert (found["n_images"], found["is_usual"]) == (0, True)
    assert "most images of this run are so by themselves" in found["sentence"]
    assert listed(run, "low-contrast") == listed(run, "dark") == [7]


def test_page__shows_counts_and_the_command_that_lists_all(finished):
    page = (finished.path / "report.html").read_text()
    run = shlex.quote(str(finished.path))
    for kind, title in zip(LOOKS, galleries.LOOKS.values(), strict=True):
        n = len(listed(finished.path, kind))
        assert title.title in page
        assert f"{n} of 3,000 images; {title.words}; all: overcluster gallery {run} {kind}" in page
    assert f"all: overcluster gallery {run} outliers" in page


def as_earlier(store):
    """Make a run one of a version without statistics."""
    shutil.rmtree(store.path / "pca" / "statistics.zarr")
    known = store.step("pca").checksums
    for name in [name for name in known if "statistics" in name]:
        del known[name]
    store.save()
    journal = store.folder("pca") / "moments.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines[1:]:
        del line["statistics_crc"], line["line_crc"]
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_run__of_an_earlier_version_opens_and_gets_what_it_lacks(finished, tmp_path):
    store = copy_of(finished, tmp_path / "run")
    as_earlier(store)
    found = status(store.path, verify=True)
    assert {step["state"] for step in found["steps"].values()} == {"complete"}
    assert not [line for line in found["damaged"] if "statistics" in line]
    assert listed(store.path, "outliers") == listed(finished.path, "outliers")
    report(store.path)
    assert "This run keeps no brightness" in (store.path / "report.html").read_text()
    counts, expected = (
        read_summary(store)["gallery_counts"],
        read_summary(finished)["gallery_counts"],
    )
    assert counts == {**expected, **dict.fromkeys(galleries.LOOKS)}
    gone = copy_of(store, tmp_path / "gone")
    gone.manifest.images["path"] = str(tmp_path / "gone.npy")
    gone.manifest.save(gone.path)
    with pytest.raises(
        StoreError, match=r"keeps none\. `gallery RUN dark` notes them, once the images"
    ):
        gallery(gone.path, "dark")
    assert listed(store.path, "dark") == listed(finished.path, "dark")
    np.testing.assert_array_equal(statistics_of(store), statistics_of(finished))
    assert not (store.path / "wip" / "gallery").exists()
    report(store.path)
    assert read_summary(store)["gallery_counts"] == expected


def test_verify__notices_damaged_statistics(finished, tmp_path):
    store = copy_of(finished, tmp_path / "run")
    place = store.path / "pca" / "statistics.zarr"
    rows = StoredRows.open(place, "statistics").read(0, 3000)
    zarr_io.write_rows(place, "statistics", 0, rows[::-1].copy())
    damaged = [line for line in status(store.path, verify=True)["damaged"] if "statistics" in line]
    assert damaged[0] == "statistics.zarr/statistics, rows 0 to 511: checksum differs"
    assert len(damaged) == 6


def test_vectors__have_borders_and_no_looks(client, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(1500, 5)) + rng.integers(0, 3, (1500, 1)) * 5
    np.save(tmp_path / "points.npy", points.astype(np.float32))
    store = lean_run(tmp_path / "points.npy", tmp_path / "run", client)
    assert not (store.path / "pca" / "statistics.zarr").exists()
    with pytest.raises(StoreError, match="holds vectors, not pictures"):
        gallery(store.path, "blurred")
    assert listed(store.path, "border") == borders(store)[0].tolist()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["dusky"], r"one of dark, bright, .*; got dusky"),
        (["dark", 3], r"no number behind it; got 3"),
        (["border", 1, 1], r"two different clusters of 0 to \d+, or none .*; got 1 1"),
        (["border", 0, 999], r"got 0 999"),
    ],
)
def test_gallery__refuses_what_there_is_not(finished, words, error):
    with pytest.raises(ConfigError, match=error):
        gallery(finished.path, words[0], words[1:])


def test_gallery__refuses_a_file_that_cannot_be_written(finished, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file"):
        gallery(finished.path, "dark", out=tmp_path / "file" / "dark.csv")
    with pytest.raises(ConfigError, match=r"must end in \.csv"):
        gallery(finished.path, "dark", out=tmp_path / "dark.txt")


def test_command__prints_the_list_and_its_json(finished, bordered, run_cli):
    status_, out, _ = run_cli("gallery", finished.path, "dark", "--limit", 2)
    assert status_ == 0
    head, *lines = out.splitlines()
    assert head.split() == ["sample", "label", *STATISTICS]
    assert [int(line.split()[0]) for line in lines[:2]] == [
        one["sample"] for one in gallery(finished.path, "dark", limit=2)["images"]
    ]
    assert lines[-1] == gallery(finished.path, "dark")["sentence"]
    out = run_cli("gallery", bordered.path, "border", "--limit", 3)[1]
    assert "images between clusters" in out
    found = last_json(run_cli("gallery", bordered.path, "border", "--json")[1])
    assert found["n_images"] == len(borders(bordered)[0])
    assert run_cli("gallery", finished.path, "nothing")[0] == 2
