"""The map as a picture: colours, limits, points and density, in a page and as files."""

import dataclasses

import numpy as np
import pytest
from matplotlib.figure import Figure

from workflow.report import MapData, render
from workflow.report.figures import CLUSTER_COLOURS
from workflow.report.map_plot import MAX_POINTS, group_colours, plot_map

#: How red, green and blue look to who lacks a kind of cone: Machado, Oliveira and Fernandes 2009.
BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3),
}  # fmt: skip


def lab(colours, seen):
    """Return colours in CIE L*a*b*, as somebody sees them."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(seen).T).clip(0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = np.cbrt(linear @ xyz.T / [0.9505, 1, 1.089])
    return np.column_stack([116 * f[:, 1], 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])])


@pytest.mark.parametrize("name", BLINDNESS)
def test_colours__are_told_apart_by_everybody(name):
    colours = lab(CLUSTER_COLOURS, BLINDNESS[name])
    apart = np.linalg.norm(colours[:, None] - colours, axis=-1)
    assert apart[np.triu_indices(len(colours), 1)].min() >= 15


def test_colours__of_groups_that_lie_side_by_side_differ():
    middles = np.random.default_rng(0).normal(size=(60, 2))
    chosen = group_colours(middles)
    assert set(chosen) == set(range(len(CLUSTER_COLOURS)))
    apart = np.linalg.norm(middles[:, None] - middles, axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (chosen[apart.argmin(axis=1)] != chosen).mean() >= 0.98


def drawn(data):
    figure = Figure()
    return plot_map(figure.add_subplot(), data)


def some(n, n_groups=12, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.integers(-1, n_groups, n).astype(np.int32)
    places = rng.normal(size=(n, 2)) + 8 * rng.normal(size=(n_groups + 1, 2))[values]
    return MapData(places.astype(np.float32), values, n)


def test_points__have_the_colour_of_their_group_and_numbers_lie_on_them():
    data = some(900, n_groups=4)
    axes = drawn(data)
    colours = axes.collections[0].get_facecolors()
    assert len(np.unique(colours, axis=0)) == 5
    assert {text.get_text() for text in axes.texts} == {"0", "1", "2", "3"}
    for text in axes.texts:
        group = data.places[data.values == int(text.get_text())]
        assert np.linalg.norm(group.mean(axis=0) - text.xy) < 0.5


def test_density__shows_where_images_are():
    data = some(MAX_POINTS + 5_000)
    (image,) = drawn(data).images
    pixels, (left, right, bottom, top) = np.asarray(image.get_array()), image.get_extent()
    inside = ((data.places >= [left, bottom]) & (data.places <= [right, top])).all(axis=1)
    share = (data.places[inside] - [left, bottom]) / [right - left, top - bottom]
    height, width = pixels.shape[:2]
    column, row = np.minimum(share * [width, height], [width - 1, height - 1]).astype(int).T
    # But for what rounding puts into the next pixel.
    assert (pixels[row, column, 3] > 0).mean() > 0.999
    there = (pixels[..., 3] > 0).sum()
    assert there == pytest.approx(len(np.unique(row * width + column)), rel=1e-3)


def test_limits__an_outlier_shrinks_nothing():
    data = some(5_000)
    data.places[17] = 1e6
    assert max(np.ptp(drawn(data).get_xlim()), np.ptp(drawn(data).get_ylim())) < 100


@pytest.mark.parametrize("values", [np.full(50, np.nan), np.ones(50), np.linspace(0, 1, 50)])
def test_amounts__have_a_scale(values):
    places = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    axes = drawn(MapData(places, values, 50, "strength"))
    axes.figure.canvas.draw()
    assert len(axes.figure.axes) == 2
    assert not axes.texts


def test_equal_places__are_drawn():
    drawn(MapData(np.zeros((3, 2), np.float32), np.zeros(3, np.int32), 3)).figure.canvas.draw()


def test_pictures__lie_on_their_groups_and_files_hold_them(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {group: rng.integers(0, 255, (8, 8, 3), np.uint8) for group in range(3)}
    axes = drawn(dataclasses.replace(some(2_000), pictures=pictures))
    assert sum(type(artist).__name__ == "AnnotationBbox" for artist in axes.artists) == 3
    for kind, start in (("svg", b"<?xml"), ("png", b"\x89PNG")):
        axes.figure.savefig(tmp_path / f"map.{kind}")
        assert (tmp_path / f"map.{kind}").read_bytes().startswith(start)


def test_page__has_the_map(make_report):
    data = make_report(map=some(3_000))
    text = render(data)
    assert "<h2>The map</h2>" in text
    assert "3,000 images in two dimensions, coloured by cluster" in text
    assert render(data) == text
