"""Write docs/performance.md: ``python -m benchmarks.performance [--scale tiny|small|full] [--only NAME] [--data DIR]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from distributed import Client, LocalCluster

from benchmarks import stores
from benchmarks.data import SCALES, STORED, Data
from benchmarks.machine import Machine, measure_machine
from benchmarks.measure import Result, table
from benchmarks.pages import (
    DOCS,
    GREEN,
    GREY,
    INK,
    RED,
    new_figure,
    progress,
    save,
    tidy,
    warn_if_busy,
)
from benchmarks.performance import overcluster, pca, runs, tree

PAGE = DOCS / "performance.md"
#: The plot of `benchmarks.scaling`, shown on the page too.
SCALING = "scaling.png"
#: The problems that need no workers.
PROBLEMS: dict[str, Callable[[Data], Iterator[Result]]] = {
    "moments": pca.moments,
    "components": pca.components,
    "nearest": overcluster.nearest,
    "fitting": overcluster.fitting,
    "tree": tree.tree,
    "stores": stores.stores,
    "libraries": stores.libraries,
    "command": runs.command,
}
NAMES = (*PROBLEMS, "run")
#: What the page leaves out: figures for decision 0010, asked for by name.
BY_NAME = ("libraries",)
#: Longest text beside a bar [letters].
MAX_LETTERS = 96


def measure(data: Data, names: Sequence[str], client: Client | None) -> list[Result]:
    """Solve the problems one after the other, saying which."""
    results: list[Result] = []
    for name in names:
        progress(f"{name} ...")
        solve = PROBLEMS.get(name) or partial(runs.whole_run, client=client)
        results += solve(data)
    return results


def page(
    scale: str, machine: Machine, results: Sequence[Result], picture: Path, *, has_stored: bool
) -> str:
    """Return docs/performance.md."""
    missing = [f"{name} (`pip install 'overcluster[peers]'`)" for name in overcluster.absent()]
    missing += [] if has_stored else [f"{STORED} (`--data DIR` with `{STORED}.npz`)"]
    absent = f"Not there, so left out: {', '.join(missing)}.\n\n" if missing else ""
    return f"""# Performance

Each line times this package and a peer in turn on the same images, most with one thread; "times faster" above 1 is in our favour. Made by `python -m benchmarks.performance --scale {scale}` (`make bench`), which replaces this page; how time grows with the number of images is in [sizes.md](sizes.md), what 200 workers add in [scaling.md](scaling.md). Ratios depend on the processor: both sides use what it has.

{machine.table}

![Times faster than each peer]({picture.parent.name}/{picture.name})

{absent}{table(results)}
{_many_workers(picture.parent)}"""


def _many_workers(pictures: Path) -> str:
    """Return the plot of many workers, where it has been made."""
    if not (pictures / SCALING).is_file():
        return ""
    return f"""
## Many workers

What is lost on up to 200 workers, for 20,000 blocks in the first case; how it is measured, and what 10^9 images would take, is in [scaling.md](scaling.md).

![Time lost against seconds a block and against workers]({pictures.name}/{SCALING})
"""


def draw_ratios(results: Sequence[Result], place: Path) -> None:
    """Draw a bar for each comparison, on a logarithmic axis; a line marks what was wanted."""
    figure = new_figure(11.0, 0.9 + 0.34 * len(results))
    axes = figure.add_subplot()
    for row, result in enumerate(results):
        colour = GREY
        if result.wanted is not None:
            colour = GREEN if result.ratio >= result.wanted else RED
            axes.plot([result.wanted] * 2, [row - 0.45, row + 0.45], color=INK, linewidth=2)
        axes.barh(row, result.ratio - 1, left=1, height=0.6, color=colour)
        axes.annotate(
            f"{result.ratio:.{0 if result.ratio >= 10 else 2}f}", (max(result.ratio, 1), row), (4, 0),
            textcoords="offset points", va="center", fontsize=9,
        )  # fmt: skip
    names = [f"{r.problem} | {r.peer}" for r in results]
    shown = [n if len(n) <= MAX_LETTERS else f"{n[: MAX_LETTERS - 3]}..." for n in names]
    axes.set_yticks(range(len(results)), shown, fontsize=8)
    axes.set_ylim(len(results) - 0.4, -0.6)
    axes.set_xscale("log")
    axes.set_xlim(min(0.5, *(0.8 * r.ratio for r in results)), 2 * max(r.ratio for r in results))
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xlabel("times faster than the peer (line: wanted)")
    tidy(axes, grid=False)
    save(figure, place)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it to the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--only", choices=NAMES, action="append", help="one problem; repeatable")
    parser.add_argument("--output", type=Path, help="page to write; docs/performance.md for all")
    parser.add_argument("--data", type=Path, help=f"folder that may hold {STORED}.npz")
    given = parser.parse_args(arguments)
    has_stored = given.data is not None and (given.data / f"{STORED}.npz").is_file()
    if given.data is not None and not has_stored:
        parser.error(f"--data must be a folder with {STORED}.npz; got {given.data}")
    warn_if_busy()
    names = given.only or [name for name in NAMES if name not in BY_NAME]
    machine = measure_machine(Path(tempfile.gettempdir()), is_rough=given.scale == "tiny")
    data, results = Data(SCALES[given.scale], given.data), []
    if "run" in names:
        with (
            LocalCluster(threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            # Measured first: the data of the others would only fill the memory beside it.
            results = measure(data, ["run"], client)
    results = measure(data, [n for n in names if n != "run"], None) + results
    print(f"{machine.table}\n\n{table(results)}")
    missing = overcluster.absent() + (stores.absent() if "libraries" in names else [])
    if missing:
        print(f"not installed, so left out: {', '.join(missing)}")
    # A few problems only must not replace the table of all.
    place = given.output or (None if given.only else PAGE)
    if place:
        picture = place.parent / "img" / f"{place.stem}.png"
        draw_ratios(results, picture)
        text = page(given.scale, machine, results, picture, has_stored=has_stored)
        place.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
