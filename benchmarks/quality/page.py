"""The page on quality: tables and plots of what was measured, and what was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.machine import Machine
from benchmarks.pages import COLOURS, markdown, new_figure, save, tidy
from benchmarks.quality.comparison import metrics_table, peers_tables
from benchmarks.quality.records import Record
from benchmarks.quality.sets import KNOWN_FILES, ImageSet
from benchmarks.quality.tables import (
    NOTHING,
    counted,
    from_to,
    grouped,
    lowest,
    set_name,
    spread,
    spread_of,
)

#: Of a set, the figures of all seeds at each place on the axis.
Curve = dict[float, list[dict[str, Any]]]

#: Share of the images of a structureless set that may be in families.
MAX_RELATED = 0.01


def page(
    records: Iterable[Record],
    machine: Machine,
    scale: str,
    missing: Mapping[str, int],
    sets: Mapping[str, ImageSet],
    place: Path,
) -> str:
    """Return the page as Markdown; draw its plots into ``img/`` beside the place where it will lie.

    `missing` counts, for each section, the measurements that were not made.
    """
    by_section: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_section[record.section].append(record)
    present = {record.key["set"] for record in by_section["labelled"]}
    left_out = [name for name in KNOWN_FILES if name not in present]
    stored = f" Not given, so left out: {', '.join(left_out)}." if left_out else ""
    head = f"""# Quality

Does the package find the clusters that are there, and none where there are none? Made by
`python -m benchmarks.quality --scale {scale}` (`make quality`), which replaces this page and its plots. `--resume` goes on after a stop;
`--data DIR` adds the stored sets of a folder, one in each `.npz` file with `images` and `labels`.{stored} Peers come with `pip install 'overcluster[peers]'`.

{machine.table}

Everything is computed in memory by one process, with the default settings and the functions that the steps of a run
call; a test checks that the labels are those of `workflow.run`, bit for bit. The table above is of the machine that wrote this page last; with `--resume` earlier results stay. Seconds are
those of one processor, so that other work on the machine does not count. ARI and AMI are taken over the images that
truly belong to a cluster; those of them that were called noise count as one group more. With several seeds, sets that
are made are made anew for each, and a cell holds the median and, in brackets, the smallest and the largest value."""
    parts = [head]
    for name, section in SECTIONS.items():
        body = [f"## {section.title}", section.text]
        if by_section[name]:
            body.append(section.show(by_section[name], sets, place))
        if missing.get(name):
            body.append(f"Not measured yet: {missing[name]} of this section.")
        parts.append("\n\n".join(body))
    return "\n\n".join(parts) + "\n"


def _labelled(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    rows = [
        (
            set_name(name, sets), f"{n:,}",
            spread(group, "n_true", "d"), spread(group, "n_found", "d"),
            counted(r.figures["structure"] for r in group), counted(r.figures["method"] for r in group),
            spread(group, "ari"), spread(group, "ami"),
            *(spread(group, f"noise_{figure}", ".2f") for figure in ("share", "recall", "precision")),
            f"{median(r.figures['seconds'] for r in group):.1f}",
        )
        for (name, n), group in grouped(records, "set", "n").items()
    ]  # fmt: skip
    head = ("set", "n", "true", "found", "structure", "method", "ARI", "AMI")
    return markdown((*head, "noise: share", "recall", "precision", "s"), rows)


def _families(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    rows = []
    for (name, n), group in grouped(records, "set", "n").items():
        lone = [r.figures["noise_recall"] for r in group]
        rows.append(
            (
                set_name(name, sets), f"{n:,}", spread(group, "n_true", "d"),
                spread(group, "n_found", "d"), spread(group, "kept", ".2f"),
                spread_of([None if share is None else 1 - share for share in lone], ".2f"),
                spread(group, "purity", ".2f"), spread(group, "ari_kept"),
                f"{median(r.figures['seconds'] for r in group):.1f}",
            )
        )  # fmt: skip
    head = (
        "set",
        "n",
        "true groups",
        "families",
        "images of a group in one",
        "other images in one",
    )
    return markdown((*head, "purity", "ARI", "s"), rows)


def _structureless(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    ratios = sorted({r.key["ratio"] for r in records})
    rows = []
    for (name,), group in grouped(records, "set").items():
        by_ratio = grouped(group, "ratio")
        cells = []
        for ratio in ratios:
            runs = by_ratio.get((ratio,), [])
            n_one = sum(r.figures["n_found"] == 1 for r in runs)
            cells.append(f"{n_one} of {len(runs)}" if runs else NOTHING)
        maximum = max(r.figures["n_found"] for r in group)
        structure = counted(r.figures["structure"] for r in group)
        related = max(share for r in group if (share := r.figures["family_share"]) is not None)
        rows.append((set_name(name, sets), *cells, str(maximum), structure, f"{related:.2%}"))
    n_one = sum(r.figures["n_found"] == 1 for r in records)
    head = ("set", *(f"{ratio:,} a centroid" for ratio in ratios), "maximum found", "structure")
    shares = [s for r in records if (s := r.figures["family_share"]) is not None]
    n_few = sum(share <= MAX_RELATED for share in shares)
    return (
        markdown((*head, "in families"), rows)
        + f"\n\nExactly one cluster in {n_one} of {len(records)} runs; at most {MAX_RELATED:.0%} of the images in "
        f"families in {n_few} of {len(shares)}."
    )


def _stability(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    changes = ("rounding", "seeds", "centroids")
    rows = []
    for record in records:
        every = [record.figures[change] for change in changes]
        rows.append(
            (
                record.key["set"], f"{record.key['n']:,}",
                *(from_to(one["n_found"], "d") for one in every),
                *(from_to(one["ari"], ".3f") for one in every),
                *(lowest(one["ami"]) for one in every),
            )
        )  # fmt: skip
    words = ("rounding", "seeds", "2 K'")
    head = [f"{figure}: {words[0]}" for figure in ("found", "ARI", "AMI")]
    titles = [name for first in head for name in (first, *words[1:])]
    return markdown(("set", "n", *titles), rows)


def _intervals(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    every = [r.figures for r in records]
    width = sorted((f["high"] - f["low"]) / f["n_true"] for f in every)
    figures = {
        "sets": len(every),
        "the interval holds the number": sum(f["low"] <= f["n_true"] <= f["high"] for f in every),
        "it lies above the number": sum(f["low"] > f["n_true"] for f in every),
        "it lies below the number": sum(f["high"] < f["n_true"] for f in every),
        "clusters found are the number": sum(f["n_found"] == f["n_true"] for f in every),
        "width, parts of the number: median": f"{median(width):.2f}",
        "nine of ten at most": f"{width[(9 * len(width) - 1) // 10]:.2f}",
    }
    return markdown([*figures], [[str(value) for value in figures.values()]])


def _noise(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    rows = [
        (
            name, f"{n:,}", spread(group, "n_true", "d"), spread(group, "n_found", "d"),
            *(spread(group, f"noise_{figure}", ".2f") for figure in ("share", "precision", "recall")),
            spread(group, "ari"), spread(group, "ari_resolved"),
        )
        for (name, n), group in grouped(records, "set", "n").items()
    ]  # fmt: skip
    head = ("set", "n", "true", "found", "called noise", "precision", "recall", "ARI of `label`")
    return markdown((*head, "ARI of `label_resolved`"), rows)


def _curves(records: Sequence[Record], _: Mapping[str, ImageSet], place: Path) -> str:
    by_axis = grouped(records, "axis")
    shown = []
    for (axis,), group in by_axis.items():
        curves: dict[str, Curve] = {}
        for (name, x), seeds in grouped(group, "set", axis).items():
            curves.setdefault(name, {})[x] = [r.figures for r in seeds]
        label = "images (centroids by the default rule)"
        if axis == "n_centroids":
            fixed = sorted({r.key["n"] for r in group})
            label = f"centroids of {' and '.join(f'{n:,}' for n in fixed)} images"
        file = f"img/quality-{axis.replace('_', '-')}.png"
        draw_curves(curves, label, place.parent / file)
        shown.append(f"![ARI and number of clusters against {label}]({file})")
    return "\n\n".join(shown)


def draw_curves(curves: Mapping[str, Curve], axis_label: str, place: Path) -> None:
    """Draw ARI and clusters found against one number, a line for each set.

    Lines are medians over seeds, bars reach from the smallest to the largest value.
    """
    figure = new_figure()
    quality, count = figure.subplots(1, 2)
    for index, (name, curve) in enumerate(curves.items()):
        style = {"color": COLOURS[index % 4], "marker": "osD^"[index % 4]}
        places = sorted(curve)
        for axes, figures in ((quality, "ari"), (count, "n_found")):
            values = [[one[figures] for one in curve[x]] for x in places]
            middle = [median(seeds) for seeds in values]
            below = [m - min(seeds) for m, seeds in zip(middle, values, strict=True)]
            above = [max(seeds) - m for m, seeds in zip(middle, values, strict=True)]
            axes.errorbar(
                places, middle, yerr=[below, above], label=name, capsize=2.5, markersize=5,
                linewidth=1.6, **style,
            )  # fmt: skip
        true = [median(one["n_true"] for one in curve[x]) for x in places]
        # Wide and pale, to be seen under a line that it agrees with.
        count.plot(places, true, color=style["color"], linewidth=7, alpha=0.25)
    quality.set(ylabel="ARI", ylim=(-0.03, 1.03))
    count.set(ylabel="clusters found (pale: true)", ylim=(0, 1.04 * count.get_ylim()[1]))
    count.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ticks = _apart(sorted({x for curve in curves.values() for x in curve}))
    for axes in (quality, count):
        axes.set(xscale="log", xlabel=axis_label)
        axes.set_xticks(ticks)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.minorticks_off()
        tidy(axes)
    quality.legend(frameon=False, loc="best")
    save(figure, place)


def _apart(ticks: Sequence[float]) -> list[float]:
    """Return ticks whose numbers do not run into each other on a logarithmic axis."""
    shown: list[float] = []
    span = ticks[-1] / ticks[0]
    for tick in ticks:
        # Nine numbers at most fit side by side.
        if not shown or tick >= shown[-1] * span ** (1 / 9):
            shown.append(tick)
    return shown


@dataclass(frozen=True)
class Section:
    """A section of the page: its title, what is measured, and how that is shown."""

    title: str
    text: str
    show: Callable[[Sequence[Record], Mapping[str, ImageSet], Path], str]


SECTIONS = {
    "labelled": Section(
        title="Labelled sets",
        text="Default settings, from images to labels. `structure` and `method` are those of the summary of a run; "
        "`s` is seconds. The clusters (`label`) are compared with the truth; where that is the "
        "source of each image (tracks, crawlfamilies), the section on families tells more.",
        show=_labelled,
    ),
    "families": Section(
        title="Families",
        text="[Families](families.md) of the same images. A true group is a source in tracks and crawlfamilies, and a "
        "cluster, which holds many families, in the other sets. Purity: of the images in families, the share that "
        "belong to the most frequent true group of their family. ARI: over images of a true group that are in a family.",
        show=_families,
    ),
    "structureless": Section(
        title="No structure",
        text="Each set is connected. Cells: runs with exactly one cluster, by images per centroid. "
        "`structure` counts the answers: `none` is right, `untested` says that there were too few images to tell. "
        "The last column is the largest share of images in families.",
        show=_structureless,
    ),
    "stability": Section(
        title="Stability",
        text="The same images clustered again: with scores moved by 1e-6 of their standard deviation, with other seeds, "
        "and with 2 K' centroids instead of K' (the default). Clusters found, ARI to the truth, and AMI of all pairs of "
        "runs (of K' and 2 K': one of each) over the images that neither calls noise: the smallest, and the median.",
        show=_stability,
    ),
    "intervals": Section(
        title="The interval for the number of clusters",
        text="Made sets of 5 to 60 clusters in 2 to 30 dimensions: around points, lines and arcs, of unequal widths and "
        "sizes, the nearest 3.8 to 7 standard deviations apart. `n_clusters_interval` should hold the number in 90 of 100.",
        show=_intervals,
    ),
    "noise": Section(
        title="Noise",
        text="Blobs in uniform noise of the share that the name says. Precision: of the images called noise, how many "
        "are. Recall: of the noise, how much is called so.",
        show=_noise,
    ),
    "peers": Section(
        title="Peers",
        text="Other methods on the same scores, one run each. Rows of families compare `family` with the finest groups "
        "that a method tells; the others compare `label` with what it returns by default. Seconds are those of one "
        "processor from scores to labels, compiled before. `-`: not told, or too many images (see the list below).",
        show=peers_tables,
    ),
    "metrics": Section(
        title="Metrics",
        text="Distances of the scores as they are, with `pca.whiten`, and with `projection.metric: within` "
        "([0034](decisions/0034-metric-within.md)). Cells: ARI with noise as one group, ARI without noise (share left "
        "out); found. At most 100,000 images.",
        show=metrics_table,
    ),
    "curves": Section(
        title="Against the number of images and of centroids",
        text="Medians over seeds; bars reach from the smallest to the largest value, pale lines are true numbers.",
        show=_curves,
    ),
}
