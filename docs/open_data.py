"""Run on open data, and write docs/open-data.md with its pictures: ``python docs/open_data.py [FOLDER]``.

FOLDER may hold ``mnist.npz`` with an array ``x_train`` or ``images``.
"""

from __future__ import annotations

import io
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import adjusted_rand_score

import workflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLACE = Path(__file__).resolve().parent
#: What a person saw in the results, by set; figures come from the run.
SEEN = {
    "digits": (
        "What is wrong: ten digits, but more clusters: ones and nines are written in more "
        "than one way, and each way is a cluster. {ari}"
    ),
    "photographs": (
        "What is wrong: the plain sky of one photograph is parted into two dozen shades, a "
        "cluster each, for in so even a sky the steps between shades are gaps; a person would "
        "call them one, and coarser layers of the tree do not, so `merge` is what helps. Half "
        "of all windows, whatever is dark or has texture in either photograph, are one "
        "cluster, since they shade into one another, and a fifth are noise. Windows overlap, "
        "too, and so are not independent images."
    ),
    "mnist": (
        "What is wrong: fours, sevens and nines touch, and so do threes, fives and eights: "
        "images at their borders are on the wrong side. The interval says "
        "that the last decision is a close one. {ari}"
    ),
}


class OpenSet(NamedTuple):
    """Images, what they are, and what each is where somebody has said so."""

    images: NDArray[np.uint8]
    what: str
    truth: NDArray[Any] | None = None


def digits() -> OpenSet:
    """Return the digits of scikit-learn, as bytes."""
    found = load_digits()
    images = (found.images * 15).round().astype(np.uint8)
    return OpenSet(
        images, "1,797 handwritten digits of 8 x 8, from scikit-learn (UCI)", found.target
    )


def photographs() -> OpenSet:
    """Return windows of the two photographs of scikit-learn."""
    windows = [
        np.lib.stride_tricks.sliding_window_view(photo, (16, 16, 3))[::5, ::5, 0].reshape(
            -1, 16, 16, 3
        )
        for photo in load_sample_images().images
    ]
    which = np.repeat(np.arange(len(windows)), [len(w) for w in windows])
    images = np.concatenate(windows)
    return OpenSet(
        images,
        f"{len(images):,} windows of 16 x 16 x 3 of two photographs, from scikit-learn (CC BY)",
        which,
    )


def mnist(folder: Path) -> OpenSet:
    """Return MNIST, which the user has."""
    with np.load(folder / "mnist.npz") as stored:
        images = stored["x_train" if "x_train" in stored else "images"]
        truth = next((stored[name] for name in ("y_train", "labels") if name in stored), None)
    return OpenSet(images, f"{len(images):,} handwritten digits of 28 x 28 (MNIST)", truth)


def picture(run: workflow.Run, name: str) -> None:
    """Draw the map and the clusters of a run."""
    figure = Figure(figsize=(8.8, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    run.plot.map(ax=left)
    run.plot.contact_sheet(ax=right)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=90, metadata={"Software": None})
    shown = Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE)
    shown.save(PLACE / "img" / f"open-{name}.png", optimize=True)


def section(name: str, images: OpenSet, folder: Path) -> str:
    """Run on a set; return what the page says of it."""
    np.save(folder / f"{name}.npy", images.images)
    run = workflow.run(folder / f"{name}.npy", out=folder / name)
    picture(run, name)
    summary = run.summary
    low, high = summary["n_clusters_interval"] or (run.n_clusters,) * 2
    ari = ""
    if images.truth is not None:
        score = adjusted_rand_score(images.truth, run.labels.compute())
        ari = f"The adjusted Rand index against what the images are is {score:.2f}, noise counted as a cluster."
    found = (
        f"Found: {run.n_clusters} clusters ({low} to {high}), structure `{summary['structure']}`, "
        f"{summary['noise_fraction']:.1%} noise, in {sum(summary['seconds'].values()):.0f} s."
    )
    seen = SEEN[name].format(ari=ari)
    return f"## {name.capitalize()}\n\n{images.what}.\n\n![Map and clusters of {name}](img/open-{name}.png)\n\n{found}\n\n{seen}\n"


def machine() -> str:
    """Return the processor and its cores, in words."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    wide = ", AVX-512" if any("avx512f" in line for line in lines) else ""
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}{wide}"


def main(words: list[str]) -> int:
    """Run on all sets and write the page."""
    sets = {"digits": digits(), "photographs": photographs()}
    if words:
        sets["mnist"] = mnist(Path(words[0]))
    with tempfile.TemporaryDirectory() as folder:
        sections = [section(name, images, Path(folder)) for name, images in sets.items()]
    head = (
        "# Runs on open data\n\nWhat the defaults find on sets that everybody can have, and what is wrong with it. Made by "
        "`python docs/open_data.py`, which takes the folder of an `mnist.npz` where you have one. "
        "[Quality](quality.md) has more sets, with figures beside those of other tools. Seconds are of "
        f"{machine()}, and differ with what else runs there; those of the first set include compiling.\n"
    )
    (PLACE / "open-data.md").write_text("\n".join([head, *sections]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
