"""The command line: what it prints, its exit status, and one line for every mistake."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from PIL import Image

from tests.cli.conftest import QUICK, WHOLE
from tests.conftest import last_json, picture_set
from tests.runs.helpers import without_families
from workflow.cli.program import program


def test_commands__are_those_of_the_contract():
    names = {
        "demo",
        "ingest",
        "plan",
        "run",
        "status",
        "recut",
        "update",
        "predict",
        "report",
        "config",
    }
    assert names <= set(program.commands)


def test_all_commands__from_images_to_predictions(run_cli, images, tmp_path):
    run, predicted = tmp_path / "run", tmp_path / "predicted.zarr"
    status, out, err = run_cli(
        "run", images, "--out", run, *WHOLE, "--set", "compute.n_workers=1", "--json"
    )
    assert status == 0, err
    summary = last_json(out)
    assert summary["n_clusters"] == 4
    assert summary == json.loads((run / "summary.json").read_text())
    assert "pca: " in err
    assert "dashboard: http://127.0.0.1" in err

    status, out, _ = run_cli("status", run, "--verify", "--json")
    assert status == 0
    states = {name: step["state"] for name, step in last_json(out)["steps"].items()}
    assert set(states.values()) == {"complete"}

    status, out, _ = run_cli("predict", run, images, "--out", predicted, "--json")
    assert status == 0
    with xr.open_zarr(predicted) as new, xr.open_zarr(run / "labels.zarr") as old:
        for name in without_families(old):
            np.testing.assert_array_equal(new[name], old[name], err_msg=name)

    status, out, _ = run_cli("recut", run, "--n-clusters", 2, "--json")
    assert (status, last_json(out)["n_clusters"]) == (0, 2)
    (run / "report.html").unlink()
    status, out, _ = run_cli("report", run)
    assert status == 0
    assert (run / "report.html").is_file()

    np.save(tmp_path / "more.npy", picture_set(n=300, n_sources=4, seed=9)[0])
    status, out, _ = run_cli("update", run, tmp_path / "more.npy", "--json")
    updated = last_json(out)
    assert (status, updated["n_samples"]) == (0, 1500)
    # They are of other sources.
    assert updated["n_clusters"] > 4

    status, out, err = run_cli("run", images, "--out", run, *WHOLE, "--json")
    assert (status, last_json(out)["n_clusters"]) == (0, updated["n_clusters"])
    assert "all steps are complete" in err


def test_compute_check__says_what_a_worker_saw(run_cli, client):
    status, out, err = run_cli(
        "compute", "check", "local", "--set", "compute.n_workers=1", "--json"
    )
    assert status == 0, err
    found = last_json(out)
    assert (found["n_workers"], found["writes_run"], found["differing"]) == (1, True, [])
    assert found["problems"] == []
    address = client.scheduler_info()["address"]
    status, out, _ = run_cli("compute", "check", address)
    assert status == 0
    assert "2 workers" in out
    status, out, err = run_cli("compute", "check", "slrum")
    assert (status, out) == (2, "")
    assert "Did you mean `slurm`" in err


def test_demo__finds_its_sources(on_client, run_cli, tmp_path):
    lean = ("--set", "tree.n_resamples=0")
    words = ("--images", 8_000, "--out", tmp_path / "demo", *lean)
    status, out, err = run_cli("demo", *words, "--json")
    assert status == 0, err
    found = last_json(out)
    assert found["truth"]["n_sources"] >= 24
    assert found["truth"]["ari"] > 0.9
    status, out, _ = run_cli("demo", *words)
    assert status == 0
    assert found["truth"]["n_films"] == 2
    assert found["truth"]["n_films_found"] >= 1
    assert found["truth"]["n_families"] >= 10
    assert found["truth"]["family_precision"] >= 0.8
    for word in ("sources", "clusters found", "ARI", "clutter", "films", "seconds", "report.html"):
        assert word in out


def test_plan__prints_the_passes(run_cli, images):
    status, out, _ = run_cli("plan", images, "--no-pilot")
    assert status == 0
    for word in ("blocks", "pca", "projection", "overcluster: assign", "labels", "memory/task"):
        assert word in out
    status, out, _ = run_cli("plan", images, "--no-pilot", "--json")
    content = last_json(out)
    assert content["n_samples"] == 1200
    assert content["fits"]


def test_plan__refuses_what_cannot_fit(run_cli, tmp_path):
    wide = tmp_path / "wide.npy"
    np.save(wide, np.zeros((10, 4000), np.uint8))
    words = ("--set", "compute.memory_limit=400 MiB", "--set", "compute.n_workers=1")
    status, _, err = run_cli("plan", wide, *words)
    assert status == 2
    assert "task pca needs" in err
    assert "a worker has 400.00 MiB. Lower pca.max_full_features" in err
    status, _, err = run_cli("run", wide, "--out", tmp_path / "run", *words)
    assert status == 2
    assert "a worker has 400.00 MiB" in err.splitlines()[-1]


def test_ingest__copies_a_folder_and_names_what_it_could_not_read(on_client, run_cli, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(np.full((9, 7, 3), 30 * index, np.uint8)).save(folder / f"{index}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    status, out, err = run_cli(
        "ingest",
        folder,
        tmp_path / "out.zarr",
        "--shape",
        "8,8,3",
        "--json",
    )
    assert status == 0, err
    found = last_json(out)
    assert found["n_samples"] == 6
    assert found["unreadable"] == ["broken.png"]
    with xr.open_zarr(tmp_path / "out.zarr") as copied:
        assert copied["images"].shape == (6, 8, 8, 3)
        assert [str(path) for path in copied["path"].values] == [f"{i}.png" for i in range(6)]


def test_run__of_a_folder_joins_labels_to_files(on_client, run_cli, tmp_path):
    folder = tmp_path / "pictures"
    images, source = picture_set(n=400, n_sources=3, shape=(8, 8, 3))
    for kind in range(3):
        (folder / str(kind)).mkdir(parents=True)
    for index, (image, kind) in enumerate(zip(images, source, strict=True)):
        Image.fromarray(image).save(folder / str(kind) / f"{index:03d}.png")
    run = tmp_path / "run"
    status, _, err = run_cli("run", folder, "--out", run, *QUICK, "--set", "ingest.shape=8,8,3")
    assert status == 0, err
    with xr.open_zarr(run / "labels.zarr") as labels:
        assert "path" in labels.coords
        kinds = [str(path).split("/")[0] for path in labels["path"].values]
        found = labels["label_resolved"].values
    assert len({(kind, label) for kind, label in zip(kinds, found, strict=True)}) == 3
    assert run_cli("recut", run, "--n-clusters", 2)[0] == 0
    with xr.open_zarr(run / "labels.zarr") as labels:
        assert [str(path).split("/")[0] for path in labels["path"].values] == kinds


def bad(tmp_path, name):
    """Make one bad input; return the words of the command and what must be said."""
    path = tmp_path / "bad.npy"
    run = ["--out", str(tmp_path / "run")]
    good = np.zeros((50, 4, 4, 3), np.uint8)
    if name == "missing":
        return ["run", str(tmp_path / "none.npy"), *run], ["none.npy"]
    if name == "junk":
        path.write_bytes(b"\x00\x01junk" * 50)
        return ["run", str(path), *run], ["bad.npy"]
    if name == "empty file":
        path.write_bytes(b"")
        return ["run", str(path), *run], ["bad.npy"]
    if name == "truncated":
        np.save(path, good)
        path.write_bytes(path.read_bytes()[:-100])
        return ["run", str(path), *run], ["bad.npy"]
    arrays = {
        "objects": np.array([{}, 1, "a"], dtype=object),
        "text": np.array(["a", "b"]),
        "int64": np.zeros((9, 4), np.int64),
        "bool": np.zeros((9, 4), bool),
        "complex": np.zeros((9, 4), complex),
        "one dimension": np.zeros(9, np.uint8),
        "no image": np.zeros((0, 4, 4), np.uint8),
        "one image": np.zeros((1, 4, 4), np.uint8),
        "no feature": np.zeros((9, 0), np.uint8),
    }
    said = {
        "objects": "object",
        "text": "text",
        "one dimension": "dimension",
        "no image": "0",
        "one image": "1",
    }
    if name in arrays:
        np.save(path, arrays[name], allow_pickle=True)
        return ["run", str(path), *run], [
            "bad.npy",
            said.get(name, name if name != "no feature" else "0"),
        ]
    if name == "zip without images":
        np.savez(tmp_path / "bad.npz", x=good)
        return ["run", str(tmp_path / "bad.npz"), *run], ["bad.npz", "images"]
    if name == "truncated zip":
        np.savez(tmp_path / "bad.npz", images=good)
        (tmp_path / "bad.npz").write_bytes((tmp_path / "bad.npz").read_bytes()[:200])
        return ["run", str(tmp_path / "bad.npz"), *run], ["bad.npz"]
    if name == "folder of nothing":
        (tmp_path / "folder").mkdir()
        return ["run", str(tmp_path / "folder"), *run], ["folder"]
    if name == "folder of one picture":
        (tmp_path / "folder").mkdir()
        Image.fromarray(good[0]).save(tmp_path / "folder" / "a.png")
        return ["run", str(tmp_path / "folder"), *run], ["two images or more", "folder has 1"]
    if name == "unknown kind":
        (tmp_path / "bad.xyz").write_bytes(b"123")
        return ["run", str(tmp_path / "bad.xyz"), *run], ["bad.xyz"]
    if name == "hdf5 without name":
        with h5py.File(tmp_path / "bad.h5", "w") as file:
            file["a"], file["b"] = good, good
        return ["run", str(tmp_path / "bad.h5"), *run], ["bad.h5", "a", "b"]
    if name == "zarr group without images":
        zarr.create_group(tmp_path / "bad.zarr").create_array("x", shape=(5, 5), dtype="uint8")
        return ["run", str(tmp_path / "bad.zarr"), *run], ["bad.zarr", "images"]
    np.save(tmp_path / "good.npy", good)
    words = ["run", str(tmp_path / "good.npy")]
    if name == "out is a file":
        (tmp_path / "file").write_text("x")
        return [*words, "--out", str(tmp_path / "file")], ["--out", "is a file"]
    if name == "out cannot be made":
        (tmp_path / "file").write_text("x")
        return [*words, "--out", str(tmp_path / "file" / "run")], ["--out", "cannot"]
    if name == "out holds other things":
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "thesis.tex").write_text("x")
        return [*words, "--out", str(tmp_path / "other")], ["thesis.tex"]
    settings = {
        "mistyped setting": ("pca.n_componets=4", "Did you mean `pca.n_components`"),
        "too many components": ("pca.n_components=900", "at most 48"),
        "too many centroids": ("overcluster.n_centroids=51", "at most the number of images"),
        "too large a cluster": ("tree.min_cluster_size=51", "at most the number of images"),
        "wrong choice": ("tree.method=best", "'density'"),
    }
    setting, text = settings[name]
    return [*words, *run, "--set", setting], [text]


BAD = [
    "missing", "junk", "empty file", "truncated", "objects", "text", "int64", "bool", "complex",
    "one dimension", "no image", "one image", "no feature", "zip without images", "truncated zip",
    "folder of nothing", "folder of one picture", "unknown kind", "hdf5 without name",
    "zarr group without images", "out is a file", "out cannot be made", "out holds other things",
    "mistyped setting", "too many components", "too many centroids", "too large a cluster",
    "wrong choice",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input__exits_2_with_one_line(name, run_cli, tmp_path):
    words, texts = bad(tmp_path, name)
    status, out, err = run_cli(*words)
    assert status == 2, err
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert err.startswith("error: ")
    for text in texts:
        assert text in err
    assert not (tmp_path / "run").exists(), "nothing is left behind"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bad_input__the_first_value_that_is_not_finite_is_named(
    value, on_client, run_cli, tmp_path
):
    images = picture_set(n=3000, dtype=np.float32)[0]
    images[2900, 0, 0, 0] = np.nan
    images[1700, 2, 1, 0] = value
    np.save(tmp_path / "images.npy", images)
    status, out, err = run_cli(
        "run",
        tmp_path / "images.npy",
        "--out",
        tmp_path / "run",
        "--set",
        "block_rows=500",
    )
    assert (status, out) == (2, "")
    assert f"got {value} first at image 1700, row 2, column 1, channel 0" in err.splitlines()[-1]


def test_bad_input__a_cut_zarr_chunk_is_named(on_client, run_cli, tmp_path):
    group = zarr.create_group(tmp_path / "images.zarr")
    stored = group.create_array(
        "images", shape=(900, 4, 4, 3), chunks=(100, 4, 4, 3), dtype="uint8"
    )
    stored[:] = np.random.default_rng(0).integers(0, 256, stored.shape, dtype=np.uint8)
    chunk = tmp_path / "images.zarr" / "images" / "c" / "3" / "0" / "0" / "0"
    intact = chunk.read_bytes()
    chunk.write_bytes(intact[:-20])
    words = ("run", tmp_path / "images.zarr", "--out", tmp_path / "run", *QUICK)
    status, _, err = run_cli(*words)
    assert status == 2
    assert "300" in err.splitlines()[-1]
    chunk.unlink()
    status, _, err = run_cli(*words)
    assert status == 2
    assert "300" in err.splitlines()[-1]
    chunk.write_bytes(intact)
    assert run_cli(*words)[0] == 0, "repaired images are not other images"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Missing command"),
        (["run"], "IMAGES"),
        (["runn"], "runn"),
        (["run", "a.npy"], "a.npy"),
        (["demo", "--images", "few"], "few"),
        (["status", "nowhere"], "must be a run folder"),
        (["recut", "nowhere", "--n-clusters", "0"], "0"),
        (["recut", "nowhere", "--layer", "family"], "family"),
        (["run", "a.npy", "--out", "b", "--config", "none.yaml"], "none.yaml"),
        (["run", "a.npy", "--out", "b", "--compute", "slrum"], "Did you mean `slurm`"),
        (["run", "a.npy", "--ouut", "b"], "No such option '--ouut'. Did you mean '--out'? See"),
        (["run", "a.npy", "--zzz", "b"], "No such option '--zzz'. See"),
    ],
)
def test_usage__a_mistake_is_one_line_and_exit_2(run_cli, words, text):
    status, out, err = run_cli(*words)
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert text in err
