"""export: what other programs read back is what the run holds, however it was read and written."""

import hashlib
import io
import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.commands.conftest import N_PHOTOS, photo_name
from tests.conftest import last_json
from tests.runs.helpers import copy_of, labels_of, lean_run
from workflow import Run
from workflow.commands import export as module
from workflow.commands.export import export
from workflow.errors import ConfigError, ImagesError
from workflow.steps.browsing.members import strongest_of_each

READERS = {"csv": pd.read_csv, "parquet": pd.read_parquet}
ARRAYS = ("path", "label", "strength", "outlier_score", "family", "family_strength", "x", "y")


@pytest.fixture(scope="module")
def named(photo_run, tmp_path_factory):
    """The run, with names of clusters that want quotes."""
    store = copy_of(photo_run, tmp_path_factory.mktemp("named") / "run")
    summary = json.loads((store.path / "summary.json").read_text())
    summary["cluster_names"] = {"0": 'sky, "blue"', "2": "<b>sea</b> / é"}
    (store.path / "summary.json").write_text(json.dumps(summary))
    return store


def names_in(folder):
    return sorted(place.name for place in folder.iterdir())


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_table__read_back_holds_what_the_labels_hold(named, tmp_path, ending):
    labels = labels_of(named)
    found = export(named.path, tmp_path / f"labels.{ending}")
    assert (found["format"], found["n_images"]) == (ending, N_PHOTOS)
    table = READERS[ending](tmp_path / f"labels.{ending}")
    np.testing.assert_array_equal(table["sample"], np.arange(N_PHOTOS))
    for name in ARRAYS:
        values = labels[name].values
        found = table[name].to_numpy(object if name == "path" else values.dtype)
        np.testing.assert_array_equal(found, values, err_msg=name)
    names = {0: 'sky, "blue"', 2: "<b>sea</b> / é"}
    said = table["cluster_name"].astype(object).where(table["cluster_name"].notna(), None)
    assert said.tolist() == [names.get(label) for label in table["label"].tolist()]
    assert names_in(tmp_path) == [f"labels.{ending}"]


@pytest.mark.parametrize("how", [{}, {"clusters": [2, "noise"]}, {"limit": 9}])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_table__has_the_same_bytes_however_the_labels_are_read(
    photo_run, tmp_path, monkeypatch, ending, how
):
    whole = export(photo_run.path, tmp_path / f"whole.{ending}", **how)
    monkeypatch.setattr(module, "READ_ROWS", 97)
    monkeypatch.setattr("workflow.steps.browsing.members.READ_ROWS", 101)
    if ending == "csv":
        monkeypatch.setattr(module, "GROUP_ROWS", 55)
    parts = export(photo_run.path, tmp_path / f"parts.{ending}", **how)
    assert whole["n_images"] == parts["n_images"] > 0
    assert digest(tmp_path / f"whole.{ending}") == digest(tmp_path / f"parts.{ending}")


def test_table__of_some_clusters_has_their_images_and_the_strongest_of_each(named, tmp_path):
    labels = labels_of(named)["label"].values
    export(named.path, tmp_path / "some.csv", clusters=['sky, "blue"', 3])
    rows = pd.read_csv(tmp_path / "some.csv")["sample"]
    np.testing.assert_array_equal(rows, np.flatnonzero(np.isin(labels, [0, 3])))
    export(named.path, tmp_path / "few.csv", clusters=[0, 3], limit=5)
    rows = pd.read_csv(tmp_path / "few.csv")["sample"]
    np.testing.assert_array_equal(rows, strongest_of_each(named, 5, [0, 3]))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("key", ["path", "sample"])
def test_columns__of_the_user_stand_beside_their_images(photo_run, tmp_path, key, ending):
    rows = np.random.default_rng(1).permutation(N_PHOTOS)[:600]
    keys = rows if key == "sample" else [photo_name(row) for row in rows]
    table = pd.DataFrame({"site": [f"s, {row % 7}" for row in rows], key: keys, "count": rows * 3})
    own = tmp_path / f"own.{ending}"
    table.to_csv(own, index=False) if ending == "csv" else table.to_parquet(own)
    for number, how in enumerate(({}, {"clusters": [1]})):
        export(photo_run.path, tmp_path / f"out{number}.{ending}", columns=own, **how)
        found = READERS[ending](tmp_path / f"out{number}.{ending}").set_index("sample")
        here = found.index.intersection(rows)
        assert found.loc[here, "count"].tolist() == [row * 3 for row in here]
        assert found.loc[here, "site"].tolist() == [f"s, {row % 7}" for row in here]
        assert found.drop(here)[["site", "count"]].isna().all(axis=None)
    # Whole numbers stay whole where some are missing.
    if ending == "csv":
        assert ".0" not in pd.read_csv(tmp_path / "out0.csv", dtype=str)["count"].dropna().str.cat()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (
            {"path": [photo_name(0), "b.png", "c,.png"], "site": 1},
            r"these do not match, by `path`: b\.png \(row 2\), c,\.png \(row 3\)",
        ),
        ({"sample": [0, N_PHOTOS], "site": 1}, r"by `sample`: 1500 \(row 2\)"),
        ({"sample": [4, 7, 4], "site": 1}, r"one row for an image; of 3 rows .* 4 \(row 3\)"),
        ({"sample": [4, None], "site": 1}, r"an image for each row; .*\(row 2\)"),
        ({"sample": ["a"], "site": 1}, "whole numbers"),
        ({"name": [4], "site": 1}, "must have a column `sample` or `path`; .* has name, site"),
        (
            {"sample": [4], "label": 1, "x": 2},
            "names that the run does not use; .* has label, x, too",
        ),
    ],
)
def test_columns__that_do_not_match_are_told_by_their_rows(photo_run, tmp_path, table, said):
    pd.DataFrame(table).to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(ConfigError, match=said):
        export(photo_run.path, tmp_path / "out.csv", columns=tmp_path / "own.csv")
    assert names_in(tmp_path) == ["own.csv"]


@pytest.mark.parametrize("link", ["symlink", "hardlink", "copy"])
def test_folders__hold_links_to_the_strongest_of_each_cluster(named, photos, tmp_path, link):
    label = labels_of(named)["label"].values
    export(named.path, tmp_path / "out", format="folder", limit=6, link=link)
    rows = strongest_of_each(named, 6)
    folders = {0: "0-sky-blue", 2: "2-b-sea-b-é", -1: "noise"}
    expected = {
        f"{folders.get(label[row], str(label[row]))}/{row}-{photo_name(row).rpartition('/')[2]}"
        for row in rows.tolist()
    }
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").glob("*/*")}
    assert found == expected
    for place in (tmp_path / "out").glob("*/*"):
        row = int(place.name.partition("-")[0])
        np.testing.assert_array_equal(np.asarray(Image.open(place)), photos[1][row])
        assert place.is_symlink() == (link == "symlink")
        assert (place.stat().st_nlink == 2) == (link == "hardlink") or link == "symlink"
        if link == "hardlink":
            place.unlink()


def test_folders__of_files_that_are_gone_leave_nothing_behind(photo_run, photos, tmp_path):
    gone = photos[0] / photo_name(20)
    kept = gone.rename(tmp_path / "kept.png")
    try:
        with pytest.raises(ImagesError, match=r"0020-x\.png is missing"):
            export(photo_run.path, tmp_path / "out", format="folder")
    finally:
        kept.rename(gone)
    assert names_in(tmp_path) == []


@pytest.fixture(scope="module")
def array_run(client, tmp_path_factory, pictures):
    """A run of images that are no files."""
    folder = tmp_path_factory.mktemp("array")
    np.save(folder / "images.npy", pictures[0][:900])
    return lean_run(folder / "images.npy", folder / "run", client)


def test_folders__of_images_that_are_no_files_hold_png(array_run, pictures, tmp_path):
    export(array_run.path, tmp_path / "out", format="folder", limit=3)
    found = sorted((tmp_path / "out").glob("*/*.png"))
    assert {int(place.stem) for place in found} == set(strongest_of_each(array_run, 3).tolist())
    for place in found:
        image = Image.open(place)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), pictures[0][int(place.stem)])


def test_fiftyone__finds_an_image_and_a_class_for_each_label(named, photos, array_run, tmp_path):
    """As its importer reads: a number of `classes` for each key, and a file of that name or in the manifest."""
    label, strength = (labels_of(named)[name].values for name in ("label", "strength"))
    export(named.path, tmp_path / "files", format="fiftyone")
    told = json.loads((tmp_path / "files" / "labels.json").read_text())
    places = json.loads((tmp_path / "files" / "data.json").read_text())
    assert told["labels"].keys() == places.keys() == set(map(str, range(N_PHOTOS)))
    for row in (0, 3, 4, 5, 700, 1499):
        one = told["labels"][str(row)]
        own = {-1: "noise", 0: 'sky, "blue"', 2: "<b>sea</b> / é"}
        said = own.get(int(label[row]), f"cluster {label[row]}")
        assert told["classes"][one["label"]] == said
        assert np.float32(one["confidence"]) == strength[row]
        assert one["attributes"]["path"] == photo_name(row)
        assert places[str(row)] == str(photos[0] / photo_name(row))
    export(array_run.path, tmp_path / "arrays", format="fiftyone", clusters=[0])
    told = json.loads((tmp_path / "arrays" / "labels.json").read_text())["labels"]
    assert {p.stem for p in (tmp_path / "arrays" / "data").iterdir()} == set(told)
    assert not (tmp_path / "arrays" / "data.json").exists()


def test_atlas__has_images_and_neighbours_beside_the_columns(
    photo_run, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "PICTURE_ROWS", 400)
    export(photo_run.path, tmp_path / "atlas.parquet", format="atlas")
    table = pq.read_table(tmp_path / "atlas.parquet").to_pylist()
    near = Run(photo_run.path).neighbors.load()
    assert len(table) == N_PHOTOS
    for row in (0, 3, 800, 1499):
        image = Image.open(io.BytesIO(table[row]["image"]["bytes"]))
        np.testing.assert_array_equal(np.asarray(image), photos[1][row])
        assert table[row]["image"]["path"] == photo_name(row)
        assert table[row]["neighbors"]["ids"] == near["index"].values[row].tolist()
        assert table[row]["neighbors"]["distances"] == near["distance"].values[row].tolist()
    # Of some images neighbours would lead to others.
    export(photo_run.path, tmp_path / "some.parquet", format="atlas", clusters=[1])
    assert "neighbors" not in pq.read_schema(tmp_path / "some.parquet").names


def test_export__refuses_pictures_of_vectors_and_a_map_that_is_not_there(
    client, tmp_path, pictures, array_run
):
    np.save(tmp_path / "vectors.npy", pictures[0][:400].reshape(400, -1))
    store = lean_run(tmp_path / "vectors.npy", tmp_path / "run", client)
    with pytest.raises(ImagesError, match=r"vectors of shape \(108,\)"):
        export(store.path, tmp_path / "out", format="folder")
    assert "path" not in pd.read_csv(Run(store.path).export(tmp_path / "labels.csv")).columns
    with pytest.raises(ConfigError, match="atlas` must have a map"):
        export(array_run.path, tmp_path / "atlas.parquet", format="atlas")


def test_parquet__without_pyarrow_says_what_to_install(photo_run, tmp_path, monkeypatch):
    monkeypatch.setattr("workflow.commands.export.tables.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'overcluster\[export\]'"):
        export(photo_run.path, tmp_path / "labels.parquet")
    assert export(photo_run.path, tmp_path / "labels.csv")["n_images"] == N_PHOTOS


def test_command__writes_and_says_what(run_cli, photo_run, tmp_path):
    status, out, _ = run_cli(
        "export", photo_run.path, "--to", "sub/few.csv", "--clusters", "0,noise", "--limit", 2
    )
    assert (status, out) == (0, f"4 images: {tmp_path / 'sub' / 'few.csv'}\n")
    status, out, _ = run_cli("export", photo_run.path, "--to", "all.parquet", "--json")
    assert (status, last_json(out)["n_images"]) == (0, N_PHOTOS)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "labels.txt"], "labels.txt without --format"),
        (["--to", "labels.txt", "--format", "csv"], "must end in .csv"),
        (["--to", "there.csv"], "must be a new path"),
        (["--to", "new.csv", "--limit", "0"], "`--limit` must be at least 1"),
        (["--to", "new.csv", "--clusters", "0,99"], "got '99'"),
        (["--to", "new.csv", "--columns", "gone.csv"], "must be a table that can be read"),
        (["--to", "new.csv", "--columns", "there.xls"], "`--columns` must be a table, .csv"),
        (["--to", "new", "--files", "nowhere"], "`--files` must be the folder"),
        (["--to", "there.csv/new.csv"], "the disk refused"),
    ],
)
def test_command__says_in_one_line_what_is_wrong(run_cli, photo_run, tmp_path, words, said):
    (tmp_path / "there.csv").write_text("kept")
    status, out, err = run_cli("export", photo_run.path, *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert names_in(tmp_path) == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "kept"
