"""Plots: what is drawn, and the cases at the edge of what can be drawn."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest

from workflow.report.figures import drawing_style, inline_svg, new_figure
from workflow.report.plots import (
    plot_cluster_sizes,
    plot_population,
    plot_radius,
    plot_spectrum,
    plot_timings,
    plot_variance,
)


@pytest.fixture
def axes():
    with drawing_style():
        figure = new_figure(5, 3)
        yield figure.add_subplot()
        # Whatever was drawn must also survive being written, without a warning.
        assert inline_svg(figure, "x", "y").startswith("<svg")


def bars(axes) -> list[tuple[float, float]]:
    """Return bottom and top of each bar."""
    return [(p.get_y(), p.get_y() + p.get_height()) for p in axes.patches]


def test_plot_variance__cumulates(axes):
    assert plot_variance(axes, np.array([0.5, 0.25, 0.125])) is axes
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [50, 75, 87.5])
    assert axes.texts[0].get_text() == "87.5 %"


@pytest.mark.parametrize("ratio", [np.empty(0), np.zeros(3), np.ones(1), np.full(768, 1 / 768)])
def test_plot_variance__edges(axes, ratio):
    plot_variance(axes, ratio)
    assert len(axes.lines[0].get_ydata()) == len(ratio)


def test_plot_spectrum__leaves_rounding_out(axes):
    plot_spectrum(axes, np.array([4.0, 1.0, 1e-17, 0.0, -1e-18]), 2)
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 2])
    assert axes.get_yscale() == "log"
    assert axes.texts[0].get_text() == "2 kept"


@pytest.mark.parametrize("spectrum", [np.empty(0), np.zeros(5), np.array([np.nan])])
def test_plot_spectrum__nothing_to_show(axes, spectrum):
    plot_spectrum(axes, spectrum, 1)
    assert "every eigenvalue is zero" in axes.texts[0].get_text()


def test_plot_spectrum__single_and_equal(axes):
    plot_spectrum(axes, np.full(6, 3.0), 6)
    assert len(axes.lines) == 1


def test_plot_cluster_sizes__sorted_with_their_numbers(axes):
    plot_cluster_sizes(axes, np.array([50, 700, 700, 9000]), n_noise=120, min_cluster_size=30)
    np.testing.assert_allclose([top for _, top in bars(axes)], [9000, 700, 700, 50])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["3", "1", "2", "0"]
    assert [text.get_text() for text in axes.texts] == ["noise", "minimum"]
    assert [line.get_ydata()[0] for line in axes.lines] == [120, 30]
    assert axes.get_ylim()[0] <= 30


@pytest.mark.parametrize(("n_noise", "sides"), [(31, ["bottom", "top"]), (900, ["center"] * 2)])
def test_plot_cluster_sizes__names_of_close_lines_part(axes, n_noise, sides):
    plot_cluster_sizes(axes, np.array([700, 50]), n_noise=n_noise, min_cluster_size=30)
    assert [text.get_verticalalignment() for text in axes.texts] == sides


@pytest.mark.parametrize("sizes", [[1], [0, 5], [48_000_000], [7] * 40])
def test_plot_cluster_sizes__few(axes, sizes):
    plot_cluster_sizes(axes, np.array(sizes))
    assert len(axes.patches) == np.count_nonzero(sizes)
    assert len(axes.texts) == len(axes.lines) == 0
    low, high = axes.get_ylim()
    assert 0 < low < high
    assert max(top for _, top in bars(axes)) < high


@pytest.mark.parametrize(("n", "step"), [(20, 1), (21, 2), (36, 2), (40, 2)])
def test_plot_cluster_sizes__numbers_do_not_crowd(axes, n, step):
    plot_cluster_sizes(axes, np.arange(n, 0, -1) * 10)
    labels = axes.get_xticklabels()
    assert [label.get_text() for label in labels] == [str(i) for i in range(0, n, step)]
    axes.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_plot_cluster_sizes__five_hundred(axes):
    sizes = np.random.default_rng(0).integers(20, 10**6, 500)
    plot_cluster_sizes(axes, sizes)
    (steps,) = axes.patches
    np.testing.assert_array_equal(steps.get_data().values, np.sort(sizes)[::-1])


def test_plot_cluster_sizes__none(axes):
    plot_cluster_sizes(axes, np.empty(0, np.int64))
    assert axes.texts[0].get_text() == "no clusters"


@pytest.mark.parametrize(
    "population",
    [[5], [1, 1, 1], [3, 4, 4, 900_000], list(range(1, 2000)), [0, 0, 12], [10**9, 10**9 + 1]],
)
def test_plot_population__counts_every_centroid_once(axes, population):
    plot_population(axes, np.array(population))
    (steps,) = axes.patches
    assert steps.get_data().values.sum() == np.count_nonzero(population)
    held = np.array(population)[np.array(population) > 0]
    assert axes.lines[0].get_xdata()[0] == np.median(held)


def test_plot_population__bins_are_whole_numbers(axes):
    plot_population(axes, np.arange(1, 101))
    edges = axes.patches[0].get_data().edges
    np.testing.assert_array_equal(edges % 1, 0.5)
    np.testing.assert_array_equal(axes.patches[0].get_data().values, np.diff(edges))


@pytest.mark.parametrize("n", [1, 40, 20_000])
def test_plot_radius__draws_each_centroid(axes, n):
    rng = np.random.default_rng(n)
    population = rng.integers(1, 5000, n)
    plot_radius(axes, population, rng.uniform(0, 2, n), rng.integers(-1, 9, n))
    points = axes.collections[0]
    np.testing.assert_array_equal(points.get_offsets()[:, 0], population)
    assert points.get_rasterized() == (n > 1500)


@pytest.mark.parametrize("plot", [plot_population, lambda a, p: plot_radius(a, p, p, p)])
def test_plots_of_centroids__empty(axes, plot):
    plot(axes, np.zeros(3, np.int64))
    assert "no centroid holds an image" in axes.texts[0].get_text()


def test_plot_timings__leaves_the_total_out(axes):
    plot_timings(axes, {"pca": 4.0, "tree": 1.0, "total": 5.0})
    assert [p.get_width() for p in axes.patches] == [4.0, 1.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pca", "tree"]


@pytest.mark.parametrize("seconds", [{}, {"total": 1.0}, {"pca": 0.0}])
def test_plot_timings__edges(axes, seconds):
    plot_timings(axes, seconds)
    assert len(axes.patches) == ("pca" in seconds)


def test_new_figure__knows_no_window():
    figure = new_figure(2, 1)
    assert type(figure.canvas).__name__ == "FigureCanvasSVG"
    figure.savefig(io.BytesIO(), format="png")
