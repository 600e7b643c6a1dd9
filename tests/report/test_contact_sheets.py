"""Contact sheets, pixel by pixel."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from workflow.report.contact_sheets import (
    GAP,
    channel_remark,
    columns_within,
    contact_sheet,
    shown_range,
)
from workflow.report.data import Sheet
from workflow.report.gallery import gallery


def pixels(png: bytes) -> np.ndarray:
    """Return a PNG as RGBA."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGBA"))


def test_contact_sheet__known_image_at_known_place_in_known_colours():
    images = np.zeros((5, 2, 3, 3), np.uint8)
    images[4, 0, 2] = (250, 120, 10)
    sheet = pixels(contact_sheet(images, columns=3, scale=4))
    assert sheet.shape == (2 * 8 + GAP, 3 * 12 + 2 * GAP, 4)
    top, left = 8 + GAP, 12 + GAP
    expected = np.zeros((8, 12, 4), np.uint8)
    expected[..., 3] = 255
    expected[:4, 8:, :3] = (250, 120, 10)
    np.testing.assert_array_equal(sheet[top : top + 8, left : left + 12], expected)
    # Nothing lies between the images, nor where a sixth would be.
    assert sheet[8 : 8 + GAP].max() == 0
    assert sheet[top:, 2 * (12 + GAP) :].max() == 0
    assert sheet[:8, :12, 3].min() == 255


def test_contact_sheet__every_image_is_where_reading_order_puts_it():
    images = np.random.default_rng(0).integers(0, 256, (7, 3, 3, 3), dtype=np.uint8)
    sheet = pixels(contact_sheet(images, columns=4, scale=1))
    for index, image in enumerate(images):
        top, left = index // 4 * (3 + GAP), index % 4 * (3 + GAP)
        np.testing.assert_array_equal(sheet[top : top + 3, left : left + 3, :3], image)


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2, 2, 1)])
def test_contact_sheet__grey(shape):
    images = np.arange(8, dtype=np.uint8).reshape(shape) * 30
    sheet = pixels(contact_sheet(images, columns=2, scale=1))
    first = np.array([[0, 30], [60, 90]], np.uint8)
    for channel in range(3):
        np.testing.assert_array_equal(sheet[:2, :2, channel], first)
        np.testing.assert_array_equal(sheet[:2, 2 + GAP :, channel], first + 120)


@pytest.mark.parametrize("channels", [2, 5])
def test_contact_sheet__odd_channels_show_the_first_and_say_so(channels):
    images = np.random.default_rng(1).integers(0, 256, (1, 4, 4, channels), dtype=np.uint8)
    sheet = pixels(contact_sheet(images, scale=1))
    np.testing.assert_array_equal(sheet[..., 0], images[0, ..., 0])
    assert channel_remark(images) == f"first of {channels} channels, in grey"
    assert channel_remark(images) in gallery([Sheet("a", "b", images)], 1, None)
    assert channel_remark(images[..., :1]) == channel_remark(images[..., 0]) == ""


@pytest.mark.parametrize("kind", ["uint8", "uint16", "unit", "wide"])
def test_contact_sheet__transparent_over_a_checkerboard(kind):
    images = np.zeros((1, 8, 8, 4))
    images[0, :4, :4] = (1.0, 0.0, 0.0, 1.0)
    images[0, 0, 0, 3] = 0.2
    if kind == "unit":
        stored = images
    else:
        stored = images * (65535 if kind == "uint16" else 255)
        stored = np.rint(stored).astype({"wide": "float32"}.get(kind, kind))
    limits = {"uint8": None, "uint16": (0, 65535), "unit": None, "wide": (0, 255)}[kind]
    sheet = pixels(contact_sheet(stored, scale=1, value_range=limits))
    assert sheet[1, 1].tolist() == [255, 0, 0, 255]
    assert sheet[0, 0].tolist() == [255, 204, 204, 255]
    assert sheet[0, 4].tolist() == [214, 214, 214, 255]
    assert sheet[4, 4].tolist() == [255, 255, 255, 255]


def test_contact_sheet__float_values_are_scaled_and_clipped():
    images = np.array([[[-1.0, 0.0, 1.0, 3.0, np.nan, np.inf]]])
    sheet = pixels(contact_sheet(images, scale=1, value_range=(0.0, 2.0)))
    assert sheet[0, :, 0].tolist() == [0, 0, 128, 255, 0, 255]
    flat = pixels(contact_sheet(np.full((1, 2, 2), 7.0), scale=1))
    assert set(flat[..., 0].ravel().tolist()) == {128}
    truth = pixels(contact_sheet(np.array([[[False, True]]]), scale=1))
    assert truth[0, :, 0].tolist() == [0, 255]


def test_shown_range__is_robust_and_shared():
    rng = np.random.default_rng(2)
    usual = rng.uniform(-3, 5, (50, 16, 16))
    spoiled = usual.copy()
    spoiled[0, 0, 0], spoiled[1, 1, 1], spoiled[2, 2, 2] = 1e9, -1e9, np.nan
    low, high = shown_range([spoiled])
    assert abs(low + 3) < 0.1
    assert abs(high - 5) < 0.1
    assert shown_range([usual[:25], usual[25:]]) == shown_range([usual])
    assert shown_range([np.zeros((1, 2, 2)), usual]) is not None
    assert shown_range([rng.uniform(0, 1, (3, 2, 2))]) == (0.0, 1.0)
    assert shown_range([np.zeros((2, 2, 2), np.uint8)]) is None
    # Opacity is no brightness.
    assert shown_range([np.dstack([np.full((4, 4, 3), 9.0), np.zeros((4, 4))])[None]]) == (9.0, 9.0)


def test_contact_sheet__small_are_enlarged_large_are_shrunk_by_means():
    small = pixels(contact_sheet(np.zeros((1, 16, 16), np.uint8)))
    assert small.shape[:2] == (48, 48)
    large = np.random.default_rng(3).integers(0, 256, (1, 200, 150, 3), dtype=np.uint8)
    sheet = pixels(contact_sheet(large))
    assert sheet.shape[:2] == (67, 50)
    means = large[0, :198].reshape(66, 3, 50, 3, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(sheet[:66, :, :3], np.rint(means))
    assert columns_within(large, 300) == (300 + GAP) // (50 + GAP)
    assert columns_within(np.zeros((1, 5, 90_000), np.uint8), 10) == 1


def test_contact_sheet__same_bytes_again():
    images = np.random.default_rng(4).uniform(size=(9, 8, 8, 3))
    assert contact_sheet(images) == contact_sheet(images.copy())


@pytest.mark.parametrize(
    ("shape", "options", "match"),
    [
        ((0, 4, 4), {}, r"without a zero; got \(0, 4, 4\)"),
        ((4, 4), {}, r"must have shape .* got \(4, 4\)"),
        ((1, 4, 4), {"columns": 0}, "`columns` must be at least 1; got 0"),
        ((1, 4, 4), {"scale": -1}, "`scale` must be at least 1; got -1"),
    ],
)
def test_contact_sheet__refuses(shape, options, match):
    with pytest.raises(ValueError, match=match):
        contact_sheet(np.zeros(shape, np.uint8), **options)


def test_gallery__orders_kinds_and_survives_missing_pictures():
    tile = np.zeros((2, 4, 4), np.uint8)
    html = gallery(
        [
            Sheet("Odd", "", tile, "outliers"),
            Sheet("Grey", "", tile, "noise"),
            Sheet("First", "", tile, cluster=0),
            Sheet("Second", "gone", None, cluster=1),
            Sheet("Third", "empty", tile[:0], cluster=2),
        ],
        3,
        None,
    )
    order = [html.index(name) for name in ("First", "Second", "Third", "Grey", "Odd")]
    assert order == sorted(order)
    assert html.count("<img") == 3
    assert html.count("no picture") == 2
    assert "All 3 clusters" in html
    assert "There are no pictures" in gallery([Sheet("x", "", None)], 1, None)
