import contextlib
import os
import pickle
import socket
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.ingest.helpers import KilledError, KilledRunner, ThreadRunner, files_of
from workflow.errors import ImagesError
from workflow.ingest import ingest, open_source
from workflow.ingest.readers import files, items, pictures
from workflow.mapper import SerialRunner
from workflow.runstore import zarr_io

SUFFIXES = ["png", "jpg", "jpeg", "bmp", "tif", "TIFF", "webp", "PNG"]


@pytest.fixture
def photos(tmp_path):
    """A tree of 24 image files in all formats, 3 of them unreadable, beside files that are no images."""
    rng = np.random.default_rng(0)
    root = tmp_path / "photos"
    for index in range(24):
        place = root / "abc"[index % 3] / f"{index:03d}ä.{SUFFIXES[index % 8]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        # Uniform pictures survive every format and every filter.
        Image.fromarray(np.kron(coarse[:1, :1], np.ones((9, 7, 1), np.uint8))).save(place)
    (root / "a/000ä.png").write_bytes(b"no picture")
    whole = (root / "b/016ä.png").read_bytes()
    (root / "b/016ä.png").write_bytes(whole[: len(whole) // 2])
    (root / "c/002ä.jpeg").write_bytes(b"")
    (root / "notes.txt").write_text("no image")
    (root / "a/._hidden.png").write_bytes(b"no image")
    (root / ".cache").mkdir()
    (root / ".cache/thumb.png").write_bytes(b"no image")
    return root


def decode(path, shape, dtype=np.uint8):
    """Return the values of one picture."""
    [found] = pictures.decode(path, pictures.Look(shape, np.dtype(dtype)))
    return found.values


BAD = ["a/000ä.png", "b/016ä.png", "c/002ä.jpeg"]


def expected(root, shape=(5, 4, 3)):
    """The readable files in order, and their images by a plain loop."""
    files = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*")
        if p.suffix.lower().lstrip(".") in ["png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp"]
        and "ä" in p.name
    )
    good = [name for name in files if name not in BAD]
    images = []
    for name in good:
        with Image.open(root / name) as image:
            images.append(np.asarray(image.convert("RGB").resize((shape[1], shape[0]))))
    return good, np.stack(images)


@pytest.mark.parametrize("part_files", [1, 4, 2048])
def test_folder__unreadable_files_are_left_out_and_listed(
    tmp_path, photos, monkeypatch, part_files
):
    monkeypatch.setattr(items, "SHARD_ITEMS", part_files)
    source = open_source(photos, shape=(5, 4, 3))
    assert source.n_samples == 24
    assert len(pickle.dumps(source)) < 1000
    report = ingest(source, tmp_path / "i.zarr", block_rows=8)
    names, images = expected(photos)
    assert report.n_samples == 21
    assert report.n_unreadable == 3
    assert list(report.unreadable) == BAD
    dataset = xr.open_zarr(tmp_path / "i.zarr")
    np.testing.assert_array_equal(dataset["images"], images)
    assert dataset["images"].dims == ("sample", "height", "width", "channel")
    assert list(dataset.coords) == ["path"]
    assert dataset["path"].values.tolist() == names
    assert dataset["unreadable"].values.tolist() == BAD
    reasons = dataset["unreadable_reason"].values.tolist()
    assert all("image files must be readable" in reason for reason in reasons)
    assert zarr_io.open_images(tmp_path / "i.zarr").n_samples == 21


def test_folder__bytes_do_not_depend_on_the_runner(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(items, "SHARD_ITEMS", 4)
    source = open_source(photos, shape=(5, 4, 3))
    ingest(source, tmp_path / "serial.zarr", block_rows=8)
    ingest(source, tmp_path / "threads.zarr", block_rows=8, runner=ThreadRunner())
    assert files_of(tmp_path / "serial.zarr") == files_of(tmp_path / "threads.zarr")


def test_folder__killed_while_decoding_goes_on(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(items, "SHARD_ITEMS", 4)
    source = open_source(photos, shape=(5, 4, 3))
    ingest(source, tmp_path / "whole.zarr", block_rows=8)
    counter = KilledRunner()
    ingest(source, tmp_path / "counted.zarr", block_rows=8, runner=counter)
    # Six parts are decoded, one task looks whether the images compress, three write.
    assert counter.n_done == 10
    for n_tasks in (0, 1, 5, 6, 8, 9):
        target = tmp_path / f"killed{n_tasks}.zarr"
        killed = KilledRunner(n_tasks)
        with pytest.raises(KilledError):
            ingest(source, target, block_rows=8, runner=killed)
        assert not target.exists()
        rest = KilledRunner()
        ingest(source, target, block_rows=8, runner=rest)
        assert killed.n_done + rest.n_done == counter.n_done
        assert files_of(target) == files_of(tmp_path / "whole.zarr")
    assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name) == []


def test_folder__unreadable_files_can_be_fatal(tmp_path, photos):
    source = open_source(photos, shape=(5, 4, 3), on_unreadable="fail")
    with pytest.raises(ImagesError, match=r"must be readable; .*a/000ä\.png is not \(cannot ident"):
        ingest(source, tmp_path / "i.zarr")
    assert not (tmp_path / "i.zarr").exists()
    for name in BAD:
        (photos / name).unlink()
    source = open_source(photos, shape=(5, 4, 3), on_unreadable="fail")
    report = ingest(source, tmp_path / "j.zarr")
    assert (report.n_samples, report.n_unreadable) == (21, 0)
    assert "unreadable" not in zarr_io.array_names(tmp_path / "j.zarr")


def test_folder__nothing_readable(tmp_path, photos):
    for path in (photos / "a").iterdir():
        path.write_bytes(b"no picture")
    source = open_source(photos / "a", shape=(5, 4, 3))
    with pytest.raises(ImagesError, match=r"one readable image or more; .*/a has none in 8 files"):
        ingest(source, tmp_path / "i.zarr")


def test_folder__altered_decoded_part_is_found(tmp_path, photos):
    working = tmp_path / "working"
    working.mkdir()
    decoded = open_source(photos, shape=(5, 4, 3)).prepare(working, SerialRunner())
    part = working / "part-000000-0000.npy"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(ImagesError, match="decoded images must be as they were written; part 0"):
        decoded.read(0, 5)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((5, 4, 2), r"must be H,W,C with C 1 \(grey\).*; got 5,4,2"),
        ((5,), r"got 5\. Give"),
        ((5, 0, 3), r"got 5,0,3"),
    ],
)
def test_folder__shape_must_be_that_of_pictures(photos, shape, match):
    with pytest.raises(ImagesError, match=match):
        open_source(photos, shape=shape)


def test_folder__shape_is_that_of_all_where_they_have_one(tmp_path, photos):
    source = open_source(photos)
    assert source.image_shape == (9, 7, 3)
    assert source.remarks()[-1] == (
        "pictures become images of 9 x 7 x 3 (all of the 21 looked at have it);"
        " ingest.shape gives another shape"
    )
    assert open_source(photos).fingerprint() == open_source(photos, shape=(9, 7, 3)).fingerprint()
    ingest(source, tmp_path / "i.zarr")
    np.testing.assert_array_equal(
        xr.open_zarr(tmp_path / "i.zarr")["images"], expected(photos, (9, 7, 3))[1]
    )


@pytest.mark.parametrize(
    ("sizes", "mode", "shape"),
    [
        ([(70, 60), (70, 60)], "RGB", (16, 16, 3)),
        ([(64, 64), (64, 64)], "L", (64, 64)),
        ([(70, 60), (300, 20)], "L", (16, 16)),
        ([(9, 30), (8, 40)], "RGB", (9, 16, 3)),
        ([(70, 60), (71, 60)], "I;16", (16, 16)),
    ],
)
def test_folder__shape_is_suggested_by_the_sizes(tmp_path, sizes, mode, shape):
    for index, size in enumerate(sizes):
        made = np.zeros(size, np.uint16) if mode == "I;16" else np.zeros(size, np.uint8)
        image = Image.fromarray(made)
        (image if mode == "I;16" else image.convert(mode)).save(tmp_path / f"{index}.png")
    assert open_source(tmp_path).image_shape == shape


def test_folder__gives_uint8_or_uint16(photos):
    with pytest.raises(
        ImagesError, match=r"image files give uint8 or uint16; `ingest.dtype=float32`"
    ):
        open_source(photos, shape=(5, 4, 3), dtype="float32")


def ingested(root, place, **how):
    """Return path and image of every readable file, by the program."""
    ingest(open_source(root, shape=(4, 5), **how), place)
    with xr.open_zarr(place) as found:
        return dict(zip(found["path"].values.tolist(), found["images"].values, strict=True))


def test_folder__links_are_followed_once_and_not_in_circles(tmp_path):
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for place in (root / "real", elsewhere / "deep"):
        place.mkdir(parents=True)
        Image.fromarray(np.full((4, 5), len(place.parts), np.uint8)).save(place / "i.png")
    (root / "linked").symlink_to(elsewhere)
    (root / "again").symlink_to(root / "real")
    (elsewhere / "deep/back").symlink_to(root)
    (elsewhere / "itself").symlink_to(elsewhere)
    (root / "nowhere").symlink_to(tmp_path / "none")
    found = ingested(root, tmp_path / "i.zarr")
    assert sorted(found) == ["linked/deep/i.png", "real/i.png"]
    for name, image in found.items():
        assert (image == len((root / name).resolve().parent.parts)).all()
    # What a link leads to is part of what tells the images from others.
    before = open_source(root, shape=(4, 5)).fingerprint()
    Image.fromarray(np.full((4, 5), 77, np.uint8)).save(elsewhere / "deep/i.png")
    assert open_source(root, shape=(4, 5)).fingerprint() != before


@pytest.mark.parametrize("suffix", [s for s in pictures.SUFFIXES if s not in (".avif", ".apng")])
def test_folder__every_ending_is_read(tmp_path, suffix):
    (tmp_path / "photos").mkdir()
    for name in "ab":
        image = Image.fromarray(np.full((4, 5), 255, np.uint8))
        kind = Image.registered_extensions()[suffix]
        image.convert("1" if suffix == ".pbm" else "L").save(
            tmp_path / f"photos/{name}{suffix}", format=kind
        )
    found = ingested(tmp_path / "photos", tmp_path / "i.zarr")
    assert sorted(found) == [f"a{suffix}", f"b{suffix}"]
    assert all((image == 255).all() for image in found.values())


def test_folder__other_files_are_counted_by_ending(tmp_path, photos):
    for name in ("1.MP4", "2.mp4", "README"):
        (photos / name).write_bytes(b"1")
    [remark] = open_source(photos, shape=(5, 4, 3)).remarks()
    assert remark.endswith("photos also holds 2 .mp4, 1 .txt, 1 without ending, not read")
    (tmp_path / "films").mkdir()
    (tmp_path / "films/a.mp4").write_bytes(b"1")
    with pytest.raises(ImagesError, match=r"films holds 1 \.mp4\. Give another folder"):
        open_source(tmp_path / "films", shape=(5, 4, 3))


def test_folder__what_is_no_file_is_unreadable(tmp_path, photos):
    os.mkfifo(photos / "a/pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(photos / "s.png"))
    (photos / "z.png").symlink_to("/dev/zero")
    report = ingest(open_source(photos, shape=(5, 4, 3)), tmp_path / "i.zarr")
    assert (report.n_samples, report.n_unreadable) == (21, 6)
    reasons = xr.open_zarr(tmp_path / "i.zarr")["unreadable_reason"].values.tolist()
    for kind in ("a named pipe", "a socket", "a device"):
        assert sum(f"is not (it is {kind}, no file)" in reason for reason in reasons) == 1


@pytest.mark.parametrize("name", ["i.npy", "i.h5", "i.npz", "i.bin"])
def test_open_source__a_named_pipe_does_not_hang(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ImagesError, match=r"must be a file or a folder; .* is a named pipe"):
        open_source(tmp_path / name, shape=(2, 2), dtype="uint8")


@contextlib.contextmanager
def ordinary_user():
    """Be a user without rights: root reads everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_folder__folders_that_cannot_be_read_are_named():
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        root.chmod(0o755)
        (root / "closed").mkdir()
        for name in ("a.png", "b.png", "closed/c.png"):
            Image.fromarray(np.zeros((4, 5), np.uint8)).save(root / name)
        (root / "closed").chmod(0)
        with ordinary_user():
            source = open_source(root, shape=(4, 5))
            assert source.collection.files.names == ["a.png", "b.png", "closed/"]
            with pytest.raises(ImagesError, match=r"closed is not .*[Pp]ermission"):
                items.decoded(root / "closed/", source.look)
            with pytest.raises(ImagesError, match=r"must be readable; .*closed.* is not \(Perm"):
                open_source(root / "closed", shape=(4, 5))
        (root / "closed").chmod(0o755)


def png_of_16_bits(values):
    """Return a PNG of 16 bits a channel, by the format's description: Pillow writes grey ones only."""
    height, width, n_channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[n_channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("n_bits", "n_levels"), [(10, 4), (12, 16)])
def test_folder__few_bits_of_16_are_not_cut_silently(tmp_path, n_bits, n_levels, n_channels):
    rng = np.random.default_rng(0)
    (tmp_path / "deep").mkdir()
    for index in range(3):
        values = rng.integers(0, 1 << n_bits, (4, 5, n_channels)).astype(np.uint16)
        values[0, 0] = (1 << n_bits) - 1
        if n_channels in (2, 4):
            values[..., -1] = 65535
        (tmp_path / f"deep/{index}.png").write_bytes(png_of_16_bits(values))
    source = open_source(tmp_path / "deep", shape=(4, 5))
    with pytest.raises(ImagesError, match=rf"leaves {n_levels} levels\. Set ingest\.dtype=uint16"):
        ingest(source, tmp_path / "i.zarr")
    assert not (tmp_path / "i.zarr").exists()


def test_folder__all_16_bits_are_kept_when_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "deep").mkdir()
    deep = rng.integers(0, 4096, (4, 5, 1)).astype(np.uint16)
    (tmp_path / "deep/a.png").write_bytes(png_of_16_bits(deep))
    Image.fromarray(deep[..., 0]).save(tmp_path / "deep/b.tif")
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "deep/black.png")
    (tmp_path / "deep/d.png").write_bytes(png_of_16_bits(np.repeat(deep, 3, axis=2)))
    found = ingested(tmp_path / "deep", tmp_path / "i.zarr", dtype="uint16")
    assert sorted(found) == ["a.png", "b.tif", "black.png"]
    np.testing.assert_array_equal(found["a.png"], deep[..., 0])
    np.testing.assert_array_equal(found["b.tif"], deep[..., 0])
    colour = decode(tmp_path / "deep/a.png", (4, 5, 4), np.uint16)
    np.testing.assert_array_equal(colour[..., :3], np.repeat(deep, 3, axis=2))
    assert (colour[..., 3] == 65535).all()
    smaller = decode(tmp_path / "deep/a.png", (2, 2), np.uint16)
    exact = np.asarray(Image.fromarray(deep[..., 0].astype(np.float32)).resize((2, 2)))
    np.testing.assert_allclose(smaller, exact, atol=1)


@pytest.mark.parametrize("n_bits", [12, 16])
def test_folder__files_of_8_and_16_bits_have_one_scale_or_are_refused(tmp_path, n_bits):
    rng = np.random.default_rng(0)
    (tmp_path / "mixed").mkdir()
    deep = rng.integers(0, 1 << n_bits, (4, 5, 1)).astype(np.uint16)
    deep[0, 0] = (1 << n_bits) - 1
    (tmp_path / "mixed/deep.png").write_bytes(png_of_16_bits(deep))
    byte = rng.integers(0, 256, (4, 5)).astype(np.uint8)
    Image.fromarray(byte).save(tmp_path / "mixed/byte.png")
    if n_bits == 12:
        with pytest.raises(ImagesError, match=r"1 of 2 files in .* use 4,096 of 65,536 values"):
            ingested(tmp_path / "mixed", tmp_path / "i.zarr", dtype="uint16")
        return
    found = ingested(tmp_path / "mixed", tmp_path / "i.zarr", dtype="uint16")
    np.testing.assert_array_equal(found["byte.png"] / 65535, byte / 255)
    np.testing.assert_array_equal(found["deep.png"], deep[..., 0])


def test_folder__file_names_that_are_no_text():
    assert files.printable("a/ä.png") == "a/ä.png"
    assert files.printable("a/\udcff.png") == "a/\ufffd.png"


# --- one image ----------------------------------------------------------------------------------


def test_decode__own_size_is_kept_as_it_is(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "i.png")
    np.testing.assert_array_equal(decode(tmp_path / "i.png", (6, 9, 3)), values)


def test_decode__making_smaller_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / "i.png")
    small = decode(tmp_path / "i.png", (8, 8))
    assert small.shape == (8, 8)
    assert abs(small.astype(int) - 127).max() <= 12


@pytest.mark.parametrize("n_channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16"])
def test_decode__any_mode_to_any_channels(tmp_path, mode, n_channels):
    values = np.full((4, 5, 3), 200, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(np.full((4, 5), 200 * 256 + 17, np.uint16))
        assert image.mode == "I;16"
    else:
        image = Image.fromarray(values).convert(mode)
    suffix = "tif" if mode in ("CMYK", "I;16", "PA") else "png"
    suffix = "png" if mode == "PA" else suffix
    if mode == "PA":
        # A palette with a see-through colour.
        image = Image.fromarray(values).convert("P")
        image.save(tmp_path / f"i.{suffix}", transparency=bytes([255, 0] + [255] * 254))
    else:
        image.save(tmp_path / f"i.{suffix}")
    found = decode(tmp_path / f"i.{suffix}", (4, 5, n_channels))
    assert found.shape == (4, 5, n_channels)
    wanted = 255 if mode == "1" else 200
    if mode == "1":
        assert set(np.unique(found[..., :3])) <= {0, 255}
    else:
        assert abs(found[..., : min(3, n_channels)].astype(int) - wanted).max() <= 6
    if n_channels == 4:
        assert (found[..., 3] == 255).all()


def test_decode__32_bit_values_have_no_known_range(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.float32)).save(tmp_path / "i.tif")
    with pytest.raises(ImagesError, match=r"32-bit values \(mode F\) of unknown range"):
        decode(tmp_path / "i.tif", (4, 5, 3))


def test_decode__bombs_are_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(tmp_path / "i.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImagesError, match="decompression bomb"):
        decode(tmp_path / "i.png", (4, 5, 3))


# --- transparency, CMYK, several frames ---------------------------------------------------------


@pytest.mark.parametrize("background", ["white", "black", "#204060"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_background__is_behind_what_is_transparent(tmp_path, mode, background):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (6, 5, 4), dtype=np.uint8)
    values[:2, :, 3], values[2:4, :, 3] = 0, 255
    image = Image.fromarray(values)
    how = {}
    if mode == "P":
        image = Image.fromarray(values[..., :3]).quantize(8)
        how = {"transparency": 3}
    elif mode == "RGB":
        image = Image.fromarray(values[..., :3])
        how = {"transparency": tuple(values[3, 3, :3].tolist())}
    else:
        image = image.convert(mode)
    (tmp_path / "seen").mkdir()
    image.save(tmp_path / "seen/a.png", **how)
    # By the definition, in real numbers.
    with Image.open(tmp_path / "seen/a.png") as image:
        seen = np.asarray(image.convert("RGBA")).astype(float)
    share = seen[..., 3:] / 255
    exact = share * seen[..., :3] + (1 - share) * np.array(pictures.ImageColor.getrgb(background))
    ingest(
        open_source(tmp_path / "seen", shape=(6, 5, 3), background=background), tmp_path / "i.zarr"
    )
    found = xr.open_zarr(tmp_path / "i.zarr")["images"].values[0]
    assert abs(found - exact).max() <= 1
    assert (share < 1).any()
    # Four channels keep the transparency.
    np.testing.assert_array_equal(decode(tmp_path / "seen/a.png", (6, 5, 4)), seen)


def test_background__is_part_of_what_tells_the_images(photos):
    plain, given, black = (
        open_source(photos, shape=(5, 4), **how).fingerprint()
        for how in ({}, {"background": "white"}, {"background": "black"})
    )
    assert plain == given != black
    with pytest.raises(ImagesError, match=r"must be a colour, .*; got whitish"):
        open_source(photos, shape=(5, 4), background="whitish")


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk__has_the_colours_that_it_was_made_of(tmp_path, suffix):
    colour = np.kron([[[200, 30, 60], [20, 180, 90]]], np.ones((16, 16, 1))).astype(np.uint8)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / f"i.{suffix}")
    with Image.open(tmp_path / f"i.{suffix}") as image:
        assert image.mode == "CMYK"
    assert abs(decode(tmp_path / f"i.{suffix}", (16, 32, 3)).astype(int) - colour).max() <= 8


@pytest.mark.parametrize("suffix", ["gif", "webp", "tif", "png"])
def test_frames__the_first_or_all(tmp_path, suffix):
    grey = [30, 120, 210]
    frames = [Image.fromarray(np.full((6, 5, 3), value, np.uint8)) for value in grey]
    (tmp_path / "films").mkdir()
    frames[0].save(tmp_path / f"films/a.{suffix}", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "films/b.png")
    for which, names, values in [
        ("first", [f"a.{suffix}", "b.png"], [30, 120]),
        ("all", [*(f"a.{suffix}#{i}" for i in range(3)), "b.png"], [*grey, 120]),
    ]:
        ingest(open_source(tmp_path / "films", frames=which), tmp_path / f"{which}.zarr")
        found = xr.open_zarr(tmp_path / f"{which}.zarr")
        assert found["path"].values.tolist() == names
        means = found["images"].values.mean(axis=(1, 2, 3))
        assert abs(means - values).max() <= 3


# --- patterns and lists -------------------------------------------------------------------------


def test_pattern__takes_the_files_that_match(tmp_path, photos):
    (photos / "a/back").symlink_to(photos)
    for pattern, names in [
        ("**/*.png", ["a/000ä.png", "b/016ä.png", "c/008ä.png"]),
        ("?/00[08]ä.*", ["a/000ä.png", "c/008ä.png"]),
        ("{a,c}/0*.jpg", ["a/009ä.jpg", "c/017ä.jpg"]),
        ("b/0{16..22}ä.{png,webp}", None),
        ("b/0{22..22}ä.{webp,webp}", ["022ä.webp"]),
    ]:
        if names is None:
            with pytest.raises(ImagesError, match=r"images must exist; .*b/016ä\.webp does not"):
                open_source(photos / pattern)
            continue
        source = open_source(photos / pattern)
        assert source.collection.files.names == names
    with pytest.raises(ImagesError, match=r"must match one file or more; .*\*\.mp4 matches none"):
        open_source(photos / "*.mp4")


def test_list__is_read_in_its_order(tmp_path, photos, monkeypatch):
    good = [name for name in expected(photos)[0] if not name.endswith("jpg")]
    (photos / "plain").write_bytes((photos / good[0]).read_bytes())
    lines = [*good[::-1], str(photos / good[1]), "plain", "a/none.png"]
    (photos / "list.txt").write_text("\n".join(lines) + "\n\n")
    monkeypatch.chdir(tmp_path)
    ingest(open_source("@photos/list.txt", shape=(5, 4, 3)), tmp_path / "i.zarr")
    found = xr.open_zarr(tmp_path / "i.zarr")
    names = found["path"].values.tolist()
    # A name without an ending is other than a picture, where pictures are named.
    assert names == lines[:-2]
    assert found["unreadable"].values.tolist() == ["a/none.png"]
    assert "No such file" in found["unreadable_reason"].values[0]
    for name, image in zip(names, found["images"].values, strict=True):
        np.testing.assert_array_equal(image, decode(photos / name, (5, 4, 3)))
    (photos / "list.txt").write_text("plain\nplain\n")
    assert open_source("@photos/list.txt").n_samples == 2
    with pytest.raises(ImagesError, match=r"Did you mean .*photos/list\.txt"):
        open_source("@photos/lists.txt")
