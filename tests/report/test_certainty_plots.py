"""Plots of how sure clusters are: what is drawn where, against the numbers given."""

from __future__ import annotations

import numpy as np
import pytest

from tests.report.conftest import certainty_of
from workflow.report import ClustersByThreshold
from workflow.report.certainty_plots import (
    MAX_NUMBERED,
    SINGLE_BARS,
    plot_certainty,
    plot_clusters_by_threshold,
    plot_resampled,
)
from workflow.report.figures import drawing_style, inline_svg, new_figure


@pytest.fixture
def axes():
    with drawing_style():
        figure = new_figure(5, 3)
        yield figure.add_subplot()
        # Whatever was drawn must also survive being written, without a warning.
        assert inline_svg(figure, "x", "y").startswith("<svg")


def texts(axes) -> list[str]:
    """Return the words written into the plot."""
    return [text.get_text() for text in axes.texts]


def points(axes) -> np.ndarray:
    """Return the places of all points, as rows."""
    return np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])


@pytest.mark.parametrize("plateau", [(0.7, 0.8), (0.8, 0.8), None])
def test_plot_clusters_by_threshold__marks_what_was_used(axes, plateau):
    found = ClustersByThreshold(
        np.array([0.5, 0.7, 0.8]), np.array([1, 12, 12]), 0.8, "rho", plateau
    )
    assert plot_clusters_by_threshold(axes, found) is axes
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), [0.5, 0.7, 0.8])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [1, 12, 12])
    assert axes.lines[1].get_xdata()[0] == 0.8
    assert texts(axes) == ["used"]
    assert axes.get_xlabel() == "rho"
    shaded = [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches]
    assert all(patch.get_visible() and patch.get_alpha() > 0 for patch in axes.patches)
    np.testing.assert_allclose(shaded, [plateau] if plateau == (0.7, 0.8) else [])


def test_plot_clusters_by_threshold__of_another_method_marks_nothing(axes):
    plot_clusters_by_threshold(axes, ClustersByThreshold(np.array([0.5, 0.8]), np.array([1, 12])))
    assert len(axes.lines) == 1
    assert texts(axes) == []
    assert len(axes.patches) == 0


@pytest.mark.parametrize(
    ("numbers", "n_clusters"),
    [([12], 12), ([11, 12, 12, 13], 12), ([3] * 20, 9), ([1], 1), ([8, 10], 2)],
)
def test_plot_resampled__a_bar_for_each_number(axes, numbers, n_clusters):
    assert plot_resampled(axes, np.array(numbers), n_clusters) is axes
    drawn = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in axes.patches}
    assert drawn == {number: numbers.count(number) for number in numbers}
    assert axes.lines[0].get_xdata()[0] == n_clusters
    assert texts(axes) == [f"found: {n_clusters}"]
    low, high = axes.get_xlim()
    assert low < min([*numbers, n_clusters]) <= max([*numbers, n_clusters]) < high


@pytest.mark.parametrize("spread", [SINGLE_BARS, 900])
def test_plot_resampled__many_numbers_are_binned(axes, spread):
    rng = np.random.default_rng(0)
    numbers = np.r_[1500, 1500 + spread, rng.integers(1500, 1501 + spread, 98)]
    plot_resampled(axes, numbers, 1520)
    (steps,) = axes.patches
    values, edges, _ = steps.get_data()
    np.testing.assert_array_equal(values, np.histogram(numbers, edges)[0])
    assert values.sum() == 100
    assert texts(axes) == ["found: 1,520"]


def test_plot_certainty__each_cluster_at_its_place_and_doubtful_hollow(axes):
    certainty = certainty_of(6, doubtful=(1, 4))
    assert plot_certainty(axes, certainty) is axes
    sure, doubtful = axes.collections
    order = [0, 2, 3, 5]
    np.testing.assert_allclose(
        sure.get_offsets(), np.c_[certainty.border, 100 * certainty.recovery][order]
    )
    np.testing.assert_allclose(
        doubtful.get_offsets(), np.c_[certainty.border, 100 * certainty.recovery][[1, 4]]
    )
    assert len(np.unique(doubtful.get_facecolors(), axis=0)) == 1
    assert len(np.unique(doubtful.get_edgecolors(), axis=0)) == 2
    np.testing.assert_array_equal(sure.get_facecolors(), sure.get_edgecolors())
    assert texts(axes) == ["1", "4"]
    assert "border" in axes.get_xlabel()


def test_plot_certainty__numbers_of_points_that_touch_share_a_line(axes):
    border = np.array([0.5, 0.5, 0.5, 0.51, 0.95])
    certainty = certainty_of(5, doubtful=(0, 1, 3, 4), border=border)
    plot_certainty(axes, certainty)
    assert texts(axes) == ["0, 1, 3", "4"]
    # What stands at the right border is written towards the middle.
    assert [text.get_horizontalalignment() for text in axes.texts] == ["left", "right"]


def test_plot_certainty__untested_borders_make_no_axis(axes):
    certainty = certainty_of(17, doubtful=(3, 9), border=np.zeros(17))
    plot_certainty(axes, certainty)
    np.testing.assert_array_equal(np.sort(points(axes)[:, 0]), np.arange(17))
    assert axes.get_xlabel() == "cluster"
    assert texts(axes) == []
    low, high = axes.get_xlim()
    assert low < 0 < 16 < high


@pytest.mark.parametrize("n_clusters", [2, 3000])
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_plot_certainty__nothing_falls_out(axes, n_clusters, share):
    recovery = np.full(n_clusters, share)
    certainty = certainty_of(n_clusters, recovery=recovery, is_doubtful=recovery < 0.9)
    plot_certainty(axes, certainty)
    drawn = points(axes)
    assert len(drawn) == n_clusters
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert ((drawn >= (left, low)) & (drawn <= (right, high))).all()
    assert sum(len(text.split(", ")) for text in texts(axes)) == (
        0 if share else min(n_clusters, MAX_NUMBERED)
    )
