"""Write docs/performance.md: ``python -m benchmarks.performance [--scale tiny|small|full] [--only NAME] [--data DIR]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from distributed import Client, LocalCluster

from benchmarks import stores
from benchmarks.data import SCALES, STORED, Data
from benchmarks.machine import measure_machine
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
from benchmarks.performance.records import Record, machine_table, read_records, write_records

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
    "command-avx2": runs.command_avx2,
}
NAMES = (*PROBLEMS, "run")
#: What the page leaves out, asked for by name: figures for decision 0010, and those of another processor.
BY_NAME = ("libraries", "command-avx2")
#: Longest text beside a bar [letters].
MAX_LETTERS = 96


def measure(data: Data, names: Sequence[str], client: Client | None) -> dict[str, list[Result]]:
    """Solve the problems one after the other, saying which."""
    found = {}
    for name in names:
        progress(f"{name} ...")
        solve = PROBLEMS.get(name) or partial(runs.whole_run, client=client)
        found[name] = list(solve(data))
    return found


def left_out(name: str, *, has_stored: bool) -> list[str]:
    """Return what is not there and belongs to the lines of a problem, with what brings it."""
    absent = [*overcluster.absent(), *(stores.absent() if name == "libraries" else [])]
    missing = [f"{package} (`pip install 'overcluster[peers]'`)" for package in absent]
    return missing + ([] if has_stored else [f"{STORED} (`--data DIR` with `{STORED}.npz`)"])


def results_of(records: Mapping[str, Record]) -> list[Result]:
    """Return the lines of the page."""
    return [result for record in records.values() for result in record.results]


def page(scale: str, records: Mapping[str, Record], picture: Path) -> str:
    """Return docs/performance.md."""
    missing = dict.fromkeys(name for record in records.values() for name in record.left_out)
    absent = f"Not there, so left out: {', '.join(missing)}.\n\n" if missing else ""
    return f"""# Performance

Each line times this package and a peer in turn on the same images, most with one thread; "times faster" above 1 is in our favour. Made by `python -m benchmarks.performance --scale {scale}` (`make bench`), which replaces this page; with `--only PROBLEM` it measures one problem anew and leaves the other lines. How time grows with the number of images is in [sizes.md](sizes.md), what 200 workers add in [scaling.md](scaling.md). Ratios depend on the processor: both sides use what it has.

{machine_table(records)}

![Times faster than each peer]({picture.parent.name}/{picture.name})

{absent}{table(results_of(records))}
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
    parser.add_argument(
        "--output", type=Path, help="page to write; docs/performance.md at full scale"
    )
    parser.add_argument("--data", type=Path, help=f"folder that may hold {STORED}.npz")
    given = parser.parse_args(arguments)
    has_stored = given.data is not None and (given.data / f"{STORED}.npz").is_file()
    if given.data is not None and not has_stored:
        parser.error(f"--data must be a folder with {STORED}.npz; got {given.data}")
    warn_if_busy()
    names = given.only or [name for name in NAMES if name not in BY_NAME]
    machine = measure_machine(Path(tempfile.gettempdir()), is_rough=given.scale == "tiny")
    data, measured = Data(SCALES[given.scale], given.data), {}
    if "run" in names:
        with (
            LocalCluster(threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            # Measured first: the data of the others would only fill the memory beside it.
            measured = measure(data, ["run"], client)
    measured |= measure(data, [n for n in names if n != "run"], None)
    found = {
        name: Record(results, machine.rows, left_out(name, has_stored=has_stored))
        for name, results in measured.items()
    }
    print(f"{machine_table(found)}\n\n{table(results_of(found))}")
    place = given.output or (PAGE if given.scale == "full" else None)
    if place:
        write_page(place, given.scale, found)
    return 0


def write_page(place: Path, scale: str, found: Mapping[str, Record]) -> None:
    """Write records, plot and page; problems that were not measured now stay as they were."""
    noted = place.with_suffix(".json")
    known = read_records(noted, scale) | found
    records = {name: known[name] for name in NAMES if name in known}
    write_records(noted, scale, records)
    picture = place.parent / "img" / f"{place.stem}.png"
    draw_ratios(results_of(records), picture)
    place.write_text(page(scale, records, picture), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
