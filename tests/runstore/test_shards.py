"""Shards written and read by their bytes: each byte, and each value, as zarr has it."""

from __future__ import annotations

import contextlib
import resource
import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import psutil
import pytest
import zarr
from numcodecs import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec

from workflow.errors import StoreError
from workflow.runstore import zarr_io
from workflow.runstore.shards import ShardLayout

DTYPES = ["bool", "uint8", "uint16", "int32", "int64", "float16", "float32", "float64", "complex64"]
#: Rows, rows of a shard, rows of a chunk.
CUTS = [(1, 8, 4), (3, 8, 4), (8, 8, 8), (24, 8, 4), (25, 8, 4), (29, 8, 2), (31, 8, 1)]
ZARR_CHECKED = {"compressors": [ZstdCodec(level=1), Crc32cCodec()]}


def values_of(n_rows, dtype, tail=(3,), seed=0):
    values = np.random.default_rng(seed).integers(0, 100, (n_rows, *tail))
    return (values % 3 == 0) if dtype == "bool" else values.astype(dtype)


def ours(path, values, shard_rows, chunk_rows, compressor=None, *, sync=False):
    zarr_io.create_rows_array(
        path,
        "a",
        n_rows=len(values),
        tail_shape=values.shape[1:],
        dtype=values.dtype,
        shard_rows=shard_rows,
        chunk_rows=chunk_rows,
        dims=[f"d{axis}" for axis in range(values.ndim)],
        compressor=compressor,
    )
    n = zarr.open_array(path / "a", mode="r").shards[0]
    for start in range(0, len(values), n):
        zarr_io.write_rows(path, "a", start, values[start : start + n], sync=sync)
    return path / "a"


def layout_of(folder):
    return ShardLayout.of(folder, zarr.open_array(folder, mode="r"))


def content(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "zarr.json"
    }


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("tail", [(), (3,), (2, 2, 3)])
@pytest.mark.parametrize("cut", CUTS)
def test_write__leaves_the_bytes_that_zarr_writes(tmp_path, cut, tail, compressor):
    n_rows, shard_rows, chunk_rows = cut
    for dtype in DTYPES:
        values = values_of(n_rows, dtype, tail)
        folder = ours(tmp_path / dtype, values, shard_rows, chunk_rows, compressor)
        assert layout_of(folder) is not None
        files = content(folder)
        np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[...], values)
        for path in files:
            (folder / path).unlink()
        array = zarr.open_array(folder, mode="r+").with_config({"write_empty_chunks": True})
        array[...] = values
        assert content(folder) == files


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("cut", CUTS)
def test_read__any_rows_of_what_zarr_wrote(tmp_path, cut, compressor):
    n_rows, shard_rows, chunk_rows = cut
    values = values_of(n_rows, "float32")
    values[: n_rows // 2] = 7
    array = zarr.create_array(
        tmp_path / "a",
        shape=values.shape,
        dtype=values.dtype,
        chunks=(chunk_rows, 3),
        shards=(shard_rows, 3),
        fill_value=7,
        compressors=[*([ZstdCodec(level=3, checksum=True)] if compressor else []), Crc32cCodec()],
        config={"write_empty_chunks": False},
    )
    # A file for each shard, but chunks of fill values are left out in it.
    values[::shard_rows] = 1
    # In pieces: chunks then lie in the shard as zarr puts them when it adds to one.
    for start in reversed(range(0, n_rows, max(1, chunk_rows // 2))):
        array[start : start + max(1, chunk_rows // 2)] = values[
            start : start + max(1, chunk_rows // 2)
        ]
    assert layout_of(tmp_path / "a") is not None
    for start in range(n_rows + 1):
        for stop in range(start, n_rows + 1):
            found = zarr_io.read_rows(tmp_path, "a", start, stop)
            np.testing.assert_array_equal(found, values[start:stop])
            assert found.dtype == values.dtype
            assert found.flags.c_contiguous
            assert found.flags.writeable
    np.testing.assert_array_equal(zarr_io.read_array(tmp_path, "a"), values)


OTHERS = {
    "no checksum": {},
    "other compressor": {"compressors": [GzipCodec(), Crc32cCodec()]},
    "checksum first": {"compressors": [Crc32cCodec(), ZstdCodec()]},
    "two checksums": {"compressors": [Crc32cCodec(), Crc32cCodec()]},
    "split rows": {"chunks": (4, 2), **ZARR_CHECKED},
    "no shards": {"shards": None, **ZARR_CHECKED},
    "big endian": {"serializer": BytesCodec(endian="big"), **ZARR_CHECKED},
    "format 2": {"zarr_format": 2, "shards": None},
}


@pytest.mark.parametrize("name", OTHERS)
def test_read__other_layouts_are_left_to_zarr(tmp_path, name):
    values = values_of(20, "float32", (4,))
    options = {"chunks": (4, 4), "shards": (8, 4), **OTHERS[name]}
    array = zarr.create_array(tmp_path / "a", shape=(20, 4), dtype="float32", **options)
    array[...] = values
    assert layout_of(tmp_path / "a") is None
    np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "a", 3, 17), values[3:17])


def test_read__index_at_the_start_is_left_to_zarr(tmp_path):
    values = values_of(20, "float32", (4,))
    sharding = ShardingCodec(
        chunk_shape=(4, 4), codecs=[BytesCodec(), Crc32cCodec()], index_location="start"
    )
    array = zarr.create(
        store=tmp_path / "a", shape=(20, 4), chunks=(8, 4), dtype="float32", codecs=[sharding]
    )
    array[...] = values
    assert layout_of(tmp_path / "a") is None
    np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "a", 3, 17), values[3:17])


def with_index(whole, index):
    """Return a shard with another index, whose checksum is right."""
    packed = struct.pack(f"<{len(index)}Q", *index)
    checksum = google_crc32c.value(packed).to_bytes(4, "little")
    return whole[: -len(packed) - 4] + packed + checksum


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize(
    "index",
    [
        (0, 2**62, 0, 2**62),
        (2**63, 52, 2**63, 52),
        (2**64 - 1, 52, 2**64 - 1, 52),
        (0, 2**64 - 1, 0, 2**64 - 1),
        (0, 0, 0, 0),
        (0, 4, 0, 4),
        (8, 52, 8, 52),
        (0, 51, 0, 51),
    ],
)
def test_read__an_index_that_cannot_be_is_refused(tmp_path, index, compressor):
    ours(tmp_path, values_of(8, "float32"), 8, 4, compressor)
    file = zarr_io.shard_file(tmp_path, "a", 0)
    file.write_bytes(with_index(file.read_bytes(), index))
    with pytest.raises(
        StoreError, match=r"rows 0 to 7 whole; its file c/0/0 is damaged \("
    ) as caught:
        zarr_io.read_rows(tmp_path, "a", 0, 8)
    assert "\n" not in str(caught.value)


def test_read__a_chunk_that_unpacks_to_another_size_is_refused(tmp_path):
    ours(tmp_path, values_of(8, "float32"), 8, 4, "zstd")
    for n_bytes in (44, 52):
        packed = Zstd().encode(bytes(n_bytes))
        chunk = packed + google_crc32c.value(packed).to_bytes(4, "little")
        place = [0, len(chunk)] * 2
        whole = with_index(chunk + bytes(36), place)
        zarr_io.shard_file(tmp_path, "a", 0).write_bytes(whole)
        with pytest.raises(StoreError, match=f"unpacks to {n_bytes} bytes, not 48"):
            zarr_io.read_rows(tmp_path, "a", 0, 8)


def test_write__in_one_move_whoever_else_writes_the_same(tmp_path):
    """As when a worker that was given up for lost finishes its task beside the one that took it over."""
    values = values_of(4096, "float64", (16,))
    folder = ours(tmp_path, values, 4096, 512)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            zarr_io.write_rows(tmp_path, "a", 0, values)

    writers = [threading.Thread(target=write) for _ in range(3)]
    for thread in writers:
        thread.start()
    try:
        for _ in range(100):
            np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "a", 0, 4096), values)
    finally:
        stop.set()
        for thread in writers:
            thread.join()
    assert [p.name for p in (folder / "c/0").iterdir()] == ["0"]


@contextlib.contextmanager
def files_of_at_most(n_bytes):
    """Let the system refuse to write files past a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("sync", [False, True])
def test_write__that_fails_leaves_what_was_there(tmp_path, sync):
    values = values_of(8, "float32")
    folder = ours(tmp_path, values, 8, 4, sync=sync)
    before = content(folder)
    with (
        files_of_at_most(100),
        pytest.raises(StoreError, match=r"take rows 0 to 7; the disk refused \(File too large\)"),
    ):
        zarr_io.write_rows(tmp_path, "a", 0, values + 1, sync=sync)
    assert content(folder) == before
    shutil.rmtree(folder / "c")
    with pytest.raises(StoreError, match="its file c/0/0 is missing"):
        zarr_io.read_rows(tmp_path, "a", 0, 8)


@pytest.mark.parametrize("compressor", [None, "zstd"])
@pytest.mark.parametrize("pieces", [[8, 8, 8, 5], [3, 9, 1, 16], [29], [1] * 29])
def test_rows_writer__blocks_of_any_length_leave_the_same_files(tmp_path, pieces, compressor):
    values = values_of(29, "float32")
    expected = content(ours(tmp_path / "whole", values, 8, 4, compressor))
    folder = ours(tmp_path / "pieces", values + 1, 8, 4, compressor)
    with zarr_io.RowsWriter(tmp_path / "pieces", "a", 0) as writer:
        for stop, n in zip(np.cumsum(pieces), pieces, strict=True):
            writer.append(values[stop - n : stop])
    assert content(folder) == expected


def test_rows_writer__a_shard_that_is_not_whole_is_never_there(tmp_path):
    values = values_of(24, "float32")
    folder = ours(tmp_path, values, 8, 4)
    before = content(folder)

    def write(n_rows, error=None):
        with zarr_io.RowsWriter(tmp_path, "a", 8) as writer:
            writer.append(values[8 : 8 + n_rows] + 1)
            if error is not None:
                raise error

    with pytest.raises(ValueError, match="whole shards of 8 rows of 24; got rows 8 to 13"):
        write(5)
    assert content(folder) == before
    with pytest.raises(KeyError, match="stopped"):
        write(5, KeyError("stopped"))
    assert content(folder) == before
    with pytest.raises(ValueError, match="got rows 16 to 19"):
        write(11)
    np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "a", 8, 16), values[8:16] + 1)
    np.testing.assert_array_equal(zarr_io.read_rows(tmp_path, "a", 16, 24), values[16:])
    with pytest.raises(ValueError, match="got rows 4 to 4"):
        zarr_io.RowsWriter(tmp_path, "a", 4)
    with (
        pytest.raises(ValueError, match="got rows 16 to 25"),
        zarr_io.RowsWriter(tmp_path, "a", 16) as writer,
    ):
        writer.append(np.zeros((9, 3), "float32"))
    assert not list(tmp_path.rglob("*.partial"))


def test_rows_writer__text_goes_by_shards_too(tmp_path):
    names = np.array([f"images/{i}.png" for i in range(20)], dtype=np.dtypes.StringDType())
    zarr_io.create_rows_array(
        tmp_path, "a", n_rows=20, tail_shape=(), dtype="string", shard_rows=8, dims=("sample",)
    )
    with zarr_io.RowsWriter(tmp_path, "a", 0) as writer:
        for start in range(0, 20, 3):
            writer.append(names[start : start + 3])
    assert list(zarr_io.read_rows(tmp_path, "a", 0, 20)) == list(names)


def test_write__rows_of_any_memory_layout(tmp_path):
    values = values_of(16, "float32")
    for name, rows in (
        ("fortran", np.asfortranarray(values)),
        ("strided", np.repeat(values, 2, axis=0)[::2]),
    ):
        folder = ours(tmp_path / name, rows, 8, 4)
        np.testing.assert_array_equal(zarr.open_array(folder, mode="r")[...], values)


def test_read__one_after_the_other_up_to_a_lost_shard(tmp_path):
    """A reader that goes from file to file comes to the one that is not there."""
    values = values_of(32, "float32")
    ours(tmp_path, values, 8, 4)
    zarr_io.shard_file(tmp_path, "a", 24).unlink()
    for start in range(0, 24, 4):
        found = zarr_io.read_rows(tmp_path, "a", start, start + 4)
        np.testing.assert_array_equal(found, values[start : start + 4])
    with pytest.raises(StoreError, match="rows 24 to 31 whole; its file c/3/0 is missing"):
        zarr_io.read_rows(tmp_path, "a", 24, 28)


def open_files(folder):
    """Return the files below a folder that this process has open."""
    paths = (file.path for file in psutil.Process().open_files())
    return [path for path in paths if path.startswith(str(folder.resolve()))]


@pytest.mark.parametrize("compressor", [None, "zstd"])
def test_read__in_order_keeps_a_file_open_only_inside_it(tmp_path, compressor):
    values = values_of(22, "int32")
    folder = ours(tmp_path, values, 8, 4, compressor)
    for start, n_open in [(0, 1), (4, 0), (8, 1), (12, 0), (16, 1)]:
        assert (zarr_io.read_rows(tmp_path, "a", start, start + 4) == values[start:][:4]).all()
        assert len(open_files(folder)) == n_open, start
    assert (zarr_io.read_rows(tmp_path, "a", 20, 22) == values[20:]).all()
    assert not open_files(folder)
    # Here and there: none is kept.
    for start in (5, 13, 2, 17):
        assert (zarr_io.read_rows(tmp_path, "a", start, start + 2) == values[start:][:2]).all()
        assert not open_files(folder)


def test_read__of_a_file_that_was_written_anew_meanwhile(tmp_path):
    """A pass that goes on in a file must not go on in what was there before."""
    values = values_of(16, "int32")
    folder = ours(tmp_path, values, 16, 4)
    for damage in ("rewritten", "altered", "removed"):
        assert (zarr_io.read_rows(tmp_path, "a", 0, 4) == values[:4]).all()
        (shard,) = open_files(folder)
        if damage == "rewritten":
            values = values + 1
            zarr_io.write_rows(tmp_path, "a", 0, values)
            assert (zarr_io.read_rows(tmp_path, "a", 4, 8) == values[4:8]).all()
            continue
        if damage == "removed":
            Path(shard).unlink()
        else:
            whole = bytearray(Path(shard).read_bytes())
            whole[-9] ^= 1
            Path(shard).write_bytes(whole)
        with pytest.raises(StoreError, match="missing" if damage == "removed" else "index"):
            zarr_io.read_rows(tmp_path, "a", 4, 8)
        zarr_io.write_rows(tmp_path, "a", 0, values)


def test_read__by_threads_that_share_an_array(tmp_path):
    values = values_of(4096, "int32")
    ours(tmp_path, values, 512, 64, "zstd")

    def read_all(seed):
        starts = np.arange(0, len(values), 64)
        if seed:
            np.random.default_rng(seed).shuffle(starts)
        return all(
            (
                zarr_io.read_rows(tmp_path, "a", start, start + 64) == values[start : start + 64]
            ).all()
            for start in starts.tolist()
        )

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(read_all, [0, 0, 1, 2]))
