"""The plot of the scaling page: what is lost against the time a block takes, and against workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.scheduler_run import Timing

#: Colours that the colour-blind can tell apart.
BLUE, ORANGE = "#2f66c4", "#d9731c"
#: Size of a picture [inch] and its resolution [dots per inch].
SIZE, RESOLUTION = (9.0, 3.4), 110
GRID, INK = "#dadee5", "#1b1f27"


def draw_scaling(by_time: Sequence[Timing], by_workers: Sequence[Timing], place: Path) -> None:
    """Draw what scheduler and client cost, and what partitions that share out unevenly cost.

    Parameters
    ----------
    by_time : sequence of Timing
        Steps that differ in the time a block takes.
    by_workers : sequence of Timing
        Steps that differ in workers, with as many blocks for each.
    place : Path
        PNG file to write.
    """
    figure = Figure(figsize=SIZE, dpi=RESOLUTION, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, timings, axis, label in (
        (left, by_time, "block_s", "seconds a block"),
        (right, by_workers, "n_workers", "workers"),
    ):
        ordered = sorted(timings, key=lambda t: getattr(t.plan, axis))
        places = [getattr(t.plan, axis) for t in ordered]
        axes.plot(
            places,
            [100 * t.overhead for t in ordered],
            "o-",
            color=BLUE,
            linewidth=1.6,
            markersize=5,
            label="scheduler and client",
        )
        axes.plot(
            places,
            [100 * t.tail for t in ordered],
            "s--",
            color=ORANGE,
            linewidth=1.6,
            markersize=5,
            label="partitions that share out unevenly",
        )
        # Near zero a logarithm would blow up the noise of the clock.
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(bottom=min(0, *(100 * t.overhead for t in ordered)))
        axes.set(xscale="log", xlabel=label, ylabel="lost, % of the ideal time")
        axes.set_xticks(places)
        for formatted in (axes.xaxis, axes.yaxis):
            formatted.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            formatted.set_minor_formatter(NullFormatter())
        axes.grid(visible=True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    left.set_title(f"{by_time[0].plan.n_workers} workers", fontsize=10)
    right.set_title(f"{by_workers[0].plan.block_s:g} s a block", fontsize=10)
    left.legend(frameon=False, loc="best")
    place.parent.mkdir(parents=True, exist_ok=True)
    # The version of matplotlib would change a picture that is the same.
    figure.savefig(place, metadata={"Software": None})
