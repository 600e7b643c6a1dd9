"""The plot of the performance page: how many times faster, and how many were wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.measure import Result

#: Colours of bars that reach what was wanted, of those that do not, and of those without such a mark.
REACHED, MISSED, TOLD = "#2b8a5a", "#c2452d", "#7f93b2"
#: Inches of a bar, and of what is around them; dots per inch.
BAR, AROUND, RESOLUTION = 0.34, 0.9, 110
#: Longest words beside a bar.
MOST_WORDS = 96


def draw_ratios(results: Sequence[Result], place: Path) -> None:
    """Draw a bar for each comparison on a logarithmic axis; a line marks what was wanted.

    Parameters
    ----------
    results : sequence of Result
        Comparisons, drawn from top to bottom.
    place : Path
        PNG file to write.
    """
    height = AROUND + BAR * len(results)
    figure = Figure(figsize=(11.0, height), dpi=RESOLUTION, layout="constrained")
    axes = figure.add_subplot()
    for row, result in enumerate(results):
        colour = TOLD
        if result.wanted is not None:
            colour = REACHED if result.ratio >= result.wanted else MISSED
            axes.plot([result.wanted] * 2, [row - 0.45, row + 0.45], color="#1b1f27", linewidth=2)
        axes.barh(row, result.ratio - 1, left=1, height=0.6, color=colour)
        axes.annotate(
            f"{result.ratio:.{0 if result.ratio >= 10 else 2}f}", (max(result.ratio, 1), row), (4, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    words = [f"{r.problem} | {r.peer}" for r in results]
    shown = [w if len(w) <= MOST_WORDS else f"{w[: MOST_WORDS - 3]}..." for w in words]
    axes.set_yticks(range(len(results)), shown, fontsize=8)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *(0.8 * r.ratio for r in results)), 2 * max(r.ratio for r in results))
    axes.axvline(1, color="#1b1f27", linewidth=0.8)
    axes.set_xlabel("times faster than the peer (line: wanted)")
    axes.spines[["top", "right"]].set_visible(False)
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place)
