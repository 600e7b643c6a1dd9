"""What the script of the page works with, held against the data that it was made from."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.browser.conftest import colour_of, made
from workflow.report.explore import cluster_colours, explorer_values, packed
from workflow.report.map_plot import colour_numbers, group_colours


def unpacked(value):
    return np.frombuffer(base64.b64decode(value["bytes"]), f"<{value['type']}").astype(np.int64)


@pytest.mark.parametrize("numbers", [[], [0, 255], [0, 256], [-1, 127], [-1, 128], [-1, 2**31 - 1], [2**32 - 1]])  # fmt: skip
def test_packed__gives_the_numbers_back(numbers):
    values = np.array(numbers, np.int64)
    np.testing.assert_array_equal(unpacked(packed(values)), values)


def test_values__are_those_of_the_images():
    data = made(700, 5)
    values, shown = explorer_values(data, cluster_colours(data)), data.explorer
    points = {name: unpacked(value) for name, value in values["points"].items()}
    for name in ("index", "cluster", "centroid", "family"):
        np.testing.assert_array_equal(points[name], getattr(shown, name))
    np.testing.assert_allclose(points["strength"] / 255, shown.strength, atol=0.5 / 255)
    # Places keep their shape: one scale both ways, up turned down.
    for axis, name, sign in ((0, "x", 1), (1, "y", -1)):
        fit = np.polyfit(shown.places[:, axis], points[name], 1)
        assert fit[0] * sign > 0
        np.testing.assert_allclose(np.polyval(fit, shown.places[:, axis]), points[name], atol=2)
    paths = [values["paths"]["start"] + rest for rest in values["paths"]["rest"]]
    assert paths == shown.path
    sprite = values["sprite"]
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(sprite["png"].split(",")[1]))))
    for i in (0, 1, 333, sprite["n"] - 1):
        row, column = divmod(i, sprite["columns"])
        pixel = sheet[row * sprite["height"], column * sprite["width"]]
        assert tuple(pixel) == colour_of(int(shown.index[i]))


def test_values__levels_nest_and_count_images():
    data = made(700, 5)
    coarse, own = explorer_values(data, cluster_colours(data))["levels"]
    assert (coarse["name"], own["name"], own["is_clusters"]) == ("layer 0", "clusters", True)
    label = unpacked(coarse["label"])
    np.testing.assert_array_equal(
        unpacked(coarse["size"]), np.bincount(label[label >= 0], data.population[label >= 0])
    )
    np.testing.assert_array_equal(unpacked(own["parent"]), [0, 0, 0, 1, 1])


def test_values__stay_within_their_budgets():
    rng = np.random.default_rng(0)
    data = made(5_000, 4)
    object.__setattr__(
        data.explorer, "pictures", rng.integers(0, 256, (4_000, 40, 40, 3), dtype=np.uint8)
    )
    object.__setattr__(data.explorer, "path", ["x" * 900 + str(i) for i in range(5_000)])
    values = explorer_values(data, cluster_colours(data))
    assert len(values["sprite"]["png"]) < 6_000_000
    assert 500 < values["sprite"]["n"] < 4_000
    # What all names begin with is told once.
    assert len(values["paths"]["rest"]) == 5_000


def test_colours__neighbours_are_told_apart():
    rng = np.random.default_rng(1)
    middles = rng.uniform(0, 1, (1_200, 2))
    many = group_colours(middles)
    sq = np.square(middles[:, None] - middles).sum(axis=2)
    np.fill_diagonal(sq, np.inf)
    assert np.mean(many == many[sq.argmin(axis=1)]) < 0.01
    assert np.bincount(many, minlength=7).min() > 60
    np.testing.assert_array_equal(colour_numbers(middles, np.arange(1_200) % 5, 5), np.arange(5))
