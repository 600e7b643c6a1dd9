"""Draw the pictures of the documents from real runs of the package.

``python docs/pictures.py`` draws those of ``tree.md``; ``python docs/pictures.py page RUN`` that of ``results.md``, the
page of a run, which takes Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from workflow.centroid_graph import centroid_graph, count_pairs, intrinsic_dimension
from workflow.numerics import weighted_median
from workflow.overcluster import NearestCentroids, Overcluster, cell_sums
from workflow.report.figures import CLUSTER_COLOURS, NOISE_COLOUR
from workflow.tree import ClusterTree, build_tree
from workflow.tree.contrast.constants import DEFAULT_RATIO, UNTESTED
from workflow.tree.density.method import MIN_LOG_DENSITY_RISE
from workflow.tree.flows.graph import SPARSE_BELOW_MEDIAN
from workflow.tree.nodes import make_nodes
from workflow.tree.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from workflow.graph import Graph

PLACE = Path(__file__).resolve().parent / "img"
#: Colours of text, of what is to be looked at, and of what is only there.
INK, ACCENT, PALE = "#1b1f27", "#d6456b", "#c9ced6"
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.color": INK,
}
#: Colours of a picture on disk: enough for lines, and a third of the bytes.
PALETTE = 96


class Cells(NamedTuple):
    """Images cut into cells, as the steps before the tree leave them."""

    images: NDArray[np.float64]
    nearest: NDArray[np.int32]
    centroids: NDArray[Any]
    population: NDArray[np.int64]
    graph: Graph
    mean_distance: NDArray[np.float64]

    @classmethod
    def of(cls, images: NDArray[np.float64], n_centroids: int) -> Cells:
        """Fit centroids and count what lies between them."""
        centroids = Overcluster(n_centroids).fit(images).cluster_centers_
        nearest, sq_distance = NearestCentroids.build(centroids).query(images, k=3)
        sums = cell_sums(images, 0, nearest, sq_distance, len(centroids))
        graph = centroid_graph(count_pairs(nearest, len(centroids)), len(centroids))
        mean = sums.distance / sums.population
        return cls(images, nearest, centroids, sums.population, graph, mean)

    def tree(self, **how: Any) -> ClusterTree:
        """Build the tree."""
        return build_tree(
            self.centroids,
            self.population,
            self.graph,
            dimension=intrinsic_dimension(self.images),
            mean_distance=self.mean_distance,
            **how,
        )

    def problem(self) -> Problem:
        """Return what the tree is made from, to look inside."""
        return Problem(
            nodes=make_nodes(self.centroids, self.population, self.graph),
            population=self.population,
            dimension=intrinsic_dimension(self.images),
            min_cluster_size=None,
            min_samples=None,
            selection="eom",
            min_log_density_rise=MIN_LOG_DENSITY_RISE,
            mean_distance=None,
            testable=True,
        )

    def edges(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the ends of each edge, once, and its images over the nearest three."""
        row, col = self.graph.rows(), self.graph.indices.astype(np.int64)
        once = row < col
        return row[once], col[once], self.graph.weights[once]


def blobs(seed: int, middles: Any, widths: Any, n_images: Any) -> Any:
    """Return normal clusters: middles, standard deviations and numbers of images of each."""
    rng = np.random.default_rng(seed)
    middles = np.asarray(middles, np.float64)
    of = np.repeat(np.arange(len(middles)), n_images)
    width = np.broadcast_to(widths, len(middles))[of, None]
    return middles[of] + width * rng.standard_normal((len(of), middles.shape[1])), of


def two_groups(gap: float, *, seed: int = 0, n_features: int = 2) -> NDArray[np.float64]:
    """Return two equal normal groups whose middles are so many standard deviations apart."""
    middles = np.zeros((2, n_features))
    middles[:, 0] = -gap / 2, gap / 2
    images: NDArray[np.float64] = blobs(seed, middles, 1.0, 4_000)[0]
    return images


class LastJoin(NamedTuple):
    """The last join that the test decides on, and all tests before it.

    `side` is 1 or 0 for the centroids of either side and -1 for those set
    aside; `images` and `ratio` are those of every tested join, in order: the
    images of the smaller side, and what is compared with the threshold.
    """

    side: NDArray[np.int64]
    images: NDArray[np.int64]
    ratio: NDArray[np.float64]

    @classmethod
    def of(cls, cells: Cells) -> LastJoin:
        """Run the test on all joins."""
        problem = cells.problem()
        nodes, dense = problem.nodes, problem.flows.nodes
        found = problem.rule.run(DEFAULT_RATIO, join_on=True)
        inside = np.eye(len(dense), dtype=bool)
        for ends in found.ends:
            inside = np.concatenate([inside, inside[ends].any(axis=0, keepdims=True)])
        smaller = (inside @ nodes.population[dense])[found.ends].min(axis=1)
        tested = found.ratio < UNTESTED
        side = np.full(nodes.n_nodes, -1)
        side[dense] = inside[found.ends[-1, 0]]
        return cls(side[nodes.node], smaller[tested], found.ratio[tested])


def draw_graph(axes: Axes, cells: Cells, side: NDArray[np.int64]) -> None:
    """Draw centroids and edges; those between the two sides stand out."""
    row, col, weight = cells.edges()
    crosses = (side[row] >= 0) & (side[col] >= 0) & (side[row] != side[col])
    for which, colour in ((~crosses, PALE), (crosses, ACCENT)):
        lines = np.stack([cells.centroids[row[which]], cells.centroids[col[which]]], axis=1)
        widths = (0.25 if colour == ACCENT else 0.12) * np.sqrt(weight[which])
        axes.add_collection(LineCollection(list(lines), linewidths=widths, colors=colour))
    colours = np.array([NOISE_COLOUR, *CLUSTER_COLOURS])[np.minimum(side, 7) + 1]
    axes.scatter(*cells.centroids.T, s=1.2 * cells.population, c=colours, linewidths=0, zorder=3)


def bare(axes: Axes) -> None:
    """Take everything off a map but the map."""
    axes.set_aspect("equal")
    axes.set_axis_off()


def save(figure: Figure, name: str) -> None:
    """Write a picture; the same bytes every time on one machine."""
    FigureCanvasAgg(figure)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110, metadata={"Software": None})
    picture = Image.open(drawn).convert("RGB").quantize(PALETTE, dither=Image.Dither.NONE)
    PLACE.mkdir(exist_ok=True)
    picture.save(PLACE / name, optimize=True)


def valley() -> None:
    """Two groups, the images between them, and the graph that these make."""
    cells = Cells.of(two_groups(4.0), 250)
    side = LastJoin.of(cells).side
    first, second = side[cells.nearest[:, 0]], side[cells.nearest[:, 1]]
    crossing = (first >= 0) & (second >= 0) & (first != second)
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for which, colour, size in ((~crossing, PALE, 2), (crossing, ACCENT, 6)):
        left.scatter(*cells.images[which].T, s=size, c=colour, linewidths=0)
    left.scatter(*cells.centroids.T, s=9, c=INK, linewidths=0)
    left.set_title(
        f"8,000 images, {len(cells.centroids)} centroids (black); {crossing.sum()} images\n"
        "have their two nearest centroids on both sides (red)"
    )
    draw_graph(right, cells, side)
    right.set_title(
        "the graph: the more images between two centroids,\nthe wider the edge; red ones cross"
    )
    for axes in (left, right):
        bare(axes)
        axes.set(xlim=(-5.2, 5.2), ylim=(-3.6, 3.6))
    save(figure, "tree-valley.png")


def joins() -> None:
    """One join that is refused and one that is made."""
    figure = Figure(figsize=(9.6, 5.4), layout="constrained")
    grid = figure.subplots(2, 2, height_ratios=(1.7, 1))
    for column, gap in enumerate((4.0, 2.0)):
        cells = Cells.of(two_groups(gap), 250)
        join = LastJoin.of(cells)
        draw_graph(grid[0, column], cells, join.side)
        bare(grid[0, column])
        verdict = "joined" if join.ratio[-1] >= DEFAULT_RATIO else "kept apart"
        grid[0, column].set_title(
            f"middles {gap:.0f} standard deviations apart:\nratio {join.ratio[-1]:.2f}, so {verdict}"
        )
        print("last join", gap, join.ratio.round(2).tolist())  # noqa: T201
        axes = grid[1, column]
        axes.axhline(DEFAULT_RATIO, color=INK, linestyle="--", linewidth=1)
        axes.scatter(join.images, join.ratio, s=22, c=CLUSTER_COLOURS[0], linewidths=0)
        axes.scatter(join.images[-1:], join.ratio[-1:], s=60, c=ACCENT, linewidths=0)
        axes.set(
            xlabel="images of the smaller side of a join",
            ylabel="ratio",
            xlim=(0, None),
            ylim=(0, None),
        )
    save(figure, "tree-joins.png")


def thresholds() -> None:
    """Numbers of clusters at each threshold: apart, overlapping, without structure."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((12, 8))
    sets = {
        "12 groups, apart": blobs(1, 3.0 * middles, 1.0, 2_000)[0],
        "the same 12 groups, overlapping": blobs(1, 1.5 * middles, 1.0, 2_000)[0],
        "one normal cloud": rng.standard_normal((24_000, 8)),
    }
    figure = Figure(figsize=(7.6, 3.7), layout="constrained")
    axes = figure.subplots()
    for (name, images), colour, mark in zip(sets.items(), CLUSTER_COLOURS, "osD", strict=False):
        rho, count = Cells.of(images, 1_600).tree(method="contrast").n_clusters_by_threshold.T
        axes.plot(rho, count, color=colour, marker=mark, label=name)
        print(name, count.astype(int).tolist())  # noqa: T201
    axes.axvline(DEFAULT_RATIO, color=INK, linestyle="--", linewidth=1)
    axes.annotate("used", (DEFAULT_RATIO, 0.2), xytext=(4, 0), textcoords="offset points")
    axes.set(xlabel="threshold of the test (rho)", ylabel="clusters", ylim=(0, 13.5))
    axes.grid(visible=True, color="#eceef1")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(figure, "tree-ladder.png")


def noise() -> None:
    """Clusters in a uniform background, and the level below which centroids are set aside."""
    middles = [[-6, -5], [0, -6], [6, -4], [-6, 2], [0, 1], [6, 3], [-2, 7]]
    groups, _ = blobs(0, middles, [0.7, 0.5, 0.9, 0.8, 0.6, 0.5, 0.8], 1_600)
    background = np.random.default_rng(1).uniform(-10, 10, (2_800, 2))
    cells = Cells.of(np.concatenate([groups, background]), 930)
    flows = cells.problem().flows
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    *maps, right = figure.subplots(1, 3)
    for axes, method in zip(maps, ("density", "contrast"), strict=True):
        tree = cells.tree(method=method)
        colours = np.array([NOISE_COLOUR, *CLUSTER_COLOURS])[tree.label + 1]
        axes.scatter(*cells.centroids.T, s=0.5 * cells.population, c=colours, linewidths=0)
        called = tree.label[cells.nearest[:, 0]] < 0
        print("noise", method, tree.n_clusters, called[11_200:].mean(), called[:11_200].mean())  # noqa: T201
        axes.set_title(f"{method}: {tree.n_clusters} clusters, noise grey")
        bare(axes)
    images = np.zeros(len(flows.level), np.int64)
    np.add.at(images, tree.node, cells.population)
    level = flows.level - weighted_median(flows.level, images)
    bins = np.linspace(level.min(), level.max(), 50)
    for which, colour, name in (
        (~flows.is_sparse, CLUSTER_COLOURS[0], "kept"),
        (flows.is_sparse, NOISE_COLOUR, "set aside"),
    ):
        right.hist(level[which], bins, weights=images[which], color=colour, label=name)
    right.axvline(-SPARSE_BELOW_MEDIAN, color=INK, linestyle="--", linewidth=1)
    right.set(xlabel="log density against the median image", ylabel="images")
    right.legend(loc="upper left")
    save(figure, "tree-noise.png")


def sure() -> None:
    """Draw an interval of numbers of clusters, and a doubtful cluster."""
    middles = [[0, 0], [4.1, 0], [1.5, 6.0], [-6, 1], [-3.5, -6], [5, -6.5]]
    images, _ = blobs(0, middles, [1, 1, 0.8, 1, 1.3, 0.6], 2_500)
    cells = Cells.of(images, 600)
    tree = cells.tree(n_resamples=50)
    certainty = tree.certainty
    print("sure", tree.method, tree.n_clusters, tree.n_clusters_interval, tree.plateau)  # noqa: T201
    print(certainty.recovery, certainty.border.round(2), certainty.nearest)  # noqa: T201
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    colours = np.array([NOISE_COLOUR, *CLUSTER_COLOURS])
    left.scatter(
        *cells.centroids.T, s=0.5 * cells.population, c=colours[tree.label + 1], linewidths=0
    )
    for cluster in range(tree.n_clusters):
        spot = cells.centroids[tree.label == cluster].mean(axis=0)
        left.annotate(str(cluster), spot, ha="center", va="center", fontweight="bold", fontsize=12)
    low, high = tree.n_clusters_interval
    left.set_title(f"{tree.n_clusters} clusters, interval {low} to {high}")
    bare(left)
    found, times = np.unique(certainty.resampled_n_clusters, return_counts=True)
    middle.bar(found, times, 0.6, color=CLUSTER_COLOURS[0])
    middle.set_xticks(np.arange(found.min() - 1, found.max() + 2))
    middle.set(title="clusters in 50 redrawn trees", xlabel="clusters", ylabel="trees")
    doubtful = certainty.is_doubtful
    right.bar(
        np.arange(tree.n_clusters),
        certainty.recovery,
        0.6,
        color=np.where(doubtful, ACCENT, CLUSTER_COLOURS[0]),
    )
    right.axhline(0.9, color=INK, linestyle="--", linewidth=1)
    right.set(title="share of them that have the cluster", xlabel="cluster", ylim=(0, 1.05))
    save(figure, "tree-sure.png")


def is_found(label: NDArray[np.int64], of: NDArray[np.int64], group: int) -> bool:
    """Return whether a cluster has half of the images of a group or either in common with it."""
    inside = of == group
    cluster, shared = np.unique(label[inside], return_counts=True)
    either = [inside.sum() + (label == c).sum() - s for c, s in zip(cluster, shared, strict=True)]
    return bool(((cluster >= 0) & (2 * shared >= np.array(either))).any())


def limits() -> None:
    """How far groups must be apart, and how large they must be, to be found."""
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    gaps = (3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0)
    for n_features, colour in zip((2, 8), CLUSTER_COLOURS, strict=False):
        hits = [[finds_two(gap, seed, n_features) for seed in range(6)] for gap in gaps]
        share = np.mean(hits, axis=1)
        left.plot(gaps, share, marker="o", color=colour, label=f"{n_features} dimensions")
        print(n_features, share.round(2).tolist())  # noqa: T201
    left.set(
        xlabel="distance of two equal normal groups [standard deviations]",
        ylabel="share of runs that find two",
        ylim=(-0.05, 1.05),
    )
    sizes = np.array([2, 4, 6, 8, 10, 15, 20, 30])
    for away, colour in zip((8.0, 5.0), CLUSTER_COLOURS, strict=False):
        share = np.mean([satellites_found(away, seed, 15 * sizes) for seed in range(4)], axis=0)
        name = f"{away:.0f} standard deviations away"
        right.plot(sizes, share, marker="o", color=colour, label=name)
        print(away, share.round(2).tolist())  # noqa: T201
    right.set(
        xlabel="centroids of a small group beside a large one",
        ylabel="share of small groups found",
        ylim=(-0.05, 1.05),
    )
    for axes in (left, right):
        axes.grid(visible=True, color="#eceef1")
        axes.legend()
    save(figure, "tree-limits.png")


def finds_two(gap: float, seed: int, n_features: int) -> bool:
    """Return whether two groups are found to be two."""
    cells = Cells.of(two_groups(gap, seed=seed, n_features=n_features), 530)
    return cells.tree().n_clusters == 2


def satellites_found(away: float, seed: int, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return which share of the small groups beside large ones is found, for each size."""
    rng = np.random.default_rng(seed)
    n_small = 2 * len(sizes)
    large = 6.0 * rng.standard_normal((n_small, 10))
    direction = rng.standard_normal((n_small, 10))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middles = np.concatenate([large, large + away * direction])
    images, of = blobs(seed, middles, 1.0, [1_000] * n_small + np.repeat(sizes, 2).tolist())
    cells = Cells.of(images, len(images) // 15)
    tree = cells.tree()
    label = tree.label[cells.nearest[:, 0]]
    found = [is_found(label, of, group) for group in range(n_small, 2 * n_small)]
    return np.reshape(found, (-1, 2)).mean(axis=1)


def page(run: Path) -> None:
    """Show the page of a run in a browser, and keep what one sees."""
    # Only this picture takes a browser.
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1400, "height": 860}, color_scheme="light")
        opened.goto((run.resolve() / "report.html").as_uri())
        opened.wait_for_timeout(500)
        shot = Image.open(io.BytesIO(opened.screenshot())).convert("RGB")
        browser.close()
    shot.quantize(256, dither=Image.Dither.NONE).save(PLACE / "page-demo.png", optimize=True)


def main(words: list[str]) -> int:
    """Draw the pictures."""
    if words[:1] == ["page"]:
        page(Path(words[1]))
        return 0
    with rc_context(STYLE):
        for draw in (valley, joins, thresholds, noise, sure, limits):
            draw()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
