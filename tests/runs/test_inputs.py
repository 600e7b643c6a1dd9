"""Images as they come, through whole runs: given again, packed, turned round, and with values out of range."""

from __future__ import annotations

import logging
import os
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.conftest import picture_set
from tests.runs.helpers import assert_same_labels, labels_of, lean_run, make_run, only
from workflow.commands.predict import predict
from workflow.commands.update import update
from workflow.errors import NonFiniteError, SpreadError, StoreError
from workflow.ingest import ingest, open_source


@pytest.fixture(scope="module")
def images():
    return picture_set(n=1500)[0]


@pytest.fixture
def few_steps():
    """The steps that read the images, alone."""
    with only("ingest", "pca", "projection"):
        yield


def write_zarr(place, images):
    xr.Dataset({"images": (("sample", "y", "x", "c"), images)}).to_zarr(place, consolidated=False)


def write_folder(place, images):
    place.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(place / f"{index:05d}.png")


def touch(place):
    """Give files a later time stamp."""
    for path in [place, *place.rglob("*")]:
        os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 10**9))


@pytest.mark.parametrize("kind", ["npy", "zarr", "npz", "folder"])
def test_run__the_same_bytes_of_another_time_are_the_same_images(
    images, client, tmp_path, caplog, kind
):
    place, settings = tmp_path / f"images.{kind}", {}
    if kind == "folder":
        place = tmp_path / "images"
        write_folder(place, images)
        settings["ingest.shape"] = (6, 6, 3)
    elif kind == "zarr":
        write_zarr(place, images)
    else:
        {"npy": np.save, "npz": lambda path, a: np.savez(path, images=a)}[kind](place, images)
    before = lean_run(place, tmp_path / "run", client, **settings)
    labels = labels_of(before)
    touch(place)
    with caplog.at_level(logging.INFO, logger="workflow"):
        again = lean_run(place, tmp_path / "run", client, **settings)
    assert "all steps are complete" in caplog.messages
    assert_same_labels(labels_of(again), labels)
    # Found once, known from then on, by other commands too.
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="workflow"):
        lean_run(place, tmp_path / "run", client, **settings)
    assert not any("comparing" in message for message in caplog.messages)
    assert not (tmp_path / "run/wip/compared").exists()


def test_run__other_bytes_of_the_same_size_are_refused(few_steps, images, client, tmp_path):
    place = tmp_path / "images.npy"
    np.save(place, images)
    make_run(place, tmp_path / "run", client)
    altered = images.copy()
    altered[1400, 3, 2, 1] ^= 1
    np.save(place, altered)
    with pytest.raises(
        StoreError, match=r"differs in files\. Give another --out, or .*`update RUN`"
    ):
        make_run(place, tmp_path / "run", client)
    np.save(place, images)
    make_run(place, tmp_path / "run", client)


def test_ingest__the_same_bytes_of_another_time_are_the_same_images(images, tmp_path):
    write_folder(tmp_path / "photos", images[:50])

    def copy():
        return ingest(open_source(tmp_path / "photos", shape=(6, 6, 3)), tmp_path / "i.zarr")

    copy()
    touch(tmp_path / "photos")
    assert copy().n_shards_written == 0
    shutil.copy(tmp_path / "photos/00007.png", tmp_path / "photos/00009.png")
    with pytest.raises(StoreError, match="a copy of other images"):
        copy()


def test_run__packed_and_turned_round_gives_the_labels_of_the_values(images, client, tmp_path):
    turned = xr.Dataset({"images": (("y", "x", "c", "sample"), images.transpose(1, 2, 3, 0) / 255)})
    packed = {"dtype": "i2", "scale_factor": 1 / 255 / 8, "add_offset": 0.1, "_FillValue": -32768}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turned.to_zarr(
            tmp_path / "packed.zarr",
            consolidated=False,
            encoding={"images": {"chunks": (6, 6, 3, 512), **packed}},
        )
    with xr.open_zarr(tmp_path / "packed.zarr", consolidated=False) as found:
        np.save(tmp_path / "plain.npy", found["images"].transpose("sample", ...).values)
    first = lean_run(tmp_path / "packed.zarr", tmp_path / "packed", client)
    second = lean_run(tmp_path / "plain.npy", tmp_path / "plain", client)
    assert_same_labels(labels_of(first), labels_of(second))


# --- values out of range -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "large", "n_large"),
    # In one block; in two whose sums overflow only when they are merged; in one of itself.
    [("float32", 1e25, 1), ("float64", -3e30, 2), ("float64", 5e153, 2), ("float64", 1e200, 1)],
)
def test_run__a_pixel_that_is_too_large_is_named(
    few_steps, images, client, tmp_path, dtype, large, n_large
):
    values = images.astype(dtype) / 255
    values[1234, 2, 1, 0] = large
    values[700, 2, 1, 0] = large / 2 if n_large == 2 else 0
    np.save(tmp_path / "i.npy", values)
    with pytest.raises((SpreadError, NonFiniteError)) as caught:
        make_run(tmp_path / "i.npy", tmp_path / "run", client)
    assert f"{values[1234, 2, 1, 0]:g}" in str(caught.value)
    assert "at image 1234, row 2, column 1, channel 0" in str(caught.value)
    assert "\n" not in str(caught.value)
    if large == 1e25:
        values[1234, 2, 1, 0] = 0
        np.save(tmp_path / "i.npy", values)
        make_run(tmp_path / "i.npy", tmp_path / "run", client)


def test_predict_and_update__one_pixel_that_is_too_large_is_named(images, client, tmp_path):
    values = (images / 255).astype(np.float32)
    np.save(tmp_path / "i.npy", values)
    store = lean_run(tmp_path / "i.npy", tmp_path / "run", client)
    values[1234, 2, 1, 0] = 1e25
    np.save(tmp_path / "new.npy", values)
    with pytest.raises(
        NonFiniteError, match=r"got 1e\+25 first at image 1234, row 2, column 1, channel 0"
    ):
        predict(store.path, tmp_path / "new.npy", tmp_path / "labels.zarr", client=client)
    with pytest.raises(
        SpreadError, match=r"largest value is 1e\+25 at image 1234, row 2, column 1, channel 0"
    ):
        update(store.path, tmp_path / "new.npy")


@pytest.mark.parametrize("spread", [1e-20, 1e-170, 1e-300])
def test_run__spreads_whose_squares_vanish_are_refused(images, client, tmp_path, spread):
    np.save(tmp_path / "i.npy", images.astype(np.float64) * spread)
    with pytest.raises(SpreadError, match=r"must spread between 1e-12 .* Scale them"):
        make_run(tmp_path / "i.npy", tmp_path / "run", client)


def test_run__equal_images_of_floating_point_are_one_cluster(client, tmp_path):
    np.save(tmp_path / "i.npy", np.full((1500, 4, 4), 1 / 3))
    labels = labels_of(make_run(tmp_path / "i.npy", tmp_path / "run", client))
    assert (labels["label"] == 0).all()
