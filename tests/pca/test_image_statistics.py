"""Brightness, contrast and sharpness of images, against plain NumPy, in other units and other blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from workflow.pca import image_statistics

DTYPES = ("uint8", "uint16", "float16", "float32", "float64")


def random_images(rng, shape, dtype):
    """Three images over most of the range of their type."""
    top = 255 if dtype == "uint8" else 60_000 if dtype == "uint16" else 30
    return rng.integers(0, top + 1, (3, *shape)).astype(dtype)


def reference(images):
    """Return the three statistics by their definition, in float64."""
    grey = images.astype(np.float64)
    grey = grey.mean(axis=3) if grey.ndim == 4 else grey
    around = grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] + grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    laplacian = around - 4 * grey[:, 1:-1, 1:-1]
    slope = sum((np.diff(grey, axis=axis) ** 2).mean(axis=(1, 2)) for axis in (1, 2))
    sharpness = np.sqrt((laplacian**2).mean(axis=(1, 2)) / (5 * slope))
    channels = images.astype(np.float64).reshape(*images.shape[:3], -1)
    contrast = np.sqrt(channels.var(axis=(1, 2)).mean(axis=1))
    return grey.mean(axis=(1, 2)), contrast, sharpness


def statistics_of(images):
    """Return the statistics of images in their shape."""
    return np.array(image_statistics(images.reshape(len(images), -1), images.shape[1:]))


@given(
    st.integers(0, 2**32),
    st.sampled_from(DTYPES),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
    st.sampled_from([(), (1,), (2,), (3,), (5,)]),
)
def test_statistics__are_those_of_the_definition(seed, dtype, size, channels):
    images = random_images(np.random.default_rng(seed), (*size, *channels), dtype)
    np.testing.assert_allclose(statistics_of(images), reference(images), rtol=3e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", [(60, 60), (60, 60, 3), (60, 60, 4), (6, 6, 500)])
def test_statistics__of_the_largest_numbers_do_not_overflow(shape, dtype):
    """A chessboard of the smallest and the largest value, more pixels than 32 bits can add up."""
    top = np.iinfo(dtype).max
    board = (np.indices(shape[:2]).sum(axis=0) % 2 * top).astype(dtype)
    images = np.broadcast_to(board.reshape(1, *board.shape, *[1] * (len(shape) - 2)), (1, *shape))
    found = statistics_of(np.ascontiguousarray(images))
    np.testing.assert_allclose(found[:, 0], [top / 2, top / 2, np.sqrt(16 / 10)], rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_statistics__do_not_depend_on_the_block(dtype):
    images = random_images(np.random.default_rng(0), (7, 5, 3), dtype)
    one_by_one = np.concatenate([statistics_of(images[i : i + 1]) for i in range(3)], axis=1)
    np.testing.assert_array_equal(statistics_of(images), one_by_one)


def test_sharpness__is_that_of_blur_and_not_of_brightness_or_contrast():
    noise = np.random.default_rng(0).normal(0, 20, (50, 16, 16))
    sharp = [
        statistics_of(gaussian_filter(noise, (0, sigma, sigma)))[2].mean()
        for sigma in (0, 0.7, 1.5, 3)
    ]
    assert sharp[0] == pytest.approx(1, abs=0.03)
    assert (np.diff(sharp) < -0.05).all()
    assert sharp[2] < 0.35
    darker = statistics_of(noise / 10 - 100)
    np.testing.assert_allclose(darker[2], statistics_of(noise)[2], rtol=1e-5)
    np.testing.assert_allclose(darker[1], statistics_of(noise)[1] / 10, rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_flat_images__have_no_contrast_and_no_sharpness(dtype):
    images = np.full((2, 9, 9, 3), 1.1).astype(dtype)
    brightness, contrast, sharpness = statistics_of(images)
    np.testing.assert_allclose(brightness, float(images[0, 0, 0, 0]), rtol=1e-6)
    assert not contrast.any()
    assert np.isnan(sharpness).all()


def test_contrast__counts_colours_that_are_equally_bright():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :2], image[0, 2:] = [200, 0, 0], [0, 200, 0]
    flat = np.broadcast_to(np.array([200, 0, 0], np.uint8), (1, 4, 4, 3)).copy()
    assert statistics_of(image)[1] == pytest.approx(100 * np.sqrt(2 / 3))
    assert statistics_of(flat)[1] == 0


def test_narrow_images__have_no_sharpness():
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 6)
    brightness, contrast, sharpness = statistics_of(images)
    assert brightness.tolist() == [5.5, 17.5]
    assert (contrast > 0).all()
    assert np.isnan(sharpness).all()


def test_statistics__want_rows_of_that_shape():
    with pytest.raises(ValueError, match=r"shape \(4, 4\), flattened; got shape \(3, 15\)"):
        image_statistics(np.zeros((3, 15), np.uint8), (4, 4))
