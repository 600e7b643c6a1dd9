import json
import pickle
import shutil
import zipfile

import dask.array as da
import h5py
import numpy as np
import pytest
import scipy.io
import xarray as xr
import zarr

from workflow.chunks import RowRange
from workflow.errors import ImagesError
from workflow.ingest import (
    ArraySource,
    BaseSource,
    DaskSource,
    DemoSource,
    Source,
    ingest,
    open_input,
    open_source,
)
from workflow.mapper import SerialRunner

DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]


def write_npy(folder, images):
    np.save(folder / "i.npy", images)
    return folder / "i.npy"


def write_npz(folder, images):
    np.savez(folder / "i.npz", labels=np.zeros(3), images=images)
    return folder / "i.npz"


def write_packed_npz(folder, images):
    np.savez_compressed(folder / "p.npz", vectors=images, labels=np.zeros(3))
    return folder / "p.npz"


def write_fortran_npz(folder, images):
    np.savez(folder / "f.npz", images=np.asfortranarray(images))
    return folder / "f.npz"


def write_zarr(folder, images):
    chunks = (7, *(max(1, n - 1) for n in images.shape[1:]))
    array = zarr.create_array(
        folder / "g.zarr", name="images", shape=images.shape, dtype=images.dtype, chunks=chunks
    )
    array[:] = images
    return folder / "g.zarr"


def write_hdf5(folder, images):
    with h5py.File(folder / "i.h5", "w") as file:
        file.create_dataset("deep/pictures", data=images, chunks=True, compression="gzip")
        file["labels"] = np.zeros(3)
    return f"{folder / 'i.h5'}::deep/pictures"


def write_lone_hdf5(folder, images):
    with h5py.File(folder / "lone.hdf5", "w") as file:
        file["anything"] = images
    return folder / "lone.hdf5"


def write_netcdf_to(path, images):
    """Write the classic format, the last dimension counting the images, beside a record variable."""
    dims = [f"d{i}" for i in range(images.ndim - 1)]
    kept = np.moveaxis(images, 0, -1)
    with scipy.io.netcdf_file(path, "w") as file:
        file.createDimension("time", None)
        file.createVariable("t", "d", ("time",))[:] = np.arange(3.0)
        for name, length in zip([*dims, "sample"], kept.shape, strict=True):
            file.createDimension(name, length)
        file.createVariable("pictures", kept.dtype.newbyteorder(">"), (*dims, "sample"))[:] = kept


def as_in_matlab(images):
    """Return images with the last dimension counting them; of vectors, the rows are those."""
    return images if images.ndim == 2 else np.moveaxis(images, 0, -1)


def write_mat(folder, images):
    held = {"X": as_in_matlab(images), "y": np.zeros(60)}
    scipy.io.savemat(folder / "i.mat", held, do_compression=True)
    return folder / "i.mat"


def write_new_mat(folder, images):
    """As MATLAB writes version 7.3: HDF5 behind a header of 512 bytes, the dimensions in reverse."""
    with h5py.File(folder / "new.mat", "w", userblock_size=512) as file:
        file["X"] = as_in_matlab(images).T
        file["y"] = np.zeros(60)
    with (folder / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return f"{folder / 'new.mat'}::X"


def prepared(source, folder):
    """Return a source that can be read by ranges."""
    folder.mkdir(exist_ok=True)
    return source.prepare(folder, SerialRunner()) if hasattr(source, "prepare") else source


class SourceContract:
    """What holds of every source; a reader is tested by a subclass that makes one."""

    def make(self, folder, images):
        """Return a source of these images."""
        raise NotImplementedError

    def check(self, source, images, folder):
        assert isinstance(source, Source)
        assert source.n_samples == len(images)
        assert source.image_shape == images.shape[1:]
        assert source.n_features == np.prod(images.shape[1:])
        assert source.dtype == images.dtype.newbyteorder("=")
        assert source.dtype.isnative
        assert json.loads(json.dumps(source.fingerprint())) == source.fingerprint()
        ready = prepared(source, folder / "working")
        rows = images.reshape(len(images), -1)
        for start, stop in [(0, len(rows)), (0, 1), (13, 31), (len(rows) - 1, len(rows))]:
            block = ready.read(start, stop)
            assert block.dtype == source.dtype
            np.testing.assert_array_equal(block, rows[start:stop])

    @pytest.mark.parametrize("dtype", [*DTYPES, ">f4", ">u2"])
    def test_gives_the_images_of_every_type(self, tmp_path, images, dtype):
        self.check(self.make(tmp_path, images.astype(dtype)), images.astype(dtype), tmp_path)


class FileContract(SourceContract):
    """What holds of every file that knows the shape and type of its images."""

    def write(self, folder, images):
        """Write these images; return what opens them."""
        raise NotImplementedError

    def make(self, folder, images):
        source = open_source(self.write(folder, images))
        assert len(pickle.dumps(source)) < 1000
        return pickle.loads(pickle.dumps(source))

    def test_vectors_are_seen_as_images(self, tmp_path, images):
        path = self.write(tmp_path, images.reshape(60, 60))
        self.check(open_source(path), images.reshape(60, 60), tmp_path)
        self.check(open_source(path, shape=(5, 4, 3), dtype="uint8"), images, tmp_path)
        with pytest.raises(
            ImagesError, match=r"as many values as an image; .*\(60,\) and \(5, 4\)"
        ):
            open_source(path, shape=(5, 4))
        with pytest.raises(
            ImagesError, match=r"is uint8 and float32 was asked for\. Leave ingest.dtype out"
        ):
            open_source(path, dtype="float32")


class TestNpy(FileContract):
    write = staticmethod(write_npy)


class TestNpz(FileContract):
    write = staticmethod(write_npz)


class TestPackedNpz(FileContract):
    write = staticmethod(write_packed_npz)


class TestFortranNpz(FileContract):
    write = staticmethod(write_fortran_npz)


class TestZarr(FileContract):
    write = staticmethod(write_zarr)


class TestHdf5(FileContract):
    write = staticmethod(write_hdf5)


class TestLoneHdf5(FileContract):
    write = staticmethod(write_lone_hdf5)


class TestMat(FileContract):
    write = staticmethod(write_mat)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
    def test_gives_the_images_of_every_type(self, tmp_path, images, dtype):
        self.check(self.make(tmp_path, images.astype(dtype)), images.astype(dtype), tmp_path)


class TestNewMat(FileContract):
    write = staticmethod(write_new_mat)


class TestNetcdf(SourceContract):
    def make(self, folder, images):
        write_netcdf_to(folder / "i.nc", images)
        return open_source(folder / "i.nc")

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_gives_the_images_of_every_type(self, tmp_path, images, dtype):
        self.check(self.make(tmp_path, images.astype(dtype)), images.astype(dtype), tmp_path)

    def test_unsigned_bytes(self, tmp_path, images):
        xr.Dataset(
            {"images": (("n", "y", "x", "c"), images.view("i1"), {"_Unsigned": "true"})}
        ).to_netcdf(tmp_path / "u.nc", engine="scipy")
        self.check(open_source(tmp_path / "u.nc"), images, tmp_path)


@pytest.mark.parametrize("write", [write_mat, write_new_mat])
def test_mat__the_longer_of_first_and_last_counts(tmp_path, images, write):
    for turned in (images, images.reshape(60, 60)[:, :7], images.reshape(60, 60)[:7]):
        source = open_source(write(tmp_path, turned))
        expected = turned if len(turned) == 60 else turned.T
        shutil.rmtree(tmp_path / "working", ignore_errors=True)
        SourceContract().check(source, expected, tmp_path)
        assert source.remarks()[0].startswith("60 images of ")


class TestRaw(SourceContract):
    def make(self, folder, images):
        images.tofile(folder / "i.bin")
        return open_source(
            folder / "i.bin", shape=images.shape[1:], dtype=images.dtype.str.replace("|", "")
        )


class TestArray(SourceContract):
    def make(self, folder, images):
        return ArraySource(images)

    def test_one_value_changes_the_fingerprint(self, images):
        changed = images.copy()
        changed[59, 0, 0, 0] ^= 1
        assert ArraySource(changed).fingerprint() != ArraySource(images).fingerprint()

    def test_refuses_other_types(self):
        with pytest.raises(ImagesError, match="the array is int64"):
            ArraySource(np.zeros((4, 4), int))


class TestDask(SourceContract):
    def make(self, folder, images):
        return DaskSource(da.from_array(images, chunks=(17, 2, 4, 3)))

    def test_takes_a_function_to_its_blocks(self, images):
        source = self.make(None, images)
        assert source.fingerprint() != DaskSource(da.from_array(images[::-1])).fingerprint()
        ranges = [RowRange(0, 20), RowRange(20, 60)]
        found = source.map_blocks(lambda rows, block: (rows, block.sum()), ranges)
        assert found == [(r, images[slice(*r)].sum()) for r in ranges]

    def test_refuses_unknown_shapes(self, images):
        array = da.from_array(images, chunks=17)
        with pytest.raises(ImagesError, match=r"known shape; .*compute_chunk_sizes"):
            DaskSource(array[array[:, 0, 0, 0] > 3])


def test_demo_source__is_a_source(tmp_path):
    source = DemoSource(100)
    images = source.read(0, 100).reshape(100, *source.image_shape)
    SourceContract().check(source, images, tmp_path)


class Ramp(BaseSource):
    """A source that a user has written."""

    def fingerprint(self):
        return {"kind": "ramp", **self.shape_and_type()}

    def read(self, start, stop):
        rows = np.arange(start, stop)[:, None] + np.arange(self.n_features)
        return rows.astype(self.dtype)


def test_open_input__takes_anything_with_the_face_of_a_source(tmp_path, images):
    ramp = Ramp(50, (2, 3), np.dtype("uint8"))
    given = open_input(ramp)
    assert (given.name, given.store, given.path, given.n_bytes) == ("the images", None, None, 300)
    ingest(given.source, tmp_path / "ramp.zarr")
    stored = open_input(tmp_path / "ramp.zarr")
    assert stored.path == tmp_path / "ramp.zarr"
    np.testing.assert_array_equal(stored.store.read(0, 50), ramp.read(0, 50))
    assert open_input(DemoSource(9)).name == "the demo images"
    assert open_input(images).name == "the array"
    again = open_input(stored.source)
    assert open_input(again.name).fingerprint == stored.fingerprint
    with pytest.raises(ImagesError, match="one image or more; the images has 0"):
        open_input(Ramp(0, (2, 3), np.dtype("uint8")))
    assert open_input(Ramp(1, (2, 3), np.dtype("uint8"))).n_samples == 1
    with pytest.raises(ImagesError, match="must be a path or an array; got a list"):
        open_input([1, 2])


def test_npz_source__packed_values_are_not_read_by_ranges(tmp_path, images):
    with pytest.raises(ImagesError, match="must be unpacked before it is read by ranges"):
        open_source(write_packed_npz(tmp_path, images)).read(0, 3)


def test_npz_source__unpacked_once(tmp_path, images):
    source = open_source(write_packed_npz(tmp_path, images))
    prepared(source, tmp_path / "working")
    stamp = (tmp_path / "working/unpacked.npy").stat().st_mtime_ns
    prepared(source, tmp_path / "working")
    assert (tmp_path / "working/unpacked.npy").stat().st_mtime_ns == stamp


@pytest.mark.parametrize("write", [write_npz, write_packed_npz])
def test_npz_source__altered_value_is_found(tmp_path, images, write):
    path = write(tmp_path, images)
    source = open_source(path)
    content = bytearray(path.read_bytes())
    # Behind the headers, so that opening sees nothing of it.
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ImagesError, match=r"must be a whole \.npz archive; it cannot be read"):
        prepared(source, tmp_path / "working")


def write_hdf5_of(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values


def write_text_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=[["a", "b"]] * 3, dtype=h5py.string_dtype())


def write_empty_hdf5(path):
    with h5py.File(path, "w") as file:
        file["images"] = h5py.Empty("f4")


def cut_half(path, write):
    write(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def write_foreign_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"no header")


BAD = {
    "missing": ("none.h5", lambda p: None, r"images must exist; .*none\.h5 does not"),
    "suffix": ("i.xyz", lambda p: p.write_bytes(b"1"), r"got .*i\.xyz \(\.xyz\)\. Convert"),
    "no suffix": ("images", lambda p: p.write_bytes(b"1"), r"images must be a folder, .*no suffix"),
    "npz other names": (
        "i.npz",
        lambda p: np.savez(p, x=np.zeros(3), y=np.zeros(2)),
        r"`images` or `vectors`; it holds x, y\. Give PATH::NAME",
    ),
    "npz objects": (
        "i.npz",
        lambda p: np.savez(p, images=np.array([[1], ["a"]], dtype=object)),
        r"i\.npz::images is object",
    ),
    "npz int64": (
        "i.npz",
        lambda p: np.savez(p, images=np.zeros((5, 3), "i8")),
        r"i\.npz::images is int64",
    ),
    "npz cut": (
        "i.npz",
        lambda p: cut_half(p, lambda q: np.savez(q, images=np.zeros((50, 30)))),
        r"whole \.npz archive; it cannot be read \(File is not a zip",
    ),
    "npz junk": ("i.npz", lambda p: p.write_bytes(b"PK\x03\x04junk"), r"whole \.npz archive"),
    "npz no array": ("i.npz", write_foreign_zip, r"whole \.npz archive; .*magic string"),
    "npz no image": (
        "i.npz",
        lambda p: np.savez(p, images=np.zeros((0, 3))),
        r"one image or more; .*i\.npz::images has 0",
    ),
    "h5 junk": ("i.h5", lambda p: p.write_bytes(b"junk" * 99), r"whole HDF5 file; it cannot be"),
    "nc choice": (
        "i.nc",
        lambda p: xr.Dataset({n: (("n", "x"), np.zeros((5, 3))) for n in "ab"}).to_netcdf(
            p, engine="scipy"
        ),
        r"variable `images` or one only; .* holds a, b\. Give .*i\.nc::a",
    ),
    "nc cut": (
        "i.nc",
        lambda p: cut_half(p, lambda q: write_netcdf_to(q, np.zeros((50, 30)))),
        r"whole netCDF file; it cannot be read",
    ),
    "mat junk": ("i.mat", lambda p: p.write_bytes(b"junk" * 99), r"whole \.mat file"),
    "mat choice": (
        "i.mat",
        lambda p: scipy.io.savemat(p, {"a": np.zeros((5, 3)), "b": np.zeros((5, 3))}),
        r"`images` or one matrix only; .* holds a, b\. Give .*i\.mat::a",
    ),
    "h5 cut": (
        "i.h5",
        lambda p: cut_half(p, lambda q: write_hdf5_of(q, images=np.zeros((50, 30)))),
        r"whole HDF5 file; .*truncated",
    ),
    "h5 choice": (
        "i.h5",
        lambda p: write_hdf5_of(p, a=np.zeros((5, 3)), b=np.zeros((5, 3))),
        r"dataset `images` or one only; .* holds a, b\. Give .*i\.h5::a",
    ),
    "h5 nothing": ("i.h5", write_hdf5_of, r"i\.h5 holds none"),
    "h5 text": ("i.h5", write_text_hdf5, r"i\.h5::images is object"),
    "h5 empty": ("i.h5", write_empty_hdf5, r"two dimensions or more"),
    "h5 vector": (
        "i.h5",
        lambda p: write_hdf5_of(p, images=np.zeros(5)),
        r"two dimensions or more.*\(5,\)",
    ),
    "raw without shape": (
        "i.bin",
        lambda p: p.write_bytes(b"1234"),
        r"needs shape and type of an image; ingest.shape and ingest.dtype is missing",
    ),
    "folder without images": ("photos", lambda p: p.mkdir(), r"photos holds none"),
    "empty npy": ("i.npy", lambda p: p.write_bytes(b""), r"header cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_open_source__refuses_in_one_line(tmp_path, case):
    name, make, match = BAD[case]
    make(tmp_path / name)
    with pytest.raises(ImagesError, match=match) as caught:
        open_source(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_open_source__close_match(tmp_path, images):
    write_npz(tmp_path, images).rename(tmp_path / "pictures.npz")
    with pytest.raises(ImagesError, match=r"Did you mean .*/pictures\.npz\?"):
        open_source(tmp_path / "picture.zarr")
    with pytest.raises(ImagesError, match=r"Check the path\."):
        open_source(tmp_path / "nope.npz")


def test_open_source__named_arrays_that_are_not_there(tmp_path, images):
    for spec in (write_npz(tmp_path, images), tmp_path / "i.npz"):
        with pytest.raises(
            ImagesError, match=r"must hold the array `pics`; it holds labels, images"
        ):
            open_source(f"{spec}::pics")
    write_hdf5(tmp_path, images)
    with pytest.raises(ImagesError, match=r"`pics` or one only; .* holds deep/pictures, labels"):
        open_source(f"{tmp_path / 'i.h5'}::pics")


@pytest.mark.parametrize(
    ("shape", "dtype", "match"),
    [
        ((5, 4, 3), None, r"ingest.dtype is missing"),
        (None, "uint8", r"ingest.shape is missing"),
        ((5, 4, 3), "int64", r"`ingest.dtype` must be one of uint8, .*; got int64"),
        ((5, 4, 3), "nonsense", r"got nonsense"),
        ((5, 0, 3), "uint8", r"`ingest.shape` must be positive numbers"),
        ((7, 4, 3), "uint8", r"multiple of 84 bytes, .*; it has 3600\. Check"),
    ],
)
def test_open_source__raw_needs_the_right_numbers(tmp_path, images, shape, dtype, match):
    images.tofile(tmp_path / "i.bin")
    with pytest.raises(ImagesError, match=match):
        open_source(tmp_path / "i.bin", shape=shape, dtype=dtype)


def test_read__files_that_were_cut_after_opening(tmp_path, images):
    images.tofile(tmp_path / "i.bin")
    raw = open_source(tmp_path / "i.bin", shape=(5, 4, 3), dtype="uint8")
    hdf5 = open_source(write_lone_hdf5(tmp_path, images))
    plain = open_source(write_npz(tmp_path, images))
    for name in ("i.bin", "lone.hdf5", "i.npz"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:2500])
    with pytest.raises(ImagesError, match="images 50 to 59; the file ends before"):
        raw.read(50, 60)
    with pytest.raises(ImagesError, match="whole HDF5 file"):
        hdf5.read(50, 60)
    with pytest.raises(ImagesError, match="images 50 to 59; the file ends before"):
        plain.read(50, 60)


def test_netcdf__is_read_as_hdf5(tmp_path, images):
    """As netCDF-4 lays out a variable: its dimensions are datasets of their own, one a dimension alone."""
    with h5py.File(tmp_path / "i.nc", "w") as file:
        file["pictures"] = np.moveaxis(images, 0, -1)
        names = [*(f"d{i}" for i in range(images.ndim - 1)), "sample"]
        for dim, name in enumerate(names):
            file[name] = np.arange(file["pictures"].shape[dim])
            file[name].make_scale(name)
            file["pictures"].dims[dim].attach_scale(file[name])
    source = open_source(tmp_path / "i.nc")
    np.testing.assert_array_equal(
        source.read(0, len(images)), images.reshape(len(images), source.n_features)
    )


def test_hdf5__links_are_followed(tmp_path, images):
    with h5py.File(tmp_path / "i.h5", "w") as file:
        file["deep/pictures"] = images
        file["deep/upwards"] = h5py.SoftLink("/")
        file["nowhere"] = h5py.SoftLink("/none")
        file["lost"] = h5py.ExternalLink("none.h5", "/images")
    # The only dataset, however it is reached.
    np.testing.assert_array_equal(
        open_source(tmp_path / "i.h5").read(0, 60), images.reshape(60, -1)
    )
    with h5py.File(tmp_path / "i.h5", "a") as file:
        file["images"] = h5py.SoftLink("/deep/pictures")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file["there"] = h5py.ExternalLink("i.h5", "/images")
    for spec in ("i.h5", "i.h5::images", "i.h5::/deep/pictures", "outside.h5"):
        source = open_source(f"{tmp_path / spec}")
        np.testing.assert_array_equal(source.read(13, 31), images[13:31].reshape(18, -1))
    # Of an external link, the file that holds the values tells the images.
    assert source.fingerprint()["name"] == "i.h5"


def test_hdf5__virtual_datasets_are_refused(tmp_path, images):
    write_hdf5(tmp_path, images)
    layout = h5py.VirtualLayout(images.shape, images.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "i.h5", "deep/pictures", images.shape)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file.create_virtual_dataset("images", layout)
    with pytest.raises(ImagesError, match=r"virtual dataset, whose missing files .* fill up"):
        open_source(tmp_path / "v.h5")


@pytest.mark.parametrize("name", ["i.NPY", "i.NPZ", "i.HDF5"])
def test_open_source__endings_in_any_case(tmp_path, images, name):
    writers = {"i.NPY": write_npy, "i.NPZ": write_npz, "i.HDF5": write_lone_hdf5}
    writers[name](tmp_path, images).rename(tmp_path / name)
    source = open_source(tmp_path / name)
    np.testing.assert_array_equal(source.read(0, 60), images.reshape(60, -1))
    assert open_input(tmp_path / name).fingerprint == source.fingerprint()
