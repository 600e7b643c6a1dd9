"""The quality page: tables and plots of what was measured, and what was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.measure import machine
from benchmarks.quality_peers import PEERS, absent
from benchmarks.quality_plots import draw_curves
from benchmarks.quality_sets import KNOWN_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.quality_records import Record
    from benchmarks.quality_sets import ImageSet

    Key = dict[str, Any]
    Group = dict[tuple[Any, ...], list[Record]]

#: What stands where there is nothing to measure.
NOTHING = "-"


def page(
    records: Iterable[Record],
    scale: str,
    missing: Mapping[str, int],
    sets: Mapping[str, ImageSet],
    place: Path,
) -> str:
    """Return the page and draw its plots.

    Parameters
    ----------
    records : iterable of Record
        What was measured.
    scale : str
        At which scale.
    missing : mapping of str to int
        Section -> measurements of it that were not made.
    sets : mapping of str to ImageSet
        The sets by name, for what they hold.
    place : Path
        Where the page will lie; plots go to ``img/`` beside it.

    Returns
    -------
    str
        Markdown.
    """  # fmt: skip
    by_section: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_section[record.section].append(record)
    parts = [_head(scale, {r.key["set"] for r in by_section["labelled"]})]
    for name, section in SECTIONS.items():
        body = [f"## {section.title}", section.text]
        if by_section[name]:
            body.append(section.show(by_section[name], sets, place))
        if missing.get(name):
            body.append(f"Not measured yet: {missing[name]} of this section.")
        parts.append("\n\n".join(body))
    return "\n\n".join(parts) + "\n"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that reads as plain text too."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _head(scale: str, present: set[str]) -> str:
    """Return what stands above all sections."""
    left_out = [name for name in KNOWN_FILES if name not in present]
    stored = f" Not given, so left out: {', '.join(left_out)}." if left_out else ""
    return f"""# Quality

Does the package find the clusters that are there, and none where there are none? Made by
`python -m benchmarks.quality --scale {scale}`, which replaces this page and its plots. `--resume` goes on after a stop;
`--data DIR` adds the stored sets of a folder, one in each `.npz` file with `images` and `labels`.{stored}

Everything is computed in memory by one process, with the default settings and the functions that the steps of a run
call; a test holds that the labels are those of `workflow.run`, bit for bit. ARI and AMI are taken over the images that
truly belong to a cluster; those of them that were called noise count as one group more. With several seeds, sets that
are made are made anew for each, and a cell holds the median and, in brackets, the smallest and the largest value.

{machine()}"""


def _labelled(records: Sequence[Record], sets: Mapping[str, ImageSet], _: Path) -> str:
    rows = []
    for (name, n), group in _grouped(records, "set", "n").items():
        rows.append(
            (
                f"{name}: {sets[name].what}" if name in sets else name,
                f"{n:,}",
                _spread(group, "n_true", "d"),
                _spread(group, "n_found", "d"),
                _counted(r.figures["structure"] for r in group),
                _counted(r.figures["method"] for r in group),
                _spread(group, "ari"),
                _spread(group, "ami"),
                _spread(group, "noise_share", ".2f"),
                _spread(group, "noise_recall", ".2f"),
                _spread(group, "noise_precision", ".2f"),
                f"{median(r.figures['seconds'] for r in group):.1f}",
            )
        )
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
        most = max(r.figures["n_found"] for r in group)
        structure = _counted(r.figures["structure"] for r in group)
        what = f"{name}: {sets[name].what}" if name in sets else name
        rows.append((what, *cells, str(most), structure))
    n_one = sum(r.figures["n_found"] == 1 for r in records)
    head = ("set", *(f"{ratio:,} a centroid" for ratio in ratios), "most found", "structure")
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
        rows.append(
            (name, f"{n:,}", *cells, _range(found[0] + found[1], "d"), _range(found[2], "d"))
        )
    return markdown(
        (
            "set",
            "n",
            "two seeds: AMI",
            "share compared",
            "K' and 2 K': AMI",
            "share compared",
            "found",
            "found, 2 K'",
        ),
        rows,
    )


def _noise(records: Sequence[Record], _: Mapping[str, ImageSet], __: Path) -> str:
    rows = [
        (
            name,
            f"{n:,}",
            _spread(group, "n_true", "d"),
            _spread(group, "n_found", "d"),
            _spread(group, "noise_share", ".2f"),
            _spread(group, "noise_precision", ".2f"),
            _spread(group, "noise_recall", ".2f"),
            _spread(group, "ari"),
            _spread(group, "ari_resolved"),
        )
        for (name, n), group in _grouped(records, "set", "n").items()
    ]
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
        limit = f"; at most {peer.n_most:,} images" if peer.n_most else ""
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
        curves: dict[str, dict[float, list[dict[str, Any]]]] = {}
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


@dataclass(frozen=True)
class Section:
    """A section of the page: its title, what is measured, and how that is shown."""

    title: str
    text: str
    show: Callable[[Sequence[Record], Mapping[str, ImageSet], Path], str]


SECTIONS = {
    "labelled": Section(
        title="Labelled sets",
        text="Default settings, from images to labels. `structure` and `method` are what a run says of itself; "
        "seconds are those of one process.",
        show=_labelled,
    ),
    "structureless": Section(
        title="No structure",
        text="Each set is one connected piece. Cells: runs with exactly one cluster, by images per centroid. "
        "`structure` counts what runs said: `none` is right, `untested` says that there were too few images to tell.",
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
        text="What one would take instead, on the same scores. Cells: ARI (clusters found, share called noise, seconds "
        "from scores to labels; what compiles has compiled before, and takes as many threads as it likes).",
        show=_peers,
    ),
    "curves": Section(
        title="Against the number of images and of centroids",
        text="Medians over seeds; bars reach from the smallest to the largest value, pale lines are true numbers.",
        show=_curves,
    ),
}


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
