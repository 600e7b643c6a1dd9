"""Run on open data, and write docs/open-data.md with its pictures: ``python docs/open_data.py [FOLDER]``.

FOLDER may hold ``mnist.npz`` with an array ``x_train`` or ``images``.
"""

from __future__ import annotations

import io
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
    "digits": "What is wrong: 1,797 images are few. Kinds of writing one digit come as clusters of their own or are lost in noise, and "
    "borders run through images that a person reads at once. {ari}",
    "photographs": "Windows of one photograph have no borders between sky, petals and walls: they shade into one another, and "
    "neighbouring windows overlap. That there are few clusters, or one, is the answer to expect. What is wrong: to a person a petal and a roof are "
    "different things; where their pixels thin out nowhere between, they are one cluster here.",
    "mnist": "What is wrong: ones and sevens, fours and nines touch, and images between them are noise or on the wrong side. {ari}",
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
        "[Quality](quality.md) has more sets, with figures beside those of other tools.\n"
    )
    (PLACE / "open-data.md").write_text("\n".join([head, *sections]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
