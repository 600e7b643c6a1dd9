"""Archives, records and tables: read as their writers wrote them, in any shards, killed or not, damaged or not."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from PIL import Image

from tests.ingest.helpers import KilledError, KilledRunner, ThreadRunner, files_of
from workflow.errors import ImagesError
from workflow.ingest import ingest, open_source
from workflow.ingest.readers import archives, items, shard_files, tables, tfrecord

N = 60


def png(values):
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


# --- TFRecord, by TensorFlow's description -----------------------------------------------------


def varint(number):
    number &= (1 << 64) - 1
    found = b""
    while number > 127:
        found, number = found + bytes([number & 127 | 128]), number >> 7
    return found + bytes([number])


def message(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def feature(values):
    if isinstance(values, bytes):
        return message(1, message(1, values))
    if np.asarray(values).dtype.kind == "f":
        return message(2, message(1, np.asarray(values, "<f4").tobytes()))
    return message(3, message(1, b"".join(map(varint, np.atleast_1d(values).tolist()))))


def example(**features):
    entries = (
        message(1, message(1, name.replace("__", "/").encode()) + message(2, feature(values)))
        for name, values in features.items()
    )
    return message(1, b"".join(entries))


def record(data):
    head = struct.pack("<Q", len(data))
    crcs = (struct.pack("<I", tfrecord.masked_crc(part)) for part in (head, data))
    return head + next(crcs) + data + next(crcs)


def test_tfrecord__bytes_as_tensorflow_writes_them():
    # CRC-32C of 32 zero bytes is 8a9136aa (RFC 3720), masked as TFRecord masks.
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    # The feature a = [1] of int64, byte by byte: Example, entry of the map, "a", Feature, Int64List, 1.
    known = bytes.fromhex("0a0c0a0a0a016112051a030a0101")
    assert example(a=1) == known
    held = tfrecord.features(example(a=[-1, 300], b=[0.5], c=b"x"))
    assert held["a"].tolist() == [-1, 300]
    assert held["b"].tolist() == [0.5]
    assert held["c"] == [b"x"]


# --- writers of every format -------------------------------------------------------------------


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def write_tar(path, some, first, mode="w"):
    with tarfile.open(path, mode) as archive:
        for at, image in enumerate(some, start=first):
            add(archive, f"{at:03d}.png", png(image))
            add(archive, f"{at:03d}.cls", f"{at % 5}\n".encode())
            add(archive, f"{at:03d}.json", json.dumps({"name": f"n{at}", "score": at / 2}).encode())


def write_tgz(path, some, first):
    write_tar(path, some, first, "w:gz")


def write_zip(path, some, first):
    with zipfile.ZipFile(path, "w") as archive:
        for at, image in enumerate(some, start=first):
            archive.writestr(f"{at:03d}.png", png(image))
            archive.writestr(f"{at:03d}.cls", str(at % 5))
            archive.writestr(f"{at:03d}.json", json.dumps({"name": f"n{at}", "score": at / 2}))


def tf_content(some, first, raw):
    def image(values):
        height, width, depth = values.shape
        if raw:
            return {"image_raw": values.tobytes(), "height": height, "width": width, "depth": depth}
        return {"image__encoded": png(values), "image__height": height}

    return b"".join(
        record(example(**image(values), cls=at % 5, name=f"n{at}".encode(), score=[at / 2]))
        for at, values in enumerate(some, start=first)
    )


def write_tfrecord(path, some, first):
    path.write_bytes(tf_content(some, first, raw=False))


def write_raw_tfrecord(path, some, first):
    path.write_bytes(gzip.compress(tf_content(some, first, raw=True)))


def table_of(some, first, image):
    rows = range(first, first + len(some))
    columns = {"cls": [at % 5 for at in rows], "name": [f"n{at}" for at in rows]}
    return pa.table({"image": image, **columns, "score": [at / 2 for at in rows]})


def struct_column(some):
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.array([{"bytes": png(i), "path": None} for i in some], kind)


def write_parquet(path, some, first):
    pq.write_table(table_of(some, first, struct_column(some)), path, row_group_size=7)


def write_lists(path, some, first):
    image = pa.array(some.astype("u1").tolist(), pa.list_(pa.list_(pa.list_(pa.uint8()))))
    pq.write_table(table_of(some, first, image), path, row_group_size=7)


def write_arrow(path, some, first):
    table = table_of(some, first, pa.array([png(i) for i in some], pa.binary()))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


def write_feather(path, some, first):
    table = table_of(some, first, struct_column(some))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=7)


FORMATS = {
    "tar": ("s-{}.tar", write_tar, "cls,json.name,json.score"),
    "tgz": ("s-{}.tar.gz", write_tgz, "cls,json.name,json.score"),
    "zip": ("s-{}.zip", write_zip, "cls,json.name,json.score"),
    "tfrecord": ("s.tfrecord-{}-of-00003", write_tfrecord, "cls,name,score"),
    "raw tfrecord": ("s-{}.tfrec.gz", write_raw_tfrecord, "cls,name,score"),
    "parquet": ("s-{}-of-00003.parquet", write_parquet, "cls,name,score"),
    "lists": ("s-{}.parquet", write_lists, "cls,name,score"),
    "arrow": ("data-{}.arrow", write_arrow, "cls,name,score"),
    "feather": ("data-{}.feather", write_feather, "cls,name,score"),
}


@pytest.fixture(params=FORMATS)
def written(request, tmp_path, images):
    """A folder of three files of a format, the second one of no images, and the columns beside the images."""
    name, write, columns = FORMATS[request.param]
    folder = tmp_path / "shards"
    folder.mkdir()
    for index, (first, last) in enumerate([(0, 25), (25, 25), (25, N)]):
        write(folder / name.format(f"{index:05d}"), images[first:last], first)
    (folder / "README.md").write_text("no image")
    return folder, columns


def store_of(path):
    with xr.open_zarr(path) as found:
        return found.load()


def test_shards__give_what_was_written(tmp_path, images, written, monkeypatch):
    folder, columns = written
    source = open_source(folder, columns=tuple(columns.split(",")))
    assert len(pickle.dumps(source)) < 2000
    assert (source.n_samples, source.image_shape, source.dtype) == (N, (5, 4, 3), np.uint8)
    assert any("also holds 1 .md, not read" in remark for remark in source.remarks())
    assert json.loads(json.dumps(source.fingerprint())) == source.fingerprint()
    ingest(source, tmp_path / "i.zarr", block_rows=16)
    found = store_of(tmp_path / "i.zarr")
    np.testing.assert_array_equal(found["images"], images)
    cls, name, score = (found[column] for column in columns.split(","))
    np.testing.assert_array_equal(cls, np.arange(N) % 5)
    assert cls.dtype == np.int64
    assert name.values.tolist() == [f"n{at}" for at in range(N)]
    np.testing.assert_array_equal(score, np.arange(N) / 2)
    assert set(found.coords) == {"path", *columns.split(",")}
    paths = found["path"].values.tolist()
    assert len(set(paths)) == N
    assert all(
        path.startswith(("s-00000", "s.tfrecord-00000", "data-00000")) for path in paths[:25]
    )
    # Other pieces, other shards, other order of the tasks, the same bytes.
    monkeypatch.setattr(items, "PIECE_BYTES", 60 * 4)
    monkeypatch.setattr(archives, "ZIP_ITEMS", 9)
    monkeypatch.setattr(shard_files, "COUNTED_BYTES", 100)
    monkeypatch.setattr(tables, "BATCH_ROWS", 3)
    ingest(source, tmp_path / "j.zarr", block_rows=16, runner=ThreadRunner())
    assert files_of(tmp_path / "i.zarr") == files_of(tmp_path / "j.zarr")


def test_shards__killed_and_resumed_give_the_same_bytes(tmp_path, written):
    source = open_source(written[0])
    counter = KilledRunner()
    ingest(source, tmp_path / "whole.zarr", block_rows=16, runner=counter)
    for n_tasks in (0, 2, counter.n_done - 1):
        with pytest.raises(KilledError):
            ingest(source, tmp_path / "i.zarr", block_rows=16, runner=KilledRunner(n_tasks))
        rest = KilledRunner()
        ingest(source, tmp_path / "i.zarr", block_rows=16, runner=rest)
        assert rest.n_done == counter.n_done - n_tasks
        assert files_of(tmp_path / "i.zarr") == files_of(tmp_path / "whole.zarr")
        for path in sorted((tmp_path / "i.zarr").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / "i.zarr").rmdir()


def test_shards__one_file_and_a_pattern(tmp_path, images, written):
    folder, _ = written
    first, _, last = sorted(path for path in folder.iterdir() if path.suffix != ".md")
    source = open_source(last)
    assert source.n_samples == N - 25
    ingest(source, tmp_path / "i.zarr")
    np.testing.assert_array_equal(store_of(tmp_path / "i.zarr")["images"], images[25:])
    pattern = str(first).replace("00000", "{00000..00002}", 1)
    assert open_source(pattern).n_samples == N
    # A pilot takes some of all of it.
    few = source.few(8, 2)
    assert ingest(few, tmp_path / "few.zarr").n_samples == 8


def test_shards__truncated_file_is_listed_and_what_comes_before_is_read(tmp_path, images, written):
    folder, _ = written
    last = sorted(path for path in folder.iterdir() if path.suffix != ".md")[2]
    last.write_bytes(last.read_bytes()[: int(last.stat().st_size * 0.7)])
    source = open_source(folder)
    ingest(source, tmp_path / "i.zarr")
    found = store_of(tmp_path / "i.zarr")
    n_images = len(found["images"])
    # The directory of a zip and of Parquet is at the end.
    assert n_images == 25 if last.suffix in (".zip", ".parquet", ".feather") else 25 < n_images < N
    np.testing.assert_array_equal(found["images"], images[:n_images])
    assert found["unreadable"].values.tolist()[-1] == last.name
    assert "must be whole" in found["unreadable_reason"].values[-1]
    strict = open_source(folder, on_unreadable="fail")
    with pytest.raises(ImagesError, match=r"whole|readable"):
        ingest(strict, tmp_path / "j.zarr")


def test_shards__columns_that_are_not_there_are_refused(written):
    folder, columns = written
    with pytest.raises(ImagesError, match=rf"has .*{columns.split(',')[1]}.*, and not height_of"):
        open_source(folder, columns=("height_of",))
    with pytest.raises(ImagesError, match=r"::"):
        open_source(f"{folder}::nothing")


def test_shards__nothing_readable(tmp_path, written):
    folder, _ = written
    for path in folder.iterdir():
        if path.suffix != ".md":
            path.write_bytes(b"junk" * 300)
    with pytest.raises(
        ImagesError, match=r"one readable image or more|must be whole|one image or more"
    ):
        ingest(open_source(folder), tmp_path / "i.zarr")


# --- what is special to a format ---------------------------------------------------------------


def test_tfrecord__altered_data_is_one_unreadable_record(tmp_path, images):
    content = bytearray(tf_content(images[:10], 0, raw=False))
    first = struct.unpack("<Q", content[:8])[0] + 16
    content[first + 40] ^= 1
    (tmp_path / "i.tfrecord").write_bytes(content)
    ingest(open_source(tmp_path / "i.tfrecord"), tmp_path / "i.zarr")
    found = store_of(tmp_path / "i.zarr")
    np.testing.assert_array_equal(found["images"], np.delete(images[:10], 1, axis=0))
    assert found["unreadable"].values.tolist() == ["i.tfrecord/1"]
    assert "differs from its checksum" in found["unreadable_reason"].values[0]
    content[first] ^= 1
    (tmp_path / "i.tfrecord").write_bytes(content)
    ingest(open_source(tmp_path / "i.tfrecord"), tmp_path / "j.zarr")
    assert len(store_of(tmp_path / "j.zarr")["images"]) == 1


def test_tfrecord__two_candidates(tmp_path, images):
    picture = png(images[0])
    content = record(example(left=picture, right=picture, label=3)) * 3
    (tmp_path / "i.tfrecord").write_bytes(content)
    with pytest.raises(ImagesError, match=r"may be: left, right\. Name it: .*i\.tfrecord::left"):
        open_source(tmp_path / "i.tfrecord")
    assert open_source(f"{tmp_path / 'i.tfrecord'}::right").n_samples == 3
    # Numbers are vectors; raw bytes need a shape.
    (tmp_path / "v.tfrecord").write_bytes(record(example(v=[0.5, 2.5], label=3)) * 3)
    vectors = open_source(tmp_path / "v.tfrecord")
    assert (vectors.image_shape, vectors.dtype) == ((2,), np.float32)
    (tmp_path / "r.tfrecord").write_bytes(record(example(image_raw=bytes(range(60)))) * 3)
    with pytest.raises(ImagesError, match=r"without a shape need ingest\.shape"):
        open_source(tmp_path / "r.tfrecord")
    raw = open_source(tmp_path / "r.tfrecord", shape=(5, 4, 3))
    ingest(raw, tmp_path / "r.zarr")
    assert store_of(tmp_path / "r.zarr")["images"].values[1].reshape(-1).tolist() == list(range(60))


def test_tar__names_and_members_as_they_come(tmp_path, images):
    with tarfile.open(
        tmp_path / "i.tar", "w", encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for at, name in enumerate(
            ["/root/a.png", "../b.png", "c\udcff.png", "._d.png", "./e/f.png"]
        ):
            add(archive, name, png(images[at]))
        add(archive, "g.txt", b"a caption")
        add(archive, "h.png", b"no picture")
        link = tarfile.TarInfo("i.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    ingest(open_source(tmp_path / "i.tar"), tmp_path / "i.zarr")
    found = store_of(tmp_path / "i.zarr")
    names = ["/root/a.png", "../b.png", "c\ufffd.png", "./e/f.png"]
    assert found["path"].values.tolist() == [f"i.tar/{name}" for name in names]
    np.testing.assert_array_equal(found["images"], images[[0, 1, 2, 4]])
    reasons = dict(zip(found["unreadable"].values, found["unreadable_reason"].values, strict=True))
    assert list(reasons) == ["i.tar/g", "i.tar/h.png", "i.tar/i.png"]
    assert "must be one picture and what belongs to it; g of i.tar has txt" in reasons["i.tar/g"]
    assert "is a link" in reasons["i.tar/i.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["i.tar", "i.zarr"]


def test_tar__two_pictures_of_a_key(tmp_path, images):
    with tarfile.open(tmp_path / "i.tar", "w") as archive:
        for at in range(6):
            add(archive, f"{at}.left.png", png(images[at]))
            add(archive, f"{at}.right.png", png(images[at + 6]))
    with pytest.raises(
        ImagesError, match=r"have left\.png, right\.png\. Name its ending: .*::left\.png"
    ):
        open_source(tmp_path / "i.tar")
    ingest(
        open_source(f"{tmp_path / 'i.tar'}::right.png", columns=("__key__",)), tmp_path / "i.zarr"
    )
    found = store_of(tmp_path / "i.zarr")
    np.testing.assert_array_equal(found["images"], images[6:12])
    assert found["__key__"].values.tolist() == list(range(6))


def test_tar__without_its_end_or_with_a_damaged_header_is_told(tmp_path, images):
    write_tar(tmp_path / "i.tar", images[:10], 0)
    whole = (tmp_path / "i.tar").read_bytes()
    for place, content in (("cut", whole[: 15 * 1024 + 1024]), ("bad", None)):
        altered = bytearray(content or whole)
        if content is None:
            altered[9 * 1024 + 10 : 9 * 1024 + 20] = b"x" * 10
        (tmp_path / f"{place}.tar").write_bytes(altered)
        report = ingest(open_source(tmp_path / f"{place}.tar"), tmp_path / f"{place}.zarr")
        assert 0 < report.n_samples < 10
        assert report.unreadable[-1] == f"{place}.tar"


def test_zip__altered_member_is_one_unreadable_picture(tmp_path, images):
    write_zip(tmp_path / "i.zip", images[:10], 0)
    with zipfile.ZipFile(tmp_path / "i.zip") as archive:
        at = archive.getinfo("004.png").header_offset
    content = bytearray((tmp_path / "i.zip").read_bytes())
    content[at + 60] ^= 1
    (tmp_path / "i.zip").write_bytes(content)
    report = ingest(open_source(tmp_path / "i.zip"), tmp_path / "i.zarr")
    assert (report.n_samples, report.unreadable) == (9, ("i.zip/004.png",))


def test_tables__two_candidates_and_gaps(tmp_path, images):
    left, right = struct_column(images[:4]), struct_column(images[4:8])
    pq.write_table(pa.table({"left": left, "right": right}), tmp_path / "i.parquet")
    with pytest.raises(ImagesError, match=r"may be: left, right\. Name it: .*i\.parquet::left"):
        open_source(tmp_path / "i.parquet")
    ingest(open_source(f"{tmp_path / 'i.parquet'}::right"), tmp_path / "i.zarr")
    np.testing.assert_array_equal(store_of(tmp_path / "i.zarr")["images"], images[4:8])
    vectors = pa.array([[1, 2], [3, 4], None, [5, 6, 7], [8, 9]], pa.list_(pa.int32()))
    names = pa.array(["a", None, "c", "d", "e"])
    pq.write_table(pa.table({"v": vectors, "name": names}), tmp_path / "v.parquet")
    source = open_source(tmp_path / "v.parquet", columns=("name",))
    assert any("values of" in remark and "become float64" in remark for remark in source.remarks())
    report = ingest(source, tmp_path / "v.zarr")
    assert report.unreadable == ("v.parquet/2", "v.parquet/3")
    found = store_of(tmp_path / "v.zarr")
    np.testing.assert_array_equal(found["images"], [[1, 2], [3, 4], [8, 9]])
    assert found["name"].values.tolist() == ["a", "", "e"]
    reasons = found["unreadable_reason"].values.tolist()
    assert "rows must have an image" in reasons[0]
    assert "must have one shape; this one has (3,), not (2,)" in reasons[1]


def test_columns__as_they_come(tmp_path, images):
    """Names with slashes, numbers that are none, values that are missing or too large, and one twice."""
    some = [
        example(image=png(image), image__class__label=at, **({"box": [0.5, at]} if at else {}))
        for at, image in enumerate(images[:3])
    ]
    (tmp_path / "i.tfrecord").write_bytes(b"".join(map(record, some)))
    names = ("image/class/label", "box", "box")
    ingest(open_source(tmp_path / "i.tfrecord", columns=names), tmp_path / "i.zarr")
    found = store_of(tmp_path / "i.zarr")
    assert found["image.class.label"].values.tolist() == [0, 1, 2]
    assert found["box"].values.tolist() == ["", "[0.5, 1.0]", "[0.5, 2.0]"]
    columns = {
        "odd": [float("nan"), float("inf"), 0.5],
        "large": pa.array([1, None, 2**64 - 1], pa.uint64()),
        "text": ["007", "1", "\u00e4"],
    }
    pq.write_table(
        pa.table({"image": struct_column(images[:3]), **columns}), tmp_path / "i.parquet"
    )
    source = open_source(tmp_path / "i.parquet", columns=tuple(columns))
    ingest(source, tmp_path / "p.zarr")
    found = store_of(tmp_path / "p.zarr")
    np.testing.assert_array_equal(found["odd"], [np.nan, np.nan, 0.5])
    np.testing.assert_array_equal(found["large"], [1, np.nan, 2.0**64])
    assert found["text"].values.tolist() == ["007", "1", "\u00e4"]
    with pytest.raises(ImagesError, match=r"has .*odd.*, and not path\. Name some"):
        open_source(tmp_path / "i.parquet", columns=("path",))


def test_tables__pictures_of_other_sizes_are_resized(tmp_path, images):
    some = [images[0], np.kron(images[1], np.ones((2, 2, 1), np.uint8))]
    pq.write_table(pa.table({"image": struct_column(some)}), tmp_path / "i.parquet")
    source = open_source(tmp_path / "i.parquet")
    assert source.image_shape == (10, 8, 3)
    ingest(source, tmp_path / "i.zarr")
    np.testing.assert_array_equal(store_of(tmp_path / "i.zarr")["images"][1], some[1])
