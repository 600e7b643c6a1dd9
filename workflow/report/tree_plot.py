"""The condensed tree as an icicle: width is the number of images, depth is the level of density."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from matplotlib.collections import PolyCollection

from workflow.formatting import label_thousands
from workflow.report.figures import INK, NOISE_COLOUR, cluster_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workflow.report.data import CondensedTree

#: Corners of a node closer than this share of the depth are drawn as one.
DEPTH_STEP = 1 / 300
#: Nodes narrower than this share of the width are not drawn, unless they are clusters.
MIN_WIDTH = 1 / 2500
#: Shapes with more corners than this are drawn as one picture.
VECTOR_CORNERS = 15_000
#: Maximum of clusters that are numbered, and that are outlined by a full line.
MAX_NUMBERS, MAX_OUTLINES = 60, 100
#: Levels may span this ratio before the axis becomes logarithmic, and this one at most.
LINEAR_RATIO, LARGEST_RATIO = 20.0, 1e12


@dataclass(frozen=True, eq=False)
class Node:
    """Shape of one node of the tree.

    Attributes
    ----------
    node : int
        Id in the tree.
    parent : int
        Node it came from, -1 for a root.
    level : float64 array of shape (n_corners,)
        Levels at which its width changes, from birth to end.
    left, right : float64 arrays of shape (n_corners,) [images]
        Borders from each level to the next.
    """

    node: int
    parent: int
    level: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]


class _Corner(NamedTuple):
    """Depth and level at which a node's borders become `left` and `right`."""

    depth: float
    level: float
    left: float
    right: float


@dataclass(frozen=True)
class _Axis:
    """Finite, sensible range of levels and the way to a share of the depth."""

    low: float
    high: float
    is_log: bool

    def clip(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return levels inside the range; NaN counts as the lowest."""
        return np.clip(np.nan_to_num(level, nan=self.low, posinf=self.high), self.low, self.high)

    def depth(self, level: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return clipped levels as a share of the depth, 0 to 1."""
        if self.is_log:
            shares = np.log(level / self.low) / np.log(self.high / self.low)
            return cast("NDArray[np.float64]", shares)
        return (level - self.low) / (self.high - self.low)

    def level(self, depth: float) -> float:
        """Return the level at a share of the depth, which may lie outside 0 to 1."""
        if self.is_log:
            return float(self.low * (self.high / self.low) ** depth)
        return self.low + depth * (self.high - self.low)


def choose_axis(lambda_val: NDArray[np.float64]) -> _Axis:
    """Return the range of levels to draw: logarithmic where they span more than a decade or so."""
    finite = lambda_val[np.isfinite(lambda_val) & (lambda_val >= 0)]
    positive = finite[finite > 0]
    if not positive.size:
        return _Axis(0.0, 1.0, is_log=False)
    high = float(positive.max())
    low = max(float(positive.min()), high / LARGEST_RATIO)
    if high / low > LINEAR_RATIO:
        return _Axis(low, high, is_log=True)
    low = min(float(finite.min()), 0.9 * low) if high / low > 1.5 else 0.5 * high
    return _Axis(low, high, is_log=False)


def layout_tree(tree: CondensedTree) -> list[Node]:
    """Give every inner node, and every leaf that is a cluster, its shape.

    Parameters
    ----------
    tree : CondensedTree
        Records; one root or several.

    Returns
    -------
    list of Node
        Parents before children.  Images that leave a node narrow it from both sides alike; a
        child node takes the right end of what is left, the smallest child first, so that children
        lie side by side under their parent, the largest on the left.

    Notes
    -----
    Cost is O(n_records log n_records).  Equal levels and sizes are ordered by node id.
    """
    lambda_val = np.asarray(tree.lambda_val, dtype=np.float64)
    axis = choose_axis(lambda_val)
    level = axis.clip(lambda_val)
    depth = axis.depth(level)
    inner = {int(p) for p in np.unique(tree.parent)}
    shaped = inner | {int(node) for node in tree.selected}
    is_shaped = np.array([int(c) in shaped for c in tree.child], dtype=np.bool_)
    # Within a level, loose images go first, then child nodes from small to large.
    order = np.lexsort((tree.child, np.where(is_shaped, tree.child_size, 0), is_shaped, level))
    records: defaultdict[int, list[int]] = defaultdict(list)
    for record in order:
        records[int(tree.parent[record])].append(int(record))
    roots = sorted(inner - {int(c) for c in tree.child})
    sizes = [float(np.sum(tree.child_size[records[root]])) for root in roots]
    starts = 1.02 * (np.cumsum(sizes) - sizes)
    waiting = [
        (root, -1, _Corner(-0.03, axis.level(-0.03), float(start), float(start) + size))
        for root, start, size in zip(roots, starts, sizes, strict=True)
    ][::-1]
    min_width = MIN_WIDTH * sum(sizes)
    nodes: list[Node] = []
    while waiting:
        node, parent, birth = waiting.pop()
        corners, now = [birth], birth
        for record in records.get(node, []):
            size = float(tree.child_size[record])
            left, right = (0.0, size) if is_shaped[record] else (size / 2, size / 2)
            now = _Corner(
                float(depth[record]), float(level[record]), now.left + left, now.right - right
            )
            if is_shaped[record]:
                child = now._replace(left=now.right, right=now.right + size)
                waiting.append((int(tree.child[record]), node, child))
            _add_corner(corners, now, min_width)
        if node not in records:
            # A lone centroid has no record of its own end: a short tip stands for it.
            end = birth.depth + 0.04
            now = _Corner(end, axis.level(end), birth.left, birth.left)
        # Corners left out must not end a node before its children begin.
        if len(corners) > 1 and now.depth - corners[-1].depth < DEPTH_STEP:
            corners.pop()
        corners.append(now)
        columns = np.array(corners, dtype=np.float64).T
        nodes.append(Node(node, parent, columns[1], columns[2], columns[3]))
    return nodes


def _add_corner(corners: list[_Corner], corner: _Corner, min_width: float) -> None:
    """Append a corner, unless it is too close to the last to be seen apart."""
    last = corners[-1]
    if corner.depth - last.depth < DEPTH_STEP and len(corners) > 1:
        corners[-1] = last._replace(left=corner.left, right=corner.right)
    elif (last.right - last.left) - (corner.right - corner.left) >= min_width:
        corners.append(corner)


def plot_condensed_tree(axes: Axes, tree: CondensedTree) -> Axes:
    """Draw the condensed tree, its clusters in colour, outlined and numbered.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where to draw; inside a figure that has its final size.
    tree : CondensedTree
        Records with sizes in images.

    Returns
    -------
    matplotlib.axes.Axes
        The same axes, the lowest density at the top.

    Notes
    -----
    The colour of a cluster goes to everything below its node.  Of many nodes those narrower than
    a fraction of a pixel are left out; clusters never are.  Numbers that would cover each other
    are left out, and those after the sixtieth; the largest clusters keep theirs.
    """
    nodes = layout_tree(tree)
    if not nodes:
        axes.set_axis_off()
        return axes
    names = range(len(tree.selected)) if tree.selected_cluster is None else tree.selected_cluster
    cluster_of = {int(n): int(c) for n, c in zip(tree.selected, names, strict=True)}
    width = max(float(node.right[0]) for node in nodes)
    inherited: dict[int, int] = {-1: -1}
    shapes, colours, outlines, outline_clusters = [], [], [], []
    for node in nodes:
        cluster = cluster_of.get(node.node, inherited[node.parent])
        inherited[node.node] = cluster
        if node.node in cluster_of:
            outlines.append(node)
            outline_clusters.append(cluster)
        elif node.right[0] - node.left[0] < MIN_WIDTH * width:
            continue
        shapes.append(_polygon(node))
        colours.append(cluster_colour(cluster) if cluster >= 0 else NOISE_COLOUR)
    axis = choose_axis(np.asarray(tree.lambda_val, dtype=np.float64))
    axes.add_collection(
        PolyCollection(
            shapes, facecolors=colours, edgecolors=colours, linewidths=0.3, alpha=0.65,
            rasterized=sum(map(len, shapes)) > VECTOR_CORNERS,
        ),
        autolim=False,
    )  # fmt: skip
    borders = [_polygon(node) for node in outlines]
    axes.add_collection(
        PolyCollection(
            borders, facecolors="none", edgecolors=INK,
            linewidths=1.0 if len(outlines) < MAX_OUTLINES else 0.2,
        ),
        autolim=False,
    )  # fmt: skip
    axes.set_yscale("log" if axis.is_log else "linear")
    axes.set_ylim(axis.level(1.1), axis.level(-0.03))
    axes.set_xlim(-0.005 * width, 1.005 * width)
    axes.set(xlabel="images", ylabel="density level λ")
    axes.xaxis.set_major_formatter(label_thousands)
    axes.spines["bottom"].set_visible(False)
    _write_numbers(axes, axis, outlines, outline_clusters, {node.parent for node in nodes})
    return axes


def _polygon(node: Node) -> NDArray[np.float64]:
    """Return the stepped outline of a node as corners of shape (n, 2)."""
    level = np.repeat(node.level, 2)[1:]
    left, right = np.repeat(node.left, 2)[:-1], np.repeat(node.right, 2)[:-1]
    down, up = np.column_stack([left, level]), np.column_stack([right, level])[::-1]
    return np.concatenate([down, up])


def _write_numbers(
    axes: Axes, axis: _Axis, nodes: list[Node], clusters: list[int], parents: set[int]
) -> None:
    """Write the numbers of clusters under their nodes, largest first, where there is room.

    A node that goes on in child nodes has its number inside, above the place where they part.
    """
    low, high = axes.get_xlim()
    inches = axes.figure.bbox.width / axes.figure.dpi
    # About 0.09 inch per digit at 9 points; the axes take about nine tenths of the figure.
    digit = 0.09 / (0.9 * inches) * (high - low)
    taken: list[tuple[float, float, float]] = []
    for index in sorted(
        range(len(nodes)), key=lambda i: (-nodes[i].right[0] + nodes[i].left[0], i)
    ):
        node, text = nodes[index], str(clusters[index])
        # The last corner is where nothing is left of the node: centre on its last width.
        centre = float(node.left[-2] + node.right[-2]) / 2
        end = float(axis.clip(node.level[-1:])[0])
        depth, half = float(axis.depth(np.array([end]))[0]), digit * (len(text) + 1) / 2
        if len(taken) == MAX_NUMBERS:
            return
        if any(abs(centre - c) < half + h and abs(depth - d) < 0.06 for c, d, h in taken):
            continue
        taken.append((centre, depth, half))
        inside = node.node in parents
        axes.annotate(
            text, (centre, float(node.level[-1])), xytext=(0, 3 if inside else -3),
            textcoords="offset points", ha="center", va="bottom" if inside else "top", color=INK,
            fontsize=9,
        )  # fmt: skip
