"""Write docs/sizes.md, the cost of an image as images become more: ``python -m benchmarks.sizes [--images N,N,...]``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data import N_COMPONENTS
from benchmarks.machine import NOT_RECORDED, measure_machine
from benchmarks.pages import DOCS, GREY, markdown, new_figure, progress, save, tidy, warn_if_busy

PAGE = DOCS / "sizes.md"
N_IMAGES, N_CENTROIDS = "480000,4800000,48000000", 16_384
#: Images below which a rough look at the machine is enough.
MIN_IMAGES = 100_000
#: Steps and their colours; `ingest`, which makes the images, is not drawn.
COLOURS = {
    "ingest": "", "pca": "#2f66c4", "projection": "#5b8fd9", "neighbors": "#b89a1f",
    "families": "#c4487a", "overcluster": "#d9731c", "centroid_graph": "#e6a86b",
    "map": "#6fb7a6", "tree": "#2b8a5a", "labels": "#8a4fb5", "report": GREY,
}  # fmt: skip
STEPS = tuple(COLOURS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo with each number of images, one after the other, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__)
    parser.add_argument("--images", default=N_IMAGES, help="numbers of images, with commas between")
    parser.add_argument("--centroids", type=int, default=N_CENTROIDS)
    parser.add_argument(
        "--place", type=Path, default=Path("sizes-runs"), help="folder for the runs"
    )
    parser.add_argument("--keep", action="store_true", help="keep each run folder")
    parser.add_argument("--output", type=Path, default=PAGE, help="page to write")
    given = parser.parse_args(arguments)
    warn_if_busy()
    records = [
        measure(int(n), given.centroids, given.place, keep=given.keep)
        for n in given.images.split(",")
    ]
    picture = given.output.parent / "img" / f"{given.output.stem}.png"
    draw(records, picture)
    given.output.write_text(page(records, picture), encoding="utf-8")
    return 0


def measure(n_images: int, n_centroids: int, place: Path, *, keep: bool) -> dict[str, Any]:
    """Run the demo; what was measured before with the same numbers is not measured again."""
    noted = place / f"{n_images}-{n_centroids}.json"
    if noted.is_file():
        progress(f"{n_images:,} images: as noted in {noted}; remove it to measure anew")
    else:
        place.mkdir(parents=True, exist_ok=True)
        machine = measure_machine(place, is_rough=n_images < MIN_IMAGES)
        out = noted.with_suffix("")
        words = [sys.executable, "-m", "workflow", "demo", "--images", str(n_images), "--json"]
        words += ["--out", str(out), "--set", f"pca.n_components={N_COMPONENTS}"]
        words += ["--set", f"overcluster.n_centroids={n_centroids}"]
        started = time.perf_counter()
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - started
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        counters = {name: step["counters"] for name, step in manifest["steps"].items()}
        record = {"wall": wall, "summary": json.loads(done.stdout), "counters": counters}
        noted.write_text(json.dumps(record | {"machine": machine.rows}), encoding="utf-8")
        if not keep:
            shutil.rmtree(out)
    found: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
    return found


def page(records: Sequence[dict[str, Any]], picture: Path) -> str:
    """Return docs/sizes.md."""
    summaries = [record["summary"] for record in records]
    columns = [f"{summary['n_samples']:,} images" for summary in summaries]
    rows = [
        *((f"{step} [s]", *(_step_seconds(s, step) for s in summaries)) for step in STEPS),
        ("all steps but ingest [s]", *(f"{_seconds(s):.1f}" for s in summaries)),
        ("images a second, all steps but ingest", *(f"{_rate(s):,.0f}" for s in summaries)),
        ("microseconds an image, all steps but ingest", *(f"{1e6 / _rate(s):.2f}" for s in summaries)),
        ("start and end of the command [s]", *(f"{r['wall'] - r['summary']['seconds']['total']:.1f}" for r in records)),
        ("largest process [GiB]", *(f"{s['peak_rss_bytes'] / 2**30:.2f}" for s in summaries)),
        ("read [GB]", *(f"{_bytes(r, 'bytes_read'):.1f}" for r in records)),
        ("written [GB]", *(f"{_bytes(r, 'bytes_written'):.1f}" for r in records)),
        ("clusters found of sources made", *(_clusters(s["truth"]) for s in summaries)),
        ("ARI", *(f"{s['truth']['ari']:.3f}" for s in summaries)),
    ]  # fmt: skip
    machines = [record.get("machine", {}) for record in records]
    names = dict.fromkeys(name for machine in machines for name in machine)
    described = [(name, *(m.get(name, NOT_RECORDED) for m in machines)) for name in names]
    return f"""# Sizes

The demo's images (16 x 16 x 3, uint8), {N_COMPONENTS} components, {summaries[0]["n_centroids"]:,} centroids: what a run takes as images become more. `ingest` makes the images and writes them. Made by `python -m benchmarks.sizes` (`make sizes`), which replaces this page; it needs 60 GB of disk for 48 million images.

{markdown(("machine", *columns), described)}

![Seconds of each step for a million images]({picture.parent.name}/{picture.name})

{markdown(("step", *columns), rows)}
"""


def _step_seconds(summary: dict[str, Any], step: str) -> str:
    """Return the seconds of a step, or that `auto` left it out."""
    is_done = {
        "neighbors": summary["neighbors"]["found"],
        "families": summary["families"] != "untested",
    }
    return f"{summary['seconds'][step]:.1f}" if is_done.get(step, True) else "left out"


def _seconds(summary: dict[str, Any]) -> float:
    """Return the seconds of all steps but the one that makes the images."""
    return float(sum(summary["seconds"][step] for step in STEPS[1:]))


def _clusters(truth: dict[str, Any]) -> str:
    """Return how many clusters were found of how many sources, those of films apart."""
    films = truth.get("n_film_clusters", 0)
    return f"{truth['n_clusters']} of {truth['n_sources']}" + (
        f", and {films} of films" if films else ""
    )


def _rate(summary: dict[str, Any]) -> float:
    """Return images a second."""
    return float(summary["n_samples"] / _seconds(summary))


def _bytes(record: dict[str, Any], name: str) -> float:
    """Return gigabytes of all steps."""
    return float(sum(counters.get(name, 0) for counters in record["counters"].values()) / 1e9)


def draw(records: Sequence[dict[str, Any]], place: Path) -> None:
    """Draw the seconds of each step for a million images, one bar for each number of images."""
    figure = new_figure(height=1.2 + 0.6 * len(records))
    axes = figure.add_subplot()
    for row, record in enumerate(records):
        left = 0.0
        for step in STEPS[1:]:
            width = record["summary"]["seconds"][step] / record["summary"]["n_samples"] * 1e6
            label = step if row == 0 else None
            axes.barh(row, width, left=left, color=COLOURS[step], label=label, height=0.6)
            left += width
        axes.annotate(f"{left:.1f}", (left, row), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(records)), [f"{r['summary']['n_samples']:,} images" for r in records])
    axes.invert_yaxis()
    axes.set_xlabel("seconds for a million images, without making them")
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="lower right")
    tidy(axes, grid=False)
    save(figure, place)


if __name__ == "__main__":
    sys.exit(main())
