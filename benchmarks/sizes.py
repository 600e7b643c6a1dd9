"""Cost of an image as images become more: ``python -m benchmarks.sizes [--images N,N,...]``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from benchmarks.data import N_COMPONENTS
from benchmarks.measure import machine, warn_if_busy

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where the page is kept.
PAGE = Path(__file__).resolve().parent.parent / "docs" / "sizes.md"
N_IMAGES, N_CENTROIDS = "480000,4800000,48000000", 16_384
STEPS = ("ingest", "pca", "projection", "overcluster", "centroid_graph", "tree", "labels", "report")
COLOURS = (
    "#c9ced6", "#2f66c4", "#5b8fd9", "#d9731c", "#e6a86b", "#2b8a5a", "#8a4fb5", "#7f93b2",
)  # fmt: skip
RESOLUTION = 110


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
    asked = parser.parse_args(arguments)
    warn_if_busy()
    records = [
        measure(int(n), asked.centroids, asked.place, keep=asked.keep)
        for n in asked.images.split(",")
    ]
    picture = asked.output.parent / "img" / f"{asked.output.stem}.png"
    draw(records, picture)
    asked.output.write_text(page(records, picture), encoding="utf-8")
    return 0


def measure(n_images: int, n_centroids: int, place: Path, *, keep: bool) -> dict[str, Any]:
    """Run the demo; what was measured before with the same numbers is not measured again."""
    noted = place / f"{n_images}-{n_centroids}.json"
    if noted.is_file():
        print(
            f"{n_images:,} images: as noted in {noted}; remove it to measure anew", file=sys.stderr
        )
    else:
        place.mkdir(parents=True, exist_ok=True)
        out = noted.with_suffix("")
        words = [sys.executable, "-m", "workflow", "demo", "--images", str(n_images), "--json"]
        words += ["--out", str(out), "--set", f"pca.n_components={N_COMPONENTS}"]
        words += ["--set", f"overcluster.n_centroids={n_centroids}"]
        started = time.perf_counter()
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - started
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        counters = {name: record["counters"] for name, record in manifest["steps"].items()}
        record = {"wall": wall, "summary": json.loads(done.stdout), "counters": counters}
        noted.write_text(json.dumps(record), encoding="utf-8")
        if not keep:
            shutil.rmtree(out)
    found: dict[str, Any] = json.loads(noted.read_text(encoding="utf-8"))
    return found


def page(records: Sequence[dict[str, Any]], picture: Path) -> str:
    """Return docs/sizes.md."""
    head = ["step", *(f"{r['summary']['n_samples']:,} images" for r in records)]
    rows = [["| " + " | ".join(head) + " |"], ["|" + " --- |" * len(head)]]
    lines = [
        (f"{step} [s]", [f"{r['summary']['seconds'][step]:.1f}" for r in records]) for step in STEPS
    ]
    lines += [
        ("all steps but ingest [s]", [f"{_seconds(r):.1f}" for r in records]),
        ("images a second, all steps but ingest", [f"{_rate(r):,.0f}" for r in records]),
        ("microseconds an image, all steps but ingest", [f"{1e6 / _rate(r):.2f}" for r in records]),
        ("start and end of the command [s]", [f"{r['wall'] - r['summary']['seconds']['total']:.1f}" for r in records]),
        ("largest process [GiB]", [f"{r['summary']['peak_rss_bytes'] / 2**30:.2f}" for r in records]),
        ("read [GB]", [f"{_bytes(r, 'bytes_read'):.1f}" for r in records]),
        ("written [GB]", [f"{_bytes(r, 'bytes_written'):.1f}" for r in records]),
        ("clusters found of sources made", [f"{r['summary']['n_clusters']} of {r['summary']['truth']['n_sources']}" for r in records]),
        ("ARI", [f"{r['summary']['truth']['ari']:.3f}" for r in records]),
    ]  # fmt: skip
    rows += [["| " + " | ".join([name, *values]) + " |"] for name, values in lines]
    text = "\n".join(row[0] for row in rows)
    n_centroids = records[0]["summary"]["n_centroids"]
    return (
        "# Sizes\n\n"
        f"The demo's images (16 x 16 x 3, uint8), {N_COMPONENTS} components, {n_centroids:,} centroids: "
        "what a run takes as images become more. `ingest` makes the images and writes them. Made by "
        "`python -m benchmarks.sizes` (`make sizes`), which replaces this page; it needs 60 GB of disk "
        "for 48 million images.\n\n"
        f"![Seconds of each step for a million images]({picture.parent.name}/{picture.name})\n\n"
        f"{machine()}\n\n{text}\n"
    )


def _seconds(record: dict[str, Any]) -> float:
    """Return the seconds of all steps but the one that makes the images."""
    seconds = record["summary"]["seconds"]
    return float(seconds["total"] - seconds["ingest"])


def _rate(record: dict[str, Any]) -> float:
    """Return images a second."""
    return float(record["summary"]["n_samples"] / _seconds(record))


def _bytes(record: dict[str, Any], name: str) -> float:
    """Return gigabytes of all steps."""
    return float(sum(counters.get(name, 0) for counters in record["counters"].values()) / 1e9)


def draw(records: Sequence[dict[str, Any]], place: Path) -> None:
    """Draw the seconds of each step for a million images, one bar for each number of images."""
    figure = Figure(figsize=(9.0, 1.2 + 0.6 * len(records)), dpi=RESOLUTION, layout="constrained")
    axes = figure.add_subplot()
    for row, record in enumerate(records):
        left = 0.0
        for step, colour in zip(STEPS[1:], COLOURS[1:], strict=True):
            width = record["summary"]["seconds"][step] / record["summary"]["n_samples"] * 1e6
            label = step if row == 0 else None
            axes.barh(row, width, left=left, color=colour, label=label, height=0.6)
            left += width
        axes.annotate(f"{left:.1f}", (left, row), (4, 0), textcoords="offset points", va="center")
    names = [f"{r['summary']['n_samples']:,} images" for r in records]
    axes.set_yticks(range(len(records)), names)
    axes.invert_yaxis()
    axes.set_xlabel("seconds for a million images, without making them")
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    place.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(place)


if __name__ == "__main__":
    sys.exit(main())
