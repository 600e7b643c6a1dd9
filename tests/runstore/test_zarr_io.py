import json
import pickle
import shutil
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec

from workflow.errors import ImagesError, StoreError
from workflow.runstore import zarr_io
from workflow.runstore.stored_rows import rows_as_dask

DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]


def some_images(n=50, shape=(4, 4, 3), dtype="uint8", seed=0):
    values = np.random.default_rng(seed).integers(0, 256, size=(n, *shape))
    return values.astype(dtype)


def flip_byte(path, place=None):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 if place is None else place] ^= 0xFF
    path.write_bytes(content)


# --- images read in place -------------------------------------------------------------------


def zarr_array(path, images, **options):
    array = zarr.create_array(path, shape=images.shape, dtype=images.dtype, **options)
    array[:] = images
    return path


LAYOUTS = {
    "v3": {"chunks": (7, 4, 4, 3)},
    "v3 sharded": {"chunks": (5, 4, 4, 3), "shards": (20, 4, 4, 3)},
    "v3 split images": {"chunks": (7, 2, 3, 2)},
    "v2": {"chunks": (7, 4, 4, 3), "zarr_format": 2},
    "v2 plain": {"chunks": (7, 4, 2, 3), "zarr_format": 2, "compressors": None},
    "v3 plain": {"chunks": (50, 4, 4, 3), "compressors": None},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_open_images__reads_any_zarr_layout(tmp_path, layout, dtype):
    images = some_images(dtype=dtype)
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", images, **LAYOUTS[layout]))
    assert store.n_samples == 50
    assert store.n_features == 48
    assert store.image_shape == (4, 4, 3)
    assert store.dtype == np.dtype(dtype)
    assert store.stored_rows == LAYOUTS[layout]["chunks"][0]
    for start, stop in [(0, 50), (0, 1), (6, 22), (49, 50), (10, 10)]:
        block = store.read(start, stop)
        assert block.dtype == images.dtype
        assert block.flags.c_contiguous
        np.testing.assert_array_equal(block, images[start:stop].reshape(stop - start, 48))


def test_open_images__takes_group_dataset_and_named_array(tmp_path):
    images = some_images()
    group = tmp_path / "group"
    zarr_array(group / "images", images, chunks=(10, 4, 4, 3))
    zarr_array(group / "other", images[::-1], chunks=(10, 4, 4, 3))
    zarr.create_group(group, zarr_format=3)
    np.testing.assert_array_equal(zarr_io.open_images(group).read(0, 50), images.reshape(50, -1))
    other = zarr_io.open_images(f"{group}::other")
    assert other.key == "other"
    np.testing.assert_array_equal(other.read(0, 50), images[::-1].reshape(50, -1))
    assert zarr_io.open_images(group, "other") == other
    for zarr_format in (2, 3):
        place = tmp_path / f"dataset{zarr_format}.zarr"
        dataset = xr.Dataset({"images": (("sample", "y", "x", "channel"), images)})
        dataset.to_zarr(place, zarr_format=zarr_format, consolidated=False)
        store = zarr_io.open_images(place)
        np.testing.assert_array_equal(store.read(3, 9), images[3:9].reshape(6, -1))


def test_open_images__big_endian_zarr_reads_native(tmp_path):
    images = some_images(dtype=">u2")
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", images, zarr_format=2))
    assert store.read(0, 5).dtype == np.dtype("uint16")
    assert store.read(0, 5).dtype.isnative
    np.testing.assert_array_equal(store.read(0, 50), images.reshape(50, -1))


@pytest.mark.parametrize("dtype", [*DTYPES, ">u2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_open_images__npy(tmp_path, dtype, order):
    images = some_images(dtype=dtype)
    np.save(tmp_path / "i.npy", np.asarray(images, order=order))
    store = zarr_io.open_images(tmp_path / "i.npy")
    assert store.kind == "npy"
    assert store.stored_rows is None
    block = store.read(7, 21)
    assert block.dtype.isnative
    assert block.flags.c_contiguous
    np.testing.assert_array_equal(block, images[7:21].reshape(14, -1))


def test_image_store__pickles_small_and_reads_elsewhere(tmp_path):
    images = some_images()
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", images))
    pickled = pickle.dumps(store)
    assert len(pickled) < 600
    again = pickle.loads(pickled)
    assert again == store
    np.testing.assert_array_equal(again.read(0, 50), images.reshape(50, -1))


def test_is_readable_in_place__by_content_or_name(tmp_path):
    zarr_array(tmp_path / "plain-name", some_images())
    (tmp_path / "pictures").mkdir()
    assert zarr_io.is_readable_in_place(tmp_path / "plain-name")
    assert zarr_io.is_readable_in_place(tmp_path / "missing.zarr")
    assert zarr_io.is_readable_in_place("missing.npy")
    assert zarr_io.is_readable_in_place(f"{tmp_path}/plain-name::images")
    assert not zarr_io.is_readable_in_place(tmp_path / "pictures")
    assert not zarr_io.is_readable_in_place("images.npz")
    assert not zarr_io.is_readable_in_place("images.h5::images")


def save(path, array):
    np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda p: None, r"images must exist; .*it\.npy does not\. Check the path\."),
        (lambda p: save(p.with_name("its.npy"), np.zeros(3)), r"Did you mean .*its\.npy\?"),
        (
            lambda p: p.write_bytes(b"junk"),
            r"must be a NumPy \.npy file; its header cannot be read",
        ),
        (lambda p: p.write_bytes(b""), r"its header cannot be read"),
        (lambda p: save(p, np.array([[1, "a"], [2, "b"]], dtype=object)), r"it\.npy is object"),
        (lambda p: save(p, np.array([["a"], ["b"]])), r"it\.npy is text"),
        (lambda p: save(p, np.zeros((5, 4), complex)), r"it\.npy is complex128\. Convert"),
        (lambda p: save(p, np.zeros((5, 4), "int64")), r"uint8, uint16, float16.*is int64"),
        (lambda p: save(p, np.zeros((5, 4), bool)), r"it\.npy is bool"),
        (lambda p: save(p, np.zeros(5, "f4")), r"two dimensions or more.*has shape \(5,\)"),
        (lambda p: save(p, np.zeros((0, 4), "f4")), r"one image or more; .* has 0"),
        (lambda p: save(p, np.zeros((5, 0), "f4")), r"one value or more; .*shape \(5, 0\)"),
    ],
)
def test_open_images__refuses_npy_in_one_line(tmp_path, make, match):
    make(tmp_path / "it.npy")
    with pytest.raises(ImagesError, match=match) as caught:
        zarr_io.open_images(tmp_path / "it.npy")
    assert "\n" not in str(caught.value)


def test_open_images__cut_npy_names_both_sizes(tmp_path):
    place = tmp_path / "i.npy"
    np.save(place, some_images())
    whole = place.stat().st_size
    place.write_bytes(place.read_bytes()[:-7])
    with pytest.raises(ImagesError, match=rf"must have {whole} bytes .* it has {whole - 7}\."):
        zarr_io.open_images(place)


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "int8"])
def test_open_images__refuses_zarr_dtypes(tmp_path, dtype):
    zarr_array(tmp_path / "i.zarr", np.zeros((5, 4), dtype))
    with pytest.raises(ImagesError, match=f"is {dtype}. Convert"):
        zarr_io.open_images(tmp_path / "i.zarr")


def test_open_images__refuses_text(tmp_path):
    zarr_io.write_array(tmp_path, "images", np.array([["a", "b"], ["c", "d"]]), dims=("i", "j"))
    with pytest.raises(ImagesError, match=r"images must be uint8.* is text\. Convert"):
        zarr_io.open_images(tmp_path)


def test_open_images__refuses_folders_that_are_no_images(tmp_path):
    folder = tmp_path / "some.zarr"
    folder.mkdir()
    with pytest.raises(ImagesError, match=r"folder without Zarr metadata \(it holds nothing\)"):
        zarr_io.open_images(folder)
    (folder / "notes.txt").write_text("x")
    with pytest.raises(ImagesError, match=r"it holds notes\.txt"):
        zarr_io.open_images(folder)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node')
    with pytest.raises(ImagesError, match=r"zarr\.json must be the metadata .*damaged"):
        zarr_io.open_images(folder)
    (folder / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "array"}))
    with pytest.raises(ImagesError, match=r"must describe a Zarr array"):
        zarr_io.open_images(folder)


def test_open_images__group_without_images_names_what_it_holds(tmp_path):
    zarr_io.create_group(tmp_path / "g")
    with pytest.raises(ImagesError, match=r"holds no arrays\. Give another path"):
        zarr_io.open_images(tmp_path / "g")
    zarr_io.write_array(tmp_path / "g", "image", np.zeros((3, 4)), dims=("a", "b"))
    with pytest.raises(ImagesError, match=r"`images`; .* holds image\. Give .*g::image\."):
        zarr_io.open_images(tmp_path / "g")


def test_open_images__results_of_a_run_are_no_images(tmp_path):
    zarr_io.create_group(tmp_path / "run" / "labels.zarr")
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(ImagesError, match=r"labels\.zarr is of the run folder .*run\. Give"):
        zarr_io.open_images(tmp_path / "run" / "labels.zarr")


# --- damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("harm", ["missing", "empty", "cut"])
def test_read__damaged_file_is_named_with_its_rows(tmp_path, layout, harm):
    images = some_images() | 1
    place = zarr_array(tmp_path / "i.zarr", images, **LAYOUTS[layout])
    store = zarr_io.open_images(place)
    file = min(p for p in place.rglob("*") if p.is_file() and p.name[0] not in "z.")
    content = file.read_bytes()
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if harm == "empty" else content[: len(content) // 2])
    key = file.relative_to(place).as_posix()
    match = rf"i\.zarr must hold its rows 0 to \d+ whole; its file {key} is "
    with pytest.raises(StoreError, match=match) as caught:
        store.read(0, 5)
    assert "\n" not in str(caught.value)


def test_read__altered_byte_of_a_checked_chunk(tmp_path):
    images = some_images()
    place = zarr_array(
        tmp_path / "i.zarr", images, chunks=(10, 4, 4, 3), compressors=[Crc32cCodec()]
    )
    store = zarr_io.open_images(place)
    flip_byte(place / "c/2/0/0/0")
    np.testing.assert_array_equal(store.read(0, 20), images[:20].reshape(20, -1))
    with pytest.raises(StoreError, match=r"rows 20 to 29 whole; its file c/2/0/0/0 is damaged"):
        store.read(15, 50)


def test_read__chunk_left_out_inside_a_shard_is_meant(tmp_path):
    images = some_images()
    images[5:10] = 0
    place = zarr_array(tmp_path / "i.zarr", images, **LAYOUTS["v3 sharded"])
    block = zarr_io.open_images(place).read(0, 20)
    np.testing.assert_array_equal(block, images[:20].reshape(20, -1))


@pytest.mark.parametrize("order", ["C", "F"])
def test_read__npy_cut_after_opening(tmp_path, order):
    place = tmp_path / "i.npy"
    np.save(place, np.asarray(some_images(), order=order))
    store = zarr_io.open_images(place)
    store.read(0, 50)
    place.write_bytes(place.read_bytes()[:-7])
    with pytest.raises(StoreError, match="must stay as it was opened"):
        store.read(0, 10)


def test_read__replaced_images(tmp_path):
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", some_images()))
    shutil.rmtree(tmp_path / "i.zarr")
    zarr_array(tmp_path / "i.zarr", some_images(shape=(4, 4, 4)))
    with pytest.raises(StoreError, match=r"must stay as it was opened.*\(4, 4, 3\) uint8"):
        store.read(0, 5)


def test_read__rows_out_of_range(tmp_path):
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", some_images()))
    with pytest.raises(StoreError, match=r"has rows 0 to 50; rows 45 to 51"):
        store.read(45, 51)


# --- fingerprint ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_fingerprint__stable_and_sensitive(tmp_path, kind):
    images = some_images()
    place = tmp_path / f"i.{kind}"
    if kind == "npy":
        np.save(place, images)
    else:
        zarr_array(place, images, chunks=(10, 4, 4, 3), compressors=None)
    store = zarr_io.open_images(place)
    first = store.fingerprint()
    assert json.loads(json.dumps(first)) == first
    assert zarr_io.open_images(place).fingerprint() == first
    assert first["n_bytes"] >= images.nbytes
    moved = place.rename(tmp_path / ("j.zarr" if kind == "zarr" else "sub.npy"))
    if kind == "zarr":
        assert zarr_io.open_images(moved).fingerprint() == first
    flip_byte(moved if kind == "npy" else moved / "c/2/0/0/0", -1)
    assert zarr_io.open_images(moved).fingerprint() != first


# --- dask -----------------------------------------------------------------------------------------


def test_rows_as_dask__lazy_and_equal(tmp_path):
    images = some_images()
    store = zarr_io.open_images(zarr_array(tmp_path / "i.zarr", images, chunks=(7, 4, 4, 3)))
    lazy = rows_as_dask(store, 16)
    flat = images.reshape(50, -1)
    assert lazy.chunks == ((16, 16, 16, 2), (48,))
    assert len(pickle.dumps(dict(lazy.dask))) < 10_000
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(lazy.compute(), flat)
        np.testing.assert_array_equal(lazy[5:30:3, ::5].compute(), flat[5:30:3, ::5])
        np.testing.assert_array_equal(lazy[::-1].compute(), flat[::-1])
        np.testing.assert_array_equal(lazy[17, 3:9].compute(), flat[17, 3:9])
        np.testing.assert_array_equal(lazy[40:40].compute(), flat[40:40])
        np.testing.assert_array_equal(lazy[[3, 20, 4]].compute(), flat[[3, 20, 4]])
        assert lazy.sum(dtype="int64").compute() == flat.sum()


# --- arrays of our own --------------------------------------------------------------------------


def scores_array(path, n_rows=25, **options):
    settings = {"shard_rows": 8, "chunk_rows": 4, "compressor": None, **options}
    zarr_io.create_rows_array(
        path,
        "scores",
        n_rows=n_rows,
        tail_shape=(3,),
        dtype="float32",
        dims=("sample", "component"),
        **settings,
    )


def fill(path, values, shard_rows=8):
    for start in range(0, len(values), shard_rows):
        zarr_io.write_rows(path, "scores", start, values[start : start + shard_rows])


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("n_rows", [1, 3, 8, 25])
def test_rows_array__round_trip(tmp_path, compressor, n_rows):
    values = np.random.default_rng(0).standard_normal((n_rows, 3)).astype("float32")
    scores_array(tmp_path / "s.zarr", n_rows, compressor=compressor)
    fill(tmp_path / "s.zarr", values)
    np.testing.assert_array_equal(
        zarr_io.read_rows(tmp_path / "s.zarr", "scores", 0, n_rows), values
    )
    rows = zarr_io.StoredRows.open(tmp_path / "s.zarr", "scores")
    assert (rows.n_samples, rows.n_features, rows.dtype) == (n_rows, 3, np.dtype("float32"))
    again = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(again.read(0, n_rows), values)
    dataset = xr.open_zarr(tmp_path / "s.zarr", consolidated=False)
    assert dataset["scores"].dims == ("sample", "component")
    np.testing.assert_array_equal(dataset["scores"], values)


def test_rows_array__default_chunks_divide_the_shard(tmp_path):
    for shard_rows in (16_384, 50_000, 65_537):
        name = f"a{shard_rows}"
        zarr_io.create_rows_array(
            tmp_path,
            name,
            n_rows=200_000,
            tail_shape=(768,),
            dtype="uint8",
            shard_rows=shard_rows,
            dims=("sample", "feature"),
        )
        array = zarr.open_array(tmp_path / name, mode="r")
        assert array.shards[0] == shard_rows
        assert shard_rows % array.chunks[0] == 0


def test_write_rows__rows_of_zeros_have_a_file(tmp_path):
    scores_array(tmp_path, 16)
    zarr_io.write_rows(tmp_path, "scores", 8, np.zeros((8, 3), "float32"))
    assert zarr_io.shard_file(tmp_path, "scores", 8).is_file()
    assert not zarr_io.read_rows(tmp_path, "scores", 8, 16).any()
    with pytest.raises(StoreError, match=r"rows 0 to 7 whole; its file c/0/0 is missing"):
        zarr_io.read_rows(tmp_path, "scores", 0, 16)


@pytest.mark.parametrize("start", [0, 24])
def test_write_rows__over_a_damaged_shard(tmp_path, start):
    values = np.arange(75, dtype="float32").reshape(25, 3)
    scores_array(tmp_path)
    fill(tmp_path, values)
    file = zarr_io.shard_file(tmp_path, "scores", start)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    zarr_io.write_rows(tmp_path, "scores", start, values[start : start + 8])
    assert file.read_bytes() == whole


@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_read_rows__every_altered_byte_is_found(tmp_path, compressor):
    values = np.arange(24, dtype="float32").reshape(8, 3)
    scores_array(tmp_path, 8, compressor=compressor)
    fill(tmp_path, values)
    file = zarr_io.shard_file(tmp_path, "scores", 0)
    whole = file.read_bytes()
    for place in range(len(whole)):
        flip_byte(file, place)
        with pytest.raises(StoreError, match=r"scores must hold its rows 0 to 7 whole; its file"):
            zarr_io.read_rows(tmp_path, "scores", 0, 8)
        file.write_bytes(whole)
    np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "scores", 0, 8), values)


def test_write_rows__whole_shards_only(tmp_path):
    scores_array(tmp_path)
    block = np.zeros((8, 3), "float32")
    for start, rows in [(4, block), (0, block[:7]), (16, np.zeros((10, 3), "float32"))]:
        with pytest.raises(ValueError, match="rows must be whole shards of 8 rows of 25"):
            zarr_io.write_rows(tmp_path, "scores", start, rows)
    with pytest.raises(ValueError, match=r"must have shape \(3,\) and type float32; got .*float64"):
        zarr_io.write_rows(tmp_path, "scores", 0, block.astype("float64"))
    with pytest.raises(ValueError, match=r"got \(2,\) and float32"):
        zarr_io.write_rows(tmp_path, "scores", 0, block[:, :2])
    with pytest.raises(StoreError, match=r"must be a Zarr array; it holds no zarr\.json"):
        zarr_io.write_rows(tmp_path, "score", 0, block)
    with pytest.raises(
        ValueError,
        match="`chunk_rows` must divide `block_rows`, and that `shard_rows`; got 3, 8 and 8",
    ):
        scores_array(tmp_path / "other", chunk_rows=3)


def test_create__refuses_what_is_there(tmp_path):
    scores_array(tmp_path / "g")
    with pytest.raises(StoreError, match="a new array must have a new name"):
        scores_array(tmp_path / "g")
    with pytest.raises(StoreError, match="a new group must have a new path"):
        zarr_io.create_group(tmp_path / "g")
    scores_array(tmp_path / "g", 9, overwrite=True)
    assert zarr_io.StoredRows.open(tmp_path / "g", "scores").n_samples == 9


def test_rows_array__written_again_is_read_anew(tmp_path):
    for n_rows in (8, 16):
        scores_array(tmp_path, n_rows, overwrite=True)
        fill(tmp_path, np.full((n_rows, 3), n_rows, "float32"))
        assert (zarr_io.read_rows(tmp_path, "scores", 0, n_rows) == n_rows).all()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4),
        np.arange(5, dtype=">i4"),
        np.array(3.5),
        np.zeros((0, 7), "int64"),
        np.array([True, False]),
        np.zeros((3, 2), "uint8"),
        np.array([[np.nan, np.inf]]),
    ],
    ids=lambda a: f"{a.dtype.name}{a.shape}",
)
def test_write_array__round_trip(tmp_path, array):
    dims = tuple(f"d{axis}" for axis in range(array.ndim))
    zarr_io.write_array(tmp_path, "a", np.ones(3), dims=("old",))
    zarr_io.write_array(tmp_path, "a", array, dims=dims, attrs={"units": "1"})
    found = zarr_io.read_array(tmp_path, "a")
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert zarr_io.read_attrs(tmp_path, "a") == {"units": "1"}
    assert zarr_io.array_dtype(tmp_path, "a") == found.dtype


def test_write_array__text(tmp_path):
    names = ["a/ä.png", "", "x\ny"]
    for form in (
        np.array(names),
        np.array(names, object),
        np.array(names, np.dtypes.StringDType()),
    ):
        zarr_io.write_array(tmp_path, "path", form, dims=("sample",))
        assert zarr_io.read_array(tmp_path, "path").tolist() == names
    assert zarr_io.array_dtype(tmp_path, "path") == "string"
    zarr_io.create_rows_array(
        tmp_path,
        "copy",
        n_rows=3,
        tail_shape=(),
        dtype=zarr_io.array_dtype(tmp_path, "path"),
        shard_rows=2,
        dims=("sample",),
    )
    for start, stop in ((0, 2), (2, 3)):
        part = zarr_io.read_rows(tmp_path, "path", start, stop)
        zarr_io.write_rows(tmp_path, "copy", start, part)
    assert zarr_io.read_array(tmp_path, "copy").tolist() == names
    assert zarr_io.crc(zarr_io.read_array(tmp_path, "copy")) == zarr_io.crc(np.array(names))


def test_write_array__wants_a_name_for_each_dimension(tmp_path):
    with pytest.raises(ValueError, match="must name the 2 dimensions of `a`"):
        zarr_io.write_array(tmp_path, "a", np.zeros((2, 2)), dims=("d",))


def test_read_array__missing_and_damaged(tmp_path):
    with pytest.raises(StoreError, match="must be a Zarr array; it holds no"):
        zarr_io.read_array(tmp_path, "a")
    zarr_io.write_array(tmp_path, "a", np.arange(100.0), dims=("d",))
    flip_byte(tmp_path / "a/c/0")
    with pytest.raises(
        StoreError, match=r"a must hold its rows 0 to 99 whole; its file c/0 is dam"
    ):
        zarr_io.read_array(tmp_path, "a")
    zarr_io.write_array(tmp_path, "b", np.array(7), dims=())
    (tmp_path / "b/c").unlink()
    with pytest.raises(StoreError, match="its file c is missing"):
        zarr_io.read_array(tmp_path, "b")


def test_attrs__of_groups_and_arrays(tmp_path):
    zarr_io.create_group(tmp_path / "g", {"a": 1})
    zarr_io.write_attrs(tmp_path / "g", {"b": {"c": [1, 2]}})
    zarr_io.write_array(tmp_path / "g", "x", np.zeros(2), dims=("d",))
    zarr_io.write_attrs(tmp_path / "g", {"units": "m"}, "x")
    zarr_io.consolidate(tmp_path / "g")
    zarr_io.write_attrs(tmp_path / "g", {"d": 4})
    assert zarr_io.read_attrs(tmp_path / "g") == {"a": 1, "b": {"c": [1, 2]}, "d": 4}
    assert zarr_io.read_attrs(tmp_path / "g", "x") == {"units": "m"}
    with pytest.raises(StoreError, match="must be a Zarr group or array; it is neither"):
        zarr_io.read_attrs(tmp_path / "h")


def test_array_names__sorted_without_consolidation(tmp_path):
    zarr_io.create_group(tmp_path / "g")
    for name in ("b", "a"):
        zarr_io.write_array(tmp_path / "g", name, np.zeros(2), dims=("d",))
    zarr_io.consolidate(tmp_path / "g")
    zarr_io.write_array(tmp_path / "g", "c", np.zeros(2), dims=("d",))
    assert zarr_io.array_names(tmp_path / "g") == ["a", "b", "c"]
    with pytest.raises(StoreError, match="must be a Zarr group; it is missing"):
        zarr_io.array_names(tmp_path / "h")


def test_consolidate__xarray_opens_without_a_warning(tmp_path):
    values = np.random.default_rng(0).standard_normal((25, 3)).astype("float32")
    scores_array(tmp_path / "s.zarr", attrs={"units": "score"})
    fill(tmp_path / "s.zarr", values)
    zarr_io.write_array(tmp_path / "s.zarr", "path", np.array(list("abcde") * 5), dims=("sample",))
    zarr_io.write_attrs(tmp_path / "s.zarr", {"coordinates": "path"})
    zarr_io.consolidate(tmp_path / "s.zarr")
    # Warnings are errors here.
    dataset = xr.open_zarr(tmp_path / "s.zarr")
    assert list(dataset.coords) == ["path"]
    assert dataset["scores"].attrs["units"] == "score"
    np.testing.assert_array_equal(dataset["scores"], values)
    assert dataset["path"].values.tolist() == list("abcde") * 5


def test_crc__bytes_in_row_order():
    values = np.arange(12, dtype="uint16").reshape(3, 4)
    assert zarr_io.crc(np.frombuffer(b"123456789", np.uint8)) == 0xE3069283  # RFC 3720, crc32c
    assert zarr_io.crc(np.asfortranarray(values)) == zarr_io.crc(values)
    assert zarr_io.crc(values[::-1]) != zarr_io.crc(values)
    assert zarr_io.crc(np.zeros((0, 3))) == 0


def test_compresses__noise_does_not():
    rng = np.random.default_rng(0)
    assert not zarr_io.compresses(rng.integers(0, 256, (100, 768), dtype=np.uint8))
    assert zarr_io.compresses(np.zeros((100, 768), np.uint8))


def test_split_key__an_existing_name_wins(tmp_path):
    odd = tmp_path / "a::b.npy"
    np.save(odd, some_images())
    assert zarr_io.split_key(odd) == (odd, None)
    assert zarr_io.split_key("x.h5::images") == (Path("x.h5").absolute(), "images")
