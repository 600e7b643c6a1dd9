import fcntl

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

from tests.ingest.helpers import KilledError, KilledRunner, ThreadRunner, files_of
from workflow.errors import StoreError
from workflow.ingest import (
    ArraySource,
    DaskSource,
    DemoSource,
    ingest,
    open_source,
    unfinished,
    writer,
)
from workflow.runstore import zarr_io


@pytest.fixture
def source(tmp_path, images):
    np.save(tmp_path / "i.npy", images)
    return open_source(tmp_path / "i.npy")


def test_ingest__copies_values_and_names_dimensions(tmp_path, images, source):
    runner = KilledRunner()
    report = ingest(source, tmp_path / "i.zarr", block_rows=16, runner=runner)
    assert (report.n_samples, report.image_shape, report.dtype) == (60, (5, 4, 3), "uint8")
    assert (report.n_shards_written, report.n_shards_reused) == (4, 0)
    assert report.compressor == "zstd"
    assert report.n_bytes < images.nbytes
    assert runner.n_shown == 60
    dataset = xr.open_zarr(tmp_path / "i.zarr")
    assert dataset["images"].dims == ("sample", "height", "width", "channel")
    np.testing.assert_array_equal(dataset["images"], images)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.npy", "i.zarr"]
    assert sorted(p.name for p in (tmp_path / "i.zarr").iterdir()) == ["images", "zarr.json"]


@pytest.mark.parametrize("dtype", ["uint8", ">u2", "float16", ">f4", "float64"])
def test_ingest__keeps_the_type_in_little_endian(tmp_path, images, dtype):
    values = images.reshape(60, 60).astype(dtype)
    values[3, 4] = np.nan if values.dtype.kind == "f" else 7
    np.save(tmp_path / "i.npy", values)
    ingest(open_source(tmp_path / "i.npy"), tmp_path / "i.zarr", block_rows=32)
    store = zarr_io.open_images(tmp_path / "i.zarr")
    assert store.dtype == values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(store.read(0, 60), values)
    assert xr.open_zarr(tmp_path / "i.zarr")["images"].dims == ("sample", "feature")


def test_ingest__noise_is_not_compressed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 300), dtype=np.uint8)
    report = ingest(ArraySource(noise), tmp_path / "i.zarr")
    assert report.compressor is None
    np.testing.assert_array_equal(zarr_io.open_images(tmp_path / "i.zarr").read(0, 40), noise)


def test_ingest__shards_hold_whole_blocks():
    images = {
        n: writer.choose_shard_rows(DemoSource(n_images=n)) for n in (10**5, 10**6, 10**7, 10**9)
    }
    assert images == {10**5: 16_384, 10**6: 16_384, 10**7: 9 * 16_384, 10**9: 10 * 16_384}
    assert writer.dims_of((2, 3, 4, 5)) == ("sample", "dim_1", "dim_2", "dim_3", "dim_4")
    assert writer.dims_of((2, 3)) == ("sample", "height", "width")


def test_ingest__bytes_do_not_depend_on_the_runner(tmp_path, source):
    ingest(source, tmp_path / "serial.zarr", block_rows=7)
    ingest(source, tmp_path / "other.zarr", block_rows=7, runner=ThreadRunner())
    assert files_of(tmp_path / "serial.zarr") == files_of(tmp_path / "other.zarr")


def test_ingest__killed_at_each_shard_does_the_rest_only(tmp_path, source):
    whole = ingest(source, tmp_path / "whole.zarr", block_rows=16)
    # One task looks whether the images compress, four write.
    for n_tasks in range(5):
        target = tmp_path / f"killed{n_tasks}.zarr"
        with pytest.raises(KilledError):
            ingest(source, target, block_rows=16, runner=KilledRunner(n_tasks))
        assert not target.exists()
        rest = KilledRunner()
        report = ingest(source, target, block_rows=16, runner=rest)
        assert rest.n_done == 5 - n_tasks
        assert report.n_shards_reused == max(0, n_tasks - 1)
        assert report.n_shards_written + report.n_shards_reused == 4
        assert report.n_bytes == whole.n_bytes
        assert rest.n_shown == 60
        assert files_of(target) == files_of(tmp_path / "whole.zarr")
    assert not list(tmp_path.glob("*.partial"))


def test_ingest__killed_before_or_in_the_move(tmp_path, source, monkeypatch):
    ingest(source, tmp_path / "whole.zarr", block_rows=16)
    target = tmp_path / "i.zarr"

    def die(*_):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(writer, "move", die)
        with pytest.raises(KilledError):
            ingest(source, target, block_rows=16)
    # Whole, and its notes taken away: killed between the two renames of the move.
    notes = tmp_path / "i.zarr.notes"
    (tmp_path / "i.zarr.partial" / unfinished.NOTES).replace(notes)
    mapper = KilledRunner(0)
    report = ingest(source, target, block_rows=16, runner=mapper)
    assert (report.n_shards_written, report.n_shards_reused) == (0, 4)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")
    assert not notes.exists()


def test_ingest__shard_lost_or_cut_after_it_was_noted(tmp_path, source):
    ingest(source, tmp_path / "whole.zarr", block_rows=16)
    target, partial = tmp_path / "i.zarr", tmp_path / "i.zarr.partial"
    with pytest.raises(KilledError):
        ingest(source, target, block_rows=16, runner=KilledRunner(4))
    zarr_io.shard_file(partial, "images", 0).unlink()
    shard = zarr_io.shard_file(partial, "images", 16)
    shard.write_bytes(shard.read_bytes()[:-5])
    # What Zarr leaves of a shard that was being written.
    shard.with_suffix(".0123.partial").write_bytes(b"half")
    report = ingest(source, target, block_rows=16)
    assert (report.n_shards_written, report.n_shards_reused) == (3, 1)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")


def test_ingest__disk_that_gives_back_other_values(tmp_path, source, monkeypatch):
    real = zarr_io.RowsWriter.append
    monkeypatch.setattr(zarr_io.RowsWriter, "append", lambda writer, rows: real(writer, rows ^ 1))
    with pytest.raises(StoreError, match=r"give back what was written; images 0 to 15 differ"):
        ingest(source, tmp_path / "i.zarr", block_rows=16)
    assert not (tmp_path / "i.zarr").exists()


def test_ingest__again_is_done_at_once(tmp_path, source):
    first = ingest(source, tmp_path / "i.zarr", block_rows=16)
    before = files_of(tmp_path / "i.zarr")
    again = ingest(source, tmp_path / "i.zarr", block_rows=16, runner=KilledRunner(0))
    assert (again.n_shards_written, again.n_shards_reused) == (0, 4)
    assert again.n_bytes == first.n_bytes
    assert (again.n_samples, again.image_shape, again.dtype) == (60, (5, 4, 3), "uint8")
    assert files_of(tmp_path / "i.zarr") == before


def test_ingest__other_images_at_the_destination(tmp_path, images, source):
    ingest(source, tmp_path / "i.zarr")
    other = ArraySource(images[::-1])
    with pytest.raises(StoreError, match=r"i\.zarr is a copy of other images\. Give another path"):
        ingest(other, tmp_path / "i.zarr")
    for name in ("file", "folder"):
        place = tmp_path / name
        place.write_text("mine") if name == "file" else place.mkdir()
        with pytest.raises(StoreError, match=rf"{name} is something else"):
            ingest(source, place)
    assert (tmp_path / "file").read_text() == "mine"


def test_ingest__takes_the_place_of_a_copy_of_which_nothing_is_finished(tmp_path, images, source):
    target = tmp_path / "i.zarr"
    with pytest.raises(KilledError):
        ingest(source, target, block_rows=16, runner=KilledRunner(0))
    assert (tmp_path / "i.zarr.partial").exists()
    ingest(ArraySource(images[:40]), target, block_rows=16)
    np.testing.assert_array_equal(xr.open_zarr(target)["images"], images[:40])


def test_ingest__other_images_half_copied(tmp_path, images, source):
    target = tmp_path / "i.zarr"
    with pytest.raises(KilledError):
        ingest(source, target, block_rows=16, runner=KilledRunner(3))
    for other, rows in [(ArraySource(images), 16), (source, 8)]:
        with pytest.raises(StoreError, match=r"i\.zarr\.partial must be new or an unfinished copy"):
            ingest(other, target, block_rows=rows)
    (tmp_path / "j.zarr.partial").mkdir()
    (tmp_path / "j.zarr.partial/precious").write_text("mine")
    with pytest.raises(StoreError, match=r"j\.zarr\.partial must be new"):
        ingest(source, tmp_path / "j.zarr")


def test_ingest__images_that_change_while_they_are_copied(tmp_path, images, source):
    class Meddler(KilledRunner):
        def map(self, function, items):
            np.save(tmp_path / "i.npy", images[::-1])
            return super().map(function, items)

    with pytest.raises(StoreError, match="images must not change while they are copied"):
        ingest(source, tmp_path / "i.zarr", runner=Meddler())
    assert not (tmp_path / "i.zarr").exists()


def test_ingest__one_writer_at_a_time(tmp_path, source):
    with pytest.raises(KilledError):
        ingest(source, tmp_path / "i.zarr", runner=KilledRunner(0))
    lock = tmp_path / "i.zarr.partial" / unfinished.NOTES / "lock"
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match="one process at a time may write"):
            ingest(source, tmp_path / "i.zarr")


def test_ingest__destination_that_cannot_be(tmp_path, source):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="in a folder that can be written"):
        ingest(source, tmp_path / "file" / "i.zarr")


def test_ingest__arrays_in_memory(tmp_path, images):
    ingest(ArraySource(images), tmp_path / "numpy.zarr", block_rows=16, runner=KilledRunner(0))
    array = da.from_array(images, chunks=(11, 2, 4, 3))
    with dask.config.set(scheduler="threads"):
        ingest(DaskSource(array), tmp_path / "dask.zarr", block_rows=16, runner=KilledRunner(0))
    first, second = (files_of(tmp_path / name) for name in ("numpy.zarr", "dask.zarr"))
    # The stores differ in what they say of their source.
    assert first.pop("zarr.json") != second.pop("zarr.json")
    assert first == second


class DyingSource(ArraySource):
    """Dies when it hands over a block."""

    def __init__(self, array, dies_at):
        super().__init__(array)
        self.dies_at = dies_at

    def map_blocks(self, function, ranges):
        if any(rows.start >= self.dies_at for rows in ranges):
            raise KilledError
        return super().map_blocks(function, ranges)


def test_ingest__arrays_in_memory_resume(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (400, 12), dtype=np.uint8)
    ingest(ArraySource(images), tmp_path / "whole.zarr", block_rows=10)
    target = tmp_path / "i.zarr"
    with pytest.raises(KilledError):
        ingest(DyingSource(images, 330), target, block_rows=10)
    report = ingest(ArraySource(images), target, block_rows=10)
    # The first 32 shards were handed over together.
    assert (report.n_shards_written, report.n_shards_reused) == (8, 32)
    assert files_of(target) == files_of(tmp_path / "whole.zarr")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_ingest__npz(tmp_path, images, save):
    save(tmp_path / "i.npz", images=images)
    source = open_source(tmp_path / "i.npz", shape=(20, 3))
    ingest(source, tmp_path / "i.zarr", block_rows=16, runner=ThreadRunner())
    store = zarr_io.open_images(tmp_path / "i.zarr")
    assert store.image_shape == (20, 3)
    np.testing.assert_array_equal(store.read(0, 60), images.reshape(60, 60))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i.npz", "i.zarr"]


def test_ingest__altered_byte_is_found_when_read(tmp_path, source):
    ingest(source, tmp_path / "i.zarr", block_rows=16)
    file = zarr_io.shard_file(tmp_path / "i.zarr", "images", 20)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    store = zarr_io.open_images(tmp_path / "i.zarr")
    store.read(0, 16)
    with pytest.raises(
        StoreError, match=r"i\.zarr/images must hold its rows 16 to 31 whole; its f"
    ):
        store.read(0, 60)
