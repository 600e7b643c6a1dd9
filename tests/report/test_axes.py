"""Plots on a user's axes: the user's colours, the user's figure, and nothing left behind."""

from __future__ import annotations

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgba

from workflow.report import cluster_sheet
from workflow.report.axes import draw_on, show_images, show_sheets
from workflow.report.certainty_plots import plot_certainty, plot_clusters_by_threshold
from workflow.report.figures import ACCENT, GRID, INK, MUTED, PAPER
from workflow.report.plots import plot_cluster_sizes, plot_variance
from workflow.report.tree_plot import plot_condensed_tree

STAND_INS = {INK, MUTED, GRID, ACCENT, PAPER}


@pytest.fixture(autouse=True)
def agg():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def colours(axes):
    """Return every colour of every artist."""
    found = set()
    for artist in axes.findobj():
        for name in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            get = getattr(artist, f"get_{name}", None)
            value = None if get is None else get()
            if value is None or (isinstance(value, str) and value in ("none", "auto", "face")):
                continue
            many = isinstance(value, np.ndarray) and value.ndim == 2
            found |= {to_hex(c) for c in (value if many else [value])}
    return found


@pytest.fixture
def plots(make_report):
    data = make_report()
    return [
        lambda ax: plot_cluster_sizes(ax, data.cluster_size, n_noise=30, min_cluster_size=9),
        lambda ax: plot_cluster_sizes(ax, np.arange(1, 80)),
        lambda ax: plot_condensed_tree(ax, data.tree),
        lambda ax: plot_clusters_by_threshold(ax, data.clusters_by_threshold),
        lambda ax: plot_certainty(ax, data.certainty),
        lambda ax: plot_variance(ax, data.explained_variance_ratio),
    ]


def test_draw_on__has_the_colours_of_the_style(plots):
    with mpl.rc_context({"text.color": "#ff8800", "grid.color": "#123456"}):
        before = dict(mpl.rcParams)
        for plot in plots:
            axes = draw_on(plot, None)
            assert colours(axes) & STAND_INS == set()
            axes.figure.canvas.draw()
        assert dict(mpl.rcParams) == before
        assert "#ff8800" in colours(draw_on(plots[0], None))


def test_draw_on__keeps_the_opacity_and_the_colours_of_clusters(plots, make_report):
    axes = draw_on(plots[3], None)
    (span,) = axes.patches
    assert span.get_facecolor() == pytest.approx(to_rgba("C0", 0.16))
    axes = draw_on(plots[0], None)
    bars = axes.patches[: len(make_report().cluster_size)]
    assert len({to_hex(bar.get_facecolor()) for bar in bars}) == len(bars)


def test_draw_on__uses_the_axes_it_is_given(plots):
    _, axes = plt.subplots()
    before = plt.get_fignums()
    assert draw_on(plots[0], axes) is axes
    assert plt.get_fignums() == before
    assert draw_on(plots[0], None) is not axes
    assert len(plt.get_fignums()) == len(before) + 1


@pytest.mark.parametrize("shape", [(7, 5, 4), (7, 5, 4, 1), (7, 5, 4, 3)])
def test_show_images__puts_them_in_rows(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    axes = draw_on(lambda ax: show_images(ax, images, 3), None)
    (shown,) = axes.images
    pixels = np.asarray(shown.get_array())
    # Three rows of three; the factor that makes small images visible is the same both ways.
    factor = round(48 / 5)
    assert pixels.shape[:2] == (3 * (5 * factor + 2) - 2, 3 * (4 * factor + 2) - 2)
    first = images[0].reshape(5, 4, -1)
    np.testing.assert_array_equal(pixels[::factor][:5, ::factor][:, :4, 0], first[..., 0])


def test_show_images__says_where_there_are_none():
    axes = draw_on(lambda ax: show_images(ax, np.empty((0, 2, 2))), None)
    assert axes.texts[0].get_text() == "no images"


def test_show_sheets__names_each_row():
    images = np.zeros((4, 6, 6, 3), np.uint8)
    sheets = [cluster_sheet(c, 4 - c, 10, images[c:]) for c in range(3)]
    sheets.append(cluster_sheet(9, 1, 10, None))
    axes = draw_on(lambda ax: show_sheets(ax, sheets, 4), None)
    names = [label.get_text().splitlines()[0] for label in axes.get_yticklabels()]
    assert names == ["Cluster 0", "Cluster 1", "Cluster 2"]
    axes.figure.canvas.draw()
