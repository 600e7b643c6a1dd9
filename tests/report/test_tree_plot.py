"""The icicle of the condensed tree: shapes against counting by hand, and hard cases."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from workflow.report import CondensedTree
from workflow.report.figures import cluster_colour, drawing_style, inline_svg, new_figure
from workflow.report.tree_plot import DEPTH_STEP, choose_axis, layout_tree, plot_condensed_tree


def tree_of(*records, selected=(), selected_cluster=None):
    parent, child, level, size = zip(*records, strict=True) if records else ((),) * 4
    return CondensedTree(
        np.array(parent, np.int64),
        np.array(child, np.int64),
        np.array(level, np.float64),
        np.array(size, np.int64),
        np.array(selected, np.int64),
        None if selected_cluster is None else np.array(selected_cluster),
    )


def draw(tree):
    """Draw a tree and write it; return the axes and the text of the figure."""
    with drawing_style():
        figure = new_figure(11, 5)
        axes = figure.add_subplot()
        assert plot_condensed_tree(axes, tree) is axes
        return axes, inline_svg(figure, "tree", "tree")


#: Six centroids: 0 falls out at 1, the rest part at 2 into (1, 2) and (3, 4, 5).
SMALL = (
    (6, 0, 1.0, 10),
    (6, 7, 2.0, 30),
    (6, 8, 2.0, 60),
    (7, 1, 3.0, 10),
    (7, 2, 4.0, 20),
    (8, 3, 2.5, 20),
    (8, 4, 4.0, 20),
    (8, 5, 4.0, 20),
)


def test_layout__by_hand():
    root, large, small = layout_tree(tree_of(*SMALL))
    assert (root.node, large.node, small.node) == (6, 8, 7)
    assert (root.parent, large.parent, small.parent) == (-1, 6, 6)
    np.testing.assert_allclose(root.level[1:], [1, 2])
    assert root.level[0] < 1
    np.testing.assert_allclose(root.left[:2], [0, 5])
    np.testing.assert_allclose(root.right[:2], [100, 95])
    # Largest on the left, side by side, filling what was left of the parent.
    np.testing.assert_allclose(large.left, [5, 15, 35])
    np.testing.assert_allclose(large.right, [65, 55, 35])
    np.testing.assert_allclose(large.level, [2, 2.5, 4])
    np.testing.assert_allclose(small.left[:2], [65, 70])
    np.testing.assert_allclose(small.right[:2], [95, 90])


def test_layout__widths_are_the_images_alive(blob_tree):
    tree = blob_tree
    nodes = {node.node: node for node in layout_tree(tree)}
    assert set(nodes) == set(tree.parent.tolist())
    axis = choose_axis(tree.lambda_val)
    total = max(node.right[0] - node.left[0] for node in nodes.values())
    for node in nodes.values():
        mine = tree.parent == node.node
        whole = tree.child_size[mine].sum()
        assert node.right[0] - node.left[0] == pytest.approx(whole)
        assert node.level[-1] == pytest.approx(tree.lambda_val[mine].max())
        for level in np.unique(tree.lambda_val[mine]):
            drawn = node.level.searchsorted(level, side="right") - 1
            width = node.right[drawn] - node.left[drawn]
            depth = axis.depth(axis.clip(tree.lambda_val[mine]))
            here = axis.depth(axis.clip(np.array([level])))[0]
            most = tree.child_size[mine][depth > here - 2 * DEPTH_STEP].sum()
            least = tree.child_size[mine][depth > here + 2 * DEPTH_STEP].sum()
            assert least - 1e-9 <= width <= most + total / 2500


def test_layout__children_lie_inside_their_parent_apart_from_each_other(blob_tree):
    nodes = {node.node: node for node in layout_tree(blob_tree)}
    for node in nodes.values():
        if node.parent >= 0:
            parent = nodes[node.parent]
            assert parent.left[0] - 1e-9 <= node.left[0] <= node.right[0] <= parent.right[0] + 1e-9
        siblings = [other for other in nodes.values() if other.parent == node.node]
        spans = sorted((s.left[0], s.right[0]) for s in siblings)
        for (_, right), (left, _) in pairwise(spans):
            assert right <= left + 1e-9


def test_layout__order_of_records_does_not_matter(blob_tree):
    shuffled = np.random.default_rng(0).permutation(len(blob_tree.parent))
    again = CondensedTree(
        blob_tree.parent[shuffled],
        blob_tree.child[shuffled],
        blob_tree.lambda_val[shuffled],
        blob_tree.child_size[shuffled],
        blob_tree.selected,
    )
    for one, other in zip(layout_tree(blob_tree), layout_tree(again), strict=True):
        assert one.node == other.node
        np.testing.assert_allclose(one.left, other.left)


def test_plot__outlines_and_numbers_the_clusters(blob_tree):
    axes, text = draw(blob_tree)
    filled, outlined = axes.collections
    assert len(outlined.get_paths()) == len(blob_tree.selected)
    numbers = {annotation.get_text() for annotation in axes.texts}
    assert numbers == {str(c) for c in range(len(blob_tree.selected))}
    assert "<image" not in text
    assert len(filled.get_paths()) == len(set(blob_tree.parent.tolist()))


def test_plot__a_cluster_colours_all_below_it():
    axes, text = draw(tree_of(*SMALL, selected=[6], selected_cluster=[3]))
    assert [annotation.get_text() for annotation in axes.texts] == ["3"]
    assert text.count(cluster_colour(3)) >= 3
    axes, _ = draw(tree_of(*SMALL, selected=[7, 8], selected_cluster=[5, 5]))
    assert {annotation.get_text() for annotation in axes.texts} == {"5"}


def test_plot__a_lone_centroid_may_be_a_cluster():
    tree = tree_of(*SMALL, selected=[0, 8])
    lone = next(node for node in layout_tree(tree) if node.node == 0)
    assert lone.right[0] - lone.left[0] == 10
    assert lone.level[-1] > lone.level[0] == 1
    axes, _ = draw(tree)
    assert len(axes.collections[1].get_paths()) == 2


@pytest.mark.parametrize(
    "records",
    [
        ((2, 0, 1.0, 5), (2, 1, 1.0, 5)),
        ((2, 0, 0.0, 5), (2, 1, 0.0, 5)),
        ((2, 0, np.inf, 5), (2, 1, np.inf, 5)),
        ((2, 0, 1.0, 5), (2, 1, np.inf, 5)),
        ((2, 0, np.nan, 5), (2, 1, 3.0, 5)),
        ((2, 0, 0.0, 5), (2, 1, 1e300, 5)),
        ((2, 0, 1e-12, 5), (2, 1, 1e6, 5)),
        ((2, 0, 1.0, 48_000_000), (2, 1, 2.0, 1)),
    ],
)
def test_plot__odd_levels(records):
    axes, _ = draw(tree_of(*records, selected=[2]))
    low, high = sorted(axes.get_ylim())
    assert np.isfinite([low, high]).all()
    assert low < high
    for path in axes.collections[0].get_paths():
        assert np.isfinite(path.vertices).all()


def test_plot__levels_over_decades_are_logarithmic():
    wide = tree_of(*SMALL, (8, 9, 4e5, 1))
    assert draw(wide)[0].get_yscale() == "log"
    assert draw(tree_of(*SMALL))[0].get_yscale() == "linear"


def test_plot__two_roots_stand_apart():
    tree = tree_of((4, 0, 1.0, 10), (4, 1, 2.0, 10), (5, 2, 1.0, 30), (5, 3, 2.0, 10))
    first, second = sorted(layout_tree(tree), key=lambda node: node.left[0])
    assert first.parent == second.parent == -1
    assert first.right[0] < second.left[0]
    draw(tree)


def test_plot__no_records():
    axes, _ = draw(tree_of())
    assert not axes.collections


def test_plot__thousands_of_nodes_stay_small_and_clusters_stay():
    # A chain that sheds one node of three centroids at each of 4,000 levels.
    n_nodes, records = 4000, []
    first = 10**6
    for i in range(n_nodes):
        chain, shed, level = first + 2 * i, first + 2 * i + 1, 1.0 + i
        records.append((chain, shed, level, 30))
        records += [(shed, 3 * i + j, level * 1.5, 10) for j in range(3)]
        if i + 1 < n_nodes:
            records.append((chain, chain + 2, level, 30 * (n_nodes - i - 1)))
    tree = tree_of(*records, selected=[first + 2 * i + 1 for i in range(0, n_nodes, 8)])
    axes, text = draw(tree)
    assert len(text) < 1_000_000
    assert len(axes.collections[1].get_paths()) == 500
    assert 5 < len(axes.texts) <= 60


def test_condensed_tree__refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"equally long; got lengths \[1, 2, 1, 1\]"):
        CondensedTree(np.zeros(1), np.zeros(2), np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="got 1 for 2 nodes"):
        tree_of(*SMALL, selected=[7, 8], selected_cluster=[0])
