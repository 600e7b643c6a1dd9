"""`run` alone: its folder by default, settings with options of their own, a number of clusters, its seconds."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.cli.conftest import QUICK
from tests.conftest import last_json, picture_set
from workflow.commands.run import default_out
from workflow.formatting import format_seconds


@pytest.fixture
def photos(tmp_path):
    """A folder with a file that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(picture_set(n=300, n_sources=3, shape=(8, 8, 3))[0]):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def manifest_of(run):
    return json.loads((run / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("images", "name"),
    [
        ("images.npy", "images-run"),
        ("/data/set.zarr/", "set-run"),
        ("some/photos", "photos-run"),
        ("all.h5::train/x", "all-train-x-run"),
    ],
)
def test_default_out__is_named_after_the_images_here(images, name):
    assert str(default_out(images)) == name


def test_default_out__of_this_folder_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(default_out(".")) == f"{tmp_path.name}-run"


def test_run__names_its_folder_first_and_refuses_images_of_another_folder(
    on_client, run_cli, images, tmp_path
):
    status, _, err = run_cli("run", "images.npy", *QUICK)
    assert status == 0, err
    assert err.splitlines()[0] == f"run folder: {tmp_path / 'images-run'}"
    assert (tmp_path / "images-run" / "labels.zarr").is_dir()
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "images.npy", picture_set(n=500, n_sources=2)[0])
    status, out, err = run_cli("run", "other/images.npy", *QUICK)
    assert (status, out) == (2, "")
    assert "images-run was made from" in err
    assert "Give another --out." in err


@pytest.mark.parametrize("command", ["run", "plan"])
def test_shape__is_an_option_of_what_hints_at_it(on_client, run_cli, photos, command):
    np.zeros(192, np.uint8).tofile("i.bin")
    status, _, err = run_cli(command, "i.bin")
    assert status == 2
    hint = re.search(r"Add for example (--\S.*)\.$", err.strip())[1].split()
    assert run_cli(command, "i.bin", *hint, *QUICK)[0] == 2


def test_folder__is_run_without_a_setting(on_client, run_cli, photos):
    status, _, err = run_cli("run", photos, *QUICK)
    assert status == 0, err
    assert "pictures become images of " in err


def test_run__tells_counts_with_units_and_names_what_it_left_out(run_cli, photos):
    status, _, err = run_cli("run", photos, "--shape", "8,8,3", *QUICK)
    assert status == 0, err
    told = dict(re.findall(r"^([a-z_]+): \d+\.\d s, (.*)$", err, flags=re.MULTILINE))
    assert told["start"] == "in this process"
    assert told["ingest"] == "300 images read, 1 file skipped (broken.png)"
    assert re.fullmatch(r"\d+ components keep [\d.]+% of the variance of 300 images", told["pca"])
    assert re.fullmatch(r"40 centroids after \d+ rounds?", told["overcluster"])
    assert re.fullmatch(r"3 clusters of at least \d+ images \(\w+\)", told["tree"])
    assert told["labels"] == "300 images labelled, 0 of them noise"
    for internal in ("n_", "assign", "inertia", "asked", "unreadable"):
        assert internal not in "\n".join(told.values())


def test_settings__with_an_option_of_their_own_are_those_of_set(
    on_client, run_cli, photos, tmp_path
):
    short = ("--shape", "8,8,3", "--whiten")
    long = ("--set", "ingest.shape=8,8,3", "--set", "pca.whiten=true")
    for name, words in (("short", short), ("long", long)):
        assert run_cli("run", photos, "--out", name, *words, *QUICK)[0] == 0
    first, second = (manifest_of(tmp_path / name) for name in ("short", "long"))
    assert first["config"] == second["config"]
    assert first["config"]["pca.whiten"] is True
    keys = [{name: step["key"] for name, step in m["steps"].items()} for m in (first, second)]
    assert keys[0] == keys[1]
    status, _, err = run_cli("run", photos, "--out", "bad", "--shape", "8,x", *QUICK)
    assert status == 2
    assert "got '8,x' (from --shape)" in err


def test_n_clusters__is_run_and_recut_in_one_and_makes_nothing_stale(
    on_client, run_cli, images, tmp_path
):
    status, out, err = run_cli("run", images, "--out", "one", "--n-clusters", 2, *QUICK, "--json")
    assert status == 0, err
    assert last_json(out)["n_clusters"] == 2
    assert "cut: 2 clusters as asked for, in place of 4" in err
    shutil.copytree(tmp_path / "one", tmp_path / "kept")
    assert run_cli("run", images, "--out", "two", *QUICK)[0] == 0
    status, out, _ = run_cli("recut", "two", "--n-clusters", 2, "--json")
    assert (status, last_json(out)["n_clusters"]) == (0, 2)
    one, two = (manifest_of(tmp_path / name) for name in ("one", "two"))
    assert one["cut"] == two["cut"]
    assert one["cut"]["requested"] == {"n_clusters": 2}
    with (
        xr.open_zarr(tmp_path / "one/labels.zarr") as a,
        xr.open_zarr(tmp_path / "two/labels.zarr") as b,
    ):
        xr.testing.assert_identical(a.load(), b.load())

    status, out, err = run_cli("run", images, "--out", "one", "--n-clusters", 2, *QUICK, "--json")
    assert (status, last_json(out)["n_clusters"]) == (0, 2)
    assert "all steps are complete" in err
    assert manifest_of(tmp_path / "one") == manifest_of(tmp_path / "kept")
    status, out, err = run_cli("run", images, "--out", "one", "--n-clusters", 4, *QUICK, "--json")
    assert (status, last_json(out)["n_clusters"]) == (0, 4)
    assert "all steps are complete" in err


def test_seconds__are_the_same_on_the_command_line_and_on_the_page(
    on_client, run_cli, images, tmp_path
):
    status, out, err = run_cli("run", images, "--out", "run", *QUICK)
    assert status == 0, err
    seconds = json.loads((tmp_path / "run/summary.json").read_text())["seconds"]
    parts = {name: value for name, value in seconds.items() if name != "total"}
    assert seconds["start"] > 0
    assert seconds["total"] == pytest.approx(sum(parts.values()), abs=0.002)
    total, start = format_seconds(seconds["total"]), format_seconds(seconds["start"])
    assert f"in {total}, start {start}." in out
    page = (tmp_path / "run/report.html").read_text()
    told = re.findall(r'<span data-time="(total|report)">([^<]*)</span>', page)
    assert told
    assert dict(told) == {name: format_seconds(seconds[name]) for name in ("total", "report")}
    assert f'<td class="num">{format_seconds(seconds["start"])}</td>' in page
    assert run_cli("status", "run", "--verify")[0] == 0
    before = page
    assert run_cli("report", "run")[0] == 0
    told_again = re.findall(
        r'<span data-time="(total|report)">([^<]*)</span>',
        (tmp_path / "run/report.html").read_text(),
    )
    assert told_again == told, before
