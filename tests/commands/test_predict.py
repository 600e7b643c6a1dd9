"""What is said of an image depends on that image alone; one image, or images unlike the run's, are labelled too."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import workflow
from tests.conftest import last_json, picture_set
from tests.runs.helpers import assert_same_labels, copy_of, labels_of, lean_run, without_families
from workflow.commands.predict import far_out_sentence, predict
from workflow.commands.update import update
from workflow.engine.progress import Progress
from workflow.errors import ImagesError, StoreError
from workflow.runstore import RunStore, zarr_io
from workflow.steps.parts.far_out import UsualDistance

SILENT = Progress(enabled=False)
#: Few centroids and many are searched in different ways; bytes and floats are centred in different ways;
#: the map is of centroids or of images.
IMAGES_ON_MAP = {"map.enabled": True, "neighbors.enabled": True, "families.enabled": False}
KINDS = {
    "bytes": ("uint8", {"map.enabled": True}),
    "panels": ("uint8", {"overcluster.n_centroids": 300, "pca.whiten": True}),
    "half": ("uint16", {"projection.dtype": "float16", **IMAGES_ON_MAP}),
    "floats": ("float32", {"overcluster.n_centroids": 300, "labels.max_outlier_score": 0.6}),
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, client, tmp_path_factory):
    """A run of images of which some are copies, and the images."""
    folder, (dtype, settings) = tmp_path_factory.mktemp("predict"), KINDS[request.param]
    images, _ = picture_set(n=3000, shape=(5, 7, 3), dtype=dtype)
    images[-200:] = images[np.random.default_rng(0).integers(0, 2800, 200)]
    np.save(folder / "images.npy", images)
    return lean_run(folder / "images.npy", folder / "run", client, **settings), images


def predicted(store, images, place):
    """Return the labels of images by name, as arrays."""
    predict(store.path, images, place, progress=SILENT)
    return {name: zarr_io.read_array(place, name) for name in without_families(labels_of(store))}


@settings(max_examples=3)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 700))
def test_labels__are_those_of_the_image_alone(run, tmp_path_factory, seed, n):
    """Permuted, repeated, in parts and one by one: the same bits as in the run."""
    (store, images), place = run, tmp_path_factory.mktemp("p") / "labels.zarr"
    rng, expected = np.random.default_rng(seed), without_families(labels_of(store))
    rows = rng.integers(0, len(images), n)
    cut = int(rng.integers(0, n))
    for part in (rows, rows[:cut], rows[cut:], rows[:1]):
        if len(part):
            found = predicted(store, images[part], place)
            for name, array in found.items():
                np.testing.assert_array_equal(array, expected[name].values[part], err_msg=name)


def test_labels__of_copies_are_equal_in_a_run(run):
    store, images = run
    labels, first = without_families(labels_of(store)), {}
    for row, image in enumerate(images):
        same = first.setdefault(image.tobytes(), row)
        if same != row:
            for name in labels:
                np.testing.assert_array_equal(labels[name][same], labels[name][row], err_msg=name)
    assert len(first) <= 2800


def test_one_image__in_every_form(run, tmp_path):
    store, images = run
    expected = without_families(labels_of(store)).isel(sample=[7])
    labelled = workflow.Run(store.path)
    np.save(tmp_path / "one.npy", images[7])
    np.save(tmp_path / "many.npy", images[7:8])
    forms = {
        "image": images[7],
        "images": images[7:8],
        "dask": da.from_array(images[7]),
        "xarray": xr.DataArray(images[7], dims=("y", "x", "channel")),
        "file": tmp_path / "one.npy",
        "file of images": tmp_path / "many.npy",
    }
    for name, form in forms.items():
        found = labelled.predict(form, tmp_path / f"{name}.zarr").load()
        assert_same_labels(found, expected)


@pytest.fixture(scope="module")
def bytes_run(client, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bytes")
    images, _ = picture_set(n=2000, shape=(6, 5, 3))
    np.save(folder / "images.npy", images)
    return lean_run(folder / "images.npy", folder / "run", client), images


def test_model__gives_the_labels_of_the_run_to_the_bit(run, tmp_path):
    """One image, many, in parts; a model is loaded once and needs the run no more."""
    store, images = run
    expected = without_families(labels_of(store))
    copied = copy_of(store, tmp_path / "run").path
    model = workflow.load_model(copied)
    shutil.rmtree(copied)
    assert (model.image_shape, model.dtype) == (images.shape[1:], images.dtype)
    assert model.n_clusters == workflow.Run(store.path).n_clusters
    for rows in (slice(7, 8), slice(0, 1000), slice(1000, 3000)):
        found = model.predict(images[rows])
        assert_same_labels(found, expected.isel(sample=rows))
        assert found["top_label"].dims == expected["top_label"].dims
    alone = model.predict(images[7])
    assert_same_labels(alone, expected.isel(sample=[7]))
    parts = map(model.predict, (images[first : first + 900] for first in range(0, 3000, 900)))
    whole = np.concatenate([part["label"].values for part in parts])
    np.testing.assert_array_equal(whole, expected["label"].values)
    assert model.predict(images[:0]).sizes["sample"] == 0


def test_model__refuses_other_images_and_runs(bytes_run, tmp_path):
    model = workflow.load_model(bytes_run[0].path)
    for other in (np.zeros((5, 6, 3), np.uint8), np.zeros((6, 5, 3)), np.zeros((2, 2, 6, 5, 3))):
        with pytest.raises(
            ImagesError, match=r"must be like those of the run, \(6, 5, 3\) of uint8"
        ):
            model.predict(other)
    copied = copy_of(bytes_run[0], tmp_path / "run")
    copied.step("labels").state = "partial"
    copied.save()
    with pytest.raises(StoreError, match="step labels is partial"):
        workflow.load_model(copied.path)


def stream(run_path, content, *words):
    """Label what comes on standard input."""
    command = (sys.executable, "-m", "workflow", "predict", str(run_path), "-", *words)
    return subprocess.run(command, input=content, capture_output=True, check=False)


def test_stream__of_arrays_is_labelled_line_by_line(bytes_run):
    store, images = bytes_run
    expected, blocks = labels_of(store), io.BytesIO()
    for block in (images[:5], images[5], images[6:9]):
        np.save(blocks, block)
    done = stream(store.path, blocks.getvalue())
    assert (done.returncode, done.stderr) == (0, b"")
    table = pd.read_csv(io.BytesIO(done.stdout), index_col="sample")
    assert table.index.tolist() == list(range(9))
    for name in table:
        np.testing.assert_array_equal(table[name].astype(expected[name].dtype), expected[name][:9])
    as_json = stream(store.path, blocks.getvalue(), "--json").stdout.splitlines()
    assert [json.loads(line)["sample"] for line in as_json] == [[*range(5)], [5], [6, 7, 8]]


def test_stream__that_breaks_off_is_told_after_what_was_whole(bytes_run, tmp_path):
    store, images = bytes_run
    whole, cut = io.BytesIO(), io.BytesIO()
    np.save(whole, images[:5])
    np.save(cut, images[5:9])
    for rest in (cut.getvalue()[:-1], cut.getvalue()[:9], b"no array"):
        done = stream(store.path, whole.getvalue() + rest)
        assert (done.returncode, done.stdout.count(b"\n"), done.stderr.count(b"\n")) == (2, 6, 1)
        assert b"after 5 images it does not" in done.stderr
    done = stream(store.path, b"", "--out", tmp_path / "p.zarr")
    assert done.returncode == 2
    assert b"--out LABELS.zarr, or - instead" in done.stderr


def test_folder__and_raw_file_take_the_shape_of_the_run(bytes_run, run_cli, tmp_path):
    store, images = bytes_run
    (tmp_path / "signs").mkdir()
    Image.fromarray(images[3]).save(tmp_path / "signs" / "three.png")
    images[3:9].tofile(tmp_path / "signs.bin")
    expected = labels_of(store)["label"].values
    Image.fromarray(images[4]).save(tmp_path / "signs" / "four.PNG")
    forms = (("signs/three.png", [3]), ("signs/four.PNG", [4]), ("signs.bin", range(3, 9)))
    for given_images, rows in (*forms, ("signs", [4, 3])):
        words = ("predict", store.path, tmp_path / given_images, "--out", tmp_path / "p.zarr")
        status, out, err = run_cli(*words)
        assert status == 0, err
        assert out.startswith("1 image in 1 cluster" if len(rows) == 1 else f"{len(rows)} images")
        np.testing.assert_array_equal(
            zarr_io.read_array(tmp_path / "p.zarr", "label"), expected[rows]
        )
        if given_images.startswith("signs/"):
            names = zarr_io.read_array(tmp_path / "p.zarr", "path")
            assert names.tolist() == [given_images.removeprefix("signs/")]
    (tmp_path / "signs" / "broken.png").write_bytes(b"no picture")
    words = ("predict", store.path, tmp_path / "signs", "--out", tmp_path / "p.zarr")
    status, out, err = run_cli(*words)
    assert (status, out.startswith("2 images")) == (0, True)
    assert "1 file skipped (broken.png)" in err


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (
            np.zeros((4, 5, 6, 3), np.uint8),
            r"\(6, 5, 3\) of uint8; the array holds \(5, 6, 3\) of uint8",
        ),
        (
            np.zeros((6, 5, 3), np.float32),
            r"\(6, 5, 3\) of uint8; the array holds \(6, 5, 3\) of float32",
        ),
        (np.zeros((0, 6, 5, 3), np.uint8), "one image or more; the array has 0"),
    ],
)
def test_other_images__are_refused_in_one_line(bytes_run, tmp_path, other, text):
    for command in (
        lambda: predict(bytes_run[0].path, other, tmp_path / "p.zarr", progress=SILENT),
        lambda: update(bytes_run[0].path, other, progress=SILENT),
    ):
        with pytest.raises(ImagesError, match=text) as caught:
            command()
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_run__of_one_image_is_refused(on_client, run_cli, tmp_path):
    np.save(tmp_path / "one.npy", np.zeros((1, 6, 5, 3), np.uint8))
    for words in (("plan", "one.npy"), ("run", "one.npy", "--out", "run")):
        status, out, err = run_cli(*words)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "two images or more" in err
    (tmp_path / "signs").mkdir()
    Image.new("RGB", (5, 6)).save(tmp_path / "signs" / "one.png")
    (tmp_path / "signs" / "two.png").write_bytes(b"no picture")
    words = ("run", "signs", "--out", "run2", "--set", "compute.n_workers=1")
    status, _, err = run_cli(*words, "--set", "ingest.shape=6,5,3")
    assert status == 2
    assert "two images or more; signs has 1" in err


def test_update__with_one_image(bytes_run, tmp_path):
    images, store = bytes_run[1], copy_of(bytes_run[0], tmp_path / "run")
    counts = store.step("pca").details["exact_images"]
    found = workflow.Run(store.path).update(images[3], again=True)
    assert (found["n_samples_before"], found["n_samples"]) == (2000, 2001)
    (mean,) = RunStore.open(store.path).read_model("mean")
    whole = np.concatenate([images, images[3:4]]).reshape(2001, -1)
    np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-14)
    added = RunStore.open(store.path)
    # The image that it equals was alone before, and is not any more.
    assert added.step("pca").details["exact_images"] - counts in (1, 2)
    labels = labels_of(added)
    for name in ("label", "centroid", "distance"):
        assert labels[name].values[2000] == labels[name].values[3]


def stripes(n, shape=(6, 5, 3)):
    """Images unlike noisy pictures."""
    images = np.zeros((n, *shape), np.uint8)
    images[:, ::2] = np.random.default_rng(0).integers(200, 256, (n, 1, 1, 1))
    return images


def test_images_unlike_the_runs__are_counted_and_named(bytes_run, run_cli, tmp_path):
    store = bytes_run[0]
    np.save(tmp_path / "stripes.npy", stripes(200))
    words = ("predict", store.path, tmp_path / "stripes.npy", "--out", tmp_path / "p.zarr")
    status, out, err = run_cli(*words)
    assert status == 0, err
    assert out.splitlines()[1].startswith(
        "200 of 200 images (100.0%) lie farther from the nearest centroid than 99 % of the run's images: the run has hardly"
    )
    found = last_json(run_cli(*words, "--json")[1])
    distances = zarr_io.read_array(tmp_path / "p.zarr", "distance")
    assert found["n_far_out"] == np.count_nonzero(distances > found["usual_distance"]) == 200


def test_images_unlike_the_runs__are_told_in_python(bytes_run, caplog):
    run = workflow.Run(bytes_run[0].path)
    rows = run.predict(stripes(3))
    assert "3 of 3 images" in caplog.text
    assert rows.attrs["n_far_out"] == 3
    caplog.clear()
    run.predict(bytes_run[1][:500])
    assert not caplog.text


def test_far_out__one_of_a_hundred_in_the_run_itself(bytes_run, client, tmp_path):
    images, store = bytes_run[1], copy_of(bytes_run[0], tmp_path / "run")
    run = workflow.Run(store.path, client=client)
    for _ in range(2):
        distances = np.sort(labels_of(run)["distance"].values)
        found = predict(run.path, images, tmp_path / "p.zarr", progress=SILENT)
        assert found["usual_distance"] == distances[1979], "99 % of 2,000 are 1,980"
        assert found["n_far_out"] == np.count_nonzero(distances > distances[1979]) <= 20
        assert "up to 5% do of new images" in far_out_sentence(found)
        run.recut(n_clusters=4)
    # As in a run of an earlier version, which did not note it.
    store = RunStore.open(run.path)
    store.step("labels").details = {}
    store.save()
    assert predict(run.path, images[:5], tmp_path / "p.zarr")["usual_distance"] == distances[1979]


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=80),
    st.sampled_from([0.01, 0.5, 0.99, 1.0]),
)
def test_usual_distance__is_the_quantile(tmp_path_factory, values, share):
    place, distances = tmp_path_factory.mktemp("distances"), np.array(values, np.float32)
    zarr_io.write_array(place, "distance", distances, dims=("sample",))
    expected = np.quantile(distances, share, method="inverted_cdf")
    assert UsualDistance(share, rows_at_once=7)(place) == expected


@pytest.mark.parametrize(
    ("n_far", "n", "text"),
    [
        (None, 5, ""),
        (0, 5, "None lies farther from the nearest centroid than 99 % of the run's images."),
        (
            1,
            1,
            "1 of 1 image (100.0%) lies farther from the nearest centroid than 99 % of the run's images: the run has hardly seen",
        ),
        (
            1,
            3,
            "1 of 3 images (33.3%) lies farther from the nearest centroid than 99 % of the run's images; up to 5% do of new images that",
        ),
        (40, 300, "40 of 300 images (13.3%) lie farther from"),
        (29, 300, "29 of 300 images (9.7%) lie farther from"),
    ],
)
def test_far_out_sentence__says(n_far, n, text):
    found = {"n_far_out": n_far, "n_samples": n, "usual_distance": 7.5}
    assert far_out_sentence(found).startswith(text)
    assert ("little" in far_out_sentence(found)) == ((n_far, n) in [(1, 1), (40, 300)])
