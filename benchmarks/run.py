"""Run the benchmarks: ``python -m benchmarks.run [--scale tiny|small|full] [--only NAME] [--data DIR]``."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributed import Client, LocalCluster

from benchmarks import overcluster, pca, pipeline, stores, tree
from benchmarks.data import SCALES, STORED, Data
from benchmarks.measure import machine, table, warn_if_busy
from benchmarks.plots import draw_ratios

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from benchmarks.measure import Result

#: Where the table is kept.
PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
#: The plot of `benchmarks.scheduler`, shown on the page too.
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
    "command": pipeline.command,
}
NAMES = (*PROBLEMS, "run")


def measure(data: Data, names: Sequence[str], client: Client | None) -> list[Result]:
    """Solve the problems one after the other, saying which."""
    results: list[Result] = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        solve = PROBLEMS.get(name) or partial(pipeline.whole_run, client=client)
        results += solve(data)
    return results


def page(scale: str, results: Sequence[Result], picture: Path, *, has_stored: bool) -> str:
    """Return docs/performance.md."""
    missing = [f"{name} (`pip install 'overcluster[peers]'`)" for name in overcluster.absent()]
    missing += [f"the codec pipeline `{name}`" for name in stores.absent()]
    missing += [] if has_stored else [f"{STORED} (`--data DIR` with `{STORED}.npz`)"]
    absent = f"Not there, so left out: {', '.join(missing)}.\n\n" if missing else ""
    return (
        "# Performance\n\n"
        "Each line times this package and a peer in turn on the same images, most with one thread; "
        '"times faster" above 1 is in our favour. Made by '
        f"`python -m benchmarks.run --scale {scale}` (`make bench`), which replaces this page; "
        "how time grows with the number of images is in [sizes.md](sizes.md), what 200 workers "
        "add in [scaling.md](scaling.md).\n\n"
        f"![Times faster than each peer]({picture.parent.name}/{picture.name})\n\n"
        f"{machine()}\n\n{absent}{table(results)}\n{_many_workers(picture.parent)}"
    )


def _many_workers(pictures: Path) -> str:
    """Return the plot of many workers, where it has been made."""
    if not (pictures / SCALING).is_file():
        return ""
    return (
        "\n## Many workers\n\nWhat is lost on up to 200 workers, for 20,000 blocks in the first case; "
        "how it is measured, and what 10^9 images would take, is in [scaling.md](scaling.md).\n\n"
        f"![Time lost against seconds a block and against workers]({pictures.name}/{SCALING})\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and write it to the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--scale", choices=tuple(SCALES), default="small")
    parser.add_argument("--only", choices=NAMES, action="append", help="one problem; repeatable")
    parser.add_argument("--output", type=Path, help="page to write; docs/performance.md for all")
    parser.add_argument("--data", type=Path, help=f"folder that may hold {STORED}.npz")
    asked = parser.parse_args(arguments)
    has_stored = asked.data is not None and (asked.data / f"{STORED}.npz").is_file()
    if asked.data is not None and not has_stored:
        parser.error(f"--data must be a folder with {STORED}.npz; got {asked.data}")
    warn_if_busy()
    names = asked.only or NAMES
    data = Data(SCALES[asked.scale], asked.data)
    if "run" in names:
        with (
            LocalCluster(threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            # Measured first: the data of the others would only fill the memory beside it.
            results = measure(data, ["run"], client)
        results = measure(data, [n for n in names if n != "run"], None) + results
    else:
        results = measure(data, names, None)
    text = table(results)
    print(text)
    if missing := overcluster.absent() + stores.absent():
        print(f"not installed, so left out: {', '.join(missing)}")
    # A few problems only must not replace the table of all.
    place = asked.output or (None if asked.only else PAGE)
    if place:
        picture = place.parent / "img" / f"{place.stem}.png"
        draw_ratios(results, picture)
        text = page(asked.scale, results, picture, has_stored=has_stored)
        place.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
