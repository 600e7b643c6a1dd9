"""Vectors of a model in an ONNX file, and of any function: the same bytes however they are made."""

import threading

import dask.array as da
import numpy as np
import pytest
import zarr
from PIL import Image

import workflow
from tests.conftest import last_json
from tests.ingest.helpers import KilledError, KilledRunner, ThreadRunner, files_of
from tests.ingest.models import MODEL_SIDE, MODEL_WIDTH, weights, write_model
from tests.runs.helpers import assert_same_labels, labels_of, lean_run, without_families
from workflow.errors import ConfigError, ImagesError, StoreError
from workflow.ingest import (
    ArraySource,
    FunctionEmbedder,
    embedded,
    ingest,
    open_input,
    open_source,
)
from workflow.ingest.embedding import EmbeddedSource

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
N, SIDE, WIDTH = 700, MODEL_SIDE, MODEL_WIDTH


def expected(images, *, mean=MEAN, std=STD):
    """Return what the model makes of images, by NumPy."""
    values = (images.astype(np.float64) / 255 - mean) / std
    flat = np.moveaxis(values, -1, 1).reshape(len(images), -1)
    return np.maximum(flat @ weights(), 0)


def projected(batch):
    """Return vectors of a batch, as a function of a user does."""
    return (batch.reshape(len(batch), -1) @ weights()).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images as .npy, a folder of pictures, a model."""
    folder = tmp_path_factory.mktemp("embedding")
    images = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3)).astype(np.uint8)
    np.save(folder / "images.npy", images)
    (folder / "photos").mkdir()
    for index, image in enumerate(images[:12]):
        Image.fromarray(image).save(folder / "photos" / f"{index:02d}.png")
    (folder / "photos" / "05.png").write_bytes(b"no picture")
    write_model(folder / "model.onnx", mean=MEAN, std=STD)
    return folder


@pytest.fixture(scope="module")
def images(place):
    return np.load(place / "images.npy")


def vectors_of(store):
    return zarr.open_array(store / "images", mode="r")[:]


def test_model__gives_what_numpy_computes_in_both_layouts_and_types(place, images, tmp_path):
    found = open_source(place / "images.npy", model=place / "model.onnx")
    assert (found.n_samples, found.image_shape, found.dtype) == (N, (WIDTH,), np.float32)
    np.testing.assert_allclose(found.read(0, N), expected(images), rtol=1e-5, atol=1e-4)
    half = write_model(tmp_path / "half.onnx", mean=MEAN, std=STD, dtype="float16")
    found = open_source(place / "images.npy", model=half)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found.read(3, 50), expected(images)[3:50], rtol=1e-3, atol=1e-3)
    nhwc = write_model(tmp_path / "nhwc.onnx", shape=(SIDE, SIDE, 3), scale=1, mean=9)
    found = open_source(place / "images.npy", model=nhwc).read(0, 9)
    flat = images[:9].reshape(9, -1) - 9.0
    np.testing.assert_allclose(found, np.maximum(flat @ weights(), 0), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("said", [{"batch": 1}, {"batch": 7}, {"batch": 300}])
def test_model__gives_the_same_bytes_in_any_batches(place, tmp_path, said):
    model = write_model(tmp_path / "model.onnx", mean=MEAN, std=STD, **said)
    found = open_source(place / "images.npy", model=model).read(0, N)
    other = open_source(place / "images.npy", model=place / "model.onnx").read(0, N)
    np.testing.assert_array_equal(found, other)


def test_model__of_a_fixed_batch_is_given_whole_ones(place, tmp_path):
    model = write_model(tmp_path / "model.onnx", batch=16, mean=MEAN, std=STD)
    found = open_source(place / "images.npy", model=model).read(0, 21)
    other = open_source(place / "images.npy", model=place / "model.onnx").read(0, 21)
    np.testing.assert_array_equal(found, other)


def test_ingest__by_any_workers_killed_and_resumed_leaves_the_same_bytes(place, tmp_path):
    def source():
        return open_source(place / "images.npy", model=place / "model.onnx")

    assert isinstance(source(), EmbeddedSource)
    whole = ingest(source(), tmp_path / "whole.zarr")
    assert whole.n_shards_written == 3
    ingest(source(), tmp_path / "threads.zarr", runner=ThreadRunner())
    with pytest.raises(KilledError):
        # One task looks whether the vectors compress.
        ingest(source(), tmp_path / "killed.zarr", runner=KilledRunner(2))
    resumed = ingest(source(), tmp_path / "killed.zarr", runner=KilledRunner())
    assert (resumed.n_shards_reused, resumed.n_shards_written) == (1, 2)
    for other in ("threads", "killed"):
        assert files_of(tmp_path / f"{other}.zarr") == files_of(tmp_path / "whole.zarr")
    assert ingest(source(), tmp_path / "whole.zarr").n_shards_written == 0


def test_ingest__of_another_model_or_other_words_is_another_copy(place, tmp_path):
    ingest(open_source(place / "images.npy", model=place / "model.onnx"), tmp_path / "v.zarr")
    for said in ({}, {"mean": MEAN, "std": STD, "dtype": "float16"}):
        other = write_model(tmp_path / "model.onnx", **said)
        with pytest.raises(StoreError, match="must be new"):
            ingest(open_source(place / "images.npy", model=other), tmp_path / "v.zarr")


def test_command__keeps_paths_and_takes_the_shape_from_the_model(place, on_client, run_cli):
    status, out, err = run_cli(
        "ingest", place / "photos", "v.zarr", "--model", place / "model.onnx", "--json"
    )
    assert status == 0, err
    found = last_json(out)
    assert (found["n_samples"], found["image_shape"], found["n_unreadable"]) == (11, [WIDTH], 1)
    names = list(zarr.open_array("v.zarr/path", mode="r")[:])
    kept = [index for index in range(12) if index != 5]
    assert names == [f"{index:02d}.png" for index in kept]
    images = np.load(place / "images.npy")[kept]
    found = zarr.open_array("v.zarr/images", mode="r")[:]
    np.testing.assert_allclose(found, expected(images), rtol=1e-5, atol=1e-4)


def test_parts__leave_what_one_call_leaves(place, on_client, run_cli, tmp_path):
    model = ("--model", place / "model.onnx")
    assert run_cli("ingest", place / "images.npy", "whole.zarr", *model)[0] == 0
    assert run_cli("ingest-init", place / "images.npy", "p.zarr", "--parts", 2, *model)[0] == 0
    for index in range(2):
        assert run_cli("ingest-part", "p.zarr", index)[0] == 0
    assert run_cli("ingest-finish", "p.zarr")[0] == 0
    np.testing.assert_array_equal(
        vectors_of(tmp_path / "p.zarr"), vectors_of(tmp_path / "whole.zarr")
    )


def test_run__takes_the_model_as_a_setting_and_so_does_predict(place, client, tmp_path):
    settings = {"ingest.model": str(place / "model.onnx")}
    store = lean_run(place / "images.npy", tmp_path / "run", client, **settings)
    assert store.manifest.images["shape"] == [N, WIDTH]
    run = workflow.Run(store.path)
    found = run.predict(place / "images.npy", tmp_path / "p.zarr").load()
    assert_same_labels(without_families(found), without_families(labels_of(store)))
    alone = run.predict(place / "photos" / "03.png", tmp_path / "alone.zarr").load()
    assert alone["label"].values == found["label"].values[3]


def test_embed__by_any_workers_and_batches_leaves_the_same_vectors(place, images, client, tmp_path):
    first = workflow.embed(place / "images.npy", tmp_path / "a.zarr", projected, client=client)
    np.testing.assert_allclose(vectors_of(first), images.reshape(N, -1) @ weights(), atol=0.01)
    for name, source in {
        "array": images,
        "dask": da.from_array(images, chunks=(99, 8, 8, 3)),
    }.items():
        other = workflow.embed(
            source, tmp_path / f"{name}.zarr", projected, client=client, batch_rows=200
        )
        np.testing.assert_allclose(vectors_of(other), vectors_of(first), atol=0.01)
    assert not [file for file in files_of(tmp_path / "a.zarr") if "pickle" in file]


def test_embed__resumes_with_the_same_function_and_refuses_another(place, tmp_path):
    images = open_source(place / "images.npy")

    def source(version):
        # A lock cannot be compared: another session pickles a function otherwise.
        function = FunctionEmbedder.of(projected, version=version)
        return embedded(images, function)

    with pytest.raises(KilledError):
        ingest(source("v1"), tmp_path / "v.zarr", runner=KilledRunner(2))
    with pytest.raises(StoreError, match="unfinished copy"):
        ingest(source("v2"), tmp_path / "v.zarr")
    assert ingest(source("v1"), tmp_path / "v.zarr").n_shards_reused == 1


def bad_of(tmp_path, place, case):
    """Return a model that does not do."""
    if case == "missing":
        return tmp_path / "none.onnx"
    if case == "no model":
        (tmp_path / "text.onnx").write_text("nonsense")
        return tmp_path / "text.onnx"
    if case == "two outputs":
        return write_model(tmp_path / "two.onnx", n_outputs=2)
    if case == "size":
        return write_model(tmp_path / "big.onnx", shape=(3, 32, 32))
    if case == "mean":
        return write_model(tmp_path / "mean.onnx", mean=[1, 2])
    if case == "word":
        return write_model(tmp_path / "word.onnx", means=[1, 2, 3])
    if case == "layout":
        return write_model(tmp_path / "layout.onnx", shape=(8, 3, 8))
    return write_model(tmp_path / "nan.onnx", nan_above=20)


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("missing", "none.onnx is not there"),
        ("no model", "must be an ONNX file"),
        ("two outputs", "output: vector"),
        ("size", "must be given images of 32 x 32 x 3; got 8 x 8 x 3"),
        ("mean", "one number or 3"),
        ("word", "`means`"),
        ("layout", "layout: nchw"),
        ("nan", "gave nan for image"),
    ],
)
def test_command__refuses_a_model_in_one_line(place, tmp_path, on_client, run_cli, case, told):
    model = bad_of(tmp_path, place, case)
    status, _, err = run_cli("ingest", place / "images.npy", "v.zarr", "--model", model)
    assert status == 2
    assert told in err
    assert [line[:7] for line in err.splitlines() if not line.startswith("dashboard")] == [
        "error: "
    ]


def test_model__of_two_outputs_takes_the_one_that_is_named(place, tmp_path):
    model = write_model(tmp_path / "two.onnx", n_outputs=2, output="product")
    assert open_source(place / "images.npy", model=model).read(0, 50).min() < 0


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda batch: batch.reshape(len(batch), -1)[:1], "a vector for each image"),
        (lambda batch: batch, "a vector for each image"),
        (lambda batch: 1 / 0, "raised ZeroDivisionError"),
        (lambda batch: np.full((len(batch), 3), "a"), "images must be"),
    ],
)
def test_embed__refuses_what_gives_no_vectors(images, function, told):
    with pytest.raises(ImagesError, match=told):
        embedded(ArraySource(images), FunctionEmbedder.of(function))


def test_embed__refuses_nan_by_row_other_lengths_and_what_cannot_be_sent(images):
    def nan_for_one(batch):
        found = projected(batch)
        found[(batch == images[421]).all(axis=(1, 2, 3)), 3] = np.nan
        return found

    source = embedded(ArraySource(images), FunctionEmbedder.of(nan_for_one))
    with pytest.raises(ImagesError, match="nan for image 421"):
        source.read(300, N)
    other = embedded(
        ArraySource(images), FunctionEmbedder.of(lambda b: b[:, 0, : len(b) % 5 + 1, 0])
    )
    with pytest.raises(ImagesError, match="must all be alike"):
        other.read(0, N)
    lock = threading.Lock()
    with pytest.raises(ImagesError, match="sent to workers"):
        FunctionEmbedder.of(lambda batch: lock)
    with pytest.raises(ImagesError, match="path of an ONNX file or a function"):
        FunctionEmbedder.of(3)
    with pytest.raises(ImagesError, match="batch_rows"):
        FunctionEmbedder.of(projected, batch_rows=0)


def test_embed__of_a_model_in_a_file_leaves_the_words_to_the_file(place, tmp_path):
    with pytest.raises(ConfigError, match="batch_rows"):
        workflow.embed(
            place / "images.npy", tmp_path / "v.zarr", place / "model.onnx", batch_rows=3
        )
    array = np.load(place / "images.npy")[:20]
    given = open_input(array, model=str(place / "model.onnx"))
    np.testing.assert_array_equal(
        given.source.read(0, 20),
        open_source(place / "images.npy", model=place / "model.onnx").read(0, 20),
    )
