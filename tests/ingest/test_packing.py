"""Packed values, dimensions in another order, masks: what is read equals what xarray reads."""

import json
import pickle
import warnings

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr

from workflow.errors import ImagesError, NonFiniteError
from workflow.ingest import ingest, open_input, open_source, remarks
from workflow.pca import block_moments, choose_kind

SCALED = {"scale_factor": 0.01, "add_offset": -0.5}
ENCODINGS = {
    "int16": {"dtype": "i2", "_FillValue": -32768, **SCALED},
    "uint8": {"dtype": "u1", "_FillValue": 255, "scale_factor": 0.03, "add_offset": -3.0},
    "float32 scale": {"dtype": "i2", "_FillValue": -9999, "scale_factor": np.float32(0.01)},
    "int32": {"dtype": "i4", "_FillValue": -9999, **SCALED},
    "float": {"dtype": "f4", "_FillValue": -999.0},
    "missing_value": {"dtype": "f8", "missing_value": 1e20, "_FillValue": 1e20},
    "NaN": {"dtype": "f4"},
    "big-endian": {"dtype": ">i2", "_FillValue": -9999, **SCALED},
}


@pytest.fixture
def values():
    """40 images of normal numbers."""
    return np.random.default_rng(0).normal(size=(40, 6, 5)).astype(np.float32)


def write(place, values, encoding, dims=("sample", "y", "x"), zarr_format=3):
    """Write images as xarray packs them; return what xarray reads again, sample first."""
    made = xr.Dataset({"images": (dims, values)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.to_zarr(
            place, zarr_format=zarr_format, encoding={"images": {"chunks": (7, 6, 4), **encoding}}
        )
        with xr.open_zarr(place) as found:
            return found["images"].transpose("sample", ...).values


def rows_of(source):
    return source.read(0, source.n_samples).reshape(source.n_samples, *source.image_shape)


def require_same(source, expected):
    """Compare images, type and every way to cut them."""
    assert source.dtype == expected.dtype
    assert len(pickle.dumps(source)) < 1000
    assert json.loads(json.dumps(source.fingerprint())) == source.fingerprint()
    np.testing.assert_array_equal(rows_of(source), expected)
    np.testing.assert_array_equal(source.read(9, 23), expected[9:23].reshape(14, source.n_features))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ENCODINGS)
def test_zarr__packed_values_are_those_of_xarray(tmp_path, values, name, zarr_format):
    values[3, 2, 1] = np.nan
    expected = write(tmp_path / "i.zarr", values, ENCODINGS[name], zarr_format=zarr_format)
    assert np.isnan(expected).sum() == 1
    source = open_source(tmp_path / "i.zarr")
    require_same(source, expected)
    rows = source.read(0, 40)
    with pytest.raises(NonFiniteError, match=r"first at image 3, feature 11"):
        block_moments(rows, kind=choose_kind(rows.dtype, 30))


@pytest.mark.parametrize("name", ENCODINGS)
def test_hdf5__packed_values_are_those_of_xarray(tmp_path, values, name):
    encoding = dict(ENCODINGS[name])
    variable = xr.conventions.encode_cf_variable(
        xr.Variable(("sample", "y", "x"), values, encoding=encoding), name="images"
    )
    expected = xr.conventions.decode_cf_variable("images", variable).values
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["images"] = variable.values
        # netCDF keeps a value as an array of one.
        attributes = {k: np.atleast_1d(v) for k, v in variable.attrs.items()}
        file["images"].attrs.update(attributes)
    require_same(open_source(tmp_path / "i.h5"), expected)


def test_zarr__unsigned_bytes_of_netcdf(tmp_path):
    values = np.arange(120).reshape(40, 3) * 2
    array = zarr.create_array(tmp_path / "i.zarr", shape=(40, 3), dtype="i1", chunks=(7, 3))
    array[:] = values.astype("u1").view("i1")
    array.attrs["_Unsigned"] = "true"
    require_same(open_source(tmp_path / "i.zarr"), values.astype("u1"))


def test_zarr__fill_values_that_mean_nothing(tmp_path, images):
    # Zarr's own default is no missing value, nor is any fill value where xarray cannot read.
    for name, dims, fill in (("a", True, 0), ("b", False, 255)):
        array = zarr.create_array(
            tmp_path / f"{name}.zarr",
            data=images,
            zarr_format=2,
            fill_value=fill,
            attributes={"_ARRAY_DIMENSIONS": list("abcd")} if dims else {},
        )
        assert array.fill_value == fill
        require_same(open_source(tmp_path / f"{name}.zarr"), images)


def test_zarr__another_scale_is_other_images(tmp_path, values):
    write(tmp_path / "i.zarr", values, ENCODINGS["int16"], zarr_format=2)
    before = open_source(tmp_path / "i.zarr").fingerprint()
    attributes = json.loads((tmp_path / "i.zarr/images/.zattrs").read_text())
    attributes["scale_factor"] = 0.02
    (tmp_path / "i.zarr/images/.zattrs").write_text(json.dumps(attributes))
    after = open_source(tmp_path / "i.zarr").fingerprint()
    assert after["packing"] != before["packing"]


def test_zarr__attributes_that_cannot_be_used(tmp_path):
    array = zarr.create_array(tmp_path / "i.zarr", shape=(4, 3), dtype="i2", chunks=(2, 3))
    array.attrs["scale_factor"] = "half"
    with pytest.raises(ImagesError, match=r"attributes scale_factor must tell .* cannot be used"):
        open_source(tmp_path / "i.zarr")


# --- the dimension of the images -----------------------------------------------------------------


@pytest.mark.parametrize("encoding", [{}, ENCODINGS["int16"]])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("axis", [1, 2])
def test_zarr__sample_anywhere(tmp_path, values, axis, zarr_format, encoding):
    dims = ["y", "x"]
    dims.insert(axis, "sample")
    moved = np.ascontiguousarray(np.moveaxis(values, 0, axis))
    expected = write(tmp_path / "i.zarr", moved, encoding, dims, zarr_format)
    require_same(open_source(tmp_path / "i.zarr"), expected)


def test_zarr__a_lost_file_is_named_when_samples_come_last(tmp_path, values):
    write(tmp_path / "i.zarr", values.transpose(1, 2, 0).copy(), {}, ("y", "x", "sample"))
    source = open_source(tmp_path / "i.zarr")
    (tmp_path / "i.zarr/images/c/0/0/2").unlink()
    source.read(0, 8)
    with pytest.raises(OSError, match=r"its file c/0/0/2 is missing"):
        source.read(8, 12)
    (tmp_path / "i.zarr/images/c/0/0/3").write_bytes(b"junk")
    with pytest.raises(OSError, match=r"its file c/0/0/3 is damaged"):
        source.read(12, 16)


@pytest.mark.parametrize("way", ["label", "scale"])
def test_hdf5__sample_anywhere(tmp_path, values, way):
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["images"] = values.transpose(1, 2, 0)
        if way == "label":
            file["images"].dims[2].label = "sample"
        else:
            file["sample"] = np.arange(40)
            file["sample"].make_scale("sample")
            file["images"].dims[2].attach_scale(file["sample"])
    require_same(open_source(tmp_path / "i.h5"), values)


@pytest.mark.parametrize("lazily", [False, True])
def test_data_array__sample_anywhere_and_packed(tmp_path, values, lazily):
    packed = np.round(values * 100).astype(np.int16)
    given = xr.DataArray(
        packed.transpose(1, 2, 0), dims=("y", "x", "sample"), attrs={"scale_factor": 0.01}
    )
    expected = xr.decode_cf(given.to_dataset(name="images"))["images"].values
    source = open_input(given.chunk(sample=9) if lazily else given).source
    assert source.image_shape == (6, 5)
    np.testing.assert_array_equal(rows_of(source), expected.transpose(2, 0, 1))
    ingest(source, tmp_path / "i.zarr")
    require_same(open_source(tmp_path / "i.zarr"), expected.transpose(2, 0, 1))


def test_remarks__a_last_dimension_that_looks_like_the_images():
    for shape, is_odd in (
        ((16, 16, 3, 3000), True),
        ((300, 16, 16, 3), False),
        ((784, 60_000), True),
        ((1000, 784), False),
        ((2, 64, 64, 3), False),
    ):
        found = remarks(open_input(np.zeros(shape, np.uint8)).source)
        assert bool(found) == is_odd
        assert all("looks like the one that counts the images" in text for text in found)


# --- masks ---------------------------------------------------------------------------------------


def test_masked_arrays(tmp_path, images):
    masked = np.ma.masked_array(images, np.zeros(images.shape, bool))
    np.testing.assert_array_equal(rows_of(open_input(masked).source), images)
    masked[41, 0, 2, 1] = np.ma.masked
    match = r"image 41 is masked at \(0, 2, 1\)\. Fill the values in"
    with pytest.raises(ImagesError, match=match):
        open_input(masked)
    lazy = open_input(da.from_array(masked, chunks=(7, 5, 4, 3))).source
    with pytest.raises(ImagesError, match=match):
        lazy.read(40, 50)
    with pytest.raises(ImagesError, match=match):
        ingest(lazy, tmp_path / "i.zarr")
