"""The page on quality: tables and plots of what was measured, and what was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.machine import Machine
from benchmarks.pages import COLOURS, markdown, new_figure, save, tidy
from benchmarks.quality.peers import PEERS, absent
from benchmarks.quality.records import Record
from benchmarks.quality.sets import KNOWN_FILES, ImageSet

Group = dict[tuple[Any, ...], list[Record]]
#: Of a set, the figures of all seeds at each place on the axis.
Curve = dict[float, list[dict[str, Any]]]

#: What stands where there is nothing to measure.
NOTHING = "-"


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
`--data DIR` adds the stored sets of a folder, one in each `.npz` file with `images` and `labels`.{stored}

{machine.table}

Everything is computed in memory by one process, with the default settings and the functions that the steps of a run
call; a test checks that the labels are those of `workflow.run`, bit for bit. The table above is of the machine that wrote this page last; with `--resume` earlier results stay. ARI and AMI are taken over the images that
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
            _set_name(name, sets), f"{n:,}",
            _spread(group, "n_true", "d"), _spread(group, "n_found", "d"),
            _counted(r.figures["structure"] for r in group), _counted(r.figures["method"] for r in group),
            _spread(group, "ari"), _spread(group, "ami"),
            *(_spread(group, f"noise_{figure}", ".2f") for figure in ("share", "recall", "precision")),
            f"{median(r.figures['seconds'] for r in group):.1f}",
        )
        for (name, n), group in _grouped(records, "set", "n").items()
    ]  # fmt: skip
    head = ("set", "n", "true", "found", "structure", "method", "ARI", "AMI")
    return markdown((*head, "noise: share", "recall", "precision", "s"), rows)


def _structureless(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    ratios = sorted({r.key["ratio"] for r in records})
    rows = []
    for (name,), group in _grouped(records, "set").items():
        by_ratio = _grouped(group, "ratio")
        cells = []
        for ratio in ratios:
            runs = by_ratio.get((ratio,), [])
            n_one = sum(r.figures["n_found"] == 1 for r in runs)
            cells.append(f"{n_one} of {len(runs)}" if runs else NOTHING)
        maximum = max(r.figures["n_found"] for r in group)
        structure = _counted(r.figures["structure"] for r in group)
        rows.append((_set_name(name, sets), *cells, str(maximum), structure))
    n_one = sum(r.figures["n_found"] == 1 for r in records)
    head = ("set", *(f"{ratio:,} a centroid" for ratio in ratios), "maximum found", "structure")
    return markdown(head, rows) + f"\n\nExactly one cluster in {n_one} of {len(records)} runs."


def _stability(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    rows = []
    for (name, n), group in _grouped(records, "set", "n").items():
        cells = []
        for change in ("seeds", "centroids"):
            cells += [
                _range([r.figures[change][figure] for r in group], form)
                for figure, form in (("ami", ".3f"), ("share", ".2f"))
            ]
        # The first and the second labelling have as many centroids, the third twice as many.
        found = [[r.figures["n_found"][i] for r in group] for i in range(3)]
        cells += [_range(found[0] + found[1], "d"), _range(found[2], "d")]
        rows.append((name, f"{n:,}", *cells))
    share = "share compared"
    head = ("set", "n", "two seeds: AMI", share, "K' and 2 K': AMI", share, "found", "found, 2 K'")
    return markdown(head, rows)


def _noise(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    rows = [
        (
            name, f"{n:,}", _spread(group, "n_true", "d"), _spread(group, "n_found", "d"),
            *(_spread(group, f"noise_{figure}", ".2f") for figure in ("share", "precision", "recall")),
            _spread(group, "ari"), _spread(group, "ari_resolved"),
        )
        for (name, n), group in _grouped(records, "set", "n").items()
    ]  # fmt: skip
    head = ("set", "n", "true", "found", "called noise", "precision", "recall", "ARI of `label`")
    return markdown((*head, "ARI of `label_resolved`"), rows)


def _peers(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    versions = {r.key["method"]: r.figures["versions"] for r in records}
    methods = [name for name in PEERS if name in versions]
    rows = []
    for (name, n), group in _grouped(records, "set", "n").items():
        by_method = {r.key["method"]: r.figures for r in group}
        true = next((f["n_true"] for f in by_method.values() if "n_true" in f), NOTHING)
        cells = [_peer_cell(by_method[m]) if m in by_method else NOTHING for m in methods]
        rows.append((f"{name} ({n:,}, {true})", *cells))
    lines = []
    for name in methods:
        peer = PEERS[name]
        limit = f"; at most {peer.max_images:,} images" if peer.max_images else ""
        made = "; centroids not timed" if peer.on_centroids else ""
        used = f" ({versions[name]})" if versions[name] else ""
        lines.append(f"* {name}: {peer.what}{made}{limit}{used}")
    left_out = [f"Not installed, so left out: {', '.join(absent())}."] if absent() else []
    table = markdown(("set (n, true)", *methods), rows)
    return "\n\n".join([table, "\n".join(lines), *left_out])


def _peer_cell(figures: Mapping[str, Any]) -> str:
    """Return ARI, clusters, noise and seconds of a method, or why there are none."""
    if "error" in figures:
        first_line = figures["error"].splitlines()[0][:100].replace("|", "/")
        return f"failed: {first_line}"
    noise = f", {figures['noise_share']:.0%} noise" if figures["noise_share"] >= 0.005 else ""
    return f"{figures['ari']:.3f} ({figures['n_found']}{noise}, {figures['seconds']:.2g} s)"


def _curves(records: Sequence[Record], _: Mapping[str, ImageSet], place: Path) -> str:
    by_axis = _grouped(records, "axis")
    shown = []
    for (axis,), group in by_axis.items():
        curves: dict[str, Curve] = {}
        for (name, x), seeds in _grouped(group, "set", axis).items():
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
        "seconds are those of one process.",
        show=_labelled,
    ),
    "structureless": Section(
        title="No structure",
        text="Each set is connected. Cells: runs with exactly one cluster, by images per centroid. "
        "`structure` counts the answers: `none` is right, `untested` says that there were too few images to tell.",
        show=_structureless,
    ),
    "stability": Section(
        title="Stability",
        text="The same images clustered with two seeds, and with K' (the default) and 2 K' centroids: AMI over the "
        "images that neither run calls noise, and their share.",
        show=_stability,
    ),
    "noise": Section(
        title="Noise",
        text="Blobs in uniform noise of the share that the name says. Precision: of the images called noise, how many "
        "are. Recall: of the noise, how much is called so.",
        show=_noise,
    ),
    "peers": Section(
        title="Peers",
        text="Other methods on the same scores. Cells: ARI (clusters found, share called noise, seconds "
        "from scores to labels; compiled before, with as many threads as it takes).",
        show=_peers,
    ),
    "curves": Section(
        title="Against the number of images and of centroids",
        text="Medians over seeds; bars reach from the smallest to the largest value, pale lines are true numbers.",
        show=_curves,
    ),
}


def _set_name(name: str, sets: Mapping[str, ImageSet]) -> str:
    """Return a set with what it holds."""
    return f"{name}: {sets[name].what}" if name in sets else name


def _grouped(records: Iterable[Record], *names: str) -> Group:
    """Group records by values of their keys, in the order in which they come."""
    groups: Group = {}
    for record in records:
        groups.setdefault(tuple(record.key[name] for name in names), []).append(record)
    return groups


def _counted(words: Iterable[str]) -> str:
    """Return words with how often each came, where they differ."""
    counts = Counter(words)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{word} {n}" for word, n in counts.most_common())


def _spread(group: Sequence[Record], figure: str, form: str = ".3f") -> str:
    """Return the median of a figure over seeds, and its range where there is one."""
    return _range([r.figures[figure] for r in group], form)


def _range(values: Sequence[float | None], form: str) -> str:
    """Return the median of numbers, and their range where they differ."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return NOTHING
    # A number of clusters is one that was found, not the mean of two.
    middle = known[(len(known) - 1) // 2] if form == "d" else median(known)
    low, mid, high = (format(value, form) for value in (known[0], middle, known[-1]))
    return mid if low == high else f"{mid} ({low} to {high})"
