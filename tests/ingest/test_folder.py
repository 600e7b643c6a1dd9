import pickle

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.ingest.helpers import KilledError, KilledRunner, ThreadRunner, files_of
from workflow.errors import ImagesError
from workflow.ingest import ingest, open_source
from workflow.ingest.readers import folder
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
    monkeypatch.setattr(folder, "PART_FILES", part_files)
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
    assert dataset["images"].dims == ("sample", "y", "x", "channel")
    assert list(dataset.coords) == ["path"]
    assert dataset["path"].values.tolist() == names
    assert dataset["unreadable"].values.tolist() == BAD
    reasons = dataset["unreadable_reason"].values.tolist()
    assert all("image files must be readable" in reason for reason in reasons)
    assert zarr_io.open_images(tmp_path / "i.zarr").n_samples == 21


def test_folder__bytes_do_not_depend_on_the_runner(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(folder, "PART_FILES", 4)
    source = open_source(photos, shape=(5, 4, 3))
    ingest(source, tmp_path / "serial.zarr", block_rows=8)
    ingest(source, tmp_path / "threads.zarr", block_rows=8, runner=ThreadRunner())
    assert files_of(tmp_path / "serial.zarr") == files_of(tmp_path / "threads.zarr")


def test_folder__killed_while_decoding_goes_on(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(folder, "PART_FILES", 4)
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
    part = working / "part-000000.npy"
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    with pytest.raises(ImagesError, match="decoded images must be as they were written; part 0"):
        decoded.read(0, 5)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        (None, r"needs the shape H,W,C .*; none .* 24 files .*--set ingest.shape=16,16,3"),
        ((5, 4, 2), r"must be H,W,C with C 1 \(grey\).*; got 5,4,2"),
        ((5,), r"got 5\. Give"),
        ((5, 0, 3), r"got 5,0,3"),
    ],
)
def test_folder__shape_is_required(photos, shape, match):
    with pytest.raises(ImagesError, match=match):
        open_source(photos, shape=shape)


def test_folder__example_shape_is_that_of_the_first_file(photos):
    (photos / "a/000ä.png").unlink()
    with pytest.raises(ImagesError, match=r"for example --set ingest.shape=9,7,3"):
        open_source(photos)


def test_folder__gives_uint8_only(photos):
    with pytest.raises(ImagesError, match=r"image files give uint8; `ingest.dtype=float32`"):
        open_source(photos, shape=(5, 4, 3), dtype="float32")


def test_folder__file_names_that_are_no_text():
    assert folder.printable("a/ä.png") == "a/ä.png"
    assert folder.printable("a/\udcff.png") == "a/\ufffd.png"


# --- one image ----------------------------------------------------------------------------------


def test_decode__own_size_is_kept_as_it_is(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "i.png")
    np.testing.assert_array_equal(folder.decode(tmp_path / "i.png", (6, 9, 3)), values)


def test_decode__making_smaller_averages(tmp_path):
    checkers = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(tmp_path / "i.png")
    small = folder.decode(tmp_path / "i.png", (8, 8))
    assert small.shape == (8, 8)
    assert abs(small.astype(int) - 127).max() <= 12


def grey(values):
    return np.asarray(Image.fromarray(values).convert("L"))


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
    found = folder.decode(tmp_path / f"i.{suffix}", (4, 5, n_channels))
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
        folder.decode(tmp_path / "i.tif", (4, 5, 3))


def test_decode__bombs_are_refused(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(tmp_path / "i.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImagesError, match="decompression bomb"):
        folder.decode(tmp_path / "i.png", (4, 5, 3))
