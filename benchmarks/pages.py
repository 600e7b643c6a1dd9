"""What the pages of measurements share: where they are, their tables, their plots, and lines of progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

#: Folder of the pages; their plots are in ``img/``.
DOCS = Path(__file__).resolve().parent.parent / "docs"
#: Colours that the colour-blind can tell apart, of the grid, and of what is written.
BLUE, ORANGE, GREEN, PURPLE = COLOURS = ("#2f66c4", "#d9731c", "#2b8a5a", "#8a4fb5")
RED, GREY, GRID, INK = "#c2452d", "#7f93b2", "#dadee5", "#1b1f27"
#: Load for each core above which times are not to be trusted.
BUSY = 0.3


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table that reads as plain text too."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def new_figure(width: float = 9.0, height: float = 3.4) -> Figure:
    """Return an empty figure of a page; sizes in inches."""
    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def tidy(axes: Axes, *, grid: bool = True) -> None:
    """Give axes the look of all pages."""
    if grid:
        axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


def save(figure: Figure, place: Path) -> None:
    """Write a figure as PNG."""
    place.parent.mkdir(parents=True, exist_ok=True)
    # The version of matplotlib would change a picture that is the same.
    figure.savefig(place, metadata={"Software": None})


def progress(text: str) -> None:
    """Write a line to stderr, for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def warn_if_busy() -> None:
    """Say so when something else computes on the machine."""
    load = os.getloadavg()[0]
    if load > BUSY * (os.cpu_count() or 1):
        progress(f"the machine is busy (load {load:.1f}): times will be too long, ratios uncertain")
